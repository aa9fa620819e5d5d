"""Code cells, their outputs, listings, figures and pictures."""

import re
from pathlib import Path

from docutils import nodes

from bookbuild.nodes import cell_caption
from bookbuild.typst.base import Writer
from bookbuild.typst.listing import listing
from bookbuild.typst.markup import Piece, escape, fitted, string

TEXT_WIDTH = 384.0
SHRUNK = TEXT_WIDTH / (6.4 * 72)
LENGTH = re.compile(r"^\s*([\d.]+)\s*(pt|px|in|cm|mm|em|%)?\s*$")
POINTS = {
    "pt": 1.0,
    "px": 0.75,
    "in": 72.0,
    "cm": 28.35,
    "mm": 2.835,
    "em": 10.4,
    "": 0.75,
}
LONG_OUTPUT, SHOWN_HEAD, SHOWN_TAIL = 40, 30, 5


class Cells(Writer):
    """Visitors of what is computed, and of pictures."""

    fold = ""  # the place of the folded code that the figure in hand is drawn by

    def container_cell_code(self, node: nodes.Element) -> None:
        parts = {child.get("nb_element"): child for child in node.children}
        source, output = parts.get("cell_code_source"), parts.get("cell_code_output")
        hidden = node.get("hide_mode") or ""
        if source is not None and hidden in ("all", "input", "input+output"):
            self._folded(node, source, output, whole=hidden == "all")
        elif source is not None:
            self._source(source)
        if output is not None and hidden != "all":
            self._output(output, cut="tag_scroll-output" in node["classes"])
        self.fold = ""

    def _folded(
        self,
        node: nodes.Element,
        source: nodes.Element,
        output: nodes.Element | None,
        *,
        whole: bool,
    ) -> None:
        """Folded code stands at the back, with links both ways."""
        index = node["cell_index"]
        back, here = (
            f"{self.page.name}@folded-{index}",
            f"{self.page.name}@cell-{index}",
        )
        self.page.placed |= {back, here}
        figures = [] if output is None or whole else list(output.findall(nodes.figure))
        if figures and figures[0].get("ids"):
            self.fold = back
            number = self.numbered("figure", figures[0])
            origin = f"#xref({string(self.identity(figures[0]))})[#{number}];"
        else:
            self.add(f"#anchor({string(here)});\n")
            self.add(f"#pointer[#xref({string(back)})[Folded code, ")
            self.add(f"page~#page-number({string(back)})]]\n\n")
            origin = "Code of the text"
        here = self.identity(figures[0]) if self.fold else here

        def write() -> None:
            self.add(f"#origin[#anchor({string(back)});{origin}, ")
            self.add(f"#xref({string(here)})[page~#page-number({string(here)})]]\n")
            self._source(source, size=7.0)
            if whole and output is not None:
                self._output(output, cut=True)

        self.to(self.page.folded, write)

    def _source(self, node: nodes.Element, size: float = 8.0) -> None:
        captions = [c for c in node.children if isinstance(c, cell_caption)]
        options = []
        for caption in captions:
            if caption["path"]:
                options.append(f"path: {string(caption['path'])}")
            else:
                note, *command = caption.children
                options.append(f"note: {string(note.astext())}")
                if command:
                    options.append(f"command: {string(command[-1].astext())}")
        for block in node.findall(nodes.literal_block):
            self._code(block, size, ", ".join(options))

    def _code(self, block: nodes.Element, size: float = 8.0, options: str = "") -> None:
        text, points = fitted(block.astext(), size)
        more = f", {options}" if options else ""
        shown = listing(text, block.get("language") or "")
        self.add(f"/*@{self.line}*/#code({shown}, size: {points}pt{more})\n\n")

    def _output(self, node: nodes.Element, *, cut: bool) -> None:
        for child in node.children:
            if isinstance(child, nodes.literal_block):
                self._printed(child, cut=cut)
            else:
                self.children([child])

    def _printed(self, block: nodes.Element, *, cut: bool = False) -> None:
        lines = block.astext().rstrip("\n").split("\n")
        if not "".join(lines).strip():
            return
        if cut and len(lines) > LONG_OUTPUT:
            left_out = len(lines) - SHOWN_HEAD - SHOWN_TAIL
            lines[SHOWN_HEAD:-SHOWN_TAIL] = [f"… {left_out} lines …"]
        text, points = fitted("\n".join(lines))
        failed = {"traceback", "stderr"} & set(block["classes"])
        options = ", error: true" if failed else ""
        self.add(f"#output({listing(text)}, size: {points}pt{options})\n\n")

    def visit_literal_block(self, node: nodes.Element) -> None:
        if "output" in node["classes"]:
            self._printed(node)
        else:
            self._code(node)
        raise nodes.SkipNode

    visit_doctest_block = visit_literal_block

    def container_listing(self, node: nodes.Element) -> None:
        caption, *rest = node.children
        number = self.numbered("code-block", node)
        shown = "" if number == "none" else f"#strong[#{number}]; "
        self.add(
            "#block(above: 1.1em, below: 0.4em, sticky: true)[#text(size: 9pt)[", shown
        )
        self.children(caption)
        self.add("]]\n")
        self.children(rest)

    # Figures.

    def visit_figure(self, node: nodes.Element) -> None:
        caption = next(iter(node.findall(nodes.caption)), None)
        legend = next(iter(node.findall(nodes.legend)), None)
        rest = [c for c in node.children if c is not caption and c is not legend]
        self.plain += 1
        shown: list[Piece] = ["none"]
        if caption is not None:
            shown = ["[", *self.captured(caption)]
            if legend is not None:
                shown += [" ", *self.captured(legend)]
            if self.fold:
                shown += [f" #box(text(fill: faint)[(#xref({string(self.fold)})"]
                shown += [f"[code: page~#page-number({string(self.fold)})])])"]
            shown += ["]"]
        self.add(f"#exhibit({self.place(node)}, {self.numbered('figure', node)}, ")
        self.add(*shown, ")[", *self._bare(rest, caption), "]\n\n")
        self.plain -= 1
        raise nodes.SkipNode

    def _bare(
        self, content: list[nodes.Node], caption: nodes.Element | None
    ) -> list[Piece]:
        for image in (i for child in content for i in child.findall(nodes.image)):
            if not image.get("alt") and caption is not None:
                image["alt"] = caption.astext()
            image["bare"] = True
        return self.captured(content)

    def visit_image(self, node: nodes.Element) -> None:
        uri = node["uri"]
        name = self.builder.images.get(uri)
        if name is None:
            if "://" in uri:
                self.problem(
                    f"the picture {uri} is not in the book", "save it in book/"
                )
            raise nodes.SkipNode
        path = Path(self.builder.srcdir, uri)
        alt = node.get("alt") or "What the code above draws"
        given = f"{string('images/' + name)}, {self._width(node, path)}, {string(alt)}"
        call = f"#picture({given})"
        inline = isinstance(node.parent, nodes.TextElement)
        bare = inline or node.get("bare")
        self.add(call + ";" if bare else f"#plate[{call}]\n\n")
        raise nodes.SkipNode

    def _width(self, node: nodes.Element, path: Path) -> str:
        """As the author says, else as its lettering needs; at most the line's width."""
        given = LENGTH.match(str(node.get("width", "")))
        if given and given[2] == "%":
            return f"{min(100.0, float(given[1])):g}%"
        natural = (
            float(given[1]) * POINTS[given[2] or ""] if given else natural_width(path)
        )
        wanted = (
            natural * float(node.get("scale", 100)) / 100 * (1 if given else SHRUNK)
        )
        return f"{min(TEXT_WIDTH, wanted):.1f}pt"

    def visit_caption(self, node: nodes.Element) -> None:
        self.wrap("", node, "\n\n")

    visit_legend = visit_caption

    def visit_cell_caption(self, node: nodes.Element) -> None:
        self.add(escape(node.astext()))
        raise nodes.SkipNode


def natural_width(path: Path) -> float:
    """A picture's width in points; the line's width when the file does not say."""
    if path.suffix == ".svg":
        head = path.read_text(encoding="utf-8", errors="replace")[:3000]
        found = re.search(
            r"<svg\b[^>]*?\swidth=\"([\d.]+)\s*(pt|px|in|cm|mm)?\"", head, re.DOTALL
        )
        return (
            float(found[1]) * POINTS[found[2] or ""] if found else TEXT_WIDTH / SHRUNK
        )
    import imagesize

    pixels, _ = imagesize.get(path)
    return pixels * 0.72 if pixels > 0 else TEXT_WIDTH / SHRUNK
