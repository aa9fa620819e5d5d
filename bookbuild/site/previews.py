"""What shows when a reader rests on a link: kept while building, inlined in pages."""

import json
import re
from html import escape
from typing import Any

from docutils import nodes
from sphinx.addnodes import glossary
from sphinx.application import Sphinx

from bookbuild.site.state import book_of, formulas, store

LINK = re.compile(
    r'<a class="reference internal[^"]*" href="([^"#]+)\.html(?:#([^"]+))?"'
)
LIMIT = 400


def collect(app: Sphinx, doctree: nodes.document) -> None:
    """Keep an HTML fragment for each target that another page may point to."""
    kept: dict[str, str] = {}
    known = formulas(app.env)
    for terms in doctree.findall(glossary):
        for item in terms.findall(nodes.definition_list_item):
            definition = next(iter(item.findall(nodes.definition)), None)
            for term in item.findall(nodes.term):
                for identity in term["ids"]:
                    kept[identity] = f"<strong>{escape(term.astext())}</strong> " + (
                        _html(definition, known) if definition else ""
                    )
    for section in doctree.findall(nodes.section):
        title = next(section.findall(nodes.title), None)
        first = next(
            (c for c in section.children if isinstance(c, nodes.paragraph)), None
        )
        text = f"<strong>{escape(title.astext())}</strong>" if title else ""
        if first is not None:
            text += f" {_html(first, known)}"
        for identity in section["ids"]:
            kept.setdefault(identity, text)
    for figure in doctree.findall(nodes.figure):
        caption = next(figure.findall(nodes.caption), None)
        for identity in figure["ids"] if caption else ():
            kept.setdefault(identity, _html(caption, known))
    for block in doctree.findall(nodes.math_block):
        for identity in block["ids"]:
            kept.setdefault(identity, known.get((block.astext(), True), ""))
    store(app.env, "previews")[app.env.docname] = kept


def _html(node: nodes.Node, known: dict[tuple[str, bool], str]) -> str:
    """Inline HTML of a node's text: code, emphasis and formulas stay, links do not."""
    pieces: list[str] = []
    for child in node.children:
        if isinstance(child, nodes.Text):
            pieces.append(escape(child.astext(), quote=False))
        elif isinstance(child, (nodes.math, nodes.math_block)):
            key = (child.astext(), isinstance(child, nodes.math_block))
            pieces.append(known.get(key, escape(child.astext())))
        elif isinstance(child, nodes.literal):
            pieces.append(f"<code>{escape(child.astext(), quote=False)}</code>")
        elif isinstance(child, nodes.emphasis):
            pieces.append(f"<em>{_html(child, known)}</em>")
        elif not isinstance(child, (nodes.raw, nodes.comment)):
            pieces.append(_html(child, known))
    return "".join(pieces)


def inline(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Give the page the fragments of the other pages' targets that it points to."""
    if not doctree:
        return
    kept = store(app.env, "previews")
    chapters = {chapter.name: chapter for chapter in book_of(app).chapters}
    found: dict[str, str] = {}
    for match in LINK.finditer(context.get("body", "")):
        page, anchor = match[1], match[2] or ""
        docname = _resolve(pagename, page)
        text = kept.get(docname, {}).get(anchor, "")
        chapter = chapters.get(docname)
        if (
            chapter
            and chapter.summary
            and (not anchor or _is_top(app, docname, anchor))
        ):
            text = f"<strong>{escape(chapter.title)}</strong> {escape(chapter.summary)}"
        if text:
            key = f"{page}.html#{anchor}" if anchor else f"{page}.html"
            found[key] = text
    data = json.dumps(
        dict(sorted(found.items())), ensure_ascii=False, separators=(",", ":")
    )
    context["previews"] = data.replace("</", "<\\/")


def _resolve(here: str, target: str) -> str:
    parts = here.split("/")[:-1]
    for piece in target.split("/"):
        if piece == "..":
            parts = parts[:-1]
        else:
            parts.append(piece)
    return "/".join(parts)


def _is_top(app: Sphinx, docname: str, anchor: str) -> bool:
    sections = store(app.env, "search").get(docname, ())
    return (bool(sections) and sections[0][0] == anchor) or anchor.startswith(
        "chapter-"
    )
