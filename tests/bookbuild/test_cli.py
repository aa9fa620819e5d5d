"""The command: arguments, output, and an exit status for every way to end."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from books import code, page

from bookbuild.cli import main, parser
from bookbuild.errors import BookError, ConfigError, Problem

MakeBook = Callable[..., Path]
Capture = pytest.CaptureFixture[str]

REPOSITORY = Path(__file__).parents[2]
BOOK = {
    "part/a": page(code("def f():\n    return 1", "export"), code("f()")),
    "part/b": page(code("from extracted.part.a import f", "export")),
}


@pytest.fixture
def root(make_book: MakeBook, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make_book(BOOK)
    monkeypatch.chdir(root / "book" / "part")
    return root


def subcommands() -> list[str]:
    [group] = [
        action
        for action in parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    ]
    return list(group.choices)


COMMANDS = [
    "book", "tangle", "check", "adopt", "snapshot", "execute", "validate", "accept",
    "why", "clean", "html", "zip", "pdf", "epub", "notebooks", "serve", "exercise",
]  # fmt: skip


def test_help_lists_every_command_and_exit_status(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert subcommands() == COMMANDS
    for word in [*COMMANDS, "130  interrupted", "3  a fault", "2  the command"]:
        assert word in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: bookbuild {command}")
    assert ".\n" in text


@pytest.mark.parametrize(
    "arguments",
    [[], ["zzz"], ["tangle", "--zzz"], ["execute", "-j", "many"], ["snapshot", "a"]],
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: bookbuild" in capsys.readouterr().err


def test_tangle_writes_and_then_has_nothing_to_do(root: Path, capsys: Capture) -> None:
    assert main(["tangle"]) == 0
    assert capsys.readouterr().out == (
        "wrote extracted/__init__.py\n"
        "wrote extracted/part/__init__.py\n"
        "wrote extracted/part/a.py\n"
        "wrote extracted/part/b.py\n"
        "wrote extracted/py.typed\n"
        "2 modules up to date\n"
    )
    assert main(["tangle", "--check"]) == 0
    assert capsys.readouterr() == ("2 modules up to date\n", "")


def test_tangle_says_what_it_removed(
    root: Path, make_book: MakeBook, capsys: Capture
) -> None:
    main(["tangle"])
    (root / "book/part/b.md").unlink()
    make_book({}, ["part/a"])
    capsys.readouterr()
    assert main(["tangle"]) == 0
    assert capsys.readouterr().out == (
        "removed extracted/part/b.py\n1 module up to date\n"
    )


def test_a_failed_check_exits_with_1_and_prints_problems_on_stderr(
    root: Path, capsys: Capture
) -> None:
    assert main(["tangle", "--check"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(
        "extracted/__init__.py: error: is missing\nhint: run `bookbuild tangle`\n"
    )


def test_force_overwrites_a_hand_edit(root: Path, capsys: Capture) -> None:
    main(["tangle"])
    module = root / "extracted/part/a.py"
    module.write_text(module.read_text().replace("1", "2"))
    assert main(["tangle"]) == 1
    assert main(["tangle", "--force"]) == 0
    assert "return 1" in module.read_text()


def test_json_for_machines(root: Path, capsys: Capture) -> None:
    assert main(["tangle", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["modules"] == 2
    assert "extracted/part/a.py" in answer["written"]
    (root / "extracted/part/a.py").unlink()
    assert main(["tangle", "--check", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "problems": [
            {
                "path": "extracted/part/a.py",
                "line": 0,
                "message": "is missing",
                "hint": "run `bookbuild tangle`",
                "column": 0,
            }
        ]
    }
    assert err == ""


def test_outside_a_book_the_configuration_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["tangle"]) == 2
    assert "error: not inside a book" in capsys.readouterr().err
    assert main(["--root", str(tmp_path), "tangle"]) == 2
    assert capsys.readouterr().err.startswith("_toc.yml: error: cannot be read: ")


def test_root_names_the_book(
    make_book: MakeBook, tmp_path: Path, capsys: Capture
) -> None:
    root = make_book(BOOK)
    assert main(["--root", str(root), "tangle"]) == 0
    assert (root / "extracted/part/a.py").is_file()


def test_check_finds_what_is_wrong_everywhere(
    root: Path, make_book: MakeBook, capsys: Capture
) -> None:
    main(["tangle"])
    capsys.readouterr()
    assert main(["check"]) == 0
    assert capsys.readouterr().out == "3 pages: nothing to mend\n"
    text = BOOK["part/a"].replace("return 1", "return 2") + "\n{ref}`zzz`\n"
    make_book({**BOOK, "part/a": text})
    assert main(["check"]) == 1
    err = capsys.readouterr().err
    assert "error: {ref} names 'zzz', which is not defined" in err
    assert "extracted/part/a.py: error: differs from the book" in err


def test_adopt_takes_paths_from_anywhere(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    main(["tangle"])
    module = root / "extracted/part/a.py"
    module.write_text(module.read_text().replace("return 1", "return 2"))
    monkeypatch.chdir(root / "extracted")
    capsys.readouterr()
    assert main(["adopt", "part/a.py", "part/b.py"]) == 0
    assert capsys.readouterr().out == (
        "adopted book/part/a.md#f\nextracted/part/b.py: nothing was edited\n"
    )
    assert "return 2" in (root / "book/part/a.md").read_text()
    assert main(["adopt", "part/zzz.py"]) == 2


def test_snapshot(root: Path, tmp_path: Path, capsys: Capture) -> None:
    target = tmp_path / "snap"
    assert main(["snapshot", "part/a", str(target)]) == 0
    lines = capsys.readouterr().out.split("\n")
    assert f"wrote {target.as_posix()}/extracted/part/a.py" in lines
    assert not any("b.py" in line for line in lines)
    assert main(["snapshot", "part/a", str(target)]) == 2
    assert main(["snapshot", "part/b", str(tmp_path / "json"), "--json"]) == 0


def test_clean_keeps_the_cache_unless_told_otherwise(
    root: Path, capsys: Capture
) -> None:
    assert main(["clean"]) == 0
    for name in ("cache", "html"):
        (root / "_build" / name).mkdir(parents=True)
    (root / "_build" / "file").touch()
    assert main(["clean"]) == 0
    assert capsys.readouterr().out == "removed _build/file\nremoved _build/html\n"
    assert [entry.name for entry in (root / "_build").iterdir()] == ["cache"]
    assert main(["clean", "--all"]) == 0
    assert list((root / "_build").iterdir()) == []


@dataclass
class FakeResult:
    name: str
    seconds: float
    cached: bool
    problems: tuple[Problem, ...] = ()
    ran: bool = True


FAILED = Problem("book/part/b.md", 4, "the cell failed")


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replaces the run of chapters; holds what was asked and what to answer."""
    state: dict[str, Any] = {
        "results": [FakeResult("part/a", 1.25, True), FakeResult("part/b", 61, False)],
        "problems": [],
    }

    def execute(book: Any, names: Any, **options: Any) -> Any:
        state["asked"] = names, options
        return state["results"]

    def validate(book: Any, names: Any, **options: Any) -> Any:
        state["validated"] = names, options
        return state["problems"]

    monkeypatch.setattr("bookbuild.execute.execute", execute)
    monkeypatch.setattr("bookbuild.validate.validate", validate)
    return state


TABLE = """\
chapter  seconds
part/a      1.2  unchanged
part/b     61.0  executed
"""


def test_execute_prints_a_table(
    root: Path, executed: dict[str, Any], capsys: Capture
) -> None:
    assert main(["execute", "part/a", "part/b", "-j", "3", "--force"]) == 0
    assert capsys.readouterr().out == TABLE
    options = {"jobs": 3, "device": "cpu", "force": True}
    assert executed["asked"] == (["part/a", "part/b"], options)
    assert "validated" not in executed
    assert (root / "extracted/part/a.py").is_file()


def test_execute_takes_a_job_a_core(
    root: Path, executed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    assert main(["execute", "-j", "0", "--device", "cuda"]) == 0
    options = {"jobs": 7, "device": "cuda", "force": False}
    assert executed["asked"] == ([], options)


def test_execute_reports_a_failed_chapter(
    root: Path, executed: dict[str, Any], capsys: Capture
) -> None:
    executed["results"][1].problems = (FAILED,)
    executed["results"].append(FakeResult("part/c", 0, False, (FAILED,), ran=False))
    assert main(["execute", "--validate"]) == 1
    out, err = capsys.readouterr()
    assert out.endswith("part/b     61.0  failed\npart/c      0.0  not run\n")
    assert err == "book/part/b.md:4: error: the cell failed\n"
    assert "validated" not in executed


def test_execute_validates_when_asked(
    root: Path, executed: dict[str, Any], capsys: Capture
) -> None:
    assert main(["execute", "--validate"]) == 0
    assert executed["validated"] == ([], {"device": "cpu"})
    executed["problems"] = [Problem("book/part/a.md", 4, "an output differs")]
    assert main(["execute", "--validate"]) == 1
    assert capsys.readouterr().err == "book/part/a.md:4: error: an output differs\n"


def test_execute_answers_machines(
    root: Path, executed: dict[str, Any], capsys: Capture
) -> None:
    executed["results"][1].problems = (FAILED,)
    assert main(["execute", "--json"]) == 1
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert answer["chapters"][0] == {"name": "part/a", "seconds": 1.25, "cached": True}
    assert answer["problems"][0]["message"] == "the cell failed"
    assert err == ""


def test_validate(root: Path, executed: dict[str, Any], capsys: Capture) -> None:
    assert main(["validate"]) == 0
    assert capsys.readouterr().out == "2 chapters agree with their references\n"
    assert main(["validate", "part/a"]) == 0
    assert capsys.readouterr().out == "1 chapter agrees with its reference\n"
    executed["problems"] = [FAILED]
    assert main(["validate"]) == 1
    assert capsys.readouterr().err == "book/part/b.md:4: error: the cell failed\n"


def test_accept(
    root: Path,
    executed: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    (root / "tests").mkdir()
    (root / "tests" / "new.ipynb").touch()
    changed = ["tests/new.ipynb", "tests/old.ipynb"]
    monkeypatch.setattr("bookbuild.validate.accept", lambda *_, **__: changed)
    assert main(["accept", "part/a"]) == 0
    assert capsys.readouterr().out == TABLE + (
        "wrote tests/new.ipynb\nremoved tests/old.ipynb\nreferences up to date\n"
    )


def test_nothing_is_accepted_after_a_failure(
    root: Path, executed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted: list[Any] = []
    monkeypatch.setattr(
        "bookbuild.validate.accept", lambda *a, **_: accepted.append(a) or []
    )
    executed["results"][1].problems = (FAILED,)
    assert main(["accept"]) == 1
    assert accepted == []


@pytest.mark.parametrize(
    ("command", "target"),
    [
        ("html", "bookbuild.render.html"),
        ("zip", "bookbuild.render.site_zip"),
        ("pdf", "bookbuild.typst.pdf"),
        ("epub", "bookbuild.typst.epub"),
        ("notebooks", "bookbuild.render.notebooks"),
        ("book", "bookbuild.render.html"),
    ],
)
def test_rendering_runs_what_changed_first(
    root: Path,
    executed: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    command: str,
    target: str,
) -> None:
    made = Path("made")
    monkeypatch.setattr(target, lambda book: made)
    assert main([command, "-j", "2"]) == 0
    assert executed["asked"][1]["jobs"] == 2
    assert capsys.readouterr().out.endswith("made\n")
    assert ("validated" in executed) == (command == "book")
    executed["results"][1].problems = (FAILED,)
    monkeypatch.setattr(target, lambda book: pytest.fail("rendered a failed chapter"))
    assert main([command]) == 1


def test_serve(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("bookbuild.serve.serve", lambda *a, **k: asked.append((a, k)))
    assert main(["serve", "--port", "1234"]) == 0
    assert asked == [((root,), {"port": 1234, "device": "cpu"})]


def test_why(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    asked = []

    def explain(book: Any, name: str, device: str) -> list[str]:
        asked.append((name, device))
        return ["cell 1 changed", "torch 1 -> 2"]

    monkeypatch.setattr("bookbuild.execute.explain", explain)
    assert main(["why", "book/part/a.md"]) == 0
    assert asked == [("part/a", "cpu")]
    assert capsys.readouterr().out == "cell 1 changed\ntorch 1 -> 2\n"
    assert main(["why", "part/zzz"]) == 2


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (BookError(FAILED), 1, "book/part/b.md:4: error: the cell failed\n"),
        (ConfigError(FAILED), 2, "book/part/b.md:4: error: the cell failed\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (KeyboardInterrupt("part/a, cell 3"), 130, "interrupted: part/a, cell 3\n"),
        (BrokenPipeError(), 1, ""),
        (
            ModuleNotFoundError("No module named 'typst'", name="typst"),
            2,
            "error: typst is not installed\n"
            'hint: pip install "from-tokens-to-thought[book]"\n',
        ),
    ],
)
def test_every_end_has_its_exit_status(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    message: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("bookbuild.tangle.tangle", fail)
    monkeypatch.setattr("os.dup2", lambda *_: None)
    assert main(["tangle"]) == status
    assert capfd.readouterr().err == message


@pytest.mark.parametrize(
    "error",
    [RuntimeError("boom"), ModuleNotFoundError("boom", name="bookbuild.zzz")],
)
def test_a_fault_of_ours_exits_with_3_and_a_traceback(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("bookbuild.tangle.tangle", fail)
    assert main(["tangle"]) == 3
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "boom" in err
    assert err.endswith("error: this is a fault of bookbuild; please report it\n")


def test_a_pipe_that_knows_only_ascii(make_book: MakeBook) -> None:
    root = make_book({"größe": page(code("x = 1", "export"))})
    run = subprocess.run(
        [sys.executable, "-m", "bookbuild", "--root", str(root), "tangle"],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
    )
    assert run.returncode == 0, run.stderr.decode()
    assert rb"wrote extracted/gr\xf6\xdfe.py" in run.stdout
