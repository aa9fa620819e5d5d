"""Notebooks for readers, clean or with outputs, for plain Jupyter and Colab."""

import json
from pathlib import Path
from typing import Any

from bookbuild.book import Book
from bookbuild.chapter import Cell, Chapter
from bookbuild.site.markdown import GLUED, Context, convert
from bookbuild.site.numbers import targets

FOLDED = frozenset(
    {"hide-input", "hide-cell", "remove-input", "remove-cell", "solution"}
)
INSTALL = """\
# On Colab this installs the book's package; elsewhere run `pip install .` once.
import sys

if "google.colab" in sys.modules:
    %pip install --quiet "{source}"
"""


class Exporter:
    """Makes the notebooks of one book."""

    def __init__(self, book: Book, source: str) -> None:
        self.book = book
        self.install = INSTALL.format(source=source)
        self.targets = targets(book)
        self.titles = {chapter.name: chapter.title for chapter in book.chapters}
        self.executed = frozenset(chapter.name for chapter in book.select())
        self.citations = citations(book.root / "book" / "references.bib")

    def notebook(
        self, chapter: Chapter, shown: list[dict[str, Any]], *, outputs: bool
    ) -> str:
        """The chapter as JSON; `shown` are its cells with their recorded outputs."""
        cells = [_code("install", self.install, [])]
        context = Context(
            chapter=chapter.name,
            targets=self.targets,
            titles=self.titles,
            executed=self.executed,
            glued=glued(shown),
            citations=self.citations,
        )
        for cell, data in zip(chapter.cells, shown, strict=True):
            if cell.kind == "markdown":
                text = convert(cell.source, context)
                if text:
                    cells.append(_markdown(f"cell-{cell.index}", text))
                continue
            cells.append(
                _code(
                    f"cell-{cell.index}",
                    cell.source,
                    data["outputs"] if outputs else [],
                    metadata(cell),
                )
            )
            caption = _caption(cell, context)
            if caption:
                cells.append(_markdown(f"caption-{cell.index}", caption))
        document = {
            "cells": cells,
            "metadata": {
                "kernelspec": {
                    "display_name": "Python 3",
                    "language": "python",
                    "name": "python3",
                },
                "language_info": {"name": "python"},
            },
            "nbformat": 4,
            "nbformat_minor": 5,
        }
        return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _caption(cell: Cell, context: Context) -> str:
    figure = (cell.metadata.get("mystnb") or {}).get("figure") or {}
    if not figure.get("caption"):
        return ""
    target = context.targets.get(str(figure.get("name", "")))
    number = f"**Figure {target.number}** " if target else ""
    return number + convert(str(figure["caption"]), context)


def _markdown(identity: str, text: str) -> dict[str, Any]:
    return {
        "cell_type": "markdown",
        "id": identity,
        "metadata": {},
        "source": text.splitlines(True),
    }


def metadata(cell: Cell) -> dict[str, Any]:
    """What Jupyter reads: which cells may fail, and which are folded."""
    found: dict[str, Any] = {}
    if "raises-exception" in cell.tags:
        found["tags"] = ["raises-exception"]
    if FOLDED & set(cell.tags):
        found["jupyter"] = {"source_hidden": True}
    return found


def _code(
    identity: str, text: str, outputs: list[Any], metadata: dict[str, Any] | None = None
) -> dict[str, Any]:
    shown = [o for o in outputs if not _is_glue(o)]
    return {
        "cell_type": "code",
        "id": identity,
        "metadata": metadata or {},
        "execution_count": None,
        "outputs": shown,
        "source": text.splitlines(True),
    }


def _is_glue(output: dict[str, Any]) -> bool:
    return any(
        kind.startswith("application/papermill.record")
        for kind in output.get("data", {})
    )


def glued(cells: list[dict[str, Any]]) -> dict[str, str]:
    """The text of each glued value by its name."""
    found: dict[str, str] = {}
    for cell in cells:
        for output in cell.get("outputs", ()):
            text = output.get("data", {}).get(GLUED)
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            if text is not None and name:
                found[name] = text if isinstance(text, str) else "".join(text)
    return found


def citations(path: Path) -> dict[str, str]:
    """ "Vaswani et al., 2017" of each key, linked where the entry has an address."""
    from pybtex.database import parse_file

    if not path.is_file():
        return {}
    found: dict[str, str] = {}
    for key, entry in parse_file(str(path)).entries.items():
        names = [" ".join(p.last_names) for p in entry.persons.get("author", [])]
        who = " and ".join(names) if len(names) <= 2 else f"{names[0]} et al."
        text = f"{who}, {entry.fields.get('year', '')}".strip(" ,")
        address = entry.fields.get("url") or _doi(entry.fields.get("doi", ""))
        found[key] = f"[{text}]({address})" if address else text
    return found


def _doi(doi: str) -> str:
    return f"https://doi.org/{doi}" if doi else ""
