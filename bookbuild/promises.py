"""What a chapter's front matter promises, held against what its run did."""

import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bookbuild.book import Book
from bookbuild.chapter import Chapter
from bookbuild.errors import Problem
from bookbuild.key import file_digest
from bookbuild.tangle import module_text

TOLERANCE = 2


def place_checkpoint(source: Path, target: Path) -> None:
    """Give a run the checkpoint at `source`: hard links where possible, else a copy."""

    def link(a: str, b: str) -> None:
        try:
            os.link(a, b)
        except OSError:
            shutil.copy2(a, b)

    shutil.copytree(source, target, copy_function=link)


def state(directory: Path) -> dict[str, tuple[int, int]]:
    """Size and time of each file below, to notice that one was written to."""
    found = {}
    for path in directory.rglob("*"):
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            name = path.relative_to(directory).as_posix()
            found[name] = (status.st_size, status.st_mtime_ns)
    return found


def stale(
    book: Book, chapter: Chapter, components: Mapping[str, Any], hint: str
) -> list[Problem]:
    """Files on disk that are not what the key says: no result of theirs is kept."""
    problems = []
    for name in components["modules"]:
        other = book.chapter(name)
        path = f"extracted/{other.module}"
        try:
            text = (book.root / path).read_text(encoding="utf-8")
        except OSError:
            text = ""
        if other.module and text != module_text(other):
            message = f"differs from {other.source}, and {chapter.source} imports it"
            problems.append(Problem(path, 0, message, hint))
    for path, sha in components["data"].items():
        if file_digest(book.root / path) != sha:
            problems.append(Problem(path, 0, "changed since the book was read", hint))
    return problems


def made_as_declared(book: Book, chapter: Chapter, directory: Path) -> list[Problem]:
    """Checkpoints in `directory` against what the front matter says."""
    problems = []
    made = {p.name for p in directory.iterdir() if not p.name.startswith(".")}
    for name in sorted(set(chapter.produces) - made):
        line = line_of(chapter, "produces", name)
        message = f"declares produces: [{name}] but made no checkpoint {name}"
        hint = f'call checkpoint("{name}", make=...) in a cell'
        problems.append(Problem(chapter.source, line, message, hint))
    for name in sorted(made - {*chapter.produces, *chapter.needs}):
        users = [c for c in chapter.code_cells if name in c.source]
        line = users[0].line if users else 1
        makers = [c for c in book.chapters if name in c.produces]
        if makers:
            message = f"uses the checkpoint {name} of {makers[0].source} undeclared"
            hint = f"add it to the front matter: needs: [{name}]"
        else:
            message = f"made a checkpoint {name} without declaring it"
            hint = f"add it to the front matter: produces: [{name}]"
        problems.append(Problem(chapter.source, line, message, hint))
    return problems


def not_run(book: Book, chapter: Chapter, need: str) -> Problem:
    """The chapter lacks a checkpoint whose chapter failed."""
    producer = book.producer(need)
    line = line_of(chapter, "needs", need)
    message = f"not run, because book/{producer}.md failed, which makes {need!r}"
    return Problem(chapter.source, line, message)


def budget(chapter: Chapter, seconds: float) -> list[Problem]:
    """Over `minutes` is worth a word; over twice that fails, as machines vary."""
    if seconds <= TOLERANCE * chapter.minutes * 60:
        return []
    message = (
        f"took {seconds:.0f} s, more than twice its {chapter.minutes:g} minutes "
        f"({chapter.minutes * 60:g} s)"
    )
    hint = "make it faster, or give it more in the front matter: minutes"
    return [Problem(chapter.source, line_of(chapter, "minutes", ""), message, hint)]


def modified(chapter: Chapter, need: str) -> Problem:
    """A given checkpoint is shared: the next chapter would read what this one wrote."""
    line = line_of(chapter, "needs", need)
    message = f"wrote to the checkpoint {need} that it was given"
    hint = "copy it first; the chapter that makes it runs again next time"
    return Problem(chapter.source, line, message, hint)


def line_of(chapter: Chapter, key: str, name: str) -> int:
    """The line of the front matter that has `name`, under `key`; else the key's own."""
    lines = chapter.text.split("\n")
    end = next((i for i, text in enumerate(lines) if i and text == "---"), 0)
    keyed = 0
    for number, text in enumerate(lines[:end], 1):
        if text.strip().startswith(f"{key}:"):
            keyed = number
        if keyed and name in text:
            return number
    return keyed or 1
