"""Live figures: where they stand, what stands for them elsewhere, and each fault."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pypdf
import pytest
from books import code, page
from printed import executed, glued, shown, svg

from bookbuild.book import Book, load
from bookbuild.errors import BookError
from bookbuild.render import html, notebooks
from bookbuild.typst import epub, pdf
from bookbuild.widgets import check

Make = Callable[..., Path]

FIGURE = {
    "figure": {"name": "fig-sum", "caption": "Two and two."},
    "image": {"alt": "Four dots."},
}
CELLS = [code("draw()", mystnb=FIGURE), code("glue('sum-data', [2, 2])")]
WIDGET = "```{widget} adder\n:data: sum-data\n:figure: fig-sum\n```\n"
DATA = "{'parts': [2, 2.5], 'text': '</script>é', 1: None, 'pair': (1, 2)}"


@pytest.fixture
def make(make_book: Make) -> Make:
    """Write a book of one chapter that has run; its widgets are `adder` and `plain`."""

    def write(piece: str = WIDGET, *, data: str = DATA, picture: bool = True) -> Book:
        root = make_book({"part/a": page(*CELLS, piece), "part/b": "# B\n\nText.\n"})
        folder = root / "book" / "_static" / "widgets"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("adder.js", "adder.css", "plain.js"):
            (folder / name).write_text("/* nothing */\n")
        drawn = [shown(svg=svg(), plain="<Figure>")] if picture else []
        values = [glued("sum-data", data)] if data else []
        executed(root, "part/a", [drawn, values])
        return load(root)

    return write


def text(book: Book, name: str = "part/a") -> str:
    return (book.build / "html" / f"{name}.html").read_text(encoding="utf-8")


def told(call: Callable[[], Any]) -> list[str]:
    with pytest.raises(BookError) as caught:
        call()
    return [str(problem) for problem in caught.value.problems]


# Where a widget stands.


def test_on_the_site_it_stands_in_its_figure_before_the_picture(make: Make) -> None:
    book = make()
    html(book)
    figure = text(book).partition('id="fig-sum"')[2].partition("</figure>")[0]
    inside = figure.index('<div class="widget" data-widget="adder">')
    assert inside < figure.index("<img") < figure.index("Two and two.")
    data = figure.partition('<script type="application/json">')[2]
    assert data.partition("</script>")[0] == (
        '{"parts":[2,2.5],"text":"\\u003c/script>\\u00e9","1":null,"pair":[1,2]}'
    )


def test_its_script_and_style_are_loaded_where_it_stands_and_nowhere_else(
    make: Make,
) -> None:
    book = make()
    html(book)
    loaded = text(book)
    assert 'href="../_static/widgets/adder.css"' in loaded
    script, loader = "_static/widgets/adder.js", "_static/widget.js"
    assert loaded.index(loader) < loaded.index(script)
    assert (book.build / "html" / script).is_file()
    other = text(book, "part/b")
    assert "widgets/" not in other and loader not in other


def test_a_style_of_its_own_is_optional(make: Make) -> None:
    book = make(WIDGET.replace("adder", "plain"))
    html(book)
    assert "widgets/plain.js" in text(book)
    assert "widgets/plain.css" not in text(book)


def test_on_paper_the_figure_stands_alone(make: Make) -> None:
    book = make()
    pages = pypdf.PdfReader(pdf(book)).pages
    words = " ".join(" ".join(page.extract_text() for page in pages).split())
    assert "Two and two." in words
    assert "adder" not in words and "parts" not in words


def test_in_the_e_book_the_figure_stands_alone(make: Make) -> None:
    with ZipFile(epub(make())) as package:
        chapter = package.read("part/a.xhtml").decode()
        assert not [name for name in package.namelist() if name.endswith(".js")]
    assert "Two and two." in chapter and "<img" in chapter
    assert "adder" not in chapter and "<script" not in chapter


def test_in_notebooks_the_figure_stands_alone(make: Make) -> None:
    shown = (notebooks(make()) / "executed" / "part" / "a.ipynb").read_text()
    assert "image/svg+xml" in shown
    assert "adder" not in shown and "parts" not in shown


# Faults.

FAULTS = {
    "misspelt": (
        WIDGET.replace("adder", "ader"),
        "no widget is called 'ader'",
        "did you mean 'adder'?",
    ),
    "unknown": (
        WIDGET.replace("adder", "zzz"),
        "no widget is called 'zzz'",
        "write its script, book/_static/widgets/zzz.js",
    ),
    "no data": (
        WIDGET.replace(":data: sum-data\n", ""),
        "the widget 'adder' has no data",
        "add :data: and the name of what a cell glues",
    ),
    "misspelt data": (
        WIDGET.replace("sum-data", "sum-date"),
        "no cell of this chapter glues 'sum-date', the data of this widget",
        "did you mean 'sum-data'?",
    ),
    "unknown data": (
        WIDGET.replace("sum-data", "zzz"),
        "no cell of this chapter glues 'zzz', the data of this widget",
        "glue('zzz', …) in the cell that computes them",
    ),
    "no figure": (
        WIDGET.replace(":figure: fig-sum\n", ""),
        "the widget 'adder' has no figure to stand for it on paper",
        "add :figure: and the name of a cell's figure",
    ),
    "misspelt figure": (
        WIDGET.replace("fig-sum", "fig-sun"),
        "no cell of this chapter draws 'fig-sun', the figure of this widget",
        "did you mean 'fig-sum'?",
    ),
    "unknown figure": (
        WIDGET.replace("fig-sum", "zzz"),
        "no cell of this chapter draws 'zzz', the figure of this widget",
        "give a cell mystnb: figure: name: zzz",
    ),
}
LINE = page(*CELLS, "").count("\n") + 1


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_names_its_line_and_remedy(make: Make, name: str) -> None:
    """The same from the check, which builds nothing, and from each build."""
    piece, message, hint = FAULTS[name]
    book = make(piece)
    expected = [f"book/part/a.md:{LINE}: error: {message}\nhint: {hint}"]
    assert [str(problem) for problem in check(book)] == expected
    assert told(lambda: html(book)) == expected
    assert told(lambda: html(book)) == expected, "the second run passes"
    assert told(lambda: pdf(book)) == expected


def test_a_widget_without_a_name_is_found_without_a_build(make: Make) -> None:
    [problem] = check(make(WIDGET.replace(" adder", "")))
    assert problem.message == "no widget is called ''"
    assert problem.hint == "write its script, book/_static/widgets/NAME.js"


@pytest.mark.parametrize(
    "piece",
    [
        WIDGET,
        WIDGET.replace("```", ":::"),
        f"````md\n{WIDGET.replace('adder', 'shown')}````\n",
        f"{code('glue(f' + chr(34) + '{name}-data' + chr(34) + ', 1)')}\n"
        f"{WIDGET.replace('sum-data', 'computed-data')}",
    ],
    ids=["ticks", "colons", "shown as code", "computed name"],
)
def test_the_check_finds_nothing_in_what_is_right(make_book: Make, piece: str) -> None:
    root = make_book({"part/a": page(*CELLS, piece)})
    (root / "book" / "_static" / "widgets").mkdir(parents=True)
    (root / "book" / "_static" / "widgets" / "adder.js").touch()
    assert check(load(root)) == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("", "the chapter's run did not glue it"),
        ("tensor([1, 2])", "malformed node or string"),
        ("[1, nan]", "malformed node or string"),
        ("[1, 1e999]", "Out of range float values are not JSON compliant"),
        ("{1, 2}", "Object of type set is not JSON serializable"),
        ("<Vocabulary>", "invalid syntax"),
    ],
    ids=["none", "tensor", "nan", "infinity", "set", "object"],
)
def test_data_that_no_page_can_hold(make: Make, data: str, reason: str) -> None:
    [problem] = told(lambda: html(make(data=data)))
    start = f"book/part/a.md:{LINE}: error: 'sum-data' is no data for a widget: "
    assert problem.startswith(start + reason)
    hint = "glue lists, dicts, strings and numbers: tensor.tolist()"
    assert problem.endswith(f"\nhint: {hint}")


def test_a_figure_that_was_not_drawn(make: Make) -> None:
    assert told(lambda: html(make(picture=False))) == [
        f"book/part/a.md:{LINE}: error: the cell of the figure 'fig-sum' drew no "
        "picture\nhint: end the cell with the figure's last call"
    ]


def test_a_script_that_goes_is_missed(make: Make) -> None:
    """Sphinx alone does not look at a page again that has not changed itself."""
    book = make()
    html(book)
    (book.root / "book" / "_static" / "widgets" / "adder.js").unlink()
    [problem] = told(lambda: html(load(book.root)))
    assert "no widget is called 'adder'" in problem
