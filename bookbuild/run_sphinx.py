"""Run a Sphinx builder in this process, and read its warnings."""

import gc
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from bookbuild.book import TOC, Book
from bookbuild.errors import BookError, ConfigError, Problem
from bookbuild.files import write_atomic
from bookbuild.stage import staged, write

CONFIG = "_config.yml"
PRINTED = frozenset({"typst", "book-epub"})
SYNTAX = frozenset({"amsmath", "colon_fence", "deflist", "dollarmath", "smartquotes"})


def configuration(book: Book, source: Path, builder: str = "html") -> dict[str, Any]:
    """Jupyter Book's defaults, then `_config.yml`, then what must be."""
    import jsonschema
    from jupyter_book.config import get_final_config

    from bookbuild.site import pages

    path = book.root / CONFIG
    try:
        user = (
            yaml.safe_load(path.read_text(encoding="utf-8-sig"))
            if path.is_file()
            else {}
        )
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
    wanted = [
        *config["extensions"],
        "sphinx_exercise",
        "sphinxcontrib.bibtex",
        "bookbuild.site",
    ]
    if builder in PRINTED:
        wanted.append("bookbuild.typst")
    bibliography = sorted(p.name for p in source.glob("*.bib"))
    config.pop("comments_config", None)
    syntax = set(config.get("myst_enable_extensions", ())) | SYNTAX
    config |= {
        "extensions": [e for e in dict.fromkeys(wanted) if e not in unused],
        "myst_enable_extensions": sorted(syntax - {"tasklist", "linkify"}),
        "bibtex_bibfiles": bibliography,
        "bibtex_tooltips": builder not in PRINTED,
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
    for option in (
        "repository_url",
        "repository_branch",
        "path_to_docs",
        "launch_buttons",
    ):
        theme.pop(
            option, None
        )  # the pages' own links need no provider that the theme knows
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

    `files` is what `staged(book)` returned, if the caller has it. `write_all` writes
    every page again and not only those whose source changed.
    """
    from sphinx.application import Sphinx
    from sphinx.errors import SphinxError
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    from bookbuild.site.state import attach

    source = write(book, staged(book) if files is None else files)
    work = book.build / "site"
    memory = work / f"{builder}-warned.json"
    warned = json.loads(memory.read_text()) if memory.is_file() else []
    warnings = _Warnings()
    _remember_plugins()
    try:
        with _uncollected(), patch_docutils(str(source)), docutils_namespace():
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
            vars(app.builder)["search"] = False  # the site has its own
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


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector: it goes through all documents and frees none.

    They are trees with links back that live until the end; this saves a sixth of the
    time for a tenth more memory.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _remember_plugins() -> None:
    """Pybtex searches all installed packages for its plugins, once a citation."""
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
    r"(?:(?P<path>(?:[A-Za-z]:)?[^:\n]+?)"
    r"(?::(?P<line>\d+|None|<[^>]*>))?:(?P<column>\d+:)? )?"
    r"(?P<level>WARNING|ERROR|CRITICAL|SEVERE): (?P<message>.*)",
    re.DOTALL,
)


def problem(book: Book, source: Path, text: str) -> Problem:
    """A warning of Sphinx as a problem at the line of Markdown that it is about."""
    found = WARNING.match(text)
    if not found:
        return Problem(CONFIG, 0, text)
    told = re.sub(
        r" \[(?:[a-z][\w-]*\.[\w.-]+|docutils)\]$", "", found["message"].strip()
    )
    message, _, hint = told.partition("\nhint: ")
    line = int(found["line"]) if (found["line"] or "").isdigit() else 0
    path = Path(found["path"] or CONFIG)
    try:
        relative = path.resolve().relative_to(source.resolve())
    except ValueError:
        return Problem(
            path.name if path.is_absolute() else path.as_posix(), line, message, hint
        )
    names = {chapter.name for chapter in book.chapters}
    name = (
        relative.with_suffix("").as_posix() if relative.suffix else relative.as_posix()
    )
    if name in names:
        return Problem(f"book/{name}.md", line, message, hint)
    if relative.as_posix() == TOC:
        return Problem(TOC, line, message, hint)
    return Problem(f"book/{relative.as_posix()}", line, message, hint)


def repository(book: Book) -> dict[str, str]:
    """`url` and `branch` of the repository that `_config.yml` names, if any."""
    path = book.root / CONFIG
    user = (
        yaml.safe_load(path.read_text(encoding="utf-8-sig")) if path.is_file() else {}
    )
    named = (user or {}).get("repository") or {}
    return {
        "url": str(named.get("url", "")).rstrip("/"),
        "branch": named.get("branch", "main"),
    }
