"""The project's tasks, thin calls of `bookbuild` and pytest; `nox -l` lists them."""

import hashlib
import os
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).parent
ENVIRONMENT = str(
    ROOT / ".nox" / f"book-{sys.version_info.major}.{sys.version_info.minor}"
)

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["book"]


def task(function):
    """A session in the one environment that all share, installed when stale."""

    def run(session: nox.Session) -> None:
        # Otherwise every start compiles torch's modules again.
        session.env["PYTHONDONTWRITEBYTECODE"] = ""
        install(session)
        function(session)

    run.__doc__ = function.__doc__
    return nox.session(name=function.__name__, venv_location=ENVIRONMENT)(run)


def install(session: nox.Session) -> None:
    """Install the project with what its tasks need, when its requirements changed."""
    needed = [ROOT / "pyproject.toml", ROOT / "constraints.txt"]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in needed)).hexdigest()
    stamp = Path(session.virtualenv.location) / "installed.sha256"
    if stamp.is_file() and stamp.read_text() == digest:
        return
    if "PIP_FIND_LINKS" in os.environ:
        session.env["UV_FIND_LINKS"] = os.environ["PIP_FIND_LINKS"]
    session.install("-c", "constraints.txt", "-e", ".[dev,bench]")
    stamp.write_text(digest)


@task
def book(session: nox.Session) -> None:
    """Tangle, execute, validate and render the whole book; prints where the page is."""
    session.run("bookbuild", "book", "-j", "0", *session.posargs)


@task
def tests(session: nox.Session) -> None:
    """Test the tool and the package; execute and validate every chapter."""
    session.run("bookbuild", "tangle", "--check")
    session.run("bookbuild", "execute", "--validate", "-j", "0")
    session.run("pytest", *session.posargs)


@task
def execute(session: nox.Session) -> None:
    """Run chapters: nox -s execute -- foundations/attention -j 2 --device cpu."""
    session.run("bookbuild", "execute", *session.posargs)


@task
def accept(session: nox.Session) -> None:
    """Make the outputs of chapters their references: nox -s accept -- CHAPTER…."""
    session.run("bookbuild", "accept", *session.posargs)


@task
def tangle(session: nox.Session) -> None:
    """Make the package in extracted/ from the chapters."""
    session.run("bookbuild", "tangle", *session.posargs)


@task
def check(session: nox.Session) -> None:
    """Drift, links, lint and types, in seconds."""
    session.run("bookbuild", "check")
    session.run("ruff", "format", "--check")
    session.run("ruff", "check")
    session.run("mypy")


@task
def serve(session: nox.Session) -> None:
    """Serve the site and reload a page when its chapter is saved."""
    session.run("bookbuild", "serve", *session.posargs)


@task
def pdf(session: nox.Session) -> None:
    """Typeset the printed book."""
    session.run("bookbuild", "pdf", *session.posargs)


@task
def epub(session: nox.Session) -> None:
    """Make the e-book."""
    session.run("bookbuild", "epub", *session.posargs)


@task
def notebooks(session: nox.Session) -> None:
    """Write the chapters as .ipynb files for Jupyter and Colab."""
    session.run("bookbuild", "notebooks", *session.posargs)


@task
def bench(session: nox.Session) -> None:
    """Run benchmarks and record them: nox -s bench -- tokenizer execute."""
    names = session.posargs or [
        path.stem
        for path in sorted((ROOT / "benchmarks").glob("*.py"))
        if path.stem != "harness"
    ]
    for name in names:
        session.run("python", f"benchmarks/{name}.py")
