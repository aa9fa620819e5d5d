"""The site, the notebooks and the archive of a small book; each fault with its line."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from books import code, page

from bookbuild import render
from bookbuild.book import Book, load
from bookbuild.document import notebook
from bookbuild.errors import BookError, ConfigError

Make = Callable[..., Path]


def run(root: Path, outputs: dict[str, object] | None = None) -> Book:
    """Stand in for the executor: no outputs but those given by the start of a cell."""
    book = load(root)
    for chapter in book.select():
        results = []
        for cell in chapter.code_cells:
            shown = [
                o
                for start, o in (outputs or {}).items()
                if cell.source.startswith(start)
            ]
            results.append({"execution_count": 1, "outputs": shown})
        path = book.build / "executed" / f"{chapter.name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(notebook(chapter, results), encoding="utf-8")
    return book


def told(function: Callable[[], object]) -> list[str]:
    """Path, line and message of each problem that `function` raises."""
    with pytest.raises(BookError) as caught:
        function()
    assert caught.value.exit_code == 1
    return [f"{p.path}:{p.line}: {p.message}" for p in caught.value.problems]


def text(root: Path, name: str) -> str:
    return (root / "_build" / "html" / f"{name}.html").read_text(encoding="utf-8")


FAULTS = {
    "duplicate label": ("(twice)=\n## One\n\n(twice)=\n## Two\n", 4, "Duplicate"),
    "unknown reference": ("See {ref}`nowhere`.\n", 1, "nowhere"),
    "unknown numbered reference": ("\nSee {numref}`fig-none`.\n", 2, "fig-none"),
    "unknown directive": ("Text.\n\n```{nonsense}\n```\n", 3, "nonsense"),
    "unknown role": ("Text {nonsense}`x`.\n", 1, "nonsense"),
    "missing picture": ("Text.\n\n\n![alt](none.png)\n", 4, "none.png"),
    "missing page": ("A [page](none.md).\n", 1, "none.md"),
    "unknown term": ("A {term}`nothing`.\n", 1, "nothing"),
    "formula": ("Text.\n\n$$\n\\frac{1}{\n$$\n", 3, "MathML"),
    "quiz without a list": (
        "```{quiz} q\nWhat?\n```\n",
        1,
        "needs a question and then a list",
    ),
    "quiz with two right answers": (
        "```{quiz} q\nWhat?\n\n- [x] A.\n\n  Yes.\n- [x] B.\n\n  Yes.\n```\n",
        1,
        "has 2 right choices of 2",
    ),
    "quiz without a reason": (
        "\n```{quiz} q\nWhat?\n\n- [x] A.\n- [ ] B.\n\n  No.\n```\n",
        2,
        "does not explain 'A.'",
    ),
    "quiz without a box": (
        "```{quiz} q\nWhat?\n\n- A.\n\n  Yes.\n```\n",
        1,
        "does not start with [ ] or [x]",
    ),
    "map": ("```{book-map}\n- part/a: what\n```\n", 2, "not a chapter"),
}


@pytest.mark.parametrize("kind", ["notebook", "page"])
@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_names_its_line_every_time(
    make_book: Make, name: str, kind: str
) -> None:
    faulty, line, message = FAULTS[name]
    cell = code("x = 1") + "\n" if kind == "notebook" else ""
    start = page(cell, title="Faulty")
    book = run(make_book({"part/faulty": f"{start}{faulty}"}))
    expected = f"book/part/faulty.md:{start.count(chr(10)) + line}: "
    first = told(lambda: render.html(book))
    assert len(first) == 1, first
    assert first[0].startswith(expected), (first, expected)
    assert message in first[0]
    assert told(lambda: render.html(book)) == first, "the second run passes"


def test_a_mended_fault_is_forgotten(make_book: Make) -> None:
    book = run(make_book({"part/a": "# A\n\nSee {ref}`nowhere`.\n"}))
    assert told(lambda: render.html(book))
    book = run(make_book({"part/a": "# A\n\nSee nothing.\n"}))
    assert render.html(book).is_file()


def test_a_label_that_goes_breaks_the_pages_that_name_it(make_book: Make) -> None:
    """Sphinx alone does not look at a page again that has not changed itself."""
    files = {"part/a": "(here)=\n# A\n\nText.\n", "part/b": "# B\n\nSee {ref}`here`.\n"}
    render.html(run(make_book(files)))
    book = run(make_book(files | {"part/a": "# A\n\nText.\n"}))
    assert told(lambda: render.html(book)) == [
        "book/part/b.md:3: undefined label: 'here'"
    ]


def test_code_that_was_not_run_is_not_shown(make_book: Make) -> None:
    root = make_book({"part/a": page(code("x = 1"), code("y = 2"))})
    assert told(lambda: render.html(load(root))) == [
        "book/part/a.md:0: has not been executed"
    ]
    run(root)
    make_book({"part/a": page(code("x = 1"), code("y = 3"))})
    changed = "book/part/a.md:8: this cell has changed since the chapter was executed"
    assert told(lambda: render.html(load(root))) == [changed]
    make_book({"part/a": page(code("x = 1"))})
    removed = (
        "book/part/a.md:0: cells were added or removed since the chapter was executed"
    )
    assert told(lambda: render.html(load(root))) == [removed]


def test_prose_changes_without_a_run(make_book: Make) -> None:
    root = make_book({"part/a": page("Old words.\n", code("x = 1"))})
    run(root)
    render.html(load(root))
    make_book({"part/a": page("New words.\n", code("x = 1"))})
    render.html(load(root))
    assert "New words." in text(root, "part/a")


def test_nothing_is_done_when_nothing_changed(
    make_book: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = run(make_book({"part/a": page(code("x = 1"))}))
    render.html(book)

    def refuse(*arguments: object, **more: object) -> None:
        raise AssertionError("built again")

    monkeypatch.setattr(render, "build", refuse)
    render.html(book)
    make_book({"part/a": page("More.\n", code("x = 1"))})
    with pytest.raises(AssertionError, match="built again"):
        render.html(load(book.root))


def test_staging_touches_what_changed_and_nothing_else(make_book: Make) -> None:
    files = {"part/a": "# A\n", "part/b": page(code("x = 1")), "part/c": "# C\n"}
    book = run(make_book(files))
    folder = render.stage(book)
    assert sorted(p.name for p in (folder / "part").iterdir()) == [
        "a.md",
        "b.ipynb",
        "c.md",
    ]
    for path in folder.rglob("*.*"):
        os.utime(path, ns=(1, 1))
    book = run(make_book(files | {"part/a": "# Another\n"}))
    render.stage(book)
    old = {p.name for p in folder.rglob("*.*") if p.stat().st_mtime_ns == 1}
    assert "a.md" not in old and {"b.ipynb", "c.md"} <= old


def test_pages_of_deleted_chapters_go(make_book: Make) -> None:
    root = make_book({"part/a": "# A\n", "part/b": "# B\n", "part/c": page(code("x"))})
    render.html(run(root))
    assert (root / "_build" / "html" / "_notebooks" / "part" / "c.ipynb").exists()
    (root / "book" / "part" / "b.md").unlink()
    (root / "book" / "part" / "c.md").unlink()
    make_book({"part/a": "# A\n"})
    render.html(load(root))
    assert not (root / "_build" / "html" / "part" / "b.html").exists()
    assert not (root / "_build" / "html" / "_notebooks" / "part" / "c.ipynb").exists()


def test_two_builds_are_equal_to_the_byte(make_book: Make, tmp_path: Path) -> None:
    files = {"part/a": page("$x$ and `y`.\n", code("def f():\n    return 1", "export"))}
    first = render.html(run(make_book(files))).parent
    elsewhere = tmp_path / "éèl sewhere"
    from books import write_book

    second = render.html(run(write_book(elsewhere, files))).parent
    names = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert names == sorted(
        p.relative_to(second) for p in second.rglob("*") if p.is_file()
    )
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_links_to_the_markdown_of_a_chapter_lead_to_its_page(make_book: Make) -> None:
    root = make_book(
        {
            "part/a": "(there)=\n# A\n\n## Deep\n\n[b](b.md), [up](../index.md)\n",
            "part/b": page(
                "[a](a.md) and [b](../part/b.md)\n", code("x = 1"), title="B"
            ),
        }
    )
    render.html(run(root))
    assert 'href="b.html"' in text(root, "part/a")
    assert 'href="a.html"' in text(root, "part/b")


def test_mathml_is_upright_bold_and_aligned() -> None:
    from bookbuild.site.maths import mathml

    bold, lines, bad, slanted, sized = mathml(
        [
            (r"\mathbf W", False),
            (r"a &= b \\ &= c", True),
            (r"\frac{1}{", False),
            (r"\boldsymbol W", False),
            (r"a \Big/ b", True),
        ]
    )
    assert bold == '<math display="inline"><mi>𝐖</mi></math>'
    assert lines.count("<mtr>") == 2
    assert bad == ""
    assert "𝑾" in slanted
    assert re.search('<mo [^>]*minsize="180%"[^>]*>/</mo>', sized)
    assert mathml([]) == []


def test_a_long_formula_in_a_line_may_break_before_a_relation() -> None:
    from bookbuild.site.maths import mathml

    long, short, block = mathml(
        [
            (r"\sum_i p_i \ln q_i \le \sum_i p_i (q_i / p_i - 1) = 1 - 1 = 0", False),
            ("a = b", False),
            (r"\sum_i p_i \ln q_i \le \sum_i p_i (q_i / p_i - 1) = 1 - 1 = 0", True),
        ]
    )
    assert long.count("<math") == 4 and long.count("<wbr>") == 3
    assert long.count("<msub>") == block.count("<msub>") + block.count("<munder>")
    assert short.count("<math") == block.count("<math") == 1


def test_other_builders_get_plain_nodes(make_book: Make, tmp_path: Path) -> None:
    question = (
        "```{quiz} q\nWhat is it?\n\n"
        "- [x] This.\n\n  Because.\n- [ ] That.\n\n  Hardly.\n```\n"
    )
    card = "```{you-will-build}\nA thing.\n```\n"
    root = make_book({"part/a": page(card, code("def f(): ...", "export"), question)})
    render.build(run(root), "text", tmp_path / "text")
    shown = (tmp_path / "text" / "part" / "a.txt").read_text()
    for words in ("You will build", "A thing.", "extracted.part.a"):
        assert words in shown, words
    for words in ("What is it?", "This.", "Right.", "Because.", "Wrong.", "Hardly."):
        assert words in shown, words


def test_the_archive_is_the_same_for_the_same_site(make_book: Make) -> None:
    import zipfile

    book = load(make_book({"index": "# My Bøok 2\n", "part/a": "# A\n"}))
    first = render.site_zip(book)
    content = first.read_bytes()
    assert first.name == "my-b-ok-2-site.zip"
    first.unlink()
    assert render.site_zip(book).read_bytes() == content
    with zipfile.ZipFile(first) as archive:
        assert "my-b-ok-2/part/a.html" in archive.namelist()
        assert archive.testzip() is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("title: [", "_config.yml:1: not YAML"),
        ("title: 3\n", "3 is not of type 'string'"),
        ("sphinx:\n  extra_extensions: [no_such_extension]\n", "no_such_extension"),
    ],
)
def test_a_faulty_configuration(make_book: Make, config: str, message: str) -> None:
    root = make_book({"part/a": "# A\n"})
    (root / "_config.yml").write_text(config)
    with pytest.raises(BookError) as caught:
        render.html(load(root))
    assert message in str(caught.value).replace(": error", "")
    if "extensions" not in config:
        assert isinstance(caught.value, ConfigError)


def test_the_card_gives_the_budget_until_a_run_is_recorded(make_book: Make) -> None:
    card = "```{you-will-build}\nA thing.\n```\n"
    root = make_book({"part/a": page(card, code("x = 1"), minutes=3)})
    render.html(run(root))
    assert "3 min at most on two CPU cores" in text(root, "part/a")
    facts = root / "_build" / "executed" / "part" / "a.json"
    facts.write_text(json.dumps({"seconds": 100.5, "hardware": "a big GPU"}))
    render.html(load(root))
    assert "2 min on a big GPU" in text(root, "part/a")


def test_incomplete_builds_write_the_changed_page_alone(make_book: Make) -> None:
    files = {"part/a": "# A\n\nOld.\n", "part/b": "# B\n"}
    root = make_book(files)
    render.html(load(root))
    other = root / "_build" / "html" / "part" / "b.html"
    before = other.stat().st_mtime_ns
    make_book(files | {"part/a": "# A\n\nNew.\n"})
    render.html(load(root), complete=False)
    assert "New." in text(root, "part/a")
    assert other.stat().st_mtime_ns == before
