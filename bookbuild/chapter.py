"""Parse a chapter: front matter, title, and its cells with the lines they start at."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from jupytext.myst import get_parser
from mdit_py_plugins.colon_fence import colon_fence_plugin

from bookbuild.cell import OPTIONS, TAGS, Cell, read_code
from bookbuild.errors import BookError, Problem, did_you_mean

__all__ = ["OPTIONS", "TAGS", "VERBATIM", "Cell", "Chapter", "parse", "read"]

FRONT_MATTER = frozenset({"summary", "minutes", "produces", "needs", "data"})
DIRECTIVE = "{code-cell}"
VERBATIM = frozenset({"{code}", "{code-block}", "{raw}", "{literalinclude}"})


@dataclass(frozen=True)
class Chapter:
    """A page; one with code cells is executed, one that exports makes a module."""

    name: str
    path: Path
    text: str
    title: str
    cells: tuple[Cell, ...]
    metadata: Mapping[str, Any]
    summary: str = ""
    minutes: float = 1.0
    produces: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    data: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        return f"book/{self.name}.md"

    @property
    def code_cells(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.cells if cell.kind == "code")

    @property
    def exported(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.cells if cell.exported)

    @property
    def module(self) -> str | None:
        """Path of the module below the package, None when nothing is exported."""
        return f"{self.name}.py" if self.exported else None

    @property
    def dotted(self) -> str:
        return "extracted." + self.name.replace("/", ".")

    def line_of(self, key: str) -> int:
        """The line of the front matter that sets `key`."""
        return _line_of(self.text.split("\n"), key)


def _line_of(lines: list[str], key: str) -> int:
    pattern = re.compile(rf"(^|[\s{{,'\"]){re.escape(key)}['\"]?\s*:")
    return next((n for n, line in enumerate(lines, 1) if pattern.search(line)), 1)


def read(path: Path, name: str) -> Chapter:
    """Parse the file at `path`; a byte order mark and any line ends are accepted."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        problem = Problem(f"book/{name}.md", line, "not UTF-8", "save it as UTF-8")
        raise BookError(problem) from error
    return parse(text.replace("\r\n", "\n").replace("\r", "\n"), name, path)


def parse(text: str, name: str, path: Path) -> Chapter:
    """The chapter that `text` holds; lines end in LF.

    Raises `BookError` with all the problems of the file.
    """
    reader = _Reader(text, f"book/{name}.md")
    if not text.strip():
        reader.report(1, "the chapter is empty", "start it with a title: # Title")
        raise BookError(*reader.problems)
    tokens = get_parser().use(colon_fence_plugin).parse(text + "\n")
    front: dict[str, Any] = {}
    start = 0
    if tokens and tokens[0].type == "front_matter":
        front = reader.front_matter(tokens[0].content)
        start = tokens[0].map[1]
    elif text.startswith("---\n"):
        reader.report(1, "the front matter is never closed", "end it with a line ---")
    settings = reader.settings(front)
    cells = tuple(reader.cells(tokens, start))
    title = reader.title(tokens)
    if reader.problems:
        raise BookError(*reader.problems)
    return Chapter(name, path, text, title, cells, front, **settings)


class _Reader:
    """Collects the problems of one file while it is read."""

    def __init__(self, text: str, where: str) -> None:
        self.lines = text.split("\n")
        self.where = where
        self.problems: list[Problem] = []

    def report(self, line: int, message: str, hint: str = "", column: int = 0) -> None:
        self.problems.append(Problem(self.where, line, message, hint, column))

    def front_matter(self, content: str) -> dict[str, Any]:
        try:
            front = yaml.safe_load(content)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line, column = (mark.line + 2, mark.column + 1) if mark else (1, 0)
            what = getattr(error, "problem", None) or str(error)
            self.report(line, f"front matter is not YAML: {what}", column=column)
            return {}
        if front is None:
            return {}
        if not isinstance(front, dict):
            self.report(2, "front matter is not a mapping", "write it as key: value")
            return {}
        return front

    def settings(self, front: dict[str, Any]) -> dict[str, Any]:
        chapter = front.get("chapter") or {}
        if not isinstance(chapter, dict):
            line = _line_of(self.lines, "chapter")
            hint = "indent summary:, minutes: … below it"
            self.report(line, "chapter: is not a mapping", hint)
            return {}
        settings: dict[str, Any] = {}
        for key, value in chapter.items():
            line = _line_of(self.lines, str(key))
            if key not in FRONT_MATTER:
                known = "known: " + ", ".join(sorted(FRONT_MATTER))
                hint = did_you_mean(str(key), FRONT_MATTER, known)
                self.report(line, f"unknown key {key!r} under chapter:", hint)
            elif key == "summary":
                self.summary(line, value, settings)
            elif key == "minutes":
                self.minutes(line, value, settings)
            elif isinstance(value, list) and all(isinstance(v, str) for v in value):
                settings[key] = tuple(value)
            else:
                hint = f"write {key}: [name]"
                self.report(line, f"{key} is not a list of names", hint)
        return settings

    def summary(self, line: int, value: object, settings: dict[str, Any]) -> None:
        if isinstance(value, str) and value.strip():
            settings["summary"] = " ".join(value.split())
        else:
            hint = "write one sentence, in quotes when it holds a colon"
            self.report(line, "summary is not a sentence", hint)

    def minutes(self, line: int, value: object, settings: dict[str, Any]) -> None:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if number and 0 < value < float("inf"):  # type: ignore[operator]
            settings["minutes"] = float(value)  # type: ignore[arg-type]
        else:
            self.report(line, f"minutes is {value!r}", "give a positive number")

    def cells(self, tokens: list[Any], start: int) -> Iterator[Cell]:
        index = 0
        level = 0
        for token in tokens:
            level += token.nesting
            if token.type not in ("fence", "colon_fence"):
                continue
            first, end = token.map
            self.fence(token)
            if not token.info.strip().startswith(DIRECTIVE):
                continue
            if level or token.type == "colon_fence":
                message = "a code cell in a list, a quotation or ::: is not executed"
                self.report(first + 1, message, "start its fence ``` at the margin")
                continue
            for cell in self.markdown(index, start, first):
                yield cell
                index += 1
            yield read_code(index, token.content, first + 1, self.report)
            index += 1
            start = end
        yield from self.markdown(index, start, len(self.lines))

    def markdown(self, index: int, start: int, end: int) -> Iterator[Cell]:
        while start < end and not self.lines[start].strip():
            start += 1
        source = "\n".join(self.lines[start:end]).rstrip()
        if source:
            yield Cell(index, "markdown", source, start + 1)

    def fence(self, token: Any) -> None:
        """Report a fence that never ends or ends too late, and hidden code cells."""
        first, end = token.map
        close = self.lines[end - 1].strip(" \t>") if end <= len(self.lines) else ""
        closed = len(close) >= len(token.markup) and set(close) == {token.markup[0]}
        hint = f"close it with a line {token.markup}"
        if end - 1 == first or not closed:
            self.report(first + 1, "this fence is never closed", hint)
            return
        directive = re.match(r"\s*(\{[^}\s]+\})", token.info)
        if not directive or directive[1] in VERBATIM:
            return
        for line, text in enumerate(token.content.split("\n"), first + 2):
            inner = re.match(r"\s*(`{3,}|:{3,}|~{3,})(\{[^}\s]+\})", text)
            if inner and inner[2] == DIRECTIVE and directive[1] != DIRECTIVE:
                message = f"a code cell inside {directive[1]} is not executed"
                gated = "use the gated form: exercise-start … exercise-end"
                self.report(line, message, gated)
            elif inner and inner[1].startswith(token.markup):
                message = f"this fence is not closed before the next, at line {line}"
                self.report(first + 1, message, hint)
                return

    def title(self, tokens: list[Any]) -> str:
        """The text of the first heading of the first level."""
        for heading, text in pairwise(tokens):
            if heading.type == "heading_open" and heading.tag == "h1":
                title: str = text.content.strip()
                if title:
                    return title
        self.report(1, "the chapter has no title", "start it with a line: # Title")
        return ""
