"""Chapters: front matter, title, cells and their lines, and all problems at once."""

from pathlib import Path

import pytest
from books import code, page, refusal
from hypothesis import given
from hypothesis import strategies as st

from bookbuild.chapter import Cell, Chapter, parse, read

PATH = Path("book/part/name.md")

DOCUMENT = """\
---
jupytext:
  text_representation: {extension: .md, format_name: myst}
chapter:
  summary: How a word finds
    the one it needs.
  minutes: 2.5
  produces: [story]
  needs: [tokens, other]
  data: [a.json]
---

(chapter-name)=
# Reading a *story*

Some prose.

```{code-cell} python
:tags: [export]

import math


def area(r: float) -> float:
    return math.pi * r**2
```

```python
this is = not executed
```

~~~{code-cell} python
print(area(1))
~~~
"""


def chapter(text: str) -> Chapter:
    return parse(text, "part/name", PATH)


def problems(text: str) -> list[str]:
    return refusal(lambda: chapter(text))


def test_a_whole_chapter() -> None:
    found = chapter(DOCUMENT)
    assert found.name == "part/name"
    assert found.path == PATH
    assert found.text == DOCUMENT
    assert found.title == "Reading a *story*"
    assert found.summary == "How a word finds the one it needs."
    assert found.minutes == 2.5
    assert found.produces == ("story",)
    assert found.needs == ("tokens", "other")
    assert found.data == ("a.json",)
    assert found.metadata["jupytext"]["text_representation"]["format_name"] == "myst"
    assert found.source == "book/part/name.md"
    assert found.module == "part/name.py"
    assert found.dotted == "extracted.part.name"
    assert [found.line_of(key) for key in ("produces", "needs", "data")] == [8, 9, 10]
    exported = (
        "import math\n\n\ndef area(r: float) -> float:\n    return math.pi * r**2"
    )
    assert found.cells == (
        Cell(
            0,
            "markdown",
            "(chapter-name)=\n# Reading a *story*\n\nSome prose.",
            13,
        ),
        Cell(1, "code", exported, 21, ("export",)),
        Cell(2, "markdown", "```python\nthis is = not executed\n```", 28),
        Cell(3, "code", "print(area(1))", 33),
    )
    assert found.code_cells == (found.cells[1], found.cells[3])
    assert found.exported == (found.cells[1],)


def test_a_page_without_front_matter_or_code() -> None:
    found = chapter("Title\n=====\n\nText.\n")
    assert (found.title, found.summary, found.minutes) == ("Title", "", 1.0)
    assert found.module is None
    assert found.code_cells == ()


def test_the_title_is_a_heading_and_not_a_comment_in_code() -> None:
    assert chapter("```bash\n# a comment\n```\n\n# The title\n").title == "The title"


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_any_line_ends_and_a_byte_order_mark_are_accepted(
    tmp_path: Path, ends: str, mark: str
) -> None:
    file = tmp_path / "Ein Kapitel.md"
    file.write_bytes((mark + DOCUMENT.replace("\n", ends)).encode())
    assert read(file, "part/name").cells == chapter(DOCUMENT).cells
    assert read(file, "part/name").text == DOCUMENT


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_file_that_is_not_utf8_is_refused_at_its_line(
    tmp_path: Path, mark: bytes
) -> None:
    file = tmp_path / "latin.md"
    file.write_bytes(mark + b"# Title\n\xe9t\xe9\n")
    assert refusal(lambda: read(file, "part/latin")) == [
        "book/part/latin.md:2: error: not UTF-8\nhint: save it as UTF-8"
    ]


HERE = "book/part/name.md"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ":1: error: the chapter is empty\nhint: start it with a title: # Title"),
        (
            " \n\n",
            ":1: error: the chapter is empty\nhint: start it with a title: # Title",
        ),
        (
            "Text.\n\n## Section\n",
            ":1: error: the chapter has no title\nhint: start it with a line: # Title",
        ),
        (
            "---\nchapter: {}\n\n# Title\n",
            ":1: error: the front matter is never closed\nhint: end it with a line ---",
        ),
        (
            "---\nchapter: a: b\n---\n# T\n",
            ":2:11: error: front matter is not YAML: "
            "mapping values are not allowed here",
        ),
        (
            "---\n- a\n---\n# T\n",
            ":2: error: front matter is not a mapping\nhint: write it as key: value",
        ),
        (
            "---\na: 1\nchapter: text\n---\n# T\n",
            ":3: error: chapter: is not a mapping\n"
            "hint: indent summary:, minutes: … below it",
        ),
        (
            page(minute=1),
            ":3: error: unknown key 'minute' under chapter:\n"
            "hint: did you mean 'minutes'?",
        ),
        (
            page(zzz=1),
            ":3: error: unknown key 'zzz' under chapter:\n"
            "hint: known: data, minutes, needs, produces, summary",
        ),
        (
            page(minutes=0),
            ":3: error: minutes is 0\nhint: give a positive number",
        ),
        (
            page(minutes=float("nan")),
            ":3: error: minutes is nan\nhint: give a positive number",
        ),
        (
            page(minutes="two"),
            ":3: error: minutes is 'two'\nhint: give a positive number",
        ),
        (
            page(needs="story"),
            ":3: error: needs is not a list of names\nhint: write needs: [name]",
        ),
        (
            page(summary={"a": "b"}),
            ":3: error: summary is not a sentence\n"
            "hint: write one sentence, in quotes when it holds a colon",
        ),
        (
            "# T\n\n```{code-cell} python\nx = 1\n",
            ":3: error: this fence is never closed\nhint: close it with a line ```",
        ),
        (
            "# T\n\n```{note}",
            ":3: error: this fence is never closed\nhint: close it with a line ```",
        ),
        (
            "# T\n\n:::{note}\ntext\n",
            ":3: error: this fence is never closed\nhint: close it with a line :::",
        ),
        (
            "# T\n\n```{note}\ntext\n\n```{tip}\ntext\n```\n",
            ":3: error: this fence is not closed before the next, at line 6\n"
            "hint: close it with a line ```",
        ),
        (
            "# T\n\n````{note}\n```{code-cell} python\nx = 1\n```\n````\n",
            ":4: error: a code cell inside {note} is not executed\n"
            "hint: use the gated form: exercise-start … exercise-end",
        ),
        (
            "# T\n\n- item\n\n  ```{code-cell} python\n  x = 1\n  ```\n",
            ":5: error: a code cell in a list, a quotation or ::: is not executed\n"
            "hint: start its fence ``` at the margin",
        ),
        (
            "# T\n\n:::{code-cell} python\nx = 1\n:::\n",
            ":3: error: a code cell in a list, a quotation or ::: is not executed\n"
            "hint: start its fence ``` at the margin",
        ),
    ],
)
def test_refusals(text: str, expected: str) -> None:
    assert problems(text) == [HERE + expected]


def test_an_unclosed_cell_is_named_where_it_opens() -> None:
    text = page("```{code-cell} python\nx = 1\n", "Prose, it is.\n", code("y = 2"))
    expected = ":3: error: this fence is not closed before the next, at line 8\n"
    assert HERE + expected + "hint: close it with a line ```" in problems(text)


def test_all_problems_of_a_file_come_at_once_in_order() -> None:
    text = page(code("x = ("), code("y", ["exprot"]), minutes=-1)
    assert [
        problem.split(": error: ")[1].split("\n")[0] for problem in problems(text)
    ] == [
        "minutes is -1",
        "syntax error in this cell: '(' was never closed",
        "unknown tag 'exprot'",
    ]


def test_fences_in_quotations_and_lists_may_close_there() -> None:
    chapter("# T\n\n> ```python\n> x\n> ```\n\n- ```text\n  y\n  ```\n")


def test_documentation_may_show_a_code_cell() -> None:
    for info in ("md", "{code-block} md"):
        text = f"# T\n\n````{info}\n{code('x')}````\n\n{code('real = 1')}"
        [cell] = chapter(text).code_cells
        assert cell.source == "real = 1"


LINE = st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]))
PROSE = st.lists(LINE.map(lambda line: f"Prose {line}")).map("\n".join)
CODE = st.lists(LINE.map(lambda line: f"# {line}"), min_size=1).map("\n".join)
TAGS = st.sampled_from([[], ["export"], ["hide-input", "export"]])
PIECES = st.lists(st.one_of(PROSE, st.tuples(CODE, TAGS)), max_size=6)


@given(PIECES, st.sampled_from(["\n", "\r\n"]))
def test_every_cell_stands_at_its_line(
    tmp_path_factory: pytest.TempPathFactory,
    pieces: list[str | tuple[str, list[str]]],
    ends: str,
) -> None:
    text = page(*(p + "\n" if isinstance(p, str) else code(*p) for p in pieces))
    file = tmp_path_factory.getbasetemp() / "chapter.md"
    file.write_bytes(text.replace("\n", ends).encode())
    found = read(file, "part/name")
    lines = found.text.split("\n")
    for cell in found.cells:
        there = lines[cell.line - 1 :][: cell.source.count("\n") + 1]
        assert "\n".join(there).rstrip() == cell.source
    sources = [p[0].rstrip() for p in pieces if not isinstance(p, str)]
    assert [cell.source for cell in found.code_cells] == sources
    assert [cell.index for cell in found.cells] == list(range(len(found.cells)))
