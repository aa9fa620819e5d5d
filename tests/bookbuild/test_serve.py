"""The server for writing: it reloads pages, tells problems, and stays alive."""

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from books import code, page

from bookbuild import serve
from bookbuild.errors import BookError, ConfigError, Problem

Make = Callable[..., Path]


class Running:
    """A server in a thread, with a build that the test decides."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.builds = 0
        self.fault: Exception | None = None
        self.stop = threading.Event()
        self.port = self.free_port()
        more: dict[str, Any] = {
            "port": self.port,
            "stop": self.stop,
            "build": self.build,
        }
        self.thread = threading.Thread(target=serve.serve, args=(root,), kwargs=more)
        self.thread.start()
        self.wait(lambda: self.builds == 1)

    @staticmethod
    def free_port() -> int:
        import socket

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
            return port

    def build(self) -> None:
        self.builds += 1
        if self.fault:
            raise self.fault
        page = self.root / "_build" / "html" / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(f"<html><body><p>build {self.builds}</p></body></html>")

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)

    def get(self, path: str = "/") -> str:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.port}{path}", timeout=5
        ) as answer:
            text: str = answer.read().decode()
            return text

    def events(self) -> Iterator[dict[str, Any]]:
        address = f"http://127.0.0.1:{self.port}{serve.EVENTS}"
        with urllib.request.urlopen(address, timeout=10) as stream:
            for line in stream:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])


@pytest.fixture
def running(make_book: Make) -> Iterator[Running]:
    found = Running(make_book({"part/a": "# A\n"}))
    yield found
    found.stop.set()
    found.thread.join(timeout=10)
    assert not found.thread.is_alive()


def test_a_page_gets_the_script_and_the_file_does_not(running: Running) -> None:
    running.wait(lambda: "build 1" in running.get())
    assert serve.EVENTS in running.get()
    file = running.root / "_build" / "html" / "index.html"
    assert serve.EVENTS not in file.read_text()


def test_a_saved_chapter_builds_and_tells_the_pages(
    running: Running, make_book: Make
) -> None:
    events = running.events()
    first = next(events)
    assert first["problems"] == []
    make_book({"part/a": "# A\n\nMore.\n"})
    second = next(events)
    assert second["version"] != first["version"]
    assert "build 2" in running.get()


def test_problems_are_told_and_mended(running: Running, make_book: Make) -> None:
    events = running.events()
    version = next(events)["version"]
    running.fault = BookError(Problem("book/part/a.md", 3, "wrong", "do right"))
    make_book({"part/a": "# A\n\nWrong.\n"})
    told = next(events)
    assert told["problems"] == ["book/part/a.md:3: error: wrong\nhint: do right"]
    assert told["version"] == version, "an open page must not reload"
    running.fault = ValueError("a fault of the tool")
    make_book({"part/a": "# A\n\nWorse.\n"})
    assert "a fault of the tool" in next(events)["problems"][0]
    running.fault = None
    make_book({"part/a": "# A\n\nRight.\n"})
    mended = next(events)
    assert mended["problems"] == [] and mended["version"] != version


def test_the_configuration_is_watched_too(running: Running) -> None:
    (running.root / "_config.yml").write_text("title: Another\n")
    running.wait(lambda: running.builds == 2)


def test_editors_scratch_files_are_not(running: Running) -> None:
    (running.root / "book" / "part" / ".a.md.swp").write_text("x")
    (running.root / "book" / "part" / "#a.md#").write_text("x")
    time.sleep(1)
    assert running.builds == 1


def test_a_file_outside_the_site_is_not_served(running: Running) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        running.get("/../../_toc.yml")
    assert caught.value.code == 404
    with pytest.raises(urllib.error.HTTPError):
        running.get("/none.css")


def test_a_taken_port_is_said(running: Running) -> None:
    with pytest.raises(ConfigError) as caught:
        serve.serve(running.root, port=running.port)
    assert "--port" in str(caught.value)


def test_a_rebuild_runs_the_code_and_renders_it(make_book: Make) -> None:
    root = make_book({"part/a": page(code("print(40 + 2)"))})
    serve.rebuild(root, "cpu")
    shown = root / "_build" / "html" / "part" / "a.html"
    assert "42" in shown.read_text(encoding="utf-8")
    make_book({"part/a": page(code("print(40 / 0)"))})
    with pytest.raises(BookError, match=r"book/part/a\.md:4"):
        serve.rebuild(root, "cpu")
    assert "42" in shown.read_text(encoding="utf-8")


def test_a_page_waits_for_the_first_build(make_book: Make) -> None:
    site = serve.Site(make_book({"part/a": "# A\n"}) / "_build" / "html")
    assert not site.folder.exists()
    assert b"being built" in serve.WAITING
