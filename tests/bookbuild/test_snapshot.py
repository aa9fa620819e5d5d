"""The package as it stands after a chapter."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from books import code, page, refusal

from bookbuild.book import load
from bookbuild.snapshot import snapshot

MakeBook = Callable[..., Path]


@pytest.fixture
def root(make_book: MakeBook) -> Path:
    return make_book(
        {
            "one/a": page(code("x = 1", "export")),
            "one/b": page(code("from extracted.one.a import x\ny = x + 1", "export")),
            "two/c": page(code("z = 3", "export")),
        }
    )


def test_it_holds_the_modules_up_to_the_chapter_and_they_run(
    root: Path, tmp_path: Path
) -> None:
    target = tmp_path / "after one b"
    assert snapshot(load(root), "one/b", target) == [
        "extracted/__init__.py",
        "extracted/one/__init__.py",
        "extracted/one/a.py",
        "extracted/one/b.py",
        "extracted/py.typed",
    ]
    found = [p.relative_to(target).as_posix() for p in target.rglob("*.*")]
    assert sorted(found) == snapshot(load(root), "one/b", tmp_path / "again")
    run = subprocess.run(
        [sys.executable, "-c", "from extracted.one.b import y; print(y)"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
    )
    assert (run.stdout, run.returncode) == ("2\n", 0)


def test_before_the_first_chapter_the_package_is_empty(
    root: Path, tmp_path: Path
) -> None:
    written = snapshot(load(root), "index", tmp_path / "new")
    assert written == ["extracted/__init__.py", "extracted/py.typed"]


def test_it_writes_into_a_new_or_empty_folder_only(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert snapshot(load(root), "one/a", tmp_path / "empty")
    for taken in (tmp_path / "empty", root / "_toc.yml"):
        assert refusal(lambda folder=taken: snapshot(load(root), "one/a", folder)) == [
            f"{taken.as_posix()}: error: is not empty\nhint: name a new folder"
        ]


def test_an_unknown_chapter(root: Path, tmp_path: Path) -> None:
    [problem] = refusal(lambda: snapshot(load(root), "one/z", tmp_path / "new"))
    assert problem.startswith("_toc.yml: error: no chapter 'one/z'")
    assert not (tmp_path / "new").exists()
