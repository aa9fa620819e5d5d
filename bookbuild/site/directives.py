"""The directives `you-will-build`, `quiz` and `book-map`."""

import re
from html import escape

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

from bookbuild.nodes import (
    build_card,
    quiz,
    quiz_answer,
    quiz_choice,
    quiz_question,
    quiz_why,
)
from bookbuild.site.state import book_of

BOX = re.compile(r"^\[([ xX])\]\s+")
PLANNED = re.compile(r"^- `([\w/-]+)` ([^:]+): (.+)$")


class YouWillBuild(SphinxDirective):
    """The artefact in the author's words; the build adds the facts and the map."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        self.assert_has_content()
        card = build_card(chapter=self.env.docname)
        self.set_source_info(card)
        self.state.nested_parse(self.content, self.content_offset, card)
        card += nodes.field_list(classes=["build-facts"])
        return [card]


class Quiz(SphinxDirective):
    """A question and a list of choices, `[x]` the right one, each with its reason."""

    has_content = True
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        body = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, body)
        *question, choices = body.children or [nodes.paragraph()]
        if not isinstance(choices, nodes.bullet_list) or not question:
            return self.wrong(
                "needs a question and then a list of choices, - [ ] … and - [x] …"
            )
        node = quiz()
        self.set_source_info(node)
        node += quiz_question("", *question)
        for item in choices.children:
            found = self.choice(item)
            if isinstance(found, str):
                return self.wrong(found)
            node += found
        right = sum(1 for choice in node.findall(quiz_choice) if choice["correct"])
        if right != 1 or len(choices.children) < 2:
            return self.wrong(
                f"has {right} right choices of {len(choices.children)}; "
                "give two or more choices and mark exactly one with [x]"
            )
        self.add_name_to(node)
        return [node]

    def choice(self, item: nodes.Node) -> quiz_choice | str:
        first = item.children[0] if item.children else None
        text = first.children[0] if first is not None and first.children else None
        box = BOX.match(text.astext()) if isinstance(text, nodes.Text) else None
        if (
            not isinstance(first, nodes.paragraph)
            or not isinstance(text, nodes.Text)
            or not box
        ):
            return "has a choice that does not start with [ ] or [x]"
        if len(item.children) < 2:
            return (
                f"does not explain {first.astext()[box.end() :]!r}; "
                "indent a paragraph under the choice that says why it is right or wrong"
            )
        first.replace(text, nodes.Text(text.astext()[box.end() :]))
        return quiz_choice(
            "",
            quiz_answer("", "", *first.children),
            quiz_why("", *item.children[1:]),
            correct=box[1] != " ",
        )

    def add_name_to(self, node: quiz) -> None:
        name = nodes.fully_normalize_name(self.arguments[0])
        node["names"].append(name)
        self.state.document.note_explicit_target(node, node)

    def wrong(self, what: str) -> list[nodes.Node]:
        message = f"quiz {self.arguments[0]!r} {what}"
        return [self.state.document.reporter.error(message, line=self.lineno)]


class BookMap(SphinxDirective):
    """The chapters of one part, written and planned.

    Each line is ``- `part/name` Title: summary``. A chapter of `_toc.yml` is written:
    it is a link, and its own title and summary are shown.
    """

    has_content = True

    def run(self) -> list[nodes.Node]:
        book = book_of(self.env.app)
        written = {chapter.name: chapter for chapter in book.chapters}
        entries = nodes.definition_list(classes=["book-map"])
        for offset, line in enumerate(self.content):
            found = PLANNED.match(line)
            if not found:
                if line.strip():
                    message = (
                        f"not a chapter: {line!r}; "
                        "write - `part/name` Title: what it teaches"
                    )
                    return [
                        self.state.document.reporter.error(
                            message, line=self.lineno + offset + 1
                        )
                    ]
                continue
            name, title, summary = found.groups()
            chapter = written.get(name)
            term = nodes.term()
            if chapter:
                term += nodes.reference(
                    "", chapter.title, internal=True, classes=["written"], refuri=""
                )
                term.children[0]["book_page"] = name
                summary = chapter.summary or summary
            else:
                term += nodes.Text(f"{title} ")
                term += nodes.inline("", "planned", classes=["planned"])
            entries += nodes.definition_list_item(
                "", term, nodes.definition("", nodes.paragraph("", summary))
            )
        return [entries]


DIRECTIVES: dict[str, type[Directive]] = {
    "you-will-build": YouWillBuild,
    "quiz": Quiz,
    "book-map": BookMap,
}


def visit_quiz(self: HTML5Translator, node: quiz) -> None:
    identity = node["ids"][0]
    self.body.append(self.starttag(node, "div", CLASS="quiz"))
    self.body.append(f'<fieldset aria-labelledby="{identity}-question">')


def depart_quiz(self: HTML5Translator, node: quiz) -> None:
    self.body.append('<p class="quiz-status" role="status"></p></fieldset></div>\n')


def visit_quiz_question(self: HTML5Translator, node: quiz_question) -> None:
    self.body.append(
        f'<div class="quiz-question" id="{node.parent["ids"][0]}-question">\n'
    )


def depart_quiz_question(self: HTML5Translator, node: quiz_question) -> None:
    self.body.append("</div>\n")


def visit_quiz_choice(self: HTML5Translator, node: quiz_choice) -> None:
    correct = "true" if node["correct"] else "false"
    self.body.append(f'<div class="quiz-choice" data-correct="{correct}">')


def depart_quiz_choice(self: HTML5Translator, node: quiz_choice) -> None:
    self.body.append("</div>\n")


def visit_quiz_answer(self: HTML5Translator, node: quiz_answer) -> None:
    identity = escape(node.parent.parent["ids"][0])
    number = node.parent.parent.index(node.parent)
    self.body.append(
        f'<label><input type="radio" name="{identity}" value="{number}" disabled>'
        " <span>"
    )


def depart_quiz_answer(self: HTML5Translator, node: quiz_answer) -> None:
    self.body.append("</span></label>")


def visit_quiz_why(self: HTML5Translator, node: quiz_why) -> None:
    verdict = "Right." if node.parent["correct"] else "Not this one."
    self.body.append(
        '<details class="quiz-why"><summary>Is it this one?</summary>'
        f'<div><p class="quiz-verdict">{verdict}</p>\n'
    )


def depart_quiz_why(self: HTML5Translator, node: quiz_why) -> None:
    self.body.append("</div></details>")
