"""The table of contents, and the graph of chapters by imports and checkpoints."""

import ast
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from bookbuild import chapter as chapters
from bookbuild import rules
from bookbuild.chapter import Cell, Chapter
from bookbuild.errors import BookError, ConfigError, Problem, did_you_mean

TOC = "_toc.yml"


@dataclass(frozen=True)
class Part:
    """A captioned run of chapters; the root page belongs to none."""

    caption: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Import:
    """`name` of `chapter` (its whole module when empty), used at a line of a cell."""

    chapter: str
    name: str
    cell: Cell
    line: int


@dataclass(frozen=True)
class Book:
    """Every page in reading order, the root page first."""

    root: Path
    parts: tuple[Part, ...]
    chapters: tuple[Chapter, ...]

    @property
    def build(self) -> Path:
        return self.root / "_build"

    @property
    def package(self) -> Path:
        return self.root / "extracted"

    @property
    def golden(self) -> Path:
        return self.root / "tests" / "golden"

    @cached_property
    def _by_name(self) -> dict[str, Chapter]:
        return {chapter.name: chapter for chapter in self.chapters}

    @cached_property
    def _imports(self) -> dict[str, tuple[Import, ...]]:
        modules = {chapter.dotted: chapter.name for chapter in self.chapters}
        return {c.name: tuple(_imports(c, modules)) for c in self.chapters}

    def chapter(self, name: str) -> Chapter:
        """The chapter called `name`; a path such as `book/part/name.md` will do."""
        name = name.replace("\\", "/").removeprefix("./").removeprefix("book/")
        name = name.removesuffix(".md")
        if name not in self._by_name:
            hint = did_you_mean(name, self._by_name, f"{TOC} lists them")
            raise ConfigError(Problem(TOC, 0, f"no chapter {name!r}", hint))
        return self._by_name[name]

    def select(self, names: Iterable[str] = ()) -> tuple[Chapter, ...]:
        """The named chapters in reading order; all that have code if none is named."""
        wanted = {self.chapter(name).name for name in names}
        if wanted:
            return tuple(c for c in self.chapters if c.name in wanted)
        return tuple(c for c in self.chapters if c.code_cells)

    def uses(self, name: str) -> tuple[Import, ...]:
        """Each import of another chapter's module in the chapter's code cells."""
        return self._imports[name]

    def imports(self, name: str) -> tuple[str, ...]:
        """Chapters whose modules the chapter's code cells import, in reading order."""
        wanted = {use.chapter for use in self.uses(name)}
        return tuple(c.name for c in self.chapters if c.name in wanted)

    def dependencies(self, name: str) -> tuple[str, ...]:
        """Chapters whose exported code the chapter runs, transitively, in order."""
        reached: set[str] = set()
        frontier = {use.chapter for use in self.uses(name)}
        while frontier:
            reached |= frontier
            frontier = {
                use.chapter
                for other in frontier
                for use in self.uses(other)
                if use.cell.exported
            } - reached
        return tuple(c.name for c in self.chapters if c.name in reached - {name})

    def producer(self, checkpoint: str) -> str:
        """The chapter that produces `checkpoint`."""
        return next(c.name for c in self.chapters if checkpoint in c.produces)

    def part(self, name: str) -> Part | None:
        return next((part for part in self.parts if name in part.names), None)


def find_root(start: Path) -> Path:
    """The nearest folder at or above `start` that holds `_toc.yml` and `book/`."""
    for folder in (start, *start.parents):
        if (folder / TOC).is_file() and (folder / "book").is_dir():
            return folder
    hint = f"go to the folder that has {TOC}, or name it with --root"
    raise ConfigError(Problem(start.as_posix(), 0, "not inside a book", hint))


def load(root: Path) -> Book:
    """Read the whole book. Raises `BookError` with the problems of all its files."""
    root = root.resolve()
    problems: list[Problem] = []
    entries, parts = _toc(root, problems)
    pages: list[Chapter] = []
    for name, line in entries.items():
        try:
            pages.append(_page(root, name, line))
        except BookError as error:
            problems.extend(error.problems)
    for path in sorted((root / "book").rglob("*.md")):
        name = _name(path, root)
        hidden = any(piece.startswith(("_", ".")) for piece in name.split("/"))
        if name not in entries and not hidden:
            hint = f"add `- file: {name}` where it belongs"
            message = f"is missing from {TOC}"
            problems.append(Problem(f"book/{name}.md", 0, message, hint))
    if problems:
        raise BookError(*problems)
    book = Book(root, tuple(parts), tuple(pages))
    if problems := rules.check(book):
        raise BookError(*problems)
    return book


def _page(root: Path, name: str, line: int) -> Chapter:
    path = root / "book" / f"{name}.md"
    plain = posixpath.normpath(name) == name and "\\" not in name
    if not path.resolve().is_relative_to((root / "book").resolve()):
        raise BookError(Problem(TOC, line, f"{name!r} lies outside book/"))
    if not plain:
        hint = "write the path from book/, with / between folders"
        raise BookError(Problem(TOC, line, f"{name!r} is not a plain path", hint))
    if not path.is_file():
        known = (_name(p, root) for p in (root / "book").rglob("*.md"))
        hint = did_you_mean(name, known, f"write book/{name}.md or delete the entry")
        raise BookError(Problem(TOC, line, f"no file book/{name}.md", hint))
    try:
        return chapters.read(path, name)
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
        raise BookError(Problem(f"book/{name}.md", 0, message)) from error


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root / "book").with_suffix("").as_posix()


def _toc(root: Path, problems: list[Problem]) -> tuple[dict[str, int], list[Part]]:
    """Names with the line of their entry, in reading order; and the captioned parts."""
    try:
        text = (root / TOC).read_text(encoding="utf-8-sig")
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        toc = yaml.safe_load(text)
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
        raise ConfigError(Problem(TOC, 0, message)) from error
    except UnicodeDecodeError as error:
        problem = Problem(TOC, 0, "not UTF-8", "save it as UTF-8")
        raise ConfigError(problem) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        what = getattr(error, "problem", None) or str(error)
        raise ConfigError(Problem(TOC, line, f"not YAML: {what}")) from error
    if not isinstance(toc, dict) or not isinstance(toc.get("root"), str):
        hint = "start it with `format: jb-book` and `root: index`"
        raise ConfigError(Problem(TOC, 1, "names no root page", hint))
    entries: dict[str, int] = {}
    for node in _files(tree):
        name, line = node.value.removesuffix(".md"), node.start_mark.line + 1
        if name in entries:
            again = f"{name!r} stands here and at line {entries[name]}"
            problems.append(Problem(TOC, line, again, "keep one of the two"))
        entries.setdefault(name, line)
    parts = [
        Part(str(part.get("caption", "")), tuple(_listed(part)))
        for part in toc.get("parts") or []
        if isinstance(part, dict)
    ]
    return entries, parts


def _files(node: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    """The scalar nodes under `root:` and `file:` keys, in order."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value in ("root", "file") and isinstance(value, yaml.ScalarNode):
                yield value
            else:
                yield from _files(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _files(value)


def _listed(part: dict[str, Any]) -> Iterator[str]:
    for entry in [*(part.get("chapters") or []), *(part.get("sections") or [])]:
        if isinstance(entry, dict):
            if "file" in entry:
                yield str(entry["file"]).removesuffix(".md")
            yield from _listed(entry)


def _imports(chapter: Chapter, modules: dict[str, str]) -> Iterator[Import]:
    for cell in chapter.code_cells:
        try:
            tree = cell.tree()
        except SyntaxError:  # a cell that must fail may fail to parse
            continue
        for node in ast.walk(tree):
            for module, name in _imported(node):
                line = cell.line + getattr(node, "lineno", 1) - 1
                if f"{module}.{name}" in modules:
                    module, name = f"{module}.{name}", ""
                yield Import(modules.get(module, module), name, cell, line)


def _imported(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Import):
        names = [(alias.name, "") for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        names = [(node.module, alias.name) for alias in node.names]
    else:
        return
    for module, name in names:
        if module == "extracted" or module.startswith("extracted."):
            yield module, name
