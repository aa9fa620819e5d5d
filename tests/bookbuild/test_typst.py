"""The printed book: every kind of node, typography that can be measured, errors."""

import json
import re
import subprocess
import unicodedata
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pypdf
import pytest
import typst
from hypothesis import given, settings
from hypothesis import strategies as st
from printed import LONG, executed, shown, stream, svg, write_printed_book

from bookbuild.book import load
from bookbuild.errors import BookError
from bookbuild.typst import compiler, formulas, pdf
from bookbuild.typst.cells import TEXT_WIDTH
from bookbuild.typst.listing import listing
from bookbuild.typst.markup import Formula, escape, fitted, separated, string, width
from bookbuild.typst.text import inline_code

ADVANCE = 0.60205  # of DejaVu Sans Mono: the width of a character in its size
FLATTEN = """
#let flat(it) = {
  if type(it) == str { it }
  else if it.has("children") { it.children.map(flat).join("") }
  else if it.has("text") { it.text }
  else if it == [ ] { " " }
  else if it.func() == smartquote { if it.double { "\\u{22}" } else { "'" } }
  else { repr(it) }
}
"""


def evaluated(source: str) -> Any:
    """The value of `<t>` in a Typst source."""
    compiled = typst.Compiler(source.encode(), ignore_system_fonts=True)
    return json.loads(compiled.query("<t>", field="value", one=True))


# Markup.

TEXT = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=40
)


@given(TEXT)
@settings(max_examples=150, deadline=None)
def test_escaped_text_shows_itself(text: str) -> None:
    source = f"{FLATTEN}#metadata(flat[x{escape(text)}x])<t>"
    assert evaluated(source).split() == f"x{separated(text)}x".split()


@pytest.mark.parametrize("text", ["1. no list", "= no heading", "- no item", "+ no"])
def test_text_at_the_start_of_a_paragraph_is_no_markup(text: str) -> None:
    source = f"{FLATTEN}#metadata(flat[\n{escape(text)}\n])<t>"
    assert evaluated(source).strip() == text


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])))
@settings(max_examples=100, deadline=None)
def test_a_string_literal_is_the_string(text: str) -> None:
    assert evaluated(f"#metadata({string(text)})<t>") == text


def test_line_ends_and_tabs_survive_in_strings() -> None:
    literal = string("a\n\tb")
    assert evaluated(f"#metadata({literal})<t>") == "a\n    b"


# Code that fits.


@pytest.mark.parametrize(
    ("columns", "size"), [(10, 8.0), (79, 8.0), (80, 7.9), (94, 6.72)]
)
def test_code_of_up_to_94_columns_keeps_its_lines(columns: int, size: float) -> None:
    assert fitted("x" * columns) == ("x" * columns, size)


@given(st.text("ab 世é", min_size=95, max_size=400))
def test_longer_lines_are_broken_and_nothing_is_lost(line: str) -> None:
    text, size = fitted(line)
    first, *rest = text.split("\n")
    assert size <= 8.0
    assert all(width(piece) <= 94 for piece in (first, *rest))
    assert all(piece.startswith("↪ ") for piece in rest)
    joined = first + "".join(piece.removeprefix("↪ ") for piece in rest)
    assert joined.replace(" ", "") == line.replace(" ", "")


def test_colours_of_a_terminal_are_left_out() -> None:
    assert fitted("\x1b[31mred\x1b[0m") == ("red", 8.0)


def test_a_mark_alone_does_not_combine_with_a_quote() -> None:
    assert separated("'ि'") == "'\u200bि'"
    assert separated("नि é") == "नि é"


def test_listing_keeps_a_short_group_with_its_neighbour() -> None:
    assert listing("a\n\nb\nc\nd") == '(((0,({"a"},)),(1,({"b"},{"c"},{"d"},)),),)'


def test_listing_breaks_a_long_group_away_from_its_ends() -> None:
    groups = re.findall(r"\(\(\d,\((.*?)\)\),\)", listing("\n".join("abcdefghij")))
    assert [group.count("{") for group in groups] == [3, 1, 1, 1, 1, 3]


def test_listing_colours_python_and_leaves_the_text_as_it_is() -> None:
    source = 'def f(x):\n    return "s"  # why\n'
    made = listing(source.strip(), "ipython3")
    assert 'k("def ")' in made and 'f("f")' in made and 'c("# why")' in made
    assert "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', made)).replace('\\"', '"') == (
        source.replace("\n", "")
    )


@pytest.mark.parametrize("language", ["console", "yaml", "no-such-language", "text"])
def test_listing_loses_no_line_in_any_language(language: str) -> None:
    made = listing("$ first: 1\n\nlast", language)
    assert "first" in made and "last" in made and "(1,(" in made


# Formulas.


def converted(tex: str, *, displayed: bool = False) -> str:
    formula = Formula(tex, displayed, ("book/a.md", 1))
    return formulas.convert([formula])[formula]


@pytest.mark.parametrize(
    ("tex", "typst_math"),
    [
        ("x^2", "$x^2$"),
        (r"\operatorname{softmax}(z)", r'$op("softmax") \( z \)$'),
        (r"\operatorname*{arg\,max}_x", '$op("arg\u2006max", limits: #true)_x$'),
        (r"a \; b \! c", "$a thick b #h(-0.1667em) c$"),
        (r"\text{if } x", '$upright("if ") x$'),
        (r"\Bigl( x", r"$lr(size: #1.8em, \() x$"),
        (
            r"\left[\bigl(z\bigr)\right]",
            r"$[lr(size: #1.2em, \() z lr(size: #1.2em, \))]$",
        ),
        (
            r"\bigl[z\bigr] \bigl\{",
            r"$lr(size: #1.2em, \[) z lr(size: #1.2em, \]) lr(size: #1.2em, \{)$",
        ),
    ],
)
def test_formula(tex: str, typst_math: str) -> None:
    assert converted(tex) == typst_math


@pytest.mark.parametrize(
    "tex",
    [
        r"\begin{cases} x & \text{if } a \\ y & \text{otherwise} \end{cases}",
        r"a &= b \\ c &= d",
        r"\underbrace{\mathbf Y}_{(T,\,D)} = \operatorname{softmax}\!\Bigg( x \Bigg)",
        r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} \mathbb{R}^{C} \hat y",
        r"\sum_{i=1}^{n} \left[ \log p_\theta(x_i \mid y) \right] \le \infty",
    ],
)
def test_formulas_compile(tex: str) -> None:
    source = "#let d(it) = it\n" + converted(tex, displayed=True)
    assert typst.compile(source.encode(), format="pdf", ignore_system_fonts=True)


def test_every_symbol_of_pandoc_is_known_to_the_compiler() -> None:
    """Both change their names; every symbol of Unicode's mathematics is tried."""
    blocks = [(0x370, 0x400), (0x2010, 0x2060), (0x2100, 0x2150), (0x2190, 0x2400)]
    blocks += [(0x25A0, 0x2600), (0x27C0, 0x2B00)]
    symbols = [chr(code) for first, end in blocks for code in range(first, end)]
    wanted = [
        Formula(symbol, False, ("book/a.md", 1))
        for symbol in symbols
        if unicodedata.category(symbol)[0] in "LSP"
    ]
    made = formulas.convert(wanted)
    assert len(made) > 1_000
    source = "\n".join(made.values())
    assert typst.compile(source.encode(), format="pdf", ignore_system_fonts=True)


def test_all_formulas_take_one_call_of_pandoc(monkeypatch: pytest.MonkeyPatch) -> None:
    formulas._api()
    calls = []
    real = subprocess.run

    def counting(*args: Any, **options: Any) -> Any:
        calls.append(args)
        return real(*args, **options)

    monkeypatch.setattr(subprocess, "run", counting)
    many = [Formula(f"x_{{{n}}}", n % 2 == 0, ("book/a.md", n)) for n in range(50)]
    assert formulas.convert(many)[many[7]] == "$x_7$"
    assert len(calls) == 1


def test_a_wrong_formula_names_its_line() -> None:
    wrong = Formula(r"\bogus x", False, ("book/part/a.md", 12))
    with pytest.raises(BookError) as caught:
        formulas.convert([Formula("x", False, ("book/part/a.md", 3)), wrong])
    (problem,) = caught.value.problems
    assert str(problem).startswith(
        r"book/part/a.md:12: error: this formula is not TeX that can be typeset: \bogus"
    )


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


@given(st.text("ab_(.,) -=", max_size=80))
def test_long_code_in_a_sentence_may_break_and_loses_nothing(text: str) -> None:
    pieces = inline_code(text)
    assert "".join(pieces) == text
    assert len(pieces) == 1 or len(text) > 18
    assert all(len(piece) >= 5 for piece in pieces[1:])


def test_long_code_in_a_sentence_breaks_after_a_sign() -> None:
    assert inline_code("cross_entropy(model(validation[None, :-1]))") == [
        "cross_",
        "entropy(",
        "model(",
        "validation[",
        "None, :-1]))",
    ]
    assert inline_code("short.name") == ["short.name"]
