"""What must hold for every page, in a real browser, opened as a file."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
SMALLEST = 7.5  # CSS pixels of a figure's smallest letters
LETTERS = re.compile(r"translate\([^)]*\) scale\(([\d.]+) -[\d.]+\)")
NATURAL = re.compile(r'<svg\b[^>]*?\bwidth="([\d.]+)pt"')


class Visit:
    """A page with everything that it asked for and complained about."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on(
            "requestfailed",
            lambda request: self.complaints.append(f"failed: {request.url}"),
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self.console)

    def console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    contexts = []

    def open_page(address: str, *, width: int = 1280, **options: Any) -> Visit:
        contexts.append(
            browser.new_context(viewport={"width": width, "height": 900}, **options)
        )
        found = Visit(contexts[-1].new_page())
        found.page.goto(address)
        return found

    yield open_page
    for context in contexts:
        context.close()


def test_it_asks_the_network_for_nothing_and_complains_of_nothing(
    visit: Any, address: str
) -> None:
    found = visit(address)
    found.page.wait_for_load_state("networkidle")
    away = [url for url in found.requests if not url.startswith(("file:", "data:"))]
    assert away == []
    assert found.complaints == []


def test_it_does_not_scroll_sideways(visit: Any, address: str) -> None:
    page = visit(address).page
    widths = (320, 390, 820, 1280)
    taken = {}
    for width in widths:
        page.set_viewport_size({"width": width, "height": 800})
        taken[width] = page.evaluate("document.documentElement.scrollWidth")
    assert taken == {width: width for width in widths}


def test_axe_finds_nothing_in_light_and_in_dark(visit: Any, address: str) -> None:
    page = visit(address).page
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.add_script_tag(path=str(AXE))
    told = []
    for colours in ("light", "dark"):
        page.emulate_media(color_scheme=colours)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        told += [
            f"{colours} {rule['id']}: {node['html'][:160]}\n{node['failureSummary']}"
            for rule in found["violations"]
            for node in rule["nodes"]
        ]
    assert told == []


def test_each_picture_says_what_it_shows_and_is_there(visit: Any, address: str) -> None:
    page = visit(address).page
    pictures = page.evaluate(
        "[...document.images].map("
        "i => [i.src, (i.getAttribute('alt') || '').trim(), i.naturalWidth])"
    )
    for source, alt, width in pictures:
        assert alt and alt != Path(source).stem, f"{source} has no alt text"
        assert width > 0, f"{source} does not load"


def test_the_lettering_of_figures_is_legible_on_a_phone(
    visit: Any, address: str
) -> None:
    """Matplotlib's letters say their size; as shown at 400 px, none is tiny.

    A picture whose place a live figure has taken is not shown.
    """
    page = visit(address, width=400).page
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    pictures = page.evaluate(
        "[...document.querySelectorAll('figure img')].map("
        "i => [i.src, i.getBoundingClientRect().width])"
    )
    for source, width in pictures:
        text = Path(unquote(urlparse(source).path)).read_bytes().decode(errors="ignore")
        points = [100 * float(s) for s in LETTERS.findall(text)]
        natural = NATURAL.search(text)
        if width and points and natural:
            shown = min(points) * width / float(natural[1])
            assert shown >= SMALLEST, f"{source}: letters of {shown:.1f} px"


def test_each_link_within_the_site_leads_somewhere(visit: Any, address: str) -> None:
    page = visit(address).page
    links = page.evaluate(
        "[...document.links].map(a => a.href).filter(h => h.startsWith('file:'))"
    )
    for link in sorted(set(links)):
        parts = urlparse(link)
        target = Path(unquote(parts.path))
        assert target.is_file(), link
        if parts.fragment and target.suffix == ".html":
            identity = unquote(parts.fragment)
            assert f'id="{identity}"' in target.read_text(encoding="utf-8"), link


def test_it_is_light_and_paints_within_a_second(visit: Any, address: str) -> None:
    """All that a page loads but its figures; from the disk, the best of three times."""
    found = visit(address)
    page = found.page
    page.wait_for_load_state("networkidle")
    files = {
        Path(unquote(urlparse(url).path))
        for url in found.requests
        if url.startswith("file:")
    }
    weight = sum(f.stat().st_size for f in files if "_images" not in f.parts)
    assert weight < 600_000, sorted((f.stat().st_size, f.name) for f in files)
    paints = []
    for _ in range(3):
        page.reload()
        paints.append(
            page.evaluate(
                """() => new Promise(done => new PerformanceObserver(list => {
                  const paint = list.getEntriesByName('first-contentful-paint')[0];
                  if (paint) done(paint.startTime);
                  }).observe({type: 'paint', buffered: true}))"""
            )
        )
    assert min(paints) < 1000, paints


def test_the_keyboard_reaches_everything(visit: Any, address: str) -> None:
    """Tab visits each thing that a pointer can use; a group of choices is one stop."""
    page = visit(address).page
    page.wait_for_load_state("networkidle")
    wanted = page.evaluate(
        """() => {
          const stops = [...document.querySelectorAll(
            'a[href], button, summary, input:not([type=radio]), [tabindex="0"]')];
          const seen = e => e.checkVisibility({visibilityProperty: true})
            && !e.closest('details:not([open]) > :not(summary)');
          const radios = [...document.querySelectorAll('input[type=radio]')];
          const groups = new Set(radios.filter(seen).map(r => r.name));
          return stops.filter(seen).length + groups.size; }"""
    )
    page.evaluate("window.reached = new Set(); document.activeElement.blur()")
    page.evaluate(
        "document.addEventListener('focusin', ({target: t}) => "
        "reached.add(t.type === 'radio' ? t.name : t))"
    )
    for _ in range(wanted + 3):
        page.keyboard.press("Tab")
    assert page.evaluate("reached.size") >= wanted
