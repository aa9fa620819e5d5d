"""The Sphinx builder of the e-book: XHTML pages in one package."""

from pathlib import Path
from types import MethodType
from typing import Any
from uuid import NAMESPACE_URL, uuid5
from xml.etree import ElementTree
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.builders.epub3 import Epub3Builder
from sphinx.highlighting import PygmentsBridge

from bookbuild.errors import BookError, Problem
from bookbuild.files import write_atomic
from bookbuild.site.state import book_of
from bookbuild.typst.ebook import package
from bookbuild.typst.ebook.pages import EpubTranslator, finished, vector

HERE = Path(__file__).parent
STYLES = ("_static/pygments.css", "_static/ebook.css")


class BookEpub(Epub3Builder):
    """Sphinx's EPUB pages without its theme and scripts, and a package of our own."""

    name = "book-epub"
    prints_outputs = True

    def init(self) -> None:
        self.config.templates_path = [str(HERE)]
        self.config.epub_show_urls = "no"
        self.config.epub_use_index = False
        self.config.html_secnumber_suffix = " "
        super().init()

    def create_translator(self, *args: Any) -> nodes.NodeVisitor:
        """Extensions give their visitors for HTML; ours count for the e-book."""
        translator = super().create_translator(*args)
        for name, visitor in vars(EpubTranslator).items():
            if name.startswith(("visit_", "depart_")):
                setattr(translator, name, MethodType(visitor, translator))
        return translator

    def gen_pages_from_extensions(self) -> None:
        """The site's pages of modules and its search are not part of the e-book."""

    gen_additional_pages = gen_indices = gen_pages_from_extensions
    copy_extra_files = write_buildinfo = gen_pages_from_extensions

    def copy_static_files(self) -> None:
        """None of the site's; what extensions leave in this folder stays there."""
        Path(self.outdir, "_static").mkdir(parents=True, exist_ok=True)

    def handle_finish(self) -> None:
        book = book_of(self.app)
        out = Path(self.outdir)
        files: dict[str, bytes] = {}
        problems: list[Problem] = []
        for chapter in book.chapters:
            name = f"{chapter.name}{self.out_suffix}"
            page = finished((out / name).read_text(encoding="utf-8"))
            try:
                ElementTree.fromstring(page)
            except ElementTree.ParseError as error:
                message = f"its page is not XML, as an e-book's must be: {error}"
                hint = "raw HTML in the chapter must close every element"
                problems.append(Problem(chapter.source, 0, message, hint))
            files[name] = page.encode()
        if problems:
            raise BookError(*problems)
        for picture in sorted(set(self.images.values())):
            data = (out / self.imagedir / picture).read_bytes()
            data = vector(data) if picture.endswith(".svg") else data
            files[f"{self.imagedir}/{picture}"] = data
        style = PygmentsBridge("html", self.config.pygments_style).get_stylesheet()
        files[STYLES[0]] = style.encode()
        files[STYLES[1]] = (HERE / "ebook.css").read_bytes()
        described = package.Description(
            title=book.chapters[0].title,
            author=self.config.author,
            language=self.config.language or "en",
            summary=book.chapters[0].summary,
            rights=f"© {self.config.copyright}" if self.config.copyright else "",
            identifier=f"urn:uuid:{uuid5(NAMESPACE_URL, book.chapters[0].title)}",
        )
        files["cover.png"] = package.cover(described)
        files["cover.xhtml"] = package.cover_page(described)
        spine = [f"{chapter.name}{self.out_suffix}" for chapter in book.chapters]
        files["nav.xhtml"] = package.navigation(described, self._contents())
        files["content.opf"] = package.content(described, files, spine)
        write_atomic(out / "book.epub", zipped(files))

    def _contents(self) -> list[package.Entry]:
        """Parts, chapters and sections with their numbers."""
        book = book_of(self.app)
        root = book.chapters[0]
        entries = [package.Entry(root.title, f"{root.name}{self.out_suffix}")]
        for part in book.parts:
            chapters = [self._chapter(name) for name in part.names]
            entries.append(package.Entry(part.caption, "", chapters))
        return entries

    def _chapter(self, name: str) -> package.Entry:
        numbers = self.env.toc_secnumbers.get(name, {})
        uri = f"{name}{self.out_suffix}"
        top = next(iter(self.env.get_doctree(name).findall(nodes.section)))
        inner = [
            package.Entry(
                _title(numbers.get(f"#{section['ids'][0]}", ()), section),
                f"{uri}#{section['ids'][0]}",
            )
            for section in top.children
            if isinstance(section, nodes.section)
        ]
        return package.Entry(_title(numbers.get("", ()), top), uri, inner)


def _title(number: tuple[int, ...] | None, section: nodes.Element) -> str:
    title = next(iter(section.findall(nodes.title))).astext()
    return f"{'.'.join(map(str, number))} {title}" if number else title


def zipped(files: dict[str, bytes]) -> bytes:
    """The EPUB container: `mimetype` first and stored, no times of this machine."""
    from io import BytesIO

    buffer = BytesIO()
    fixed = {"META-INF/container.xml": package.CONTAINER.encode(), **files}
    with ZipFile(buffer, "w") as archive:
        for name, data in {"mimetype": b"application/epub+zip", **fixed}.items():
            entry = ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = ZIP_STORED if name == "mimetype" else ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


def prepare(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """What only the site has is taken out: pages of modules, ids that repeat."""
    if app.builder.name != BookEpub.name:
        return
    for reference in list(doctree.findall(nodes.reference)):
        if "_modules/" in reference.get("refuri", ""):
            reference.replace_self(reference.children)
    for section in doctree.findall(nodes.section):
        if section["ids"] in (["exercise-content"], ["solution-content"]):
            section["ids"] = []
