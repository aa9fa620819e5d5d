"""Sphinx's source folder: today's text with the outputs of its execution."""

import json
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from bookbuild.book import TOC, Book
from bookbuild.chapter import Chapter
from bookbuild.document import code_cells, notebook
from bookbuild.errors import BookError, Problem
from bookbuild.files import write_atomic

COPIED = frozenset({".bib", ".png", ".jpg", ".jpeg", ".svg", ".gif", ".webp", ".js"})
# What a page cannot show; escapes of a terminal's colours are read later.
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]")
LINK = re.compile(r"\]\(([^)\s:#]+)\.md(#[^)\s]*)?\)")


def stage(book: Book) -> Path:
    """Write Sphinx's source folder `_build/site/source`; only what changed is touched.

    Chapters with code become notebooks: today's text with the outputs of their run.
    Raises `BookError` for each chapter whose code was not executed as it stands.
    """
    return write(book, staged(book))


def write(book: Book, files: Mapping[str, bytes]) -> Path:
    folder = book.build / "site" / "source"
    if folder.is_dir():
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path.relative_to(folder).as_posix() not in files:
                path.unlink()
    for name, data in files.items():
        write_atomic(folder / name, data)
    return folder


def staged(book: Book) -> dict[str, bytes]:
    """Each file of Sphinx's source folder by its path."""
    files: dict[str, bytes] = {TOC: (book.root / TOC).read_bytes()}
    problems: list[Problem] = []
    for chapter in book.chapters:
        if chapter.code_cells:
            try:
                document = composed(book, chapter)
            except BookError as error:
                problems.extend(error.problems)
                continue
            for cell in document["cells"]:
                if cell["cell_type"] == "markdown":
                    cell["source"] = linked(book, chapter, "".join(cell["source"]))
                for output in cell.get("outputs", ()):
                    _make_visible(output)
            text = json.dumps(document, ensure_ascii=False, sort_keys=True)
            files[f"{chapter.name}.ipynb"] = text.encode() + b"\n"
        else:
            files[f"{chapter.name}.md"] = linked(book, chapter, chapter.text).encode()
    if problems:
        raise BookError(*problems)
    source = book.root / "book"
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        hidden = any(piece.startswith(".") for piece in relative.parts)
        wanted = path.suffix in COPIED or relative.parts[0] == "_static"
        if path.is_file() and wanted and not hidden:
            files[relative.as_posix()] = path.read_bytes()
    return files


def _make_visible(output: dict[str, Any]) -> None:
    """Write control characters of printed text as Python does; XML forbids them."""
    for place, key in ((output, "text"), (output.get("data", {}), "text/plain")):
        if key in place:
            place[key] = CONTROL.sub(
                lambda found: f"\\x{ord(found[0]):02x}", _joined(place[key])
            )


def composed(book: Book, chapter: Chapter) -> dict[str, Any]:
    """The chapter's cells as they stand, with the outputs that its run recorded."""
    results = [{"execution_count": None, "outputs": o} for o in _outputs(book, chapter)]
    made: dict[str, Any] = json.loads(notebook(chapter, results))
    made["metadata"].pop("chapter", None)
    # MyST-NB reports the line after the one that it means.
    made["metadata"]["source_map"] = [
        line - 1 for line in made["metadata"]["source_map"]
    ]
    return made


def linked(book: Book, chapter: Chapter, text: str) -> str:
    """Links to the Markdown of a chapter with code lead to its staged notebook."""
    here = PurePosixPath("book", chapter.name).parent

    def replace(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, found[1])).removeprefix(
            "book/"
        )
        executed = {c.name for c in book.chapters if c.code_cells}
        return (
            f"]({found[1]}.ipynb{found[2] or ''})" if target in executed else found[0]
        )

    return LINK.sub(replace, text)


def _outputs(book: Book, chapter: Chapter) -> list[list[Any]]:
    """The recorded outputs of each code cell; raises when its code has changed."""
    path = book.build / "executed" / f"{chapter.name}.ipynb"
    hint = f"run it: bookbuild execute {chapter.name}"
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BookError(
            Problem(chapter.source, 0, "has not been executed", hint)
        ) from error
    executed = code_cells(recorded)
    for cell, done in zip(chapter.code_cells, executed, strict=False):
        if cell.source.rstrip() != _joined(done["source"]).rstrip():
            message = "this cell has changed since the chapter was executed"
            raise BookError(Problem(chapter.source, cell.line, message, hint))
    if len(executed) != len(chapter.code_cells):
        message = "cells were added or removed since the chapter was executed"
        raise BookError(Problem(chapter.source, 0, message, hint))
    return [done["outputs"] for done in executed]


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)
