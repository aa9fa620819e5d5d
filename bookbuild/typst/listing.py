"""Code and output as lines of coloured text that break across pages in good places.

Pygments finds the tokens: the compiler's own highlighter took two thirds of its time.
"""

from collections.abc import Iterator
from functools import cache

from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Keyword, Name, Number, Operator, String, _TokenType
from pygments.util import ClassNotFound

from bookbuild.typst.markup import string

LANGUAGES = {
    "ipython": "python",
    "ipython3": "python",
    "myst-ansi": "text",
    "ipythontb": "text",
}
PLAIN = frozenset({"", "none", "default", "text", "output"})
TOGETHER = 8  # a paragraph of code of so many lines is not broken
EDGE = 3  # of a longer one, so many lines stay together at each end
# The functions of the template by the kinds of token; the first that matches counts.
STYLES: tuple[tuple[_TokenType, str], ...] = (
    (Comment, "c"),
    (String.Doc, "c"),
    (String, "s"),
    (Keyword.Constant, "n"),
    (Keyword, "k"),
    (Operator.Word, "k"),
    (Number, "n"),
    (Name.Function, "f"),
    (Name.Class, "f"),
    (Name.Decorator, "b"),
    (Name.Exception, "b"),
    (Name.Builtin, "b"),
    (Name.Tag, "b"),
)


Group = tuple[int, list[list[str]]]


def listing(text: str, language: str = "") -> str:
    """The argument of the template's `code` and `output`.

    Pieces that stay together, each one of groups of (blank lines before it, lines).
    """
    shown = ""
    for piece in _together(list(_parted(list(_lines(text, language))))):
        groups = ""
        for gap, lines in piece:
            inner = "".join("{" + ";".join(line) + "}," for line in lines)
            groups += f"({gap},({inner})),"
        shown += f"({groups}),"
    return f"({shown})"


def _together(groups: list[Group]) -> Iterator[list[Group]]:
    """A group of one or two lines stays with its neighbour."""
    piece: list[Group] = []
    for number, group in enumerate(groups):
        piece.append(group)
        if number + 1 < len(groups):
            gap, lines = groups[number + 1]
            size = sum(len(lines) for _, lines in piece)
            short = size < EDGE or (number + 2 == len(groups) and len(lines) < EDGE)
            if gap and short and size + len(lines) <= TOGETHER + EDGE:
                continue
        yield piece
        piece = []


def _lines(text: str, language: str) -> Iterator[list[str]]:
    """Each line as Typst expressions; a blank one is empty."""
    language = LANGUAGES.get(language, language)
    if language in PLAIN:
        for line in text.split("\n"):
            yield [string(line)] if line.strip() else []
        return
    current: list[tuple[str, str]] = []
    for kind, value in _lexer(language).get_tokens(text):
        style = _style(kind)
        first, *more = value.split("\n")
        _append(current, style, first)
        for rest in more:
            yield _called(current)
            current = []
            _append(current, style, rest)
    if current:
        yield _called(current)


def _append(pieces: list[tuple[str, str]], style: str, text: str) -> None:
    if text and pieces and (pieces[-1][0] == style or not text.strip()):
        pieces[-1] = (pieces[-1][0], pieces[-1][1] + text)
    elif text:
        pieces.append((style, text))


def _called(pieces: list[tuple[str, str]]) -> list[str]:
    if not "".join(text for _, text in pieces).strip():
        return []
    return [
        f"{style}({string(text)})" if style else string(text) for style, text in pieces
    ]


@cache
def _style(kind: _TokenType) -> str:
    return next((style for known, style in STYLES if kind in known), "")


@cache
def _lexer(language: str) -> Lexer:
    try:
        return get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return get_lexer_by_name("text", stripnl=False)


def _parted(lines: list[list[str]]) -> Iterator[Group]:
    """Lines that stay together, with the number of blank lines before them."""
    group: list[list[str]] = []
    gap = blank = 0
    for line in [*lines, []]:
        if line:
            if not group:
                gap, blank = blank, 0
            group.append(line)
            continue
        if group:
            yield from _broken(gap, group)
            group = []
        blank += 1


def _broken(gap: int, group: list[list[str]]) -> Iterator[Group]:
    if len(group) <= TOGETHER:
        yield gap, group
        return
    yield gap, group[:EDGE]
    for line in group[EDGE:-EDGE]:
        yield 0, [line]
    yield 0, group[-EDGE:]
