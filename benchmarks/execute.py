"""What `bookbuild execute` costs beside bare nbclient, and what `--jobs 2` gains."""

import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import nbformat
from nbclient import NotebookClient

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bookbuild.book import Book, load
from bookbuild.execute import execute
from bookbuild.progress import Reporter

# Counts the time that it gets of a core, so that its work is the same in all runs.
WORK = """\
import math, time
end = time.process_time() + {seconds}
steps = 0
while time.process_time() < end:
    steps += math.isqrt(10**40) > 0
print("done")
"""

BARE, ONE, TWO = "nbclient", "bookbuild --jobs 1", "bookbuild --jobs 2"


def write(root: Path, chapters: int, cells: int, seconds: float) -> Book:
    """A book of equal chapters; each cell works for its share of `seconds`."""
    source = WORK.format(seconds=seconds / cells)
    names = [f"part/chapter_{i}" for i in range(chapters)]
    for name in names:
        page = root / "book" / f"{name}.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        cell = f"Prose.\n\n```{{code-cell}} python\n{source}```\n"
        page.write_text("# Chapter\n\n" + "\n".join([cell] * cells))
    (root / "book" / "index.md").write_text("# Book\n")
    entries = "".join(f"  - file: {name}\n" for name in names)
    toc = f"format: jb-book\nroot: index\nparts:\n- chapters:\n{entries}"
    (root / "_toc.yml").write_text(toc)
    return load(root)


def bare(book: Book) -> None:
    """nbclient with nothing around it, one notebook after the other."""
    for chapter in book.select():
        cells = [nbformat.v4.new_code_cell(c.source) for c in chapter.code_cells]
        notebook = nbformat.v4.new_notebook(cells=cells)
        with tempfile.TemporaryDirectory() as folder:
            resources = {"metadata": {"path": folder}}
            NotebookClient(notebook, timeout=300, resources=resources).execute()
            nbformat.write(notebook, Path(folder, "executed.ipynb"))


def ours(book: Book, jobs: int) -> None:
    for result in execute(book, jobs=jobs, reporter=Reporter()):
        if result.problems or result.cached:
            raise RuntimeError(f"{result.name}: {result.problems or 'was cached'}")


def run(quick: bool) -> dict[str, Any]:
    chapters, cells, seconds = (2, 3, 0.3) if quick else (4, 12, 2.0)
    repeats = 1 if quick else 5
    with tempfile.TemporaryDirectory() as folder:
        book = write(Path(folder), chapters, cells, seconds)
        cache = book.build

        spent: dict[str, list[float]] = {}

        def fresh(
            name: str, call: Callable[[], object]
        ) -> Callable[[], Callable[[], object]]:
            def measured() -> None:
                start = processor_seconds()
                call()
                spent.setdefault(name, []).append(processor_seconds() - start)

            def prepare() -> Callable[[], object]:
                shutil.rmtree(cache, ignore_errors=True)
                return measured

            return prepare

        calls: dict[str, Callable[[], object]] = {
            BARE: lambda: bare(book),
            ONE: lambda: ours(book, 1),
            TWO: lambda: ours(book, 2),
        }
        timed = harness.compare({n: fresh(n, c) for n, c in calls.items()}, repeats)
        cached = harness.compare(
            {"nothing changed": lambda: lambda: execute(book, reporter=Reporter())},
            repeats,
        )
    wall = {name: row["wall"]["median_s"] for name, row in timed.items()}
    processor = {name: statistics.median(seconds) for name, seconds in spent.items()}
    return {
        "book": {"chapters": chapters, "cells": cells, "seconds_a_chapter": seconds},
        "timings": {**timed, **cached},
        "processor_with_kernels_s": {n: round(s, 2) for n, s in processor.items()},
        "overhead_percent": {
            "wall": round(100 * (wall[ONE] / wall[BARE] - 1), 1),
            "processor": round(100 * (processor[ONE] / processor[BARE] - 1), 1),
        },
        "speedup_of_two_jobs": round(wall[ONE] / wall[TWO], 2),
    }


def processor_seconds() -> float:
    """Of this process and of the kernels that it has waited for.

    Unlike the clock, it hardly sees what else the machine does.
    """
    return sum(os.times()[:4])


if __name__ == "__main__":
    sys.exit(harness.main("execute", run, ("nbclient", "ipykernel", "jupyter_client")))
