"""The document tree as Typst source: the visitor's frame and the divisions."""

from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxTranslator

from bookbuild.typst.base import Page
from bookbuild.typst.blocks import Blocks
from bookbuild.typst.cells import Cells
from bookbuild.typst.markup import Piece, string
from bookbuild.typst.questions import Questions
from bookbuild.typst.text import Text

SELF_LABELLED = (
    nodes.section,
    nodes.document,
    nodes.figure,
    nodes.table,
    nodes.term,
    nodes.citation,
    nodes.footnote,
    nodes.footnote_reference,
    nodes.row,
    nodes.entry,
    nodes.list_item,
    nodes.Text,
)
DROPPED = (
    "comment",
    "substitution_definition",
    "pending",
    "system_message",
    "toctree",
    "tabular_col_spec",
    "meta",
    "docinfo",
    "colspec",
    "label",
    "highlightlang",
    "start_of_file",
)


class TypstTranslator(Text, Blocks, Cells, Questions, SphinxTranslator):
    """Writes a document into a `Page`; a node without visitor is a problem."""

    def __init__(self, document: nodes.document, builder: Any, page: Page) -> None:
        super().__init__(document, builder)
        self.page = page
        self.pieces: list[Piece] = page.body
        self.depth = 0
        self.numbers = builder.env.toc_secnumbers.get(page.name, {})
        self.figures = builder.env.toc_fignumbers.get(page.name, {})

    # The frame.

    def dispatch_visit(self, node: nodes.Node) -> None:
        self.line = getattr(node, "line", None) or self.line
        identified = isinstance(node, nodes.Element) and node.get("ids")
        if identified and not isinstance(node, SELF_LABELLED):
            inline = isinstance(node, nodes.Inline) or isinstance(
                node.parent, nodes.TextElement
            )
            self.mark(node, "" if inline else "\n")
        super().dispatch_visit(node)

    def unknown_visit(self, node: nodes.Node) -> None:
        if node.tagname in DROPPED:
            raise nodes.SkipNode
        self.problem(
            f"the printed book has no form for {node.tagname!r}",
            "write it in another way, or write its visitor in bookbuild/typst/",
        )
        raise nodes.SkipNode

    def unknown_departure(self, node: nodes.Node) -> None:
        """Visitors write a node whole; nothing is left to do."""

    # Divisions.

    def visit_document(self, node: nodes.Element) -> None:
        self.children(node)
        raise nodes.SkipNode

    def visit_section(self, node: nodes.Element) -> None:
        if node.get("ids") in (["exercise-content"], ["solution-content"]):
            self.children(node)
            raise nodes.SkipNode
        self.depth += 1
        title = next(iter(node.findall(nodes.title)), None)
        content = [child for child in node.children if child is not title]
        number = self.numbers.get(f"#{node['ids'][0]}", ())
        if self.depth == 1:
            number = self.numbers.get("", ())
            self.page.number = ".".join(map(str, number or ()))
            self.page.placed.add(self.identity(node))
            self.page.title = self.heading(title)
        else:
            counted = number and self.depth < 4
            shown = string(".".join(map(str, number))) if counted else "none"
            level = self.page.level + self.depth - 1
            self.add(f"\n#section({self.place(node)}, {level}, {shown})[")
            self.add(*self.heading(title), "]\n\n")
        self.children(content)
        self.depth -= 1
        raise nodes.SkipNode

    def visit_title(self, node: nodes.Element) -> None:
        self.wrap("#strong[", node, "]\n\n")

    visit_subtitle = visit_rubric = visit_title
