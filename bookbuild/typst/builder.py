"""The Sphinx builder: documents are resolved and written, then put together."""

import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.builders import Builder
from sphinx.transforms.post_transforms import SphinxPostTransform

from bookbuild.book import Book
from bookbuild.errors import BookError, Problem
from bookbuild.files import write_atomic
from bookbuild.site.state import book_of
from bookbuild.typst.assembly import Assembly
from bookbuild.typst.base import Page
from bookbuild.typst.forked import spread
from bookbuild.typst.formulas import convert
from bookbuild.typst.markup import Formula
from bookbuild.typst.writer import TypstTranslator

OUTPUTS = (
    "image/svg+xml",
    "image/png",
    "image/jpeg",
    "text/markdown",
    "text/latex",
    "text/plain",
)
NO_TEXT = re.compile(r"<IPython\.core\.display\.\w+ object>")


class SelectOutputs(SphinxPostTransform):
    """Of an output in several formats, the one that prints best."""

    default_priority = 3  # before MyST-NB, which does not know this builder

    def is_supported(self) -> bool:
        return getattr(self.app.builder, "prints_outputs", False)

    def run(self, **kwargs: Any) -> None:
        for bundle in list(self.document.findall(nodes.container)):
            if bundle.get("nb_element") != "mime_bundle":
                continue
            forms = {form["mime_type"]: form for form in bundle.children}
            if NO_TEXT.match(_text(forms)):
                del forms["text/plain"]
            chosen = next((forms[kind] for kind in OUTPUTS if kind in forms), None)
            if chosen is not None:
                bundle.replace_self(chosen.children)
            else:
                bundle.parent.remove(bundle)


def _text(forms: dict[str, nodes.Element]) -> str:
    return forms["text/plain"].astext() if "text/plain" in forms else ""


class TypstBuilder(Builder):
    """Writes a Typst source a chapter and `main.typ`; `compiler` makes the PDF."""

    name = "typst"
    format = "typst"
    book_nodes = True
    prints_outputs = True
    default_translator_class = TypstTranslator
    supported_image_types = [  # noqa: RUF012 (declared so by Sphinx)
        "image/svg+xml",
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
    ]

    anchors: dict[str, str]
    terms: dict[str, str]
    footnotes: dict[str, nodes.Element]
    solved: set[str]

    def get_outdated_docs(self) -> str:
        return "the printed book"

    def get_target_uri(self, docname: str, typ: str | None = None) -> str:
        return f"%{docname}"

    def get_relative_uri(self, from_: str, to: str, typ: str | None = None) -> str:
        return self.get_target_uri(to)

    def prepare_writing(self, docnames: set[str]) -> None:
        """All is done at once, in `write`."""

    def write_doc(self, docname: str, doctree: nodes.document) -> None:
        """All is done at once, in `write`."""

    def write(self, *ignored: Any) -> None:
        book = book_of(self.app)
        trees = {
            chapter.name: self.env.get_doctree(chapter.name)
            for chapter in book.chapters
        }
        # References to numbers read the tree of their target again and again.
        self.env.get_doctree = cache(  # type: ignore[method-assign]
            self.env.get_doctree
        )
        for name, tree in trees.items():
            self._resolve(name, tree)
        del self.env.get_doctree
        self._survey(trees)
        pages = spread(lambda name: self._page(book, name, trees[name]), trees)
        problems = [problem for page in pages for problem in page.problems]
        problems += _lost(pages)
        converted: dict[Formula, str] = {}
        try:
            converted = convert(_formulas(pages))
        except BookError as error:
            problems += error.problems
        if problems:
            raise BookError(*problems)
        files = Assembly(
            book,
            tuple(pages),
            self.anchors,
            converted,
            author=self.config.author,
            language=self.config.language or "en",
            rights=self.config.copyright,
        ).files()
        out = Path(self.outdir)
        for name, text in files.items():
            write_atomic(out / name, text)
        self._pictures(out)
        for path in sorted(out.rglob("*.typ")):
            if path.relative_to(out).as_posix() not in files:
                path.unlink()

    def finish(self) -> None:
        """The sources are complete."""

    def _resolve(self, docname: str, tree: nodes.document) -> None:
        for node in list(tree.findall(addnodes.toctree)):
            node.parent.remove(node)
        self.env.resolve_references(tree, docname, self)
        self.post_process_images(tree)

    def _survey(self, trees: dict[str, nodes.document]) -> None:
        """What a page must know of the others before it is written."""
        self.anchors, self.terms, self.footnotes, self.solved = {}, {}, {}, set()
        for name, tree in trees.items():
            for node in tree.findall(nodes.Element):
                for identity in node.get("ids", ()):
                    self.anchors[f"{name}#{identity}"] = f"{name}#{node['ids'][0]}"
                if isinstance(node, nodes.term) and node["ids"]:
                    self.terms[f"{name}#{node['ids'][0]}"] = node.astext()
                elif isinstance(node, nodes.footnote):
                    self.footnotes[f"{name}#{node['ids'][0]}"] = node
                elif node.tagname == "solution_node":
                    self.solved.add(node["target_label"])
            top = next(iter(tree.findall(nodes.section)), None)
            if top is not None:
                self.anchors[name] = self.anchors[f"{name}#"] = (
                    f"{name}#{top['ids'][0]}"
                )

    def _page(self, book: Book, name: str, tree: nodes.document) -> Page:
        level = 2 if name in self._in_parts(book) else 1
        page = Page(name, book.chapter(name).source, level=level)
        tree.walkabout(TypstTranslator(tree, self, page))
        return page

    def _pictures(self, out: Path) -> None:
        folder = out / "images"
        for origin, name in self.images.items():
            path = Path(origin)
            path = path if path.is_absolute() else Path(self.srcdir, origin)
            write_atomic(folder / name, path.read_bytes())
        kept = set(self.images.values())
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name not in kept:
                path.unlink() if path.is_file() else shutil.rmtree(path)

    def _in_parts(self, book: Book) -> set[str]:
        """Pages of the parts whose chapters are numbered; of all where none is.

        The pages of the other parts are front and back matter.
        """
        numbers = self.env.toc_secnumbers
        numbered = {name for name in numbers if numbers[name].get("")}
        parts = [p for p in book.parts if numbered & set(p.names)] or book.parts
        return {name for part in parts for name in part.names}


def _formulas(pages: list[Page]) -> Iterator[Formula]:
    for page in pages:
        parts = (page.title, page.body, page.answers, page.solutions, page.folded)
        for part in parts:
            yield from (piece for piece in part if isinstance(piece, Formula))


def _lost(pages: list[Page]) -> Iterator[Problem]:
    placed = {name for page in pages for name in page.placed}
    for page in pages:
        for name, line in sorted(page.linked.items()):
            if name not in placed:
                message = f"a reference leads to {name!r}, which is not printed"
                yield Problem(page.path, line, message)
