"""Check references, links, figures and the width of code; builds nothing."""

import re
from bisect import bisect
from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import unquote

from bookbuild.book import Book
from bookbuild.chapter import VERBATIM, Cell, Chapter
from bookbuild.errors import Problem, did_you_mean

WIDTH = 79
BIBLIOGRAPHY = "book/references.bib"
ENTRY = re.compile(r"^\s*@\w+\{\s*([^,\s]+)\s*,", re.MULTILINE)
LABELS = [
    re.compile(r"\s*\(([^()\s]+)\)=\s*$"),
    re.compile(r"\s*\$\$\s*\(([^()\s]+)\)\s*$"),
    re.compile(r"\s*:(?:label|name):\s*(\S+)\s*$"),
    re.compile(r"\s*`{3,}\{quiz\}\s+(\S+)\s*$"),
]
ROLE = re.compile(r"\{([a-z:]+)\}`([^`]+)`")
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)[^)]*\)")
PICTURE = re.compile(r"\s*(?:`{3,}|:{3,})\{(?:figure|image)\}\s+(\S+)")
GLUED = re.compile(r"glue\(\s*(f?)[\"']([^\"']+)[\"']")
FENCE = re.compile(r"\s*(`{3,}|:{3,}|~{3,})(\{[^}]+\})?")


def check(book: Book) -> list[Problem]:
    """Unknown and duplicate labels, missing files and alt texts, code too wide."""
    prose = {chapter.name: list(prose_lines(chapter)) for chapter in book.chapters}
    labels: dict[str, tuple[str, int]] = {}
    problems: list[Problem] = list(_bibliography(book))
    for chapter in book.chapters:
        for label, line in _labels(chapter, prose[chapter.name]):
            first = labels.setdefault(label, (chapter.source, line))
            if first != (chapter.source, line):
                message = f"label {label!r} is defined at {first[0]}:{first[1]} already"
                hint = "rename one of them"
                problems.append(Problem(chapter.source, line, message, hint))
    known = {
        **{role: set(labels) for role in ("ref", "numref", "eq", "prf:ref")},
        "cite": _keys(book),
        "term": {term for lines in prose.values() for term in _terms(lines)},
    }
    for chapter in book.chapters:
        lines = prose[chapter.name]
        problems.extend(_references(chapter, lines, known))
        problems.extend(_links(book, chapter, lines, known["ref"]))
        problems.extend(_pictures(book, chapter, lines))
        for cell in chapter.code_cells:
            problems.extend(_cell(chapter, cell))
    return problems


def prose_lines(chapter: Chapter) -> Iterator[tuple[int, str]]:
    """Lines of prose with their numbers; blocks of plain code are left out."""
    for cell in chapter.cells:
        if cell.kind != "markdown":
            continue
        inside = ""
        for line, text in enumerate(cell.source.split("\n"), cell.line):
            fence = FENCE.match(text)
            if inside:
                if set(text.strip()) == {inside[0]} and inside in text:
                    inside = ""
            elif fence and _is_plain_code(text, fence):
                inside = fence[1]
            else:
                yield line, text


def _is_plain_code(text: str, fence: re.Match[str]) -> bool:
    """Whether a block of code opens here. A bare line of ticks closes a directive."""
    if fence[2]:
        return fence[2] in VERBATIM
    return fence[1][0] != ":" and bool(text[fence.end() :].strip())


def _labels(
    chapter: Chapter, prose: list[tuple[int, str]]
) -> Iterator[tuple[str, int]]:
    for line, text in prose:
        for pattern in LABELS:
            if found := pattern.match(text):
                yield found[1], line
    for cell in chapter.code_cells:
        if name := mystnb_option(cell, "figure").get("name"):
            yield str(name), cell.line


def mystnb_option(cell: Cell, key: str) -> dict[str, object]:
    mystnb = cell.metadata.get("mystnb")
    value = mystnb.get(key) if isinstance(mystnb, dict) else None
    return value if isinstance(value, dict) else {}


def _terms(prose: list[tuple[int, str]]) -> Iterator[str]:
    """The terms of the glossary: lines at its margin."""
    inside = ""
    for _, text in prose:
        if found := re.match(r"(`{3,}|:{3,})\{glossary\}", text):
            inside = found[1]
        elif inside and text.strip() == inside:
            inside = ""
        elif inside and text[:1].strip() and not text.startswith(":"):
            yield text.strip().lower()


def _references_text(book: Book) -> str:
    file = book.root / BIBLIOGRAPHY
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _keys(book: Book) -> set[str]:
    return {found[1] for found in ENTRY.finditer(_references_text(book))}


def _bibliography(book: Book) -> Iterator[Problem]:
    """Entries that stop the reading of those after them, and what is not printed."""
    lines: dict[str, int] = {}
    for line, text in enumerate(_references_text(book).split("\n"), 1):
        entry = ENTRY.match(text)
        if entry and lines.setdefault(entry[1], line) != line:
            message = f"{entry[1]!r} stands at line {lines[entry[1]]} already"
            yield Problem(BIBLIOGRAPHY, line, message, "keep one of the two")
        if re.search(r"(?<!\\)\$", text):
            message, hint = "a formula here is printed as TeX", "use Unicode, as in n²"
            yield Problem(BIBLIOGRAPHY, line, message, hint)


def _found(
    pattern: re.Pattern[str], prose: list[tuple[int, str]]
) -> Iterator[tuple[int, re.Match[str]]]:
    """Matches in the prose, which may run over line ends, each with its first line."""
    text = "\n".join(text for _, text in prose)
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    for match in pattern.finditer(text):
        yield prose[bisect(starts, match.start()) - 1][0], match


def _references(
    chapter: Chapter, prose: list[tuple[int, str]], known: dict[str, set[str]]
) -> Iterator[Problem]:
    glues = [found for c in chapter.code_cells for found in GLUED.findall(c.source)]
    glued = {name for _, name in glues}
    computed = any(prefix for prefix, _ in glues)
    places = {"cite": " in references.bib", "term": " in the glossary"}
    plain = [(line, re.sub(r"``.*?``", "", text)) for line, text in prose]
    for line, found in _found(ROLE, plain):
        content = " ".join(found[2].split())
        role = "cite" if found[1].startswith("cite:") else found[1]
        if role in ("glue", "glue:text"):
            name = content.split(":")[0]
            if name not in glued and not computed:
                message = f"no cell of this chapter glues {name!r}"
                hint = did_you_mean(name, glued)
                yield Problem(chapter.source, line, message, hint)
        elif role in known:
            target = re.sub(r"^.*<([^<>]+)>$", r"\1", content)
            for name in target.split(",") if role == "cite" else [target]:
                name = name.strip().lower() if role == "term" else name.strip()
                if name not in known[role]:
                    message = f"{{{role}}} names {name!r}, which is not defined"
                    hint = did_you_mean(name, known[role])
                    message += places.get(role, "")
                    yield Problem(chapter.source, line, message, hint)


def _links(
    book: Book, chapter: Chapter, prose: list[tuple[int, str]], labels: set[str]
) -> Iterator[Problem]:
    plain = [(line, re.sub(r"`[^`]*`|\$[^$]*\$", "", text)) for line, text in prose]
    for line, found in _found(LINK, plain):
        picture, text, target = bool(found[1]), found[2], found[3]
        if re.match(r"[a-z]+:", target):
            continue
        if not picture and target.startswith("#"):
            if target[1:] not in labels:
                message = f"a link to {target}, a label that is not defined"
                hint = did_you_mean(target[1:], labels)
                yield Problem(chapter.source, line, message, hint)
        elif not _exists(book, chapter, target):
            message = f"no {'image ' * picture}file {target}"
            yield Problem(chapter.source, line, message, "paths start at the chapter")
        elif picture and not text.strip():
            message = "this image has no alt text"
            yield Problem(chapter.source, line, message, "![what it shows](…)")


def _exists(book: Book, chapter: Chapter, target: str) -> bool:
    base = PurePosixPath("book", chapter.name).parent
    if target.startswith("/"):
        base = PurePosixPath("book")
    file = book.root / base / unquote(target.split("#")[0]).lstrip("/")
    return file.is_file() or file.with_name(file.name + ".md").is_file()


def _pictures(
    book: Book, chapter: Chapter, prose: list[tuple[int, str]]
) -> Iterator[Problem]:
    """The `{figure}` and `{image}` directives: their file and their alt text."""
    for position, (line, text) in enumerate(prose):
        found = PICTURE.match(text)
        if not found or re.match(r"[a-z]+:", found[1]):
            continue
        options = "".join(text for _, text in prose[position + 1 : position + 8])
        if not _exists(book, chapter, found[1]):
            message = f"no image file {found[1]}"
            yield Problem(chapter.source, line, message, "paths start at the chapter")
        elif ":alt:" not in options:
            message = "this image has no alt text"
            yield Problem(chapter.source, line, message, "add :alt: what it shows")


def _cell(chapter: Chapter, cell: Cell) -> Iterator[Problem]:
    for line, text in enumerate(cell.source.split("\n"), cell.line):
        if len(text) > WIDTH:
            message = f"a code line of {len(text)} characters"
            hint = f"{WIDTH} at most, or the printed page clips it"
            yield Problem(chapter.source, line, message, hint)
    if mystnb_option(cell, "figure") and not mystnb_option(cell, "image").get("alt"):
        message, hint = "this figure has no alt text", "add mystnb: image: alt:"
        yield Problem(chapter.source, cell.line, message, hint)
