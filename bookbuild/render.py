"""Render the book with Sphinx: stage its sources, run a builder, and read its warnings."""

import hashlib
import json
import posixpath
import re
import shutil
import sys
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from bookbuild.book import TOC, Book
from bookbuild.chapter import Chapter
from bookbuild.document import code_cells, notebook
from bookbuild.errors import BookError, ConfigError, Problem
from bookbuild.files import write_atomic

CONFIG = "_config.yml"
COPIED = frozenset({".bib", ".png", ".jpg", ".jpeg", ".svg", ".gif", ".webp", ".js"})
SYNTAX = frozenset({"amsmath", "colon_fence", "deflist", "dollarmath", "smartquotes"})
LINK = re.compile(r"\]\(([^)\s:#]+)\.md(#[^)\s]*)?\)")
HERE = Path(__file__).parent


def stage(book: Book) -> Path:
    """Write Sphinx's source folder `_build/site/source`; only what changed is touched.

    Chapters with code become notebooks: today's text with the outputs of their execution.
    Raises `BookError` for each chapter whose code was not executed as it stands.
    """
    return _write(book, staged(book))


def _write(book: Book, files: Mapping[str, bytes]) -> Path:
    folder = book.build / "site" / "source"
    if folder.is_dir():
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path.relative_to(folder).as_posix() not in files:
                path.unlink()
    for name, data in files.items():
        write_atomic(folder / name, data)
    return folder


def staged(book: Book) -> dict[str, bytes]:
    """Each file of Sphinx's source folder by its path."""
    files: dict[str, bytes] = {TOC: (book.root / TOC).read_bytes()}
    problems: list[Problem] = []
    for chapter in book.chapters:
        if chapter.code_cells:
            try:
                document = composed(book, chapter)
            except BookError as error:
                problems.extend(error.problems)
                continue
            for cell in document["cells"]:
                if cell["cell_type"] == "markdown":
                    cell["source"] = linked(book, chapter, "".join(cell["source"]))
            text = json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True)
            files[f"{chapter.name}.ipynb"] = text.encode() + b"\n"
        else:
            files[f"{chapter.name}.md"] = linked(book, chapter, chapter.text).encode()
    if problems:
        raise BookError(*problems)
    source = book.root / "book"
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        hidden = any(piece.startswith(".") for piece in relative.parts)
        wanted = path.suffix in COPIED or relative.parts[0] == "_static"
        if path.is_file() and wanted and not hidden:
            files[relative.as_posix()] = path.read_bytes()
    return files


def composed(book: Book, chapter: Chapter) -> dict[str, Any]:
    """The chapter's cells as they stand, with the outputs that its execution recorded."""
    results = [{"execution_count": None, "outputs": o} for o in _outputs(book, chapter)]
    made: dict[str, Any] = json.loads(notebook(chapter, results))
    made["metadata"].pop("chapter", None)
    return made


def linked(book: Book, chapter: Chapter, text: str) -> str:
    """Links to the Markdown of a chapter with code lead to the notebook staged for it."""
    here = PurePosixPath("book", chapter.name).parent

    def replace(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, found[1])).removeprefix("book/")
        executed = {c.name for c in book.chapters if c.code_cells}
        return f"]({found[1]}.ipynb{found[2] or ''})" if target in executed else found[0]

    return LINK.sub(replace, text)


def _outputs(book: Book, chapter: Chapter) -> list[list[Any]]:
    """The recorded outputs of each code cell; raises when its code has changed."""
    path = book.build / "executed" / f"{chapter.name}.ipynb"
    hint = f"run it: bookbuild execute {chapter.name}"
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BookError(Problem(chapter.source, 0, "has not been executed", hint)) from error
    executed = code_cells(recorded)
    for cell, done in zip(chapter.code_cells, executed, strict=False):
        if cell.source.rstrip() != _joined(done["source"]).rstrip():
            message = "this cell has changed since the chapter was executed"
            raise BookError(Problem(chapter.source, cell.line, message, hint))
    if len(executed) != len(chapter.code_cells):
        message = "cells were added or removed since the chapter was executed"
        raise BookError(Problem(chapter.source, 0, message, hint))
    return [done["outputs"] for done in executed]


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


def configuration(book: Book, source: Path, builder: str = "html") -> dict[str, Any]:
    """Sphinx's configuration: Jupyter Book's defaults, `_config.yml`, and what must be."""
    import jsonschema
    from jupyter_book.config import get_final_config

    from bookbuild.site import pages

    path = book.root / CONFIG
    try:
        user = yaml.safe_load(path.read_text(encoding="utf-8-sig")) if path.is_file() else {}
        final, _ = get_final_config(
            user_yaml=dict(user or {}),
            cli_config={"latex_individualpages": False},
            sourcedir=source,
            raise_on_invalid=True,
        )
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise ConfigError(Problem(CONFIG, line, f"not YAML: {error}")) from error
    except (jsonschema.ValidationError, ValueError, TypeError) as error:
        message = str(getattr(error, "message", error)).strip()
        raise ConfigError(Problem(CONFIG, 0, message)) from error
    config: dict[str, Any] = dict(final)
    unused = {
        "sphinx_thebe",
        "sphinx_comments",
        "sphinx_togglebutton",
        "sphinx_copybutton",
        "sphinx.ext.intersphinx",
        "sphinx_jupyterbook_latex",
    }
    wanted = [*config["extensions"], "sphinx_exercise", "sphinxcontrib.bibtex", "bookbuild.site"]
    if builder != "html":
        wanted.append("bookbuild.typst")
    bibliography = sorted(p.name for p in source.glob("*.bib"))
    config.pop("comments_config", None)
    syntax = set(config.get("myst_enable_extensions", ())) | SYNTAX
    config |= {
        "extensions": [e for e in dict.fromkeys(wanted) if e not in unused],
        "myst_enable_extensions": sorted(syntax - {"tasklist", "linkify"}),
        "bibtex_bibfiles": bibliography,
        "external_toc_path": TOC,
        "external_toc_exclude_missing": False,
        "nb_execution_mode": "off",
        "nb_merge_streams": True,
        "html_math_renderer": "mathml",
        "html_permalinks_icon": "#",
        "html_copy_source": False,
        "html_use_index": False,
        "html_domain_indices": False,
        "html_last_updated_fmt": None,
        "templates_path": [str(pages.TEMPLATES)],
        "html_static_path": [str(pages.STATIC), *_folder(source / "_static")],
        "html_css_files": [],
        "html_js_files": [],
    }
    config.setdefault("language", "en")
    config["numfig_format"] = {"figure": "Figure %s"} | config.get("numfig_format", {})
    theme = config.setdefault("html_theme_options", {})
    for option in ("repository_url", "repository_branch", "path_to_docs", "launch_buttons"):
        theme.pop(option, None)  # the pages' own links need no provider that the theme knows
    return config


def _folder(path: Path) -> list[str]:
    return [str(path)] if path.is_dir() else []


def build(
    book: Book,
    builder: str,
    out: Path,
    *,
    write_all: bool = True,
    files: Mapping[str, bytes] | None = None,
) -> None:
    """Run a Sphinx builder in this process. Raises `BookError` if there is any warning.

    `files` is what `staged(book)` returned, if the caller has it. `write_all` writes every
    page again and not only those whose source changed.
    """
    from sphinx.application import Sphinx
    from sphinx.errors import SphinxError
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    from bookbuild.site.state import attach

    source = _write(book, staged(book) if files is None else files)
    work = book.build / "site"
    memory = work / f"{builder}-warned.json"
    warned = json.loads(memory.read_text()) if memory.is_file() else []
    warnings = _Warnings()
    _remember_plugins()
    try:
        with patch_docutils(str(source)), docutils_namespace():
            app = Sphinx(
                srcdir=source,
                confdir=None,
                outdir=out,
                doctreedir=work / f"{builder}-doctrees",
                buildername=builder,
                confoverrides=configuration(book, source, builder),
                status=None,
                warning=warnings,  # type: ignore[arg-type]
            )
            app.setup_extension("sphinx_multitoc_numbering")
            app.builder.search = False  # the site has its own, without an index to load
            attach(app, book, write_all=write_all, warned=warned, **repository(book))
            app.build()
            found = set(app.env.found_docs)
    except SphinxError as error:
        write_atomic(memory, json.dumps([chapter.name for chapter in book.chapters]))
        raise BookError(Problem(CONFIG, 0, f"{error.category}: {error}")) from error
    problems = [problem(book, source, text) for text in warnings.texts]
    faulty = {p.path.removeprefix("book/").removesuffix(".md") for p in problems}
    known = faulty & found
    again = sorted(found) if faulty - known else sorted(known)
    write_atomic(memory, json.dumps(again))
    if problems:
        raise BookError(*problems)


def _remember_plugins() -> None:
    """Pybtex looks for its plugins among all installed packages anew for every citation."""
    import pybtex.plugin

    if not hasattr(pybtex.plugin.find_plugin, "cache_info"):
        pybtex.plugin.find_plugin = lru_cache(maxsize=None)(pybtex.plugin.find_plugin)


class _Warnings:
    """The stream that Sphinx writes its warnings to, one text a warning."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def write(self, text: str) -> int:
        plain = re.sub(r"\x1b\[[0-9;]*m", "", text).strip()
        if plain:
            self.texts.append(plain)
        return len(text)

    def flush(self) -> None:
        """Nothing is buffered."""

    def isatty(self) -> bool:
        return False


WARNING = re.compile(
    r"(?:(?P<path>(?:[A-Za-z]:)?[^:\n]+?)(?::(?P<line>\d+|None|<[^>]*>))?:(?P<column>\d+:)? )?"
    r"(?P<level>WARNING|ERROR|CRITICAL|SEVERE): (?P<message>.*)",
    re.DOTALL,
)


def problem(book: Book, source: Path, text: str) -> Problem:
    """A warning of Sphinx as a problem of the Markdown file and line that it is about."""
    found = WARNING.match(text)
    if not found:
        return Problem(CONFIG, 0, text)
    message = re.sub(r" \[[\w.-]+\]$", "", found["message"].strip())
    line = int(found["line"]) if (found["line"] or "").isdigit() else 0
    path = Path(found["path"] or CONFIG)
    try:
        relative = path.resolve().relative_to(source.resolve())
    except ValueError:
        return Problem(path.name if path.is_absolute() else path.as_posix(), line, message)
    names = {chapter.name for chapter in book.chapters}
    name = relative.with_suffix("").as_posix() if relative.suffix else relative.as_posix()
    if name in names:
        return Problem(f"book/{name}.md", line, message)
    if relative.as_posix() == TOC:
        return Problem(TOC, line, message)
    return Problem(f"book/{relative.as_posix()}", line, message)


def html(book: Book, *, complete: bool = True) -> Path:
    """Render the site into `_build/html`; does nothing when nothing has changed.

    With `complete=False` only pages whose own source changed are written again, for a
    quick look while writing.
    """
    out = book.build / "html"
    stamp = book.build / "site" / "html.stamp"
    files = staged(book)
    current = fingerprint(book, files, complete=complete)
    index = out / "index.html"
    if index.is_file() and stamp.is_file() and stamp.read_text() == current:
        return index
    stamp.unlink(missing_ok=True)
    build(book, "html", out, write_all=complete, files=files)
    if complete or not (out / "_notebooks").is_dir():
        for name, text in downloads(book).items():
            write_atomic(out / "_notebooks" / name, text)
    write_atomic(stamp, current)
    return index


def fingerprint(book: Book, files: Mapping[str, bytes], **options: Any) -> str:
    """A digest of everything that the site is made from."""
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for name, data in sorted(files.items()):
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    for path in sorted((book.build / "executed").rglob("*.json")):
        digest.update(path.read_bytes())
    own = [*HERE.glob("*.py"), *(HERE / "site").rglob("*")]
    for path in (book.root / CONFIG, *sorted(own)):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.name.encode() + path.read_bytes())
    digest.update(repr((sys.version_info[:3], _versions())).encode())
    return digest.hexdigest()


def _versions() -> Mapping[str, str]:
    from importlib.metadata import version

    names = ("sphinx", "jupyter-book", "myst-nb", "myst-parser", "sphinx-exercise")
    return {name: version(name) for name in names}


def site_zip(book: Book) -> Path:
    """The site in one archive that is the same for the same site."""
    folder = html(book).parent
    path = book.build / f"{_slug(book)}-site.zip"
    temporary = path.with_suffix(".part")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = file.relative_to(folder).as_posix()
            entry = zipfile.ZipInfo(f"{_slug(book)}/{name}", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.read_bytes())
    shutil.move(temporary, path)
    return path


def _slug(book: Book) -> str:
    words = re.findall(r"[a-z0-9]+", book.chapters[0].title.lower())
    return "-".join(words) or "book"


def repository(book: Book) -> dict[str, str]:
    """`url` and `branch` of the repository that `_config.yml` names, where it names one."""
    path = book.root / CONFIG
    user = yaml.safe_load(path.read_text(encoding="utf-8-sig")) if path.is_file() else {}
    named = (user or {}).get("repository") or {}
    return {"url": str(named.get("url", "")).rstrip("/"), "branch": named.get("branch", "main")}


def downloads(book: Book) -> dict[str, str]:
    """The clean and the executed notebook of each chapter with code, by its file's name."""
    from bookbuild.site.notebooks import Exporter

    url = repository(book)["url"]
    exporter = Exporter(book, f"git+{url}" if url else "extracted")
    made: dict[str, str] = {}
    for chapter in book.chapters:
        if chapter.code_cells:
            cells = composed(book, chapter)["cells"]
            for folder, outputs in (("", False), ("executed/", True)):
                text = exporter.notebook(chapter, cells, outputs=outputs)
                made[f"{folder}{chapter.name}.ipynb"] = text
    return made


def notebooks(book: Book) -> Path:
    """Write `_build/notebooks/NAME.ipynb` for readers, and `executed/NAME.ipynb` beside."""
    folder = book.build / "notebooks"
    for name, text in downloads(book).items():
        write_atomic(folder / name, text)
    return folder
