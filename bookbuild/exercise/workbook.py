"""The reader's files in `exercises/`, their progress, and what is done with them."""

import ast
import hashlib
import json
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bookbuild.book import Book
from bookbuild.errors import BookError, ConfigError, Problem, did_you_mean
from bookbuild.exercise import COMMAND
from bookbuild.exercise.grading import Job, Outcome, Piece, run
from bookbuild.exercise.parse import Exercise, exercises
from bookbuild.files import write_atomic

FOLDER = "exercises"
AS_IT_IS = re.compile(r"[-*] |\d+\. |\||```|:::|\$\$|  ")
WIDTH = 86


class Workbook:
    """A book's exercises beside the reader's own files."""

    def __init__(self, book: Book) -> None:
        self.root = book.root
        self.exercises = {exercise.label: exercise for exercise in exercises(book)}
        self.progress = self._progress()

    def run(self, action: str, label: str | None, force: bool, show: bool) -> int:
        """Do one action; the exit status. Raises `BookError` with what is to mend."""
        if action == "list":
            return self.list(label or "")
        if not self.exercises:
            raise BookError(Problem("book", 0, "has no exercises"))
        if action in ("hint", "solution") and not label:
            raise ConfigError(
                Problem(COMMAND, 0, f"{action} needs a label", f"see {COMMAND} list")
            )
        if action == "start":
            return self.start(self.find(label) if label else self.upcoming(), force)
        if action == "check":
            return self.check([self.find(label)] if label else self.started())
        if action == "watch":
            return self.watch(self.find(label) if label else None)
        exercise = self.find(label or "")
        return (
            self.hint(exercise) if action == "hint" else self.solution(exercise, show)
        )

    def find(self, label: str) -> Exercise:
        """The exercise called `label`; the path of the reader's file will do."""
        label = Path(label.replace("\\", "/")).name.removesuffix(".py")
        if label not in self.exercises:
            hint = did_you_mean(label, self.exercises, f"{COMMAND} list names them")
            raise ConfigError(Problem(FOLDER, 0, f"no exercise {label!r}", hint))
        return self.exercises[label]

    def path(self, exercise: Exercise) -> Path:
        return self.root / FOLDER / f"{exercise.label}.py"

    def where(self, exercise: Exercise) -> str:
        return f"{FOLDER}/{exercise.label}.py"

    def state(self, exercise: Exercise) -> str:
        """`new`, `started`, `passed`, or `changed` since it passed."""
        if not self.path(exercise).is_file():
            return "new"
        passed = self.noted(exercise).get("passed")
        if not passed:
            return "started"
        return "passed" if passed == self.digest(exercise) else "changed"

    def digest(self, exercise: Exercise) -> str:
        """Of the reader's file and of what grades it."""
        both = self.path(exercise).read_bytes() + exercise.grade.source.encode()
        return hashlib.sha256(both).hexdigest()

    def started(self) -> list[Exercise]:
        found = [e for e in self.exercises.values() if self.path(e).is_file()]
        if not found:
            hint = f"{COMMAND} start {self.upcoming().label}"
            raise BookError(Problem(FOLDER, 0, "no exercise is started", hint))
        return found

    def upcoming(self) -> Exercise:
        """The first exercise that has not passed; the first of all when all have."""
        waiting = [e for e in self.exercises.values() if self.state(e) != "passed"]
        return waiting[0] if waiting else next(iter(self.exercises.values()))

    def next_step(self, exercise: Exercise | None = None) -> str:
        """The command to go on with, in this exercise or in the whole book."""
        exercise = exercise or self.upcoming()
        state = self.state(exercise)
        if state == "passed" and exercise is self.upcoming():
            return "every exercise has passed"
        action = "start" if state == "new" else "check"
        return f"next: {COMMAND} {action} {exercise.label}"

    def list(self, chapter: str) -> int:
        chosen = [e for e in self.exercises.values() if e.chapter.startswith(chapter)]
        if not chosen:
            chapters = sorted({e.chapter for e in self.exercises.values()})
            hint = did_you_mean(chapter, chapters, "the book has none yet")
            raise ConfigError(Problem(FOLDER, 0, "no exercises there", hint))
        width = max(len(exercise.label) for exercise in chosen)
        before = ""
        for exercise in chosen:
            if exercise.chapter != before:
                print(exercise.chapter)
                before = exercise.chapter
            state = self.state(exercise)
            print(f"  {state:<8} {exercise.label:<{width}}  {exercise.title}")
        passed = sum(self.state(exercise) == "passed" for exercise in chosen)
        print(f"{passed} of {len(chosen)} passed\n{self.next_step()}")
        return 0

    def start(self, exercise: Exercise, force: bool) -> int:
        path, where, text = self.path(exercise), self.where(exercise), task(exercise)
        if path.is_file() and self.edited(exercise):
            if not force:
                again = f"{COMMAND} start {exercise.label} --force"
                hint = f"go on there, or start over: {again}"
                raise BookError(Problem(where, 0, "is there already, and edited", hint))
            write_atomic(path.with_suffix(".py.bak"), path.read_bytes())
            print(f"kept what you had as {where}.bak")
        write_atomic(path, text)
        self.note(exercise, written=hashlib.sha256(text.encode()).hexdigest())
        print(f"wrote {where}: {exercise.title}")
        print(f"next: edit it, then {COMMAND} check {exercise.label}")
        return 0

    def edited(self, exercise: Exercise) -> bool:
        now = hashlib.sha256(self.path(exercise).read_bytes()).hexdigest()
        return now != self.noted(exercise).get("written")

    def check(self, chosen: Sequence[Exercise]) -> int:
        """Grade the reader's files. Raises `BookError` with what failed."""
        jobs = [self.job(exercise) for exercise in chosen]
        outcomes = run(jobs, self.root, quiet=len(jobs) > 1)
        problems = []
        for exercise, job, outcome in zip(chosen, jobs, outcomes):
            if outcome.passed:
                self.note(exercise, passed=self.digest(exercise))
                print(f"passed: {exercise.label}  {exercise.title}")
            else:
                problems.append(verdict(exercise, job, outcome))
        if problems:
            raise BookError(*problems)
        print(f"see how the book does it: {COMMAND} solution {chosen[-1].label}")
        print(self.next_step())
        return 0

    def job(self, exercise: Exercise) -> Job:
        where = self.where(exercise)
        try:
            source = self.path(exercise).read_bytes().decode("utf-8-sig")
        except FileNotFoundError as error:
            hint = f"{COMMAND} start {exercise.label}"
            raise BookError(Problem(where, 0, "is not started", hint)) from error
        except UnicodeDecodeError as error:
            hint = "save the file as UTF-8"
            raise BookError(Problem(where, 0, "is not UTF-8", hint)) from error
        grade = exercise.grade
        return Job(
            [
                Piece(source, where),
                Piece(grade.source, exercise.source, grade.line),
            ],
            exercise.deadline,
        )

    def watch(self, only: Exercise | None) -> int:
        """Check a file whenever it is saved, until Ctrl-C."""
        from watchfiles import watch

        chosen = [only] if only else self.started()
        for exercise in chosen:
            self.job(exercise)  # a file must be there to be watched
        self.tell(chosen)
        watched = [only] if only else list(self.exercises.values())
        files = {f"{exercise.label}.py": exercise for exercise in watched}
        for changes in watch(
            self.root / FOLDER,
            watch_filter=lambda _, path: Path(path).name in files,
            raise_interrupt=False,
        ):
            saved = sorted({Path(path).name for _, path in changes})
            self.tell([files[n] for n in saved if self.path(files[n]).is_file()])
        return 0

    def tell(self, chosen: Sequence[Exercise]) -> None:
        """Check, and print what failed without ending."""
        try:
            if chosen:
                self.check(chosen)
        except BookError as error:
            print(*error.problems, sep="\n", file=sys.stderr)
        print(f"watching {FOLDER}/ (Ctrl-C ends)", flush=True)

    def hint(self, exercise: Exercise) -> int:
        hints = exercise.hints
        shown = min(self.noted(exercise).get("hints", 0) + 1, len(hints))
        for number, text in enumerate(hints[:shown], 1):
            print(f"hint {number} of {len(hints)}\n{filled(text)}\n")
        self.note(exercise, hints=shown)
        again = f"one more: {COMMAND} hint {exercise.label}"
        last = "that was the last hint" if hints else "this exercise has no hints"
        print(again if shown < len(hints) else last)
        print(self.next_step(exercise))
        return 0

    def solution(self, exercise: Exercise, show: bool) -> int:
        if not (show or self.noted(exercise).get("passed")):
            label = exercise.label
            message = f"your {label} has not passed yet"
            hint = f"{COMMAND} hint {label}; see it all the same with --show"
            raise BookError(Problem(self.where(exercise), 0, message, hint))
        print(f"{exercise.solution.source}\n\n{filled(exercise.explanation)}".rstrip())
        print(f"\n{self.next_step()}")
        return 0

    def noted(self, exercise: Exercise) -> dict[str, Any]:
        noted: dict[str, Any] = self.progress.get(exercise.label, {})
        return noted

    def note(self, exercise: Exercise, **what: Any) -> None:
        self.progress[exercise.label] = {**self.noted(exercise), **what}
        text = json.dumps(self.progress, indent=1, sort_keys=True) + "\n"
        write_atomic(self.root / FOLDER / ".progress.json", text)

    def _progress(self) -> dict[str, Any]:
        path = self.root / FOLDER / ".progress.json"
        try:
            progress = json.loads(path.read_text(encoding="utf-8"))
            if all(isinstance(noted, dict) for noted in progress.values()):
                return dict(progress)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError):
            pass
        print(f"{FOLDER}/.progress.json is damaged; it begins anew", file=sys.stderr)
        return {}


def task(exercise: Exercise) -> str:
    """The reader's file as it begins: the task in comments, the starter below."""
    head = f"{exercise.title} ({exercise.source})\n\n{filled(exercise.statement)}\n\n"
    head += f"Grade it with: {COMMAND} check {exercise.label}\n"
    head += f"A hint:        {COMMAND} hint {exercise.label}"
    comments = [f"# {line}".rstrip() for line in head.split("\n")]
    return "\n".join(comments) + f"\n\n{exercise.starter.source.strip()}\n"


def filled(text: str) -> str:
    """Prose broken at `WIDTH`; lists, tables, formulas and code as they are."""
    paragraphs = []
    for paragraph in text.split("\n\n"):
        kept = any(AS_IT_IS.match(line) for line in paragraph.split("\n"))
        paragraphs.append(paragraph if kept else textwrap.fill(paragraph, WIDTH))
    return "\n\n".join(paragraphs)


def verdict(exercise: Exercise, job: Job, outcome: Outcome) -> Problem:
    """What failed, at a line of the reader's file."""
    mine, grade = job.pieces[0], job.pieces[1]
    line = outcome.line(mine.path)
    message = str(outcome)
    if outcome.kind == "NotImplementedError":
        message = outcome.message or "this is not written yet"
    elif outcome.kind == "AssertionError" and not outcome.message:
        message = "an assert of yours failed"
    elif outcome.kind in ("Deadline", "Crash"):
        message = outcome.message
    hint = f"{COMMAND} hint {exercise.label}"
    if outcome.stage == 1 and (at := outcome.line(grade.path)):
        line = line or next(_graded(mine.source, grade, at), 0)
        hint = f"graded at {grade.path}:{at}; stuck? {hint}"
    return Problem(mine.path, line, message, hint)


def _graded(source: str, grade: Piece, at: int) -> Iterator[int]:
    """Lines of the reader's definitions that the grade cell uses, nearest to `at`."""
    defined = {
        node.name: node.lineno
        for node in ast.parse(source).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    }
    statements = ast.parse(grade.source).body
    reached = [s for s in statements if grade.line + s.lineno - 1 <= at]
    for statement in reversed(reached):
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and node.id in defined:
                yield defined[node.id]
