"""The book itself on paper and as an e-book, once its chapters were executed."""

import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pypdf
import pytest

from bookbuild.book import Book, load
from bookbuild.typst import epub, pdf
from bookbuild.typst.cells import TEXT_WIDTH

ROOT = Path(__file__).parents[2]
SECONDS = 10.0  # of processor time for the whole book,
PER_PAGE = 0.03  # or so much a page once it has more than 333
INNER = 0.87 * 72
OUTER = 7 * 72 - INNER - TEXT_WIDTH
HANGING = 3.0  # punctuation may hang out of a justified line so far


@pytest.fixture(scope="module")
def book() -> Book:
    found = load(ROOT)
    for chapter in found.select():
        if not (found.build / "executed" / f"{chapter.name}.ipynb").is_file():
            pytest.skip(f"{chapter.name} is not executed; run: bookbuild execute")
    return found


def timed(book: Book) -> tuple[pypdf.PdfReader, float]:
    start = time.process_time()
    path = pdf(book)
    return pypdf.PdfReader(path), time.process_time() - start


@pytest.fixture(scope="module")
def printed(book: Book) -> tuple[pypdf.PdfReader, float]:
    return timed(book)


def test_the_whole_book_takes_seconds(
    book: Book, printed: tuple[pypdf.PdfReader, float]
) -> None:
    reader, seconds = printed
    bound = max(SECONDS, PER_PAGE * len(reader.pages))
    if seconds >= bound:  # a program beside this one, in the same caches, adds a third
        seconds = min(seconds, timed(book)[1])
    print(f"{len(reader.pages)} pages in {seconds:.1f} s of processor time")
    assert seconds < bound


def test_every_chapter_is_in_the_outline(
    book: Book, printed: tuple[pypdf.PdfReader, float]
) -> None:
    def titles(items: list[Any]) -> list[str]:
        found: list[str] = []
        for item in items:
            found += titles(item) if isinstance(item, list) else [str(item.title)]
        return found

    outline = " ".join(titles(printed[0].outline))
    for chapter in book.chapters[1:]:
        assert re.sub(r"[*`$]", "", chapter.title) in outline


def test_no_line_leaves_the_text_block(
    printed: tuple[pypdf.PdfReader, float],
) -> None:
    """Where a piece of text starts is known exactly: none starts in the margin."""
    for number, page in enumerate(printed[0].pages):
        left = OUTER if number % 2 else INNER
        starts: list[tuple[float, str]] = []

        def visit(
            text: str,
            cm: Any,
            tm: Any,
            font: Any,
            size: float,
            starts: list[tuple[float, str]] = starts,
        ) -> None:
            if text.strip():
                starts.append((cm[0] * tm[4] + cm[4], text.strip()))

        page.extract_text(visitor_text=visit)
        outside = [
            (round(x - left), text)
            for x, text in starts
            if not left - HANGING <= x <= left + TEXT_WIDTH + HANGING
        ]
        assert not outside, f"page {number + 1}: {outside[:3]}"


def test_fonts_are_embedded_and_pages_tagged(
    printed: tuple[pypdf.PdfReader, float],
) -> None:
    reader = printed[0]
    assert reader.trailer["/Root"]["/MarkInfo"]["/Marked"]
    for page in reader.pages:
        for font in page["/Resources"].get("/Font", {}).values():
            for inner in font.get_object().get("/DescendantFonts", []):
                descriptor = inner.get_object()["/FontDescriptor"].get_object()
                assert any(key.startswith("/FontFile") for key in descriptor)


def test_the_e_book_is_valid(book: Book) -> None:
    found = shutil.which("epubcheck")
    if not found:
        pytest.skip("epubcheck is not installed (Debian: apt-get install epubcheck)")
    binary = b"\x00" in Path(found).read_bytes()[:64]
    command = ["java", "-jar", found] if binary else [found]
    done = subprocess.run(
        [*command, str(epub(book))], capture_output=True, text=True, timeout=300
    )
    report = done.stdout + done.stderr
    assert "0 fatals / 0 errors" in report, report[-3000:]
