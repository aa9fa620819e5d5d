"""References, links and figures that lead nowhere, and code too wide for paper."""

from collections.abc import Callable
from pathlib import Path

import pytest
from books import code, page

from bookbuild.book import load
from bookbuild.links import check

MakeBook = Callable[..., Path]
Check = Callable[..., list[str]]

GLOSSARY = """\
```{glossary}
Logit
  A number before the softmax.

key-value cache
  Keys and values of earlier words.
```
"""
BIBLIOGRAPHY = "@article{vaswani2017attention,\n  title = {Attention}\n}\n"


@pytest.fixture
def problems(make_book: MakeBook) -> Check:
    def find(*pieces: str, **files: str) -> list[str]:
        others = {"glossary": page(GLOSSARY), **files}
        root = make_book({"part/a": page(*pieces), **others})
        (root / "book" / "references.bib").write_text(BIBLIOGRAPHY)
        (root / "book" / "part" / "a b.svg").touch()
        (root / "book" / "shared.svg").touch()
        return [str(problem) for problem in check(load(root))]

    return find


def test_a_formula_in_the_bibliography(make_book: MakeBook) -> None:
    root = make_book({"part/a": page()})
    entry = (
        "@article{a,\n  title = {Costs {$n^2$} for 5\\$}\n}\n@book{b, note = {5\\$}}\n"
    )
    (root / "book" / "references.bib").write_text(entry)
    (problem,) = check(load(root))
    assert (problem.path, problem.line) == ("book/references.bib", 2)
    assert problem.message == "a formula here is printed as TeX"


def test_an_entry_that_stands_twice_in_the_bibliography(make_book: MakeBook) -> None:
    root = make_book({"part/a": page()})
    text = "@book{a,\n  title = {A}\n}\n@book{b}\n@misc{a,\n  title = {B}\n}\n"
    (root / "book" / "references.bib").write_text(text)
    (problem,) = check(load(root))
    assert (problem.path, problem.line) == ("book/references.bib", 5)
    assert problem.message == "'a' stands at line 1 already"


def test_everything_that_is_defined_may_be_named(problems: Check) -> None:
    figure = {"figure": {"name": "fig-a"}, "image": {"alt": "A line."}}
    assert not problems(
        "(sec-a)=\n## Section\n",
        code("glue('a-loss', 1)\nglue(\n    'a-gain', 2)", mystnb=figure),
        "```{math}\n:label: eq-a\nx\n```\n",
        "$$\ny\n$$ (eq-b)\n\n{eq}`eq-b`",
        "```{quiz} quiz-a\n- [x] yes\n```\n",
        "```{exercise-start} Do it\n:label: ex-a\n```\n```{exercise-end}\n```\n",
        "```{solution-start} ex-a\n```\n```{solution-end}\n```\n",
        "{ref}`sec-a` {ref}`a text <sec-a>` {numref}`fig-a` {numref}`Fig. %s <fig-a>`",
        "{eq}`eq-a` {ref}`quiz-a` {ref}`ex-a` {ref}`a text over\ntwo lines <sec-a>`",
        "{cite}`vaswani2017attention` {cite:t}`vaswani2017attention`",
        "{cite}`vaswani2017attention, vaswani2017attention`",
        "{term}`logit` {term}`logits <Logit>` {term}`key-value\ncache`",
        "{glue:text}`a-loss:.2f` {glue}`a-gain`",
        "[a](b.md) [a](b) [a](../glossary.md#term) [a](#sec-a) [a](https://e.org/x)",
        "![A circle](a%20b.svg) ![A square](/shared.svg) ![logo](https://e.org/x.png)",
        "```{figure} /shared.svg\n:name: fig-b\n:alt: A box.\n\n{numref}`fig-b`\n```",
        "``{ref}`shown` `` and `[a](shown.md)` and $[a](x)$",
        **{"part/b": page()},
    )


@pytest.mark.parametrize(
    ("piece", "expected"),
    [
        (
            "{ref}`sec-atention`",
            "{ref} names 'sec-atention', which is not defined\n"
            "hint: did you mean 'sec-attention'?",
        ),
        ("{numref}`zzz`", "{numref} names 'zzz', which is not defined"),
        ("{eq}`zzz`", "{eq} names 'zzz', which is not defined"),
        ("{ref}`a text <zzz>`", "{ref} names 'zzz', which is not defined"),
        (
            "{cite}`vaswani2017atention`",
            "{cite} names 'vaswani2017atention', which is not defined in references.bib"
            "\nhint: did you mean 'vaswani2017attention'?",
        ),
        ("{cite:p}`zzz`", "{cite} names 'zzz', which is not defined in references.bib"),
        (
            "{term}`Logits`",
            "{term} names 'logits', which is not defined in the glossary\n"
            "hint: did you mean 'logit'?",
        ),
        (
            "{glue:text}`a-los:.2f`",
            "no cell of this chapter glues 'a-los'\nhint: did you mean 'a-loss'?",
        ),
        (
            "[text](missing.md)",
            "no file missing.md\nhint: paths start at the chapter",
        ),
        (
            "[text](#sec-atention)",
            "a link to #sec-atention, a label that is not defined\n"
            "hint: did you mean 'sec-attention'?",
        ),
        (
            "![alt](missing.png)",
            "no image file missing.png\nhint: paths start at the chapter",
        ),
        (
            "![](/shared.svg)",
            "this image has no alt text\nhint: ![what it shows](…)",
        ),
        (
            "```{figure} missing.svg\n:alt: x\n```",
            "no image file missing.svg\nhint: paths start at the chapter",
        ),
        (
            "```{image} /shared.svg\n```",
            "this image has no alt text\nhint: add :alt: what it shows",
        ),
    ],
)
def test_what_leads_nowhere(problems: Check, piece: str, expected: str) -> None:
    start = ["(sec-attention)=\n## Attention\n", code("glue('a-loss', 1)"), "Prose."]
    assert problems(*start, piece) == [f"book/part/a.md:11: error: {expected}"]


def test_a_reference_over_two_lines_is_reported_where_it_starts(
    problems: Check,
) -> None:
    assert problems("One.\nTwo {ref}`a long\ntext <zzz>`.") == [
        "book/part/a.md:4: error: {ref} names 'zzz', which is not defined"
    ]


def test_a_duplicate_label_names_both_places(problems: Check) -> None:
    cell = code("x = 1", mystnb={"figure": {"name": "fig-x"}, "image": {"alt": "x"}})
    hint = "already\nhint: rename one of them"
    assert problems(
        "(sec-x)=\n## X\n",
        "```{math}\n:label: sec-x\nx\n```\n",
        cell,
        **{"part/b": page("(fig-x)=\n## Y\n")},
    ) == [
        "book/part/a.md:7: error: label 'sec-x' is defined at book/part/a.md:3 " + hint,
        "book/part/b.md:3: error: label 'fig-x' is defined at book/part/a.md:19 "
        + hint,
    ]


def test_a_name_that_is_computed_may_be_glued(problems: Check) -> None:
    assert not problems(code("glue(f'a-{i}', 1)"), "{glue:text}`a-3`")


def test_code_blocks_are_not_prose(problems: Check) -> None:
    assert not problems(
        "````md\n```{math}\n:label: eq-x\n```\n{ref}`zzz`\n````\n",
        "```{code-block} md\n{ref}`zzz`\n```\n",
        "~~~text\n![](zzz.png)\n~~~\n",
    )


def test_prose_goes_on_after_a_directive_closes(problems: Check) -> None:
    [problem] = problems("```{note}\ntext\n```\n", "{ref}`zzz`")
    assert problem.startswith("book/part/a.md:7:")


def test_code_must_fit_the_page(problems: Check) -> None:
    assert not problems(code("x = 1  # " + "é" * 70))
    assert problems(code("y = 1\nx = 1  # " + "é" * 71)) == [
        "book/part/a.md:5: error: a code line of 80 characters\n"
        "hint: 79 at most, or the printed page clips it"
    ]


def test_a_figure_needs_an_alt_text(problems: Check) -> None:
    assert problems(code("x = 1", mystnb={"figure": {"name": "fig-x"}})) == [
        "book/part/a.md:9: error: this figure has no alt text\n"
        "hint: add mystnb: image: alt:"
    ]
    assert not problems(code("x = 1", mystnb="odd"))
