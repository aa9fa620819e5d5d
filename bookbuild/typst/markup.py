"""Typst's syntax: escaped text, strings, lines of code that fit."""

import re
import unicodedata
from dataclasses import dataclass

SPECIAL = re.compile(r"[\\#$*_`<>@=+/~\[\]\-]")
NUMBERED = re.compile(r"^(\s*\d+)([.)])")
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLUMNS = 79
SMALLEST = 94
CONTINUED = "↪ "
ZERO = ("Mn", "Me", "Cf")


@dataclass(frozen=True)
class Formula:
    """TeX that stands in a source until all formulas are converted at once."""

    tex: str
    displayed: bool
    where: tuple[str, int]
    number: str = ""


Piece = str | Formula


def escape(text: str) -> str:
    """`text` as markup that shows it, on one line; quotes are left to Typst to curl."""
    text = SPECIAL.sub(r"\\\g<0>", " ".join(re.split(r"\s*\n\s*", separated(text))))
    return NUMBERED.sub(r"\1\\\2", text)


def string(text: str) -> str:
    """`text` as a string literal."""
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    text = text.replace("\n", "\\n").replace("\t", "    ").replace("\r", "")
    return '"' + "".join(c for c in text if c >= " ") + '"'


def label(identity: str) -> str:
    return f"label({string(identity)})"


def width(line: str) -> int:
    """Columns that a line takes in a fixed-width font."""
    if line.isascii():
        return len(line)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in line)
    return len(line) + wide - sum(unicodedata.category(c) in ZERO for c in line)


def separated(text: str) -> str:
    """`text` with its combining marks kept off signs that they cannot combine with.

    A mark alone between quotes, as a token may be, is a cluster that no font has.
    """
    if text.isascii():
        return text
    done = ""
    for character in text:
        if unicodedata.category(character)[0] == "M":
            before = unicodedata.category(done[-1])[0] if done else "Z"
            done += "\u200b" if before not in "LMC" else ""
        done += character
    return done


def fitted(text: str, size: float = 8.0) -> tuple[str, float]:
    """Code or output that fits the line, and its size in points.

    Lines of up to 94 columns are set smaller; still longer ones continue on the next
    line behind an arrow.
    """
    text = separated(ANSI.sub("", text).replace("\t", "    ").strip("\n"))
    lines = text.split("\n")
    widest = max(map(width, lines))
    if widest > SMALLEST:
        lines = [piece for line in lines for piece in _wrapped(line)]
        widest = COLUMNS
    return "\n".join(lines), round(size * min(1.0, COLUMNS / widest), 2)


def _wrapped(line: str) -> list[str]:
    """The line in pieces that fit, broken at a space where one is near the end."""
    pieces, current = [], ""
    for character in line:
        if width(current + character) > COLUMNS:
            space = current.rfind(" ", COLUMNS - 24) + 1
            cut = space if space else len(current)
            pieces.append(current[:cut].rstrip())
            current = CONTINUED + current[cut:]
        current += character
    return [*pieces, current]
