"""The printed book: every kind of node, typography that can be measured, errors."""

import json
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pypdf
import pytest
import typst
from printed import LONG, executed, shown, stream, svg, write_printed_book

from bookbuild.book import load
from bookbuild.errors import BookError
from bookbuild.typst import compiler, pdf
from bookbuild.typst.cells import TEXT_WIDTH

ADVANCE = 0.60205  # of DejaVu Sans Mono: the width of a character in its size


# The whole book.


@pytest.fixture(scope="session")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pdf(load(write_printed_book(tmp_path_factory.mktemp("printed") / "book")))


@pytest.fixture(scope="session")
def reader(printed: Path) -> pypdf.PdfReader:
    return pypdf.PdfReader(printed)


@pytest.fixture(scope="session")
def texts(reader: pypdf.PdfReader) -> list[str]:
    return [page.extract_text() for page in reader.pages]


@pytest.fixture(scope="session")
def words(texts: list[str]) -> str:
    return " ".join(" ".join(texts).split())


def test_the_file_is_named_after_the_title(printed: Path) -> None:
    assert printed.parts[-3:] == ("_build", "pdf", "a-printed-book.pdf")


@pytest.mark.parametrize(
    "text",
    [
        "Preface text that leads to chapter one",
        "Specials: # $ * _ ` < > @ = - + / ~ [ ]",
        "100% a_b #tag @ref",
        "café naïve Привет",
        "emphasis(parenthesis) strong[bracket] literal(x)",
        "Table 1.1 A caption",
        "Figure 1.1 The caption. The legend.",
        "Listing 1.1 A listing",
        "def listed(x):",
        "$ pip install something",
        "My title",
        "— A. Nonymous",
        "Card body.",
        "Tabbed.",
        "Dropped.",
        "[Gage, 1994]",
        "extracted/part/two.py",
        "output",
        "… 25 lines …",
        "ValueError: wrong",
        "Pi is 3.14. See Figure 2.1.",
        "bold output",
        "'plain text of a value'",
        "Question 1.1",
        "Exercise 1.1 Do it",
        "Philip Gage. A new algorithm for data compression.",
    ],
)
def test_text_is_searchable(words: str, text: str) -> None:
    assert text in words


@pytest.mark.parametrize("text", ["raw html", "a comment", "IPython.core", "<Figure>"])
def test_what_is_not_for_paper_is_left_out(words: str, text: str) -> None:
    assert text not in words


def test_references_carry_numbers_and_pages(words: str) -> None:
    assert re.search(
        r"Two \(page \d+\), Table 1\.1, Figure 1\.1, \(1\.1\), a section, "
        r"Exercise 1\.1, Listing 1\.1",
        words,
    )


def test_the_outline_has_parts_chapters_and_sections(reader: pypdf.PdfReader) -> None:
    def flat(items: list[Any], depth: int = 0) -> list[tuple[int, str]]:
        found = []
        for item in items:
            if isinstance(item, list):
                found += flat(item, depth + 1)
            else:
                found.append((depth, str(item.title)))
        return found

    outline = [
        (depth, title.split("\u2003")[-1]) for depth, title in flat(reader.outline)
    ]
    titles = [title for depth, title in outline if depth == 0]
    assert [title.split()[-1] for title in titles] == [
        "Contents",
        "Preface",
        "Before",
        "part",
        "After",
        "solutions",
        "code",
        "terms",
    ]
    inner = [title for depth, title in outline if depth == 1]
    assert any(title.endswith("Two") for title in inner)
    assert any("A section" in title for depth, title in outline if depth == 2)


def destinations(reader: pypdf.PdfReader) -> list[tuple[int, Any]]:
    found = []
    for number, page in enumerate(reader.pages):
        for annotation in page.get("/Annots") or []:
            entry = annotation.get_object()
            if entry.get("/Subtype") == "/Link":
                action = entry.get("/A", {}).get_object() if "/A" in entry else {}
                found.append(
                    (number, action.get("/URI") or entry.get("/Dest") or action)
                )
    return found


def test_links_lead_out_and_in(reader: pypdf.PdfReader) -> None:
    links = [target for _, target in destinations(reader)]
    assert "https://example.org/x?a=b#c" in links
    assert (
        sum(not isinstance(target, str) or "http" not in target for target in links)
        > 40
    )


def page_with(texts: list[str], *needles: str) -> int:
    found = [n for n, text in enumerate(texts) if all(x in text for x in needles)]
    assert found, needles
    return found[-1]


def test_solutions_stand_at_the_back_and_lead_home(texts: list[str]) -> None:
    asked = page_with(texts, "Statement of the exercise.")
    solved = page_with(texts, "The solution text.")
    assert solved > page_with(texts, "A new algorithm for data compression")
    assert "The solution text." not in texts[asked]
    assert "A hint for you." in texts[solved] and "A hint for you." not in texts[asked]
    assert re.search(r"Hint and solution on page\s\d+", texts[asked])
    assert re.search(r"Solution to Exercise 1\.1 \(Do it\), page\s\d+", texts[solved])
    assert "Wrong, since it is the second." in texts[solved]
    assert re.search(r"Answer on page\s\d+", texts[asked])


def test_folded_code_stands_at_the_back(texts: list[str]) -> None:
    here = page_with(texts, "A plot.")
    back = page_with(texts, "folded_code")
    assert back > here and "folded_code" not in texts[here]
    assert re.search(r"\(code: page\s\d+\)", texts[here])
    assert re.search(r"Figure 2\.1, page\s\d+", texts[back])
    assert "hidden_cell = 1" in texts[back] and "from the hidden cell" in texts[back]


def test_page_numbers_that_are_printed_are_right(
    texts: list[str], reader: pypdf.PdfReader
) -> None:
    asked = page_with(texts, "Statement of the exercise.")
    number = re.search(r"Hint and solution on page\s(\d+)", texts[asked])
    solved = page_with(texts, "The solution text.")
    assert number and number[1] == reader.page_labels[solved]


def test_the_index_lists_terms_with_pages(texts: list[str]) -> None:
    index = " ".join(texts[page_with(texts, "Index of terms", "entry, below")].split())
    assert re.search(r"entry, below, \d+", index)
    assert re.search(r"token, \d+, \w+ V vocabulary, \w+", index)


def test_front_matter_has_roman_numbers(reader: pypdf.PdfReader) -> None:
    labels = reader.page_labels
    assert labels[:3] == ["i", "ii", "iii"] and "1" in labels


def fonts(reader: pypdf.PdfReader) -> dict[str, bool]:
    """Each font of the document, and whether its glyphs are in the file."""
    found = {}
    for page in reader.pages:
        for font in page["/Resources"].get("/Font", {}).values():
            entry = font.get_object()
            for inner in entry.get("/DescendantFonts", [entry]):
                descriptor = inner.get_object()["/FontDescriptor"].get_object()
                found[str(entry["/BaseFont"])] = any(
                    key.startswith("/FontFile") for key in descriptor
                )
    return found


def test_fonts_are_embedded(reader: pypdf.PdfReader) -> None:
    found = fonts(reader)
    assert len(found) >= 4 and all(found.values()), found


def test_the_pdf_is_tagged_and_says_so(reader: pypdf.PdfReader) -> None:
    catalog = reader.trailer["/Root"]
    assert catalog["/MarkInfo"]["/Marked"]
    assert "/StructTreeRoot" in catalog and catalog["/Lang"] == "en"
    assert catalog["/ViewerPreferences"]["/DisplayDocTitle"]
    assert b"pdfuaid:part" in catalog["/Metadata"].get_object().get_data()
    assert reader.metadata is not None
    assert reader.metadata.title == "A printed book"
    assert reader.metadata.author == "Ada Writer"


def test_code_of_79_columns_fits_the_line(reader: pypdf.PdfReader) -> None:
    """The longest line is in one piece, and ends inside the page's text block."""
    found: list[tuple[str, float, float]] = []

    def visit(text: str, cm: Any, tm: Any, font: Any, size: float) -> None:
        found.append(
            (text.strip("\n"), cm[0] * tm[4] + cm[4], size * abs(tm[0] * cm[0]))
        )

    for page in reader.pages:
        page.extract_text(visitor_text=visit)
    (longest,) = [(text, x, size) for text, x, size in found if text == LONG]
    left = min(x for text, x, _ in found if text.startswith("wide ="))
    assert len(longest[0]) == 79 and longest[2] == pytest.approx(8.0)
    assert longest[1] == pytest.approx(left, abs=0.1)
    assert longest[1] + 79 * ADVANCE * longest[2] <= left + TEXT_WIDTH


def test_the_same_book_gives_the_same_bytes(printed: Path) -> None:
    before = printed.read_bytes()
    root = printed.parents[2]
    for path in sorted((root / "_build" / "typst").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    assert pdf(load(root)).read_bytes() == before


# Figures that do not fit.


def lorem(count: int) -> str:
    return "\n\n".join(
        f"Paragraph {n}. " + "Words and words. " * 30 for n in range(count)
    )


def test_a_figure_that_does_not_fit_leaves_no_gap(
    make_book: Callable[..., Path],
) -> None:
    cell = (
        "```{code-cell} python\n---\ntags: [hide-input]\nmystnb:\n  figure:\n"
        "    name: fig-tall\n    caption: Tall.\n  image:\n    alt: Tall.\n---\n"
        "x = 1\n```"
    )
    text = f"# A\n\n{lorem(4)}\n\n{cell}\n\nThe text that follows. {lorem(2)}\n"
    root = make_book({"part/a": text})
    executed(root, "part/a", [[shown(svg=svg(460, 420))]])
    pages = [page.extract_text() for page in pypdf.PdfReader(pdf(load(root))).pages]
    follows = page_with(pages, "The text that follows.")
    figure = page_with(pages, "Figure", "Tall. (code")
    assert figure == follows + 1
    floating = json.loads((root / "_build" / "typst" / "floats.json").read_text())
    assert floating == ["part/a#fig-tall"]


def test_a_figure_that_fits_stays_in_its_place(make_book: Callable[..., Path]) -> None:
    figure = "```{figure} box.svg\n:alt: A box\nShort.\n```"
    text = f"# A\n\nBefore.\n\n{figure}\n\nAfterwards.\n"
    root = make_book({"part/a": text})
    (root / "book" / "part" / "box.svg").write_text(svg())
    pages = [page.extract_text() for page in pypdf.PdfReader(pdf(load(root))).pages]
    shown_text = pages[page_with(pages, "Short.", "Before.")]
    assert shown_text.index("Before.") < shown_text.index("Short.")
    assert shown_text.index("Short.") < shown_text.index("Afterwards.")


# Errors.


def problems(call: Callable[[], object]) -> list[str]:
    with pytest.raises(BookError) as caught:
        call()
    return [str(problem) for problem in caught.value.problems]


def test_a_node_without_a_form_is_an_error_of_its_line(
    make_book: Callable[..., Path],
) -> None:
    text = "# A\n\nText.\n\n```{productionlist} rule: other\n```\n"
    root = make_book({"part/a": text})
    (found,) = problems(lambda: pdf(load(root)))
    assert found == (
        "book/part/a.md:5: error: the printed book has no form for 'productionlist'\n"
        "hint: write it in another way, or write its visitor in bookbuild/typst/"
    )


def test_a_formula_of_an_executed_chapter_names_its_line(
    make_book: Callable[..., Path], code: Callable[..., str]
) -> None:
    text = f"# A\n\n{code('print(1)')}\nText.\n\nA formula $\\begin{{bogus}}$ here.\n"
    root = make_book({"part/a": text})
    executed(root, "part/a", [[stream("1")]])
    found = problems(lambda: pdf(load(root)))
    assert any(problem.startswith("book/part/a.md:9: error:") for problem in found), (
        found
    )


def test_an_error_of_the_compiler_names_the_line(
    make_book: Callable[..., Path],
) -> None:
    text = "# A\n\nOne.\n\nTwo.\n\n```{raw} typst\n#no-such-function()\n```\n"
    root = make_book({"part/a": text})
    (found,) = problems(lambda: pdf(load(root)))
    assert found.startswith(
        "book/part/a.md:5: error: unknown variable: no-such-function"
    )


def test_a_character_without_a_glyph_is_printed_as_its_number(
    make_book: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_book({"part/a": "# A\n\nBefore \U000f1234 after.\n"})
    pages = [page.extract_text() for page in pypdf.PdfReader(pdf(load(root))).pages]
    assert "F1234" in pages[page_with(pages, "Before", "after.")]
    assert "(U+F1234)" in capsys.readouterr().err


def test_characters_that_the_compilers_fonts_have_need_no_others() -> None:
    fonts = typst.Fonts(include_system_fonts=False)
    assert compiler.unshown(list("éПγ→∑�ि"), fonts) == []
    assert compiler.unshown(["\U000f1234", "é"], fonts) == ["\U000f1234"]


def test_an_empty_book_is_a_book(make_book: Callable[..., Path]) -> None:
    made = pypdf.PdfReader(BytesIO(pdf(load(make_book({}))).read_bytes()))
    assert "The book" in made.pages[0].extract_text()
