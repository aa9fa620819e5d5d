"""Tracebacks of a kernel, told in lines of the book."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from bookbuild.chapter import Cell
from bookbuild.document import plain, shorten

Locate = Callable[[str | Path, int], tuple[str, int] | None]

PLACE = re.compile(
    r"Cell In\[(?P<count>\d+)\], line (?P<cell_line>\d+)"
    r"|File (?P<path>\S[^\n]*?\.py):(?P<path_line>\d+)"
    r'|File "(?P<quoted>[^"\n]+)", line (?P<quoted_line>\d+)'
)
KERNEL_FILE = re.compile(r"[/\\]ipykernel_\d+[/\\](\d+\.py)$")
LISTED = re.compile(r"^(-+> | *)(\d+)(?= |$)", re.MULTILINE)
ARROW = re.compile(r"^-+> \d+", re.MULTILINE)
RULE = re.compile(r"^-{20,}\s*$")


class Frames:
    """Rewrites the tracebacks of one chapter's run.

    `cells` maps an execution count to its cell; `files` maps the name that the kernel
    gives a cell's code to the execution count; `locate` maps a module's line.
    """

    def __init__(
        self,
        source: str,
        cells: Mapping[int, Cell],
        files: Mapping[str, int],
        locate: Locate,
    ) -> None:
        self.source = source
        self.cells = cells
        self.files = files
        self.locate = locate

    def rewrite(self, traceback: list[str]) -> tuple[str, int | None]:
        """The traceback in the book's lines; and the last line of the chapter in it."""
        entries = [plain(entry).rstrip() for entry in traceback]
        if entries and RULE.match(entries[0]):
            entries = entries[2:]
        own: int | None = None
        told = []
        for entry in shorten(entries):
            for found in PLACE.finditer(entry):
                place = self._place(found)
                if place and place[0] == self.source:
                    own = place[1]
            told.append(self._entry(entry))
        return "\n\n".join(told).strip("\n"), own

    def _entry(self, entry: str) -> str:
        first = PLACE.search(entry)
        if first and self._place(first) and ARROW.search(entry):
            entry = LISTED.sub(lambda found: self._listed(found, first), entry)
        return PLACE.sub(self._spell, entry)

    def _spell(self, found: re.Match[str]) -> str:
        place = self._place(found)
        return f"{place[0]}:{place[1]}" if place else found[0]

    def _listed(self, found: re.Match[str], frame: re.Match[str]) -> str:
        """The number in front of a line of code, as wide as it was with its arrow."""
        place = self._place(frame, int(found[2]))
        if place is None:
            return found[0]
        number, width = str(place[1]), len(found[0])
        if found[1].startswith("-"):
            return "-" * max(1, width - len(number) - 2) + f"> {number}"
        return number.rjust(width)

    def _place(
        self, found: re.Match[str], line: int | None = None
    ) -> tuple[str, int] | None:
        """The book's file and line of a frame, or of another `line` of its file."""
        if found["count"]:
            return self._cell(int(found["count"]), line or int(found["cell_line"]))
        path = found["path"] or found["quoted"]
        line = line or int(found["path_line"] or found["quoted_line"])
        kernel = KERNEL_FILE.search(path)
        if kernel:
            return self._cell(self.files.get(kernel[1], 0), line)
        return self.locate(Path(path).expanduser(), line)

    def _cell(self, count: int, line: int) -> tuple[str, int] | None:
        cell = self.cells.get(count)
        return (self.source, cell.line + line - 1) if cell else None
