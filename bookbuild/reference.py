"""A reference notebook: what `tests/golden` keeps of an executed chapter.

Only code cells, with their source, the tags that nbval reads and the outputs. Images
are a placeholder, tracebacks are empty, and cells whose output is ignored have none, so
that a reference changes in git only where a result does.
"""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bookbuild.chapter import Cell
from bookbuild.images import RASTER, SVG, broken_image
from bookbuild.numeric import Tolerance

PLACEHOLDER = {SVG: "<svg/>", "image/png": "", "image/jpeg": ""}
IGNORE = "nbval-ignore-output"
RAISES = "raises-exception"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
FIELDS = {
    "stream": ("name", "text"),
    "error": ("ename", "evalue"),
    "display_data": ("data",),
    "execute_result": ("data",),
}

Node = dict[str, Any]


def read(path: Path) -> list[Node]:
    """The code cells of a notebook, multi-line strings joined. Raises `ValueError`."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    try:
        cells = [
            _read(cell) for cell in notebook["cells"] if cell["cell_type"] == "code"
        ]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not a notebook of format 4: {error!r}") from error
    return cells


def _read(cell: Node) -> Node:
    cell["source"] = _joined(cell["source"])
    cell.setdefault("metadata", {})
    for output in cell["outputs"]:
        for field in FIELDS[output["output_type"]]:
            output[field] = _joined(output[field])
        if "data" in output:
            output.setdefault("metadata", {})
            for mime, value in output["data"].items():
                output["data"][mime] = _joined(value)
    return cell


def dumps(cells: list[Node]) -> str:
    """The notebook that holds `cells`, as nbformat writes it."""
    notebook = {
        "cells": [_split(cell) for cell in cells],
        "metadata": {"kernelspec": KERNEL},
        "nbformat": 4,
        "nbformat_minor": 4,  # the last one whose cells need no random id
    }
    return json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def compared_tags(tags: object) -> list[str]:
    """Of a cell's tags, those that change how it is compared."""
    return (
        sorted({IGNORE, RAISES} & set(tags)) if isinstance(tags, (list, tuple)) else []
    )


def reduced(cell: Node, tags: object) -> Node:
    """What a reference keeps of an executed cell; `cell` is not changed."""
    from nbval.plugin import coalesce_streams

    kept = compared_tags(tags)
    outputs = [] if IGNORE in kept else copy.deepcopy(cell["outputs"])
    return {
        "cell_type": "code",
        "execution_count": cell.get("execution_count"),
        "metadata": {"tags": kept} if kept else {},
        "outputs": [
            _output(output) for output in coalesce_streams(nodes(outputs)) or []
        ],
        "source": cell["source"],
    }


def nodes(outputs: list[Node]) -> list[Any]:
    """Outputs with the attribute access that nbval expects."""
    import nbformat

    node: Any = nbformat.from_dict(outputs)  # type: ignore[no-untyped-call]
    return list(node)


def _output(output: Any) -> Node:
    kept: Node = json.loads(json.dumps(output))
    if "traceback" in kept:
        kept["traceback"] = []
    if "data" in kept:
        for mime in PLACEHOLDER.keys() & kept["data"].keys():
            kept["data"][mime] = PLACEHOLDER[mime]
        scrap = kept.get("metadata", {}).get("scrapbook")
        kept["metadata"] = {"scrapbook": scrap} if scrap else {}
    return kept


def _joined(text: Any) -> Any:
    if isinstance(text, list) and all(isinstance(line, str) for line in text):
        return "".join(text)
    return text


def _split(cell: Node) -> Node:
    cell = copy.deepcopy(cell)
    cell["source"] = cell["source"].splitlines(keepends=True)
    for output in cell["outputs"]:
        if "text" in output:
            output["text"] = output["text"].splitlines(keepends=True)
        for mime, value in output.get("data", {}).items():
            if isinstance(value, str) and mime not in RASTER:
                output["data"][mime] = value.splitlines(keepends=True)
    return cell


def tolerance(cell: Cell) -> Tolerance:
    """What the cell's `rtol` and `atol` allow."""
    rtol, atol = (float(cell.metadata.get(option, 0)) for option in ("rtol", "atol"))
    return Tolerance(rtol, atol)


def identity(source: str, tags: object) -> tuple[str, list[str]]:
    return source.rstrip(), compared_tags(tags)


def faults(cell: Cell, node: Node) -> Iterator[tuple[str, str]]:
    """Why the executed cell can be no reference: message and, where special, hint."""
    if cell.source.strip() and not node.get("execution_count"):
        yield "this cell was not executed", ""
    errors = [o for o in node["outputs"] if o["output_type"] == "error"]
    if errors and RAISES not in cell.tags:
        yield f"this cell failed: {errors[0]['ename']}: {errors[0]['evalue']}", ""
    if RAISES in cell.tags and not errors:
        yield (
            f"this cell is tagged {RAISES} and did not fail",
            f"delete the tag {RAISES}",
        )
    if fault := broken_image(node):
        yield fault, ""
