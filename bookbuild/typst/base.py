"""What the families of visitors share: the page that they write, and how."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from docutils import nodes

from bookbuild.errors import Problem
from bookbuild.typst.markup import Piece, string

if TYPE_CHECKING:
    from sphinx.util.docutils import SphinxTranslator as Base
else:
    Base = object


@dataclass
class Page:
    """One document of the printed book: its text, and what goes to the back."""

    name: str
    path: str
    number: str = ""
    level: int = 2  # of its title: chapters stand in parts, the preface in the book
    title: list[Piece] = field(default_factory=list)
    body: list[Piece] = field(default_factory=list)
    solutions: list[Piece] = field(default_factory=list)
    answers: list[Piece] = field(default_factory=list)
    folded: list[Piece] = field(default_factory=list)
    placed: set[str] = field(default_factory=set)
    linked: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


class Writer(Base):
    """Pieces of source are added to `pieces`; a visitor writes its node whole."""

    if TYPE_CHECKING:
        builder: Any
    page: Page
    pieces: list[Piece]
    figures: dict[str, dict[str, tuple[int, ...]]]
    line = 0
    plain = 0  # above zero where a note at the foot of the page cannot stand
    unnamed = 0

    def problem(self, message: str, hint: str = "") -> None:
        self.page.problems.append(Problem(self.page.path, self.line, message, hint))

    def add(self, *pieces: Piece) -> None:
        self.pieces.extend(pieces)

    def children(self, node: nodes.Element | Iterable[nodes.Node]) -> None:
        for child in list(node.children if isinstance(node, nodes.Element) else node):
            child.walkabout(self)

    def captured(self, node: nodes.Element | Iterable[nodes.Node]) -> list[Piece]:
        """What the children write, taken out of the text."""
        outer, self.pieces = self.pieces, []
        try:
            self.children(node)
            return self.pieces
        finally:
            self.pieces = outer

    def to(self, target: list[Piece], write: Callable[[], None]) -> None:
        """Let `write` write to another part of the page, such as its solutions."""
        outer, self.pieces = self.pieces, target
        try:
            write()
        finally:
            self.pieces = outer

    def wrap(self, before: str, node: nodes.Element, after: str) -> None:
        self.add(before)
        self.children(node)
        self.add(after)
        raise nodes.SkipNode

    def identity(self, node: nodes.Element) -> str:
        return f"{self.page.name}#{node['ids'][0]}"

    def place(self, node: nodes.Element) -> str:
        """The node's name as a string literal; its other ids mean this one."""
        if node.get("ids"):
            identity = self.identity(node)
        else:
            self.unnamed += 1
            identity = f"{self.page.name}@{self.unnamed}"
        self.page.placed.add(identity)
        return string(identity)

    def mark(self, node: nodes.Element, after: str = "\n") -> None:
        if node.get("ids") and self.identity(node) not in self.page.placed:
            self.add(f"#anchor({self.place(node)});{after}")

    def target(self, node: nodes.Element) -> str:
        """The name of the place that a reference inside the book leads to."""
        if "refid" in node:
            name = f"{self.page.name}#{node['refid']}"
        else:
            name = node["refuri"].removeprefix("%")
        return str(self.builder.anchors.get(name, name))

    def heading(self, title: nodes.Element | None) -> list[Piece]:
        self.plain += 1
        pieces = self.captured(title) if title is not None else []
        self.plain -= 1
        return pieces

    def numbered(self, kind: str, node: nodes.Element) -> str:
        """The number as the text's references give it, a string literal."""
        number = self.figures.get(kind, {}).get((node.get("ids") or [""])[0])
        if not number:
            return "none"
        form = self.builder.config.numfig_format.get(kind, "%s")
        return string(form % ".".join(map(str, number)))

    def fields(self, node: nodes.Element) -> list[Piece]:
        """Pairs of name and content, as arguments."""
        pieces: list[Piece] = []
        for name, body in (entry.children for entry in node.findall(nodes.field)):
            pieces += ["([", *self.captured(name), "], [", *self.captured(body), "]), "]
        return pieces
