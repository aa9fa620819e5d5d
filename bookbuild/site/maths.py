"""Formulas as MathML, made by one pandoc call a document; pages need no script."""

import json
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from functools import lru_cache

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

from bookbuild.site.state import formulas

LOGGER = logging.getLogger(__name__)
FORMULA = re.compile(r'<div id="f(\d+)">\s*<p>(.*?)</p>\s*</div>', re.DOTALL)
ANNOTATION = re.compile(r"<annotation.*?</annotation>|</?semantics>", re.DOTALL)
VARIANT = re.compile(r' mathvariant="(?!normal")[a-z-]+"')
# Pandoc makes an identifier of a slash after \Big, and only operators have a size.
SIZED = re.compile(r'<mi( [^>]*stretchy="true"[^>]*)>(.*?)</mi>')
# Pandoc sets \mathbf in bold italic; TeX, and this book, in bold upright.
UPRIGHT = {chr(0x1D468 + i): chr(0x1D400 + i) for i in range(52)}
RELATIONS = frozenset("=≤≥<>≈≠∝→⇒≪≫∼≡")
LONG = 350
SLANTED = re.compile(r"\\(?:boldsymbol|bm|mathbfit)\b")


def convert(app: Sphinx, doctree: nodes.document) -> None:
    """Convert the document's new formulas; what cannot be converted is a warning."""
    if app.builder.format != "html":
        return
    known = formulas(app.env)
    wanted: dict[tuple[str, bool], nodes.Node] = {}
    for node in doctree.findall(
        lambda n: isinstance(n, (nodes.math, nodes.math_block))
    ):
        key = (node.astext(), isinstance(node, nodes.math_block))
        if key not in known:
            wanted.setdefault(key, node)
    for key, markup in zip(wanted, mathml(list(wanted)), strict=True):
        if markup:
            known[key] = markup
        else:
            LOGGER.warning(
                "this formula is not TeX that can be set as MathML: %s",
                key[0],
                location=_with_line(wanted[key]),
            )


def _with_line(node: nodes.Node) -> nodes.Node:
    while node.line is None and node.parent is not None:
        node = node.parent
    return node


def mathml(formulas: list[tuple[str, bool]]) -> list[str]:
    """MathML of each (TeX, displayed) pair, "" where pandoc cannot read it."""
    if not formulas:
        return []
    blocks = []
    for number, (tex, displayed) in enumerate(formulas):
        kind = "DisplayMath" if displayed else "InlineMath"
        content = [{"t": "Math", "c": [{"t": kind}, _aligned(tex)]}]
        blocks.append(
            {"t": "Div", "c": [[f"f{number}", [], []], [{"t": "Para", "c": content}]]}
        )
    document = {"pandoc-api-version": _api(), "meta": {}, "blocks": blocks}
    page = _pandoc(["-f", "json", "-t", "html", "--mathml"], json.dumps(document))
    found = {int(number): body for number, body in FORMULA.findall(page)}
    return [
        _clean(found.get(number, ""), upright=not SLANTED.search(tex))
        for number, (tex, _) in enumerate(formulas)
    ]


def _aligned(tex: str) -> str:
    """Several lines, as Sphinx allows in a math directive, need an environment."""
    if (r"\\" in tex or "&" in tex) and r"\begin" not in tex:
        return rf"\begin{{aligned}}{tex}\end{{aligned}}"
    return tex


def _clean(markup: str, *, upright: bool) -> str:
    if not markup.startswith("<math"):
        return ""
    markup = ANNOTATION.sub("", markup)
    markup = markup.replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")
    if upright:
        markup = "".join(UPRIGHT.get(letter, letter) for letter in markup)
    markup = SIZED.sub(r"<mo\1>\2</mo>", VARIANT.sub("", markup))
    return _breakable(markup) if 'display="inline"' in markup else markup


def _breakable(markup: str) -> str:
    """A long formula in several elements, so that a line may end before a relation.

    Browsers do not break lines within one `<math>`.
    """
    row = ElementTree.fromstring(markup)[0]
    if row.tag != "mrow" or len(markup) < LONG:
        return markup
    pieces: list[list[ElementTree.Element]] = [[]]
    for child in row:
        if child.tag == "mo" and child.text in RELATIONS and pieces[-1]:
            pieces.append([])
        pieces[-1].append(child)
    shown = ("".join(_text(child) for child in piece) for piece in pieces)
    return "<wbr>".join(
        f'<math display="inline"><mrow>{piece}</mrow></math>' for piece in shown
    )


def _text(element: ElementTree.Element) -> str:
    return ElementTree.tostring(element, encoding="unicode", short_empty_elements=False)


@lru_cache(maxsize=1)
def _api() -> list[int]:
    api: list[int] = json.loads(_pandoc(["-f", "markdown", "-t", "json"], ""))[
        "pandoc-api-version"
    ]
    return api


def _pandoc(arguments: list[str], text: str) -> str:
    import pypandoc

    command = [pypandoc.get_pandoc_path(), "--wrap=preserve", *arguments]
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=True)
    return done.stdout.decode()


def visit_math(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(_markup(self, node, displayed=False))
    raise nodes.SkipNode


def visit_math_block(self: HTML5Translator, node: nodes.math_block) -> None:
    number = node.get("number")
    kind = "math-block numbered" if number else "math-block"
    self.body.append(self.starttag(node, "div", CLASS=kind))
    self.body.append(
        '<div class="math-scroll">' + _markup(self, node, displayed=True) + "</div>"
    )
    if number:
        text = get_node_equation_number(self, node)
        self.body.append(f'<span class="eqno">({text})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append("</div>\n")
    raise nodes.SkipNode


def _markup(self: HTML5Translator, node: nodes.Element, *, displayed: bool) -> str:
    known = formulas(self.builder.env)
    markup: str = known.get((node.astext(), displayed), "")
    return markup or f"<code>{self.encode(node.astext())}</code>"
