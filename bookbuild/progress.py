"""What is running, on standard error: live on a terminal, else a line a chapter."""

import shutil
import sys
import time
from typing import Any, TextIO


class Reporter:
    """Hears what `execute` does. This one says nothing; others say it to somebody."""

    def begin(self, chapters: int) -> None:
        """So many chapters will run; the others are cached."""

    def cell(self, name: str, position: int, count: int, line: int) -> None:
        """Cell `position` of `count` starts, at a line of the chapter."""

    def finish(self, result: Any) -> None:
        """A chapter ran, or was cached, or failed."""

    def warn(self, text: str) -> None:
        """Something that a person should know, and that stops nothing."""

    def interrupted(self, name: str, position: int, count: int, line: int) -> None:
        """The run was interrupted while this cell ran (cell 0: the kernel started)."""

    def tick(self) -> None:
        """Time has passed."""

    def close(self) -> None:
        """Nothing more will come."""


class Lines(Reporter):
    """One line a chapter."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def say(self, text: str) -> None:
        self.stream.write(text + "\n")
        self.stream.flush()

    def finish(self, result: Any) -> None:
        if result.problems:
            first = result.problems[0]
            what = f"failed: {first.path}:{first.line}: {first.message.splitlines()[0]}"
            self.say(f"{result.name}: {what if result.ran else first.message}")
        elif not result.cached:
            self.say(f"{result.name}: {result.cells} cells in {result.seconds:.1f} s")

    def warn(self, text: str) -> None:
        self.say(f"warning: {text}")

    def interrupted(self, name: str, position: int, count: int, line: int) -> None:
        where = f"cell {position} of {count}" if position else "its kernel was starting"
        self.say(f"interrupted: book/{name}.md:{line} ({where})")


class Live(Lines):
    """Also one line that is written over: which chapters and cells run, since when."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.total = 0
        self.done = 0
        self.running: dict[str, str] = {}
        self.start = time.monotonic()
        self.shown = ""

    def begin(self, chapters: int) -> None:
        self.total, self.done, self.start = chapters, 0, time.monotonic()

    def cell(self, name: str, position: int, count: int, line: int) -> None:
        what = f"cell {position} of {count}" if position else "starting"
        self.running[name] = f"{name} {what}"
        self.tick()

    def finish(self, result: Any) -> None:
        if self.running.pop(result.name, None):
            self.done += 1
        super().finish(result)
        self.tick()

    def interrupted(self, name: str, position: int, count: int, line: int) -> None:
        self.running.pop(name, None)
        super().interrupted(name, position, count, line)

    def say(self, text: str) -> None:
        self._show("")
        super().say(text)

    def tick(self) -> None:
        if not self.running:
            return
        seconds = time.monotonic() - self.start
        what = " · ".join(self.running.values())
        self._show(f"[{self.done}/{self.total}] {seconds:.0f} s · {what}")

    def close(self) -> None:
        self._show("")

    def _show(self, text: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        text = text if len(text) <= width else text[: width - 1] + "…"
        if text != self.shown:
            self.stream.write(f"\r\x1b[2K{text}")
            self.stream.flush()
            self.shown = text


def reporter(stream: TextIO | None = None) -> Reporter:
    """What suits the stream: standard error, unless told otherwise."""
    stream = stream or sys.stderr
    return Live(stream) if stream.isatty() else Lines(stream)
