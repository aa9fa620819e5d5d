"""Questions and exercises; at the back their hints, answers and solutions."""

from docutils import nodes

from bookbuild.nodes import quiz, quiz_choice, quiz_question
from bookbuild.typst.base import Writer
from bookbuild.typst.markup import Piece, string

LETTERS = "abcdefghij"


class Questions(Writer):
    """Visitors of what the reader is asked."""

    asked = 0

    def visit_build_card(self, node: nodes.Element) -> None:
        facts = [c for c in node.children if isinstance(c, nodes.field_list)]
        rest = [c for c in node.children if c not in facts]
        self.plain += 1
        pairs = [piece for part in facts for piece in self.fields(part)]
        self.add("#build-card((", *pairs, "))[", *self.captured(rest), "]\n\n")
        self.plain -= 1
        raise nodes.SkipNode

    def visit_quiz(self, node: quiz) -> None:
        self.asked += 1
        number = (
            f"{self.page.number}.{self.asked}" if self.page.number else str(self.asked)
        )
        title = f"Question {number}"
        here = string(self.identity(node))
        back = f"{self.page.name}@answer-{self.asked}"
        self.page.placed.add(back)
        choices = [c for c in node.children if isinstance(c, quiz_choice)]
        asked = [c for c in node.children if isinstance(c, quiz_question)]
        self.add(f"#question({string(title)}, ")
        self.add(
            f"xref({string(back)})[Answer on page~#page-number({string(back)})], ["
        )
        self.add(*self.captured([b for part in asked for b in part.children]), "]")
        for choice in choices:
            self.add(", [", *self.captured(choice.children[0]), "]")
        self.add(")\n\n")

        def write() -> None:
            self.add(f"#answer({string(back)}, xref({here})[#strong[{title}];, ")
            self.add(f"page~#page-number({here})])[")
            for letter, choice in zip(LETTERS, choices, strict=False):
                right = str(choice["correct"]).lower()
                self.add(
                    f'#why("{letter}", {right})[',
                    *self.captured(choice.children[1]),
                    "]\n",
                )
            self.add("]\n\n")

        self.to(self.page.answers, write)
        raise nodes.SkipNode

    # Exercises: the statement in the text; hints and solution at the back.

    def visit_exercise_enumerable_node(self, node: nodes.Element) -> None:
        title, *content = node.children
        label = str(node["label"])
        hints = [h for h in node.findall(nodes.hint) if "dropdown" in h["classes"]]
        for hint in hints:
            hint.parent.remove(hint)
        places = [f"{self.page.name}@{what}-{label}" for what in ("hint", "solution")]
        what = []
        if hints:
            what.append("Hint" if len(hints) == 1 else "Hints")
            self.page.placed.add(places[0])
        if label in self.builder.solved:
            what.append("solution" if hints else "Solution")
        link = "none"
        if what:
            target = string(places[0] if hints else places[1])
            link = (
                f"xref({target})[{' and '.join(what)} on page~#page-number({target})]"
            )
        number = self.numbered("exercise", node)
        shown = number if number != "none" else string("Exercise")
        here = string(self.identity(node))
        self.add(f"#exercise({shown}, ", *self._subtitle(title))
        self.add(f", {link})[")
        self.add(*self.captured(content), "]\n\n")

        def write() -> None:
            back = f"#xref({here})[#strong({shown});, page~#page-number({here})]"
            self.add(f"#answer({string(places[0])}, [{back}])[")
            for hint in hints:
                self.add("#note([Hint], hue: faint)[", *self.captured(hint), "]\n")
            self.add("]\n\n")

        if hints:
            self.to(self.page.solutions, write)
        raise nodes.SkipNode

    visit_exercise_node = visit_exercise_enumerable_node

    def _subtitle(self, title: nodes.Node) -> list[Piece]:
        """The author's title, out of the parentheses of sphinx-exercise."""
        pieces = self.captured(title.children)
        if not pieces or title.astext() == "Exercise":
            return ["none"]
        if pieces[0] == " (" and pieces[-1] == ")":
            pieces = pieces[1:-1]
        return ["[", *pieces, "]"]

    def visit_solution_node(self, node: nodes.Element) -> None:
        title, *content = node.children
        label = str(node["target_label"])
        place = f"{self.page.name}@solution-{label}"
        self.page.placed.add(place)
        links = list(title.findall(nodes.reference))

        def write() -> None:
            self.add(f"#answer({string(place)}, [#strong[Solution to ")
            for link in links:
                name = self.target(link)
                self.page.linked.setdefault(name, self.line)
                self.add(f"#xref({string(name)})[", *self.captured(link))
                self.add(f"];, page~#page-number({string(name)})")
            self.add("]])[", *self.captured(content), "]\n\n")

        self.to(self.page.solutions, write)
        raise nodes.SkipNode
