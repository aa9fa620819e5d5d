"""Docutils nodes of the book's own directives, shared by every builder.

The HTML builder writes them with the visitors of `bookbuild.site`; a builder that knows
them sets `book_nodes = True`; for all others `PlainNodes` makes standard nodes of them.
"""

from typing import Any

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform


class build_card(nodes.General, nodes.Element):
    """The box at the top of a chapter: what the author says you will build, then facts.

    Children: the author's paragraphs, then one `field_list` (Module, Needs, Used by,
    Time) that is filled when the document is resolved. Attribute: `chapter`, its name.
    """


class quiz(nodes.General, nodes.Element):
    """A question: one `quiz_question`, then two or more `quiz_choice`."""


class quiz_question(nodes.Part, nodes.Element):
    """Blocks of the question."""


class quiz_choice(nodes.Part, nodes.Element):
    """One `quiz_answer` and one `quiz_why`. Attribute: `correct`, a bool."""


class quiz_answer(nodes.Part, nodes.TextElement):
    """The inline content of one choice."""


class quiz_why(nodes.Part, nodes.Element):
    """Blocks that say why this choice is right or wrong."""


class cell_caption(nodes.Part, nodes.TextElement):
    """First child of a code cell's source.

    Attributes: `kind` (a tag: export, starter, solution, grade), and for exported cells
    the `path` of the module and the `anchor` in it, empty for others. The text, and for
    a starter a literal: the command that begins its exercise.
    """


class widget(nodes.General, nodes.Element):
    """What makes a figure live on the site; `PlaceWidgets` leaves it to HTML alone.

    Attributes: `script`, its name; `data` as JSON; `figure`, the figure's name.
    """


NODES: tuple[type[Any], ...] = (
    build_card,
    quiz,
    quiz_question,
    quiz_choice,
    quiz_answer,
    quiz_why,
    cell_caption,
    widget,
)


class PlainNodes(SphinxPostTransform):
    """Standard nodes in place of the book's, for builders that do not know these."""

    default_priority = 900

    def is_supported(self) -> bool:
        builder = self.app.builder
        return builder.format != "html" and not getattr(builder, "book_nodes", False)

    def run(self, **kwargs: Any) -> None:
        for caption in list(self.document.findall(cell_caption)):
            caption.parent.remove(caption)
        for card in list(self.document.findall(build_card)):
            title = nodes.title("", "You will build")
            card.replace_self(nodes.admonition("", title, *card.children))
        for question in list(self.document.findall(quiz)):
            question.replace_self(_plain_quiz(question))


def _plain_quiz(question: quiz) -> nodes.Element:
    plain = nodes.container(ids=question["ids"], classes=["quiz"])
    answers = nodes.bullet_list(bullet="*")
    for child in question.children:
        if isinstance(child, quiz_question):
            plain += child.children
        elif isinstance(child, quiz_choice):
            answer, why = child.children
            assert isinstance(answer, nodes.Element) and isinstance(why, nodes.Element)
            verdict = nodes.strong("", "Right." if child["correct"] else "Wrong.")
            answers += nodes.list_item(
                "",
                nodes.paragraph("", "", *answer.children),
                nodes.paragraph("", "", verdict),
                *why.children,
            )
    plain += answers
    return plain
