"""Run the book's chapters as a graph, in parallel, and only those that changed."""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bookbuild import document, environment, promises
from bookbuild.book import Book
from bookbuild.cache import Cache, Entry, explain
from bookbuild.chapter import Chapter
from bookbuild.errors import BookError, ConfigError, Problem
from bookbuild.files import write_atomic
from bookbuild.key import Keys
from bookbuild.progress import Reporter
from bookbuild.progress import reporter as default_reporter
from bookbuild.scratch import sweep
from bookbuild.tangle import source_map

__all__ = ["Result", "execute", "explain"]


@dataclass(frozen=True)
class Result:
    """How one chapter came out; `seconds` are of the run that made the result."""

    name: str
    seconds: float
    cached: bool
    problems: tuple[Problem, ...]
    notebook: Path
    cells: int = 0
    over_budget: bool = False
    ran: bool = True


def execute(
    book: Book,
    names: Iterable[str] = (),
    *,
    jobs: int = 1,
    device: str = "cpu",
    force: bool = False,
    reporter: Reporter | None = None,
) -> list[Result]:
    """Run the named chapters (all, when none is named) whose code or inputs changed.

    Chapters that make a checkpoint which a chapter needs run too when theirs is not
    stored. Writes `_build/executed/NAME.ipynb` and `NAME.json`. Returns a result for
    each chapter, in reading order; a failed one has problems and is never stored.
    """
    if jobs < 1:
        problem = Problem("--jobs", 0, f"is {jobs}", "give 1 or more")
        raise ConfigError(problem)
    heard = reporter or default_reporter()
    build = _Build(book, device, heard)
    try:
        build.plan([chapter.name for chapter in book.select(names)], force)
        build.write_cached()
        if build.todo:
            for place in (build.cache.directory, Path(tempfile.gettempdir())):
                sweep(place)
            asyncio.run(build.run(jobs))
    finally:
        heard.close()
    return [build.results[c.name] for c in book.chapters if c.name in build.results]


@dataclass
class _Build:
    book: Book
    device: str
    reporter: Reporter
    keys: Keys = field(init=False)
    cache: Cache = field(init=False)
    entries: dict[str, Entry] = field(default_factory=dict)
    todo: list[str] = field(default_factory=list)
    selected: set[str] = field(default_factory=set)
    force: bool = False
    results: dict[str, Result] = field(default_factory=dict)
    current: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    threads: int = 1

    def __post_init__(self) -> None:
        self.keys = Keys(self.book, self.device)
        self.cache = Cache(self.book.build / "cache", self.reporter.warn)

    def plan(self, names: list[str], force: bool) -> None:
        """Find what is stored and what must run, from the last chapter to the first."""
        self.selected, self.force = set(names), force
        wanted, consumed = set(names), set()
        for chapter in reversed(self.book.chapters):
            name = chapter.name
            if name not in wanted or not chapter.code_cells:
                continue
            entry = None
            if not (force and name in self.selected):
                key = self.keys.key(name)
                entry = self.cache.get(key, checkpoints=name in consumed)
            if entry:
                self.entries[name] = entry
                continue
            self.todo.insert(0, name)
            producers = {self.book.producer(need) for need in chapter.needs}
            wanted |= producers
            consumed |= producers

    def write_cached(self) -> None:
        for name in [c.name for c in self.book.chapters if c.name in self.entries]:
            if name in self.selected:
                self._finish(self._write(self.entries[name], cached=True))

    async def run(self, jobs: int) -> None:
        """Run a chapter as soon as its checkpoints exist, the longest first."""
        jobs = min(jobs, len(self.todo))
        self.threads = max(1, environment.cores() // jobs)
        self.reporter.begin(len(self.todo))
        order = self._longest_first() if jobs > 1 else list(self.todo)
        waiting = {name: self._producers(name) & set(self.todo) for name in order}
        tasks: dict[asyncio.Task[Result], str] = {}
        ticking = asyncio.ensure_future(self._tick())
        try:
            while waiting or tasks:
                for name in [n for n in order if n in waiting and not waiting[n]]:
                    if len(tasks) < jobs:
                        del waiting[name]
                        tasks[asyncio.ensure_future(self._chapter(name))] = name
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    name = tasks.pop(task)
                    self._finish(task.result())
                    for others in waiting.values():
                        others.discard(name)
        except asyncio.CancelledError:
            for name, cell in sorted(self.current.items()):
                self.reporter.interrupted(name, *cell)
            raise
        finally:
            ticking.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(ticking, *tasks, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.reporter.tick()

    def _producers(self, name: str) -> set[str]:
        return {self.book.producer(need) for need in self.book.chapter(name).needs}

    def _longest_first(self) -> list[str]:
        """By the last known time of a chapter and of the chain that waits for it."""
        known = self.cache.seconds()
        total: dict[str, float] = {}
        for name in reversed(self.todo):
            own = known.get(name, self.book.chapter(name).minutes * 60)
            after = [total[n] for n in total if name in self._producers(n)]
            total[name] = own + max(after, default=0.0)
        return sorted(self.todo, key=lambda name: -total[name])

    async def _chapter(self, name: str) -> Result:
        chapter = self.book.chapter(name)
        missing = [need for need in chapter.needs if self._made(need) is None]
        if missing:
            problems = [promises.not_run(self.book, chapter, need) for need in missing]
            return self._failure(name, *problems, ran=False)
        problems = promises.stale(
            self.book, chapter, self.keys.components(name), "run `bookbuild tangle`"
        )
        if problems:
            return self._failure(name, *problems)
        try:
            with self.cache.scratch() as place:
                return await self._run(chapter, place)
        except BookError as error:
            return self._failure(name, *error.problems)
        finally:
            self.current.pop(name, None)

    async def _run(self, chapter: Chapter, place: Path) -> Result:
        from bookbuild import kernel

        name = chapter.name
        checkpoints = place / "checkpoints"
        checkpoints.mkdir()
        sources = {need: self._made(need) for need in chapter.needs}
        given = {need: source for need, source in sources.items() if source}
        for need, source in given.items():
            promises.place_checkpoint(source, checkpoints / need)
        before = {need: promises.state(source) for need, source in given.items()}

        def on_cell(position: int, count: int, line: int) -> None:
            self.current[name] = (position, count, line)
            self.reporter.cell(name, position, count, line)

        run = await kernel.run(
            chapter,
            root=self.book.root,
            environment=environment.variables(
                self.book.root, checkpoints, self.device, self.threads
            ),
            locate=source_map(self.book).locate,
            on_cell=on_cell,
        )
        problems = [run.problem] if run.problem else []
        for need, source in given.items():
            if promises.state(source) != before[need]:
                self.cache.remove(self.keys.key(self.book.producer(need)))
                problems.append(promises.modified(chapter, need))
        if not problems:
            problems += promises.made_as_declared(self.book, chapter, checkpoints)
            problems += promises.stale(
                self.book,
                chapter,
                self.keys.components(name),
                "it changed while the chapter ran: run again",
            )
            problems += promises.budget(chapter, run.seconds)
        if problems:
            return self._failure(name, *problems, seconds=run.seconds)
        entry = await asyncio.to_thread(
            self.cache.put,
            name,
            self.keys.components(name),
            document.notebook(chapter, run.results),
            {
                "seconds": round(run.seconds, 3),
                "cells": [round(seconds, 3) for seconds in run.cell_seconds],
                "device": self.keys.device,
                "hardware": environment.hardware(self.device),
                "threads": self.threads,
            },
            [checkpoints / made for made in sorted(chapter.produces)],
            replace=self.force,
        )
        self.entries[name] = entry
        return self._write(entry, cached=False)

    def _made(self, checkpoint: str) -> Path | None:
        entry = self.entries.get(self.book.producer(checkpoint))
        return entry.checkpoint(checkpoint) if entry else None

    def _executed(self, name: str, ending: str) -> Path:
        return self.book.build / "executed" / f"{name}{ending}"

    def _write(self, entry: Entry, *, cached: bool) -> Result:
        """Put the outputs under the chapter's prose of today."""
        chapter = self.book.chapter(entry.chapter)
        cells = chapter.code_cells
        path = self._executed(chapter.name, ".ipynb")
        text = document.notebook(chapter, document.code_cells(entry.notebook))
        write_atomic(path, text)
        times = {str(c.index): s for c, s in zip(cells, entry.run["cells"])}
        side = {**entry.run, "cells": times, "cached": cached, "key": entry.path.name}
        facts = json.dumps(side, indent=1, sort_keys=True) + "\n"
        write_atomic(self._executed(chapter.name, ".json"), facts)
        seconds = float(entry.run["seconds"])
        over = seconds > chapter.minutes * 60
        return Result(chapter.name, seconds, cached, (), path, len(cells), over)

    def _failure(
        self, name: str, *problems: Problem, seconds: float = 0.0, ran: bool = True
    ) -> Result:
        """Nothing older may pass for the result, in the cache or for a renderer."""
        if (self.cache.directory / self.keys.key(name)).exists():
            self.cache.remove(self.keys.key(name))
        for ending in (".ipynb", ".json"):
            with contextlib.suppress(OSError):
                self._executed(name, ending).unlink()
        count = len(self.book.chapter(name).code_cells)
        path = self._executed(name, ".ipynb")
        return Result(name, seconds, False, problems, path, count, ran=ran)

    def _finish(self, result: Result) -> None:
        self.results[result.name] = result
        self.reporter.finish(result)
        if result.over_budget and not result.cached:
            chapter = self.book.chapter(result.name)
            self.reporter.warn(
                f"{chapter.source}:{promises.line_of(chapter, 'minutes', '')}: took "
                f"{result.seconds:.0f} s, more than its {chapter.minutes:g} minutes"
            )
