"""A reader's machine: the project installed from its wheel, a notebook run elsewhere.

The wheel is built from a copy of what is committed and installed in a fresh environment
that sees the packages of this one, but nothing of the repository.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from bookbuild.book import Book, load
from bookbuild.chapter import Chapter
from bookbuild.errors import BookError
from bookbuild.key import imported
from bookbuild.render import downloads
from bookbuild.site.notebooks import Exporter
from bookbuild.stage import composed

ROOT = Path(__file__).parents[1]
NEEDS = "foundations/data"  # runs in seconds and needs a checkpoint of another chapter
MODULES = {"scikit-learn": "sklearn"}  # where a module's name is not its package's
JUPYTERS = {"psutil"}  # ipykernel brings it, and nothing runs a notebook without that
PACKED = ("bookbuild", "extracted", "benchmarks/results")
FILES = ("pyproject.toml", "README.md", "LICENSE", "LICENSE-prose")


class Reader:
    """A fresh environment, and a home folder outside the repository."""

    def __init__(self, home: Path, python: Path) -> None:
        self.home, self.python = home, python
        dropped = ("PYTHON", "BOOK_", "JUPYTER", "IPYTHON", "VIRTUAL_ENV")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
        self.environment = {**kept, "HOME": str(home), "USERPROFILE": str(home)}

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(self.python), *arguments],
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("reader")
    source = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in PACKED:
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wheel = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*pip, *wheel, str(source)], check=True)
    (built,) = folder.glob("*.whl")
    shutil.rmtree(source)
    place = folder / "environment"
    venv.create(place, with_pip=False)
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    install = ["--python", str(python), "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, *install, str(built)], check=True)
    home = folder / "home"
    home.mkdir()
    found = Reader(home, python)
    # Debian's site.getsitepackages() names folders that a virtual environment lacks.
    own = found.run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    # Of a folder named here, Python reads no .pth: not that of an editable install.
    (Path(own.strip()) / "others.pth").write_text("\n".join(others()) + "\n")
    yield found


def others() -> list[str]:
    """Where the packages of this environment are."""
    import site

    return [path for path in site.getsitepackages() if Path(path).is_dir()]


@pytest.fixture(scope="module")
def book() -> Book:
    return load(ROOT)


def executed(book: Book, chapter: Chapter) -> list[dict[str, Any]]:
    try:
        return list(composed(book, chapter)["cells"])
    except BookError as error:
        pytest.skip(str(error.problems[0]))


def test_the_package_comes_from_the_wheel_with_its_records(reader: Reader) -> None:
    code = "import extracted, bookbuild.notebook as n; print(extracted.__file__); "
    code += "print(n.__file__); print(sorted(n.record('tokenizer')))"
    *places, keys = reader.run("-c", code).splitlines()
    environment = reader.python.parents[1]
    for place in places:
        assert Path(place).is_relative_to(environment), place
    recorded = json.loads((ROOT / "benchmarks/results/tokenizer.json").read_text())
    assert keys == str(sorted(recorded))


def test_a_notebook_runs_far_from_the_book(reader: Reader, book: Book) -> None:
    """Jupyter's own command runs it; the checkpoint that it needs is trained here."""
    chapter = book.chapter(NEEDS)
    assert chapter.needs
    cells = executed(book, chapter)
    text = Exporter(book, "extracted").notebook(chapter, cells, outputs=False)
    clean = nbformat.reads(text, as_version=4)
    last = "import extracted\nprint(extracted.__file__)"
    clean.cells.append(nbformat.v4.new_code_cell(last))
    nbformat.write(clean, reader.home / "chapter.ipynb")
    jupyter = "from nbclient.cli import main; main()"
    reader.run("-c", jupyter, "chapter.ipynb", "--inplace", "--timeout=300")
    done = nbformat.read(reader.home / "chapter.ipynb", as_version=4)
    place = done.cells[-1].outputs[0]["text"].strip()
    assert Path(place).is_relative_to(reader.python.parents[1])
    checkpoints = reader.home / ".cache" / "extracted" / "checkpoints"
    made = {path.name for path in checkpoints.iterdir()}
    assert made == {*chapter.needs, *chapter.produces}
    assert failed(done) == expected_to_fail(chapter)


def failed(done: nbformat.NotebookNode) -> list[str]:
    """The cells that ended with an error."""
    return [
        cell.id
        for cell in done.cells
        if any(output["output_type"] == "error" for output in cell.get("outputs", ()))
    ]


def expected_to_fail(chapter: Chapter) -> list[str]:
    return [
        f"cell-{cell.index}"
        for cell in chapter.code_cells
        if "raises-exception" in cell.tags
    ]


def test_chapters_import_only_what_is_installed_with_the_package(book: Book) -> None:
    """`pip install .` and Jupyter are enough for each notebook."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    requirements = project["project"]["dependencies"]
    names = {re.split(r"[^\w-]", line)[0].lower() for line in requirements}
    installed = {MODULES.get(name, name) for name in names}
    for chapter in book.chapters:
        modules = {name.lower() for name in imported(list(chapter.code_cells))}
        assert modules <= installed | JUPYTERS, chapter.source


def test_every_notebook_installs_itself_on_colab(book: Book) -> None:
    for chapter in book.select():
        executed(book, chapter)
    for name, text in downloads(book).items():
        first = nbformat.reads(text, as_version=4).cells[0]
        assert '"google.colab" in sys.modules' in first.source, name
        plain = re.sub(r"%pip .*", "pass", first.source)
        installed = re.search(r'%pip install --quiet "git\+(\S+)"', first.source)
        assert installed and ast.parse(plain), name
