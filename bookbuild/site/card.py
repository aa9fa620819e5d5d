"""The facts in the box at the top of a chapter, and the map with "you are here"."""

import json
import math
from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.writers.html5 import HTML5Translator

from bookbuild.book import Book
from bookbuild.chapter import Chapter
from bookbuild.nodes import build_card
from bookbuild.site.cells import source_page
from bookbuild.site.numbers import chapter_numbers
from bookbuild.site.state import book_of, chapter_of


class FillCards(SphinxPostTransform):
    """The facts and links that depend on other chapters, for every builder."""

    default_priority = 700

    def run(self, **kwargs: Any) -> None:
        fill(self.app, self.document, self.env.docname)


def fill(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Fill the field list of each build card, and the links of the book's map."""
    for reference in doctree.findall(nodes.reference):
        if "book_page" in reference:
            reference["refuri"] = _uri(app, docname, reference["book_page"])
    chapter = chapter_of(app, docname)
    if chapter is None:
        return
    for card in doctree.findall(build_card):
        facts = card.children[-1]
        assert isinstance(facts, nodes.field_list)
        facts.clear()
        for name, content in _facts(app, chapter):
            body = nodes.field_body("", nodes.paragraph("", "", *content))
            facts += nodes.field("", nodes.field_name("", name), body)


def _facts(app: Sphinx, chapter: Chapter) -> list[tuple[str, list[nodes.Node]]]:
    book = book_of(app)
    facts: list[tuple[str, list[nodes.Node]]] = []
    if chapter.module:
        path = f"extracted/{chapter.module}"
        link = nodes.reference("", "", nodes.literal("", chapter.dotted), internal=True)
        if app.builder.format == "html":
            link["refuri"] = _uri(app, chapter.name, source_page(path))
            facts.append(("Module", [link]))
        else:
            facts.append(("Module", [nodes.literal("", chapter.dotted)]))
    needs = needed(book, chapter)
    if needs:
        facts.append(("Needs", _links(app, chapter, needs)))
    users = [c.name for c in book.chapters if chapter.name in needed(book, c)]
    if users:
        facts.append(("Used by", _links(app, chapter, tuple(users))))
    if chapter.code_cells:
        facts.append(("Time", [nodes.Text(_time(book, chapter))]))
        if app.builder.name == "html":
            facts.append(("Notebook", _notebooks(chapter)))
    return facts


def _notebooks(chapter: Chapter) -> list[nodes.Node]:
    """Links to the chapter as a notebook, to run and to read."""
    up = "../" * chapter.name.count("/") + "_notebooks/"
    return [
        nodes.reference("", "to run", refuri=f"{up}{chapter.name}.ipynb"),
        nodes.Text(", "),
        nodes.reference(
            "", "with outputs", refuri=f"{up}executed/{chapter.name}.ipynb"
        ),
    ]


def needed(book: Book, chapter: Chapter) -> tuple[str, ...]:
    """Chapters whose code or checkpoints the chapter itself uses, in reading order."""
    wanted = set(book.imports(chapter.name))
    wanted |= {book.producer(checkpoint) for checkpoint in chapter.needs}
    wanted.discard(chapter.name)
    return tuple(c.name for c in book.chapters if c.name in wanted)


def _links(app: Sphinx, chapter: Chapter, names: tuple[str, ...]) -> list[nodes.Node]:
    book, links = book_of(app), list[nodes.Node]()
    for name in names:
        if links:
            links.append(nodes.Text(", "))
        uri = _uri(app, chapter.name, name)
        title = book.chapter(name).title
        links.append(nodes.reference("", title, internal=True, refuri=uri))
    return links


def _uri(app: Sphinx, here: str, there: str) -> str:
    return app.builder.get_relative_uri(here, there)


def _time(book: Book, chapter: Chapter) -> str:
    """What an execution measured; the front matter's budget where none is recorded."""
    file = book.build / "executed" / f"{chapter.name}.json"
    data: dict[str, Any] = {}
    if file.is_file():
        data = json.loads(file.read_text(encoding="utf-8"))
    if "seconds" not in data:
        return f"{duration(60 * chapter.minutes)} at most on two CPU cores"
    text = duration(float(data["seconds"]))
    where = data.get("hardware") or data.get("device")
    return f"{text} on {where}" if where else text


def duration(seconds: float) -> str:
    """Rounded up, as a reader plans: 12 s, 2 min."""
    if seconds < 90:
        return f"{max(1, math.ceil(seconds))} s"
    return f"{math.ceil(seconds / 60)} min"


def visit_build_card(self: HTML5Translator, node: build_card) -> None:
    self.body.append(self.starttag(node, "section", CLASS="build-card"))
    self.body.append('<p class="build-title">You will build</p>\n')


def depart_build_card(self: HTML5Translator, node: build_card) -> None:
    app = self.builder.app
    self.body.append(draw_map(app, node["chapter"]))
    self.body.append("</section>\n")


def draw_map(app: Sphinx, here: str) -> str:
    """The parts of the book as rows of small numbered squares, each a link."""
    book = book_of(app)
    current = chapter_of(app, here)
    needs = needed(book, current) if current else ()
    rows: list[str] = []
    numbers = chapter_numbers(book)
    for part in book.parts:
        squares: list[str] = []
        for name in part.names:
            chapter = book.chapter(name)
            if name not in numbers:
                continue
            state = "here" if name == here else "needed" if name in needs else ""
            note = {"here": " (you are here)", "needed": " (needed here)", "": ""}[
                state
            ]
            title = escape(chapter.title + note, quote=True)
            mark = ' aria-current="page"' if state == "here" else ""
            kind = f' class="{state}"' if state else ""
            uri = escape(_uri(app, here, name) or "#", quote=True)
            squares.append(
                f'<li><a href="{uri}" title="{title}"{kind}{mark}>'
                f'<span class="visually-hidden">Chapter </span>{numbers[name]}'
                f'<span class="visually-hidden">: {title}</span></a></li>'
            )
        if squares:
            rows.append(
                f"<li><span>{escape(part.caption)}</span><ol>{''.join(squares)}</ol></li>"
            )
    if not rows:
        return ""
    return (
        '<nav class="here-map" aria-label="Map of the book"><ul>'
        + "".join(rows)
        + "</ul></nav>\n"
    )
