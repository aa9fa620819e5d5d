"""Problems that a person can mend: where, what, and the remedy."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True, order=True)
class Problem:
    """One fault, at a line of a file; `path` is relative to the book's root, posix.

    `line` and `column` count from 1; 0 means that the fault belongs to the whole file.
    """

    path: str
    line: int
    message: str
    hint: str = ""
    column: int = 0

    def __str__(self) -> str:
        where = self.path
        if self.line:
            where += f":{self.line}"
        if self.line and self.column:
            where += f":{self.column}"
        text = f"{where}: error: {self.message}"
        return f"{text}\nhint: {self.hint}" if self.hint else text


class BookError(Exception):
    """All the problems found together; printed one after the other. Exit status 1."""

    exit_code = 1

    def __init__(self, *problems: Problem) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


class ConfigError(BookError):
    """The book's configuration or the command's usage is wrong. Exit status 2."""

    exit_code = 2


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """A hint naming the known word closest to `word`, or `otherwise`."""
    close = get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else otherwise
