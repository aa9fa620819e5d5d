"""Captions of code cells: the module of an exported cell, the parts of an exercise."""

from html import escape

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.osutil import relative_uri
from sphinx.writers.html5 import HTML5Translator

from bookbuild.exercise import COMMAND
from bookbuild.nodes import cell_caption
from bookbuild.site.state import chapter_of
from bookbuild.tangle import sections

KINDS = {
    "starter": "Your code",
    "solution": "One solution",
    "grade": "Tests that your code must pass",
}


def mark(app: Sphinx, doctree: nodes.document) -> None:
    """Put a `cell_caption` into each exported cell and each cell of an exercise."""
    chapter = chapter_of(app, app.env.docname)
    if chapter is None:
        return
    anchors = {s.cell.index: s.marker.rpartition("#")[2] for s in sections(chapter)}
    label = ""
    for cell in doctree.findall(nodes.Element):
        if cell.tagname.startswith("exercise_"):
            label = cell.get("label", label)
        if not isinstance(cell, nodes.container):
            continue
        if cell.get("nb_element") != "cell_code" or not cell.children:
            continue
        source = cell.children[0]
        if not isinstance(source, nodes.Element):
            continue
        if source.get("nb_element") != "cell_code_source":
            continue
        index = cell.get("cell_index")
        if index in anchors and chapter.module:
            cell["ids"].append(f"cell-{anchors[index]}")
            path = f"extracted/{chapter.module}"
            caption = cell_caption(
                "", path, kind="export", path=path, anchor=anchors[index]
            )
            source.insert(0, caption)
        for kind, text in KINDS.items():
            if f"tag_{kind}" in cell["classes"]:
                caption = cell_caption("", text, kind=kind, path="", anchor="")
                if kind == "starter" and label:
                    command = nodes.literal("", f"{COMMAND} start {label}")
                    caption += [nodes.Text(" "), command]
                source.insert(0, caption)


def source_page(path: str) -> str:
    """The page that shows a module: extracted/a/b.py -> _modules/a/b."""
    return "_modules/" + path.removeprefix("extracted/").removesuffix(".py")


def visit_cell_caption(self: HTML5Translator, node: cell_caption) -> None:
    kind = node["kind"]
    self.body.append(f'<p class="cell-caption caption-{kind}">')
    if node["path"]:
        builder = self.builder
        here = builder.get_target_uri(builder.current_docname)
        target = relative_uri(here, builder.get_target_uri(source_page(node["path"])))
        self.body.append(
            f'<a href="{escape(target)}#{escape(node["anchor"])}" '
            f'aria-label="This cell is part of {escape(node["path"])}">'
            f"<code>{escape(node['path'])}</code></a>"
        )
        self.body.append("</p>")
        raise nodes.SkipNode


def depart_cell_caption(self: HTML5Translator, node: cell_caption) -> None:
    self.body.append("</p>")
