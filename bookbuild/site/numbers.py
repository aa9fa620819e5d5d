"""Numbers of chapters, figures, equations and exercises, as Sphinx gives them."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import yaml

from bookbuild.book import TOC, Book, Part
from bookbuild.chapter import Chapter

LABEL = re.compile(r"^\(([^)\s]+)\)=\s*$")
DIRECTIVE = re.compile(r"^\s*(?:`{3,}|:{3,})\{([\w:-]+)\}\s*(.*?)\s*$")
OPTION = re.compile(r"^\s*:(label|name):\s*(\S+)\s*$")
EQUATION = re.compile(r"^\$\$\s*\(([\w:-]+)\)\s*$")
KINDS = {
    "figure": "Figure",
    "math": "",
    "exercise": "Exercise",
    "exercise-start": "Exercise",
}


@dataclass(frozen=True)
class Target:
    """What a label points to: the chapter, a kind of thing, its number and title."""

    chapter: str
    kind: str
    number: str = ""
    title: str = ""


def chapter_numbers(book: Book) -> dict[str, str]:
    """The number of each chapter in a numbered part; they run on through the parts."""
    return _numbers((book.root / TOC).read_text(encoding="utf-8-sig"), book.parts)


@lru_cache(maxsize=2)
def _numbers(text: str, parts: tuple[Part, ...]) -> dict[str, str]:
    toc = yaml.safe_load(text)
    default = (toc.get("defaults") or {}).get("numbered", False)
    numbered = {
        str(part.get("caption", "")): part.get("numbered", default)
        for part in toc.get("parts") or []
        if isinstance(part, dict)
    }
    numbers: dict[str, str] = {}
    for part in parts:
        if numbered.get(part.caption, default):
            for name in part.names:
                numbers[name] = str(len(numbers) + 1)
    return numbers


def targets(book: Book) -> dict[str, Target]:
    """Every label of the book that a reference may name."""
    found: dict[str, Target] = {}
    for chapter in book.chapters:
        _collect(chapter, chapter_numbers(book).get(chapter.name, ""), found)
    return found


def _collect(chapter: Chapter, prefix: str, found: dict[str, Target]) -> None:
    counts: Counter[str] = Counter()

    def number(kind: str) -> str:
        counts[kind] += 1
        return f"{prefix}.{counts[kind]}" if prefix else str(counts[kind])

    for cell in chapter.cells:
        if cell.kind == "code":
            figure = (cell.metadata.get("mystnb") or {}).get("figure")
            if figure:
                target = Target(
                    chapter.name, "Figure", number("Figure"), figure.get("caption", "")
                )
                found[str(figure.get("name", ""))] = target
            continue
        waiting, current, argument = "", "", ""
        for line in cell.source.split("\n"):
            if match := LABEL.match(line):
                waiting = match[1]
            elif match := DIRECTIVE.match(line):
                current, argument = KINDS.get(match[1], "-"), match[2]
            elif (match := OPTION.match(line)) and current != "-":
                title = argument if current == "Exercise" else ""
                found[match[2]] = Target(chapter.name, current, number(current), title)
                current = "-"
            elif match := EQUATION.match(line):
                found[match[1]] = Target(chapter.name, "", number(""))
            elif waiting and (match := re.match(r"^(#+)\s+(.*?)\s*$", line)):
                own = prefix if len(match[1]) == 1 else ""
                found[waiting] = Target(chapter.name, "section", own, match[2])
                waiting = ""
            elif line.strip():
                waiting = ""
