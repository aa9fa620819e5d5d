"""The real book: what its chapters, its README and its references promise each other.

`python tests/test_book.py` writes the README's table of chapters.
"""

import re
from pathlib import Path

import pytest

from bookbuild.book import Book, load
from bookbuild.cli import main
from bookbuild.exercise import exercises, self_check

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TABLE = re.compile(r"(<!-- chapters: .*? -->\n).*(<!-- end of chapters -->)", re.DOTALL)


@pytest.fixture(scope="module")
def book() -> Book:
    return load(ROOT)


def chapter_table(book: Book) -> str:
    """The README's table: every page of every part with its summary."""
    rows = ["", "| Part | Chapter | |", "|---|---|---|"]
    for part in book.parts:
        for position, name in enumerate(part.names):
            chapter = book.chapter(name)
            caption = part.caption if position == 0 else ""
            title = f"[{chapter.title}]({chapter.source})"
            rows.append(f"| {caption} | {title} | {chapter.summary} |")
    return "\n".join([*rows, "", ""])


def test_the_book_has_nothing_to_mend(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(ROOT), "check"]) == 0, capsys.readouterr().err


def test_every_solution_passes_and_every_starter_fails(book: Book) -> None:
    assert exercises(book)
    assert [str(problem) for problem in self_check(book)] == []


def test_the_readme_lists_the_chapters(book: Book) -> None:
    found = TABLE.search(README.read_text(encoding="utf-8"))
    assert found
    expected = f"{found[1]}{chapter_table(book)}{found[2]}"
    assert found[0] == expected, "run: python tests/test_book.py"


def test_what_the_readme_calls_planned_is_not_written(book: Book) -> None:
    readme = README.read_text(encoding="utf-8")
    planned = readme.split("### Planned")[1].split("\n## ")[0]
    names = set(re.findall(r"`(\w+)`", planned))
    assert names
    assert names.isdisjoint(chapter.name.split("/")[-1] for chapter in book.chapters)


def test_every_cited_key_is_in_the_bibliography(book: Book) -> None:
    bibliography = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    known = set(re.findall(r"@\w+\{(\S+),", bibliography))
    text = "\n".join(chapter.text for chapter in book.chapters)
    cited = re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text)
    keys = {key.strip() for group in cited for key in group.split(",")}
    assert keys
    assert keys <= known


def test_every_chapter_has_a_reference(book: Book) -> None:
    for chapter in book.select():
        assert (book.golden / f"{chapter.name}.ipynb").is_file(), chapter.name


def test_every_module_has_tests(book: Book) -> None:
    for chapter in book.chapters:
        if chapter.module:
            part, _, name = chapter.name.rpartition("/")
            test = ROOT / "tests" / "extracted" / part / f"test_{name}.py"
            assert test.is_file(), test


def test_chapters_say_what_they_are_and_what_they_take(book: Book) -> None:
    for chapter in book.select():
        assert chapter.summary.endswith("."), chapter.source
        assert "minutes" in chapter.metadata["chapter"], chapter.source
        label = f"(chapter-{chapter.name.split('/')[-1]})="
        assert label in chapter.text, f"{chapter.source} lacks {label}"


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    table = chapter_table(load(ROOT))
    new = TABLE.sub(lambda found: f"{found[1]}{table}{found[2]}", text)
    README.write_bytes(new.encode())
