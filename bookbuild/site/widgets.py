"""The directive `widget`: a live figure on the site, the figure alone elsewhere."""

import ast
import json
from html import escape
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive, directives
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

from bookbuild.chapter import Chapter
from bookbuild.nodes import widget
from bookbuild.site.notebooks import glued
from bookbuild.site.state import book_of, chapter_of
from bookbuild.stage import composed
from bookbuild.widgets import FOLDER, faults

LOGGER = logging.getLogger(__name__)


class Widget(SphinxDirective):
    """The widget's name; `:data:` a glued value, `:figure:` the figure it replaces."""

    required_arguments = 1
    option_spec = {  # noqa: RUF012 (declared so by docutils)
        "data": directives.unchanged_required,
        "figure": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        data, figure = (self.options.get(key, "") for key in ("data", "figure"))
        chapter = chapter_of(self.env.app, self.env.docname)
        assert chapter is not None  # directives stand in chapters only
        book = book_of(self.env.app)
        self.env.note_dependency(f"{FOLDER}/{name}.js")
        found = list(faults(book, chapter, name, data, figure))
        if not found:
            try:
                text = self.value(chapter, data)
            except (LookupError, SyntaxError, TypeError, ValueError) as error:
                hint = "glue lists, dicts, strings and numbers: tensor.tolist()"
                found = [(f"{data!r} is no data for a widget: {error}", hint)]
        if found:
            report = self.state.document.reporter.error
            return [
                report(f"{message}\nhint: {hint}", line=self.lineno)
                for message, hint in found
            ]
        node = widget(script=name, data=text, figure=figure)
        self.set_source_info(node)
        return [node]

    def value(self, chapter: Chapter, name: str) -> str:
        """The value as JSON that may stand in a page's `<script>`."""
        values = glued(composed(book_of(self.env.app), chapter)["cells"])
        if name not in values:
            raise LookupError("the chapter's run did not glue it")
        value = ast.literal_eval(values[name])
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
        return text.replace("<", "\\u003c")


DIRECTIVES: dict[str, type[Directive]] = {"widget": Widget}


class PlaceWidgets(SphinxPostTransform):
    """On the site the widget moves into its figure; elsewhere the figure is enough."""

    default_priority = 690

    def run(self, **kwargs: Any) -> None:
        figures = {
            name: figure
            for figure in self.document.findall(nodes.figure)
            for name in (*figure["names"], *figure["ids"])
        }
        for node in list(self.document.findall(widget)):
            node.parent.remove(node)
            figure = figures.get(node["figure"])
            if figure is None:
                hint = "end the cell with the figure's last call"
                message = "the cell of the figure %r drew no picture\nhint: %s"
                LOGGER.warning(message, node["figure"], hint, location=node)
            elif self.app.builder.name == "html":
                figure.insert(0, node)


def visit_widget(self: HTML5Translator, node: widget) -> None:
    self.body.append(
        f'<div class="widget" data-widget="{escape(node["script"])}">'
        f'<script type="application/json">{node["data"]}</script>'
    )


def depart_widget(self: HTML5Translator, node: widget) -> None:
    self.body.append("</div>\n")
