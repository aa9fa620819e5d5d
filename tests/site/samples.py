"""A small book that uses everything that the site can show, with outputs ready made."""

import json
import shutil
from pathlib import Path
from typing import Any

from bookbuild.book import Book, load
from bookbuild.document import notebook

SAMPLE = Path(__file__).parent / "sample"


def shown(data: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"output_type": "display_data", "data": data, "metadata": metadata}


def printed(text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": [text]}


PICTURE = (SAMPLE / "loss.svg").read_text(encoding="utf-8")
PREFIX = "application/papermill.record/"
GLUED = {"name": "attending-pairs", "mime_prefix": PREFIX}
STEPS = {"name": "counting-steps", "mime_prefix": PREFIX}
OUTPUTS = {
    "print(count(": printed("Counter({('a', 'b'): 2})\n"),
    "draw()": shown({"image/svg+xml": [PICTURE], "text/plain": ["<Figure>"]}),
    'print("-"': printed("-" * 100 + "\n"),
    'glue("counting-steps"': shown(
        {PREFIX + "text/plain": repr(["a b", "b </script> a"])}, scrapbook=STEPS
    ),
    "from bookbuild.notebook": shown({PREFIX + "text/plain": "2"}, scrapbook=GLUED),
}


def write(root: Path) -> Path:
    """Write the sample's files below `root`."""
    shutil.copytree(SAMPLE, root, dirs_exist_ok=True)
    return root


def execute(root: Path) -> Book:
    """Put each chapter's executed notebook where the executor would."""
    book = load(root)
    for chapter in book.select():
        results = []
        for cell in chapter.code_cells:
            outputs = [o for s, o in OUTPUTS.items() if cell.source.startswith(s)]
            results.append({"execution_count": 1, "outputs": outputs})
        path = book.build / "executed" / f"{chapter.name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(notebook(chapter, results), encoding="utf-8")
        facts = {"seconds": 11.2, "device": "cpu", "hardware": "2 CPU cores"}
        path.with_suffix(".json").write_text(json.dumps(facts), encoding="utf-8")
    return book
