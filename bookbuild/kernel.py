"""Run one chapter's cells in a kernel of its own, through nbclient."""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ipykernel.compiler import get_file_name
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import v4

from bookbuild.chapter import Cell, Chapter
from bookbuild.client import LIMIT, QUIET, Client
from bookbuild.document import Cleaner
from bookbuild.errors import Problem
from bookbuild.frames import Frames, Locate
from bookbuild.scratch import owned, remove_tree

DEADLINE = 300.0
GRACE = 3.0
START = 120.0
SOCKET_PATH = 90  # Unix allows about a hundred bytes
# nbformat and ipykernel annotate these only in part.
V4: Any = v4
file_name: Any = get_file_name

OnCell = Callable[[int, int, int], None]


@dataclass
class Run:
    """What the code cells gave, in their order; or the problem that ended the run."""

    results: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    cell_seconds: list[float] = field(default_factory=list)
    problem: Problem | None = None


async def run(
    chapter: Chapter,
    *,
    root: Path,
    environment: Mapping[str, str],
    locate: Locate,
    on_cell: OnCell,
) -> Run:
    """Run all code cells in a fresh kernel and a fresh directory.

    A cell that fails, runs out of time, floods the output or loses its kernel ends the
    run with a problem at the chapter's line. `on_cell(position, count, line)` is called
    before each cell, and with position 0 before the kernel starts.
    """
    place = Path(tempfile.mkdtemp(prefix=owned()))
    session = _Session(chapter, place, root, environment, locate)
    start = time.perf_counter()
    try:
        await session.run(on_cell)
    finally:
        await session.stop()
        remove_tree(place)
    session.result.seconds = time.perf_counter() - start
    return session.result


class _Session:
    def __init__(
        self,
        chapter: Chapter,
        place: Path,
        root: Path,
        environment: Mapping[str, str],
        locate: Locate,
    ) -> None:
        self.chapter = chapter
        self.place = place
        self.environment = {**environment, "IPYTHONDIR": str(place / "ipython")}
        self.log = place / "kernel.log"
        self.result = Run()
        self.cells: dict[int, Cell] = {}
        self.cleaner = Cleaner(root)
        self.frames = Frames(chapter.source, self.cells, self.cleaner.files, locate)
        nodes = [
            V4.new_code_cell(
                cell.source,
                id=f"cell-{cell.index}",
                metadata={"tags": [t for t in cell.tags if t == "raises-exception"]},
            )
            for cell in chapter.code_cells
        ]
        self.manager = _manager(place)
        self.client = Client(V4.new_notebook(cells=nodes), self.manager)

    async def run(self, on_cell: OnCell) -> None:
        cells = self.chapter.code_cells
        on_cell(0, len(cells), cells[0].line)
        problem = await self._start(cells[0])
        for position, cell in enumerate(cells):
            if problem is None:
                on_cell(position + 1, len(cells), cell.line)
                start = time.perf_counter()
                problem = await self._cell(position, cell)
                self.result.cell_seconds.append(time.perf_counter() - start)
        self.result.problem = problem

    async def _start(self, first: Cell) -> Problem | None:
        work = self.place / "work"
        work.mkdir()
        with self.log.open("wb") as log:
            try:
                await self.manager.start_kernel(
                    env=dict(self.environment),
                    cwd=str(work),
                    stdout=log,
                    stderr=log,
                    extra_arguments=["--HistoryManager.hist_file=:memory:"],
                )
                client = self.manager.client()
                client.start_channels()
                self.client.kc = client
                await client.wait_for_ready(timeout=START)
                client.allow_stdin = False
            except (RuntimeError, OSError) as error:
                return self._problem(
                    first.line,
                    f"the kernel did not start: {error}{self._tail()}",
                    "is ipykernel installed? try: python -m pip install ipykernel",
                )
        self.client.reset_execution_trackers()
        return None

    async def stop(self) -> None:
        """End the kernel and all that it started, at once."""
        with contextlib.suppress(Exception):
            if self.client.kc is not None:
                self.client.kc.stop_channels()
        with contextlib.suppress(Exception):
            await self.manager.shutdown_kernel(now=True)

    async def _cell(self, position: int, cell: Cell) -> Problem | None:
        node = self.client.nb.cells[position]
        if not cell.source.strip():
            self.result.results.append({"execution_count": None, "outputs": []})
            return None
        count = len(self.cells) + 1
        self.cells[count] = cell
        name = Path(file_name(cell.source)).name
        self.cleaner.files.setdefault(name, count)
        self.client.printed, self.client.reply = 0, {}
        deadline = float(cell.metadata.get("timeout") or DEADLINE)
        task = asyncio.ensure_future(
            self.client.async_execute_cell(node, position, execution_count=count)
        )
        problem = await self._wait(task, cell, node, deadline)
        if problem is None:
            outputs = self.cleaner.outputs(node.outputs)
            self.result.results.append({"execution_count": count, "outputs": outputs})
        return problem

    async def _wait(
        self, task: "asyncio.Future[Any]", cell: Cell, node: Any, deadline: float
    ) -> Problem | None:
        flood = asyncio.ensure_future(self.client.flooded.wait())
        first = asyncio.FIRST_COMPLETED
        try:
            await asyncio.wait({task, flood}, timeout=deadline, return_when=first)
            if self.client.flooded.is_set():
                await self._interrupt(task)
                return self._flooded(cell)
            if not task.done():
                await self._interrupt(task)
                return self._late(cell, node, deadline)
        finally:
            flood.cancel()
            task.cancel()
            await asyncio.gather(task, flood, return_exceptions=True)
        try:
            task.result()
        except CellExecutionError as error:
            return self._failed(cell, node, error)
        except CellTimeoutError:
            message = "outputs of this cell were lost: it made too many at once"
            return self._problem(cell.line, message, "display less, or print a summary")
        except DeadKernelError:
            return await self._dead(cell)
        if "raises-exception" in cell.tags and self.client.reply.get("status") == "ok":
            message = "the cell is tagged raises-exception and did not fail"
            hint = "remove the tag, or make the cell fail"
            return self._problem(cell.line, message, hint)
        return None

    async def _interrupt(self, task: "asyncio.Future[Any]") -> None:
        """Ask the cell to stop, so that its traceback tells where it was."""
        with contextlib.suppress(Exception):
            await self.manager.interrupt_kernel()
        await asyncio.wait({task}, timeout=GRACE)

    def _problem(self, line: int, message: str, hint: str = "") -> Problem:
        return Problem(self.chapter.source, line, message, hint)

    def _failed(self, cell: Cell, node: Any, error: CellExecutionError) -> Problem:
        told, line = self._traceback(node)
        if error.ename == "StdinNotImplementedError":
            message = "this cell asks for input, and a build has nobody to answer"
            return self._problem(
                line or cell.line, message, "give the value in the cell"
            )
        head = f"{error.ename}: {error.evalue}"
        if told.endswith(head):
            told = told[: -len(head)].rstrip("\n")
        hint = "tag the cell raises-exception when it is meant to fail"
        return self._problem(line or cell.line, f"{head}\n{told}".rstrip("\n"), hint)

    def _late(self, cell: Cell, node: Any, deadline: float) -> Problem:
        _, line = self._traceback(node)
        message = f"this cell ran longer than its deadline of {deadline:g} s"
        if line:
            message += f"; it was at line {line}"
        hint = f"make it faster, or give it more time: `timeout: {2 * deadline:g}`"
        return self._problem(cell.line, message, hint)

    def _flooded(self, cell: Cell) -> Problem:
        message = f"this cell's output is over the limit of {LIMIT // 10**6} MB"
        hint = "print a summary, or every hundredth step; draw fewer points in a figure"
        return self._problem(cell.line, message, hint)

    def _traceback(self, node: Any) -> tuple[str, int | None]:
        """From the cell's error, from the kernel's reply, or from what it printed."""
        for output in node.outputs:
            if output["output_type"] == "error":
                return self.frames.rewrite(output["traceback"])
        traceback = self.client.reply.get("traceback") or []
        told, line = self.frames.rewrite(traceback)
        if line is None:
            printed = (o for o in node.outputs if o.get("name") == "stderr")
            told, line = self.frames.rewrite([o["text"] for o in printed])
        return told, line

    async def _dead(self, cell: Cell) -> Problem:
        provisioner = self.manager.provisioner
        status = await provisioner.poll() if provisioner else None
        tail = self._tail()
        hint = "a cell must not end its own process"
        if tail:
            hint = "what the process wrote before its end stands above"
        if status is not None and status < 0:
            name = signal.Signals(-status).name
            what = f"was killed by {name}"
            if name == "SIGKILL":
                hint = "the machine may have run out of memory: make the cell smaller"
        else:
            what = f"ended with exit status {status}"
        message = f"the kernel {what} while this cell ran{tail}"
        return self._problem(cell.line, message, hint)

    def _tail(self) -> str:
        """The last of what the kernel's process wrote itself, on lines of its own."""
        try:
            text = self.log.read_bytes()[-2000:].decode("utf-8", "replace").strip()
        except OSError:
            return ""
        return f"\n{text}" if text else ""


def _manager(place: Path) -> AsyncKernelManager:
    """A manager of this Python's kernel, whatever kernels the user has installed."""
    manager = AsyncKernelManager(connection_file=str(place / "connection.json"))
    manager.log = QUIET
    sockets = place / "socket"
    if os.name != "nt" and len(os.fsencode(sockets)) < SOCKET_PATH:
        manager.transport = "ipc"
        manager.ip = str(sockets)
    manager._kernel_spec = KernelSpec(
        argv=[sys.executable, "-m", "bookbuild.launcher", "-f", "{connection_file}"],
        display_name="Python 3",
        language="python",
    )
    return manager
