"""Around the text: navigation, links to sources, pages of the modules' code."""

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from bookbuild.nodes import widget
from bookbuild.site.cells import source_page
from bookbuild.site.state import book_of, chapter_of, forget, option
from bookbuild.tangle import MARKER, modules

# Pygments marks every name, operator and space: half of a page, and without a style.
UNSTYLED = re.compile(r'<span class="(?:n|p|o|w|pre)">([^<]*)</span>')
NUMBERED = re.compile(r'(<a class="reference internal" href="#[^"]*">)[\d.]+ ')
PROMPT = re.compile(r"(Show|Hide) code cell (source|output|content)")
PROMPTED = {"source": "the code", "output": "the output", "content": "the cell"}
ROLES = re.compile(r' role="(?:doc-[a-z]+|list)"')
HERE = Path(__file__).parent
TEMPLATES, STATIC = HERE / "templates", HERE / "static"


def purge(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    forget(env, docname)


def warned_before(
    app: Sphinx,
    env: BuildEnvironment,
    added: set[str],
    changed: set[str],
    removed: set[str],
) -> list[str]:
    """Documents that had warnings are read again, so that the warnings come again."""
    return sorted(set(option(app, "warned", ())) & env.found_docs)


def write_all(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Pages show things of other pages; a complete build writes them all again."""
    return sorted(env.found_docs) if option(app, "write_all", True) else []


def context(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """What `layout.html` needs."""
    book = book_of(app)
    chapter = chapter_of(app, pagename)
    relative = context["pathto"]
    numbers = app.env.toc_secnumbers
    parts = []
    for part in book.parts:
        entries = []
        for name in part.names:
            number = numbers.get(name, {}).get("", ())
            entries.append(
                {
                    "title": app.env.titles[name].astext()
                    if name in app.env.titles
                    else name,
                    "number": ".".join(map(str, number)),
                    "uri": relative(name),
                    "current": name == pagename,
                }
            )
        parts.append({"caption": part.caption, "entries": entries})
    context["book_parts"] = parts
    context["book_title"] = app.config.html_title
    context["book_home"] = relative(app.config.root_doc)
    context["body_class"] = "front" if pagename == app.config.root_doc else ""
    static = Path(app.srcdir, "_static")
    context["book_styles"] = sorted(p.name for p in static.glob("*.css"))
    context["book_scripts"] = sorted(p.name for p in static.glob("*.js"))
    found = doctree.findall(widget) if doctree else ()
    context["widgets"] = widgets = sorted({node["script"] for node in found})
    styled = [name for name in widgets if (static / f"widgets/{name}.css").is_file()]
    context["book_styles"] += [f"widgets/{name}.css" for name in styled]
    if (static / "icon.svg").is_file():
        context["book_icon"] = relative("_static/icon.svg", 1)
    repository = option(app, "url", "")
    if chapter and repository:
        context["edit_uri"] = (
            f"{repository}/edit/{option(app, 'branch')}/{chapter.source}"
        )
    if chapter and chapter.code_cells:
        context["notebook_uri"] = relative(f"_notebooks/{chapter.name}.ipynb", 1)
        executed = f"_notebooks/executed/{chapter.name}.ipynb"
        context["executed_uri"] = relative(executed, 1)
    if chapter:
        context["description"] = chapter.summary
    body = UNSTYLED.sub(r"\1", context.get("body", "")).replace("<span></span>", "")
    body = PROMPT.sub(lambda found: f"{found[1]} {PROMPTED[found[2]]}", body)
    body = body.replace('<summary aria-label="Toggle hidden content">', "<summary>")
    body = ROLES.sub("", body)  # roles that browsers do not allow on these elements
    context["body"] = body.replace(' docutils container"', '"')
    context["toc"] = NUMBERED.sub(r"\1", context.get("toc", ""))
    context["needs_design"] = bool(
        re.search(r'class="[^"]*\bsd-', context.get("body", ""))
    )


def sources(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """The search page, and a page for the code of each module."""
    if app.builder.name != "html":
        return
    yield "search", {}, "search.html"
    book = book_of(app)
    texts = modules(book)
    for chapter in book.chapters:
        if chapter.module:
            path = f"extracted/{chapter.module}"
            page = source_page(path)
            up = app.builder.get_relative_uri(page, chapter.name)
            body = source_body(path, texts[path], chapter.title, up)
            yield page, {"title": path, "body": body}, "page.html"


def source_body(path: str, text: str, title: str, chapter_uri: str) -> str:
    """The module's code, highlighted; each marker line is an anchor and links back."""
    formatter: HtmlFormatter[str] = HtmlFormatter(nowrap=True)
    lines = highlight(text, PythonLexer(), formatter).splitlines()
    shown = []
    for line, source in zip(lines, text.splitlines(), strict=False):
        if source.startswith(MARKER):
            anchor = escape(source.rpartition("#")[2], quote=True)
            line = (
                f'<a class="cell-marker" id="{anchor}" '
                f'href="{escape(chapter_uri)}#cell-{anchor}">{line}</a>'
            )
        shown.append(line)
    code = "\n".join(shown)
    return (
        f'<h1 class="module-title"><code>{escape(path)}</code></h1>\n'
        '<p>The module that <a class="reference internal" '
        f'href="{escape(chapter_uri)}">{escape(title)}</a> makes, as it is installed. '
        "The comments that name a chapter lead "
        "back to the cell.</p>\n"
        f'<div class="highlight module-source"><pre tabindex="0">{code}\n</pre></div>\n'
    )


def prune(app: Sphinx, error: Exception | None) -> None:
    """Delete what no page uses: the theme's files, old pages and pictures."""
    if error or app.builder.name != "html":
        return
    out = Path(app.outdir)
    for name in ("objects.inv", "searchindex.js"):
        (out / name).unlink(missing_ok=True)
    ours = {"search-data.js"}
    for folder in (STATIC, Path(app.srcdir, "_static")):
        ours |= {
            p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()
        }
    ours |= {p.name for p in (out / "_static").glob("sphinx-design*.css")}
    _keep(out / "_static", ours)
    if option(app, "write_all", True):
        _keep(out / "_images", set(app.builder.images.values()))
        docs = {app.builder.get_target_uri(name) for name in app.env.found_docs}
        docs |= {page for page, _, _ in _generated(app)} | {"search.html"}
        for path in out.rglob("*.html"):
            if path.relative_to(out).as_posix() not in docs:
                path.unlink()


def _generated(app: Sphinx) -> Iterator[tuple[str, str, str]]:
    """Page, path of the module and the chapter's name, of each module."""
    for chapter in book_of(app).chapters:
        if chapter.module:
            path = f"extracted/{chapter.module}"
            yield app.builder.get_target_uri(source_page(path)), path, chapter.name


def _keep(folder: Path, names: set[str]) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file() and path.relative_to(folder).as_posix() not in names:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
