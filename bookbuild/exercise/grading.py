"""Run code against grade cells, in processes of their own with a deadline."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bookbuild.book import Book
from bookbuild.chapter import Cell
from bookbuild.environment import THREADS, cores
from bookbuild.errors import Problem
from bookbuild.exercise.parse import Exercise, exercises

STARTUP = 300.0  # seconds to start Python and import what the jobs need
POLL = 0.05


@dataclass(frozen=True)
class Piece:
    """Source that starts at a line of a file."""

    source: str
    path: str
    line: int = 1


@dataclass(frozen=True)
class Job:
    """Pieces to run one after the other in one module, within `deadline` seconds."""

    pieces: Sequence[Piece]
    deadline: float


@dataclass(frozen=True)
class Outcome:
    """How a job ended; `frames` are the lines of its pieces in the traceback.

    `stage` is the index of the piece that failed.
    """

    passed: bool
    stage: int = 0
    kind: str = ""
    message: str = ""
    frames: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        if self.kind == "AssertionError" and self.message:
            return self.message
        return f"{self.kind}: {self.message}" if self.message else self.kind

    def line(self, path: str) -> int:
        """The innermost line of the traceback in the file at `path`, 0 when none is."""
        return next((line for file, line in reversed(self.frames) if file == path), 0)


def run(jobs: Sequence[Job], root: Path, *, quiet: bool = False) -> list[Outcome]:
    """The outcomes of the jobs, in order; `quiet` hides what the code prints."""
    outcomes: dict[int, Outcome] = {}
    while len(outcomes) < len(jobs):
        left = [number for number in range(len(jobs)) if number not in outcomes]
        with tempfile.TemporaryDirectory(prefix="bookbuild-") as scratch:
            _run(jobs, left, outcomes, root, Path(scratch), quiet)
    return [outcomes[number] for number in range(len(jobs))]


def _run(
    jobs: Sequence[Job],
    left: list[int],
    outcomes: dict[int, Outcome],
    root: Path,
    scratch: Path,
    quiet: bool,
) -> None:
    """Let one process run the jobs that are left, as far as it comes."""
    batch = [{"job": n, "pieces": [asdict(p) for p in jobs[n].pieces]} for n in left]
    (scratch / "jobs.json").write_text(json.dumps(batch), encoding="utf-8")
    results = scratch / "results.jsonl"
    results.touch()
    several = len(left) > 1
    process = subprocess.Popen(
        [sys.executable, "-m", f"{__package__}.runner", scratch / "jobs.json", results],
        cwd=root,
        env=_environment(root, several),
        stdin=subprocess.DEVNULL if quiet else None,
        stdout=subprocess.DEVNULL if quiet else None,
        stderr=subprocess.DEVNULL if quiet else None,
        start_new_session=several,  # so that the forked job can be ended with it
    )
    running: int | None = None
    limit, since, seen = STARTUP, time.monotonic(), 0
    try:
        while True:
            finished = process.poll() is not None
            lines = results.read_text(encoding="utf-8").split("\n")[:-1]
            for line in lines[seen:]:
                event = json.loads(line)
                number = event["job"]
                started = event["event"] == "started"
                running = number if started else None
                limit, since = jobs[number].deadline, time.monotonic()
                if not started:
                    outcomes[number] = _outcome(event)
            seen = len(lines)
            if finished:
                break
            if time.monotonic() - since > limit:
                number = left[0] if running is None else running
                outcomes[number] = Outcome(
                    False, 0, "Deadline", f"not done after {limit:g} s"
                )
                return
            time.sleep(POLL)
    finally:
        _end(process, several)
    lost = [number for number in left if number not in outcomes]
    if lost:
        outcomes[lost[0]] = _died(process.returncode)


def _outcome(event: dict[str, Any]) -> Outcome:
    if event["event"] == "died":
        return _died(event["status"])
    frames = tuple((file, line) for file, line in event["frames"])
    return Outcome(
        event["passed"], event["stage"], event["kind"], event["message"], frames
    )


def _died(status: int) -> Outcome:
    why = f"exit status {status}"
    if status < 0:
        why = signal.strsignal(-status) or f"signal {-status}"
    return Outcome(False, 0, "Crash", f"the process ended without a result ({why})")


def _end(process: "subprocess.Popen[bytes]", several: bool) -> None:
    if process.poll() is None:
        if several and hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()


def _environment(root: Path, several: bool) -> dict[str, str]:
    """Find the book's package first; leave bytecode, or torch starts slowly."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    tool = str(Path(__file__).resolve().parents[2])
    paths = [str(root), tool, *kept.get("PYTHONPATH", "").split(os.pathsep)]
    kept["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, paths)))
    kept["BOOK_ROOT"] = str(root)
    return {**kept, **dict.fromkeys(THREADS, "1")} if several else kept


def self_check(book: Book, names: Iterable[str] = ()) -> list[Problem]:
    """Solutions that fail and starters that pass their grade cell, or do not run.

    Each runs alone in a fresh process. `names` are chapters; all, when none is named.
    """
    chapters = {chapter.name for chapter in book.select(names)}
    chosen = [exercise for exercise in exercises(book) if exercise.chapter in chapters]
    processes = max(1, min(cores(), len(chosen)))
    shares = [chosen[number::processes] for number in range(processes)]
    with ThreadPoolExecutor(processes) as pool:
        found = pool.map(lambda share: _share(book, share), shares)
        return sorted(problem for problems in found for problem in problems)


def _share(book: Book, chosen: Sequence[Exercise]) -> list[Problem]:
    """Run the solutions and the starters of some exercises in one process."""
    jobs = [
        Job(
            [_piece(exercise, cell), _piece(exercise, exercise.grade)],
            exercise.deadline,
        )
        for exercise in chosen
        for cell in (exercise.solution, exercise.starter)
    ]
    outcomes = run(jobs, book.root, quiet=True)
    pairs = zip(chosen, outcomes[::2], outcomes[1::2])
    return [problem for pair in pairs for problem in _wrong(*pair)]


def _piece(exercise: Exercise, cell: Cell) -> Piece:
    return Piece(cell.source, exercise.source, cell.line)


def _wrong(exercise: Exercise, solution: Outcome, starter: Outcome) -> list[Problem]:
    where, label = exercise.source, exercise.label
    problems = []
    if not solution.passed:
        line = solution.line(where) or exercise.solution.line
        message = f"the solution of {label} does not pass: {solution}"
        hint = "the cells of an exercise work alone: they import what they need"
        problems.append(Problem(where, line, message, hint))
    if starter.passed:
        message = f"the starter of {label} passes: the grade cell grades nothing"
        hint = "assert what only a right solution does"
        problems.append(Problem(where, exercise.grade.line, message, hint))
    elif starter.stage == 0:
        line = starter.line(where) or exercise.starter.line
        message = f"the starter of {label} does not run: {starter}"
        hint = "it must run as it stands and fail when it is graded"
        problems.append(Problem(where, line, message, hint))
    return problems
