"""The printed book and the e-book, as Sphinx builders.

`setup` makes this a Sphinx extension; `pdf` and `epub` run the builders for a book.
"""

import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bookbuild.book import Book

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def pdf(book: Book) -> Path:
    """Typeset the book into `_build/pdf/`; raises `BookError`."""
    from bookbuild.files import write_atomic
    from bookbuild.render import build
    from bookbuild.typst.compiler import compile_pdf

    start = time.perf_counter()
    folder = book.build / "typst"
    build(book, "typst", folder)
    sources = time.perf_counter() - start
    path = book.build / "pdf" / f"{slug(book)}.pdf"
    write_atomic(path, compile_pdf(folder, book.root / "book" / "_fonts"))
    pages = time.perf_counter() - start - sources
    shown = f"sources written in {sources:.1f} s, pages set in {pages:.1f} s"
    print(shown, file=sys.stderr)
    return path


def epub(book: Book) -> Path:
    """Make the e-book in `_build/epub/`; raises `BookError`."""
    from bookbuild.render import build

    folder = book.build / "epub"
    build(book, "book-epub", folder / "pages")
    path = folder / f"{slug(book)}.epub"
    (folder / "pages" / "book.epub").replace(path)
    return path


def slug(book: Book) -> str:
    """The book's title as the name of a file."""
    return "-".join(re.findall(r"[a-z0-9]+", book.chapters[0].title.lower())) or "book"


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the builders; they do their work only when they are called."""
    from bookbuild.typst.builder import SelectOutputs, TypstBuilder
    from bookbuild.typst.ebook.builder import BookEpub, prepare

    app.add_builder(TypstBuilder)
    app.add_post_transform(SelectOutputs)
    app.add_builder(BookEpub)
    app.connect("doctree-resolved", prepare, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}
