"""Runs pieces of code, each job in a fresh module, and records how it ended.

A process of its own (`python -m bookbuild.exercise.runner JOBS RESULTS`), so that the
code under test can hang or crash. Where the system can fork, packages are imported once
and every job has a fresh process.
"""

import ast
import contextlib
import importlib
import json
import linecache
import os
import sys
import traceback
import types
from pathlib import Path
from typing import Any

Job = dict[str, Any]


def main() -> None:
    jobs: list[Job] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    results = sys.argv[2]
    fork = len(jobs) > 1 and sys.platform.startswith("linux")
    if fork:
        preload(jobs)
    for job in jobs:
        record(results, {"job": job["job"], "event": "started"})
        child = os.fork() if fork else 0
        if child:
            _, status = os.waitpid(child, 0)
            code = os.waitstatus_to_exitcode(status)
            if code:
                record(results, {"job": job["job"], "event": "died", "status": code})
            continue
        outcome = run(job["pieces"])
        record(results, {"job": job["job"], "event": "ended", **outcome})
        sys.stdout.flush()
        sys.stderr.flush()
        if fork:
            os._exit(0)


def record(results: str, event: dict[str, Any]) -> None:
    with open(results, "a", encoding="utf-8") as file:
        file.write(json.dumps(event) + "\n")


def preload(jobs: list[Job]) -> None:
    """Import the packages that the jobs name, where they can be imported at all."""
    names = set()
    for job in jobs:
        for piece in job["pieces"]:
            with contextlib.suppress(SyntaxError, ValueError):
                names |= set(packages(ast.parse(piece["source"])))
    for name in sorted(names):
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def packages(tree: ast.Module) -> list[str]:
    """The top-level packages that a module imports."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.append(node.module or "")
    return [name.split(".")[0] for name in found if name]


def run(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """Execute the pieces in one module; where and how they failed, if they did."""
    module = types.ModuleType("exercise")
    module.__file__ = pieces[0]["path"]
    sys.modules["exercise"] = module
    show_sources(pieces)
    stage = -1
    try:
        for piece in pieces:
            stage += 1
            source = "\n" * (piece["line"] - 1) + piece["source"] + "\n"
            exec(compile(source, piece["path"], "exec"), module.__dict__)
    except BaseException as error:  # the code under test may raise anything
        return {"passed": False, "stage": stage, **described(error, pieces)}
    return {"passed": True, "stage": stage, "kind": "", "message": "", "frames": []}


def show_sources(pieces: list[dict[str, Any]]) -> None:
    """Let `inspect` and tracebacks find the lines of the pieces in their files."""
    files: dict[str, list[str]] = {}
    for piece in pieces:
        lines = files.setdefault(piece["path"], [])
        first = piece["line"] - 1
        lines += ["\n"] * (first - len(lines))
        lines[first:] = [line + "\n" for line in piece["source"].split("\n")]
    for path, lines in files.items():
        linecache.cache[path] = (sum(map(len, lines)), None, lines, path)


def described(error: BaseException, pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """The kind and message of an error, and the lines of the pieces it went through."""
    paths = {piece["path"] for piece in pieces}
    frames = [
        [frame.filename, frame.lineno]
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename in paths
    ]
    message = str(error)
    if isinstance(error, SyntaxError) and error.filename in paths:
        frames.append([error.filename, error.lineno])
        message = error.msg
    return {"kind": type(error).__name__, "message": message, "frames": frames}


if __name__ == "__main__":
    main()
