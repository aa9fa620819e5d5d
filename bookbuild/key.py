"""What a chapter's result depends on, as data that can be compared and explained."""

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import platform
import re
import sys
import tomllib
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from bookbuild.book import Book
from bookbuild.chapter import Cell, Chapter
from bookbuild.errors import ConfigError, Problem

FORMAT = 1
# What every kernel runs, whatever the chapter imports.
ALWAYS = ("ipykernel", "ipython", "matplotlib", "matplotlib-inline", "numpy")


def digest(data: str | bytes) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key_of(components: dict[str, Any]) -> str:
    """The cache key: a digest of everything the result depends on."""
    return digest(json.dumps(components, sort_keys=True))


class Keys:
    """Components and keys of a book's chapters, each computed once.

    A component is anything that can change a chapter's outputs: its code cells, the
    exported code and the checkpoints that it uses, its data, versions, the device.
    Prose, presentation tags and `export` are not among them.
    """

    def __init__(self, book: Book, device: str = "cpu") -> None:
        self.book = book
        self.device = device_class(device)
        self._components: dict[str, dict[str, Any]] = {}
        self._versions: dict[str, str | None] = {}

    def key(self, name: str) -> str:
        return key_of(self.components(name))

    def components(self, name: str) -> dict[str, Any]:
        if name not in self._components:
            self._components[name] = self._compute(self.book.chapter(name))
        return self._components[name]

    def _compute(self, chapter: Chapter) -> dict[str, Any]:
        book = self.book
        modules = list(book.dependencies(chapter.name))
        if any(chapter.dotted in cell.source for cell in chapter.code_cells):
            modules.append(chapter.name)
        cells = [*chapter.code_cells]
        for module in modules:
            cells.extend(book.chapter(module).exported)
        return {
            "format": FORMAT,
            "chapter": chapter.name,
            "cells": [digest(_execution(cell)) for cell in chapter.code_cells],
            "modules": {m: digest(exported(book.chapter(m))) for m in sorted(modules)},
            "data": {path: file_digest(book.root / path) for path in chapter.data},
            "needs": {need: self.key(book.producer(need)) for need in chapter.needs},
            "produces": sorted(chapter.produces),
            "packages": self._packages(cells),
            "python": f"{platform.python_implementation()} {platform.python_version()}",
            "platform": f"{sys.platform} {platform.machine()}",
            "device": self.device,
            "helpers": file_digest(Path(__file__).with_name("notebook.py")),
        }

    def _packages(self, cells: list[Cell]) -> dict[str, str]:
        """Versions of what the cells import, the project declares and a kernel runs."""
        names = {*ALWAYS, *declared(self.book.root)}
        names.update(*(_distributions(module) for module in imported(cells)))
        for name in names:
            if name not in self._versions:
                self._versions[name] = _version(name)
        return {name: v for name in sorted(names) if (v := self._versions[name])}


def exported(chapter: Chapter) -> str:
    """The code that the chapter's module is made of."""
    return "\n\n".join(cell.source for cell in chapter.exported)


def _execution(cell: Cell) -> str:
    """A cell's source with the metadata that change how it runs."""
    must_fail = "raises-exception" in cell.tags
    return json.dumps([cell.source, must_fail, cell.metadata.get("timeout")])


def imported(cells: list[Cell]) -> set[str]:
    """Top-level names of the modules that the cells import."""
    found: set[str] = set()
    for cell in cells:
        if "import" not in cell.source:
            continue
        try:
            tree = cell.tree()
        except SyntaxError:  # a cell that must fail may fail to parse
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - {"extracted", "bookbuild"} - sys.stdlib_module_names


@functools.cache
def declared(root: Path) -> tuple[str, ...]:
    """Names of the distributions that the project's `pyproject.toml` depends on."""
    try:
        text = (root / "pyproject.toml").read_text(encoding="utf-8")
    except OSError:
        return ()
    try:
        required = tomllib.loads(text).get("project", {}).get("dependencies", [])
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(Problem("pyproject.toml", 0, f"not TOML: {error}")) from error
    names = (re.match(r"[A-Za-z0-9._-]+", requirement) for requirement in required)
    return tuple(found[0] for found in names if found)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def _distributions(module: str) -> tuple[str, ...]:
    """What provides a module: the distribution of its name, else a look at them all."""
    if _version(module) is not None:
        return (module,)
    if importlib.util.find_spec(module) is None:
        return ()
    return tuple(sorted(set(_providers().get(module, ()))))


@functools.cache
def _providers() -> Any:
    return importlib.metadata.packages_distributions()


@functools.cache
def device_class(device: str) -> str:
    """`cpu`, or the kind of accelerator: `cuda 9.0` is any with that capability."""
    if device == "cpu":
        return "cpu"
    import torch

    kind = device.partition(":")[0]
    available: dict[str, Any] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
    }
    if kind not in available:
        hint = "known: cpu, cuda, mps"
        raise ConfigError(Problem("--device", 0, f"unknown device {device!r}", hint))
    if not available[kind]():
        hint = "look at torch's installation, or run with --device cpu"
        raise ConfigError(Problem("--device", 0, f"torch finds no {device!r}", hint))
    if kind == "cuda":
        major, minor = torch.cuda.get_device_capability(torch.device(device))
        return f"cuda {major}.{minor}"
    return kind


def differences(
    book: Book, chapter: Chapter, old: dict[str, Any], new: dict[str, Any]
) -> list[str]:
    """What changed between two sets of components, in words; `new` is the chapter's."""
    lines = list(_changed_cells(chapter, old.get("cells", []), new["cells"]))
    lines += _changed(old, new, "modules", "extracted code of {} {}")
    lines += _changed(old, new, "data", "data file {} {}")
    for need in sorted({*old.get("needs", {}), *new["needs"]}):
        before, after = old.get("needs", {}).get(need), new["needs"].get(need)
        if before and after and before != after:
            lines.append(f"checkpoint {need}: {book.producer(need)} makes another one")
        elif before != after:
            lines.append(f"checkpoint {need} is {'not ' * (not after)}needed now")
    for name in sorted(set(old.get("produces", [])) ^ set(new["produces"])):
        made = name in new["produces"]
        lines.append(f"checkpoint {name} is {'not ' * (not made)}produced now")
    before, after = old.get("packages", {}), new["packages"]
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            lines.append(
                f"{name} {before.get(name, 'none')} -> {after.get(name, 'none')}"
            )
    for part in ("python", "platform", "device"):
        if old.get(part) != new[part]:
            lines.append(f"{part} {old.get(part)} -> {new[part]}")
    if old.get("helpers") != new["helpers"]:
        lines.append("bookbuild/notebook.py changed")
    if old.get("format") != new["format"]:
        lines.append("bookbuild stores results in another way now")
    return lines


def _changed(
    old: dict[str, Any], new: dict[str, Any], part: str, text: str
) -> list[str]:
    before, after = old.get(part, {}), new[part]
    lines = []
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            verb = "changed" if name in before and name in after else "is used now"
            lines.append(
                text.format(name, verb if name in after else "is not used now")
            )
    return lines


def _changed_cells(chapter: Chapter, old: list[str], new: list[str]) -> Iterator[str]:
    cells = chapter.code_cells
    for what, a, b, c, d in SequenceMatcher(None, old, new, False).get_opcodes():
        if what == "equal":
            continue
        for i in range(c, d):
            verb = "changed" if i - c < b - a else "was added"
            yield f"cell at {chapter.source}:{cells[i].line} {verb}"
        gone = (b - a) - (d - c)
        if gone > 0:
            after = f" after {chapter.source}:{cells[d - 1].line}" if d else ""
            yield f"{gone} cell{'s' * (gone > 1)} removed{after}"
