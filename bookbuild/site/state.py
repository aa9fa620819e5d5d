"""What the extension knows about the book, and what it keeps from run to run."""

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from bookbuild.book import Book
from bookbuild.chapter import Chapter

_BOOKS: WeakKeyDictionary[Sphinx, Book] = WeakKeyDictionary()
_OPTIONS: WeakKeyDictionary[Sphinx, Mapping[str, Any]] = WeakKeyDictionary()


def attach(app: Sphinx, book: Book, **options: Any) -> None:
    """Hand `book` to the extension, before `app.build()`.

    Options: `write_all`, whether to write every page again, not the changed ones alone;
    `warned`, the documents to read again because they had warnings the last time.
    """
    _BOOKS[app] = book
    _OPTIONS[app] = options


def book_of(app: Sphinx) -> Book:
    return _BOOKS[app]


def option(app: Sphinx, name: str, default: Any = None) -> Any:
    return _OPTIONS.get(app, {}).get(name, default)


def chapter_of(app: Sphinx, docname: str) -> Chapter | None:
    """The chapter that a document shows; None for generated pages."""
    return next((c for c in book_of(app).chapters if c.name == docname), None)


def store(env: BuildEnvironment, kind: str) -> dict[str, Any]:
    """A dictionary by document that Sphinx keeps with its environment between runs."""
    kept: dict[str, dict[str, Any]] = env.__dict__.setdefault("bookbuild", {})
    return kept.setdefault(kind, {})


def formulas(env: BuildEnvironment) -> dict[tuple[str, bool], str]:
    """MathML of each (TeX, displayed) that any document has."""
    kept: dict[tuple[str, bool], str] = env.__dict__.setdefault(
        "bookbuild_formulas", {}
    )
    return kept


def forget(env: BuildEnvironment, docname: str) -> None:
    for kept in env.__dict__.get("bookbuild", {}).values():
        kept.pop(docname, None)
