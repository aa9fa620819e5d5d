"""One cell of a chapter: its source, tags and options, and the line it starts at."""

import ast
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from textwrap import dedent
from typing import Any, Protocol

import yaml

from bookbuild.errors import did_you_mean

TAGS = frozenset(
    {
        "export",
        "hide-input",
        "hide-output",
        "hide-cell",
        "remove-input",
        "remove-output",
        "remove-cell",
        "raises-exception",
        "nbval-ignore-output",
        "starter",
        "solution",
        "grade",
        "scroll-output",
        "full-width",
        "margin",
    }
)
NUMBERS = frozenset({"rtol", "atol", "timeout"})
OPTIONS = NUMBERS | {"tags", "mystnb"}
MAGIC = re.compile(r"^(\s*)[%!].*$", re.MULTILINE)


class Report(Protocol):
    """Takes a problem at a line of the chapter."""

    def __call__(
        self, line: int, message: str, hint: str = "", column: int = 0
    ) -> None: ...


@dataclass(frozen=True)
class Cell:
    """One cell; `line` is the line of the file (from 1) at which `source` starts."""

    index: int
    kind: str
    source: str
    line: int
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exported(self) -> bool:
        return "export" in self.tags

    def tree(self) -> ast.Module:
        """The syntax tree, lines counted within the cell; magics are blanked out.

        An exported cell may hold no magic. Raises `SyntaxError`. It is parsed once: do
        not change the tree.
        """
        return self._tree

    @cached_property
    def _tree(self) -> ast.Module:
        try:
            return ast.parse(self.source)
        except SyntaxError:
            if self.exported or not MAGIC.search(self.source):
                raise
        try:
            return ast.parse(MAGIC.sub(r"\1pass", self.source))
        except SyntaxError:
            if self.source.lstrip().startswith("%%"):  # another language: %%bash
                return ast.Module([], [])
            raise


def read_code(index: int, content: str, fence: int, report: Report) -> Cell:
    """The code cell whose fence opens at line `fence` and holds `content`."""
    block, taken = _options_block(content, fence, report)
    options = _options(block, fence + content.startswith("---"), report)
    tags = _tags(options.pop("tags", None) or [], fence, report)
    for option, value in options.items():
        if option not in OPTIONS:
            known = "known: " + ", ".join(sorted(OPTIONS))
            hint = did_you_mean(str(option), OPTIONS, known)
            report(fence, f"unknown cell option {option!r}", hint)
        elif option in NUMBERS and not _is_positive(value):
            report(fence, f"{option} is {value!r}", "give a positive number")
    body = content.split("\n")[taken:]
    if len(body) > 1 and not body[0].strip():
        taken, body = taken + 1, body[1:]
    source = "\n".join(body).rstrip()
    cell = Cell(index, "code", source, fence + 1 + taken, tags, options)
    _check_syntax(cell, report)
    return cell


def _is_positive(value: object) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 < value < float("inf")  # type: ignore[operator]


def _options_block(content: str, fence: int, report: Report) -> tuple[str, int]:
    """The YAML of a cell's options, and how many lines of the cell it takes."""
    lines = content.split("\n")
    if content.startswith("---"):
        for count, line in enumerate(lines[1:], 2):
            if line.startswith("---"):
                return dedent("\n".join(lines[1 : count - 1])), count
        report(fence, "the cell's options are never closed", "end them with a line ---")
        return "", len(lines)
    count = 0
    while count < len(lines) and lines[count].lstrip().startswith(":"):
        count += 1
    return "\n".join(line.lstrip()[1:] for line in lines[:count]), count


def _options(block: str, before: int, report: Report) -> dict[str, Any]:
    """The options in `block`, which starts at the line after `before`."""
    try:
        options = yaml.safe_load(block) or {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line, column = (mark.line, mark.column + 1) if mark else (0, 0)
        what = getattr(error, "problem", None) or str(error)
        message = f"the cell's options are not YAML: {what}"
        report(before + 1 + line, message, column=column)
        return {}
    if not isinstance(options, dict):
        hint = "write them as :tags: [export]"
        report(before + 1, "the cell's options are not a mapping", hint)
        return {}
    return options


def _tags(tags: object, fence: int, report: Report) -> tuple[str, ...]:
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        report(fence, f"tags is {tags!r}", "write a list: :tags: [export]")
        return ()
    for tag in tags:
        if tag not in TAGS:
            known = "known: " + ", ".join(sorted(TAGS))
            report(fence, f"unknown tag {tag!r}", did_you_mean(tag, TAGS, known))
    if "export" in tags and "raises-exception" in tags:
        hint = "a module must import cleanly; drop one of the two tags"
        report(fence, "an exported cell cannot be one that must fail", hint)
    return tuple(tags)


def _check_syntax(cell: Cell, report: Report) -> None:
    if "raises-exception" in cell.tags:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compile(cell.tree(), "", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True)
    except SyntaxError as error:
        line = cell.line + (error.lineno or 1) - 1
        message = f"syntax error in this cell: {error.msg}"
        report(line, message, column=error.offset or 0)
