"""Cells to module text: write it, check it, and find where a module's line is from."""

import hashlib
import re
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

from bookbuild.book import Book
from bookbuild.chapter import Cell, Chapter
from bookbuild.errors import BookError, Problem
from bookbuild.files import remove, write_atomic
from bookbuild.names import bindings, undefined

HEADER = re.compile(r"# Generated from (\S.*); do not edit \(([0-9a-f]{12})\)\n")
MARKER = "# %% "


@dataclass(frozen=True)
class Section:
    """One cell's code inside a module; it starts there at `line` (from 1).

    The first `skipped` lines of the cell, blank ones, are left out.
    """

    marker: str
    code: str
    line: int
    cell: Cell
    skipped: int

    @property
    def length(self) -> int:
        return self.code.count("\n") + 1


def sections(chapter: Chapter) -> list[Section]:
    """The chapter's exported cells with their markers and places in the module."""
    line = 3 + docstring(chapter).count("\n")
    found: list[Section] = []
    taken: set[str] = set()
    for cell in chapter.exported:
        source = cell.source.rstrip()
        code = source.lstrip("\n")
        skipped = len(source) - len(code)
        marker = f"{MARKER}{chapter.source}#{_anchor(cell, taken)}"
        line += 3 if found else 2
        found.append(Section(marker, code, line, cell, skipped))
        line += found[-1].length
    return found


def _anchor(cell: Cell, taken: set[str]) -> str:
    """The first name that the cell defines; `imports` when it defines none."""
    defined = [binding.name for binding in bindings(cell.tree()) if not binding.what]
    base = anchor = defined[0] if defined else "imports"
    count = 1
    while anchor in taken:
        count += 1
        anchor = f"{base}-{count}"
    taken.add(anchor)
    return anchor


def docstring(chapter: Chapter) -> str:
    """The module's docstring, from the chapter's summary (its title if it has none)."""
    return _quoted(chapter.summary or chapter.title)


def _quoted(text: str) -> str:
    """A docstring that says `text`, in lines of 88 characters at most."""
    text = re.sub('"(?="")', r'\\"', text.replace("\\", "\\\\"))
    lines = [""]
    for word in text.split():
        room = 88 if len(lines) > 1 else 85
        if lines[-1] and len(lines[-1]) + 1 + len(word) > room:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    if len(lines) > 1:
        return '"""' + "\n".join([*lines, '"""'])
    if len(lines[0]) > 82:  # no room for the closing quotes
        return f'"""{lines[0]}\n"""'
    closing = lines[0].removesuffix('"') + '\\"' * lines[0].endswith('"')
    return f'"""{closing}"""'


def _seal(source: str, body: str) -> str:
    digest = hashlib.sha256(body.encode()).hexdigest()[:12]
    return f"# Generated from {source}; do not edit ({digest})\n{body}"


def module_text(chapter: Chapter) -> str:
    """The module that the chapter's exported cells make."""
    pieces = [f"{docstring(chapter)}\n"]
    for i, section in enumerate(sections(chapter)):
        pieces.append("\n" * (2 if i else 1) + f"{section.marker}\n{section.code}\n")
    return _seal(chapter.source, "".join(pieces))


def modules(book: Book) -> dict[str, str]:
    """Each generated file's text by its path relative to the root, posix style."""
    texts: dict[str, str] = {}
    for chapter in book.chapters:
        if chapter.module:
            texts[f"extracted/{chapter.module}"] = module_text(chapter)
    for path in list(texts):
        folder = path.rpartition("/")[0]
        while folder:
            texts.setdefault(f"{folder}/__init__.py", _package_text(book, folder))
            folder = folder.rpartition("/")[0]
    texts["extracted/py.typed"] = ""
    texts.setdefault("extracted/__init__.py", _package_text(book, "extracted"))
    return dict(sorted(texts.items()))


def _package_text(book: Book, folder: str) -> str:
    inside = folder.partition("/")[2]
    caption = "The package that the book's chapters make."
    if inside:
        names = [c.name for c in book.chapters if c.name.startswith(inside + "/")]
        part = book.part(names[0])
        title = part.caption if part and part.caption else inside
        caption = f"What the chapters of the part “{title}” make."
    return _seal("_toc.yml", _quoted(caption) + "\n")


def pristine(text: str) -> bool:
    """Whether `text` is a generated file that nobody edited."""
    found = HEADER.match(text)
    return found is not None and _seal(found[1], text[found.end() :]) == text


def faults(book: Book) -> list[Problem]:
    """Names that an exported cell uses and its module neither defines nor imports."""
    problems = []
    for chapter in book.chapters:
        if not chapter.module:
            continue
        places = _Lines(chapter)
        try:
            missing = undefined(module_text(chapter))
        except SyntaxError as error:  # each cell is sound, together they are not
            line = places.locate(error.lineno or 1)
            message = f"the exported cells make no valid module: {error.msg}"
            problems.append(Problem(chapter.source, line, message))
            continue
        hint = "tag the cell that defines it, or import it in an exported cell"
        for name in missing:
            message = f"{name.name!r} is neither defined nor imported by the module"
            line = places.locate(name.line)
            problems.append(Problem(chapter.source, line, message, hint))
    return problems


def tangle(book: Book, *, check: bool = False, force: bool = False) -> list[str]:
    """Write every module that differs; return the paths written (and removed).

    With `check` nothing is written and a difference raises `BookError` with a diff. A
    file that was edited by hand is never overwritten unless `force`.
    """
    texts = modules(book)
    problems = faults(book)
    changes: dict[str, str | None] = {}
    for path, text in texts.items():
        old = _text(book.root / path)
        if old == text:
            continue
        if check:
            problems.append(_drift(path, old, text))
        elif old and not pristine(old) and not force:
            adopt = f"`bookbuild adopt {path}` brings it to its chapter"
            hint = f"{adopt}; `tangle --force` throws it away"
            message = "was edited by hand; tangling would lose the edit"
            problems.append(Problem(path, 0, message, hint))
        changes[path] = text
    for file in sorted(book.package.rglob("*.py")):
        path = file.relative_to(book.root).as_posix()
        if path in texts:
            continue
        generated = pristine(_text(file) or "")
        if check or not (force or generated):
            command = "bookbuild tangle" + " --force" * (not generated)
            message = "no chapter makes this module"
            problems.append(Problem(path, 0, message, f"`{command}` deletes it"))
        changes[path] = None
    if problems:
        raise BookError(*problems)
    for path, new in changes.items():
        if new is None:
            remove(book.root / path)
        else:
            write_atomic(book.root / path, new)
    return list(changes)


def _text(file: Path) -> str | None:
    """The file's text with LF line ends, None when there is no file."""
    if not file.is_file():
        return None
    return file.read_text(encoding="utf-8", errors="replace")


def _drift(path: str, old: str | None, new: str) -> Problem:
    if old is None:
        return Problem(path, 0, "is missing", "run `bookbuild tangle`")
    diff = unified_diff(
        old.splitlines(), new.splitlines(), path, "the book", lineterm="", n=1
    )
    if pristine(old):
        what, hint = "differs from the book", "run `bookbuild tangle`"
    else:
        what = "was edited by hand"
        hint = f"`bookbuild adopt {path}` brings the edit to its chapter"
    return Problem(path, 0, "\n".join([what, *diff]), hint)


class _Lines:
    """From a line of one chapter's module to the line of the chapter."""

    def __init__(self, chapter: Chapter) -> None:
        self.sections = sections(chapter)
        self.first = self.sections[0].cell.line

    def locate(self, line: int) -> int:
        for section in reversed(self.sections):
            if line >= section.line:
                inside = min(line - section.line, section.length - 1)
                return section.cell.line + section.skipped + inside
        return self.first


class SourceMap:
    """Turns `extracted/foundations/attention.py:41` into a line of its chapter."""

    def __init__(self, book: Book) -> None:
        self.root = book.root
        self.chapters = {f"extracted/{c.module}": c for c in book.chapters if c.module}

    def locate(self, path: str | Path, line: int) -> tuple[str, int] | None:
        """The chapter's path and line, None when `path` is not a generated module."""
        file = Path(path)
        if file.is_absolute():
            try:
                file = file.resolve().relative_to(self.root)
            except ValueError:
                return None
        chapter = self.chapters.get(file.as_posix())
        if chapter is None:
            return None
        return chapter.source, _Lines(chapter).locate(line)


def source_map(book: Book) -> SourceMap:
    """The map for the modules as the book would tangle them now."""
    return SourceMap(book)
