"""What the subcommands do: each is a thin call of one module, imported when it runs."""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bookbuild.errors import BookError, Problem

if TYPE_CHECKING:
    from bookbuild.book import Book
    from bookbuild.execute import Result

Command = Callable[[argparse.Namespace], int]


def report(problems: Iterable[Problem], args: argparse.Namespace) -> None:
    """Print problems on standard error; with `--json` as one object on stdout."""
    if getattr(args, "json", False):
        print(json.dumps({"problems": [asdict(p) for p in problems]}, indent=1))
        return
    for problem in problems:
        print(problem, file=sys.stderr)


def _say(args: argparse.Namespace, text: str, **data: Any) -> None:
    print(json.dumps(data, indent=1) if getattr(args, "json", False) else text)


def _root(args: argparse.Namespace) -> Path:
    from bookbuild.book import find_root

    return Path(args.root) if args.root else find_root(Path.cwd())


def _load(args: argparse.Namespace) -> "Book":
    from bookbuild.book import load

    return load(_root(args))


def tangle(args: argparse.Namespace) -> int:
    from bookbuild.tangle import tangle

    book = _load(args)
    written = tangle(book, check=args.check, force=args.force)
    made = sum(1 for chapter in book.chapters if chapter.module)
    lines = [_written(book.root, path) for path in written]
    text = "\n".join([*lines, f"{_count(made, 'module')} up to date"])
    _say(args, text, written=written, modules=made)
    return 0


def _written(root: Path, path: str) -> str:
    return f"wrote {path}" if (root / path).exists() else f"removed {path}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def check(args: argparse.Namespace) -> int:
    from bookbuild import links, widgets
    from bookbuild.exercise import exercises
    from bookbuild.tangle import tangle

    book = _load(args)
    problems = [*links.check(book), *widgets.check(book)]
    for verify in (lambda: tangle(book, check=True), lambda: exercises(book)):
        try:
            verify()
        except BookError as error:
            problems.extend(error.problems)
    if problems:
        raise BookError(*problems)
    _say(args, f"{_count(len(book.chapters), 'page')}: nothing to mend", problems=[])
    return 0


def execute(args: argparse.Namespace) -> int:
    book = _load(args)
    return _run(book, args, validate=args.validate)


def _run(book: "Book", args: argparse.Namespace, *, validate: bool) -> int:
    """Tangle, run what changed, print a table; with `validate` compare the outputs."""
    from bookbuild.execute import execute
    from bookbuild.tangle import tangle

    tangle(book)
    results = execute(
        book,
        args.chapters,
        jobs=args.jobs or os.cpu_count() or 1,
        device=args.device,
        force=args.force,
    )
    problems = [problem for result in results for problem in result.problems]
    if validate and not problems:
        from bookbuild.validate import validate as compare

        problems = compare(book, args.chapters, device=args.device)
    if getattr(args, "json", False):
        rows = [
            {"name": r.name, "seconds": r.seconds, "cached": r.cached} for r in results
        ]
        found = [asdict(problem) for problem in problems]
        print(json.dumps({"chapters": rows, "problems": found}, indent=1))
        return 1 if problems else 0
    _table(results)
    if problems:
        raise BookError(*problems)
    return 0


def _table(results: "list[Result]") -> None:
    width = max([len(result.name) for result in results], default=7)
    print(f"{'chapter':<{width}}  seconds")
    for result in results:
        note = "unchanged" if result.cached else "executed"
        if result.problems:
            note = "failed" if result.ran else "not run"
        print(f"{result.name:<{width}}  {result.seconds:7.1f}  {note}")


def validate(args: argparse.Namespace) -> int:
    from bookbuild.validate import validate

    book = _load(args)
    problems = validate(book, args.chapters, device=args.device)
    if problems:
        raise BookError(*problems)
    count = len(book.select(args.chapters))
    verb = "agrees with its reference" if count == 1 else "agree with their references"
    _say(args, f"{_count(count, 'chapter')} {verb}", problems=[])
    return 0


def accept(args: argparse.Namespace) -> int:
    from bookbuild.validate import accept

    book = _load(args)
    _run(book, args, validate=False)
    changed = accept(book, args.chapters, device=args.device)
    lines = [_written(book.root, path) for path in changed]
    print("\n".join([*lines, "references up to date"]))
    return 0


def book(args: argparse.Namespace) -> int:
    from bookbuild.render import html

    book = _load(args)
    _run(book, args, validate=True)
    print(f"\nopen {html(book)}")
    return 0


def rendered(module: str, function: str) -> Command:
    """A subcommand that executes what changed, then calls one renderer."""

    def run(args: argparse.Namespace) -> int:
        from importlib import import_module

        book = _load(args)
        _run(book, args, validate=False)
        start = time.perf_counter()
        made = getattr(import_module(module), function)(book)
        print(f"{time.perf_counter() - start:.1f} s: {made}")
        return 0

    return run


def serve(args: argparse.Namespace) -> int:
    from bookbuild.serve import serve

    serve(_root(args), port=args.port, device=args.device)
    return 0


def snapshot(args: argparse.Namespace) -> int:
    from bookbuild.snapshot import snapshot

    target = Path(args.folder)
    written = snapshot(_load(args), args.chapter, target)
    lines = [f"wrote {(target / path).as_posix()}" for path in written]
    _say(args, "\n".join(lines), written=written)
    return 0


def adopt(args: argparse.Namespace) -> int:
    from bookbuild.adopt import adopt

    for module in args.modules:
        book = _load(args)  # the last module's chapter has changed
        path = Path(module)
        if path.resolve().is_relative_to(book.root):
            path = path.resolve().relative_to(book.root)
        changed = adopt(book, path.as_posix())
        lines = [f"adopted {name}" for name in changed]
        print("\n".join(lines) or f"{path.as_posix()}: nothing was edited")
    return 0


def why(args: argparse.Namespace) -> int:
    from bookbuild.execute import explain

    book = _load(args)
    reasons = explain(book, book.chapter(args.chapter).name, device=args.device)
    _say(args, "\n".join(reasons), reasons=reasons)
    return 0


def clean(args: argparse.Namespace) -> int:
    root = _root(args)
    kept = set() if args.all else {"cache"}
    build = root / "_build"
    for entry in sorted(build.iterdir()) if build.is_dir() else []:
        if entry.name not in kept:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            print(f"removed {entry.relative_to(root).as_posix()}")
    return 0


def exercise(args: argparse.Namespace) -> int:
    from bookbuild import exercise

    return exercise.main(_load(args), args)
