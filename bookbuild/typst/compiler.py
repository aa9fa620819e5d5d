"""From Typst sources to the PDF: fonts, figures where they fit, errors explained."""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bookbuild.errors import BookError, Problem
from bookbuild.files import write_atomic

ROUNDS = 2  # of corrections; the layout of the last one is not looked at again
GAP = 60.0  # points of white above which a figure leaves its place
LITTLE = 60.0  # points of text below which a page is not worth turning to
TOP, BOTTOM = 0.92 * 72, (10 - 0.85) * 72
UNSHOWN = re.compile(r"the text `?\"(.*?)\"`? could not be displayed", re.DOTALL)
ESCAPED = re.compile(r"\\u\{([0-9a-f]+)\}")
PLACE = re.compile(r"┌─ (.+\.typ):(\d+)")
MARK = re.compile(r"/\*@(\d+)\*/")
PATH = re.compile(r"^// (book/\S+)$", re.MULTILINE)
STANDARD: Literal["ua-1"] = "ua-1"


def compile_pdf(folder: Path, own: Path | None = None) -> bytes:
    """The PDF of `folder/main.typ`: tagged, fonts embedded, the same each time.

    `own` is a folder of the book's own fonts, for signs that the compiler's lack.
    Raises `BookError` naming the Markdown line where the compiler can say it.
    """
    import typst

    fonts, missing = _fonts(folder, own)
    write_atomic(folder / "missing.json", json.dumps([f"{ord(c):x}" for c in missing]))
    try:
        try:
            _arrange(folder, fonts)
        except RuntimeError:  # a query does not say where it fails; compiling does
            _compiler(folder, fonts).compile(format="pdf")
            raise
        compiler = _compiler(folder, fonts)
        made = compiler.compile(format="pdf", pdf_standards=STANDARD, timestamp=0)
    except typst.TypstError as error:
        raise explained(folder, error) from error
    assert isinstance(made, bytes)
    return made


def _compiler(folder: Path, fonts: Any) -> Any:
    """A new one each time, for it reads a file once; Typst keeps what it computed."""
    import typst

    return typst.Compiler(str(folder / "main.typ"), root=str(folder), font_paths=fonts)


# Fonts.


def _fonts(folder: Path, own: Path | None) -> tuple[Any, list[str]]:
    """The fonts to set the sources in, and the characters that none of them has.

    The compiler's and the book's fonts alone give the same PDF everywhere; the
    system's are asked when a character is not in these.
    """
    import typst

    texts = (path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.typ")))
    used = sorted({c for text in texts for c in text if c > "\x7f"})
    missing = used
    for system in (False, True):
        paths = [str(own)] if own and own.is_dir() else []
        fonts = typst.Fonts(include_system_fonts=system, font_paths=paths)
        missing = unshown(missing, fonts)
        if not missing:
            break
    if missing:
        names = " ".join(f"{c} (U+{ord(c):04X})" for c in missing)
        print(f"note: no font on this machine has {names}", file=sys.stderr)
        print(
            "hint: put a font into book/_fonts; now their code points are printed",
            file=sys.stderr,
        )
    return fonts, missing


def unshown(characters: list[str], fonts: Any) -> list[str]:
    """Those of `characters` for which `fonts` have no glyph."""
    import typst

    text = " ".join(f"\\u{{{ord(c):x}}}" for c in characters)
    probe = f'#set document(title: "t")\n#set page(height: auto)\n{text}\n'
    try:
        compiler = typst.Compiler(probe.encode(), font_paths=fonts)
        compiler.compile(format="pdf", pdf_standards=STANDARD)
    except typst.TypstError as error:
        shown = "".join(UNSHOWN.findall(error.diagnostic))
        found = set(ESCAPED.sub(lambda match: chr(int(match[1], 16)), shown))
        return [c for c in characters if c in found]
    return []


# Figures, and last pages.


@dataclass(frozen=True)
class Exhibit:
    """Where the text calls a figure, and where it was set."""

    name: str
    called: tuple[int, float]
    set: tuple[int, float]

    @property
    def jumped(self) -> bool:
        """It did not fit below its call and left the rest of that page white."""
        return self.set[0] > self.called[0] and BOTTOM - self.called[1] > GAP


@dataclass(frozen=True)
class Layout:
    """Where things were set.

    `openings` are the pages where a chapter begins, `endings` the page and the height
    where a chapter ends, by its name.
    """

    exhibits: tuple[Exhibit, ...]
    openings: frozenset[int]
    endings: dict[str, tuple[int, float]]

    @property
    def meagre(self) -> set[str]:
        """Chapters whose last page has no more than a few lines."""
        return {
            name
            for name, (page, y) in self.endings.items()
            if y < TOP + LITTLE and page not in self.openings
        }


def _arrange(folder: Path, fonts: Any) -> None:
    """What a typesetter corrects when the pages are made.

    Figures that leave a gap float to the next page and the text closes the gap; a
    chapter that ends on a page of a few lines has a line more on each page.
    """
    floating: set[str] = set()
    returned: set[str] = set()
    tight: set[str] = set()
    for _ in range(ROUNDS):
        layout = _layout(_compiler(folder, fonts))
        after = set(floating)
        for exhibit in layout.exhibits:
            if exhibit.name not in floating and exhibit.jumped:
                if exhibit.name not in returned:
                    after.add(exhibit.name)
            elif exhibit.name in floating and exhibit.set[0] == exhibit.called[0]:
                after.discard(exhibit.name)
                if exhibit.set[0] in layout.openings:
                    returned.add(exhibit.name)
        meagre = layout.meagre - tight
        if after == floating and not meagre:
            return
        floating, tight = after, tight | meagre
        write_atomic(folder / "floats.json", json.dumps(sorted(floating)))
        write_atomic(folder / "tight.json", json.dumps(sorted(tight)))


def _layout(compiler: Any) -> Layout:
    found = json.loads(compiler.query("<layout>", field="value", one=True))
    places: dict[str, dict[str, tuple[int, float]]] = {}
    for mark in found["exhibits"]:
        places.setdefault(mark["name"], {})[mark["what"]] = (mark["page"], mark["y"])
    return Layout(
        tuple(Exhibit(name, p["called"], p["set"]) for name, p in places.items()),
        frozenset(found["openings"]),
        {mark["name"]: (mark["page"], mark["y"]) for mark in found["endings"]},
    )


# Errors.


def explained(folder: Path, error: Any) -> BookError:
    """The compiler's error at the line of the chapter that it comes from."""
    hint = "; ".join(error.hints)
    found = PLACE.search(error.diagnostic)
    name = found[1].rpartition(f"/{folder.name}/")[2] if found else "main.typ"
    path = folder / name
    if not found or not path.is_file():
        return BookError(Problem(path.as_posix(), 0, error.message, hint))
    text = path.read_text(encoding="utf-8")
    above = "\n".join(text.split("\n")[: int(found[2])])
    source = PATH.search(text)
    marks = MARK.findall(above)
    if not source:
        return BookError(Problem(path.as_posix(), int(found[2]), error.message, hint))
    return BookError(
        Problem(source[1], int(marks[-1]) if marks else 0, error.message, hint)
    )
