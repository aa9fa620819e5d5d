"""The files around an e-book's pages: package, contents, cover."""

import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

MODIFIED = (
    "2026-01-01T00:00:00Z"  # required by the format; the book's date is not a clock's
)
TYPES = {
    ".xhtml": "application/xhtml+xml",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}
SPECIAL = {"nav.xhtml": "nav", "cover.png": "cover-image"}
INSIDE = {b"<math ": "mathml", b"<svg ": "svg"}
CONTAINER = """<?xml version="1.0" encoding="utf-8"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles>
<rootfile full-path="content.opf" media-type="application/oebps-package+xml"/>
</rootfiles>
</container>
"""
PAGE = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops" \
lang="{language}" xml:lang="{language}">
<head><meta charset="utf-8"/><title>{title}</title></head>
<body{kind}>
{body}
</body>
</html>
"""


@dataclass(frozen=True)
class Description:
    """What a reader's library shows of the book."""

    title: str
    author: str
    language: str
    summary: str
    rights: str
    identifier: str


@dataclass(frozen=True)
class Entry:
    """A line of the contents; one without `uri` is a heading of its children."""

    title: str
    uri: str
    children: list["Entry"] = field(default_factory=list)


def content(
    book: Description, files: Mapping[str, bytes], spine: Iterable[str]
) -> bytes:
    """`content.opf`: what the book is, its files, and the order of reading."""
    items, references = [], []
    names = {name: f"item-{number}" for number, name in enumerate(sorted(files))}
    for name, identity in names.items():
        properties = [SPECIAL[name]] if name in SPECIAL else []
        if name.endswith(".xhtml"):
            properties += [kind for tag, kind in INSIDE.items() if tag in files[name]]
        shown = f' properties="{" ".join(properties)}"' if properties else ""
        kind = TYPES[Path(name).suffix.lower()]
        items.append(
            f'<item id="{identity}" href="{escape(name)}" media-type="{kind}"{shown}/>'
        )
    for name in ("cover.xhtml", "nav.xhtml", *spine):
        references.append(f'<itemref idref="{names[name]}"/>')
    facts = {
        "dc:title": book.title,
        "dc:language": book.language,
        "dc:creator": book.author,
        "dc:description": book.summary,
        "dc:rights": book.rights,
    }
    identity = f'<dc:identifier id="book-id">{escape(book.identifier)}</dc:identifier>'
    lines = [identity]
    lines += [f"<{tag}>{escape(text)}</{tag}>" for tag, text in facts.items() if text]
    meta = {
        "dcterms:modified": MODIFIED,
        "schema:accessMode": "textual",
        "schema:accessModeSufficient": "textual",
        "schema:accessibilityFeature": "MathML",
        "schema:accessibilityHazard": "none",
    }
    lines += [f'<meta property="{name}">{text}</meta>' for name, text in meta.items()]
    lines.append('<meta property="schema:accessibilityFeature">alternativeText</meta>')
    text = "\n".join(
        [
            '<?xml version="1.0" encoding="utf-8"?>',
            '<package xmlns="http://www.idpf.org/2007/opf" version="3.0" '
            f'xml:lang="{escape(book.language)}" unique-identifier="book-id">',
            '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">',
            *lines,
            "</metadata>",
            "<manifest>",
            *items,
            "</manifest>",
            "<spine>",
            *references,
            "</spine>",
            "</package>\n",
        ]
    )
    return text.encode()


def navigation(book: Description, entries: list[Entry]) -> bytes:
    """`nav.xhtml`: the contents."""
    body = f'<nav epub:type="toc" id="toc"><h1>Contents</h1>\n{_listed(entries)}</nav>'
    return PAGE.format(
        language=book.language, title="Contents", kind="", body=body
    ).encode()


def _listed(entries: list[Entry]) -> str:
    lines = []
    for entry in entries:
        title = escape(entry.title)
        shown = (
            f'<a href="{escape(entry.uri)}">{title}</a>'
            if entry.uri
            else f"<span>{title}</span>"
        )
        inner = _listed(entry.children) if entry.children else ""
        lines.append(f"<li>{shown}{inner}</li>\n")
    return f"<ol>\n{''.join(lines)}</ol>\n"


def cover_page(book: Description) -> bytes:
    alt = escape(f"{book.title}. {book.author}")
    style = ' style="max-width: 100%; max-height: 100%"'
    body = (
        f'<p style="text-align: center"><img src="cover.png" alt="{alt}"{style}/></p>'
    )
    kind = ' epub:type="cover"'
    return PAGE.format(
        language=book.language, title=escape(book.title), kind=kind, body=body
    ).encode()


def cover(book: Description) -> bytes:
    """The title page of the printed book as a picture."""
    import typst

    from bookbuild.typst.assembly import SETTINGS, TEMPLATES
    from bookbuild.typst.markup import escape as markup
    from bookbuild.typst.markup import string

    tagline = f"[{markup(book.summary)}]" if book.summary else "none"
    source = (
        '#import "template.typ": *\n'
        f"#show: book.with(title: {string(book.title)})\n"
        f"#title-page({string(book.title)}, {tagline}, [{markup(book.author)}], [])\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in TEMPLATES:
            (root / name).write_bytes((Path(__file__).parents[1] / name).read_bytes())
        (root / "cover.typ").write_text(source, encoding="utf-8")
        for name in SETTINGS:
            (root / name).write_text(json.dumps([]))
        fonts = typst.Fonts(include_system_fonts=False)
        path = str(root / "cover.typ")
        made = typst.compile(path, root=folder, format="png", ppi=150, font_paths=fonts)
    first = made[0] if isinstance(made, list) else made
    assert isinstance(first, bytes)
    return first
