"""Code cells: options, tags, syntax, and the line at which the source starts."""

import ast

import pytest
from books import code
from hypothesis import given
from hypothesis import strategies as st

from bookbuild.cell import OPTIONS, TAGS, Cell, read_code


def read(content: str, fence: int = 10) -> tuple[Cell, list[tuple[object, ...]]]:
    problems: list[tuple[object, ...]] = []

    def report(line: int, message: str, hint: str = "", column: int = 0) -> None:
        problems.append((line, message, hint, column))

    return read_code(3, content, fence, report), problems


def sound(content: str) -> Cell:
    cell, problems = read(content)
    assert problems == []
    return cell


def test_a_cell_without_options() -> None:
    assert sound("x = 1\ny = 2\n") == Cell(3, "code", "x = 1\ny = 2", 11)


def test_options_after_colons() -> None:
    cell = sound(":tags: [export, hide-input]\n:rtol: 0.1\n\nx = 1\n")
    assert cell.tags == ("export", "hide-input")
    assert cell.metadata == {"rtol": 0.1}
    assert (cell.source, cell.line, cell.exported) == ("x = 1", 14, True)


def test_options_in_a_block() -> None:
    cell = sound(
        "---\ntags: [margin]\nmystnb:\n  figure:\n    name: fig-a\n---\n\n\nx = 1\n"
    )
    assert cell.tags == ("margin",)
    assert cell.metadata == {"mystnb": {"figure": {"name": "fig-a"}}}
    assert (cell.source, cell.line) == ("\nx = 1", 18)


def test_an_empty_cell() -> None:
    assert sound("") == Cell(3, "code", "", 11)
    assert sound(":tags: [export]\n").source == ""


def test_tabs_and_line_separators_of_unicode_stay_in_the_source() -> None:
    source = "if True:\n\tx = 'a\u2028b\u0085c\x0cd'"
    assert sound(f":tags: [export]\n\n{source}\n").source == source


@pytest.mark.parametrize(
    ("content", "line", "message", "hint"),
    [
        (
            ":tags: [exprot]\nx = 1\n",
            10,
            "unknown tag 'exprot'",
            "did you mean 'export'?",
        ),
        (
            ":tags: [zzzzzz]\n",
            10,
            "unknown tag 'zzzzzz'",
            "known: " + ", ".join(sorted(TAGS)),
        ),
        (
            ":tags: export\n",
            10,
            "tags is 'export'",
            "write a list: :tags: [export]",
        ),
        (":tags: [1]\n", 10, "tags is [1]", "write a list: :tags: [export]"),
        (
            ":tag: [export]\n",
            10,
            "unknown cell option 'tag'",
            "did you mean 'tags'?",
        ),
        (
            ":zzz: 1\n",
            10,
            "unknown cell option 'zzz'",
            "known: " + ", ".join(sorted(OPTIONS)),
        ),
        (":timeout: soon\n", 10, "timeout is 'soon'", "give a positive number"),
        (":rtol: -1\n", 10, "rtol is -1", "give a positive number"),
        (":atol: true\n", 10, "atol is True", "give a positive number"),
        (
            ":- a\n",
            11,
            "the cell's options are not a mapping",
            "write them as :tags: [export]",
        ),
        (
            "---\ntags: [export]\nx = 1\n",
            10,
            "the cell's options are never closed",
            "end them with a line ---",
        ),
        (
            ":tags: [export, raises-exception]\nx = 1\n",
            10,
            "an exported cell cannot be one that must fail",
            "a module must import cleanly; drop one of the two tags",
        ),
    ],
)
def test_refused_options(content: str, line: int, message: str, hint: str) -> None:
    assert read(content)[1] == [(line, message, hint, 0)]


def test_malformed_yaml_is_reported_at_its_own_line_and_column() -> None:
    message = "the cell's options are not YAML: "
    [(line, text, _, column)] = read(":rtol: 1\n:tags: [export\nx = 1\n")[1]
    assert (line, column) == (12, 8 + len("export"))
    assert str(text).startswith(message)
    [(line, text, _, column)] = read("---\nrtol: 1\nmystnb: a: b\n---\n")[1]
    assert (line, column) == (13, 10)
    assert text == message + "mapping values are not allowed here"


@pytest.mark.parametrize(
    ("source", "line", "column"),
    [
        ("x = 1\ny = (\n", 12, 5),
        ("return 1\n", 11, 1),
        ("for x in []: pass\nbreak\n", 12, 1),
        ("assert (1, 'always true')\n", 11, 1),
        ("x = '\\d'\n", 11, None),
        ("  x = 1\n", 11, None),
    ],
)
def test_a_syntax_error_is_reported_at_its_line(
    source: str, line: int, column: int | None
) -> None:
    [(found, message, hint, place)] = read(source)[1]
    assert found == line
    assert str(message).startswith("syntax error in this cell: ")
    assert hint == ""
    assert column is None or place == column


def test_a_cell_that_must_fail_may_hold_any_text() -> None:
    assert sound(":tags: [raises-exception]\n\nx = = 1\n").source == "x = = 1"


@pytest.mark.parametrize(
    "source",
    ["%time x = 1", "%%time\nimport os", "%%bash\nls | wc", "!ls\nx = 1", "await f()"],
)
def test_a_cell_that_is_not_exported_may_use_ipython(source: str) -> None:
    assert sound(source + "\n").source == source


@pytest.mark.parametrize("source", ["%time x = 1", "%%bash\nls", "!ls"])
def test_an_exported_cell_may_hold_no_magic(source: str) -> None:
    [(_, message, _, _)] = read(f":tags: [export]\n{source}\n")[1]
    assert str(message).startswith("syntax error in this cell: ")


def test_the_tree_sees_through_magics() -> None:
    tree = sound("%%time\nimport os\n%matplotlib inline\nimport re\n").tree()
    names = [n.names[0].name for n in tree.body if isinstance(n, ast.Import)]
    assert names == ["os", "re"]
    assert [n.lineno for n in tree.body if isinstance(n, ast.Import)] == [2, 4]


def test_an_operator_at_the_start_of_a_line_is_no_magic() -> None:
    tree = sound('x = (\n    "%d"\n    % 3\n)\n').tree()
    assert len(tree.body) == 1


TEXT = st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]))


@given(
    st.lists(TEXT.map(lambda text: f"# {text}"), min_size=1),
    st.sets(st.sampled_from(sorted(TAGS - {"raises-exception"}))),
    st.integers(0, 3),
)
def test_the_source_stands_at_the_stated_line(
    lines: list[str], tags: set[str], blank: int
) -> None:
    text = code("\n" * blank + "\n".join(lines), sorted(tags))
    _, _, content = text.partition("\n")
    cell = sound(content.removesuffix("```\n"))
    assert set(cell.tags) == tags
    found = text.split("\n")[cell.line - 10 :][: cell.source.count("\n") + 1]
    assert "\n".join(found).rstrip() == cell.source
    assert cell.source.strip("\n") == "\n".join(lines).rstrip()
