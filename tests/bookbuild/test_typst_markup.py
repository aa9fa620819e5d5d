"""What the printed book is written with: markup, lines of code, formulas."""

import json
import re
import subprocess
import unicodedata
from typing import Any

import pytest
import typst
from hypothesis import given, settings
from hypothesis import strategies as st

from bookbuild.errors import BookError
from bookbuild.typst import formulas
from bookbuild.typst.listing import listing
from bookbuild.typst.markup import Formula, escape, fitted, separated, string, width
from bookbuild.typst.text import inline_code

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


# Code in a sentence.


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
