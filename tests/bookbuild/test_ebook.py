"""The e-book: its package, its pages, and the format's own checker."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree
from zipfile import ZIP_STORED, ZipFile

import pytest
from printed import write_printed_book

from bookbuild.book import load
from bookbuild.errors import BookError
from bookbuild.typst import epub
from bookbuild.typst.ebook.pages import finished, vector

XHTML = "{http://www.w3.org/1999/xhtml}"
MATHML = "{http://www.w3.org/1998/Math/MathML}"
OPF = "{http://www.idpf.org/2007/opf}"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return epub(load(write_printed_book(tmp_path_factory.mktemp("ebook") / "book")))


@pytest.fixture(scope="session")
def package(made: Path) -> ZipFile:
    return ZipFile(made)


def tree(package: ZipFile, name: str) -> ElementTree.Element:
    return ElementTree.fromstring(package.read(name))


def checker() -> list[str]:
    """The command of epubcheck; Debian's is a Java archive that can be a command."""
    found = shutil.which("epubcheck")
    if not found:
        pytest.skip("epubcheck is not installed (Debian: apt-get install epubcheck)")
    if (
        Path(found).read_bytes()[:2] == b"PK"
        or b"\x00" in Path(found).read_bytes()[:64]
    ):
        return ["java", "-jar", found]
    return [found]


def test_epubcheck_finds_nothing(made: Path) -> None:
    done = subprocess.run(
        [*checker(), str(made)], capture_output=True, text=True, timeout=120
    )
    assert "0 fatals / 0 errors / 0 warnings" in done.stdout + done.stderr, (
        done.stdout + done.stderr
    )


def test_the_container_is_what_readers_expect(made: Path, package: ZipFile) -> None:
    first = package.infolist()[0]
    assert made.name == "a-printed-book.epub"
    assert first.filename == "mimetype" and first.compress_type == ZIP_STORED
    assert package.read("mimetype") == b"application/epub+zip"
    assert package.testzip() is None


def test_every_file_is_in_the_manifest_and_pages_in_reading_order(
    package: ZipFile,
) -> None:
    content = tree(package, "content.opf")
    items = {i.get("id"): i for i in content.iter(f"{OPF}item")}
    files = set(package.namelist()) - {
        "mimetype",
        "META-INF/container.xml",
        "content.opf",
    }
    assert {item.get("href") for item in items.values()} == files
    spine = [
        items[ref.get("idref")].get("href") for ref in content.iter(f"{OPF}itemref")
    ]
    pages = ["index", "before", "part/one", "part/two", "after"]
    assert spine == ["cover.xhtml", "nav.xhtml", *(f"{page}.xhtml" for page in pages)]
    one = next(i for i in items.values() if i.get("href") == "part/one.xhtml")
    assert "mathml" in (one.get("properties") or "")


def test_formulas_are_mathml(package: ZipFile) -> None:
    formulas = list(tree(package, "part/one.xhtml").iter(f"{MATHML}math"))
    assert len(formulas) >= 7
    assert any(formula.iter(f"{MATHML}mtr") for formula in formulas)


def test_the_contents_have_numbers_and_lead_to_places(package: ZipFile) -> None:
    nav = tree(package, "nav.xhtml")
    links = {"".join(a.itertext()): a.get("href") for a in nav.iter(f"{XHTML}a")}
    assert links["2 Two"] == "part/two.xhtml"
    page, _, anchor = (links["1.1 A section"] or "").partition("#")
    assert any(e.get("id") == anchor for e in tree(package, page).iter())
    assert "First part" in [s.text for s in nav.iter(f"{XHTML}span")]


def test_every_link_inside_leads_somewhere(package: ZipFile) -> None:
    ids = {
        name: {e.get("id") for e in tree(package, name).iter()}
        for name in package.namelist()
        if name.endswith(".xhtml")
    }
    for name in ids:
        for link in tree(package, name).iter(f"{XHTML}a"):
            target = link.get("href") or ""
            if "://" in target or target.startswith("mailto:"):
                continue
            page, _, anchor = target.partition("#")
            folder = Path(name).parent
            full = Path(*_normal(folder / page)).as_posix() if page else name
            assert full in ids, (name, target)
            assert not anchor or anchor in ids[full], (name, target)


def _normal(path: Path) -> list[str]:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return parts


def test_questions_answers_and_folded_code_are_there(package: ZipFile) -> None:
    one = " ".join("".join(tree(package, "part/one.xhtml").itertext()).split())
    two = " ".join("".join(tree(package, "part/two.xhtml").itertext()).split())
    assert "Right. Right indeed." in one and "The solution text." in one
    assert 'folded_code = "drawn"' in two and "extracted/part/two.py" in two
    assert "_modules" not in package.read("part/two.xhtml").decode()


def test_the_cover_is_a_picture(package: ZipFile) -> None:
    assert package.read("cover.png").startswith(b"\x89PNG")


def test_no_script_and_nothing_from_a_network(package: ZipFile) -> None:
    for name in package.namelist():
        if name.endswith(".xhtml"):
            page = tree(package, name)
            assert not list(page.iter(f"{XHTML}script"))
            for tag, key in (("img", "src"), ("link", "href")):
                assert all("://" not in e.get(key, "") for e in page.iter(XHTML + tag))


def test_the_same_book_gives_the_same_bytes(made: Path) -> None:
    before = made.read_bytes()
    assert epub(load(made.parents[2])).read_bytes() == before


def test_html_that_is_not_xml_is_an_error(make_book: Callable[..., Path]) -> None:
    root = make_book({"part/a": "# A\n\n<div><p>never closed\n"})
    with pytest.raises(BookError) as caught:
        epub(load(root))
    (problem,) = caught.value.problems
    assert problem.path == "book/part/a.md" and "not XML" in problem.message
    assert "close every element" in problem.hint


def test_pages_are_made_xml() -> None:
    assert finished("<br>a&nbsp;b &amp; <math display='block'>") == (
        "<br/>a\u00a0b &amp; "
        "<math xmlns=\"http://www.w3.org/1998/Math/MathML\" display='block'>"
    )


def test_pictures_lose_what_the_format_forbids() -> None:
    svg = b'<!DOCTYPE svg PUBLIC "x"\n "y">\n<svg><path id="a"/><path d="M1 1"/></svg>'
    assert vector(svg) == b'<svg><path d="M0 0" id="a"/><path d="M1 1"/></svg>'
