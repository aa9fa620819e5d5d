"""Each deliberate change is caught with its message; harmless ones pass."""

import base64
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import books
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from bookbuild import book as books_of
from bookbuild.errors import BookError, Problem
from bookbuild.validate import accept, validate

ROOT = Path(__file__).parents[2]
NAME = "part/chapter"
SVG = (
    '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1'
    '//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">\n'
    '<svg xmlns="http://www.w3.org/2000/svg" width="460.8pt" height="230.4pt" '
    'viewBox="0 0 460.8 230.4">\n <path d="M 0 0"/>\n</svg>\n'
)
GLUE = "application/papermill.record/text/plain"


def picture(form: str) -> str:
    data = io.BytesIO()
    Image.effect_noise((40, 40), 50).save(data, form)
    return base64.b64encode(data.getvalue()).decode()


PNG, JPEG = picture("PNG"), picture("JPEG")


def printed(text: str, name: str = "stdout") -> Any:
    return new_output("stream", name=name, text=text)


def shown(data: dict[str, str]) -> Any:
    return new_output("display_data", data)


def glued(name: str, value: str) -> Any:
    scrapbook = {"name": name, "mime_prefix": "application/papermill.record/"}
    return new_output("display_data", {GLUE: value}, metadata={"scrapbook": scrapbook})


# What each cell of the synthetic chapter is, and what it puts out.
CELLS: dict[str, tuple[str, list[str], dict[str, Any], list[Any]]] = {
    "define": ("def f(x):\n    return 2 * x", ["export"], {}, []),
    "print": (
        "train()",
        [],
        {},
        [printed("loss 0.3623\nsteps 100 nan\nlast -1.25e-03\n")],
    ),
    "draw": (
        "plot()",
        ["hide-input"],
        {},
        [
            shown(
                {
                    "text/plain": "<Figure size 640x320 with 1 Axes>",
                    "image/svg+xml": SVG,
                }
            )
        ],
    ),
    "photo": (
        "photo()",
        [],
        {},
        [shown({"image/png": PNG}), shown({"image/jpeg": JPEG})],
    ),
    "glue": (
        'glue("chapter-a", a)\nglue("chapter-b", b)',
        [],
        {},
        [glued("chapter-a", "0.12345678912"), glued("chapter-b", "'four words'")],
    ),
    "fail": (
        "f()",
        ["raises-exception"],
        {},
        [
            new_output(
                "error", ename="TypeError", evalue="f() misses x", traceback=["@ 1"]
            )
        ],
    ),
    "time": ("timeit()", ["nbval-ignore-output"], {}, [printed("1.23 s\n")]),
    "loose": ("accuracy()", [], {"rtol": 0.1}, [printed("accuracy 0.500\n")]),
    "value": (
        "f(x)",
        [],
        {},
        [
            new_output(
                "execute_result",
                {"text/plain": "tensor([0.5000, -1.])"},
                execution_count=9,
            )
        ],
    ),
    "mixed": (
        "both()",
        [],
        {},
        [
            printed("a line\n"),
            shown({"text/plain": "first"}),
            shown({"text/html": "<b>second</b>"}),
            printed("another\n"),
        ],
    ),
}
KEYS = list(CELLS)


class World:
    """A book with one executed chapter whose outputs were accepted."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cells = {
            key: (source, list(tags), dict(options), nbformat.from_dict(outputs))
            for key, (source, tags, options, outputs) in CELLS.items()
        }
        self.write()
        self.execute()

    @property
    def executed(self) -> Path:
        return self.root / "_build" / "executed" / f"{NAME}.ipynb"

    @property
    def golden(self) -> Path:
        return self.root / "tests" / "golden" / f"{NAME}.ipynb"

    def write(self) -> None:
        pieces = [
            books.code(s, tags, **options)
            for s, tags, options, _ in self.cells.values()
        ]
        books.write_book(self.root, {NAME: books.page("Words.\n", *pieces)})

    def execute(self, **metadata: Any) -> None:
        cells = [new_markdown_cell("# A page\n\nWords.")]
        for number, (source, tags, options, outputs) in enumerate(
            self.cells.values(), 1
        ):
            cells.append(
                new_code_cell(
                    source,
                    execution_count=number,
                    metadata={"tags": tags, **options},
                    outputs=outputs,
                )
            )
        self.save(cells, **metadata)

    def save(self, cells: list[Any], **metadata: Any) -> None:
        self.executed.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(new_notebook(cells=cells, metadata=metadata), self.executed)

    def outputs(self, key: str) -> list[Any]:
        outputs: list[Any] = self.cells[key][3]
        return outputs

    def replace(self, key: str, old: str, new: str) -> None:
        """Replace a piece of text in the outputs of a cell."""
        before = json.dumps(self.outputs(key))
        after = before.replace(json.dumps(old)[1:-1], json.dumps(new)[1:-1])
        assert before != after
        self.outputs(key)[:] = nbformat.from_dict(json.loads(after))

    def reference(self) -> Any:
        return json.loads(self.golden.read_text())

    def save_reference(self, notebook: Any) -> None:
        self.golden.write_text(json.dumps(notebook, indent=1))

    def line(self, key: str) -> int:
        return self.book().chapter(NAME).code_cells[list(self.cells).index(key)].line

    def book(self) -> books_of.Book:
        return books_of.load(self.root)

    def validate(self, *names: str, device: str = "cpu") -> list[Problem]:
        return validate(self.book(), names, device=device)

    def accept(self, *names: str, device: str = "cpu") -> list[str]:
        return accept(self.book(), names, device=device)


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path / "a book")
    assert world.accept() == [f"tests/golden/{NAME}.ipynb"]
    return world


def set_key(key: str, index: int, **fields: Any) -> Callable[[World], None]:
    return lambda world: world.outputs(key)[index].update(fields)


def text(key: str, old: str, new: str) -> Callable[[World], None]:
    return lambda world: world.replace(key, old, new)


def drop(key: str, index: int) -> Callable[[World], None]:
    return lambda world: world.outputs(key).pop(index)


def add(key: str, output: Any) -> Callable[[World], None]:
    return lambda world: world.outputs(key).append(nbformat.from_dict(output))


CHANGES: dict[str, tuple[str, Callable[[World], Any], list[str]]] = {
    "third digit of a float": (
        "print",
        text("print", "0.3623", "0.3723"),
        ["- loss 0.3623", "+ loss 0.3723", f"tests/golden/{NAME}.ipynb"],
    ),
    "an integer": (
        "print",
        text("print", "100", "101"),
        ["- steps 100", "+ steps 101"],
    ),
    "an integer becomes a float": (
        "print",
        text("print", "steps 100", "steps 100.0"),
        ["+ steps 100.0"],
    ),
    "a sign": ("print", text("print", "-1.25e", "1.25e"), ["- last -1.25e-03"]),
    "an exponent": ("print", text("print", "e-03", "e-04"), ["+ last -1.25e-04"]),
    "nan becomes a number": ("print", text("print", "nan", "0.5"), ["+ steps 100 0.5"]),
    "a missing line": (
        "print",
        text("print", "steps 100 nan\n", ""),
        ["- steps 100 nan"],
    ),
    "an extra line": ("print", text("print", "steps", "new\nsteps"), ["+ new"]),
    "the wording": ("print", text("print", "loss", "Loss"), ["+ Loss 0.3623"]),
    "the alignment": (
        "print",
        text("print", "loss 0", "loss   0"),
        ["+ loss   0.3623"],
    ),
    "no output": ("print", drop("print", 0), ["Missing output fields", "stdout"]),
    "a line on stderr": (
        "print",
        add("print", printed("UserWarning: careful\n", "stderr")),
        ["Unexpected output fields", "stderr"],
    ),
    "an extra output": (
        "draw",
        add("draw", shown({"text/plain": "3"})),
        ['dissimilar number of outputs for key "text/plain"'],
    ),
    "an output where there was none": (
        "define",
        add("define", printed("hello\n")),
        ["Unexpected output fields", "stdout"],
    ),
    "a lost drawing": (
        "draw",
        lambda world: world.outputs("draw")[0].data.pop("image/svg+xml"),
        ["Missing output fields", "image/svg+xml"],
    ),
    "another size of the figure": (
        "draw",
        text("draw", "640x", "320x"),
        ["<Figure size"],
    ),
    "a drawing that is not XML": (
        "draw",
        text("draw", "</svg>", ""),
        ["image/svg+xml output is not XML"],
    ),
    "another document as a drawing": (
        "draw",
        lambda world: world.outputs("draw")[0].data.update(
            {"image/svg+xml": "<p>x</p>"}
        ),
        ["is not a drawing: its root is <p>"],
    ),
    "a drawing without width": (
        "draw",
        lambda world: world.replace("draw", '"460.8pt"', '"0pt"'),
        ["has no width"],
    ),
    "a drawing without a stroke": (
        "draw",
        text("draw", '<path d="M 0 0"/>', ""),
        ["image/svg+xml output is empty"],
    ),
    "a lost photograph": ("photo", drop("photo", 0), ["Missing output", "image/png"]),
    "a truncated png": (
        "photo",
        text("photo", PNG, PNG[: len(PNG) // 8 * 4]),
        ["image/png output does not decode"],
    ),
    "a truncated jpeg": (
        "photo",
        text("photo", JPEG, JPEG[: len(JPEG) // 8 * 4]),
        ["image/jpeg output does not decode"],
    ),
    "a jpeg that says png": ("photo", text("photo", PNG, JPEG), ["is not a PNG"]),
    "an empty png": ("photo", text("photo", PNG, ""), ["is not a PNG"]),
    "third digit of a glued value": (
        "glue",
        text("glue", "0.12345", "0.12545"),
        [f"mismatch '{GLUE}'", "+ 0.12545678912"],
    ),
    "a glued text": ("glue", text("glue", "four", "five"), ["+ 'five words'"]),
    "the name of a glued value": (
        "glue",
        text("glue", "chapter-b", "chapter-c"),
        ["another order", "+ glue chapter-c"],
    ),
    "the kind of an exception": (
        "fail",
        set_key("fail", 0, ename="ValueError"),
        ["mismatch 'ename'", "- TypeError", "+ ValueError"],
    ),
    "the message of an exception": (
        "fail",
        set_key("fail", 0, evalue="f() misses y"),
        ["mismatch 'evalue'", "+ f() misses y"],
    ),
    "no exception": (
        "fail",
        drop("fail", 0),
        ["tagged raises-exception and did not fail", "delete the tag"],
    ),
    "an exception where there was none": (
        "value",
        add("value", new_output("error", ename="KeyError", evalue="'k'", traceback=[])),
        ["this cell failed: KeyError: 'k'", f"bookbuild execute {NAME}"],
    ),
    "a float beyond rtol": (
        "loose",
        text("loose", "0.500", "0.556"),
        ["+ accuracy 0.556"],
    ),
    "a value": ("value", text("value", "-1.]", "-2.]"), ["+ tensor([0.5000, -2.])"]),
    "the order of outputs": (
        "mixed",
        lambda world: world.outputs("mixed").insert(1, world.outputs("mixed").pop(2)),
        ["another order", "text/html"],
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_caught(world: World, change: str) -> None:
    key, mutate, expected = CHANGES[change]
    mutate(world)
    world.execute()
    (problem,) = world.validate()
    assert (problem.path, problem.line) == (f"book/{NAME}.md", world.line(key))
    for piece in expected:
        assert piece in str(problem)
    assert NAME in problem.hint or "delete the tag" in problem.hint
    assert "\x1b" not in problem.message
    assert [str(p) for p in world.validate()] == [str(problem)], "a failure is not kept"


HARMLESS: dict[str, Callable[[World], Any]] = {
    "nothing": lambda world: None,
    "the last digit printed": text("print", "0.3623", "0.3624"),
    "the ninth digit": text("glue", "0.12345678912", "0.12345678812"),
    "a timing in an ignored cell": text("time", "1.23 s", "9.87 s\nslow"),
    "no output in an ignored cell": drop("time", 0),
    "a float within rtol": text("loose", "0.500", "0.549"),
    "the strokes of a drawing": text("draw", "M 0 0", "M 1 1"),
    "the pixels of a photograph": lambda world: world.replace(
        "photo", PNG, picture("PNG")
    ),
    "a traceback": set_key("fail", 0, traceback=["\x1b[31m at 0x7f12", "/tmp/x.py"]),
    "the number of an execute_result": set_key("value", 0, execution_count=99),
    "noise beside whole numbers": text("value", "-1.]", "-1.0000]"),
    "the pieces of a stream": lambda world: world.outputs("print").__setitem__(
        slice(None),
        [printed("loss 0.3623\nsteps 1"), printed("00 nan\nlast -1.25e-03\n")],
    ),
}


@pytest.mark.parametrize("change", HARMLESS)
def test_harmless_changes_pass(world: World, change: str) -> None:
    HARMLESS[change](world)
    world.execute(kernelspec={"name": "other", "display_name": "Other"})
    assert world.validate() == []
    before = world.golden.read_bytes()
    assert world.accept() == []
    assert world.golden.read_bytes() == before


def test_addresses_and_the_kernels_files_are_not_compared(world: World) -> None:
    place = "/tmp/ipykernel_{}/{}.py:3: UserWarning: <F object at 0x7f{}>\n"
    world.outputs("print").append(printed(place.format(11, 22, "ab12"), "stderr"))
    world.execute()
    world.accept()
    world.outputs("print")[1].text = place.format(333, 4, "cd")
    world.execute()
    assert world.validate() == []


def test_counts_ids_and_presentation_are_not_compared(world: World) -> None:
    source, _, options, outputs = world.cells["draw"]
    world.cells["draw"] = source, ["remove-input", "scroll-output"], options, outputs
    world.write()
    cells = [
        new_code_cell(
            source,
            id=f"other-{number}",
            execution_count=10 * number,
            metadata={"tags": tags},
            outputs=outputs,
        )
        for number, (source, tags, _, outputs) in enumerate(world.cells.values(), 1)
    ]
    world.save(cells)
    assert world.validate() == []
    assert world.accept() == []


def only(problems: list[Problem]) -> Problem:
    (problem,) = problems
    return problem


def test_a_missing_reference(world: World) -> None:
    world.golden.unlink()
    problem = only(world.validate())
    assert problem.path == f"book/{NAME}.md"
    assert problem.message == f"has no reference tests/golden/{NAME}.ipynb"
    assert problem.hint == f"nox -s accept -- {NAME}"


def test_a_damaged_reference(world: World) -> None:
    world.golden.write_text(world.golden.read_text()[:200])
    assert (
        f"reference tests/golden/{NAME}.ipynb is damaged"
        in only(world.validate()).message
    )
    world.golden.write_text('{"cells": [{"cell_type": "code", "outputs": []}]}')
    assert "not a notebook of format 4" in only(world.validate()).message
    assert world.accept() == [f"tests/golden/{NAME}.ipynb"]
    assert world.validate() == []


def test_an_orphaned_reference(world: World) -> None:
    old = world.golden.with_name("old.ipynb")
    gpu = world.golden.with_name("old.cuda.ipynb")
    page = world.root / "tests" / "golden" / "index.ipynb"
    for path in (old, gpu, page):
        path.write_bytes(world.golden.read_bytes())
    found = world.validate()
    where = [
        f"tests/golden/{name}.ipynb" for name in ("index", "part/old", "part/old.cuda")
    ]
    assert sorted(p.path for p in found) == sorted(where)
    assert "is the reference of no chapter that has code" in found[0].message
    assert "git rm tests/golden/index.ipynb" in found[0].hint
    assert world.validate(NAME) == []
    assert world.accept(NAME) == sorted(where)
    assert not old.exists() and world.golden.exists()


def test_an_execution_count_that_is_null_does_not_pass(world: World) -> None:
    reference = world.reference()
    reference["cells"][1].update(execution_count=None, outputs=[])
    world.save_reference(reference)
    problem = only(world.validate())
    assert (
        problem.message == "this cell was never executed when its reference was written"
    )
    assert problem.line == world.line("print")


def test_a_reference_without_outputs_does_not_pass(world: World) -> None:
    reference = world.reference()
    reference["cells"][1]["outputs"] = []
    world.save_reference(reference)
    assert "Unexpected output fields" in only(world.validate()).message


def test_cells_added_removed_moved_and_edited(world: World) -> None:
    def edit(**cells: Any) -> list[tuple[int, str]]:
        world.cells = cells
        world.write()
        world.execute()
        return [(problem.line, problem.message) for problem in world.validate()]

    before = dict(world.cells)
    without = {key: cell for key, cell in before.items() if key != "print"}
    assert edit(**without) == [
        (world.line("define"), "after this cell the reference has one more: 'train()'")
    ]
    assert edit(**before, new=("new()", [], {}, [])) == [
        (world.line("new"), "this cell is not in the reference yet")
    ]
    _, tags, options, outputs = before["print"]
    changed = "the source of this cell changed since its reference was accepted"
    assert edit(**{**before, "print": ("train(2)", tags, options, outputs)}) == [
        (world.line("print"), changed)
    ]
    again = "the tags of this cell changed since its reference was accepted"
    ignored = ("train()", ["nbval-ignore-output"], options, outputs)
    assert edit(**{**before, "print": ignored}) == [(world.line("print"), again)]
    moved = {"value": before["value"], **before}
    assert [message for _, message in edit(**moved)] == [
        "this cell is not in the reference yet",
        "after this cell the reference has one more: 'f(x)'",
    ]
    assert edit(**before) == []


def test_accept_keeps_the_bytes_of_cells_that_agree(world: World) -> None:
    before = world.reference()["cells"]
    world.replace("glue", "0.12345678912", "0.12345678999")  # agrees: noise
    world.replace("print", "0.3623", "0.4000")  # does not
    world.cells = {"first": ("import x", [], {}, []), **world.cells}
    world.write()
    world.execute()
    assert world.accept(NAME) == [f"tests/golden/{NAME}.ipynb"]
    after = world.reference()["cells"]
    assert after[1] == before[0]
    assert after[3:] == before[2:]
    assert after[2]["outputs"][0]["text"][0] == "loss 0.4000\n"
    assert world.validate() == []


def test_a_reference_holds_only_what_is_compared(world: World) -> None:
    nbformat.validate(nbformat.read(world.golden, as_version=4))
    reference = world.reference()
    text = json.dumps(reference)
    assert len(reference["cells"]) == len(KEYS)
    assert reference["metadata"] == {
        "kernelspec": {
            "display_name": "Python 3",
            "language": "python",
            "name": "python3",
        }
    }
    for absent in (
        PNG,
        JPEG,
        "path d=",
        "@ 1",
        "1.23 s",
        "hide-input",
        '"id"',
        "Words",
    ):
        assert absent not in text
    assert world.golden.read_text().endswith("}\n")
    assert b"\r" not in world.golden.read_bytes()


def test_what_was_not_executed_as_it_stands_is_refused(world: World) -> None:
    def refused(message: str, hint: str) -> None:
        problem = only(world.validate())
        assert (problem.path, problem.hint) == (f"book/{NAME}.md", hint)
        assert message in problem.message
        before = world.golden.read_bytes()
        with pytest.raises(BookError) as refusal:
            world.accept()
        assert refusal.value.problems == (problem,)
        assert world.golden.read_bytes() == before

    again = f"bookbuild execute {NAME}"
    cells = nbformat.read(world.executed, as_version=4).cells
    cells[2].execution_count = None
    world.save(cells)
    refused("this cell was not executed", again)
    world.save([cell for cell in cells if "plot" not in cell.source])
    refused("its code changed since it was executed", again)
    world.executed.write_text("{")
    refused("its executed notebook is damaged", f"{again} --force")
    world.executed.unlink()
    refused("has not been executed", again)


def test_devices_have_their_own_references(world: World) -> None:
    record = world.executed.with_suffix(".json")
    record.write_text('{"device": "cuda"}')
    problem = only(world.validate())
    assert problem.message == "was executed on cuda, not on cpu"
    problem = only(world.validate(device="cuda"))
    assert problem.message == f"has no reference tests/golden/{NAME}.cuda.ipynb"
    assert problem.hint == f"nox -s accept -- {NAME} --device cuda"
    assert world.accept(device="cuda") == [f"tests/golden/{NAME}.cuda.ipynb"]
    assert world.validate(device="cuda") == []
    world.replace("print", "0.3623", "0.3723")
    world.execute()
    problem = only(world.validate(device="cuda"))
    assert f"tests/golden/{NAME}.cuda.ipynb" in problem.message
    assert problem.hint.endswith("--device cuda")
    record.write_text('{"device": "cpu"}')
    assert (
        only(world.validate(device="cuda")).message
        == "was executed on cpu, not on cuda"
    )


def test_names_select_chapters_and_pages_without_code_pass(world: World) -> None:
    world.replace("print", "0.3623", "0.3723")
    world.execute()
    assert world.validate("index") == []
    assert len(world.validate(NAME)) == 1
    with pytest.raises(BookError, match="no chapter 'part/chaptre'"):
        world.validate("part/chaptre")


def test_several_problems_come_in_the_order_of_their_lines(world: World) -> None:
    world.replace("print", "100", "101")
    world.replace("value", "0.5000", "0.6000")
    world.outputs("define").append(printed("x"))
    world.execute()
    lines = [problem.line for problem in world.validate()]
    assert lines == [world.line(key) for key in ("define", "print", "value")]


def test_nothing_changed_is_quick_and_imports_no_pytest(world: World) -> None:
    assert world.validate() == []
    program = (
        "import sys, pathlib; from bookbuild import book, validate\n"
        "problems = validate.validate(book.load(pathlib.Path(sys.argv[1])))\n"
        "print(problems, 'pytest' in sys.modules, 'nbformat' in sys.modules)"
    )

    def run() -> str:
        command = [sys.executable, "-c", program, str(world.root)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert run().startswith("[] False")
    world.golden.write_text(world.golden.read_text() + "\n")
    assert run().startswith("[] True")
    assert run().startswith("[] False")


def test_a_persons_own_pytest_options_do_not_interfere(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option -x")
    world.replace("print", "100", "101")
    world.execute()
    assert len(world.validate()) == 1
    assert os.environ["PYTEST_ADDOPTS"] == "--no-such-option -x"


def test_a_fault_of_the_comparison_is_not_taken_for_agreement(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bookbuild import comparison

    def broken(*_: object) -> None:
        raise ZeroDivisionError("inside")

    monkeypatch.setattr(comparison._Cell, "compare_outputs", broken)
    with pytest.raises(RuntimeError, match="ZeroDivisionError: inside"):
        world.validate()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(comparison._Cell, "compare_outputs", interrupted)
    with pytest.raises(KeyboardInterrupt):
        world.validate()


EXECUTABLE = {
    "import": "from bookbuild.notebook import figure, glue",
    "draw": "fig, ax = figure(height=2.0)\n_ = ax.plot([0, 1], [1, 0])",
    "glue": "glue('chapter-third', 1 / 3)\nprint(f'{1 / 3:.3f}', object())",
    "fail": "[][1]",
    "time": "import time\nprint(time.perf_counter())",
}


def test_plain_nbval_agrees_with_the_references(tmp_path: Path) -> None:
    """The references are ordinary notebooks that `pytest --nbval` runs and compares."""
    from nbclient import NotebookClient

    tags = {"fail": ["raises-exception"], "time": ["nbval-ignore-output"]}
    pieces = [books.code(s, tags.get(key, ())) for key, s in EXECUTABLE.items()]
    root = books.write_book(tmp_path, {NAME: books.page(*pieces)})
    notebook = new_notebook(
        cells=[
            new_code_cell(source, metadata={"tags": tags.get(key, [])})
            for key, source in EXECUTABLE.items()
        ]
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""}
    NotebookClient(notebook, kernel_name="python3").execute(env=environment)
    executed = root / "_build" / "executed" / f"{NAME}.ipynb"
    executed.parent.mkdir(parents=True)
    nbformat.write(notebook, executed)
    book = books_of.load(root)
    accept(book)
    assert validate(book) == []
    golden = root / "tests" / "golden" / f"{NAME}.ipynb"
    assert golden.stat().st_size < 4000
    assert '"<svg/>"' in golden.read_text()

    def nbval() -> str:
        options = ["--nbval", "--nbval-current-env", "-q", "-p", "no:cacheprovider"]
        patterns = f"--nbval-sanitize-with={ROOT / 'bookbuild' / 'nbval.cfg'}"
        command = [sys.executable, "-m", "pytest", *options, patterns, str(golden)]
        run = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True
        )
        return run.stdout

    wrong = golden.read_text().replace("0.3333333333333333", "0.4444444444444444")
    assert re.search(r"^5 passed", nbval(), re.MULTILINE)
    golden.write_text(wrong)
    assert "1 failed, 4 passed" in nbval()
