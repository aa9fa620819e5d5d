"""The book put together: front matter, parts, and what chapters give to the back."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bookbuild.book import Book
from bookbuild.typst.base import Page
from bookbuild.typst.formulas import source
from bookbuild.typst.markup import Formula, escape, string

HERE = Path(__file__).parent
TEMPLATES = ("template.typ", "blocks.typ")
SETTINGS = ("floats.json", "missing.json", "tight.json")  # found while compiling
PREFACE = "Preface"
BACK = {
    "Answers and solutions": ("answers", "solutions"),
    "Folded code": ("folded",),
}
NUMERALS = ((10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))


@dataclass(frozen=True)
class Assembly:
    """Everything that the sources of the book are made from.

    `pages` are in reading order; `anchors` has the place of a page's title by its name.
    """

    book: Book
    pages: tuple[Page, ...]
    anchors: Mapping[str, str]
    converted: dict[Formula, str]
    author: str
    language: str
    rights: str

    def files(self) -> dict[str, str]:
        """Each source by its path."""
        files = {name: (HERE / name).read_text(encoding="utf-8") for name in TEMPLATES}
        for page in self.pages:
            head = f'#import "/template.typ": *\n// {page.path}\n'
            files[f"pages/{page.name}.typ"] = head + source(page.body, self.converted)
            for kind in ("answers", "solutions", "folded"):
                pieces = getattr(page, kind)
                if pieces:
                    text = head + source(pieces, self.converted)
                    files[f"{kind}/{page.name}.typ"] = text
        indexed = any("#term" in text for text in files.values())
        files["main.typ"] = "".join(self._main(set(files), indexed))
        return files | dict.fromkeys(SETTINGS, "[]\n")

    def _main(self, given: set[str], indexed: bool) -> Iterator[str]:
        root, known = self.book.chapters[0], {page.name: page for page in self.pages}
        yield '#import "template.typ": *\n'
        yield f"#show: book.with(title: {string(root.title)}, "
        yield f"author: {string(self.author)}, language: {string(self.language)})\n"
        tagline = f"[{escape(root.summary)}]" if root.summary else "none"
        yield f"#title-page({string(root.title)}, {tagline}, "
        yield f"[{escape(self.author)}], [{self._imprint()}])\n"
        yield "#front[Contents]\n#contents()\n"
        if known[root.name].body:
            yield self._chapter(known[root.name], PREFACE, 1)
        begun = count = 0
        for part in self.book.parts:
            pages = [known[name] for name in part.names]
            if pages and pages[0].level == 2:
                if not begun:
                    yield "#show: main-matter\n"
                begun, count = 1, count + 1
                numeral = string(roman(count)) if pages[0].number else "none"
                yield f"#part({string(f'part@{count}')}, {numeral}, "
                yield f"[{escape(part.caption)}], ("
                for page in pages:
                    yield f"({self._place(page.name)}, {self._number(page)}, "
                    yield f"[{self._title(page)}]), "
                yield "))\n"
            for page in pages:
                yield self._chapter(page, self._title(page), page.level)
        for title, kinds in BACK.items():
            yield from self._back(title, kinds, given)
        if indexed:
            yield "#back[Index of terms]\n#index-pages()\n"
        yield "#layout-report\n"

    def _back(
        self, title: str, kinds: tuple[str, ...], given: set[str]
    ) -> Iterator[str]:
        begun = False
        for page in self.pages:
            names = [f"{kind}/{page.name}.typ" for kind in kinds]
            names = [name for name in names if name in given]
            if names and not begun:
                yield f"#back[{escape(title)}]\n"
                begun = True
            if names:
                yield f"#back-chapter({self._number(page)})[{self._title(page)}]\n"
            for name in names:
                yield f'#include "{name}"\n'

    def _chapter(self, page: Page, title: str, level: int) -> str:
        head = f"{self._place(page.name)}, {self._number(page)}, [{title}]"
        return (
            f"#matter({string(page.name)})[#chapter({head}, level: {level})\n"
            f'#include "pages/{page.name}.typ"\n]\n'
        )

    def _place(self, name: str) -> str:
        return string(self.anchors[name])

    def _number(self, page: Page) -> str:
        return string(page.number) if page.number else "none"

    def _title(self, page: Page) -> str:
        return source(page.title, self.converted)

    def _imprint(self) -> str:
        computed = (
            "Every figure and measured number was computed by the code beside it."
        )
        lines = [f"© {self.rights}" if self.rights else "", computed]
        return " \\\n".join(escape(line) for line in lines if line)


def roman(number: int) -> str:
    text = ""
    for value, letters in NUMERALS:
        count, number = divmod(number, value)
        text += letters * count
    return text
