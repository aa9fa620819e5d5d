"""The search data: every section's text in one script that works from a file, too."""

import json
import re
from collections.abc import Iterator, Mapping
from html import unescape
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

from bookbuild.files import write_atomic
from bookbuild.nodes import cell_caption
from bookbuild.site.state import book_of, formulas, store

SKIPPED = (nodes.math_block, nodes.comment, nodes.raw, cell_caption)
SHORT = 12
TAG = re.compile(r"<[^>]*>")
Known = Mapping[tuple[str, bool], str]


def collect(app: Sphinx, doctree: nodes.document) -> None:
    """Keep (anchor, title, text) of each of the document's sections."""
    sections = []
    known = formulas(app.env)
    for section in doctree.findall(nodes.section):
        title = next(section.findall(nodes.title), None)
        words = " ".join(" ".join(_text(section, known)).split())
        anchor = section["ids"][0] if section["ids"] else ""
        sections.append((anchor, title.astext() if title else "", words))
    store(app.env, "search")[app.env.docname] = sections


def _text(node: nodes.Node, known: Known) -> Iterator[str]:
    for child in node.children:
        if isinstance(child, (nodes.Text, nodes.literal_block)):
            yield child.astext()
        elif isinstance(child, nodes.TextElement) and not isinstance(child, SKIPPED):
            yield (
                "" if isinstance(child, nodes.title) else "".join(_inline(child, known))
            )
        elif not isinstance(child, (nodes.section, *SKIPPED)):
            yield from _text(child, known)


def _inline(node: nodes.Node, known: Known) -> Iterator[str]:
    for child in node.children:
        if isinstance(child, nodes.Text):
            yield child.astext()
        elif isinstance(child, nodes.math):
            markup = known.get((child.astext(), False), "")
            shown = unescape(TAG.sub("", markup))
            yield shown if len(shown) <= SHORT else "…"
        elif not isinstance(child, SKIPPED):
            yield from _inline(child, known)


def write(app: Sphinx, error: Exception | None) -> None:
    """Write `_static/search-data.js`: rows of page, chapter, anchor, title, text."""
    if error or app.builder.format != "html":
        return
    kept = store(app.env, "search")
    rows = []
    for chapter in book_of(app).chapters:
        uri = app.builder.get_target_uri(chapter.name)
        for anchor, title, text in kept.get(chapter.name, ()):
            rows.append([uri, chapter.title, anchor, title, text])
    data = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
    write_atomic(
        Path(app.outdir, "_static", "search-data.js"),
        f"window.bookSearchData = {data};\n",
    )
