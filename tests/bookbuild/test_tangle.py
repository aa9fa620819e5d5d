"""Modules from cells: their text, drift, hand edits, and the way back to a line."""

import ast
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from books import code, page, refusal, write_book
from hypothesis import given, settings
from hypothesis import strategies as st

from bookbuild.book import load
from bookbuild.errors import BookError
from bookbuild.tangle import modules, pristine, source_map, tangle

MakeBook = Callable[..., Path]

CIRCLE = page(
    "Prose.\n",
    code("import math", "export"),
    code("naive = 3 * 2 * 2"),
    code("def area(r):\n    return math.pi * r**2", ["export", "hide-input"]),
    code("TAU = 2 * math.pi\n\n\ndef length(r):\n    return TAU * r", "export"),
    title="Circles",
    summary="The area and the length of a circle.",
)

MODULE = '''\
"""The area and the length of a circle."""

# %% book/part/circle.md#imports
import math


# %% book/part/circle.md#area
def area(r):
    return math.pi * r**2


# %% book/part/circle.md#TAU
TAU = 2 * math.pi


def length(r):
    return TAU * r
'''


@pytest.fixture
def root(make_book: MakeBook) -> Path:
    return make_book({"part/circle": CIRCLE})


def test_a_chapter_becomes_a_module_at_the_mirrored_path(root: Path) -> None:
    written = [
        "extracted/__init__.py",
        "extracted/part/__init__.py",
        "extracted/part/circle.py",
        "extracted/py.typed",
    ]
    assert tangle(load(root)) == written
    text = (root / "extracted/part/circle.py").read_bytes().decode()
    header, _, body = text.partition("\n")
    assert body == MODULE
    assert header.startswith("# Generated from book/part/circle.md; do not edit (")
    assert pristine(text)
    assert pristine((root / "extracted/__init__.py").read_text())
    assert '"""What the chapters of the part “Part” make."""' in (
        root / "extracted/part/__init__.py"
    ).read_text(encoding="utf-8")


def test_tangling_twice_changes_nothing(root: Path) -> None:
    tangle(load(root))
    before = {p: p.stat().st_mtime_ns for p in (root / "extracted").rglob("*")}
    assert tangle(load(root)) == []
    assert tangle(load(root), check=True) == []
    after = {p: p.stat().st_mtime_ns for p in (root / "extracted").rglob("*")}
    assert after == before


def test_a_chapter_that_exports_nothing_makes_no_module(make_book: MakeBook) -> None:
    root = make_book({"prose": page(), "code": page(code("x = 1"))})
    assert tangle(load(root)) == ["extracted/__init__.py", "extracted/py.typed"]


def test_prose_and_other_cells_do_not_change_a_module(
    root: Path, make_book: MakeBook
) -> None:
    tangle(load(root))
    text = CIRCLE.replace("Prose.", "Other prose.\n\nMore.").replace("3 * 2", "4 * 2")
    make_book({"part/circle": text})
    assert tangle(load(root)) == []


def test_the_output_depends_on_the_book_alone(tmp_path: Path) -> None:
    files = {f"part/{name}": page(code(f"{name} = 1", "export")) for name in "cab"}
    script = (
        "import sys, hashlib; from pathlib import Path\n"
        "from bookbuild.book import load; from bookbuild.tangle import tangle\n"
        "print(*tangle(load(Path(sys.argv[1]))))"
    )
    listings = []
    for seed, ends in (("0", "\n"), ("1", "\r\n")):
        crlf = {name: text.replace("\n", ends) for name, text in files.items()}
        root = write_book(tmp_path / seed, crlf)
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", script, str(root)]
        listings.append(subprocess.check_output(command, env=environment, text=True))
    assert listings[0] == listings[1]
    paths = listings[0].split()
    assert paths == sorted(paths)
    for path in paths:
        data = (tmp_path / "0" / path).read_bytes()
        assert data == (tmp_path / "1" / path).read_bytes()
        assert b"\r" not in data


def test_each_module_imports_alone_in_a_fresh_interpreter(make_book: MakeBook) -> None:
    files = {
        "part/größe": page(code("def size():\n\treturn 1", "export")),
        "part/use": page(
            code("from extracted.part.größe import size", "export"),
            code("twice = 2 * size()", "export"),
        ),
    }
    root = make_book(files)
    book = load(root)
    tangle(book)
    for chapter in book.chapters:
        if chapter.module:
            command = [sys.executable, "-c", f"import {chapter.dotted} as m; print(m)"]
            environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONUTF8": "1"}
            subprocess.run(command, cwd=root.parent, env=environment, check=True)


@pytest.mark.parametrize(
    ("summary", "docstring"),
    [
        ("Plain.", '"""Plain."""'),
        ('It says "x"', '"""It says "x\\""""'),
        ('Three """ quotes', '"""Three \\""" quotes"""'),
        ('Four """"!', '"""Four \\"\\"""!"""'),
        ("A \\ backslash\\", '"""A \\\\ backslash\\\\"""'),
    ],
)
def test_the_summary_is_the_docstring(
    make_book: MakeBook, summary: str, docstring: str
) -> None:
    root = make_book({"a": page(code("x = 1", "export"), summary=summary)})
    text = modules(load(root))["extracted/a.py"]
    assert text.split("\n")[1] == docstring
    assert ast.get_docstring(ast.parse(text)) == summary


WORDS = st.text(st.sampled_from("ab\"'\\ .é"), min_size=1).filter(str.strip)


@given(st.lists(WORDS, min_size=1, max_size=40).map(" ".join))
def test_any_summary_is_a_docstring_in_short_lines(summary: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        text = page(code("x = 1", "export"), summary=summary)
        module = modules(load(write_book(Path(folder), {"a": text})))["extracted/a.py"]
    docstring = ast.get_docstring(ast.parse(module))
    assert docstring is not None
    assert docstring.split() == summary.split()
    longest = max(len(word) for word in summary.split())
    assert all(len(line) <= max(88, 2 * longest + 6) for line in module.split("\n"))


def test_two_cells_that_begin_with_the_same_name_get_two_markers(
    make_book: MakeBook,
) -> None:
    imports = [code("import os", "export"), code("import re", "export")]
    module = modules(load(make_book({"a": page(*imports)})))["extracted/a.py"]
    assert "# %% book/a.md#imports\n" in module
    assert "# %% book/a.md#imports-2\n" in module


def test_an_exported_cell_that_uses_a_name_its_module_lacks(
    make_book: MakeBook,
) -> None:
    text = page(
        code("import math"),
        code("x = 1\n\n\ndef area(r):\n    return math.pi * r * helper(r)", "export"),
    )
    root = make_book({"a": text})
    hint = "hint: tag the cell that defines it, or import it in an exported cell"
    assert refusal(lambda: tangle(load(root))) == [
        "book/a.md:16: error: 'helper' is neither defined nor imported by the module\n"
        + hint,
        "book/a.md:16: error: 'math' is neither defined nor imported by the module\n"
        + hint,
    ]
    assert not (root / "extracted").exists()


def test_cells_that_make_no_module_together(make_book: MakeBook) -> None:
    later = code("from __future__ import annotations", "export")
    root = make_book({"a": page(code("x = 1", "export"), later)})
    [problem] = refusal(lambda: tangle(load(root)))
    assert problem.startswith(
        "book/a.md:16: error: the exported cells make no valid module: from __future__"
    )


def test_check_shows_the_difference_and_writes_nothing(
    root: Path, make_book: MakeBook
) -> None:
    tangle(load(root))
    before = (root / "extracted/part/circle.py").read_bytes()
    make_book({"part/circle": CIRCLE.replace("r**2", "r * r")})
    [problem] = refusal(lambda: tangle(load(root), check=True))
    head, *diff, hint = problem.split("\n")
    assert head == "extracted/part/circle.py: error: differs from the book"
    assert hint == "hint: run `bookbuild tangle`"
    assert "-    return math.pi * r**2" in diff
    assert "+    return math.pi * r * r" in diff
    assert (root / "extracted/part/circle.py").read_bytes() == before


def test_check_names_a_missing_module(root: Path) -> None:
    assert refusal(lambda: tangle(load(root), check=True)) == [
        f"extracted/{path}: error: is missing\nhint: run `bookbuild tangle`"
        for path in ("__init__.py", "part/__init__.py", "part/circle.py", "py.typed")
    ]


def test_a_module_edited_by_hand_is_not_overwritten(root: Path) -> None:
    tangle(load(root))
    module = root / "extracted/part/circle.py"
    edited = module.read_text().replace("r**2", "r * r")
    module.write_text(edited)
    assert refusal(lambda: tangle(load(root))) == [
        "extracted/part/circle.py: error: was edited by hand; tangling would lose the "
        "edit\nhint: `bookbuild adopt extracted/part/circle.py` brings it to its "
        "chapter; `tangle --force` throws it away"
    ]
    [problem] = refusal(lambda: tangle(load(root), check=True))
    assert problem.startswith("extracted/part/circle.py: error: was edited by hand\n")
    adopt = "`bookbuild adopt extracted/part/circle.py`"
    assert problem.endswith(f"\nhint: {adopt} brings the edit to its chapter")
    assert module.read_text() == edited
    assert tangle(load(root), force=True) == ["extracted/part/circle.py"]
    assert module.read_text().endswith(MODULE)


@pytest.mark.parametrize("text", [b"mine = 1\n", b"\xff\xfe", b"# Generated from x\n"])
def test_a_file_of_somebody_else_is_not_overwritten(root: Path, text: bytes) -> None:
    module = root / "extracted/part/circle.py"
    module.parent.mkdir(parents=True)
    module.write_bytes(text)
    [problem] = refusal(lambda: tangle(load(root)))
    assert problem.startswith("extracted/part/circle.py: error: was edited by hand;")
    assert module.read_bytes() == text


def test_windows_line_ends_in_a_module_are_no_drift(root: Path) -> None:
    tangle(load(root))
    module = root / "extracted/part/circle.py"
    module.write_bytes(module.read_bytes().replace(b"\n", b"\r\n"))
    assert tangle(load(root), check=True) == []


def test_the_module_of_a_deleted_chapter_goes(root: Path, make_book: MakeBook) -> None:
    make_book({"part/old": page(code("x = 1", "export"))}, ["part/circle", "part/old"])
    tangle(load(root))
    (root / "book/part/old.md").unlink()
    make_book({}, ["part/circle"])
    assert refusal(lambda: tangle(load(root), check=True)) == [
        "extracted/part/old.py: error: no chapter makes this module\n"
        "hint: `bookbuild tangle` deletes it"
    ]
    assert tangle(load(root)) == ["extracted/part/old.py"]
    assert not (root / "extracted/part/old.py").exists()


def test_an_orphan_that_was_edited_stays_unless_forced(root: Path) -> None:
    tangle(load(root))
    orphan = root / "extracted/part/extra.py"
    orphan.write_text("mine = 1\n")
    assert refusal(lambda: tangle(load(root))) == [
        "extracted/part/extra.py: error: no chapter makes this module\n"
        "hint: `bookbuild tangle --force` deletes it"
    ]
    assert orphan.exists()
    assert tangle(load(root), force=True) == ["extracted/part/extra.py"]
    assert not orphan.exists()


def test_a_problem_anywhere_means_that_nothing_is_written(make_book: MakeBook) -> None:
    files = {
        "a": page(code("x = 1", "export")),
        "b": page(code("y = missing", "export")),
    }
    root = make_book(files)
    with pytest.raises(BookError):
        tangle(load(root))
    assert not (root / "extracted").exists()


def test_a_package_that_cannot_be_written(root: Path) -> None:
    (root / "extracted").write_text("a file where the package should be")
    [problem] = refusal(lambda: tangle(load(root)))
    assert "extracted/__init__.py: error: cannot be written: " in problem


def test_the_source_map_leads_from_a_module_to_its_chapter(root: Path) -> None:
    book = load(root)
    tangle(book)
    places = source_map(book)
    circle = "extracted/part/circle.py"
    module = (root / circle).read_text().split("\n")
    text = CIRCLE.split("\n")
    line = module.index("    return TAU * r") + 1
    where = places.locate(circle, line)
    assert where == ("book/part/circle.md", text.index("    return TAU * r") + 1)
    assert places.locate(root / circle, line) == where
    assert places.locate(Path(circle), line) == where
    first = ("book/part/circle.md", text.index("import math") + 1)
    assert places.locate(circle, 1) == first
    end = ("book/part/circle.md", text.index("    return math.pi * r**2") + 1)
    assert (
        places.locate(circle, module.index("# %% book/part/circle.md#TAU") + 1) == end
    )
    assert places.locate(sys.executable, 1) is None
    assert places.locate("extracted/__init__.py", 1) is None
    assert places.locate("tests/test_x.py", 1) is None


BODY = st.lists(
    st.sampled_from(["", "", "    # größe\u2028", "    x = 1", "\t", "    '''a'''"]),
    max_size=6,
)
CELLS = st.lists(st.tuples(BODY, st.booleans(), st.integers(0, 3)), max_size=5)


@settings(max_examples=25)
@given(CELLS, st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", "\ufeff"]))
def test_a_line_of_a_module_is_the_line_of_the_book_that_the_map_names(
    cells: list[tuple[list[str], bool, int]], ends: str, mark: str
) -> None:
    sources = [
        "\n" * blank + "\n".join([f"def f{i}():", *body, f"    return {i}"])
        for i, (body, _, blank) in enumerate(cells)
    ]
    pieces = [
        code(source, ["export"] if exported else [])
        for source, (_, exported, _) in zip(sources, cells)
    ]
    text = page(*pieces, summary="A long summary. " * 9)
    with tempfile.TemporaryDirectory() as folder:
        files = {"part/a": (mark + text.replace("\n", ends)).encode()}
        book = load(write_book(Path(folder), files))
        module = modules(book).get("extracted/part/a.py", "").split("\n")
        chapter = book.chapter("part/a").text.split("\n")
    places = source_map(book)
    mapped = 0
    for number, line in enumerate(module, 1):
        where = places.locate("extracted/part/a.py", number)
        if where and line.strip() and not line.startswith(("# ", '"""', "A long")):
            assert chapter[where[1] - 1] == line or number < 8
            mapped += chapter[where[1] - 1] == line
    assert mapped >= 2 * sum(exported for _, exported, _ in cells)
