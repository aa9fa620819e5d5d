"""Content-addressed store of executed chapters and their checkpoints.

An entry is a directory `_build/cache/KEY` that appears by one rename, complete: the
notebook, `run.json` (what varies from run to run), the checkpoints, and a manifest
with the digest of each file and the components of the key.
"""

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bookbuild.book import Book
from bookbuild.errors import BookError, Problem
from bookbuild.key import Keys, differences, file_digest, key_of
from bookbuild.scratch import owned, remove_tree

NOTEBOOK = "notebook.ipynb"
RUN = "run.json"
CHECKPOINTS = "checkpoints"
MANIFEST = "manifest.json"
KEPT = 5


class Corrupt(Exception):
    """An entry that does not hold what its manifest promises."""


# What reading a damaged entry may raise: broken JSON, missing files and keys.
UNREADABLE = (Corrupt, OSError, ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True)
class Entry:
    """One stored result."""

    path: Path
    chapter: str
    components: dict[str, Any]
    files: dict[str, tuple[int, str]]
    run: dict[str, Any]
    notebook: dict[str, Any]
    used: float

    def checkpoint(self, name: str) -> Path:
        return self.path / CHECKPOINTS / name


class Cache:
    """The entries below `directory`; safe to share between builds."""

    def __init__(self, directory: Path, warn: Callable[[str], None]) -> None:
        self.directory = directory
        self.warn = warn

    def get(self, key: str, *, checkpoints: bool = False) -> Entry | None:
        """The entry, checked; None when there is none. A damaged one is removed.

        `checkpoints` also checks every byte of them; without it only their sizes.
        """
        path = self.directory / key
        while True:
            before = _identity(path)
            try:
                entry = _read(path, key, checkpoints)
            except UNREADABLE as error:
                if before is None:
                    return None
                if _identity(path) == before:
                    what = str(error) or type(error).__name__
                    break  # else another build replaced it while we read
            else:
                with contextlib.suppress(OSError):
                    os.utime(path)
                return entry
        self.warn(f"the cached result {key[:12]} is damaged ({what}); made anew")
        self.remove(key)
        return None

    def remove(self, key: str) -> None:
        """Forget an entry: renamed first, so that nobody meets half of it."""
        entry = self.directory / key
        try:
            with self.scratch() as place:
                os.rename(entry, place / "removed")
        except (OSError, BookError):  # a full disk has no room for the new name
            with contextlib.suppress(OSError):
                (entry / MANIFEST).unlink()
            remove_tree(entry)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A private directory beside the entries, gone afterwards."""
        place = self.workspace()
        try:
            yield place
        finally:
            remove_tree(place)

    def workspace(self) -> Path:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(dir=self.directory, prefix=owned()))
        except OSError as error:
            raise self._unwritable(error) from error

    def put(
        self,
        chapter: str,
        components: dict[str, Any],
        notebook: str,
        run: dict[str, Any],
        checkpoints: Iterable[Path] = (),
        *,
        replace: bool = False,
    ) -> Entry:
        """Store a result; the checkpoint directories are moved into the entry.

        When another build stored the same key meanwhile, its entry stays and is
        returned, unless `replace`. Raises `BookError` when the disk is full.
        """
        key = key_of(components)
        try:
            with self.scratch() as place:
                content = place / "entry"
                content.mkdir()
                _fill(content, chapter, components, notebook, run, checkpoints)
                entry = self._publish(content, key, replace)
        except OSError as error:
            raise self._unwritable(error) from error
        self._prune(chapter)
        return entry

    def _publish(self, content: Path, key: str, replace: bool) -> Entry:
        """Make `content` the entry, or take what another build put there."""
        if replace:
            self.remove(key)
        for _ in range(100):
            try:
                os.rename(content, self.directory / key)
            except OSError as error:
                failure = error
            entry = self.get(key)
            if entry:
                return entry
            time.sleep(0.01)  # another build is about to put its own there
        raise failure

    def entries(self, chapter: str) -> list[Entry]:
        """The chapter's readable entries, the last used first."""
        found = []
        for path in self._keys():
            with contextlib.suppress(*UNREADABLE):
                if _manifest(path)["chapter"] == chapter:
                    found.append(_read(path, path.name, False))
        return sorted(found, key=lambda entry: (-entry.used, entry.path.name))

    def seconds(self) -> dict[str, float]:
        """How long each chapter took the last time that it was used."""
        found: dict[str, tuple[float, float]] = {}
        for path in self._keys():
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                run = json.loads((path / RUN).read_text(encoding="utf-8"))
                last = (path.stat().st_mtime, float(run["seconds"]))
                name = _manifest(path)["chapter"]
                found[name] = max(found.get(name, last), last)
        return {name: seconds for name, (_, seconds) in found.items()}

    def _prune(self, chapter: str) -> None:
        for entry in self.entries(chapter)[KEPT:]:
            self.remove(entry.path.name)

    def _keys(self) -> list[Path]:
        if not self.directory.is_dir():
            return []
        return [p for p in self.directory.iterdir() if not p.name.startswith(".")]

    @property
    def _name(self) -> str:
        return "/".join(self.directory.parts[-2:])

    def _unwritable(self, error: OSError) -> BookError:
        return BookError(
            Problem(
                self._name,
                0,
                f"cannot be written: {error.strerror or error}",
                "free disk space, or give yourself write permission there; "
                "what was cached before is unharmed",
            )
        )


def _fill(
    content: Path,
    chapter: str,
    components: dict[str, Any],
    notebook: str,
    run: dict[str, Any],
    checkpoints: Iterable[Path],
) -> None:
    _write(content / NOTEBOOK, notebook)
    _write(content / RUN, json.dumps(run, indent=1, sort_keys=True))
    for checkpoint in checkpoints:
        (content / CHECKPOINTS).mkdir(exist_ok=True)
        shutil.move(checkpoint, content / CHECKPOINTS / checkpoint.name)
    files = {}
    for path in sorted(p for p in content.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        if os.name != "nt":  # there, what cannot be written cannot be deleted
            path.chmod(path.stat().st_mode & ~0o222)
        name = path.relative_to(content).as_posix()
        files[name] = (path.stat().st_size, file_digest(path))
    manifest = {"chapter": chapter, "components": components, "files": files}
    _write(content / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True))


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _manifest(path: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    return manifest


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _read(path: Path, key: str, checkpoints: bool) -> Entry:
    manifest = _manifest(path)
    if key_of(manifest["components"]) != key:
        raise Corrupt("its manifest belongs to another key")
    files = {name: (size, sha) for name, (size, sha) in manifest["files"].items()}
    for name, (size, sha) in files.items():
        if (path / name).stat().st_size != size:
            raise Corrupt(f"{name} has another size")
        looked_at = checkpoints or not name.startswith(CHECKPOINTS)
        if looked_at and file_digest(path / name) != sha:
            raise Corrupt(f"{name} has another content")
    return Entry(
        path,
        manifest["chapter"],
        manifest["components"],
        files,
        json.loads((path / RUN).read_text(encoding="utf-8")),
        json.loads((path / NOTEBOOK).read_text(encoding="utf-8")),
        path.stat().st_mtime,
    )


def explain(book: Book, name: str, device: str = "cpu") -> list[str]:
    """Why the chapter would run: what changed since its most recent result."""
    chapter = book.chapter(name)
    if not chapter.code_cells:
        return ["the page has no code cells: there is nothing to execute"]
    warnings: list[str] = []
    cache = Cache(book.build / "cache", warnings.append)
    components = Keys(book, device).components(chapter.name)
    if cache.get(key_of(components)):
        return ["nothing changed: cached"]
    entries = cache.entries(chapter.name)
    if not entries:
        return [*warnings, "no result is stored: it never ran to its end here"]
    # A result for the same device says more than a newer one for another.
    same = [e for e in entries if e.components.get("device") == components["device"]]
    return [
        *warnings,
        *differences(book, chapter, (same or entries)[0].components, components),
    ]
