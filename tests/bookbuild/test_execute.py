"""Running chapters: outputs, failures in lines of the book, graph, interruption."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from books import code, page
from jupytext.myst import myst_to_notebook

from bookbuild import promises
from bookbuild.book import Book, load
from bookbuild.cache import Cache
from bookbuild.client import Client
from bookbuild.document import Cleaner, notebook, shorten
from bookbuild.errors import BookError, ConfigError
from bookbuild.execute import Result, execute, explain
from bookbuild.frames import Frames
from bookbuild.key import Keys
from bookbuild.progress import Lines, Live, Reporter, reporter
from bookbuild.tangle import tangle

ROOT = Path(__file__).resolve().parents[2]
MakeBook = Callable[..., Path]


class Log(Reporter):
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.cells: list[tuple[str, int, int, int]] = []
        self.finished: list[str] = []
        self.warnings: list[str] = []

    def cell(self, name: str, position: int, count: int, line: int) -> None:
        self.cells.append((name, position, count, line))

    def finish(self, result: Result) -> None:
        self.finished.append(result.name)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def run(root: Path, *names: str, **more: Any) -> dict[str, Result]:
    """Load, tangle and execute; results by name."""
    book = load(root)
    tangle(book)
    more.setdefault("reporter", Log())
    return {result.name: result for result in execute(book, names, **more)}


def line(root: Path, name: str, start: str, occurrence: int = 1) -> int:
    """The line of the chapter that begins with `start`."""
    lines = (root / "book" / f"{name}.md").read_text().split("\n")
    found = [i for i, text in enumerate(lines, 1) if text.lstrip().startswith(start)]
    return found[occurrence - 1]


def outputs(result: Result) -> list[Any]:
    """What each code cell of the executed notebook printed or returned, as text."""
    document = nbformat.read(result.notebook, as_version=4)
    texts = []
    for cell in document.cells:
        if cell.cell_type == "code":
            texts.append(
                "".join(
                    o.get("text") or o.get("ename") or o["data"].get("text/plain", "")
                    for o in cell.outputs
                )
            )
    return texts


# Everything that can go wrong in a cell, run once for all the tests of this section.

FAILURES = {
    "p/module": page(code("def inverse(x):\n    return 1 / x", "export")),
    "p/error": page(
        code("from extracted.p.module import inverse"),
        "Words.\n",
        code("def outer(x):\n    y = x\n    return inverse(y)", ["hide-input"]),
        code("import json\n\njson.loads('[' + str(outer(0)))"),
    ),
    "p/library": page(code("import json\njson.loads('{')")),
    "p/syntax": page(code("x = 1\nexec('1 +')")),
    "p/group": page(code("raise ExceptionGroup('many', [ValueError(1)])")),
    "p/deep": page(code("def dive(n):\n    return dive(n + 1)\n\ndive(0)")),
    "p/flood": page(code("print('x' * 50_000_000)")),
    "p/endless": page(code("while True:\n    print('y' * 999)", timeout=60)),
    "p/late": page(code("import time\nwhile True:\n    time.sleep(60)", timeout=1)),
    "p/deaf": page(
        code(
            "import time\nwhile True:\n    try:\n        time.sleep(60)\n"
            "    except KeyboardInterrupt:\n        pass",
            timeout=1,
        )
    ),
    "p/exit": page(
        code("import os\nos.write(2, b'last words')\nos._exit(3)"), code("never = 1")
    ),
    "p/killed": page(code("import os\nos.kill(os.getpid(), 9)")),
    "p/input": page(code("x = 1\ninput('name? ')")),
    "p/tame": page(code("1 / 1", "raises-exception")),
}


@pytest.fixture(scope="module")
def failures(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, dict[str, Result]]:
    from books import write_book

    root = write_book(tmp_path_factory.mktemp("failures"), FAILURES)
    return root, run(root, jobs=3)


def message(failures: tuple[Path, dict[str, Result]], name: str) -> tuple[str, int]:
    """The text of a chapter's only problem, and its line; nothing of it is kept."""
    root, results = failures
    (problem,) = results[name].problems
    assert problem.path == f"book/{name}.md"
    assert not results[name].notebook.exists()
    assert not Cache(root / "_build" / "cache", print).entries(name)
    return str(problem), problem.line


def test_an_error_is_told_in_lines_of_the_book(
    failures: tuple[Path, dict[str, Result]],
) -> None:
    root, results = failures
    assert results["p/module"].problems == ()
    text, where = message(failures, "p/error")
    call, own = line(root, "p/error", "json.loads"), line(root, "p/error", "return")
    inner = line(root, "p/module", "return")
    assert where == own
    assert f"book/p/error.md:{own}: error: ZeroDivisionError: division by zero" in text
    assert f"book/p/error.md:{call}\n" in text
    assert f"-> {call} json.loads" in text
    assert f"book/p/error.md:{own}, in outer(x)" in text
    assert f"-> {own}     return inverse(y)" in text
    assert f"book/p/module.md:{inner}, in inverse(x)" in text
    assert f"-> {inner}     return 1 / x" in text
    assert "\x1b" not in text and "Cell In" not in text and "extracted/p" not in text
    assert text.endswith("hint: tag the cell raises-exception when it is meant to fail")


def test_frames_of_libraries_are_kept(failures: tuple[Path, dict[str, Result]]) -> None:
    text, where = message(failures, "p/library")
    assert where == line(failures[0], "p/library", "json.loads")
    assert "json/decoder.py:" in text
    assert "JSONDecodeError: Expecting property name" in text.split("\n")[0]


def test_other_kinds_of_errors(failures: tuple[Path, dict[str, Result]]) -> None:
    text, where = message(failures, "p/syntax")
    assert "SyntaxError" in text and where == line(failures[0], "p/syntax", "exec")
    text, where = message(failures, "p/group")
    assert "ExceptionGroup: many (1 sub-exception)" in text
    assert f"book/p/group.md:{where}, in <module>" in text
    assert where == line(failures[0], "p/group", "raise")
    text, where = message(failures, "p/deep")
    assert "RecursionError" in text and where == line(failures[0], "p/deep", "return")
    assert "more times]" in text and len(text) < 2000


@pytest.mark.parametrize("name", ["p/flood", "p/endless"])
def test_a_flood_of_output_is_stopped(
    failures: tuple[Path, dict[str, Result]], name: str
) -> None:
    start = "print(" if name == "p/flood" else "while"
    assert message(failures, name)[0] == (
        f"book/{name}.md:{line(failures[0], name, start)}: error: "
        "this cell's output is over the limit of 1 MB\n"
        "hint: print a summary, or every hundredth step; draw fewer points in a figure"
    )
    assert failures[1][name].seconds < 30


def test_a_cell_that_never_ends(failures: tuple[Path, dict[str, Result]]) -> None:
    first = line(failures[0], "p/late", "import time")
    assert message(failures, "p/late")[0] == (
        f"book/p/late.md:{first}: error: this cell ran longer than its deadline of 1 s"
        f"; it was at line {first + 2}\n"
        "hint: make it faster, or give it more time: `timeout: 2`"
    )
    text, _ = message(failures, "p/deaf")
    assert "longer than its deadline of 1 s\n" in text
    assert failures[1]["p/deaf"].seconds < 30


def test_a_cell_that_ends_its_kernel(failures: tuple[Path, dict[str, Result]]) -> None:
    first = line(failures[0], "p/exit", "import os")
    text, _ = message(failures, "p/exit")
    assert text.startswith(
        f"book/p/exit.md:{first}: error: "
        "the kernel ended with exit status 3 while this cell ran"
    )
    assert message(failures, "p/killed")[0] == (
        f"book/p/killed.md:{line(failures[0], 'p/killed', 'import os')}: error: "
        "the kernel was killed by SIGKILL while this cell ran\n"
        "hint: the machine may have run out of memory: make the cell smaller"
    )


def test_a_cell_that_asks(failures: tuple[Path, dict[str, Result]]) -> None:
    assert message(failures, "p/input")[0] == (
        f"book/p/input.md:{line(failures[0], 'p/input', 'input')}: error: "
        "this cell asks for input, and a build has nobody to answer\n"
        "hint: give the value in the cell"
    )


def test_a_cell_that_must_fail_and_does_not(
    failures: tuple[Path, dict[str, Result]],
) -> None:
    assert message(failures, "p/tame")[0] == (
        f"book/p/tame.md:{line(failures[0], 'p/tame', '1 / 1')}: error: "
        "the cell is tagged raises-exception and did not fail\n"
        "hint: remove the tag, or make the cell fail"
    )


def test_a_failure_is_never_cached(failures: tuple[Path, dict[str, Result]]) -> None:
    root, _ = failures
    again = run(root, "p/module", "p/library")
    assert again["p/module"].cached and not again["p/library"].cached
    assert "JSONDecodeError" in again["p/library"].problems[0].message


# What a good run gives.

GOOD = page(
    "First *words*, with `code`.\n",
    code("import sys, warnings\nprint('out')\nprint('err', file=sys.stderr)"),
    code("warnings.warn('careful')"),
    "More words.\n",
    code(
        "display({'text/plain': 'é\\n2'}, raw=True)\n40 + 2", ["hide-input"], rtol=0.1
    ),
    code(""),
    code("def fail():\n    raise KeyError('k')\n\nfail()", "raises-exception"),
    code(
        "import matplotlib.pyplot as plt\n_ = plt.figure(figsize=(1, 1)).gca()",
        mystnb={"figure": {"name": "fig-x", "caption": "A caption."}},
    ),
    code("for i in range(3):\n    print(f'step {i}', end='\\r')\nprint('done')"),
    summary="All.",
    minutes=1,
)


def test_the_notebook_is_repeatable_and_equals_jupytext_s(make_book: MakeBook) -> None:
    root = make_book({"p/a": GOOD})
    log = Log()
    result = run(root, reporter=log)["p/a"]
    assert (result.cached, result.problems, result.cells) == (False, (), 7)
    assert result.notebook == root / "_build" / "executed" / "p" / "a.ipynb"
    first = result.notebook.read_bytes()
    assert run(root, force=True)["p/a"].notebook.read_bytes() == first
    assert run(root)["p/a"].cached
    assert str(root) not in first.decode() and "ipykernel_" not in first.decode()

    made = nbformat.reads(first.decode(), as_version=4)
    nbformat.validate(made)
    oracle = myst_to_notebook(GOOD, add_source_map=True)
    assert [c.source for c in made.cells] == [c.source.rstrip() for c in oracle.cells]
    assert [c.cell_type for c in made.cells] == [c.cell_type for c in oracle.cells]
    assert [dict(c.metadata) for c in made.cells] == [
        dict(c.metadata) for c in oracle.cells
    ]
    for cell, mine, theirs in zip(
        made.cells, made.metadata.source_map, oracle.metadata["source_map"]
    ):
        if cell.cell_type == "code":
            assert mine == theirs
        else:  # jupytext strips blank lines, and counts them
            first = cell.source.split("\n")[0]
            assert GOOD.split("\n")[mine] == first
            assert not "".join(GOOD.split("\n")[theirs:mine])
    assert made.metadata.chapter == {"summary": "All.", "minutes": 1}
    assert [c.id for c in made.cells] == [f"cell-{i}" for i in range(len(made.cells))]

    cells = [c for c in made.cells if c.cell_type == "code"]
    assert [(o.name, o.text) for o in cells[0].outputs] == [
        ("stdout", "out\n"),
        ("stderr", "err\n"),
    ]
    assert cells[1].outputs[0].text.startswith("In[2]:1: UserWarning: careful")
    assert [o.data["text/plain"] for o in cells[2].outputs] == ["é\n2", "42"]
    assert cells[3].outputs == [] and cells[3].execution_count is None
    assert cells[4].outputs[0].ename == "KeyError"
    assert [c.execution_count for c in cells] == [1, 2, 3, None, 4, 5, 6]
    assert "image/png" in cells[5].outputs[0].data
    assert cells[6].outputs[0].text == "done\n"

    side = json.loads((root / "_build/executed/p/a.json").read_text())
    assert side["cached"] is True and side["seconds"] > 0 and side["device"] == "cpu"
    code_at = {str(i) for i, c in enumerate(made.cells) if c.cell_type == "code"}
    assert set(side["cells"]) == code_at
    assert "cores" in side["hardware"] and len(side["key"]) == 64
    lines = [cell.line for cell in load(root).chapter("p/a").code_cells]
    assert [c[1:] for c in log.cells] == [
        (0, 7, lines[0]),
        *[(i + 1, 7, number) for i, number in enumerate(lines)],
    ]


def test_prose_takes_milliseconds_and_no_kernel(
    make_book: MakeBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = page("Old words.\n", code("print(6 * 7)"), code("2", ["hide-input"]))
    root = make_book({"p/a": text})
    assert not run(root)["p/a"].problems
    new = text.replace("Old words.", "New words.\n\nAnd more.").replace(
        "hide-input", "remove-input"
    )
    make_book({"p/a": new})
    monkeypatch.setitem(sys.modules, "bookbuild.kernel", None)
    log = Log()
    result = run(root, reporter=log)["p/a"]
    assert result.cached and log.finished == ["p/a"] and log.cells == []
    made = nbformat.read(result.notebook, as_version=4)
    assert "And more." in made.cells[0].source
    assert made.cells[2].metadata.tags == ["remove-input"]
    assert outputs(result) == ["42\n", "2"]
    assert (
        made.metadata.source_map
        == myst_to_notebook(new, add_source_map=True).metadata["source_map"]
    )


def test_the_kernel_s_surroundings(
    make_book: MakeBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    source = (
        "import json, os, sys\nfrom bookbuild.notebook import device\n"
        "print(json.dumps([dict(os.environ), os.getcwd(), os.listdir(), device()]))"
    )
    root = make_book({"p/a": page(code(source))})
    result = run(root, device="cpu", jobs=1)["p/a"]
    variables, folder, files, device = json.loads(outputs(result)[0].replace("\n", ""))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    assert variables["BOOK_ROOT"] == "" or Path(variables["BOOK_ROOT"]) == root
    assert variables["BOOK_DEVICE"] == device == "cpu"
    assert variables["PYTHONHASHSEED"] == variables["SOURCE_DATE_EPOCH"] == "0"
    assert variables["PYTHONPATH"].split(os.pathsep)[-1] == "/somewhere"
    assert "PYTHONDONTWRITEBYTECODE" not in variables
    assert "inline" in variables["MPLBACKEND"]
    assert variables["OMP_NUM_THREADS"] == str(cores or os.cpu_count())
    assert not Path(folder).exists() and files == []
    assert not Path(variables["BOOK_CHECKPOINTS"]).exists()


MEET = """\
import os, time
from pathlib import Path
place = Path(os.environ["BOOK_ROOT"], "meeting")
place.mkdir(exist_ok=True)
(place / "{me}").touch()
end = time.monotonic() + 30
while not (place / "{other}").exists():
    assert time.monotonic() < end, "nobody came"
    time.sleep(0.01)
os.environ["OMP_NUM_THREADS"]
"""


def test_chapters_run_at_the_same_time_with_their_share_of_cores(
    make_book: MakeBook,
) -> None:
    root = make_book(
        {
            "p/a": page(code(MEET.format(me="a", other="b"))),
            "p/b": page(code(MEET.format(me="b", other="a"))),
        }
    )
    results = run(root, jobs=2)
    assert [r.problems for r in results.values()] == [(), ()]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
    share = str(max(1, cores // 2))
    assert [outputs(r)[-1] for r in results.values()] == [f"'{share}'"] * 2


# Checkpoints.

MAKE = """\
from bookbuild.notebook import checkpoint

def make(place):
    (place / "weights").write_text("{weights}")

path = checkpoint("model", make=make)
"""
USE = """\
from bookbuild.notebook import checkpoint
print((checkpoint("model", make=None) / "weights").read_text())
"""


def chain(**more: str) -> dict[str, str]:
    return {
        "p/make": page(code(MAKE.format(weights="1 2")), produces=["model"]),
        "p/other": page(code("1")),
        "p/use": page(code(USE), needs=["model"]),
        **{f"p/{name}": text for name, text in more.items()},
    }


def test_checkpoints_flow_forward(make_book: MakeBook) -> None:
    root = make_book(chain())
    results = run(root, "p/use")
    assert list(results) == ["p/make", "p/use"]
    assert outputs(results["p/use"]) == ["1 2\n"]
    results = run(root, "p/use")
    assert list(results) == ["p/use"] and results["p/use"].cached

    # Damage is noticed by the chapter that needs the checkpoint, and mended.
    book = load(root)
    store = Cache(book.build / "cache", print)
    weights = store.entries("p/make")[0].checkpoint("model") / "weights"
    weights.chmod(0o644)
    weights.write_text("9 9")
    log = Log()
    results = run(root, "p/use", force=True, reporter=log)
    assert log.finished == ["p/make", "p/use"]
    assert outputs(results["p/use"]) == ["1 2\n"]
    assert "weights has another content" in log.warnings[0]

    # Another checkpoint runs its reader again; another reader does not run its maker.
    make_book(chain(make=page(code(MAKE.format(weights="3")), produces=["model"])))
    assert explain(load(root), "p/use") == [
        "checkpoint model: p/make makes another one"
    ]
    results = run(root, jobs=2)
    assert outputs(results["p/use"]) == ["3\n"]
    assert [r.cached for r in results.values()] == [False, False, False]


def test_who_waits_for_a_failed_chapter_is_not_run(make_book: MakeBook) -> None:
    broken = page(code("1 / 0"), produces=["model"])
    then = page(code("2"), needs=["more"])
    use = page(code(USE), needs=["model"], produces=["more"])
    root = make_book(chain(make=broken, use=use, then=then))
    log = Log()
    stream = io.StringIO()
    results = run(root, reporter=log)
    assert [bool(r.problems) for r in results.values()] == [True, False, True, True]
    assert {name for name, *_ in log.cells} == {"p/make", "p/other"}
    assert str(results["p/use"].problems[0]) == (
        f"book/p/use.md:{line(root, 'p/use', '- model')}: error: "
        "not run, because book/p/make.md failed, which makes 'model'"
    )
    assert "book/p/use.md failed" in results["p/then"].problems[0].message
    said = Lines(stream)
    said.finish(results["p/use"])
    assert stream.getvalue() == (
        "p/use: not run, because book/p/make.md failed, which makes 'model'\n"
    )


def test_front_matter_is_held_to_its_promises(make_book: MakeBook) -> None:
    scribble = (
        "import os\nfrom pathlib import Path\n"
        "p = Path(os.environ['BOOK_CHECKPOINTS'], 'model', 'weights')\n"
        "p.chmod(0o644)\np.write_text('mine')"
    )
    root = make_book(
        chain(
            none=page(code("1"), summary="S.", produces=["ghost"]),
            secret=page(code(MAKE.format(weights="1").replace("model", "extra"))),
            borrow=page(code("x = 1"), code(MAKE.format(weights="1"))),
            scribble=page(code(scribble), needs=["model"]),
        )
    )
    log = Log()
    results = run(root, jobs=2, reporter=log)
    told = {n: str(r.problems[0]) for n, r in results.items() if r.problems}
    assert told == {
        "p/none": f"book/p/none.md:{line(root, 'p/none', '- ghost')}: error: "
        "declares produces: [ghost] but made no checkpoint ghost\n"
        'hint: call checkpoint("ghost", make=...) in a cell',
        "p/secret": f"book/p/secret.md:{line(root, 'p/secret', 'from')}: error: "
        "made a checkpoint extra without declaring it\n"
        "hint: add it to the front matter: produces: [extra]",
        "p/borrow": f"book/p/borrow.md:{line(root, 'p/borrow', 'from')}: error: "
        "uses the checkpoint model of book/p/make.md undeclared\n"
        "hint: add it to the front matter: needs: [model]",
        "p/scribble": f"book/p/scribble.md:{line(root, 'p/scribble', '- model')}: "
        "error: wrote to the checkpoint model that it was given\n"
        "hint: copy it first; the chapter that makes it runs again next time",
    }
    assert run(root, "p/use", force=True)["p/use"].problems == ()


def test_the_budget(make_book: MakeBook) -> None:
    root = make_book({"p/a": page(code("1"), summary="S.", minutes=0.0001)})
    (problem,) = run(root)["p/a"].problems
    assert problem.line == line(root, "p/a", "minutes")
    assert problem.message.endswith("more than twice its 0.0001 minutes (0.006 s)")
    assert "give it more in the front matter: minutes" in problem.hint
    chapter = load(make_book({"p/a": page(code("1"), minutes=1)})).chapter("p/a")
    assert promises.budget(chapter, 119) == []
    assert len(promises.budget(chapter, 121)) == 1

    book = load(root)
    store = Cache(book.build / "cache", print)
    run_facts = {"seconds": 90.0, "cells": [90.0]}
    cell = {"cell_type": "code", "execution_count": 1, "outputs": []}
    components = Keys(book).components("p/a")
    store.put("p/a", components, json.dumps({"cells": [cell]}), run_facts)
    (result,) = execute(book, reporter=Log())
    assert result.over_budget and result.cached and result.seconds == 90


# Files that change, failures by force, wrong usage.


def test_a_module_or_data_that_is_not_the_book_s(make_book: MakeBook) -> None:
    files = {
        "p/a": page(code("def f():\n    return 1", "export")),
        "p/b": page(code("from extracted.p.a import f\nf()"), data=["d.txt"]),
        "p/c": page(
            code(
                "import os\nfrom pathlib import Path\n"
                "Path(os.environ['BOOK_ROOT'], 'd.txt').write_text('2')"
            ),
            data=["d.txt"],
        ),
    }
    root = make_book(files)
    (root / "d.txt").write_text("1")
    book = load(root)
    (b,) = execute(book, ["p/b"], reporter=Log())
    assert str(b.problems[0]) == (
        "extracted/p/a.py: error: differs from book/p/a.md, and book/p/b.md imports "
        "it\nhint: run `bookbuild tangle`"
    )
    tangle(book)
    (c,) = execute(book, ["p/c"], reporter=Log())
    assert str(c.problems[0]) == (
        "d.txt: error: changed since the book was read\n"
        "hint: it changed while the chapter ran: run again"
    )
    assert outputs(run(root, "p/b")["p/b"]) == ["1"]


def test_a_failure_by_force_forgets_the_success(make_book: MakeBook) -> None:
    source = (
        "import os\nfrom pathlib import Path\n"
        "assert not Path(os.environ['BOOK_ROOT'], 'stop').exists()"
    )
    root = make_book({"p/a": page(code(source))})
    assert not run(root)["p/a"].problems
    (root / "stop").touch()
    assert run(root)["p/a"].cached
    assert run(root, force=True)["p/a"].problems
    assert run(root)["p/a"].problems
    assert not (root / "_build/executed/p/a.ipynb").exists()


def test_pages_without_code_and_wrong_usage(make_book: MakeBook) -> None:
    book = load(make_book({"p/a": "# Words\n\nOnly.\n"}))
    assert execute(book, reporter=Log()) == []
    assert execute(book, ["p/a"], reporter=Log()) == []
    with pytest.raises(ConfigError, match="no chapter 'p/x'"):
        execute(book, ["p/x"], reporter=Log())
    with pytest.raises(ConfigError, match="--jobs: error: is 0\nhint: give 1 or more"):
        execute(book, jobs=0, reporter=Log())


def test_a_cache_that_cannot_be_written(make_book: MakeBook) -> None:
    root = make_book({"p/a": page(code("1"))})
    (root / "_build").mkdir()
    (root / "_build" / "cache").write_text("a file in the way")
    (problem,) = run(root)["p/a"].problems
    assert problem.path == "_build/cache" and "cannot be written" in problem.message


def test_a_kernel_that_does_not_start(
    make_book: MakeBook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho no such kernel >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    (problem,) = run(make_book({"p/a": page(code("1"))}))["p/a"].problems
    assert problem.message.startswith("the kernel did not start")
    assert "no such kernel" in problem.message and "ipykernel" in problem.hint


# Speed when nothing changed, and other processes.

SCRIPT = """\
import sys
from pathlib import Path
from bookbuild.book import load
from bookbuild.execute import execute
from bookbuild.tangle import tangle
book = load(Path(sys.argv[1]))
tangle(book)
"""
RUN = (
    SCRIPT
    + """\
results = execute(book, jobs=int(sys.argv[2]))
problems = [str(p) for r in results for p in r.problems]
print("\\n".join(problems))
sys.exit(bool(problems))
"""
)


def python(script: str, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_nothing_changed_is_fast_and_imports_no_jupyter(make_book: MakeBook) -> None:
    cells = [code(f"x{i} = {i}", ["export"]) for i in range(30)]
    names = [f"p/c{i}" for i in range(10)]
    text = page(*[c for cell in cells for c in ("Words.\n", cell)])
    # Each chapter stands in its own part: no two export one name in one package.
    root = make_book(
        {name.replace("p/", f"p{i}/"): text for i, name in enumerate(names)}
    )
    book = load(root)
    store = Cache(book.build / "cache", print)
    for chapter in book.select():
        results = [{"execution_count": i, "outputs": []} for i in range(30)]
        components = Keys(book).components(chapter.name)
        store.put(
            chapter.name,
            components,
            notebook(chapter, results),
            {"seconds": 1.0, "cells": [0.0] * 30},
        )
    script = SCRIPT + (
        "import time\nbefore = set(sys.modules)\n"
        "start = time.perf_counter()\nresults = execute(book)\n"
        "print(time.perf_counter() - start)\n"
        "assert len(results) == 10 and all(r.cached for r in results)\n"
        "heavy = {'nbclient', 'jupyter_client', 'torch', 'zmq', 'ipykernel'}\n"
        "print(sorted(heavy & (set(sys.modules) - before)))\n"
    )
    for _ in range(2):  # the first call also writes the executed notebooks
        out, err = python(script, root).communicate()
        assert err == ""
        seconds, heavy = out.splitlines()
        assert heavy == "[]"
        assert float(seconds) < 0.5


def kernels(root: Path) -> list[str]:
    """Processes whose environment names the book: its kernels. Linux only."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            variables = (place / "environ").read_bytes()
        except OSError:
            continue
        if f"BOOK_ROOT={root}\0".encode() in variables:
            found.append(place.name)
    return found


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="needs /proc"
)


@needs_proc
def test_interrupt_names_the_cell_and_leaves_nothing(make_book: MakeBook) -> None:
    sleep = (
        "import os, time\nopen(os.environ['BOOK_ROOT'] + '/{}', 'w')\ntime.sleep(60)"
    )
    root = make_book(
        {
            "p/done": page(code("1")),
            "p/a": page(code("1"), code(sleep.format("a-runs"))),
            "p/b": page(code(sleep.format("b-runs"))),
        }
    )
    assert not run(root, "p/done")["p/done"].problems
    process = python(RUN, root, 2)
    wait_for(lambda: (root / "a-runs").exists() and (root / "b-runs").exists())
    assert kernels(root)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode in (-signal.SIGINT, 130)
    assert "KeyboardInterrupt" in err
    where = line(root, "p/a", "import os")
    assert f"interrupted: book/p/a.md:{where} (cell 2 of 2)\n" in err
    assert "interrupted: book/p/b.md" in err
    assert kernels(root) == []
    executed = [p.name for p in (root / "_build/executed").rglob("*") if p.is_file()]
    assert sorted(executed) == ["done.ipynb", "done.json"]
    assert not list((root / "_build" / "cache").glob(".bookbuild-*"))


@needs_proc
def test_kill_9_of_a_build_leaves_the_next_one_correct(make_book: MakeBook) -> None:
    root = make_book(chain())
    for delay in (0.3, 0.9, 1.5, 2.2):
        process = python(RUN, root, 2)
        time.sleep(delay)
        process.kill()
        process.communicate()
    out, err = python(RUN, root, 2).communicate(timeout=60)
    assert out.strip() == "" and "warning" not in err
    results = run(root)
    assert all(r.cached and not r.problems for r in results.values())
    assert outputs(results["p/use"]) == ["1 2\n"]
    assert not list((root / "_build" / "cache").glob(".bookbuild-*"))
    wait_for(lambda: not kernels(root))


def test_two_builds_at_once(make_book: MakeBook) -> None:
    root = make_book(chain())
    tangle(load(root))
    builds = [python(RUN, root, 1) for _ in range(2)]
    for build in builds:
        out, err = build.communicate(timeout=90)
        assert (build.returncode, out.strip()) == (0, ""), err
        assert "warning" not in err
    assert all(r.cached for r in run(root).values())


# Pieces that need no kernel.


def test_frames_are_rewritten() -> None:
    cells = {2: load_cell(line=40)}
    frames = Frames(
        "book/p/a.md",
        cells,
        {"77.py": 2},
        lambda path, line: (
            ("book/p/m.md", line + 100)
            if str(path).endswith("extracted/p/m.py")
            else None
        ),
    )
    told, own = frames.rewrite(
        [
            "-" * 75,
            "ValueError          Traceback (most recent call last)",
            "\x1b[36mCell\x1b[39m \x1b[32mIn[2]\x1b[39m\x1b[32m, line 3\x1b[39m\n"
            "      2 a = 1\n----> 3 f(a)",
            "File /x y/extracted/p/m.py:9, in f(x)\n      8 def f(x):\n----> 9   g(x)",
            "File /lib/other.py:5, in g(x)\n      4 1\n----> 5 raise ValueError",
            "Cell In[9], line 1\n----> 1 unknown",
            "ValueError: no",
        ]
    )
    assert own == 42
    assert told == (
        "book/p/a.md:42\n     41 a = 1\n---> 42 f(a)\n\n"
        "book/p/m.md:109, in f(x)\n    108 def f(x):\n--> 109   g(x)\n\n"
        "File /lib/other.py:5, in g(x)\n      4 1\n----> 5 raise ValueError\n\n"
        "Cell In[9], line 1\n----> 1 unknown\n\n"
        "ValueError: no"
    )
    told, own = frames.rewrite(['  File "/tmp/ipykernel_5/77.py", line 2, in <module>'])
    assert (told, own) == ("  book/p/a.md:41, in <module>", 41)
    assert frames.rewrite([]) == ("", None)


def load_cell(line: int) -> Any:
    from bookbuild.chapter import Cell

    return Cell(0, "code", "", line)


def test_shorten() -> None:
    assert shorten(["a", "b", "b", "b", "c", "c"]) == [
        "a",
        "b",
        "[the frame above, 2 more times]\n",
        "c",
        "[the frame above, 1 more time]\n",
    ]
    assert shorten([]) == []


def test_a_librarys_frames_are_left_out() -> None:
    torch = "\x1b[36mFile \x1b[32msite-packages/torch/nn/modules/module.py:1778\x1b[0m"
    assert shorten(["Cell In[1]", torch + " a", torch + " b", "Cell In[2]"]) == [
        "Cell In[1]",
        "[frames inside torch]\n",
        "Cell In[2]",
    ]


def test_outputs_are_cleaned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    cleaner = Cleaner(tmp_path / "book")
    cleaner.files["8.py"] = 3

    def stream(name: str, text: str) -> dict[str, str]:
        return {"output_type": "stream", "name": name, "text": text}

    figure = {
        "output_type": "display_data",
        "data": {"image/png": "a\n"},
        "metadata": {},
    }
    cleaned = cleaner.outputs(
        [
            stream("stderr", "a\n"),
            stream("stdout", "1\n"),
            stream("stderr", "b 50%\rb 100%\n"),
            figure,
            stream("stdout", f"{tmp_path}/book/x ~/book/y /tmp/ipykernel_7/8.py:1 "),
            stream(
                "stdout",
                "/v/lib/python3.11/site-packages/q.py /v/lib/python3.11/re.py ",
            ),
            stream("stdout", "/tmp/ipykernel_7/9.py:1\n"),
        ]
    )
    assert [(o.get("name"), o.get("text")) for o in cleaned] == [
        ("stdout", ["1\n"]),
        ("stderr", ["a\n", "b 100%\n"]),
        (None, None),
        ("stdout", ["x y In[3]:1 site-packages/q.py python3.11/re.py cell.py:1\n"]),
    ]
    assert cleaned[2] == figure


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def result(name: str, **more: Any) -> Result:
    facts: dict[str, Any] = {
        "seconds": 2.0,
        "cached": False,
        "problems": (),
        "cells": 4,
    }
    return Result(name, notebook=Path("x"), **{**facts, **more})


def test_a_line_a_chapter() -> None:
    stream = io.StringIO()
    heard = reporter(stream)
    heard.begin(2)
    heard.cell("p/a", 1, 4, 10)
    heard.finish(result("p/a"))
    heard.finish(result("p/b", cached=True))
    heard.warn("something")
    heard.interrupted("p/c", 2, 4, 12)
    heard.interrupted("p/d", 0, 4, 9)
    heard.tick()
    heard.close()
    assert stream.getvalue() == (
        "p/a: 4 cells in 2.0 s\nwarning: something\n"
        "interrupted: book/p/c.md:12 (cell 2 of 4)\n"
        "interrupted: book/p/d.md:9 (its kernel was starting)\n"
    )


def test_a_live_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    stream = Terminal()
    heard = reporter(stream)
    assert isinstance(heard, Live)
    heard.begin(2)
    heard.cell("p/a", 0, 4, 10)
    heard.cell("p/a", 1, 4, 10)
    heard.cell("p/b-with-a-long-name-that-passes-the-width", 1, 4, 10)
    shown = stream.getvalue().split("\r\x1b[2K")
    assert shown[1:3] == ["[0/2] 0 s · p/a starting", "[0/2] 0 s · p/a cell 1 of 4"]
    assert len(shown[3]) == 59 and shown[3].endswith("…")
    heard.finish(result("p/a"))
    shown = stream.getvalue().split("\r\x1b[2K")
    assert shown[-2] == "p/a: 4 cells in 2.0 s\n" and shown[-1].startswith("[1/2] ")
    heard.interrupted("p/b-with-a-long-name-that-passes-the-width", 1, 4, 10)
    heard.close()
    assert stream.getvalue().endswith("(cell 1 of 4)\n")


def test_longest_first_by_last_known_time(
    make_book: MakeBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bookbuild.execute import _Build

    root = make_book(
        {
            "p/short": page(code("1"), minutes=1),
            "p/make": page(code("2"), minutes=1, produces=["model"]),
            "p/known": page(code("3"), minutes=1),
            "p/use": page(code("4"), minutes=5, needs=["model"]),
        }
    )
    book: Book = load(root)
    build = _Build(book, "cpu", Log())
    monkeypatch.setattr(build.cache, "seconds", lambda: {"p/known": 330.0})
    build.plan([c.name for c in book.select()], force=False)
    assert build._longest_first() == ["p/make", "p/known", "p/use", "p/short"]


def test_outputs_wait_for_a_slow_reader(
    make_book: MakeBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    # ZeroMQ once dropped some of them on a busy machine, and nothing told
    process = Client.process_message

    def slowly(self: Client, message: Any, cell: Any, index: int) -> Any:
        if message["msg_type"] == "display_data" and self.printed == 0:
            time.sleep(2)  # the kernel makes all of them meanwhile
        return process(self, message, cell, index)

    monkeypatch.setattr(Client, "process_message", slowly)
    root = make_book({"p/a": page(code("for i in range(9000):\n    display(i)"))})
    made = run(root)["p/a"]
    assert not made.problems
    document = nbformat.read(made.notebook, as_version=4)
    shown = [o.data["text/plain"] for o in document.cells[-1].outputs]
    assert shown == [str(i) for i in range(9000)]


def test_execute_works_in_a_thread_of_a_running_loop(make_book: MakeBook) -> None:
    root = make_book({"p/a": page(code("1 + 1"))})

    async def main() -> dict[str, Result]:
        return await asyncio.to_thread(run, root)

    assert outputs(asyncio.run(main())["p/a"]) == ["2"]


def test_an_error_of_the_executor_itself_is_not_hidden(
    make_book: MakeBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*arguments: Any, **more: Any) -> None:
        raise RuntimeError("a fault of the tool")

    monkeypatch.setattr("bookbuild.kernel.run", broken)
    with pytest.raises(RuntimeError, match="a fault of the tool"):
        run(make_book({"p/a": page(code("1"))}))
    with pytest.raises(BookError):
        load(make_book({"p/a": page(code("1 +"))}))
