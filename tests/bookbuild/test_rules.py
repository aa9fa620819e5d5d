"""What must hold between chapters; each broken rule names its line and the remedy."""

from collections.abc import Callable
from pathlib import Path

import pytest
from books import code, page, refusal

from bookbuild.book import load

MakeBook = Callable[..., Path]
ORDER = (
    "\nhint: reading order is import order: move the chapter in _toc.yml, or the code"
)


@pytest.fixture
def problems(make_book: MakeBook) -> Callable[[dict[str, str]], list[str]]:
    return lambda files: refusal(lambda: load(make_book(files)))


Problems = Callable[[dict[str, str]], list[str]]


def export(source: str) -> str:
    """A chapter whose only cell, with its source at line 8, is exported."""
    return page(code(source, "export"))


def test_a_name_exported_twice_in_a_chapter(problems: Problems) -> None:
    text = page(code("def f(): ...", "export"), code("f = 1", "export"))
    assert problems({"a": text}) == [
        "book/a.md:16: error: 'f' is exported twice: at line 8 and here\n"
        "hint: export one of the two; tag no naive version, or rename it"
    ]


def test_a_name_exported_twice_in_a_cell(problems: Problems) -> None:
    [problem] = problems({"a": export("x = 1\nx = 2")})
    assert problem.startswith("book/a.md:9: error: 'x' is exported twice: at line 8")


def test_a_definition_may_not_hide_an_import(problems: Problems) -> None:
    [problem] = problems({"a": export("import math\nmath = 1")})
    assert "'math' is exported twice" in problem


def test_the_same_import_may_stand_in_several_cells(make_book: MakeBook) -> None:
    cell = code("import math\nfrom os import path", "export")
    load(make_book({"a": page(cell, cell)}))


def test_a_naive_version_without_the_tag_may_have_the_same_name(
    make_book: MakeBook,
) -> None:
    load(make_book({"a": page(code("x = 1"), code("x = 2", "export"), code("x = 3"))}))


def test_a_name_exported_by_two_chapters_of_a_part(
    problems: Problems, make_book: MakeBook
) -> None:
    assert problems(
        {"p/a": export("class Model: ..."), "p/b": export("Model = 1")}
    ) == [
        "book/p/b.md:8: error: 'Model' is already exported at book/p/a.md:8\n"
        "hint: import it from there, or choose another name"
    ]
    other = {
        "p/a": export("class Model: ...\n_private = 1"),
        "p/b": export("from extracted.p.a import Model\n_private = 2"),
        "q/a": export("class Model: ..."),
    }
    load(make_book(other))


def test_an_import_from_a_later_chapter(problems: Problems) -> None:
    files = {"a": page(code("from extracted.b import x")), "b": export("x = 1")}
    assert problems(files) == [
        "book/a.md:4: error: imports from a later chapter, b" + ORDER
    ]


def test_a_cycle(problems: Problems) -> None:
    files = {
        "a": export("from extracted.b import y\nx = 1"),
        "b": export("from extracted.a import x\ny = 1"),
    }
    assert problems(files) == [
        "book/a.md:8: error: imports from a later chapter, b; a cycle: a → b → a"
        + ORDER
    ]


def test_a_longer_cycle(problems: Problems) -> None:
    files = {
        "a": export("from extracted.c import z\nx = 1"),
        "b": export("from extracted.a import x\ny = 1"),
        "c": export("from extracted.b import y\nz = 1"),
    }
    [problem] = problems(files)
    assert "imports from a later chapter, c; a cycle: a → c → a" in problem


def test_an_import_of_a_name_that_is_not_exported(problems: Problems) -> None:
    files = {
        "a": export("def attention(): ..."),
        "b": page(code("from extracted.a import attenton")),
        "c": page(code("from extracted.a import zzz, attention")),
    }
    assert problems(files) == [
        "book/b.md:4: error: book/a.md exports no 'attenton'\n"
        "hint: did you mean 'attention'?",
        "book/c.md:4: error: book/a.md exports no 'zzz'",
    ]


@pytest.mark.parametrize(
    ("statement", "module"),
    [
        ("import extracted.part.modle", "extracted.part.modle"),
        ("from extracted.part.modle import x", "extracted.part.modle"),
        ("from extracted.part.prose import x", "extracted.part.prose"),
        ("from extracted.part import prose", "extracted.part.prose"),
        ("import extracted.part.prose", "extracted.part.prose"),
    ],
)
def test_an_import_of_a_module_that_no_chapter_makes(
    problems: Problems, statement: str, module: str
) -> None:
    files = {
        "part/model": export("x = 1"),
        "part/prose": page(),
        "part/z": page(code(statement)),
    }
    [problem] = problems(files)
    message = f"book/part/z.md:4: error: no chapter makes the module {module}"
    assert problem.startswith(message)
    if module.endswith("modle"):
        assert problem.endswith("hint: did you mean 'extracted.part.model'?")


def test_every_form_of_import_is_understood(make_book: MakeBook) -> None:
    statements = [
        "from extracted.p.a import x",
        "from extracted.p.a import x as y",
        "import extracted.p.a",
        "import extracted.p.a as a, os",
        "from extracted.p import a",
        "def later():\n    from extracted.p.a import x",
        "from extracted.p.a import *",
        "%time from extracted.zzz import hidden_in_a_magic",
    ]
    files = {"p/a": export("x = 1"), "p/b": page(*map(code, statements))}
    book = load(make_book(files))
    assert book.imports("p/b") == ("p/a",)
    assert len(book.uses("p/b")) == 7


def test_a_module_that_imports_itself(problems: Problems) -> None:
    assert problems({"a": export("from extracted.a import x\nx = 1")})[0] == (
        "book/a.md:8: error: the module imports itself\nhint: delete this line"
    )


def test_a_star_import_in_an_exported_cell(problems: Problems) -> None:
    assert problems({"a": export("from math import *")}) == [
        "book/a.md:8: error: an exported cell imports * from math\n"
        "hint: name what you import: a reader must see where a name is from"
    ]


@pytest.mark.parametrize(
    ("name", "piece", "better"),
    [
        ("part/my model", "my model", "my_model"),
        ("my part/model", "my part", "my_part"),
        ("part/3d", "3d", "chapter_3d"),
        ("part/class", "class", "class_"),
        ("part/ﬁne", "ﬁne", "fine"),
        ("part/__init__", "__init__", "init"),
        ("part/a-b", "a-b", "a_b"),
    ],
)
def test_a_chapter_that_exports_needs_the_name_of_a_module(
    problems: Problems, make_book: MakeBook, name: str, piece: str, better: str
) -> None:
    assert problems({name: export("x = 1")}) == [
        f"book/{name}.md:8: error: exports code, but {piece!r} cannot be the name of a "
        f"module\nhint: rename it to {better!r}"
    ]


def test_a_module_may_have_a_unicode_name(make_book: MakeBook) -> None:
    book = load(make_book({"teil/größe": export("x = 1")}))
    assert book.chapters[1].dotted == "extracted.teil.größe"


def test_a_chapter_named_like_a_folder_of_modules(problems: Problems) -> None:
    assert problems({"part": export("x = 1"), "part/deep/a": export("y = 1")}) == [
        "book/part.md:8: error: exports code, but extracted/part/ is a package\n"
        "hint: rename the chapter or the folder of the same name"
    ]


def test_checkpoints_flow_forward(problems: Problems) -> None:
    files = {
        "a": page(needs=["story"], summary="First."),
        "b": page(produces=["story", "tokens"]),
        "c": page(needs=["token"], produces=["story"]),
    }
    assert problems(files) == [
        "book/a.md:3: error: no earlier chapter produces the checkpoint 'story'",
        "book/c.md:3: error: no earlier chapter produces the checkpoint 'token'\n"
        "hint: did you mean 'tokens'?",
        "book/c.md:5: error: checkpoint 'story' is produced by b already\n"
        "hint: choose another name",
    ]


def test_a_missing_data_file(problems: Problems, make_book: MakeBook) -> None:
    files = {"a": page(summary="Data.", data=["runs/x.json"])}
    assert problems(files) == [
        "book/a.md:3: error: no file runs/x.json\n"
        "hint: paths are relative to the root of the repository"
    ]
    root = make_book(files)
    (root / "runs").mkdir()
    (root / "runs" / "x.json").touch()
    assert load(root).chapters[1].data == ("runs/x.json",)
