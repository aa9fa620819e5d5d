"""The Sphinx extension of the book: its directives, its pages, its own search."""

import hashlib
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from bookbuild import nodes
from bookbuild.site import (
    card,
    cells,
    directives,
    fold,
    maths,
    pages,
    previews,
    search,
    widgets,
)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register everything; `bookbuild.site.pages.attach` hands over the book itself."""
    for name, directive in (directives.DIRECTIVES | widgets.DIRECTIVES).items():
        app.add_directive(name, directive)
    for node in (*nodes.NODES, *fold.NODES):
        name = node.__name__
        visitors = next(
            (
                (getattr(module, f"visit_{name}"), getattr(module, f"depart_{name}"))
                for module in (card, cells, directives, fold, widgets)
                if hasattr(module, f"visit_{name}")
            ),
        )
        app.add_node(node, html=visitors, epub=visitors)
    app.add_post_transform(card.FillCards)
    app.add_post_transform(widgets.PlaceWidgets)
    app.add_post_transform(nodes.PlainNodes)
    app.add_post_transform(fold.Folds)
    app.add_post_transform(fold.Sidenotes)
    app.add_html_math_renderer(
        "mathml",
        inline_renderers=(maths.visit_math, None),
        block_renderers=(maths.visit_math_block, None),
    )
    app.connect("doctree-read", cells.mark)
    app.connect("doctree-read", maths.convert)
    app.connect("doctree-read", search.collect)
    app.connect("doctree-read", previews.collect)
    app.connect("env-purge-doc", pages.purge)
    app.connect("env-get-outdated", pages.warned_before)
    app.connect("env-updated", pages.write_all)
    app.connect("html-page-context", pages.context, priority=900)
    app.connect("html-page-context", previews.inline, priority=910)
    app.connect("html-collect-pages", pages.sources)
    app.connect("build-finished", search.write)
    app.connect("build-finished", pages.prune)
    return {
        "version": "1",
        "env_version": _digest(),
        "parallel_read_safe": False,
        "parallel_write_safe": False,
    }


def _digest() -> str:
    """Of this package's code: what an older one kept in the environment is not used."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
