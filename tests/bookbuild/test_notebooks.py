"""MyST becomes plain Markdown; the notebooks are valid, and they run."""

import json
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from books import code, page

from bookbuild import render
from bookbuild.book import load
from bookbuild.document import notebook
from bookbuild.site.markdown import Context, convert
from bookbuild.site.numbers import Target, chapter_numbers, targets

CONTEXT = Context(
    chapter="part/a",
    targets={
        "chapter-b": Target("other/b", "section", "2", "Bees"),
        "sec-here": Target("part/a", "section", "", "Here"),
        "fig-x": Target("part/a", "Figure", "1.2"),
        "eq-x": Target("part/a", "", "1.1"),
        "ex-x": Target("part/a", "Exercise", "1.3", "Try"),
    },
    titles={"other/b": "Bees"},
    executed=frozenset({"other/b", "part/c"}),
    glued={"loss": "0.12345", "name": "'cpu'", "count": "1200"},
    citations={"k1": "[One, 2001](https://one)", "k2": "Two, 2002"},
)
CASES = [
    ("See {ref}`chapter-b`.", "See [Bees](../other/b.ipynb)."),
    ("See {ref}`the bees <chapter-b>`.", "See [the bees](../other/b.ipynb)."),
    ("See {ref}`sec-here`.", "See Here."),
    ("{numref}`fig-x` and {eq}`eq-x`", "Figure 1.2 and (1.1)"),
    ("{ref}`ex-x`", "Exercise 1.3"),
    ("{term}`logit`, {term}`logits <logit>`", "logit, logits"),
    ("{cite}`k1,k2`; {cite:t}`k2`", "[One, 2001](https://one); Two, 2002; Two, 2002"),
    ("{glue:text}`loss:.2f` on {glue:text}`name`", "0.12 on cpu"),
    ("{glue:text}`count:,` and {glue:text}`none`", "1,200 and (none)"),
    ("{math}`x^2`", "$x^2$"),
    ("{kbd}`Tab`", "`Tab`"),
    ("`{ref}` and ``a {ref}`b` `` stay", "`{ref}` and ``a {ref}`b` `` stay"),
    (
        "[b](../other/b.md#x), [i](../index.md)",
        "[b](../other/b.ipynb), [i](../index.md)",
    ),
    ("(label)=\n# Title", "# Title"),
    ("a[^n]\n\n[^n]: note", "a<sup>n</sup>\n\n<sup>n</sup> note"),
    ("```{note}\nText {term}`x`.\n```", "> **Note**\n>\n> Text x."),
    (":::{warning}\nText.\n:::", "> **Warning**\n>\n> Text."),
    ("```{admonition} Mine\nText.\n```", "> **Mine**\n>\n> Text."),
    (
        "```{hint}\n:class: dropdown\nH.\n```",
        "<details>\n<summary>Hint</summary>\n\nH.\n\n</details>",
    ),
    ("```{math}\n:label: eq-x\nx\n```", "$$\nx\n\\tag{1.1}\n$$"),
    ("$$\nx\n$$ (eq-x)", "$$\nx\n\\tag{1.1}\n$$"),
    ("```python\n{ref}`x`\n(a)=\n```", "```python\n{ref}`x`\n(a)=\n```"),
    ("```{code-block} bash\nls\n```", "```bash\nls\n```"),
    ("```{bibliography}\n```", ""),
    ("```{widget} w\n:data: d\n:figure: f\n```", ""),
    (
        "```{exercise-start} Try\n:label: ex-x\n```\nDo.\n```{exercise-end}\n```",
        "### Exercise 1.3: Try\n\nDo.",
    ),
    ("```{solution-start} ex-x\n:class: dropdown\n```", "**Solution**"),
    (
        "````{note}\n```{tip}\nInner.\n```\n````",
        "> **Note**\n>\n> > **Tip**\n> >\n> > Inner.",
    ),
]


@pytest.mark.parametrize(("myst", "plain"), CASES)
def test_myst_becomes_plain_markdown(myst: str, plain: str) -> None:
    assert convert(myst, CONTEXT) == plain


def test_a_quiz_keeps_every_explanation() -> None:
    shown = convert(
        "```{quiz} q\nWhat?\n\n- [ ] A.\n\n  No {term}`x`.\n- [x] B.\n\n  Yes.\n```",
        CONTEXT,
    )
    for words in (
        "**Question.** What?",
        "- A.",
        "Not this one.",
        "No x.",
        "- B.",
        "Right.",
        "Yes.",
    ):
        assert words in shown
    assert shown.count("<details>") == shown.count("</details>") == 2


def sample(make_book: Callable[..., Path]) -> Path:
    figure = code(
        "x = 1",
        mystnb={
            "figure": {"name": "fig-one", "caption": "A {term}`thing`."},
            "image": {"alt": "x"},
        },
    )
    text = page(
        "(sec-a)=\n## A\n\n{numref}`fig-one`, {eq}`eq-one`, {ref}`ex-one`\n",
        figure,
        "```{math}\n:label: eq-one\nx\n```\n",
        "```{exercise-start} Do\n:label: ex-one\n```\nText.\n```{exercise-end}\n```\n",
        code("def f():\n    return 2", "export"),
        code("print(f())"),
        title="First",
    )
    toc = (
        "format: jb-book\nroot: index\nparts:\n"
        "- caption: Before\n  chapters:\n  - file: before\n"
        "- caption: Part\n  numbered: true\n  chapters:\n"
        "  - file: part/zero\n  - file: part/a\n"
        "- caption: After\n  chapters:\n  - file: terms\n"
    )
    files = {
        "before": "# Before\n",
        "part/zero": "# Zero\n",
        "part/a": text,
        "terms": "# Terms\n\n```{glossary}\nthing\n  It.\n```\n",
    }
    root = make_book(files, toc)
    book = load(root)
    chapter = book.chapter("part/a")
    stream = {"output_type": "stream", "name": "stdout", "text": ["2\n"]}
    picture = {
        "output_type": "display_data",
        "metadata": {},
        "data": {"image/svg+xml": ["<svg xmlns='http://www.w3.org/2000/svg'/>"]},
    }
    results = [
        {
            "execution_count": 1,
            "outputs": [stream]
            if "print" in c.source
            else [picture]
            if "x" in c.source
            else [],
        }
        for c in chapter.code_cells
    ]
    path = book.build / "executed" / "part" / "a.ipynb"
    path.parent.mkdir(parents=True)
    path.write_text(notebook(chapter, results))
    return root


def test_numbers_are_those_of_the_site(make_book: Callable[..., Path]) -> None:
    book = load(sample(make_book))
    assert chapter_numbers(book) == {"part/zero": "1", "part/a": "2"}
    found = targets(book)
    render.html(book)
    html = (book.build / "html" / "part" / "a.html").read_text()
    assert f"Figure {found['fig-one'].number}" == "Figure 2.1" and ">Figure 2.1" in html
    assert found["eq-one"].number == "2.1" and "(2.1)" in html
    assert found["ex-one"].number == "2.1" and "Exercise 2.1" in html


def test_notebooks_are_valid_and_stand_alone(make_book: Callable[..., Path]) -> None:
    book = load(sample(make_book))
    folder = render.notebooks(book)
    clean = nbformat.read(folder / "part" / "a.ipynb", as_version=4)
    full = nbformat.read(folder / "executed" / "part" / "a.ipynb", as_version=4)
    for made in (clean, full):
        nbformat.validate(made)
        assert "google.colab" in made.cells[0].source
    assert not any(cell.get("outputs") for cell in clean.cells)
    assert [
        o["text"] for c in full.cells for o in c.get("outputs", []) if "text" in o
    ] == ["2\n"]
    assert any(cell.source == "**Figure 2.1** A thing." for cell in clean.cells)
    before = (folder / "part" / "a.ipynb").read_bytes()
    render.notebooks(book)
    assert (folder / "part" / "a.ipynb").read_bytes() == before


def test_cells_that_fail_do_not_stop_a_run_and_folded_ones_stay_folded(
    make_book: Callable[..., Path],
) -> None:
    text = page(
        code("1 / 0", "raises-exception"),
        code("x = 1", "hide-input"),
        code("x = 2", "solution"),
        code("x = 3", "export"),
    )
    book = load(make_book({"part/a": text}))
    chapter = book.chapter("part/a")
    path = book.build / "executed" / "part" / "a.ipynb"
    path.parent.mkdir(parents=True)
    done = [{"execution_count": 1, "outputs": []} for _ in chapter.code_cells]
    path.write_text(notebook(chapter, done))
    made = nbformat.read(render.notebooks(book) / "part" / "a.ipynb", as_version=4)
    _, *cells = [cell for cell in made.cells if cell.cell_type == "code"]
    folded = {"jupyter": {"source_hidden": True}}
    failing = {"tags": ["raises-exception"]}
    assert [dict(cell.metadata) for cell in cells] == [failing, folded, folded, {}]


def test_a_clean_notebook_runs(make_book: Callable[..., Path]) -> None:
    from nbclient import NotebookClient

    folder = render.notebooks(load(sample(make_book)))
    made = nbformat.read(folder / "part" / "a.ipynb", as_version=4)
    NotebookClient(made, timeout=60).execute()
    assert json.dumps(made.cells[-1].outputs).count("2") >= 1
