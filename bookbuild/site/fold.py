"""Folded admonitions, and footnotes as notes in the margin (HTML only)."""

from typing import Any

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.writers.html5 import HTML5Translator


class fold(nodes.General, nodes.Element):
    """An admonition with the class `dropdown`: a `fold_title`, then its blocks."""


class fold_title(nodes.Part, nodes.TextElement):
    """What stands on a fold while it is closed."""


class sidenote(nodes.Inline, nodes.TextElement):
    """A footnote's content where it is referred to. Attribute: `number`."""


class sidenote_below(nodes.General, nodes.TextElement):
    """The same after the paragraph, for narrow screens. Attribute: `number`."""


NODES: tuple[type[Any], ...] = (fold, fold_title, sidenote, sidenote_below)


class Folds(SphinxPostTransform):
    """Hints, solutions and other admonitions of class `dropdown` open and close."""

    default_priority = 800
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        for node in list(self.document.findall(nodes.Admonition)):
            if not isinstance(node, nodes.Element) or "dropdown" not in node["classes"]:
                continue
            classes = [
                c for c in node["classes"] if c not in ("dropdown", "admonition")
            ]
            classes.append(node.tagname.removesuffix("_node"))
            folded = fold("", ids=node["ids"], classes=list(dict.fromkeys(classes)))
            children = list(node.children)
            if children and isinstance(children[0], nodes.title):
                title = children.pop(0)
                folded += fold_title("", title.astext())
            else:
                folded += fold_title("", node.tagname.capitalize())
            folded += children
            node.replace_self(folded)


class Sidenotes(SphinxPostTransform):
    """Footnotes of one paragraph go beside the text; longer ones stay at the end."""

    default_priority = 810
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        notes = {
            i: note
            for note in self.document.findall(nodes.footnote)
            for i in note["ids"]
        }
        for reference in list(self.document.findall(nodes.footnote_reference)):
            note = notes.get(reference.get("refid", ""))
            if note is None or len(note.get("backrefs", ())) != 1:
                continue
            blocks = [c for c in note.children if not isinstance(c, nodes.label)]
            if len(blocks) != 1 or not isinstance(blocks[0], nodes.paragraph):
                continue
            paragraph = reference.parent
            while paragraph is not None and not isinstance(paragraph, nodes.paragraph):
                paragraph = paragraph.parent
            if paragraph is None:
                continue
            number, content = reference.astext(), blocks[0]
            copy = content.deepcopy()
            below = sidenote_below("", "", *copy.children, number=number)
            place = paragraph.parent.index(paragraph) + 1
            while place < len(paragraph.parent) and isinstance(
                paragraph.parent[place], sidenote_below
            ):
                place += 1
            paragraph.parent.insert(place, below)
            reference.replace_self(sidenote("", "", *content.children, number=number))
            note.parent.remove(note)
        if not any(True for _ in self.document.findall(nodes.footnote)):
            for line in list(self.document.findall(nodes.transition)):
                if "footnotes" in line["classes"]:
                    line.parent.remove(line)


def visit_fold(self: HTML5Translator, node: fold) -> None:
    self.body.append(self.starttag(node, "details", CLASS="admonition fold"))


def depart_fold(self: HTML5Translator, node: fold) -> None:
    self.body.append("</details>\n")


def visit_fold_title(self: HTML5Translator, node: fold_title) -> None:
    self.body.append('<summary class="admonition-title">')


def depart_fold_title(self: HTML5Translator, node: fold_title) -> None:
    self.body.append("</summary>\n")


def visit_sidenote(self: HTML5Translator, node: sidenote) -> None:
    number = node["number"]
    self.body.append(
        f'<sup class="sidenote-number">{number}</sup>'
        f'<small class="sidenote" role="note"><sup>{number}</sup> '
    )


def depart_sidenote(self: HTML5Translator, node: sidenote) -> None:
    self.body.append("</small>")


def visit_sidenote_below(self: HTML5Translator, node: sidenote_below) -> None:
    number = node["number"]
    self.body.append(f'<p class="sidenote-below" role="note"><sup>{number}</sup> ')


def depart_sidenote_below(self: HTML5Translator, node: sidenote_below) -> None:
    self.body.append("</p>\n")
