"""Edits come back from a module to its chapter, and never at the cost of either."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from books import code, page, refusal, write_book
from hypothesis import given, settings
from hypothesis import strategies as st

from bookbuild.adopt import adopt
from bookbuild.book import load
from bookbuild.errors import ConfigError
from bookbuild.tangle import modules, tangle

MakeBook = Callable[..., Path]
PATH = "extracted/part/circle.py"
CHAPTER = "book/part/circle.md"

CIRCLE = page(
    "Before.\n",
    code("\n\nimport math", "export"),
    "Between.\n",
    code("def area(r):\n    return math.pi * r**2\n", "export"),
    code("naive = 1"),
    code("def length(r):\n    return math.tau * r", "export"),
    "After.\n",
    summary="Circles.",
)


@pytest.fixture
def root(make_book: MakeBook) -> Path:
    root = make_book({"part/circle": CIRCLE})
    tangle(load(root))
    return root


def edit(root: Path, old: str, new: str) -> None:
    module = root / PATH
    text = module.read_text(encoding="utf-8")
    assert old in text
    module.write_bytes(text.replace(old, new).encode())


def refused(root: Path) -> str:
    before = (root / CHAPTER).read_bytes(), (root / PATH).read_bytes()
    [problem] = refusal(lambda: adopt(load(root), PATH))
    assert ((root / CHAPTER).read_bytes(), (root / PATH).read_bytes()) == before
    return problem


def test_an_edit_goes_to_its_cell_and_nowhere_else(root: Path) -> None:
    edit(root, "r**2", "r * r")
    edit(root, "math.tau * r", "(\n        math.tau * r\n    )")
    assert adopt(load(root), PATH) == [f"{CHAPTER}#area", f"{CHAPTER}#length"]
    expected = CIRCLE.replace("r**2", "r * r")
    expected = expected.replace("math.tau * r", "(\n        math.tau * r\n    )")
    assert (root / CHAPTER).read_text(encoding="utf-8") == expected
    assert tangle(load(root)) == []


def test_nothing_to_adopt(root: Path) -> None:
    assert adopt(load(root), PATH) == []
    assert (root / CHAPTER).read_text(encoding="utf-8") == CIRCLE


def test_the_first_function_of_a_cell_may_be_renamed(root: Path) -> None:
    edit(root, "def area(", "def disc(")
    assert adopt(load(root), PATH) == [f"{CHAPTER}#area"]
    assert f"# %% {CHAPTER}#disc\ndef disc(r):" in (root / PATH).read_text()
    assert tangle(load(root)) == []


def test_blank_lines_between_cells_are_of_no_concern(root: Path) -> None:
    edit(root, "r**2\n\n\n", "r * r\n\n\n\n\n")
    assert adopt(load(root), PATH) == [f"{CHAPTER}#area"]
    assert tangle(load(root)) == []


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_mark_are_kept(make_book: MakeBook, mark: str) -> None:
    def windows(text: str) -> bytes:
        return (mark + text.replace("\n", "\r\n")).encode()

    root = make_book({"part/circle": windows(CIRCLE)})
    tangle(load(root))
    edit(root, "r**2", "r * r")
    module = root / PATH
    module.write_bytes(module.read_bytes().replace(b"\n", b"\r\n"))
    assert adopt(load(root), PATH) == [f"{CHAPTER}#area"]
    assert (root / CHAPTER).read_bytes() == windows(CIRCLE.replace("r**2", "r * r"))
    assert b"\r" not in module.read_bytes()


def test_a_module_of_no_chapter(root: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        adopt(load(root), "extracted/part/zzz.py")
    assert str(raised.value) == (
        "extracted/part/zzz.py: error: no chapter makes this module\n"
        "hint: give a path such as extracted/foundations/attention.py"
    )


def test_a_module_that_was_never_made(root: Path) -> None:
    (root / PATH).unlink()
    assert refusal(lambda: adopt(load(root), PATH)) == [
        f"{PATH}: error: no such file\nhint: run `bookbuild tangle`"
    ]


def test_a_chapter_that_changed_too(root: Path, make_book: MakeBook) -> None:
    edit(root, "r**2", "r * r")
    make_book({"part/circle": CIRCLE.replace("math.tau", "2 * math.pi")})
    assert refused(root) == (
        f"{PATH}:1: error: {CHAPTER} changed too since this module was tangled\n"
        "hint: undo one of the two changes, or move the edit to the chapter by hand"
    )


def test_prose_that_changed_is_no_obstacle(root: Path, make_book: MakeBook) -> None:
    edit(root, "r**2", "r * r")
    make_book({"part/circle": CIRCLE.replace("Between.", "Other\n\nprose.")})
    adopt(load(root), PATH)
    text = (root / CHAPTER).read_text(encoding="utf-8")
    assert "Other\n\nprose." in text
    assert "r * r" in text


def test_a_marker_that_was_changed(root: Path) -> None:
    edit(root, "md#area", "md#surface")
    assert refused(root) == (
        f"{PATH}: error: the `# %%` lines differ from the chapter's cells\n"
        "hint: put them back; they say where code goes"
    )


def test_a_header_that_was_changed(root: Path) -> None:
    edit(root, "do not edit", "please edit")
    assert refused(root) == (
        f"{PATH}:1: error: the first line, `# Generated from …`, was changed\n"
        "hint: put it back; it dates the file"
    )


def test_a_docstring_that_was_changed(root: Path) -> None:
    edit(root, '"""Circles."""', '"""Discs."""')
    assert refused(root) == (
        f"{PATH}:1: error: the lines before the first `# %%` were changed\n"
        f"hint: the docstring is the summary in the front matter of {CHAPTER}"
    )


def test_an_edit_with_a_syntax_error(root: Path) -> None:
    edit(root, "r**2", "r**")
    assert refused(root).startswith(f"{PATH}:10:")
    assert "error: syntax error: " in refused(root)


@pytest.mark.parametrize("fence", ["```", "~~~"])
def test_an_edit_that_would_end_the_cell(root: Path, fence: str) -> None:
    edit(root, "def area(r):", f'def area(r):\n    """\n    {fence}\n    """')
    assert refused(root) == (
        f"{PATH}:9: error: the new code of # %% {CHAPTER}#area holds a fence, ``` or "
        "~~~\nhint: edit the chapter by hand"
    )


LINES = st.lists(
    st.sampled_from(
        ["    x{} = 'größe'", "", "    # \u2028 note", "\tpass", "    y{} = (1,)"]
    ),
    max_size=5,
)
EDITS = st.lists(st.none() | LINES, min_size=3, max_size=3)


@settings(max_examples=20)
@given(EDITS, st.sampled_from(["\n", "\r\n"]), st.sampled_from(["f", "renamed"]))
def test_tangle_after_adopt_is_the_identity(
    edits: list[list[str] | None], ends: str, name: str
) -> None:
    cells = [code(f"\ndef f{i}():\n    return {i}", "export") for i in range(3)]
    text = page("Prose é.\n", *cells, code("shown = 1")).replace("\n", ends)
    with tempfile.TemporaryDirectory() as folder:
        root = write_book(Path(folder) / "a book", {"part/a": text})
        tangle(load(root))
        module = root / "extracted/part/a.py"
        edited = module.read_bytes().decode()
        for i, lines in enumerate(edits):
            if lines is not None:
                indented = [line.replace("\t", "    ").format(i) for line in lines]
                body = "\n".join(["if True:", *indented])
                new = f"def {name}{i}():\n    return {i}\n\n\n{body}\n    pass"
                edited = edited.replace(f"def f{i}():\n    return {i}", new)
        module.write_bytes(edited.encode())
        changed = adopt(load(root), "extracted/part/a.py")
        assert len(changed) == sum(lines is not None for lines in edits)
        assert (
            modules(load(root))["extracted/part/a.py"] == module.read_bytes().decode()
        )
        assert tangle(load(root)) == []
        chapter = (root / "book/part/a.md").read_bytes().decode()
        assert chapter.replace(ends, "").count("\r" if ends == "\n" else "\n") == 0
        for line in edited.split("\n")[4:]:
            assert line.startswith("# %%") or line.rstrip() in chapter
