"""A local server for writing: save a chapter, it runs, and its page reloads."""

import json
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bookbuild.book import TOC, load
from bookbuild.errors import BookError, ConfigError, Problem
from bookbuild.render import CONFIG

EVENTS = "/__bookbuild__/events"
SCRIPT = """\
<script>
(function () {
  var source = new EventSource("%(events)s"), version = "%(version)s";
  source.onmessage = function (event) {
    var news = JSON.parse(event.data);
    var old = document.getElementById("bookbuild-problems");
    if (old) old.remove();
    if (news.problems.length) {
      var box = document.createElement("div");
      box.id = "bookbuild-problems";
      box.setAttribute("role", "alert");
      box.style.cssText = "position:fixed;z-index:99;inset:auto 1rem 1rem 1rem;" +
        "max-height:60vh;overflow:auto;padding:1rem 1.2rem;background:#2b1111;" +
        "color:#ffe9e2;border:2px solid #d55e00;border-radius:6px;" +
        "font:14px/1.5 ui-monospace,monospace;white-space:pre-wrap";
      box.textContent = news.problems.join("\\n\\n");
      document.body.appendChild(box);
    } else if (news.version !== version) location.reload();
  };
})();
</script>
"""
WAITING = (
    b"<!DOCTYPE html><title>Building</title>"
    b"<body><p>The book is being built.</p></body>"
)


class Site:
    """What pages need to know: the version, and the problems of the last build."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.version = f"{time.time_ns():x}"
        self.problems: tuple[str, ...] = ()
        self.changed = threading.Condition()
        self.closed = False

    def announce(self, problems: tuple[str, ...] = ()) -> None:
        with self.changed:
            self.problems = problems
            if not problems:
                self.version = f"{time.time_ns():x}"
            self.changed.notify_all()

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def news(self) -> Iterator[str]:
        """One message now and one after each build; an empty one as a sign of life."""
        with self.changed:
            while not self.closed:
                yield json.dumps({"version": self.version, "problems": self.problems})
                while not self.changed.wait(timeout=15) and not self.closed:
                    yield ""


class Handler(SimpleHTTPRequestHandler):
    """Serves the site's files; pages get the script that listens for the next build."""

    def __init__(self, *arguments: Any, site: Site) -> None:
        self.site = site
        super().__init__(*arguments, directory=str(site.folder))

    def do_GET(self) -> None:
        if self.path == EVENTS:
            self._events()
            return
        path = Path(self.translate_path(self.path))
        if path.is_dir():
            path /= "index.html"
        if path.suffix == ".html" and path.is_file():
            self._page(path.read_bytes())
        elif path.name == "index.html":
            self._page(WAITING)
        else:
            super().do_GET()

    def _page(self, page: bytes) -> None:
        script = (SCRIPT % {"events": EVENTS, "version": self.site.version}).encode()
        before, tag, after = page.rpartition(b"</body>")
        page = before + script + tag + after
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def _events(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for message in self.site.news():
                text = f"data: {message}\n\n" if message else ": alive\n\n"
                self.wfile.write(text.encode())
                self.wfile.flush()
        except (BrokenPipeError, ConnectionError):
            return  # the page was closed

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """The terminal shows builds, not requests."""


class Server(ThreadingHTTPServer):
    daemon_threads = True


def rebuild(root: Path, device: str) -> None:
    """Tangle, run what changed, render the changed pages. Raises `BookError`."""
    from bookbuild.execute import execute
    from bookbuild.render import html
    from bookbuild.tangle import tangle

    book = load(root)
    tangle(book)
    results = execute(book, device=device)
    problems = [problem for result in results for problem in result.problems]
    if problems:
        raise BookError(*problems)
    html(book, complete=False)


def attempt(site: Site, build: Callable[[], None]) -> None:
    """Build once; tell the terminal and the open pages how it went."""
    start = time.perf_counter()
    try:
        build()
    except BookError as error:
        site.announce(tuple(map(str, error.problems)))
        print(error, file=sys.stderr)
        print("the page shows the last good build", file=sys.stderr)
    except Exception:
        text = traceback.format_exc()
        site.announce((f"a fault of bookbuild:\n{text}",))
        print(text, file=sys.stderr)
    else:
        site.announce()
        print(f"built in {time.perf_counter() - start:.1f} s", flush=True)


def serve(
    root: Path,
    *,
    port: int = 8000,
    device: str = "cpu",
    stop: threading.Event | None = None,
    build: Callable[[], None] | None = None,
) -> None:
    """Serve the site on this machine alone until interrupted, and follow changes."""
    root = root.resolve()
    site = Site(root / "_build" / "html")
    try:
        server = Server(("127.0.0.1", port), partial(Handler, site=site))
    except OSError as error:
        message = f"port {port} cannot be used: {error.strerror}"
        raise ConfigError(
            Problem("serve", 0, message, "choose another: --port 8001")
        ) from error
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}/ (stop with Ctrl-C)", flush=True)
    try:
        for _ in _changes(root, stop or threading.Event()):
            attempt(site, build or partial(rebuild, root, device))
    finally:
        site.close()
        server.shutdown()
        server.server_close()


def _changes(root: Path, stop: threading.Event) -> Iterator[None]:
    """Once at the start, then after each change of the book's text or configuration."""
    from watchfiles import watch

    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    seen = _marks(root)
    yield
    watching = watch(
        root / "book",
        debounce=300,
        step=50,
        rust_timeout=300,
        yield_on_timeout=True,
        stop_event=stop,
        raise_interrupt=True,
    )
    for _ in watching:
        now = _marks(root)
        if now != seen:
            seen = now
            yield


def _marks(root: Path) -> dict[str, tuple[int, int]]:
    """Size and time of each file that matters, to tell a change from a look."""
    files = [root / TOC, root / CONFIG, *(root / "book").rglob("*")]
    marks: dict[str, tuple[int, int]] = {}
    for path in files:
        if (
            path.is_file()
            and not path.name.startswith((".", "#"))
            and path.suffix != ".swp"
        ):
            status = path.stat()
            marks[str(path)] = (status.st_size, status.st_mtime_ns)
    return marks
