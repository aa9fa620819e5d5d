"""Text inside paragraphs: emphasis, code, formulas, notes, links."""

import re

from docutils import nodes

from bookbuild.typst.base import Writer
from bookbuild.typst.markup import Formula, escape, label, separated, string

PIECE = re.compile(r"[^(\[{.,=/_ -]*(?:[(\[{.,=/_ -]+|$)")
LONGEST, SHORTEST = 18, 5
LEADING = 300  # characters of a paragraph, four lines, that goes with its formula
BREAK = re.compile(r"<br\s*/?>")


def inline_code(text: str) -> list[str]:
    """Code in a sentence, in pieces between which a line may end; short code is one.

    Lines with long words that cannot be broken are set with gaping spaces.
    """
    if len(text) <= LONGEST:
        return [text]
    pieces = [""]
    for piece in PIECE.findall(text):
        if len(pieces[-1]) < SHORTEST or len(piece) < SHORTEST:
            pieces[-1] += piece
        else:
            pieces.append(piece)
    return pieces


class Text(Writer):
    """Visitors of inline nodes and paragraphs."""

    def visit_Text(self, node: nodes.Text) -> None:
        self.add(escape(node.astext()))

    def depart_Text(self, node: nodes.Text) -> None:
        """Written whole."""

    def visit_paragraph(self, node: nodes.Element) -> None:
        following = node.next_node(descend=False, siblings=True)
        while isinstance(following, nodes.target):
            following = following.next_node(descend=False, siblings=True)
        displayed = isinstance(following, nodes.math_block)
        if displayed and len(node.astext()) <= LEADING:
            self.wrap(f"/*@{self.line}*/#lead[", node, "]\n\n")
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
        pieces = inline_code(separated(node.astext()))
        self.add("#h(0pt);".join(f"#raw({string(piece)});" for piece in pieces))
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
            found = self.figures.get("displaymath", {}).get(
                (node.get("ids") or [""])[0]
            )
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

    def visit_reference(self, node: nodes.Element) -> None:
        uri = node.get("refuri", "")
        if "refid" in node or uri.startswith("%"):
            name = self.target(node)
            self.page.linked.setdefault(name, self.line)
            kinds = {
                c for inline in node.findall(nodes.inline) for c in inline["classes"]
            }
            if "std-term" in kinds:
                self.add(
                    f"#term({string(self.builder.terms.get(name, node.astext()))});"
                )
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
