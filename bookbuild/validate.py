"""Compare executed chapters with their references, and accept what changed on purpose.

`validate` runs nothing: it reads `_build/executed/NAME.ipynb` and lets nbval compare it
with `tests/golden/NAME.ipynb` (`NAME.cuda.ipynb` on a GPU). A chapter that agreed is
left alone until its code, its outputs, its reference or this tool changes.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from importlib.metadata import version
from pathlib import Path

from bookbuild import reference
from bookbuild.book import Book
from bookbuild.chapter import Cell, Chapter
from bookbuild.errors import BookError, Problem
from bookbuild.files import write_atomic
from bookbuild.numeric import Tolerance
from bookbuild.reference import IGNORE, Node

ACCELERATOR = re.compile(r"\.(cuda|mps)$")
TOOL = (
    "validate.py",
    "comparison.py",
    "numeric.py",
    "reference.py",
    "images.py",
    "nbval.cfg",
)


def validate(
    book: Book, names: Iterable[str] = (), *, device: str = "cpu"
) -> list[Problem]:
    """The problems of the named chapters; of all, and of orphaned references."""
    names = list(names)
    problems = [] if names else [_orphaned(book, path) for path in _orphans(book)]
    checks: list[_Check] = []
    stamps: dict[Path, str] = {}
    for chapter in book.select(names):
        if not chapter.code_cells:
            continue
        check = _Check(book, chapter, device)
        stamp = book.build / "validated" / f"{chapter.name}.sha256"
        digest = check.digest()
        if not (digest and stamp.is_file() and stamp.read_text() == digest):
            check.read()
            check.pair()
            checks.append(check)
            stamps[stamp] = digest
    _compare(checks)
    for check, (stamp, digest) in zip(checks, stamps.items()):
        found = check.all_problems()
        problems.extend(found)
        if not found:
            write_atomic(stamp, digest)
    return sorted(problems)


def accept(book: Book, names: Iterable[str] = (), *, device: str = "cpu") -> list[str]:
    """Make the executed outputs the references; the paths written and removed.

    A cell that agrees with its reference keeps the reference's bytes, so that an
    unchanged chapter leaves its file as it was. References without a chapter are
    removed. Raises `BookError`, and writes nothing, when a chapter was not executed
    as it stands.
    """
    checks = [_Check(book, c, device) for c in book.select(names) if c.code_cells]
    for check in checks:
        check.read()
    if faults := [problem for check in checks for problem in check.faults]:
        raise BookError(*faults)
    for check in checks:
        check.pair()
    _compare(checks)
    changed = [check.write() for check in checks]
    for path in _orphans(book):
        path.unlink()
        changed.append(path.relative_to(book.root).as_posix())
    return sorted(path for path in changed if path)


def _orphans(book: Book) -> list[Path]:
    """References that belong to no chapter with code."""
    known = {chapter.name for chapter in book.chapters if chapter.code_cells}
    found = []
    for path in sorted(book.golden.rglob("*.ipynb")):
        name = path.relative_to(book.golden).as_posix().removesuffix(".ipynb")
        hidden = any(piece.startswith(".") for piece in name.split("/"))
        if not hidden and ACCELERATOR.sub("", name) not in known:
            found.append(path)
    return found


def _orphaned(book: Book, path: Path) -> Problem:
    where = path.relative_to(book.root).as_posix()
    hint = f"delete it (git rm {where}); `nox -s accept -- CHAPTER` does so too"
    return Problem(where, 0, "is the reference of no chapter that has code", hint)


def _compare(checks: list["_Check"]) -> None:
    pairs = [pair for check in checks for pair in check.pairs if pair.comparable]
    if pairs:
        from bookbuild.comparison import Comparison, compare

        comparisons = [
            Comparison(
                pair.path, pair.fresh["outputs"], pair.old["outputs"], pair.tolerance
            )
            for pair in pairs
        ]
        compare(comparisons)
        for pair, comparison in zip(pairs, comparisons):
            pair.difference = comparison.difference


@dataclass
class _Pair:
    """A cell as executed and the same cell in the reference, both reduced."""

    index: int
    cell: Cell
    path: Path
    fresh: Node
    old: Node
    tolerance: Tolerance
    difference: str = ""

    @property
    def agrees(self) -> bool:
        return not self.stale and not self.difference

    @property
    def stale(self) -> str:
        """Why the reference cannot be compared, or nothing."""
        if self.old["source"] != self.fresh["source"]:
            return "the source of this cell changed since its reference was accepted"
        if self.old["metadata"] != self.fresh["metadata"]:
            return "the tags of this cell changed since its reference was accepted"
        if self.fresh["execution_count"] and not self.old["execution_count"]:
            return "this cell was never executed when its reference was written"
        return ""

    @property
    def comparable(self) -> bool:
        return not self.stale and IGNORE not in self.cell.tags


@dataclass
class _Check:
    """One chapter: what was executed, beside its reference."""

    book: Book
    chapter: Chapter
    device: str
    fresh: list[Node] = field(default_factory=list)
    old: list[Node] | None = None
    faults: list[Problem] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    pairs: list[_Pair] = field(default_factory=list)

    @property
    def executed(self) -> Path:
        return self.book.build / "executed" / f"{self.chapter.name}.ipynb"

    @property
    def golden(self) -> Path:
        kind = "" if self.kind == "cpu" else f".{self.kind}"
        return self.book.golden / f"{self.chapter.name}{kind}.ipynb"

    @property
    def kind(self) -> str:
        """The kind of the device: references are for `cuda`, not for `cuda:1`."""
        return self.device.partition(":")[0]

    @property
    def where(self) -> str:
        return self.golden.relative_to(self.book.root).as_posix()

    @property
    def options(self) -> str:
        return "" if self.device == "cpu" else f" --device {self.device}"

    @property
    def remedy(self) -> str:
        return f"nox -s accept -- {self.chapter.name}{self.options}"

    def digest(self) -> str:
        """Of everything that the result depends on; empty when something is missing."""
        if not (self.executed.is_file() and self.golden.is_file()):
            return ""
        cells = [[c.source, c.tags, dict(c.metadata)] for c in self.chapter.code_cells]
        head = [version("nbval"), self.kind, self.executed_on(), cells]
        digest = hashlib.sha256(json.dumps(head, default=str).encode())
        tool = [Path(__file__).with_name(name) for name in TOOL]
        for path in (*tool, self.executed, self.golden):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    def executed_on(self) -> str:
        """The kind of the device of the execution, as far as its record says."""
        record = self.executed.with_suffix(".json")
        try:
            found = json.loads(record.read_text(encoding="utf-8")).get("device", "")
        except (OSError, ValueError, AttributeError):
            return ""
        return str(found).partition(" ")[0]

    def fault(self, line: int, message: str, hint: str = "") -> None:
        self.faults.append(Problem(self.chapter.source, line, message, hint))

    def problem(self, line: int, message: str, hint: str = "") -> None:
        hint = hint or f"look at the change; when you mean it: {self.remedy}"
        self.problems.append(Problem(self.chapter.source, line, message, hint))

    def all_problems(self) -> list[Problem]:
        for pair in self.pairs:
            if pair.stale:
                self.problem(pair.cell.line, pair.stale)
            elif pair.difference:
                what = f"the output differs from {self.where} (- reference, + this run)"
                self.problem(pair.cell.line, f"{what}\n{pair.difference}")
        return [*self.faults, *self.problems]

    def read(self) -> None:
        """Read the executed notebook; what is wrong with it goes to `faults`."""
        again = f"bookbuild execute {self.chapter.name}{self.options}"
        try:
            self.fresh = reference.read(self.executed)
        except FileNotFoundError:
            return self.fault(0, "has not been executed", again)
        except (OSError, ValueError) as error:
            hint = f"{again} --force"
            return self.fault(0, f"its executed notebook is damaged: {error}", hint)
        device = self.executed_on()
        if device and device != self.kind:
            message = f"was executed on {device}, not on {self.kind}"
            return self.fault(0, message, again)
        cells = self.chapter.code_cells
        if [reference.identity(c.source, c.tags) for c in cells] != [
            reference.identity(n["source"], n.get("metadata", {}).get("tags"))
            for n in self.fresh
        ]:
            return self.fault(0, "its code changed since it was executed", again)
        for cell, node in zip(cells, self.fresh):
            for message, hint in reference.faults(cell, node):
                self.fault(cell.line, message, hint or again)

    def pair(self) -> None:
        """Read the reference and find each cell's in it."""
        if self.faults:
            return
        try:
            self.old = reference.read(self.golden)
        except FileNotFoundError:
            return self.problem(0, f"has no reference {self.where}", self.remedy)
        except (OSError, ValueError) as error:
            return self.problem(0, f"its reference {self.where} is damaged: {error}")
        cells = self.chapter.code_cells
        matcher = SequenceMatcher(
            None,
            [node["source"] for node in self.old],
            [node["source"] for node in self.fresh],
            autojunk=False,
        )
        for _, start, end, first, last in matcher.get_opcodes():
            both = min(end - start, last - first)
            for index in range(first, first + both):
                old = self.old[start + index - first]
                self.pairs.append(self._pair(index, old))
            for cell in cells[first + both : last]:
                self.problem(cell.line, "this cell is not in the reference yet")
            for old in self.old[start + both : end]:
                line = cells[max(last - 1, 0)].line
                begin = old["source"].split("\n")[0]
                message = f"after this cell the reference has one more: {begin!r}"
                self.problem(line, message)

    def _pair(self, index: int, old: Node) -> _Pair:
        cell, fresh = self.chapter.code_cells[index], self.fresh[index]
        before = reference.reduced(old, old["metadata"].get("tags"))
        now = reference.reduced(fresh, cell.tags)
        return _Pair(index, cell, self.golden, now, before, reference.tolerance(cell))

    def write(self) -> str:
        """Write the reference; its path when that changed it."""
        kept = {pair.index: pair.old for pair in self.pairs if pair.agrees}
        executed = enumerate(zip(self.chapter.code_cells, self.fresh))
        cells = [
            kept.get(index) or reference.reduced(node, cell.tags)
            for index, (cell, node) in executed
        ]
        return self.where if write_atomic(self.golden, reference.dumps(cells)) else ""
