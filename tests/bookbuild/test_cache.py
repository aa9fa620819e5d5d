"""The store of results: what its keys see, and what no crash can do to it."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from books import code, page

from bookbuild import cache as caches
from bookbuild import key as keys
from bookbuild.book import Book, load
from bookbuild.cache import Cache, explain
from bookbuild.errors import BookError, ConfigError
from bookbuild.key import Keys, key_of
from bookbuild.scratch import owned, sweep

EXPORT = "def double(x):\n    return 2 * x"
BASE: dict[str, str] = {
    "p/a": page("Prose.\n", code(EXPORT, "export"), code("double(2)"), summary="A."),
    "p/b": page(
        code(
            "from extracted.p.a import double\ndef four(x):\n    return double(x) * 2",
            "export",
        ),
        summary="B.",
    ),
    "p/m": page(code("train()"), summary="M.", produces=["model"]),
    "p/c": page(
        "Words.\n",
        code("import yaml\nfrom extracted.p.b import four"),
        code("four(1)", ["hide-input"]),
        code("plot()", mystnb={"figure": {"name": "fig-a", "caption": "C."}}),
        summary="C.",
        needs=["model"],
        data=["numbers.json"],
    ),
}


@pytest.fixture
def edited(make_book: Callable[..., Path]) -> Callable[..., Book]:
    """The base book with some texts replaced: `edited({"p/a": [("old", "new")]})`."""

    def edit(changes: dict[str, list[tuple[str, str]]], data: str = "[1]") -> Book:
        files = dict(BASE)
        for name, replacements in changes.items():
            for old, new in replacements:
                assert old in files[name]
                files[name] = files[name].replace(old, new)
        root = make_book(files)
        (root / "numbers.json").write_text(data)
        return load(root)

    return edit


def key(book: Book, name: str = "p/c") -> str:
    return Keys(book).key(name)


def at(book: Book, start: str) -> str:
    """Where the chapter p/c has its first line that begins so, when it has one."""
    lines = book.chapter("p/c").text.split("\n")
    found = (i for i, line in enumerate(lines, 1) if line.startswith(start))
    return f"book/p/c.md:{next(found, 0)}"


@pytest.mark.parametrize(
    "changes",
    [
        {"p/c": [("Words.", "Other words.\n\nAnd a paragraph more.")]},
        {"p/c": [("summary: C.", "summary: Another.")]},
        {"p/c": [("hide-input", "remove-input")]},
        {"p/c": [("caption: C.", "caption: A better caption.")]},
        {"p/a": [("Prose.", "Poetry.")]},
        {"p/a": [("double(2)", "double(3)")]},
    ],
    ids="prose summary presentation caption other-prose other-cell".split(),  # noqa: SIM905,
)
def test_a_key_does_not_see(
    edited: Callable[..., Book], changes: dict[str, list[tuple[str, str]]]
) -> None:
    before = key(edited({}))
    assert key(edited(changes)) == before


def test_a_key_does_not_see_tolerances_and_the_tag_export(
    make_book: Callable[..., Path],
) -> None:
    plain = load(make_book({"p/a": page(code("x = 1"))}))
    before = key(plain, "p/a")
    tagged = load(make_book({"p/a": page(code("x = 1", ["export"], rtol=0.5))}))
    assert key(tagged, "p/a") == before


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"p/c": [("four(1)", "four(2)")]}, "cell at FOUR changed"),
        (
            {"p/c": [("- hide-input", "- raises-exception")]},
            "cell at FOUR changed",
        ),
        (
            {"p/c": [("tags:\n- hide-input", "timeout: 5")]},
            "cell at FOUR changed",
        ),
        ({"p/b": [("* 2", "* 3")]}, "extracted code of p/b changed"),
        ({"p/a": [("2 * x", "x + x")]}, "extracted code of p/a changed"),
        ({"p/m": [("train()", "train(1)")]}, "checkpoint model: p/m makes another one"),
        (
            {"p/c": [("four(1)\n```", "four(1)\n```\n\n" + code("5"))]},
            "cell at FIVE was added",
        ),
        (
            {"p/c": [(code("four(1)", ["hide-input"]), "")]},
            "1 cell removed after IMPORT",
        ),
        ({"p/c": [("import yaml\n", "")]}, "PyYAML"),
        (
            {"p/c": [("needs:\n  - model", "needs: []")]},
            "checkpoint model is not needed now",
        ),
    ],
    ids="cell tag timeout module far maker added removed import needs".split(),  # noqa: SIM905
)
def test_a_key_sees_and_tells(
    edited: Callable[..., Book],
    changes: dict[str, list[tuple[str, str]]],
    reason: str,
) -> None:
    before = edited({})
    old = Keys(before).components("p/c")
    after = edited(changes)
    new = Keys(after).components("p/c")
    assert key_of(new) != key_of(old)
    told = keys.differences(after, after.chapter("p/c"), old, new)
    for word, start in {"FOUR": "four(", "FIVE": "5", "IMPORT": "import"}.items():
        reason = reason.replace(word, at(after, start))
    assert any(reason in line for line in told), told


def test_a_key_sees_data_versions_device_python_and_helpers(
    edited: Callable[..., Book], monkeypatch: pytest.MonkeyPatch
) -> None:
    book = edited({})
    chapter = book.chapter("p/c")
    old = Keys(book).components("p/c")
    with monkeypatch.context() as patch:
        versions = {"numpy": "1.0", "ipykernel": None}
        real = keys._version
        patch.setattr(keys, "_version", lambda name: versions.get(name, real(name)))
        new = Keys(book).components("p/c")
    told = keys.differences(book, chapter, old, new)
    assert [line.split()[0] for line in told] == ["checkpoint", "ipykernel", "numpy"]
    assert told[1].endswith("-> none") and told[2].endswith("-> 1.0")

    book = edited({}, data="[2]")
    new = Keys(book).components("p/c")
    assert keys.differences(book, chapter, old, new) == [
        "data file numbers.json changed"
    ]

    book = edited({})
    with monkeypatch.context() as patch:
        patch.setattr(keys, "device_class", lambda device: "cuda 9.0")
        patch.setattr("platform.python_version", lambda: "3.99.0")
        new = Keys(book, "cuda").components("p/c")
    told = keys.differences(book, chapter, old, new)
    assert "device cpu -> cuda 9.0" in told
    assert any(t.startswith("python ") and t.endswith(" 3.99.0") for t in told)

    new = {**old, "helpers": "other", "format": 99, "produces": ["x"], "modules": {}}
    told = keys.differences(book, chapter, old, new)
    assert told == [
        "extracted code of p/a is not used now",
        "extracted code of p/b is not used now",
        "checkpoint x is produced now",
        "bookbuild/notebook.py changed",
        "bookbuild stores results in another way now",
    ]
    assert key_of(new) != key_of(old)


def test_versions_are_of_imports_declared_dependencies_and_the_kernel(
    make_book: Callable[..., Path],
) -> None:
    cells = "import yaml, os\nfrom nbclient.util import run_hook\nimport no_such_module"
    broken = code("import (", "raises-exception")
    root = make_book({"p/a": page(code(cells), broken)})
    (root / "pyproject.toml").write_text(
        "[project]\ndependencies = ['pytest>=8', 'absent-thing; os_name==\"x\"']\n"
    )
    found = Keys(load(root)).components("p/a")["packages"]
    assert {"PyYAML", "nbclient", "pytest", "ipykernel", "numpy"} <= set(found)
    assert not {"os", "no_such_module", "absent-thing", "sphinx"} & set(found)
    assert found["pytest"] == pytest.__version__


def test_a_broken_pyproject_is_named(make_book: Callable[..., Path]) -> None:
    root = make_book({"p/a": page(code("1"))})
    (root / "pyproject.toml").write_text("[project\n")
    with pytest.raises(ConfigError, match=r"pyproject\.toml: error: not TOML"):
        Keys(load(root)).key("p/a")


def test_a_chapter_that_imports_its_own_module_depends_on_it(
    make_book: Callable[..., Path],
) -> None:
    cell = code("import extracted.p.a")
    book = load(make_book({"p/a": page(code("x = 1", "export"), cell)}))
    assert list(Keys(book).components("p/a")["modules"]) == ["p/a"]


def test_two_chapters_of_the_same_code_have_two_keys(
    make_book: Callable[..., Path],
) -> None:
    book = load(make_book({"p/a": page(code("1")), "p/b": page(code("1"))}))
    assert key(book, "p/a") != key(book, "p/b")


def test_the_device_class(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = types.SimpleNamespace(
        cuda=types.SimpleNamespace(
            is_available=lambda: True, get_device_capability=lambda device: (9, 0)
        ),
        backends=types.SimpleNamespace(
            mps=types.SimpleNamespace(is_available=lambda: False)
        ),
        device=lambda name: name,
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    keys.device_class.cache_clear()
    try:
        assert keys.device_class("cpu") == "cpu"
        assert keys.device_class("cuda:1") == "cuda 9.0"
        with pytest.raises(ConfigError, match="torch finds no 'mps'"):
            keys.device_class("mps")
        with pytest.raises(ConfigError, match="unknown device 'abacus'"):
            keys.device_class("abacus")
    finally:
        keys.device_class.cache_clear()


# The store itself, with made-up results.


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Cache]:
    warnings: list[str] = []
    made = Cache(tmp_path / "_build" / "cache", warnings.append)
    made.warnings = warnings  # type: ignore[attr-defined]
    yield made


def put(store: Cache, text: str = "x", size: int = 1000, **more: Any) -> caches.Entry:
    """Store a result for the components `{"of": text}`, with one checkpoint."""
    with store.scratch() as place:
        checkpoint = place / "model"
        checkpoint.mkdir()
        (checkpoint / "weights").write_bytes(text.encode() * size)
        notebook = json.dumps({"cells": [], "text": text * size})
        run = {"seconds": 1.5, "cells": []}
        more.setdefault("chapter", "p/a")
        return store.put(
            more.pop("chapter"), {"of": text}, notebook, run, [checkpoint], **more
        )


def test_what_was_put_is_got(store: Cache) -> None:
    stored = put(store)
    found = store.get(key_of({"of": "x"}), checkpoints=True)
    assert found is not None
    assert (found.chapter, found.run["seconds"]) == ("p/a", 1.5)
    assert found.notebook["text"] == "x" * 1000
    assert (found.checkpoint("model") / "weights").read_bytes() == b"x" * 1000
    assert found.path == stored.path
    assert not (found.checkpoint("model") / "weights").stat().st_mode & 0o222
    assert [p.name for p in store.directory.iterdir()] == [found.path.name]
    assert store.get(key_of({"of": "y"})) is None
    assert store.warnings == []  # type: ignore[attr-defined]
    assert store.seconds() == {"p/a": 1.5}


FILES = ["notebook.ipynb", "run.json", "manifest.json", "checkpoints/model/weights"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["truncate", "empty", "flip", "delete"])
def test_a_damaged_entry_is_noticed_and_removed(
    store: Cache, file: str, damage: str
) -> None:
    path = put(store).path / file
    path.chmod(0o644)
    content = path.read_bytes()
    if damage == "truncate":
        path.write_bytes(content[:-7])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "delete":
        path.unlink()
    else:
        middle = len(content) // 2
        flipped = bytes([content[middle] ^ 1])
        path.write_bytes(content[:middle] + flipped + content[middle + 1 :])
    assert store.get(key_of({"of": "x"}), checkpoints=True) is None
    (warning,) = store.warnings  # type: ignore[attr-defined]
    assert "is damaged" in warning and "made anew" in warning
    assert list(store.directory.iterdir()) == []
    assert put(store).notebook["text"] == "x" * 1000


def test_another_build_s_result_stays_unless_replaced(store: Cache) -> None:
    first = put(store).path.stat().st_ino
    assert put(store).path.stat().st_ino == first
    assert put(store, replace=True).path.stat().st_ino != first


def test_a_damaged_entry_gives_way(store: Cache) -> None:
    path = put(store).path / "run.json"
    path.chmod(0o644)
    path.write_text("{")
    assert put(store).run["seconds"] == 1.5
    assert len(store.warnings) == 1  # type: ignore[attr-defined]


def test_the_last_five_used_are_kept(store: Cache) -> None:
    for i in range(caches.KEPT):
        os.utime(put(store, str(i)).path, (1000 + i, 1000 + i))
    put(store, "other", chapter="p/b")
    assert store.get(key_of({"of": "0"})) is not None  # used now, so not the oldest
    put(store, "new")
    kept = [e.components["of"] for e in store.entries("p/a")]
    assert sorted(kept) == ["0", "2", "3", "4", "new"]
    assert len(store.entries("p/b")) == 1


def child(work: Callable[[], Any]) -> int:
    """Run `work` in a forked process; returns its pid."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@needs_fork
def test_builds_at_once_do_not_harm_each_other(store: Cache) -> None:
    def work() -> None:
        for i in range(30):
            entry = put(store, str(i % 3), replace=i % 7 == 0)
            assert entry.notebook["text"] == str(i % 3) * 1000

    pids = [child(work) for _ in range(4)]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 4
    for i in range(3):
        assert store.get(key_of({"of": str(i)}), checkpoints=True) is not None
    assert store.warnings == []  # type: ignore[attr-defined]
    assert not list(store.directory.glob(".bookbuild-*"))


@needs_fork
def test_kill_9_at_any_moment_leaves_whole_entries(store: Cache) -> None:
    def work() -> None:
        while True:
            put(store, random.choice("ab"), size=200_000, replace=True)

    chance = random.Random(0)
    leftovers = 0
    for _ in range(25):
        pid = child(work)
        time.sleep(chance.uniform(0.005, 0.08))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for text in "ab":
            store.get(key_of({"of": text}), checkpoints=True)
        leftovers += len(list(store.directory.glob(".bookbuild-*")))
        sweep(store.directory)
        assert not list(store.directory.glob(".bookbuild-*"))
    assert store.warnings == []  # type: ignore[attr-defined]
    assert leftovers, "no kill met a write: the test proves nothing"
    assert put(store, "c").notebook["text"] == "c" * 1000


@needs_fork
def test_a_write_that_fails_half_way_is_told_and_harms_nothing(store: Cache) -> None:
    kept = put(store, "kept")

    resource = pytest.importorskip("resource")

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        with pytest.raises((BookError, OSError), match="File too large"):
            put(store, "large", size=100_000)

    assert os.waitpid(child(work), 0)[1] == 0
    assert store.get(key_of({"of": "large"})) is None
    assert store.get(kept.path.name, checkpoints=True) is not None
    assert put(store, "large", size=100_000).notebook["text"] == "large" * 100_000
    assert store.warnings == []  # type: ignore[attr-defined]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if (
        not shutil.which("mount")
        or subprocess.run(command, capture_output=True).returncode
    ):
        pytest.skip("cannot mount a small disk here")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_told_and_harms_nothing(small_disk: Path) -> None:
    warnings: list[str] = []
    store = Cache(small_disk / "_build" / "cache", warnings.append)
    kept = put(store, "kept")
    (small_disk / "filler").write_bytes(b"x" * 700_000)
    with pytest.raises(BookError) as caught:
        store.put(
            "p/a", {"of": "big"}, json.dumps({"x": "y" * 10**6}), {"seconds": 1.0}
        )
    assert str(caught.value) == (
        "_build/cache: error: cannot be written: No space left on device\n"
        "hint: free disk space, or give yourself write permission there; "
        "what was cached before is unharmed"
    )
    assert store.get(kept.path.name, checkpoints=True) is not None
    assert not list(store.directory.glob(".bookbuild-*"))
    (small_disk / "filler").unlink()
    assert put(store, "big", size=10_000).notebook["text"] == "big" * 10_000
    assert warnings == []


def test_a_damaged_entry_goes_even_when_nothing_can_be_created(
    store: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(store).path

    def full(*arguments: Any, **more: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    store.remove(path.name)
    assert not path.exists()
    with pytest.raises(BookError, match="No space left on device"):
        put(store)


@needs_fork
def test_sweep_removes_what_the_dead_left_and_nothing_else(tmp_path: Path) -> None:
    pid = child(lambda: None)
    os.waitpid(pid, 0)
    host = socket.gethostname()
    names = {
        "dead": f".bookbuild-{host}-{pid}-abc",
        "mine": f"{owned()}abc",
        "elsewhere": f".bookbuild-not-{host}-{pid}-abc",
        "forgotten": f".bookbuild-not-{host}-1-old",
        "unrelated": "0123",
    }
    for name in names.values():
        (tmp_path / name / "inside").mkdir(parents=True)
    os.utime(tmp_path / names["forgotten"], (0, 0))
    sweep(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {names["mine"], names["elsewhere"], names["unrelated"]}
    sweep(tmp_path / "absent")


def test_explain(edited: Callable[..., Book], make_book: Callable[..., Path]) -> None:
    book = edited({})
    store = Cache(book.build / "cache", lambda text: None)
    assert explain(book, "index") == [
        "the page has no code cells: there is nothing to execute"
    ]
    assert explain(book, "p/c") == ["no result is stored: it never ran to its end here"]
    components = Keys(book).components("p/c")
    run = {"seconds": 1.0, "cells": []}
    entry = store.put("p/c", components, "{}", run)
    assert explain(book, "p/c") == ["nothing changed: cached"]
    newer = {**components, "device": "cuda 9.0"}
    store.put("p/c", newer, "{}", run)
    changed = edited({"p/a": [("2 * x", "x * 2")], "p/c": [("four(1)", "four(9)")]})
    assert explain(changed, "book/p/c.md") == [
        f"cell at {at(changed, 'four(')} changed",
        "extracted code of p/a changed",
    ]
    (entry.path / "run.json").chmod(0o644)
    (entry.path / "run.json").write_text("")
    told = explain(edited({}), "p/c")
    assert "is damaged (run.json has another size)" in told[0]
    assert told[1:] == ["device cuda 9.0 -> cpu"]
