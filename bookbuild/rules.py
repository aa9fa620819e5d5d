"""What must hold between the chapters of a book: names, order, exports, checkpoints."""

import ast
import keyword
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bookbuild.cell import Cell
from bookbuild.chapter import Chapter
from bookbuild.errors import Problem, did_you_mean
from bookbuild.names import Binding, bindings

if TYPE_CHECKING:
    from bookbuild.book import Book, Import


def check(book: "Book") -> list[Problem]:
    """Every rule that the chapters break together."""
    return [
        *_module_names(book),
        *_import_order(book),
        *_star_imports(book),
        *_exports(book),
        *_graph(book),
    ]


def _module_names(book: "Book") -> Iterator[Problem]:
    folders = {c.name.rpartition("/")[0] for c in book.chapters if c.exported}
    for chapter in book.chapters:
        if not chapter.exported:
            continue
        line = chapter.exported[0].line
        for piece in chapter.name.split("/"):
            if not _can_be_module(piece):
                message = f"exports code, but {piece!r} cannot be the name of a module"
                hint = f"rename it to {_module_name(piece)!r}"
                yield Problem(chapter.source, line, message, hint)
        if any(f"{folder}/".startswith(f"{chapter.name}/") for folder in folders):
            message = f"exports code, but extracted/{chapter.name}/ is a package"
            hint = "rename the chapter or the folder of the same name"
            yield Problem(chapter.source, line, message, hint)


def _can_be_module(piece: str) -> bool:
    normal = unicodedata.normalize("NFKC", piece) == piece  # as `import` spells it
    dunder = piece.startswith("__")
    return (
        piece.isidentifier() and normal and not dunder and not keyword.iskeyword(piece)
    )


def _module_name(piece: str) -> str:
    normal = unicodedata.normalize("NFKC", piece).strip("_") or "chapter"
    better = "".join(c if f"_{c}".isidentifier() else "_" for c in normal)
    if not better.isidentifier():
        return f"chapter_{better}"
    return f"{better}_" if keyword.iskeyword(better) else better


def _import_order(book: "Book") -> Iterator[Problem]:
    order = {chapter.name: i for i, chapter in enumerate(book.chapters)}
    for chapter in book.chapters:
        for use in book.uses(chapter.name):
            if use.chapter not in order or not book.chapter(use.chapter).exported:
                known = [c.dotted for c in book.chapters if c.exported]
                dotted = use.chapter
                if dotted in order:
                    dotted = book.chapter(dotted).dotted
                message = f"no chapter makes the module {dotted}"
                hint = did_you_mean(dotted, known)
                yield Problem(chapter.source, use.line, message, hint)
            elif use.chapter == chapter.name:
                if use.cell.exported:
                    message = "the module imports itself"
                    yield Problem(chapter.source, use.line, message, "delete this line")
            elif order[use.chapter] > order[chapter.name]:
                yield _too_early(book, chapter, use)
            elif use.name and use.name != "*":
                yield from _unknown_name(book, chapter, use)


def _too_early(book: "Book", chapter: Chapter, use: "Import") -> Problem:
    message = f"imports from a later chapter, {use.chapter}"
    if chapter.name in book.dependencies(use.chapter):
        message += f"; a cycle: {chapter.name} → {use.chapter} → {chapter.name}"
    hint = "reading order is import order: move the chapter in _toc.yml, or the code"
    return Problem(chapter.source, use.line, message, hint)


def _unknown_name(book: "Book", chapter: Chapter, use: "Import") -> Iterator[Problem]:
    cells = book.chapter(use.chapter).exported
    known = {binding.name for cell in cells for binding in _bindings(cell)}
    if use.name not in known:
        message = f"book/{use.chapter}.md exports no {use.name!r}"
        hint = did_you_mean(use.name, known)
        yield Problem(chapter.source, use.line, message, hint)


def _bindings(cell: Cell) -> list[Binding]:
    """The names that a cell binds, at lines of the chapter."""
    return [
        Binding(binding.name, cell.line + binding.line - 1, binding.what)
        for binding in bindings(cell.tree())
    ]


def _star_imports(book: "Book") -> Iterator[Problem]:
    for chapter in book.chapters:
        for cell in chapter.exported:
            for node in ast.walk(cell.tree()):
                if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                    message = f"an exported cell imports * from {node.module}"
                    hint = (
                        "name what you import: a reader must see where a name is from"
                    )
                    line = cell.line + node.lineno - 1
                    yield Problem(chapter.source, line, message, hint)


def _exports(book: "Book") -> Iterator[Problem]:
    """A name is defined once in a module, and once in all modules of one package."""
    packages: dict[tuple[str, str], tuple[str, int]] = {}
    for chapter in book.chapters:
        package = chapter.name.rpartition("/")[0]
        seen: dict[str, Binding] = {}
        for binding in (b for cell in chapter.exported for b in _bindings(cell)):
            name, line = binding.name, binding.line
            before = seen.setdefault(name, binding)
            if before != binding and not (before.what and before.what == binding.what):
                message = f"{name!r} is exported twice: at line {before.line} and here"
                hint = "export one of the two; tag no naive version, or rename it"
                yield Problem(chapter.source, line, message, hint)
            if binding.what or name.startswith("_"):
                continue
            first = packages.setdefault((package, name), (chapter.source, line))
            if first[0] != chapter.source:
                message = f"{name!r} is already exported at {first[0]}:{first[1]}"
                hint = "import it from there, or choose another name"
                yield Problem(chapter.source, line, message, hint)


def _graph(book: "Book") -> Iterator[Problem]:
    made: dict[str, str] = {}
    for chapter in book.chapters:
        for name in chapter.needs:
            if name not in made:
                message = f"no earlier chapter produces the checkpoint {name!r}"
                hint = did_you_mean(name, made)
                yield Problem(chapter.source, chapter.line_of("needs"), message, hint)
        for name in chapter.produces:
            other = made.setdefault(name, chapter.name)
            if other != chapter.name:
                message = f"checkpoint {name!r} is produced by {other} already"
                line = chapter.line_of("produces")
                yield Problem(chapter.source, line, message, "choose another name")
        for data in chapter.data:
            if not (book.root / data).is_file():
                hint = "paths are relative to the root of the repository"
                line = chapter.line_of("data")
                yield Problem(chapter.source, line, f"no file {data}", hint)
