"""The project's tasks, thin calls of `bookbuild` and pytest; `nox -l` lists them."""

import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import nox

ROOT = Path(__file__).parent
# One environment for all tasks, which nox's own backends cannot share.
ENVIRONMENT = ROOT / ".nox" / "book-{}.{}".format(*sys.version_info)
SCRIPTS = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "none"
nox.options.sessions = ["book"]

Run = Callable[..., None]


def task(function: Callable[[Run, list[str]], None]) -> object:
    """A session: `function(run, arguments)`; `run` finds the environment's tools."""

    def session(session: nox.Session) -> None:
        # An environment that forbids bytecode would compile torch at every start.
        session.env["PYTHONDONTWRITEBYTECODE"] = ""
        session.env["VIRTUAL_ENV"] = str(ENVIRONMENT)
        session.env["PATH"] = os.pathsep.join([str(SCRIPTS), os.environ["PATH"]])
        install(session)

        def run(program: str, *arguments: str) -> None:
            session.run(str(SCRIPTS / program), *arguments)

        function(run, session.posargs)

    session.__doc__ = function.__doc__
    return nox.session(name=function.__name__)(session)


def install(session: nox.Session) -> None:
    """Make the environment, with uv where there is one, when requirements changed."""
    needed = [ROOT / "pyproject.toml", ROOT / "constraints.txt"]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in needed)).hexdigest()
    stamp = ENVIRONMENT / "installed.sha256"
    if stamp.is_file() and stamp.read_text() == digest:
        return
    place = str(ENVIRONMENT)
    project = ["install", "-c", "constraints.txt", "-e", ".[dev,bench]"]
    if uv := shutil.which("uv"):
        if "PIP_FIND_LINKS" in os.environ:
            session.env["UV_FIND_LINKS"] = os.environ["PIP_FIND_LINKS"]
        session.run(uv, "venv", "--allow-existing", "--python", sys.executable, place)
        session.run(uv, "pip", *project)
    else:
        session.run(sys.executable, "-m", "virtualenv", "--quiet", place)
        session.run(str(SCRIPTS / "python"), "-m", "pip", *project, "--quiet")
    stamp.write_text(digest)


@task
def book(run: Run, arguments: list[str]) -> None:
    """Tangle, execute, validate and render the whole book; prints where the page is."""
    run("bookbuild", "book", "-j", "0", *arguments)


@task
def tests(run: Run, arguments: list[str]) -> None:
    """Test everything; execute and validate every chapter, render the site."""
    run("bookbuild", "tangle", "--check")
    run("bookbuild", "book", "-j", "0")
    run("pytest", *arguments)


@task
def execute(run: Run, arguments: list[str]) -> None:
    """Run chapters: nox -s execute -- foundations/attention -j 2 --device cpu."""
    run("bookbuild", "execute", *arguments)


@task
def accept(run: Run, arguments: list[str]) -> None:
    """Make the outputs of chapters their references: nox -s accept -- CHAPTER…."""
    run("bookbuild", "accept", *arguments)


@task
def tangle(run: Run, arguments: list[str]) -> None:
    """Make the package in extracted/ from the chapters."""
    run("bookbuild", "tangle", *arguments)


@task
def check(run: Run, arguments: list[str]) -> None:
    """Drift, links, lint and types, in seconds."""
    run("bookbuild", "check", *arguments)
    run("ruff", "format", "--check")
    run("ruff", "check")
    run("mypy")


@task
def serve(run: Run, arguments: list[str]) -> None:
    """Serve the site and reload a page when its chapter is saved."""
    run("bookbuild", "serve", *arguments)


@task
def zip(run: Run, arguments: list[str]) -> None:
    """Put the site into one ZIP file, to unpack and read without a network."""
    run("bookbuild", "zip", *arguments)


@task
def pdf(run: Run, arguments: list[str]) -> None:
    """Typeset the printed book."""
    run("bookbuild", "pdf", *arguments)


@task
def epub(run: Run, arguments: list[str]) -> None:
    """Make the e-book."""
    run("bookbuild", "epub", *arguments)


@task
def notebooks(run: Run, arguments: list[str]) -> None:
    """Write the chapters as .ipynb files for Jupyter and Colab."""
    run("bookbuild", "notebooks", *arguments)


@task
def bench(run: Run, arguments: list[str]) -> None:
    """Run benchmarks and record them: nox -s bench -- tokenizer execute."""
    files = sorted((ROOT / "benchmarks").glob("*.py"))
    left_out = ("harness", "peers", "gsm8k")  # the last, for a large GPU, on request
    for name in arguments or [p.stem for p in files if p.stem not in left_out]:
        run("python", f"benchmarks/{name}.py")
