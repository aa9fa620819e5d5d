"""A small book that holds every kind of node, and what its cells have printed."""

import json
from pathlib import Path
from typing import Any

TOC = """\
format: jb-book
root: index
parts:
  - caption: Opening
    chapters:
      - file: before
  - caption: First part
    numbered: true
    chapters:
      - file: part/one
      - file: part/two
  - caption: Back
    chapters:
      - file: after
"""
CONFIG = """\
title: A printed book
author: Ada Writer
copyright: "2026"
sphinx:
  config:
    bibtex_reference_style: author_year
"""
BIBLIOGRAPHY = """\
@article{gage1994new,
  author = {Philip Gage}, title = {A new algorithm for data compression},
  journal = {The C Users Journal}, year = {1994}, url = {https://example.org/a_b}
}
"""
INDEX = """\
---
chapter:
  summary: All kinds of nodes on few pages.
---

# A printed book

Preface text that leads to [chapter one](part/one.md).

## Inside

More.
"""
BEFORE = "# Before\n\nFront matter.\n"
AFTER = """\
# After

```{glossary}
token
  A piece of text.

vocabulary
  All the tokens.
```

```{bibliography}
```
"""
ONE = r"""
(chapter-one)=
# One: `code` & $x^2$

```{you-will-build}
A thing that does $x$.
```

Specials: \# \$ * _ \` < > @ = - + / ~ \[ \] " ' \\ % & 100% a_b #tag @ref
"quoted" -- dash.
Unicode: café naïve Привет.

- item
- *emphasis*(parenthesis) **strong**[bracket] `literal`(x) {sub}`2` {sup}`3`
  - nested
    1. deep

3. three
4. four

   with a second paragraph

Term
: Definition with $y$.

> A quotation.

A line\
and another.

***

A footnote[^a], again[^a]. Links: <https://example.org> and
[a site](https://example.org/x?a=b#c).
{abbr}`BPE (byte pair encoding)`, {index}`entry; below`, {cite}`gage1994new`,
{term}`tokens <token>`, {doc}`two`, {ref}`chapter-two`, {numref}`tab-one`,
{numref}`fig-one`, {eq}`eq-one`, {ref}`a section <sec-two>`, {ref}`ex-one`,
{numref}`lst-one`.

[^a]: The note with `code`.

$$
\begin{aligned}
a &= b \\
c &= \operatorname*{arg\,max}_x f(x)
\end{aligned}
$$ (eq-one)

```{math}
a &= b \\ c &= \Bigl( \frac{x}{y} \Bigr) \! z \; w
```

```{table} A caption
:name: tab-one
| a | b | c |
|---|:-:|--:|
| 1 | `x` | $z$ |
```

| plain | table |
|---|---|
| x | y |

```{image} dot.png
:alt: A dot
:width: 20%
```

```{figure} box.svg
:name: fig-one
:alt: A box
The caption.

The legend.
```

```{note}
A note.
```

```{warning}
Careful.
```

```{admonition} My *title*
:class: tip
Body.
```

```{seealso}
Elsewhere.
```

```{margin} Aside
In the margin.
```

```{epigraph}
An epigraph.

-- A. Nonymous
```

```{rubric} A rubric
```

```{topic} A topic
Text.
```

```{code-block} python
:caption: A listing
:name: lst-one
def listed(x):
    return x
```

```console
$ pip install something
```

```
plain text
```

::::{tab-set}
:::{tab-item} Tab
Tabbed.
:::
::::

::::{grid} 2
:::{grid-item-card} Card title
:link: https://example.org
Card body.
:::
::::

:::{dropdown} Drop title
Dropped.
:::

<div>raw html</div>

% a comment

(sec-two)=
## A section

### Below

#### Further below

Text.

```{quiz} quiz-one
Which one?

- [ ] The first.

  Wrong, since it is the second.
- [x] The second $x$.

  Right indeed.
```

```{exercise-start} Do *it*
:label: ex-one
```
Statement of the exercise.

```{hint}
:class: dropdown
A hint for you.
```
```{exercise-end}
```

```{solution-start} ex-one
:class: dropdown
```
The solution text.
```{solution-end}
```
"""
LONG = "# " + "wide " * 15 + "xx"
TWO = f"""
(chapter-two)=
# Two

```{{code-cell}} python
:tags: [export]

{LONG}
wide = 1
```

```{{code-cell}} python
print("output")
```

```{{code-cell}} python
---
tags: [hide-input]
mystnb:
  figure:
    name: fig-two
    caption: A plot.
  image:
    alt: A line.
---
folded_code = "drawn"
```

```{{code-cell}} python
:tags: [hide-cell]

hidden_cell = 1
```

```{{code-cell}} python
:tags: [scroll-output]

long_output()
```

```{{code-cell}} python
:tags: [raises-exception]

raise ValueError("wrong")
```

```{{code-cell}} python
:tags: [remove-cell]

glue("two-x", 3.14159)
```

Pi is {{glue:text}}`two-x:.2f`. See {{numref}}`fig-two`.

```{{code-cell}} python
display(rich)
```
"""
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="{width}pt" height="{height}pt" '
    'viewBox="0 0 {width} {height}"><rect width="{width}" height="{height}" '
    'fill="#e69f00"/></svg>'
)


def svg(width: int = 200, height: int = 80) -> str:
    return SVG.format(width=width, height=height)


def stream(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def shown(**data: str) -> dict[str, Any]:
    """A display output; `svg=` and the like stand for their types."""
    kinds = {"svg": "image/svg+xml", "html": "text/html", "plain": "text/plain"}
    kinds |= {"markdown": "text/markdown", "latex": "text/latex"}
    full = {kinds[kind]: text for kind, text in data.items()}
    return {"output_type": "display_data", "data": full, "metadata": {}}


def glued(name: str, text: str) -> dict[str, Any]:
    prefix = "application/papermill.record/"
    return {
        "output_type": "display_data",
        "data": {prefix + "text/plain": text},
        "metadata": {"scrapbook": {"name": name, "mime_prefix": prefix}},
    }


FAILURE = {
    "output_type": "error",
    "ename": "ValueError",
    "evalue": "wrong",
    "traceback": ["\x1b[31mValueError\x1b[39m: wrong"],
}
OUTPUTS: list[list[dict[str, Any]]] = [
    [],
    [stream("output\n" + "y" * 90 + "\n"), stream("on stderr", "stderr")],
    [shown(svg=svg(460, 150), plain="<Figure>")],
    [stream("from the hidden cell")],
    [stream("\n".join(f"line {n}" for n in range(60)))],
    [FAILURE],
    [glued("two-x", "3.14159")],
    [
        shown(markdown="**bold output**", plain="x"),
        shown(latex="$x^2$", plain="x"),
        shown(html="<b>b</b>", plain="<IPython.core.display.HTML object>"),
        shown(plain="'plain text of a value'"),
    ],
]


def executed(root: Path, name: str, outputs: list[list[dict[str, Any]]]) -> None:
    """Record `outputs` as those of the chapter's code cells, as an execution does."""
    from bookbuild.book import load

    cells = [
        {
            "cell_type": "code",
            "source": cell.source,
            "metadata": {},
            "execution_count": 1,
            "outputs": given,
        }
        for cell, given in zip(
            load(root).chapter(name).code_cells, outputs, strict=True
        )
    ]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path = root / "_build" / "executed" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook), encoding="utf-8")


def write_printed_book(root: Path) -> Path:
    """The whole book below `root`."""
    from books import write_book

    pages = {"index": INDEX, "before": BEFORE, "after": AFTER}
    write_book(root, {**pages, "part/one": ONE, "part/two": TWO}, TOC)
    (root / "_config.yml").write_text(CONFIG)
    (root / "book" / "references.bib").write_text(BIBLIOGRAPHY)
    (root / "book" / "part" / "box.svg").write_text(svg())
    (root / "book" / "part" / "dot.png").write_bytes(PNG)
    executed(root, "part/two", OUTPUTS)
    return root


PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753"
    "de0000000c49444154789c63304e9b0900020201335687e2540000000049454e"
    "44ae426082"
)
