"""The Sphinx builder: every document resolved and written, then the book put together."""

import json
import re
import shutil
from collections.abc import Iterator
from functools import lru_cache
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
from bookbuild.typst.formulas import convert, source
from bookbuild.typst.markup import Formula, Piece, escape, string
from bookbuild.typst.writer import Page, TypstTranslator

HERE = Path(__file__).parent
TEMPLATE = "template.typ"
OUTPUTS = (
    "image/svg+xml",
    "image/png",
    "image/jpeg",
    "text/markdown",
    "text/latex",
    "text/plain",
)
NO_TEXT = re.compile(r"<IPython\.core\.display\.\w+ object>")
PREFACE = "Preface"


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
    """Writes one Typst source a chapter and `main.typ`; `compiler` makes the PDF of them."""

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
        trees = {chapter.name: self.env.get_doctree(chapter.name) for chapter in book.chapters}
        # References to numbers read the tree of their target again and again.
        self.env.get_doctree = lru_cache(maxsize=None)(  # type: ignore[method-assign]
            self.env.get_doctree
        )
        for name, tree in trees.items():
            self._resolve(name, tree)
        del self.env.get_doctree
        self._survey(trees)
        pages = [self._page(book, name, tree) for name, tree in trees.items()]
        problems = [problem for page in pages for problem in page.problems]
        problems += _lost(pages)
        converted: dict[Formula, str] = {}
        try:
            converted = convert(_formulas(pages))
        except BookError as error:
            problems += error.problems
        if problems:
            raise BookError(*problems)
        files = self._files(book, pages, converted)
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
                if isinstance(node, nodes.term):
                    for identity in node["ids"]:
                        self.terms[f"{name}#{node['ids'][0]}"] = node.astext()
                elif isinstance(node, nodes.footnote):
                    self.footnotes[f"{name}#{node['ids'][0]}"] = node
                elif node.tagname == "solution_node":
                    self.solved.add(node["target_label"])
            top = next(iter(tree.findall(nodes.section)), None)
            if top is not None:
                self.anchors[name] = self.anchors[f"{name}#"] = f"{name}#{top['ids'][0]}"

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

    # The book.

    def _files(
        self, book: Book, pages: list[Page], converted: dict[Formula, str]
    ) -> dict[str, str]:
        files = {TEMPLATE: (HERE / TEMPLATE).read_text(encoding="utf-8")}
        head = '#import "/template.typ": *\n'
        for page in pages:
            text = head + f"// {page.path}\n" + source(page.body, converted)
            files[f"pages/{page.name}.typ"] = text
            for kind in ("answers", "solutions", "folded"):
                pieces = getattr(page, kind)
                if pieces:
                    text = head + f"// {page.path}\n" + source(pieces, converted)
                    files[f"{kind}/{page.name}.typ"] = text
        titles = {page.name: source(page.title, converted) for page in pages}
        files["main.typ"] = "".join(self._main(book, pages, titles, files))
        files["floats.json"] = "[]\n"
        files["missing.json"] = "[]\n"
        return files

    def _main(
        self, book: Book, pages: list[Page], titles: dict[str, str], files: dict[str, str]
    ) -> Iterator[str]:
        root = book.chapters[0]
        title, author = string(root.title), self.config.author
        known = {page.name: page for page in pages}
        yield '#import "template.typ": *\n'
        yield f"#show: book.with(title: {title}, author: {string(author)}, "
        yield f"language: {string(self.config.language)})\n"
        tagline = f"[{escape(root.summary)}]" if root.summary else "none"
        yield f"#title-page({title}, {tagline}, [{escape(author)}], [{self._imprint()}])\n"
        yield "#front[Contents]\n#contents()\n"
        if len("".join(map(str, known[root.name].body)).strip()) > 0:
            place = string(self.anchors[root.name])
            yield f"#chapter({place}, none, [{PREFACE}], level: 1)\n"
            yield f'#include "pages/{root.name}.typ"\n'
        parted, begun, count = self._in_parts(book), False, 0
        for part in book.parts:
            if not begun and part.names[0] in parted:
                yield "#show: main-matter\n"
                begun = True
            if part.names[0] in parted:
                count += 1
                shown = string(_roman(count)) if known[part.names[0]].number else "none"
                name = string(f"part@{part.caption}")
                yield f"#part({name}, {shown}, [{escape(part.caption)}], ("
                for name in part.names:
                    place, number = string(self.anchors[name]), string(known[name].number)
                    yield f"({place}, {number}, [{titles[name]}]), "
                yield "))\n"
            for name in part.names:
                number = string(known[name].number) if known[name].number else "none"
                given = f"{string(self.anchors[name])}, {number}, [{titles[name]}]"
                yield f"#chapter({given}, level: {known[name].level})\n"
                yield f'#include "pages/{name}.typ"\n'
        yield from _back("Answers and solutions", ("answers", "solutions"), pages, titles, files)
        yield from _back("Folded code", ("folded",), pages, titles, files)
        if any("#term" in text for text in files.values()):
            yield "#back[Index of terms]\n#index-pages()\n"
        yield "#exhibits-report\n"

    def _in_parts(self, book: Book) -> set[str]:
        """Pages of the parts that have numbered chapters; the rest are front and back matter.

        Where nothing is numbered all parts count.
        """
        numbers = self.env.toc_secnumbers
        numbered = {name for name in numbers if numbers[name].get("")}
        parts = [p for p in book.parts if numbered & set(p.names)] or book.parts
        return {name for part in parts for name in part.names}

    def _imprint(self) -> str:
        lines = [f"© {self.config.copyright}" if self.config.copyright else ""]
        lines.append("Every figure, table and measured number was computed by the code in it.")
        return " \\\n".join(escape(line) for line in lines if line)


def _back(
    title: str,
    kinds: tuple[str, ...],
    pages: list[Page],
    titles: dict[str, str],
    files: dict[str, str],
) -> Iterator[str]:
    """A division at the back, with what each chapter gives to it."""
    begun = False
    for page in pages:
        given = [f"{kind}/{page.name}.typ" for kind in kinds]
        given = [name for name in given if name in files]
        if given and not begun:
            yield f"#back[{escape(title)}]\n"
            begun = True
        if given:
            number = string(page.number) if page.number else "none"
            yield f"#back-chapter({number})[{titles[page.name]}]\n"
        for name in given:
            yield f'#include "{name}"\n'


def _formulas(pages: list[Page]) -> Iterator[Formula]:
    for page in pages:
        parts: tuple[list[Piece], ...]
        parts = (page.title, page.body, page.answers, page.solutions, page.folded)
        for part in parts:
            yield from (piece for piece in part if isinstance(piece, Formula))


def _lost(pages: list[Page]) -> Iterator[Problem]:
    placed = {name for page in pages for name in page.placed}
    for page in pages:
        for name, line in sorted(page.linked.items()):
            if name not in placed:
                message = f"a reference leads to {name!r}, which is not in the printed book"
                yield Problem(page.path, line, message)


def _roman(number: int) -> str:
    values = ((10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))
    text = ""
    for value, letters in values:
        count, number = divmod(number, value)
        text += letters * count
    return text
