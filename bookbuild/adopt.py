"""Bring an edit that was made in a generated module back to the cells it comes from."""

import ast
from pathlib import Path

from bookbuild import chapter as chapters
from bookbuild.book import Book
from bookbuild.chapter import Chapter
from bookbuild.errors import BookError, ConfigError, Problem
from bookbuild.files import write_atomic
from bookbuild.tangle import HEADER, MARKER, Section, module_text, pristine, sections


def adopt(book: Book, path: str) -> list[str]:
    """Write the edit in the module at `path` into its chapter; return its cells.

    The chapter is untouched, and `BookError` says why, when the edit cannot be placed:
    a marker line was changed, or the chapter changed as well since the last tangle.
    """
    chapter, text = _edited_module(book, path)
    if pristine(text):
        return []
    _check(path, text, chapter)
    pairs = _pairs(path, text, chapter)
    lines = chapter.text.split("\n")
    changed = []
    for section, code in reversed(pairs):
        if code == section.code:
            continue
        if any(line.lstrip().startswith(("```", "~~~")) for line in code.split("\n")):
            message = f"the new code of {section.marker} holds a fence, ``` or ~~~"
            hint = "edit the chapter by hand"
            raise BookError(Problem(path, section.line, message, hint))
        start = section.cell.line - 1 + section.skipped
        lines[start : start + section.length] = code.split("\n")
        changed.append(section.marker.removeprefix(MARKER))
    adopted = "\n".join(lines)
    result = chapters.parse(adopted, chapter.name, chapter.path)
    for section, (_, code) in zip(sections(result), pairs):
        assert section.code == code, "the chapter would not hold the edit"
    _write(chapter, adopted)
    write_atomic(book.root / path, module_text(result))
    return changed[::-1]


def _edited_module(book: Book, path: str) -> tuple[Chapter, str]:
    for chapter in book.chapters:
        if chapter.module and path == f"extracted/{chapter.module}":
            file = book.root / path
            if not file.is_file():
                hint = "run `bookbuild tangle`"
                raise BookError(Problem(path, 0, "no such file", hint))
            return chapter, file.read_text(encoding="utf-8", errors="replace")
    hint = "give a path such as extracted/foundations/attention.py"
    message = "no chapter makes this module"
    raise ConfigError(Problem(Path(path).as_posix(), 0, message, hint))


def _check(path: str, text: str, chapter: Chapter) -> None:
    """Refuse text that is no Python, has no header, or is of an older chapter."""
    try:
        ast.parse(text)
    except SyntaxError as error:
        line, column = error.lineno or 0, error.offset or 0
        message = f"syntax error: {error.msg}"
        raise BookError(Problem(path, line, message, column=column)) from error
    found, current = HEADER.match(text), HEADER.match(module_text(chapter))
    assert current is not None
    if not found:
        message = "the first line, `# Generated from …`, was changed"
        raise BookError(Problem(path, 1, message, "put it back; it dates the file"))
    if found[2] != current[2]:
        message = f"{chapter.source} changed too since this module was tangled"
        hint = "undo one of the two changes, or move the edit to the chapter by hand"
        raise BookError(Problem(path, 1, message, hint))


def _pairs(path: str, text: str, chapter: Chapter) -> list[tuple[Section, str]]:
    """Each cell's section with the code that now stands under its marker."""
    preamble, markers, blocks = _split(text, chapter)
    wanted, expected, _ = _split(module_text(chapter), chapter)
    if markers != expected:
        hint = "put them back; they say where code goes"
        message = "the `# %%` lines differ from the chapter's cells"
        raise BookError(Problem(path, 0, message, hint))
    if preamble != wanted:
        hint = f"the docstring is the summary in the front matter of {chapter.source}"
        message = "the lines before the first `# %%` were changed"
        raise BookError(Problem(path, 1, message, hint))
    return list(zip(sections(chapter), blocks))


def _split(text: str, chapter: Chapter) -> tuple[list[str], list[str], list[str]]:
    """The lines before the first marker, the markers, and the code under each."""
    preamble: list[str] = []
    markers: list[str] = []
    blocks: list[list[str]] = []
    for line in text.split("\n"):
        if line.startswith(f"{MARKER}{chapter.source}#"):
            markers.append(line)
            blocks.append([])
        else:
            (blocks[-1] if blocks else preamble).append(line)
    return (
        preamble,
        markers,
        ["\n".join(block).strip("\n").rstrip() for block in blocks],
    )


def _write(chapter: Chapter, text: str) -> None:
    """Write the chapter with the line ends and the byte order mark that it had."""
    raw = chapter.path.read_bytes()
    ends = "\r\n" if b"\r\n" in raw else "\n"
    mark = "\ufeff" if raw.startswith(b"\xef\xbb\xbf") else ""
    write_atomic(chapter.path, mark + text.replace("\n", ends))
