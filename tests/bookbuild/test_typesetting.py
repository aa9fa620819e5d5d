"""What a typesetter corrects: where pages break, what stays together, which side."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pypdf
import pytest
from printed import executed, stream

from bookbuild.book import load
from bookbuild.typst import pdf
from bookbuild.typst.formulas import whole

ROOT = Path(__file__).parents[2]
FILLERS = range(28, 44)  # lines above a thing that so meets the foot of a page
LINES = 45  # more than a page has

Make = Callable[..., Path]


def pages(root: Path) -> list[str]:
    return [page.extract_text() for page in pypdf.PdfReader(pdf(load(root))).pages]


def place(pages: list[str], text: str) -> int:
    """The one page that has `text`."""
    (found,) = [number for number, page in enumerate(pages) if text in page]
    return found


def filler(count: int) -> str:
    return "\n\n".join("A line of text." for _ in range(count))


def at_every_height(make_book: Make, thing: Callable[[int], str]) -> list[str]:
    """The pages of a book whose chapters have the thing lower and lower."""
    texts = {
        f"part/c{n}": f"# Chapter {n}\n\n{filler(n)}\n\n{thing(n)}\n" for n in FILLERS
    }
    return pages(make_book(texts))


def test_a_formula_stands_with_the_words_before_it(make_book: Make) -> None:
    def thing(n: int) -> str:
        return f"Words before {n}:\n\n$$\n\\sum_{{i=1}}^n \\mathrm{{formula{n}}}_i\n$$"

    found = at_every_height(make_book, thing)
    for n in FILLERS:
        assert place(found, f"Words before {n}:") == place(found, f"formula{n}"), n


def test_a_short_table_is_not_broken(make_book: Make) -> None:
    def thing(n: int) -> str:
        rows = "".join(f"| row {row} of {n}. | text |\n" for row in range(6))
        return f"| head | head |\n|---|---|\n{rows}"

    found = at_every_height(make_book, thing)
    for n in FILLERS:
        assert place(found, f"row 0 of {n}.") == place(found, f"row 5 of {n}."), n


def test_a_long_table_goes_on(make_book: Make) -> None:
    rows = "".join(f"| row {row}. | text |\n" for row in range(60))
    found = pages(make_book({"part/a": f"# A\n\n| one | two |\n|---|---|\n{rows}"}))
    assert place(found, "row 59.") == place(found, "row 0.") + 1


def test_no_chapter_ends_with_a_page_of_a_few_lines(make_book: Make) -> None:
    def chapter(n: int) -> str:
        return f"# Chapter {n}\n\n{filler(4 * LINES + n)}\n\nThe end of {n}.\n"

    numbers = range(0, 48, 2)
    root = make_book({f"part/c{n}": chapter(n) for n in numbers})
    found = pages(root)
    for n in numbers:
        last = found[place(found, f"The end of {n}.")]
        assert last.count("A line of text.") > 3, n
    tight = json.loads((root / "_build" / "typst" / "tight.json").read_text())
    assert 1 <= len(tight) < len(numbers) / 2


def test_odd_pages_are_right_hand_pages(make_book: Make) -> None:
    toc = (
        "format: jb-book\nroot: index\nparts:\n"
        "- caption: Before\n  chapters:\n  - file: before\n  - file: more\n"
        "- caption: Part\n  numbered: true\n  chapters:\n  - file: part/a\n"
    )
    text = f"# A\n\n{filler(2 * LINES)}\n"
    for front in ({}, {"more": f"# More\n\n{filler(LINES)}\n"}):
        files = {"before": "# Before\n\nText.\n", "more": "# More\n\nText.\n"}
        root = make_book({**files, **front, "part/a": text}, toc)
        reader = pypdf.PdfReader(pdf(load(root)))
        shown = [page.extract_text().strip() for page in reader.pages]
        first = reader.page_labels.index("1")
        assert first % 2 == 0  # counted from 0, as sheets are from 1: a right-hand page
        assert [n for n, text in enumerate(shown[1:-1], 1) if not text] in (
            [],
            [first - 1],
        )


def test_the_way_to_an_answer_stands_beside_the_title(make_book: Make) -> None:
    text = (
        "# A\n\n```{exercise-start} Do it\n:label: ex-a\n```\nPlease.\n\n"
        "```{hint}\n:class: dropdown\nSo.\n```\n```{exercise-end}\n```\n\n"
        "```{quiz} quiz-a\nWhat?\n\n- [x] A.\n\n  Yes.\n- [ ] B.\n\n  No.\n```\n"
    )
    words = " ".join(" ".join(pages(make_book({"part/a": text}))).split())
    assert re.search(r"Exercise \S+ Do it Hint on page \d+ Please\.", words)
    assert re.search(r"Question \S+ Answer on page \d+ What\?", words)


def test_the_command_of_an_exercise_is_printed(make_book: Make, code: Make) -> None:
    text = (
        "# A\n\n```{exercise-start} Do it\n:label: ex-a\n```\nPlease.\n"
        f"```{{exercise-end}}\n```\n\n{code('x = 1', 'starter')}"
    )
    root = make_book({"part/a": text})
    executed(root, "part/a", [[]])
    found = pages(root)
    assert "bookbuild exercise start ex-a" in found[place(found, "Please.")]


@pytest.mark.parametrize(
    ("tex", "stays"),
    [
        (r"\lfloor (N - 1)/T \rfloor", True),
        (r"T \cdot T \cdot D", True),
        (r"\infty", True),
        (r"\left(x + y\right)", True),
        ("x = y", False),
        (r"x \in S", False),
        (r"x \to 0", False),
        (r"x \leftarrow x - g", False),
        (r"\alpha \le \beta", False),
        ("a + b + c + d + e + f + g + h + i + j + k + l + m", False),
    ],
)
def test_a_short_formula_without_a_relation_is_not_broken(
    tex: str, stays: bool
) -> None:
    assert whole(tex) is stays


def test_the_books_own_fonts_show_what_the_compilers_lack(
    make_book: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_book({"part/a": "# A\n\nSmile \N{GRINNING FACE} and 世界.\n"})
    shutil.copytree(ROOT / "book" / "_fonts", root / "book" / "_fonts")
    reader = pypdf.PdfReader(pdf(load(root)))
    fonts = {
        str(font.get_object()["/BaseFont"])
        for page in reader.pages
        for font in page["/Resources"].get("/Font", {}).values()
    }
    assert {"NotoEmoji", "NotoSansSC"} <= {re.split(r"[+-]", f)[1] for f in fonts}
    assert "note: no font" not in capsys.readouterr().err


def test_control_characters_of_an_output_are_written_out(
    make_book: Make, code: Make
) -> None:
    root = make_book({"part/a": f"# A\n\n{code('print(chr(1))')}"})
    executed(root, "part/a", [[stream("one\x01two\x1b[31m red\x1b[0m")]])
    found = pages(root)
    assert r"one\x01two red" in found[place(found, "one")]
