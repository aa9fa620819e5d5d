"""The package as it stands after a chapter: what a reader has built so far."""

from dataclasses import replace
from pathlib import Path

from bookbuild.book import Book
from bookbuild.errors import ConfigError, Problem
from bookbuild.files import write_atomic
from bookbuild.tangle import modules


def snapshot(book: Book, name: str, target: Path) -> list[str]:
    """Write the modules of all chapters up to `name` below `target`; return the paths.

    `target` must be empty or not exist.
    """
    last = book.chapters.index(book.chapter(name))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        hint = "name a new folder"
        raise ConfigError(Problem(target.as_posix(), 0, "is not empty", hint))
    texts = modules(replace(book, chapters=book.chapters[: last + 1]))
    for path, text in texts.items():
        write_atomic(target / path, text)
    return list(texts)
