"""A browser and two sites: a small sample, and the book itself once it is built."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import samples  # noqa: E402

ROOT = HERE.parents[1]
BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
)
SAMPLE = [
    "index",
    "part/counting",
    "part/attending",
    "appendix/map",
    "appendix/glossary",
    "appendix/references",
    "_modules/part/counting",
    "search",
]


def find_browser() -> str | None:
    """`CHROMIUM`, or a browser on the path."""
    named = [os.environ.get("CHROMIUM"), *map(shutil.which, BROWSERS)]
    return next((place for place in named if place and Path(place).exists()), None)


def pages_of_the_book() -> list[str]:
    """Pages of the rendered book; none when `_build/html` is not there."""
    folder = ROOT / "_build" / "html"
    if not (folder / "index.html").is_file():
        return []
    return [
        p.relative_to(folder).with_suffix("").as_posix()
        for p in sorted(folder.rglob("*.html"))
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "page_of" in metafunc.fixturenames:
        cases = [("sample", name) for name in SAMPLE]
        cases += [("book", name) for name in pages_of_the_book()]
        metafunc.parametrize(
            "page_of", cases, ids=[f"{site}:{name}" for site, name in cases]
        )


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's site, rendered once; its folder has a space and an accent."""
    from bookbuild.render import html

    root = tmp_path_factory.mktemp("sample") / "a bök"
    book = samples.execute(samples.write(root))
    return html(book).parent


@pytest.fixture
def address(page_of: tuple[str, str], sample: Path) -> str:
    """The file address of one page of the sample or of the book."""
    site, name = page_of
    folder = sample if site == "sample" else ROOT / "_build" / "html"
    return (folder / f"{name}.html").as_uri()


@pytest.fixture(scope="module")  # while it runs, nothing else may run an event loop
def browser() -> Iterator[object]:
    executable = find_browser()
    if executable is None:
        pytest.skip("no Chromium: install one, or set CHROMIUM to its path")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu"]
        )
        yield running
        running.close()
