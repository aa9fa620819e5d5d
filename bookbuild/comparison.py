"""nbval's comparison of two lists of outputs, without a kernel.

nbval compares while pytest runs a notebook. Here both sides exist already: pytest runs
items made from nbval's own classes, whose test is the comparison alone.
"""

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import unified_diff
from pathlib import Path
from typing import Any

import pytest
from nbval.plugin import IPyNbCell, IPyNbFile

from bookbuild.numeric import Tolerance, rewrite
from bookbuild.reference import Node, nodes

CONFIGURATION = Path(__file__).with_name("nbval.cfg")


@dataclass
class Comparison:
    """One cell's reduced outputs, now and in its reference, and the result."""

    path: Path
    fresh: list[Node]
    reference: list[Node]
    tolerance: Tolerance = field(default_factory=Tolerance)
    difference: str = ""


def compare(comparisons: list[Comparison]) -> None:
    """Let nbval compare; sets `difference` where the outputs differ."""
    if not comparisons:
        return
    printed = io.StringIO()
    with _clean_environment(), contextlib.redirect_stdout(printed):
        status = pytest.main(
            [
                f"--rootdir={CONFIGURATION.parent}",
                f"--config-file={os.devnull}",
                "--noconftest",
                "--disable-plugin-autoload",
                "--color=no",
                "--capture=no",
                "-pnbval.plugin",
                "-pno:cacheprovider",
                "-pno:faulthandler",
                "-pno:logging",
                f"--nbval-sanitize-with={CONFIGURATION}",
            ],
            plugins=[_Comparer(comparisons)],
        )
    if status == pytest.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    if status != pytest.ExitCode.OK:
        raise RuntimeError(f"nbval's comparison itself failed\n{printed.getvalue()}")


@contextlib.contextmanager
def _clean_environment() -> Iterator[None]:
    """Keep the options that a person sets for their own test runs out of this one."""
    kept = {
        name: os.environ.pop(name, None)
        for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")
    }
    try:
        yield
    finally:
        os.environ.update(
            {name: value for name, value in kept.items() if value is not None}
        )


class _Comparer:
    """The pytest plugin that turns comparisons into items."""

    def __init__(self, comparisons: list[Comparison]) -> None:
        self.comparisons = comparisons

    def pytest_collection(self, session: pytest.Session) -> bool:
        files: dict[Path, Any] = {}
        for number, comparison in enumerate(self.comparisons):
            path = comparison.path
            if path not in files:
                files[path] = _File.from_parent(session, path=path)
            session.items.append(
                _Cell.from_parent(
                    files[path],
                    name=str(number),
                    cell_num=number,
                    cell=comparison,
                    options={},
                )
            )
        session.testscollected = len(session.items)
        return True

    def pytest_assertrepr_compare(
        self, op: str, left: object, right: object
    ) -> list[str]:
        """What nbval shows of two texts: `-` the reference, `+` this run."""
        return _difference(str(left).splitlines(), str(right).splitlines())


def _difference(old: list[str], new: list[str]) -> list[str]:
    """The lines that differ, with two lines around them."""
    lines = list(unified_diff(old, new, n=2, lineterm=""))[3:]
    return ["…" if line[0] == "@" else f"{line[0]} {line[1:]}" for line in lines]


class _File(IPyNbFile):  # type: ignore[misc]
    def setup(self) -> None:
        """Read the patterns, start no kernel; compare images too, as placeholders."""
        self.setup_sanitize_files()
        self.skip_compare: tuple[str, ...] = tuple(
            key for key in self.skip_compare if "image/" not in key
        )


class _Cell(IPyNbCell):  # type: ignore[misc]
    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:
        """A failing comparison is a fault of the tool: show all of it."""
        return pytest.Item.repr_failure(self, excinfo)

    def runtest(self) -> None:
        comparison: Comparison = self.cell
        fresh = _spelled(comparison.fresh, comparison.reference, comparison.tolerance)
        if not self.compare_outputs(nodes(fresh), nodes(comparison.reference)):
            lines = "\n".join(self.comparison_traceback).splitlines()
            comparison.difference = "\n".join(
                line.rstrip() for line in lines if line.strip()
            )
        else:
            # nbval compares kind by kind; what follows what is left to compare.
            old, new = _order(comparison.reference), _order(comparison.fresh)
            if old != new:
                lines = ["the outputs come in another order", *_difference(old, new)]
                comparison.difference = "\n".join(lines)


def _texts(outputs: list[Node]) -> Iterator[tuple[str, Node, str]]:
    """Every text of the outputs: nbval's name for its kind, its holder and key."""
    for output in outputs:
        kind = output["output_type"]
        if kind == "stream":
            yield output["name"], output, "text"
        elif kind == "error":
            yield "evalue", output, "evalue"
        else:
            for mime, value in output["data"].items():
                if isinstance(value, str):
                    yield mime, output["data"], mime


def _spelled(
    fresh: list[Node], reference: list[Node], tolerance: Tolerance
) -> list[Node]:
    """`fresh` with its floats in the reference's spelling where they are close."""
    wanted: dict[str, list[str]] = {}
    for kind, place, key in _texts(reference):
        wanted.setdefault(kind, []).append(place[key])
    spelled: list[Node] = [
        {**output, "data": dict(output["data"])} if "data" in output else dict(output)
        for output in fresh
    ]
    for kind, place, key in _texts(spelled):
        if wanted.get(kind):
            place[key] = rewrite(place[key], wanted[kind].pop(0), tolerance)
    return spelled


def _order(outputs: list[Node]) -> list[str]:
    """The kinds of the outputs in turn, glued values by name; streams flow freely."""
    order = []
    for output in outputs:
        if "data" in output:
            glued = output["metadata"].get("scrapbook", {}).get("name")
            order.append(f"glue {glued}" if glued else " ".join(sorted(output["data"])))
    return order
