"""The executed notebook: a chapter's cells with the outputs of a run, as JSON text.

The same chapter and outputs give the same bytes: no timestamps, no random cell ids, no
paths of the machine that ran it.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from bookbuild.chapter import Cell, Chapter

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
FENCE = re.compile(r"\s*(`{3,}|~{3,}|:{3,})\{code-cell\}")
OVERWRITTEN = re.compile(r"[^\n]*\r(?=[^\n\r])")
FOLDER = r"(?:~|[A-Za-z]:)?[/\\][^\s\"'=(\x1b]*"
KERNEL_FILE = re.compile(FOLDER + r"ipykernel_\d+[/\\](\d+\.py)")
PACKAGES = re.compile(FOLDER + r"site-packages[/\\]")
LIBRARY = re.compile(FOLDER + r"lib[/\\](python3\.\d+)[/\\]")
SPLIT = ("image/svg+xml", "application/javascript")


def notebook(chapter: Chapter, results: Iterable[Mapping[str, Any]]) -> str:
    """The chapter as a notebook; `results` has one of each code cell, in order.

    A result is `{"execution_count": …, "outputs": [...]}`, or an older notebook's cell.
    """
    results = iter(results)
    cells = []
    for cell in chapter.cells:
        node: dict[str, Any] = {
            "cell_type": cell.kind,
            "id": f"cell-{cell.index}",
            "metadata": _metadata(cell),
            "source": cell.source.splitlines(True),
        }
        if cell.kind == "code":
            result = next(results)
            node["execution_count"] = result["execution_count"]
            node["outputs"] = result["outputs"]
        cells.append(node)
    front = {k: v for k, v in chapter.metadata.items() if k != "jupytext"}
    metadata = {
        **front,
        "kernelspec": {
            "display_name": "Python 3",
            "language": "python",
            "name": "python3",
        },
        "language_info": {"name": "python"},
        "source_map": source_map(chapter),
    }
    document = {
        "cells": cells,
        "metadata": metadata,
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    text = json.dumps(
        document, indent=1, sort_keys=True, ensure_ascii=False, default=str
    )
    return text + "\n"


def code_cells(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The code cells of a notebook that `notebook` made."""
    return [cell for cell in document["cells"] if cell["cell_type"] == "code"]


def source_map(chapter: Chapter) -> list[int]:
    """jupytext's: the line, from 0, of each cell; of code, the one after its fence."""
    lines = chapter.text.split("\n")
    starts = []
    for cell in chapter.cells:
        start = cell.line - 1
        if cell.kind == "code":
            while start > 0 and not FENCE.match(lines[start - 1]):
                start -= 1
        starts.append(start)
    return starts


def _metadata(cell: Cell) -> dict[str, Any]:
    metadata = dict(cell.metadata)
    if cell.tags:
        metadata["tags"] = list(cell.tags)
    return metadata


class Cleaner:
    """Makes outputs equal on every run: streams joined, paths without the machine."""

    def __init__(self, root: Path) -> None:
        home = str(Path.home())
        folder = str(root)
        short = (
            "~" + folder[len(home) :] if folder.startswith(home + os.sep) else folder
        )
        self.roots = [folder + os.sep, short + os.sep]
        self.files: dict[str, int] = {}

    def outputs(self, outputs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        cleaned: list[dict[str, Any]] = []
        for output in outputs:
            node = dict(output)
            if node["output_type"] == "stream":
                cleaned.append(node)
            elif node["output_type"] == "error":
                node["evalue"] = self.text(node["evalue"])
                node["traceback"] = shorten([self.text(t) for t in node["traceback"]])
                cleaned.append(node)
            else:
                node["data"] = {k: self._data(k, v) for k, v in node["data"].items()}
                cleaned.append(node)
        joined = _join(cleaned)
        for node in joined:
            if node["output_type"] == "stream":
                text = OVERWRITTEN.sub("", self.text(node["text"]))
                node["text"] = text.splitlines(True)
        return joined

    def text(self, text: str) -> str:
        """Without the kernel's process number and the folders of this machine."""
        text = KERNEL_FILE.sub(self._cell, text)
        for root in self.roots:
            text = text.replace(root, "")
        text = PACKAGES.sub("site-packages/", text)
        return LIBRARY.sub(r"\1/", text)

    def _cell(self, found: re.Match[str]) -> str:
        count = self.files.get(found[1])
        return f"In[{count}]" if count else "cell.py"

    def _data(self, kind: str, value: Any) -> Any:
        if isinstance(value, str) and (kind.startswith("text/") or kind in SPLIT):
            return value.splitlines(True)
        return value


def _join(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adjacent pieces of a stream as one, stdout before stderr.

    The kernel cuts streams by the clock, and orders the two by chance.
    """
    joined: list[dict[str, Any]] = []
    streams: dict[str, dict[str, Any]] = {}
    for output in [*outputs, {"output_type": ""}]:
        if output["output_type"] == "stream":
            node = streams.setdefault(output["name"], {**output, "text": ""})
            node["text"] += output["text"]
            continue
        joined += [streams[name] for name in sorted(streams, reverse=True)]
        streams = {}
        if output["output_type"]:
            joined.append(output)
    return joined


def shorten(frames: list[str]) -> list[str]:
    """A traceback as a reader wants it: no library's frames, repeated frames counted.

    Deep recursion makes thousands of equal frames.
    """
    kept: list[str] = []
    for notice, run in groupby(frames, key=_omitted):
        equal = list(run)
        if notice:
            kept.append(f"[{notice}]\n")
            continue
        for frame, same in groupby(equal):
            times = len(list(same)) - 1
            kept.append(frame)
            if times:
                plural = "s" if times > 1 else ""
                kept.append(f"[the frame above, {times} more time{plural}]\n")
    return kept


def _omitted(frame: str) -> str:
    """What stands for a frame inside an installed library; empty for another frame."""
    found = re.match(r"File site-packages/([^/]+)", plain(frame))
    return f"frames inside {found[1]}" if found else ""


def plain(text: str) -> str:
    """Without the escape codes that colour a terminal."""
    return ANSI.sub("", text)
