"""A small book that uses everything that the site can show, with outputs ready made."""

import json
from pathlib import Path
from typing import Any

from bookbuild.book import Book, load
from bookbuild.document import notebook

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 300 120" width="300" height="120">'
    '<path d="M10 110 L290 10" stroke="#0072B2" fill="none"/><text x="20" y="20">loss</text></svg>'
)
HEAD = """\
---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {name: python3, display_name: Python 3}
chapter:
  summary: SUMMARY
  minutes: 1
---

"""
FIRST = (
    HEAD.replace("SUMMARY", "Counting pairs of words, the first model.")
    + """\
(chapter-counting)=
# Counting

```{you-will-build}
`count`, which counts **pairs** of words.
```

A {term}`bigram` is counted[^why]. The mean of $x_i$ over $n$ words is {eq}`eq-mean`, as {cite}`shannon1948mathematical`
says; see {numref}`fig-loss` and {ref}`chapter-attending`.

[^why]: Because counting is the simplest model that can be measured, and a note like this stands beside the text.

```{math}
:label: eq-mean
\\underbrace{\\mathbf m}_{(C)} = \\frac{1}{n} \\sum_{i=1}^n x_i
```

```{code-cell} python
:tags: [export]

import collections


def count(words: list[str]) -> collections.Counter[tuple[str, str]]:
    \"\"\"Count the pairs of neighbours.\"\"\"
    return collections.Counter(zip(words, words[1:], strict=False))
```

```{code-cell} python
print(count("a b a b".split()))
```

```{code-cell} python
---
tags: [hide-input]
mystnb:
  figure:
    name: fig-loss
    caption: The loss falls as $n$ grows.
  image:
    alt: A line that rises from left to right.
---
draw()
```

## A section with wide things

```{margin} In the margin
A note of the author.
```

$$
a_1 + a_2 + a_3 + a_4 + a_5 + a_6 + a_7 + a_8 + a_9 + a_{10} + a_{11} + a_{12} + a_{13} + a_{14} + a_{15} + a_{16} + a_{17} = 0
$$

| one column | another column | a third column | the fourth | the fifth | the sixth | seventh |
|---|---|---|---|---|---|---|
| 1.000 | 2.000 | 3.000 | 4.000 | 5.000 | 6.000 | aaaaaaaaaaaaaaaaaaaaaaaaa |

```{code-cell} python
print("-" * 100)
```

```{note}
A note with a [link to the next chapter](attending.md).
```

```{warning}
Careful.
```

```{tip}
A tip.
```

(sec-questions)=
## Check yourself

```{quiz} quiz-count
How many pairs has a text of four words, as $n - 1$ says?

- [ ] Four.

  There is no pair after the last word.
- [x] Three.

  Each word but the last starts a pair.
- [ ] Six.

  That counts pairs that are not neighbours.
```

```{quiz} quiz-second
What does `Counter` return for a missing key?

- [x] Zero.

  Nothing was counted.
- [ ] An error.

  That would be a `dict`.
```

```{exercise-start} Count triples
:label: ex-triples
```
Count triples of words.

```{hint}
:class: dropdown
Use three slices.
```
```{exercise-end}
```

```{code-cell} python
:tags: [starter]

def triples(words: list[str]) -> int:
    raise NotImplementedError
```

```{solution-start} ex-triples
:class: dropdown
```
```{code-cell} python
:tags: [solution]

def triples(words: list[str]) -> int:
    return max(0, len(words) - 2)
```

```{code-cell} python
:tags: [grade]

assert triples(["a", "b", "c"]) == 1, "three words make one triple"
```
There is one less than pairs.
```{solution-end}
```
"""
)
SECOND = (
    HEAD.replace("SUMMARY", "Attention over the words before.")
    + """\
(chapter-attending)=
# Attending

```{you-will-build}
A layer.
```

It uses {ref}`chapter-counting` and {term}`bigram`; see {ref}`the questions <sec-questions>`. A word that is only here: zyzzyva.

```{code-cell} python
:tags: [export]

from extracted.part.counting import count


def attend(words: list[str]) -> int:
    return len(count(words))
```

```{code-cell} python
:tags: [remove-cell]

from bookbuild.notebook import glue

glue("attending-pairs", attend(["a", "b", "a"]))
```

There are {glue:text}`attending-pairs:.1f` pairs.
"""
)
GLOSSARY = """\
# Glossary

```{glossary}
bigram
  A pair of words that stand side by side.

token
  A piece of text with a number.
```
"""
BIB = """\
@article{shannon1948mathematical,
  author = {Shannon, Claude E.},
  title = {A Mathematical Theory of Communication},
  journal = {Bell System Technical Journal},
  year = {1948},
  doi = {10.1002/j.1538-7305.1948.tb01338.x}
}
"""
TOC = """\
format: jb-book
root: index
parts:
  - caption: Part
    numbered: true
    chapters:
      - file: part/counting
      - file: part/attending
  - caption: Appendix
    chapters:
      - file: appendix/map
      - file: appendix/glossary
      - file: appendix/references
"""
MAP = """\
# The map

```{book-map}
- `part/counting` Counting: pairs.
- `part/later` Later: what comes.
```
"""
CONFIG = """\
title: A small book
repository: {url: "https://example.org/book", branch: main}
parse:
  myst_enable_extensions: [amsmath, colon_fence, deflist, dollarmath, smartquotes]
sphinx:
  config: {bibtex_reference_style: author_year}
"""
FILES = {
    "book/index.md": "# A small book\n\nBegin with [counting](part/counting.md).\n",
    "book/part/counting.md": FIRST,
    "book/part/attending.md": SECOND,
    "book/appendix/map.md": MAP,
    "book/appendix/glossary.md": GLOSSARY,
    "book/appendix/references.md": "# References\n\n```{bibliography}\n```\n",
    "book/references.bib": BIB,
    "_toc.yml": TOC,
    "_config.yml": CONFIG,
}
OUTPUTS: dict[str, list[dict[str, Any]]] = {
    "print(count(": [{"output_type": "stream", "name": "stdout", "text": ["Counter({('a', 'b'): 2})\n"]}],
    "draw()": [
        {
            "output_type": "display_data",
            "data": {"image/svg+xml": [SVG], "text/plain": ["<Figure>"]},
            "metadata": {},
        }
    ],
    'print("-"': [{"output_type": "stream", "name": "stdout", "text": ["-" * 100 + "\n"]}],
    "from bookbuild.notebook import glue": [
        {
            "output_type": "display_data",
            "data": {"application/papermill.record/text/plain": "2"},
            "metadata": {
                "scrapbook": {
                    "name": "attending-pairs",
                    "mime_prefix": "application/papermill.record/",
                }
            },
        }
    ],
}


def write(root: Path, files: dict[str, str] | None = None) -> Path:
    """Write the sample's files, or these, below `root`."""
    for name, text in (FILES if files is None else files).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def execute(root: Path) -> Book:
    """Put each chapter's executed notebook where the executor would."""
    book = load(root)
    for chapter in book.select():
        results = [
            {
                "execution_count": 1,
                "outputs": next((o for s, o in OUTPUTS.items() if cell.source.startswith(s)), []),
            }
            for cell in chapter.code_cells
        ]
        path = book.build / "executed" / f"{chapter.name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(notebook(chapter, results), encoding="utf-8")
        facts = {"seconds": 11.2, "device": "cpu", "hardware": "2 CPU cores"}
        path.with_suffix(".json").write_text(json.dumps(facts), encoding="utf-8")
    return book
