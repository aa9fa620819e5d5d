"""Exercises, read from a chapter's gates and cells."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from jupytext.myst import get_parser

from bookbuild.book import Book
from bookbuild.chapter import Cell, Chapter
from bookbuild.errors import BookError, Problem, did_you_mean

DIRECTIVE = re.compile(r"\{([\w-]+)\}\s*(.*)")
GATES = ("exercise-start", "exercise-end", "solution-start", "solution-end")
COLONS = re.compile(r"^:{3,}\{(exercise|solution)(-start|-end)?\}", re.MULTILINE)
KINDS = ("starter", "solution", "grade")
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
ROLE = re.compile(r"\{[\w:-]+\}`([^`<]+?)(?:\s*<[^`>]*>)?`")
DEADLINE = 60.0


@dataclass(frozen=True)
class Exercise:
    """One exercise; the three cells know their lines in the chapter."""

    label: str
    title: str
    chapter: str
    line: int
    statement: str
    hints: tuple[str, ...]
    starter: Cell
    solution: Cell
    grade: Cell
    explanation: str

    @property
    def source(self) -> str:
        return f"book/{self.chapter}.md"

    @property
    def deadline(self) -> float:
        """Seconds that grading may take: `timeout` of the grade cell, else a minute."""
        return float(self.grade.metadata.get("timeout", DEADLINE))


def exercises(book: Book) -> list[Exercise]:
    """All exercises in reading order. Raises `BookError` with what is wrong."""
    problems: list[Problem] = []
    found: dict[str, Exercise] = {}
    for chapter in book.chapters:
        reader = _Reader(chapter)
        for exercise in reader.exercises():
            first = found.setdefault(exercise.label, exercise)
            if first is not exercise:
                message = (
                    f"the label {exercise.label!r} is taken, "
                    f"by {first.source}:{first.line}"
                )
                hint = "choose another label for one of the two"
                problems.append(Problem(exercise.source, exercise.line, message, hint))
        problems.extend(reader.problems)
    if problems:
        raise BookError(*problems)
    return list(found.values())


def plain(text: str) -> str:
    """MyST as a person reads it in a terminal: roles become their text."""
    return ROLE.sub(r"\1", text).strip()


@dataclass
class _Draft:
    """An exercise while its chapter is read."""

    label: str
    title: str
    line: int
    statement: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    explanation: list[str] = field(default_factory=list)
    cells: dict[str, Cell] = field(default_factory=dict)


@dataclass
class _Block:
    """A directive of a markdown cell, or text where `name` is empty."""

    name: str
    argument: str
    label: str
    body: str
    line: int


class _Reader:
    """Reads one chapter's exercises; `problems` collects what is wrong."""

    def __init__(self, chapter: Chapter) -> None:
        self.chapter = chapter
        self.problems: list[Problem] = []
        self.drafts: dict[str, _Draft] = {}
        self.task: _Draft | None = None  # whose starter may come
        self.gate: tuple[str, int] = ("", 0)  # the open gate and its line
        self.solved: _Draft | None = None  # between its solution's gates

    def problem(self, line: int, message: str, hint: str = "") -> None:
        self.problems.append(Problem(self.chapter.source, line, message, hint))

    def exercises(self) -> list[Exercise]:
        for cell in self.chapter.cells:
            if cell.kind == "code":
                self.code(cell)
            else:
                for block in _blocks(cell):
                    self.block(block)
        self.close("")
        return [e for draft in self.drafts.values() if (e := self.finish(draft))]

    def block(self, block: _Block) -> None:
        if block.name in GATES:
            getattr(self, block.name.replace("-", "_"))(block)
        elif block.name == "exercise":
            hint = "write it between exercise-start and exercise-end, with three cells"
            self.problem(block.line, "nothing grades this exercise", hint)
        elif block.name == "hint" and self.task and self.gate[0] == "exercise-start":
            self.task.hints.append(block.body)
        elif gate := COLONS.search(block.body):
            line = block.line + block.body[: gate.start()].count("\n")
            hint = "fence it with backticks: ```{exercise-start}"
            self.problem(line, f"{gate[0]} is not read: an exercise is graded", hint)
        elif self.gate[0] == "exercise-start" and self.task:
            self.task.statement.append(block.body)
        elif self.solved:
            self.solved.explanation.append(block.body)

    def exercise_start(self, block: _Block) -> None:
        self.close(block.name)
        self.gate = (block.name, block.line)
        label = block.label
        if not LABEL.fullmatch(label):
            hint = "add a line such as :label: ex-attention-window"
            what = (
                f"the label {label!r} cannot name a file" if label else "has no label"
            )
            self.problem(block.line, f"this exercise: {what}", hint)
        elif label in self.drafts:
            before = self.drafts[label].line
            message = f"the label {label!r} is taken, by line {before}"
            self.problem(block.line, message, "choose another label")
        self.task = _Draft(label, block.argument, block.line)
        if label:
            self.drafts.setdefault(label, self.task)

    def exercise_end(self, block: _Block) -> None:
        if self.gate[0] != "exercise-start":
            self.problem(block.line, "exercise-end without exercise-start")
        self.gate = ("", 0)

    def solution_start(self, block: _Block) -> None:
        self.close(block.name)
        self.gate = (block.name, block.line)
        self.solved = self.drafts.get(block.argument)
        if not self.solved:
            hint = did_you_mean(block.argument, self.drafts, "give an exercise's label")
            message = f"a solution of no exercise before it: {block.argument!r}"
            self.problem(block.line, message, hint)

    def solution_end(self, block: _Block) -> None:
        if self.gate[0] != "solution-start":
            self.problem(block.line, "solution-end without solution-start")
        self.gate, self.solved = ("", 0), None

    def close(self, following: str) -> None:
        """Complain when a gate is still open where `following` or the end comes."""
        name, line = self.gate
        if name:
            end = name.replace("start", "end")
            message = f"this {name} has no {end}"
            self.problem(line, message, f"close it with a block {{{end}}}")
        self.gate, self.solved = ("", 0), None

    def code(self, cell: Cell) -> None:
        for kind in KINDS:
            if kind not in cell.tags:
                continue
            draft = self.task if kind == "starter" else self.solved
            if draft is None:
                if self.gate[0] != "solution-start":
                    where = "before its exercise-start"
                    if kind != "starter":
                        where = "outside solution-start and solution-end"
                    self.problem(cell.line, f"this {kind} cell stands {where}")
            elif kind in draft.cells:
                before = draft.cells[kind].line
                message = f"a second {kind} cell of {draft.label}, after line {before}"
                self.problem(cell.line, message, "make one cell of the two")
            else:
                draft.cells[kind] = cell
                if kind == "grade":
                    self.grade(cell)

    def grade(self, cell: Cell) -> None:
        tree = cell.tree()
        asserts = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
        for node in asserts:
            empty = isinstance(node.msg, ast.Constant) and not node.msg.value
            if node.msg is None or empty:
                line = cell.line + node.lineno - 1
                hint = 'say what is wrong: assert ok, "each row sees two positions"'
                self.problem(line, "an assert of a grade cell without a message", hint)
        if not asserts and not any(isinstance(n, ast.Raise) for n in ast.walk(tree)):
            self.problem(cell.line, "this grade cell asserts nothing")

    def finish(self, draft: _Draft) -> Exercise | None:
        missing = [kind for kind in KINDS if kind not in draft.cells]
        statement = plain("\n".join(draft.statement))
        if missing:
            what = f"the exercise {draft.label} has no {' and no '.join(missing)} cell"
            hint = f"tag the cell with :tags: [{missing[0]}]"
            self.problem(draft.line, what, hint)
        if not statement:
            self.problem(draft.line, f"the exercise {draft.label} says no task")
        if not draft.title:
            message = f"the exercise {draft.label} has no title"
            self.problem(draft.line, message, "write it behind {exercise-start}")
        if missing or not LABEL.fullmatch(draft.label):
            return None
        return Exercise(
            draft.label,
            plain(draft.title),
            self.chapter.name,
            draft.line,
            statement,
            tuple(plain(hint) for hint in draft.hints),
            draft.cells["starter"],
            draft.cells["solution"],
            draft.cells["grade"],
            plain("\n".join(draft.explanation)),
        )


def _blocks(cell: Cell) -> Iterator[_Block]:
    """The directives that matter here and the text between them, in order."""
    lines = cell.source.split("\n")
    start = 0
    for token in get_parser().parse(cell.source + "\n"):
        found = DIRECTIVE.match(token.info.strip()) if token.map else None
        if not found or token.level or found[1] not in (*GATES, "exercise", "hint"):
            continue
        first, last = token.map
        yield _Block("", "", "", "\n".join(lines[start:first]), cell.line + start)
        label, body = _options(token.content)
        yield _Block(found[1], found[2].strip(), label, body, cell.line + first)
        start = last
    yield _Block("", "", "", "\n".join(lines[start:]), cell.line + start)


def _options(content: str) -> tuple[str, str]:
    """The label among a directive's options, and the body behind them."""
    lines = content.split("\n")
    count = 0
    if lines[0].strip() == "---":
        count = (
            next((i for i, x in enumerate(lines[1:], 1) if x.strip() == "---"), 0) + 1
        )
    while count < len(lines) and re.match(r":[\w-]+:", lines[count]):
        count += 1
    options = "\n".join(lines[:count])
    label = re.search(r"^:?label:\s*(.*?)\s*$", options, re.MULTILINE)
    return (label[1] if label else ""), "\n".join(lines[count:])
