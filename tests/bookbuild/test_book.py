"""The table of contents, the graph of chapters, and what `load` refuses."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from books import code, contents, page, refusal

from bookbuild.book import Book, Part, find_root, load
from bookbuild.errors import ConfigError

MakeBook = Callable[..., Path]

TOC = """\
format: jb-book
root: index
parts:
  - caption: First steps
    chapters:
      - file: first/words
      - file: first/counts.md
        sections:
          - file: first/details
  - chapters:
      - file: second/model
"""

BOOK = {
    "first/words": page(code("def split(text): return text.split()", "export")),
    "first/counts": page(
        code("from extracted.first.words import split", "export"),
        code("def count(text): return len(split(text))", "export"),
        produces=["table"],
    ),
    "first/details": page("No code."),
    "second/model": page(
        code("import extracted.first.counts as counts\nprint(counts.count('a'))"),
        code("from extracted.second.model import run", "hide-input"),
        code("def run(): pass", "export"),
        needs=["table"],
    ),
}


@pytest.fixture
def book(make_book: MakeBook) -> Book:
    return load(make_book(BOOK, TOC))


def test_chapters_stand_in_reading_order_the_root_page_first(book: Book) -> None:
    assert [chapter.name for chapter in book.chapters] == [
        "index",
        "first/words",
        "first/counts",
        "first/details",
        "second/model",
    ]
    assert book.parts == (
        Part("First steps", ("first/words", "first/counts", "first/details")),
        Part("", ("second/model",)),
    )
    assert book.part("first/details") == book.parts[0]
    assert book.part("index") is None


def test_folders(book: Book) -> None:
    assert book.build == book.root / "_build"
    assert book.package == book.root / "extracted"
    assert book.golden == book.root / "tests" / "golden"


@pytest.mark.parametrize(
    "name",
    ["first/words", "book/first/words.md", "./book/first/words.md", "first\\words"],
)
def test_a_chapter_is_found_by_name_or_path(book: Book, name: str) -> None:
    assert book.chapter(name).name == "first/words"


def test_an_unknown_chapter_gets_a_hint(book: Book) -> None:
    assert refusal(lambda: book.chapter("first/word")) == [
        "_toc.yml: error: no chapter 'first/word'\nhint: did you mean 'first/words'?"
    ]
    with pytest.raises(ConfigError, match=r"hint: _toc\.yml lists them"):
        book.chapter("zzz")


def test_select_takes_chapters_with_code_or_those_named(book: Book) -> None:
    code_chapters = ["first/words", "first/counts", "second/model"]
    assert [chapter.name for chapter in book.select()] == code_chapters
    chosen = book.select(["second/model", "book/first/words.md"])
    assert [chapter.name for chapter in chosen] == ["first/words", "second/model"]


def test_imports_are_direct_and_dependencies_follow_exported_code(book: Book) -> None:
    assert book.imports("second/model") == ("first/counts", "second/model")
    assert book.dependencies("second/model") == ("first/words", "first/counts")
    assert book.imports("first/counts") == ("first/words",)
    assert book.dependencies("first/words") == ()


def test_dependencies_do_not_follow_cells_that_are_not_exported(
    make_book: MakeBook,
) -> None:
    files = {
        "a": page(code("x = 1", "export")),
        "b": page(code("from extracted.a import x"), code("y = 1", "export")),
        "c": page(code("from extracted.b import y")),
    }
    assert load(make_book(files)).dependencies("c") == ("b",)


def test_uses_know_name_cell_and_line(book: Book) -> None:
    [use] = book.uses("first/counts")
    assert (use.chapter, use.name, use.line) == ("first/words", "split", 14)
    assert use.cell.exported
    text = book.chapter("first/counts").text.split("\n")
    assert text[use.line - 1] == "from extracted.first.words import split"


def test_a_cell_that_must_fail_to_parse_has_no_imports(make_book: MakeBook) -> None:
    text = page(code("from extracted.a import = x", "raises-exception"))
    assert load(make_book({"a": text})).imports("a") == ()


def test_the_producer_of_a_checkpoint(book: Book) -> None:
    assert book.producer("table") == "first/counts"


def test_find_root_climbs(make_book: MakeBook, tmp_path: Path) -> None:
    root = make_book(BOOK, TOC)
    assert find_root(root / "book" / "first") == root
    (tmp_path / "elsewhere").mkdir()
    assert refusal(lambda: find_root(tmp_path / "elsewhere")) == [
        f"{(tmp_path / 'elsewhere').as_posix()}: error: not inside a book\n"
        "hint: go to the folder that has _toc.yml, or name it with --root"
    ]


def loading(root: Path) -> list[str]:
    return refusal(lambda: load(root))


@pytest.mark.parametrize(
    ("toc", "message"),
    [
        ("a: b: c\n", ":1: error: not YAML: mapping values are not allowed here"),
        ("format: jb-book\nroot: [\n", ":3: error: not YAML: "),
        ("", ":1: error: names no root page\nhint: start it with `format: jb-book`"),
        ("- a\n", ":1: error: names no root page"),
        ("root: 3\n", ":1: error: names no root page"),
    ],
)
def test_a_malformed_table_of_contents(
    make_book: MakeBook, toc: str, message: str
) -> None:
    root = make_book({}, toc)
    with pytest.raises(ConfigError) as refused:
        load(root)
    assert str(refused.value).startswith("_toc.yml" + message)


def test_a_table_of_contents_that_cannot_be_read(
    make_book: MakeBook, tmp_path: Path
) -> None:
    root = make_book({})
    (root / "_toc.yml").write_bytes(b"root: \xe9")
    assert loading(root) == ["_toc.yml: error: not UTF-8\nhint: save it as UTF-8"]
    (root / "_toc.yml").unlink()
    [problem] = loading(root)
    assert problem.startswith("_toc.yml: error: cannot be read: ")


def test_a_chapter_missing_from_the_table_of_contents(make_book: MakeBook) -> None:
    root = make_book({"a/b": page(), "a/_draft": page(), ".notes/c": page()}, [])
    assert loading(root) == [
        "book/a/b.md: error: is missing from _toc.yml\n"
        "hint: add `- file: a/b` where it belongs"
    ]


def test_an_entry_without_a_file(make_book: MakeBook) -> None:
    root = make_book({"part/words": page()}, ["part/words", "part/wordz", "zzz"])
    assert loading(root) == [
        "_toc.yml:7: error: no file book/part/wordz.md\n"
        "hint: did you mean 'part/words'?",
        "_toc.yml:8: error: no file book/zzz.md\n"
        "hint: write book/zzz.md or delete the entry",
    ]


def test_an_entry_that_stands_twice(make_book: MakeBook) -> None:
    root = make_book({"a": page()}, ["a", "a"])
    assert loading(root) == [
        "_toc.yml:7: error: 'a' stands here and at line 6\nhint: keep one of the two"
    ]


def test_a_path_outside_the_book(make_book: MakeBook, tmp_path: Path) -> None:
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "README.md").write_text("# Outside\n")
    absolute = (tmp_path / "repository" / "README").as_posix()
    root = make_book({}, ["../README", absolute])
    assert loading(root) == [
        "_toc.yml:6: error: '../README' lies outside book/",
        f"_toc.yml:7: error: {absolute!r} lies outside book/",
    ]


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege")
def test_a_link_that_leads_outside_the_book(
    make_book: MakeBook, tmp_path: Path
) -> None:
    (tmp_path / "secret.md").write_text("# Outside\n")
    root = make_book({}, ["link"])
    (root / "book" / "link.md").symlink_to(tmp_path / "secret.md")
    assert loading(root) == ["_toc.yml:6: error: 'link' lies outside book/"]


def test_an_entry_must_be_a_plain_path(make_book: MakeBook) -> None:
    root = make_book({"a/b": page()}, ["a/../a/b"])
    assert loading(root)[0] == (
        "_toc.yml:6: error: 'a/../a/b' is not a plain path\n"
        "hint: write the path from book/, with / between folders"
    )


def test_a_chapter_that_cannot_be_read(
    make_book: MakeBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_book({"a": page()})
    usual = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "a.md":
            raise PermissionError(13, "Permission denied")
        return usual(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert loading(root) == ["book/a.md: error: cannot be read: Permission denied"]


def test_the_problems_of_all_files_come_together(make_book: MakeBook) -> None:
    root = make_book({"a": "text\n", "b": "\ufeff", "c": page()}, ["a", "b", "zzz"])
    assert [problem.split(": error: ")[0] for problem in loading(root)] == [
        "_toc.yml:8",
        "book/a.md:1",
        "book/b.md:1",
        "book/c.md",
    ]


def test_pages_may_have_spaces_and_unicode_in_their_names(make_book: MakeBook) -> None:
    names = ["erster Teil/größe und maß", "第二/章"]
    toc = "\ufeff" + contents(names).replace("\n", "\r\n")
    book = load(make_book({name: page(code("x = 1")) for name in names}, toc))
    assert [chapter.name for chapter in book.chapters] == ["index", *names]
