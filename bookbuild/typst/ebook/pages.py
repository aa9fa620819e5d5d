"""What an e-book's page shows in another way than the site's."""

import html
import re

from docutils import nodes
from sphinx.writers.html5 import HTML5Translator

from bookbuild.nodes import (
    build_card,
    cell_caption,
    quiz,
    quiz_answer,
    quiz_choice,
    quiz_question,
    quiz_why,
)

MATHML = "http://www.w3.org/1998/Math/MathML"
SVG = "http://www.w3.org/2000/svg"
ENTITY = re.compile(r"&(?!(?:amp|lt|gt|quot|apos|#\d+|#x[0-9a-fA-F]+);)(\w+);")
VOID = re.compile(r"<(br|hr|img|input|col|wbr)\b([^<>]*?)\s*/?>")
DOCTYPE = re.compile(rb"<!DOCTYPE[^>\[]*>\s*")
SHAPELESS = re.compile(rb"<path\b(?![^>]*\sd=)([^>]*?)/>")
UNKNOWN_STYLE = re.compile(r' (?:align|valign|border)="[^"]*"')


def finished(page: str) -> str:
    """The page as XHTML: no named characters, closed elements, name spaces."""
    page = ENTITY.sub(lambda found: html.unescape(found[0]), page)
    page = VOID.sub(r"<\1\2/>", page)
    page = UNKNOWN_STYLE.sub("", page)
    page = re.sub(r"<svg\b(?![^>]*xmlns)", f'<svg xmlns="{SVG}"', page)
    return re.sub(r"<math\b(?![^>]*xmlns)", f'<math xmlns="{MATHML}"', page)


def vector(svg: bytes) -> bytes:
    """Matplotlib's SVG as the format allows it: no doctype, no path without shape."""
    svg = DOCTYPE.sub(b"", svg, count=1)
    return SHAPELESS.sub(rb'<path d="M0 0"\1/>', svg)


class EpubTranslator(HTML5Translator):
    """Visitors that replace those of the site, method by method."""

    def visit_build_card(self, node: build_card) -> None:
        self.body.append(self.starttag(node, "div", CLASS="build-card"))
        self.body.append('<p class="build-title">You will build</p>\n')

    def depart_build_card(self, node: build_card) -> None:
        self.body.append("</div>\n")

    def visit_cell_caption(self, node: cell_caption) -> None:
        self.body.append(f'<p class="cell-caption caption-{node["kind"]}">')
        if node["path"]:
            self.body.append(f"<code>{html.escape(node['path'])}</code></p>\n")
            raise nodes.SkipNode

    def depart_cell_caption(self, node: cell_caption) -> None:
        self.body.append("</p>\n")

    def visit_HideCodeCellNode(self, node: nodes.Element) -> None:
        words = {"source": "Code", "output": "Output", "content": "Code and output"}
        kind = node["prompt_show"].rpartition(" ")[2]
        self.body.append(f"<details><summary>{words.get(kind, 'Code')}</summary>\n")

    def depart_HideCodeCellNode(self, node: nodes.Element) -> None:
        self.body.append("</details>\n")

    def visit_quiz(self, node: quiz) -> None:
        self.body.append(self.starttag(node, "div", CLASS="quiz"))

    def depart_quiz(self, node: quiz) -> None:
        self.body.append("</ol></div>\n")

    def visit_quiz_question(self, node: quiz_question) -> None:
        self.body.append('<div class="quiz-question">\n')

    def depart_quiz_question(self, node: quiz_question) -> None:
        self.body.append("</div>\n<ol>\n")

    def visit_quiz_choice(self, node: quiz_choice) -> None:
        self.body.append("<li>")

    def depart_quiz_choice(self, node: quiz_choice) -> None:
        self.body.append("</li>\n")

    def visit_quiz_answer(self, node: quiz_answer) -> None:
        self.body.append("<p>")

    def depart_quiz_answer(self, node: quiz_answer) -> None:
        self.body.append("</p>\n")

    def visit_quiz_why(self, node: quiz_why) -> None:
        verdict = "Right." if node.parent["correct"] else "Not this one."
        self.body.append("<details><summary>Is it this one?</summary>")
        self.body.append(f"<p><strong>{verdict}</strong></p>\n")

    def depart_quiz_why(self, node: quiz_why) -> None:
        self.body.append("</details>\n")
