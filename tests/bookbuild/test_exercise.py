"""Exercises: read from chapters, checked by themselves, and worked on by a reader."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import books
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookbuild import book as books_of
from bookbuild import cli, exercise
from bookbuild.errors import BookError, ConfigError, Problem
from bookbuild.exercise.grading import Job, Piece, run
from bookbuild.exercise.workbook import filled

ROOT = Path(__file__).parents[2]
NAME = "part/chapter"
DOUBLE = 'def double(x: int) -> int:\n    """Twice x."""\n    raise NotImplementedError'
SOLVED = "def double(x: int) -> int:\n    return 2 * x"
GRADE = (
    'assert double(0) == 0, "twice nothing is nothing"\n'
    "result = double(4)\n"
    'assert result == 8, f"double(4) is {result}, not 8"'
)


def gated(
    label: str = "ex-double",
    title: str = "Twice",
    statement: str = "Write a function that doubles.",
    hints: tuple[str, ...] = ("Add {term}`x` to itself.", "Or multiply."),
    starter: str | None = DOUBLE,
    solution: str | None = SOLVED,
    grade: str | None = GRADE,
    explanation: str = "Addition is enough.",
    **options: Any,
) -> str:
    blocks = [f"```{{exercise-start}} {title}\n:label: {label}\n```\n{statement}\n"]
    blocks += [f"```{{hint}}\n:class: dropdown\n{hint}\n```" for hint in hints]
    blocks += ["```{exercise-end}\n```\n"]
    if starter is not None:
        blocks += [books.code(starter, ["starter"])]
    blocks += [f"```{{solution-start}} {label}\n:class: dropdown\n```"]
    if solution is not None:
        blocks += [books.code(solution, ["solution"])]
    if grade is not None:
        blocks += [books.code(grade, ["grade"], **options)]
    blocks += [explanation, "```{solution-end}\n```\n"]
    return "\n".join(blocks)


Make = Callable[..., books_of.Book]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A book from the pieces of its chapters."""

    def make(*pieces: str, **chapters: str) -> books_of.Book:
        files = {NAME: books.page(*pieces)}
        files |= {f"part/{name}": books.page(text) for name, text in chapters.items()}
        return books_of.load(books.write_book(tmp_path / "a book", files))

    return make


def do(
    book: books_of.Book, action: str, label: str | None = None, **options: bool
) -> int:
    settings = {"force": False, "show": False, **options}
    return exercise.main(
        book, argparse.Namespace(action=action, label=label, **settings)
    )


def problem_of(call: Callable[[], object]) -> Problem:
    with pytest.raises(BookError) as caught:
        call()
    (problem,) = caught.value.problems
    return problem


def mine(book: books_of.Book, label: str = "ex-double") -> Path:
    return book.root / "exercises" / f"{label}.py"


def line_of(book: books_of.Book, text: str, name: str = NAME) -> int:
    lines = (book.root / "book" / f"{name}.md").read_text().split("\n")
    return next(n for n, line in enumerate(lines, 1) if text in line)


# ------------------------------------------------------------------------- reading


def test_an_exercise_is_read_from_its_gates_and_cells(make: Make) -> None:
    book = make(
        "Prose.\n",
        gated(
            statement="See {numref}`fig-a` and {ref}`the end <sec-b>`.\n\n- a list\n"
        ),
        gated("ex-second", hints=(), timeout=7),
    )
    first, second = exercise.exercises(book)
    assert (first.label, first.title, first.chapter) == ("ex-double", "Twice", NAME)
    assert first.line == line_of(book, "exercise-start")
    assert first.statement == "See fig-a and the end.\n\n- a list"
    assert first.hints == ("Add x to itself.", "Or multiply.")
    assert (first.starter.source, first.solution.source) == (DOUBLE, SOLVED)
    assert first.grade.line == line_of(book, "assert double(0)")
    assert first.explanation == "Addition is enough."
    assert first.deadline == 60
    assert (second.hints, second.deadline) == ((), 7)


def test_options_may_be_yaml_and_lines_may_end_in_crlf(make: Make) -> None:
    book = make(gated().replace(":label: ex-double", "---\nlabel: ex-double\n---"))
    path = book.root / "book" / f"{NAME}.md"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    (found,) = exercise.exercises(books_of.load(book.root))
    assert found.label == "ex-double"
    assert found.statement == "Write a function that doubles."


FAULTS: dict[str, tuple[str, str, str, str]] = {
    "no starter": (
        gated(starter=None),
        "exercise-start",
        "the exercise ex-double has no starter cell",
        "[starter]",
    ),
    "no cells at all": (
        gated(starter=None, solution=None, grade=None),
        "exercise-start",
        "has no starter and no solution and no grade cell",
        "[starter]",
    ),
    "no grade": (gated(grade=None), "exercise-start", "has no grade cell", "[grade]"),
    "no solution": (
        gated(solution=None),
        "exercise-start",
        "has no solution cell",
        "[solution]",
    ),
    "an assert without a message": (
        gated(grade='assert double(1) == 2\nassert double(2) == 4, "four"'),
        "assert double(1)",
        "an assert of a grade cell without a message",
        "say what is wrong",
    ),
    "an empty message": (
        gated(grade='x = 1\nassert double(1) == 2, ""'),
        "assert double(1)",
        "an assert of a grade cell without a message",
        "say what is wrong",
    ),
    "nothing asserted": (
        gated(grade="double(1)"),
        "double(1)",
        "this grade cell asserts nothing",
        "",
    ),
    "no label": (
        gated().replace(":label: ex-double\n", ""),
        "exercise-start",
        "this exercise: has no label",
        ":label: ex-",
    ),
    "a label that is no file name": (
        gated("ex/double"),
        "exercise-start",
        "the label 'ex/double' cannot name a file",
        ":label: ex-",
    ),
    "the same label twice": (
        gated() + gated(title="Again"),
        "Again",
        "the label 'ex-double' is taken, by line",
        "another label",
    ),
    "no title": (gated(title=""), "exercise-start", "ex-double has no title", "behind"),
    "no task": (gated(statement=""), "exercise-start", "ex-double says no task", ""),
    "a misspelt solution": (
        gated().replace("solution-start} ex-double", "solution-start} ex-duoble"),
        "solution-start",
        "a solution of no exercise before it: 'ex-duoble'",
        "did you mean 'ex-double'?",
    ),
    "an exercise that does not end": (
        gated().replace("```{exercise-end}\n```\n", ""),
        "exercise-start",
        "this exercise-start has no exercise-end",
        "{exercise-end}",
    ),
    "a solution that does not end": (
        gated().replace("```{solution-end}\n```\n", ""),
        "solution-start",
        "this solution-start has no solution-end",
        "{solution-end}",
    ),
    "an end without a start": (
        gated() + "```{exercise-end}\n```\n",
        "",
        "exercise-end without exercise-start",
        "",
    ),
    "a solution's end without a start": (
        gated() + "```{solution-end}\n```\n",
        "",
        "solution-end without solution-start",
        "",
    ),
    "a second grade cell": (
        gated().replace(
            "Addition is", books.code("assert 1, 'x'", "grade") + "Addition is"
        ),
        "assert 1",
        "a second grade cell of ex-double, after line",
        "one cell",
    ),
    "a grade cell outside": (
        gated() + books.code("assert 1, 'x'", "grade"),
        "assert 1",
        "this grade cell stands outside solution-start and solution-end",
        "",
    ),
    "a starter before": (
        books.code("stray = 1", "starter") + gated(),
        "stray",
        "this starter cell stands before its exercise-start",
        "",
    ),
    "a gate of colons": (
        gated() + ":::{exercise-start} More\n:label: ex-b\n:::\n",
        ":::{exercise",
        ":::{exercise-start} is not read",
        "backticks",
    ),
    "an ungraded exercise": (
        gated() + "```{exercise} Plain\nDo it.\n```\n",
        "{exercise}",
        "nothing grades this exercise",
        "exercise-start",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_an_exercise_name_the_line_and_the_remedy(
    make: Make, fault: str
) -> None:
    text, where, message, hint = FAULTS[fault]
    book = make(text)
    with pytest.raises(BookError) as caught:
        exercise.exercises(book)
    found = [p for p in caught.value.problems if message in p.message]
    assert len(found) == 1, caught.value
    assert found[0].path == f"book/{NAME}.md"
    if where:
        assert found[0].line == line_of(book, where)
    assert hint in found[0].hint


def test_labels_are_unique_in_the_whole_book(make: Make) -> None:
    book = make(gated(), other=gated(title="Other"))
    problem = problem_of(lambda: exercise.exercises(book))
    first = line_of(book, "exercise-start")
    assert problem.path == "book/part/other.md"
    assert (
        problem.message == f"the label 'ex-double' is taken, by book/{NAME}.md:{first}"
    )


def test_all_faults_come_at_once(make: Make) -> None:
    book = make(
        gated(grade=None), gated("ex-b", title=""), other=gated("ex-c", starter=None)
    )
    with pytest.raises(BookError) as caught:
        exercise.exercises(book)
    assert len(caught.value.problems) == 3


# ---------------------------------------------------------------------- self check


def test_solutions_pass_and_starters_fail_each_alone(make: Make) -> None:
    """A job that spoils its interpreter spoils no other one."""
    spoil = "import builtins, os\nbuiltins.sum = None\nos.environ['SPOILT'] = '1'\n"
    clean = 'import os\nassert sum([4]) == 4 and "SPOILT" not in os.environ, "spoilt"\n'
    book = make(
        gated("ex-a", solution=spoil + SOLVED),
        gated("ex-b", grade=clean + GRADE),
        gated("ex-c", grade=clean + GRADE),
        gated("ex-d", grade=clean + GRADE, solution="print('noise')\n" + SOLVED),
        gated("ex-e", grade=clean + GRADE),
    )
    assert exercise.self_check(book) == []


def test_what_is_wrong_with_an_exercise_is_found(
    make: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    book = make(
        gated(
            "ex-wrong", solution="def double(x):\n    return 3 * x", grade=GRADE + "#w"
        ),
        gated("ex-free", grade='assert True, "always"  # free'),
        gated("ex-broken", starter="broken = undefined_name"),
        gated("ex-raises", solution="def double(x):\n    return x.twice  # deep"),
        gated("ex-slow", solution="while True: pass  # slow", timeout=1),
        gated("ex-crash", solution="import os\nos._exit(3)  # crash"),
        gated("ex-import", solution="import no_such_module\n" + SOLVED),
        gated("ex-good", solution="print('not shown')\n" + SOLVED),
        other=gated("ex-other", grade='assert True, "always"'),
    )
    free = "passes: the grade cell grades nothing"
    crash = line_of(book, "# crash") - 1
    expected = [
        (
            line_of(book, "#w"),
            "the solution of ex-wrong does not pass: double(4) is 12, not 8",
        ),
        (line_of(book, "# free"), f"the starter of ex-free {free}"),
        (
            line_of(book, "broken = "),
            "the starter of ex-broken does not run: NameError: "
            "name 'undefined_name' is not defined",
        ),
        (
            line_of(book, "# deep"),
            "the solution of ex-raises does not pass: AttributeError: "
            "'int' object has no attribute 'twice'",
        ),
        (
            line_of(book, "# slow"),
            "the solution of ex-slow does not pass: Deadline: not done after 1 s",
        ),
        (
            crash,
            "the solution of ex-crash does not pass: Crash: "
            "the process ended without a result (exit status 3)",
        ),
        (
            line_of(book, "import no_such_module"),
            "the solution of ex-import does not pass: ModuleNotFoundError: "
            "No module named 'no_such_module'",
        ),
    ]
    found = exercise.self_check(book, [NAME])
    assert [(p.line, p.message) for p in found] == expected
    assert all(p.hint and p.path == f"book/{NAME}.md" for p in found)
    other = [p.message for p in exercise.self_check(book, ["part/other"])]
    assert other == [f"the starter of ex-other {free}"]
    assert "not shown" not in capfd.readouterr().out


def test_dataclasses_main_guards_and_sources_work_in_a_job(tmp_path: Path) -> None:
    source = (
        "from __future__ import annotations\nimport dataclasses, inspect\n"
        "@dataclasses.dataclass\nclass A:\n    x: int = 1\n"
        "if __name__ == '__main__':\n    raise ValueError\n"
    )
    grade = (
        'assert "x: int" in inspect.getsource(A), "no source"\nassert A().x == 1, "x"'
    )
    jobs = [
        Job([Piece(source, "a.py"), Piece(grade, "g.md", 9)], 30.0),
        Job([Piece(source, "g.md", 5), Piece(grade, "g.md", 20)], 30.0),
    ]
    assert [str(outcome) for outcome in run(jobs, tmp_path)] == ["", ""]
    assert [run([job], tmp_path)[0].passed for job in jobs] == [True, True]


# --------------------------------------------------------------- the reader's files


def test_start_writes_the_task_and_the_starter(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    book = make(
        gated(statement="Long words. " * 20 + "\n\n- a list that stays as it is\n")
    )
    assert do(book, "start", "ex-double") == 0
    text = mine(book).read_text()
    lines = text.split("\n")
    assert lines[0] == f"# Twice (book/{NAME}.md)"
    assert "# - a list that stays as it is" in lines
    assert max(map(len, lines)) <= 88
    assert "# Grade it with: bookbuild exercise check ex-double" in lines
    assert text.endswith(f"\n\n{DOUBLE}\n")
    out = capsys.readouterr().out
    assert "wrote exercises/ex-double.py: Twice" in out
    assert "next: edit it, then bookbuild exercise check ex-double" in out


def test_start_never_overwrites_an_edited_file(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    book = make(gated())
    do(book, "start")
    fresh = mine(book).read_bytes()
    assert do(book, "start", "exercises/ex-double.py") == 0  # not edited: no harm
    mine(book).write_text("my work")
    problem = problem_of(lambda: do(book, "start", "ex-double"))
    assert problem.path == "exercises/ex-double.py"
    assert problem.message == "is there already, and edited"
    assert "bookbuild exercise start ex-double --force" in problem.hint
    assert mine(book).read_text() == "my work"
    assert do(book, "start", "ex-double", force=True) == 0
    assert mine(book).read_bytes() == fresh
    assert mine(book).with_suffix(".py.bak").read_text() == "my work"
    assert "kept what you had as exercises/ex-double.py.bak" in capsys.readouterr().out


def test_a_starter_that_the_book_changed_replaces_an_unedited_file(make: Make) -> None:
    do(make(gated()), "start")
    book = make(gated(starter=DOUBLE.replace("x: int", "number: int")))
    assert do(book, "start") == 0
    assert "number: int" in mine(book).read_text()


ANSWERS: dict[str, tuple[str, int, str]] = {
    "a wrong result": (
        "import os\n\ndef other(x):\n    return x\n\ndef double(x):\n    return 3 * x",
        6,
        "double(4) is 12, not 8",
    ),
    "not written": ("# mine\n" + DOUBLE, 4, "this is not written yet"),
    "not written, with a word": (
        "def double(x):\n    raise NotImplementedError('later')",
        2,
        "later",
    ),
    "an exception": (
        "def double(x):\n    y = x\n    return y + missing",
        3,
        "NameError: name 'missing' is not defined",
    ),
    "an exception of a library": (
        "import json\ndef double(x):\n    return json.loads('{')",
        3,
        "JSONDecodeError: Expecting property name",
    ),
    "a syntax error": (
        "\ndef double(x:\n    return",
        2,
        "SyntaxError: '(' was never closed",
    ),
    "a missing function": ("def duoble(x):\n    return 2 * x", 0, "NameError"),
    "its own assert": (
        "def double(x):\n    assert x < 0\n    return 2 * x",
        2,
        "an assert of yours failed",
    ),
    "an exit": ("import sys\nsys.exit(0)", 2, "SystemExit: 0"),
    "a crash": ("import os\nos._exit(7)", 0, "ended without a result (exit status 7)"),
    "a loop without end": ("while True:\n    pass", 0, "not done after 2 s"),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_check_says_what_fails_and_where_in_the_readers_file(
    make: Make, answer: str
) -> None:
    source, line, message = ANSWERS[answer]
    book = make(gated(timeout=2))
    do(book, "start")
    mine(book).write_text(source)
    problem = problem_of(lambda: do(book, "check", "ex-double"))
    assert problem.path == "exercises/ex-double.py"
    assert problem.line == line
    assert message in problem.message
    assert "bookbuild exercise hint ex-double" in problem.hint


def test_check_names_the_line_that_graded(make: Make) -> None:
    book = make(gated())
    do(book, "start")
    mine(book).write_bytes(b"\xef\xbb\xbfdef double(x):\r\n    return 9\r\n")
    problem = problem_of(lambda: do(book, "check"))
    assert problem.line == 1
    assert problem.message == "twice nothing is nothing"
    assert (
        f"graded at book/{NAME}.md:{line_of(book, 'assert double(0)')};" in problem.hint
    )


def test_a_pass_is_remembered_until_the_file_or_its_grading_changes(
    make: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    book = make(gated(), gated("ex-second"))
    do(book, "start")
    mine(book).write_text(SOLVED + "\nprint('from my file')\n")
    capfd.readouterr()
    assert do(book, "check", "ex-double") == 0
    out = capfd.readouterr().out
    assert "from my file" in out
    assert "passed: ex-double  Twice" in out
    assert "bookbuild exercise solution ex-double" in out
    assert "next: bookbuild exercise start ex-second" in out

    def states() -> str:
        capfd.readouterr()
        do(book, "list")
        return capfd.readouterr().out

    assert "  passed   ex-double  Twice" in states()
    mine(book).write_text(SOLVED)
    assert "  changed  ex-double  Twice" in states()
    assert do(book, "check") == 0
    assert "  passed   ex-double" in states()
    book = make(gated(grade=GRADE + "\n# more"), gated("ex-second"))
    assert "  changed  ex-double" in states()


def test_list_shows_chapters_states_and_the_next_step(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    book = make(gated(), other=gated("ex-other", title="Another"))
    assert do(book, "list") == 0
    assert capsys.readouterr().out == (
        f"{NAME}\n  new      ex-double  Twice\n"
        "part/other\n  new      ex-other   Another\n"
        "0 of 2 passed\nnext: bookbuild exercise start ex-double\n"
    )
    do(book, "start")
    capsys.readouterr()
    do(book, "list", "part/chapter")
    assert capsys.readouterr().out == (
        f"{NAME}\n  started  ex-double  Twice\n0 of 1 passed\n"
        "next: bookbuild exercise check ex-double\n"
    )
    problem = problem_of(lambda: do(book, "list", "part/othre"))
    assert problem.message == "no exercises there"
    assert problem.hint == "did you mean 'part/other'?"


def test_check_of_all_started_ones_reports_each(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    book = make(gated(), gated("ex-b"), gated("ex-c"), gated("ex-d"))
    for label in ("ex-double", "ex-b", "ex-c"):
        do(book, "start", label)
    mine(book, "ex-double").write_text(SOLVED)
    mine(book, "ex-c").write_text("def double(x):\n    return 0")
    with pytest.raises(BookError) as caught:
        do(book, "check")
    found = [(p.path, p.line, p.message) for p in caught.value.problems]
    head = len((mine(book, "ex-b")).read_text().split("\n")) - 1
    assert found == [
        ("exercises/ex-b.py", head, "this is not written yet"),
        ("exercises/ex-c.py", 1, "double(4) is 0, not 8"),
    ]
    assert "passed: ex-double" in capsys.readouterr().out


def test_when_all_passed_there_is_no_next_step(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    book = make(gated())
    do(book, "start")
    mine(book).write_text(SOLVED)
    do(book, "check")
    assert capsys.readouterr().out.endswith("every exercise has passed\n")


def test_hints_come_one_by_one(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    book = make(gated(), gated("ex-none", hints=()))
    do(book, "hint", "ex-double")
    out = capsys.readouterr().out
    assert "hint 1 of 2\nAdd x to itself." in out
    assert "Or multiply" not in out
    assert "one more: bookbuild exercise hint ex-double" in out
    assert out.endswith("next: bookbuild exercise start ex-double\n")
    for _ in range(2):
        do(book, "hint", "ex-double")
        out = capsys.readouterr().out
        assert "hint 2 of 2\nOr multiply." in out
        assert "that was the last hint" in out
    do(book, "hint", "ex-none")
    assert "this exercise has no hints" in capsys.readouterr().out


def test_the_solution_is_shown_after_passing_or_on_demand(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    book = make(gated())
    problem = problem_of(lambda: do(book, "solution", "ex-double"))
    assert problem.message == "your ex-double has not passed yet"
    assert "--show" in problem.hint and "exercise hint ex-double" in problem.hint
    assert do(book, "solution", "ex-double", show=True) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{SOLVED}\n\nAddition is enough.\n")
    do(book, "start")
    mine(book).write_text(SOLVED)
    do(book, "check")
    mine(book).write_text("broken again")
    assert do(book, "solution", "ex-double") == 0


def test_messages_when_there_is_nothing_to_do(make: Make) -> None:
    book = make(gated())
    problem = problem_of(lambda: do(book, "check"))
    assert problem.message == "no exercise is started"
    assert problem.hint == "bookbuild exercise start ex-double"
    for action in ("check", "watch"):
        problem = problem_of(lambda action=action: do(book, action, "ex-double"))
        assert problem.path == "exercises/ex-double.py"
        assert problem.message == "is not started"
        assert problem.hint == "bookbuild exercise start ex-double"
    assert problem_of(lambda: do(book, "watch")).message == "no exercise is started"
    for action in ("hint", "solution"):
        with pytest.raises(ConfigError, match=f"{action} needs a label"):
            do(book, action)
    problem = problem_of(lambda: do(book, "start", "ex-duoble"))
    assert problem.message == "no exercise 'ex-duoble'"
    assert problem.hint == "did you mean 'ex-double'?"
    assert problem_of(lambda: do(make("Words."), "start")).message == "has no exercises"
    do(book, "start")
    mine(book).write_bytes(b"x = '\xff'")
    assert problem_of(lambda: do(book, "check")).message == "is not UTF-8"


@pytest.mark.parametrize("damage", ["{", "[1]", '{"ex-double": 3}', "\xff"])
def test_damaged_progress_begins_anew(
    make: Make, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    book = make(gated())
    do(book, "start")
    progress = book.root / "exercises" / ".progress.json"
    assert set(json.loads(progress.read_text())) == {"ex-double"}
    progress.write_bytes(damage.encode("latin-1"))
    assert do(book, "list") == 0
    assert "exercises/.progress.json is damaged" in capsys.readouterr().err


def test_watch_grades_each_save_until_interrupted(make: Make) -> None:
    book = make(gated())
    do(book, "start")
    command = [sys.executable, "-u", "-m", "bookbuild", "exercise", "watch"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    log = book.root / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=book.root, env=environment, stdout=file, stderr=file
        )

    def wait_for(text: str) -> None:
        deadline = time.monotonic() + 30
        while text not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)

    try:
        wait_for("this is not written yet")
        wait_for("watching exercises/")
        deadline = time.monotonic() + 30
        while "passed: ex-double" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            mine(book).write_text(SOLVED + f"\n# {time.monotonic()}\n")
            time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text()


def test_the_command_line(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    book = make(gated())

    def call(*words: str) -> tuple[int, str, str]:
        status = cli.main(["--root", str(book.root), "exercise", *words])
        return status, *capsys.readouterr()

    assert call("start")[0] == 0
    status, _, err = call("check")
    assert status == 1
    assert err.startswith("exercises/ex-double.py:")
    assert "error: this is not written yet\nhint: " in err
    assert call("hint")[0] == 2
    assert call("start", "ex-x")[0] == 2
    mine(book).write_text(SOLVED)
    assert call("start")[0] == 1
    assert call("start", "--force")[0] == 0
    assert call("solution", "ex-double", "--show")[0] == 0
    with pytest.raises(SystemExit) as stop:
        cli.main(["exercise", "dance"])
    assert stop.value.code == 2
    with pytest.raises(SystemExit):
        cli.main(["exercise", "--help"])
    assert "grade a file whenever you save it" in capsys.readouterr().out


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=300))
def test_filling_changes_only_spaces(text: str) -> None:
    assert filled(text).split() == text.split()


def test_prose_is_filled_and_the_rest_kept() -> None:
    prose = (
        "Write a function of " + "words " * 20 + "with\n`code` and\n$x$ and\n3 numbers."
    )
    assert all(len(line) <= 86 for line in filled(prose).split("\n"))
    assert "with `code` and $x$" in " ".join(filled(prose).split("\n"))
    for kept in (
        "- one\n- two",
        "1. one\n2. two",
        "| a | b |\n| c | d |",
        "```\na\nb\n```",
    ):
        assert filled(kept) == kept
