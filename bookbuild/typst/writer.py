"""The document tree as Typst source: the visitor's frame, text, links and divisions."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxTranslator

from bookbuild.errors import Problem
from bookbuild.typst.blocks import Blocks
from bookbuild.typst.cells import Cells
from bookbuild.typst.markup import Formula, Piece, escape, label, separated, string
from bookbuild.typst.questions import Questions

BREAK = re.compile(r"<br\s*/?>")
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


@dataclass
class Page:
    """One document as the printed book needs it: its text, and what goes to the back."""

    name: str
    path: str
    number: str = ""
    level: int = 2  # of its title: chapters stand in parts, the preface in the book
    title: list[Piece] = field(default_factory=list)
    body: list[Piece] = field(default_factory=list)
    solutions: list[Piece] = field(default_factory=list)
    answers: list[Piece] = field(default_factory=list)
    folded: list[Piece] = field(default_factory=list)
    placed: set[str] = field(default_factory=set)
    linked: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


class TypstTranslator(Blocks, Cells, Questions, SphinxTranslator):
    """Writes one document into a `Page`; a node without a visitor is a problem of its line."""

    def __init__(self, document: nodes.document, builder: Any, page: Page) -> None:
        super().__init__(document, builder)
        self.page = page
        self.pieces: list[Piece] = page.body
        self.depth = 0
        self.plain = 0  # above zero where a note at the foot of the page cannot stand
        self.line = 0
        self.numbers = builder.env.toc_secnumbers.get(page.name, {})
        self.figures = builder.env.toc_fignumbers.get(page.name, {})

    # The frame.

    def dispatch_visit(self, node: nodes.Node) -> None:
        self.line = getattr(node, "line", None) or self.line
        identified = isinstance(node, nodes.Element) and node.get("ids")
        if identified and not isinstance(node, SELF_LABELLED):
            inline = isinstance(node, nodes.Inline) or isinstance(node.parent, nodes.TextElement)
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

    def problem(self, message: str, hint: str = "") -> None:
        self.page.problems.append(Problem(self.page.path, self.line, message, hint))

    def add(self, *pieces: Piece) -> None:
        self.pieces.extend(pieces)

    def children(self, node: nodes.Element | Iterable[nodes.Node]) -> None:
        for child in list(node.children if isinstance(node, nodes.Element) else node):
            child.walkabout(self)

    def captured(self, node: nodes.Element | Iterable[nodes.Node]) -> list[Piece]:
        """What the children write, taken out of the text."""
        outer, self.pieces = self.pieces, []
        try:
            self.children(node)
            return self.pieces
        finally:
            self.pieces = outer

    def to(self, target: list[Piece], write: Callable[[], None]) -> None:
        """Let `write` write to another part of the page, such as its solutions."""
        outer, self.pieces = self.pieces, target
        try:
            write()
        finally:
            self.pieces = outer

    def wrap(self, before: str, node: nodes.Element, after: str) -> None:
        self.add(before)
        self.children(node)
        self.add(after)
        raise nodes.SkipNode

    # Places and links.

    def identity(self, node: nodes.Element) -> str:
        return f"{self.page.name}#{node['ids'][0]}"

    def place(self, node: nodes.Element) -> str:
        """The node's name as a string literal; every other id of the node means this one."""
        identity = self.identity(node) if node.get("ids") else f"{self.page.name}@{id(node)}"
        self.page.placed.add(identity)
        return string(identity)

    def mark(self, node: nodes.Element, after: str = "\n") -> None:
        if node.get("ids") and self.identity(node) not in self.page.placed:
            self.add(f"#anchor({self.place(node)});{after}")

    def target(self, node: nodes.Element) -> str:
        """The name of the place that a reference inside the book leads to."""
        if "refid" in node:
            name = f"{self.page.name}#{node['refid']}"
        else:
            name = node["refuri"].removeprefix("%")
        return str(self.builder.anchors.get(name, name))

    def visit_reference(self, node: nodes.Element) -> None:
        uri = node.get("refuri", "")
        if "refid" in node or uri.startswith("%"):
            name = self.target(node)
            self.page.linked.setdefault(name, self.line)
            kinds = {c for inline in node.findall(nodes.inline) for c in inline["classes"]}
            if "std-term" in kinds:
                self.add(f"#term({string(self.builder.terms.get(name, node.astext()))});")
            elsewhere = not name.startswith(f"{self.page.name}#")
            far = elsewhere and "std-ref" in kinds and not self.plain
            self.wrap(f"#{'xpage' if far else 'xref'}({string(name)})[", node, "];")
        elif uri.startswith(("http://", "https://", "mailto:")):
            shown = self.plain or node.astext() in (uri, uri.removeprefix("mailto:"))
            self.wrap(f"#{'link' if shown else 'href'}({string(uri)})[", node, "];")
        else:
            self.children(node)
            raise nodes.SkipNode

    visit_number_reference = visit_reference

    def visit_target(self, node: nodes.Element) -> None:
        self.children(node)
        raise nodes.SkipNode

    def visit_index(self, node: nodes.Element) -> None:
        home = isinstance(node.parent, nodes.term)
        for kind, value, _target, main, _key in node["entries"]:
            if kind in ("single", "pair", "triple") and not home:
                entry = ", ".join(part.strip() for part in value.split(";"))
                self.add(f"#{'term-home' if main else 'term'}({string(entry)});")
        raise nodes.SkipNode

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
            shown = string(".".join(map(str, number))) if number and self.depth < 4 else "none"
            self.add(f"\n#section({self.place(node)}, {self.page.level + self.depth - 1}, {shown})[")
            self.add(*self.heading(title), "]\n\n")
        self.children(content)
        self.depth -= 1
        raise nodes.SkipNode

    def heading(self, title: nodes.Element | None) -> list[Piece]:
        self.plain += 1
        pieces = self.captured(title) if title is not None else []
        self.plain -= 1
        return pieces

    def visit_title(self, node: nodes.Element) -> None:
        self.wrap("#strong[", node, "]\n\n")

    visit_subtitle = visit_rubric = visit_title

    # Text.

    def visit_Text(self, node: nodes.Text) -> None:
        self.add(escape(node.astext()))

    def depart_Text(self, node: nodes.Text) -> None:
        """Written whole."""

    def visit_paragraph(self, node: nodes.Element) -> None:
        self.wrap(f"/*@{self.line}*/", node, "\n\n")

    visit_compact_paragraph = visit_centered = visit_paragraph

    def visit_emphasis(self, node: nodes.Element) -> None:
        self.wrap("#emph[", node, "];")

    visit_title_reference = visit_literal_emphasis = visit_emphasis

    def visit_strong(self, node: nodes.Element) -> None:
        self.wrap("#strong[", node, "];")

    visit_literal_strong = visit_strong

    def visit_subscript(self, node: nodes.Element) -> None:
        self.wrap("#sub[", node, "];")

    def visit_superscript(self, node: nodes.Element) -> None:
        self.wrap("#super[", node, "];")

    def visit_inline(self, node: nodes.Element) -> None:
        if "planned" in node["classes"]:
            self.wrap('#text(weight: "regular", fill: faint)[ ', node, "];")
        self.wrap("", node, "")

    visit_generated = visit_abbreviation = visit_acronym = visit_inline
    visit_download_reference = visit_pending_xref = visit_inline

    def visit_PassthroughTextElement(self, node: nodes.Element) -> None:
        """A link over a whole card, or its title."""
        inside = isinstance(node.parent, nodes.TextElement)
        self.wrap("", node, "" if inside else "\n\n")

    def visit_literal(self, node: nodes.Element) -> None:
        self.add(f"#raw({string(separated(node.astext()))});")
        raise nodes.SkipNode

    def visit_problematic(self, node: nodes.Element) -> None:
        self.problem(f"this markup is broken: {node.astext()}")
        raise nodes.SkipNode

    def visit_raw(self, node: nodes.Element) -> None:
        if "typst" in node.get("format", "").split():
            self.add(node.astext())
        elif BREAK.fullmatch(node.astext().strip()):
            self.add(" \\\n")
        raise nodes.SkipNode

    def visit_math(self, node: nodes.Element) -> None:
        self.add(Formula(node.astext(), False, (self.page.path, self.line)))
        raise nodes.SkipNode

    def visit_math_block(self, node: nodes.Element) -> None:
        number = ""
        if node.get("number"):
            found = self.figures.get("displaymath", {}).get((node.get("ids") or [""])[0])
            number = ".".join(map(str, found)) if found else str(node["number"])
        where = (self.page.path, self.line)
        self.add("\n", Formula(node.astext(), True, where, number), "\n\n")
        raise nodes.SkipNode

    def visit_footnote_reference(self, node: nodes.Element) -> None:
        """The note stands at the foot of the page where it is first called."""
        name = f"{self.page.name}#{node['refid']}"
        note = self.builder.footnotes.pop(name, None)
        if note is None:
            self.add(f"#footnote({label(name)});")
        else:
            self.page.placed.add(name)
            self.add("#footnote[", *self.captured(note), f"]#{label(name)};")
        raise nodes.SkipNode

    def visit_footnote(self, node: nodes.Element) -> None:
        raise nodes.SkipNode
