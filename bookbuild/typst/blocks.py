"""Blocks of text: lists, quotations, tables, boxes, the bibliography, the glossary."""

from docutils import nodes
from sphinx import addnodes

from bookbuild.typst.base import Writer
from bookbuild.typst.markup import Piece, string

HUES = {
    "warning": 'rgb("#9a3a00")',
    "caution": 'rgb("#9a3a00")',
    "danger": 'rgb("#b3261e")',
    "error": 'rgb("#b3261e")',
    "tip": 'rgb("#1d6b3a")',
    "hint": 'rgb("#1d6b3a")',
}
ENUMERATIONS = {
    "arabic": "1",
    "loweralpha": "a",
    "upperalpha": "A",
    "lowerroman": "i",
    "upperroman": "I",
}


class Blocks(Writer):
    """Visitors of what stands between paragraphs."""

    def visit_bullet_list(self, node: nodes.Element) -> None:
        self._list("#list", node)

    def visit_enumerated_list(self, node: nodes.Element) -> None:
        style = ENUMERATIONS[node.get("enumtype", "arabic")]
        shown = node.get("prefix", "") + style + node.get("suffix", ".")
        self._list(
            f"#enum(start: {node.get('start', 1)}, numbering: {string(shown)})", node
        )

    def _list(self, function: str, node: nodes.Element) -> None:
        tight = all(len(item) <= 1 or _nested(item) for item in node.children)
        options = f"tight: {str(tight).lower()}"
        name, _, given = function.partition("(")
        self.add(f"{name}({options}{', ' + given[:-1] if given else ''}")
        for item in node.children:
            self.add(",\n[", *self.captured(item), "]")
        self.add(")\n\n")
        raise nodes.SkipNode

    def visit_definition_list(self, node: nodes.Element) -> None:
        self.add("#described(")
        for item in node.children:
            terms = [child for child in item if isinstance(child, nodes.term)]
            rest = [child for child in item if not isinstance(child, nodes.term)]
            self.add("\n([", *self.captured(terms), "], [", *self.captured(rest), "]),")
        self.add(")\n\n")
        raise nodes.SkipNode

    def visit_glossary(self, node: nodes.Element) -> None:
        self.children(node)
        raise nodes.SkipNode

    visit_definition = visit_classifier = visit_glossary
    visit_compound = visit_desc_content = visit_hlistcol = visit_glossary

    def visit_term(self, node: nodes.Element) -> None:
        if node.get("ids"):
            self.mark(node, "")
            if isinstance(node.parent.parent.parent, addnodes.glossary):
                self.add(f"#term-home({string(node.astext())});")
        self.wrap("#strong[", node, "]; ")

    def visit_field_list(self, node: nodes.Element) -> None:
        self.add("#facts(", *self.fields(node), ")\n\n")
        raise nodes.SkipNode

    def visit_block_quote(self, node: nodes.Element) -> None:
        by = next(iter(node.findall(nodes.attribution)), None)
        rest = [child for child in node.children if child is not by]
        source = ["[", *self.captured(by), "]"] if by is not None else ["none"]
        self.add("#quoted(", *source, ")[", *self.captured(rest), "]\n\n")
        raise nodes.SkipNode

    def visit_line_block(self, node: nodes.Element) -> None:
        for line in node.children:
            if isinstance(line, nodes.line_block):
                self.add("#h(1.5em)")
            self.children([line])
            self.add(" \\\n")
        self.add("\n")
        raise nodes.SkipNode

    def visit_line(self, node: nodes.Element) -> None:
        self.wrap("", node, "")

    def visit_transition(self, node: nodes.Element) -> None:
        if (
            "footnotes" not in node["classes"]
        ):  # the notes stand at the foot of the page
            self.add("#rule\n\n")
        raise nodes.SkipNode

    def visit_container(self, node: nodes.Element) -> None:
        """Cells have a form of their own; of cards and tabs the content is printed."""
        kind = node.get("nb_element") or node.get("design_component") or ""
        special = getattr(self, f"container_{kind.replace('-', '_')}", None)
        if special:
            special(node)
        elif "literal-block-wrapper" in node["classes"]:
            self.container_listing(node)
        else:
            self.children(node)
        raise nodes.SkipNode

    def container_tab_label(self, node: nodes.Element) -> None:
        self.add("#strong[", *self.heading(node), "]\n\n")

    container_card_title = container_dropdown_title = container_tab_label

    def container_toggle_button(self, node: nodes.Element) -> None:
        """A button has no use on paper."""

    # Boxes.

    def visit_admonition(self, node: nodes.Element) -> None:
        kind = node.tagname
        title = node.children[0] if node.children else None
        if isinstance(title, nodes.title):
            shown: list[Piece] = self.heading(title)
            content = node.children[1:]
        else:
            shown = [{"seealso": "See also"}.get(kind, kind.capitalize())]
            content = node.children
        hue = next((HUES[c] for c in (kind, *node["classes"]) if c in HUES), "accent")
        name = ["[", *shown, "]"] if shown else ["none"]
        self.add("#note(", *name, f", hue: {hue})[", *self.captured(content), "]\n\n")
        raise nodes.SkipNode

    visit_note = visit_tip = visit_hint = visit_warning = visit_caution = (
        visit_admonition
    )
    visit_important = visit_attention = visit_danger = visit_error = visit_admonition
    visit_seealso = visit_topic = visit_sidebar = visit_versionmodified = (
        visit_admonition
    )

    # Tables.

    def visit_table(self, node: nodes.Element) -> None:
        title = next((c for c in node.children if isinstance(c, nodes.title)), None)
        groups = [child for child in node.children if child is not title]
        self.plain += 1
        if title is None:
            self.mark(node)
            self.add("#", *self.captured(groups), "\n\n")
        else:
            number = self.numbered("table", node)
            self.add(f"#exhibit({self.place(node)}, {number}, kind: table, [")
            self.add(*self.captured(title), "], ", *self.captured(groups), ")\n\n")
        self.plain -= 1
        raise nodes.SkipNode

    def visit_tgroup(self, node: nodes.Element) -> None:
        columns = int(node["cols"])
        head = [row for part in node.findall(nodes.thead) for row in part.children]
        body = [row for part in node.findall(nodes.tbody) for row in part.children]
        self.add(f"data-table({columns}, (")
        for row in head:
            self._row(row)
        self.add(")")
        for row in body:
            self.add(",\n")
            self._row(row, last="")
        self.add(")")
        raise nodes.SkipNode

    def _row(self, row: nodes.Element, last: str = ",") -> None:
        cells: list[list[Piece]] = []
        for entry in row.children:
            span = (
                [f"colspan: {entry['morecols'] + 1}"] if entry.get("morecols") else []
            )
            span += (
                [f"rowspan: {entry['morerows'] + 1}"] if entry.get("morerows") else []
            )
            side = next((c[5:] for c in entry["classes"] if c in SIDES), "")
            span += [f"align: {side}"] if side else []
            before = f"table.cell({', '.join(span)})[" if span else "["
            cells.append([before, *self.captured(entry), "]"])
        for number, cell in enumerate(cells):
            self.add(*cell, ", " if number < len(cells) - 1 else last)

    # The bibliography.

    def visit_citation(self, node: nodes.Element) -> None:
        mark = node.children[0]
        rest = node.children[1:]
        self.mark(node)
        self.plain += 1
        by_year = self.builder.config.bibtex_reference_style == "author_year"
        shown = "none" if by_year else f"[\\[{mark.astext()}\\]]"
        self.add(f"#source-item({shown})[", *self.captured(rest), "]\n")
        self.plain -= 1
        raise nodes.SkipNode


SIDES = ("text-left", "text-center", "text-right")


def _nested(item: nodes.Element) -> bool:
    """A paragraph and then only lists: set tight."""
    lists = (nodes.bullet_list, nodes.enumerated_list)
    return all(isinstance(child, lists) for child in item.children[1:])
