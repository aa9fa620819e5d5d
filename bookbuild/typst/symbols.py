"""Names of symbols that pandoc writes and that Typst no longer knows."""

import re

RENAMED = {
    "Kai": "Ϗ",
    "angle.oblique": "⦦",
    "angle.right.sq": "⦜",
    "angle.spheric.top": "⦡",
    "backslash.circle": "⦸",
    "bar.v.circle": "⦶",
    "brace.l.double": "⦃",
    "brace.r.double": "⦄",
    "bracket.l.double": "⟦",
    "bracket.r.double": "⟧",
    "dash.circle": "⊝",
    "div.circle": "⨸",
    "dot.circle": "⊙",
    "dot.circle.big": "⨀",
    "eq.circle": "⊜",
    "gt.circle": "⧁",
    "integral.sect": "⨙",
    "kai": "ϗ",
    "lt.circle": "⧀",
    "minus.circle": "⊖",
    "parallel.circle": "⦷",
    "paren.l.double": "⦅",
    "paren.r.double": "⦆",
    "perp.circle": "⦹",
    "planck.reduce": "ħ",
    "plus.circle.arrow": "⟴",
    "quote.angle.l.double": "«",
    "quote.angle.l.single": "‹",
    "quote.angle.r.double": "»",
    "quote.angle.r.single": "›",
    "sect": "∩",
    "sect.and": "⩄",
    "sect.big": "⋂",
    "sect.dot": "⩀",
    "sect.double": "⋒",
    "sect.sq": "⊓",
    "sect.sq.big": "⨅",
    "sect.sq.double": "⩎",
    "shell.l.double": "⟬",
    "shell.r.double": "⟭",
    "times.circle": "⊗",
    "times.circle.big": "⨂",
}
NAME = re.compile(
    r"(?<![\w.])(?:"
    + "|".join(re.escape(name) for name in sorted(RENAMED, key=len, reverse=True))
    + r")(?![\w]|\.\w)"
)


def known(math: str) -> str:
    """`math` with the characters themselves in place of such names."""
    math = NAME.sub(lambda found: RENAMED[found[0]], math)
    return re.sub("[√∛∜]", r"\\\g<0>", math)  # else they want an operand
