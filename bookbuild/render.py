"""Render the book: the site, its archive, and notebooks for readers."""

import hashlib
import json
import re
import shutil
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bookbuild.book import Book
from bookbuild.files import write_atomic
from bookbuild.run_sphinx import CONFIG, build, repository
from bookbuild.stage import composed, stage, staged

__all__ = ["CONFIG", "build", "html", "notebooks", "site_zip", "stage"]
HERE = Path(__file__).parent


def html(book: Book, *, complete: bool = True) -> Path:
    """Render the site into `_build/html`; does nothing when nothing has changed.

    With `complete=False` only pages whose own source changed are written again, for a
    quick look while writing.
    """
    out = book.build / "html"
    stamp = book.build / "site" / "html.stamp"
    files = staged(book)
    current = fingerprint(book, files, complete=complete)
    index = out / "index.html"
    if index.is_file() and stamp.is_file() and stamp.read_text() == current:
        return index
    stamp.unlink(missing_ok=True)
    build(book, "html", out, write_all=complete, files=files)
    if complete or not (out / "_notebooks").is_dir():
        _fill(out / "_notebooks", downloads(book))
    write_atomic(stamp, current)
    return index


def fingerprint(book: Book, files: Mapping[str, bytes], **options: Any) -> str:
    """A digest of everything that the site is made from."""
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for name, data in sorted(files.items()):
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    for path in sorted((book.build / "executed").rglob("*.json")):
        digest.update(path.read_bytes())
    own = [*HERE.glob("*.py"), *(HERE / "site").rglob("*")]
    for path in (book.root / CONFIG, *sorted(own)):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.name.encode() + path.read_bytes())
    digest.update(repr((sys.version_info[:3], _versions())).encode())
    return digest.hexdigest()


def _versions() -> Mapping[str, str]:
    from importlib.metadata import version

    names = ("sphinx", "jupyter-book", "myst-nb", "myst-parser", "sphinx-exercise")
    return {name: version(name) for name in names}


def site_zip(book: Book) -> Path:
    """The site in one archive that is the same for the same site."""
    folder = html(book).parent
    path = book.build / f"{_slug(book)}-site.zip"
    temporary = path.with_suffix(".part")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(p for p in folder.rglob("[!.]*") if p.is_file()):
            name = file.relative_to(folder).as_posix()
            entry = zipfile.ZipInfo(f"{_slug(book)}/{name}", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.read_bytes())
    shutil.move(temporary, path)
    return path


def _slug(book: Book) -> str:
    words = re.findall(r"[a-z0-9]+", book.chapters[0].title.lower())
    return "-".join(words) or "book"


def downloads(book: Book) -> dict[str, str]:
    """The clean and the executed notebook of each chapter, by the name of its file."""
    from bookbuild.site.notebooks import Exporter

    url = repository(book)["url"]
    exporter = Exporter(book, f"git+{url}" if url else "extracted")
    made: dict[str, str] = {}
    for chapter in book.chapters:
        if chapter.code_cells:
            cells = composed(book, chapter)["cells"]
            for folder, outputs in (("", False), ("executed/", True)):
                text = exporter.notebook(chapter, cells, outputs=outputs)
                made[f"{folder}{chapter.name}.ipynb"] = text
    return made


def notebooks(book: Book) -> Path:
    """Write `_build/notebooks/NAME.ipynb`, and with outputs `executed/NAME.ipynb`."""
    folder = book.build / "notebooks"
    _fill(folder, downloads(book))
    return folder


def _fill(folder: Path, files: Mapping[str, str]) -> None:
    """Write the notebooks, and delete those of chapters that are no more."""
    for name, text in files.items():
        write_atomic(folder / name, text)
    for path in folder.rglob("*.ipynb"):
        if path.relative_to(folder).as_posix() not in files:
            path.unlink()
