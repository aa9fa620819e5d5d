"""Check live figures: the script, the data and the picture that each `{widget}` names.

A widget is a script of the book, `book/_static/widgets/NAME.js`. On the site it stands
in the place of a figure that a cell draws, and works on a value that a cell glues. On
paper, in the e-book, in notebooks and without JavaScript the figure stays.
"""

import re
from collections.abc import Iterator
from itertools import takewhile

from bookbuild.book import Book
from bookbuild.chapter import Chapter
from bookbuild.errors import Problem, did_you_mean
from bookbuild.links import GLUED, mystnb_option, prose_lines

FOLDER = "_static/widgets"
OPENING = re.compile(r"\s*(?:`{3,}|:{3,})\{widget\}\s*(.*?)\s*$")
OPTION = re.compile(r"\s*:([\w-]+):\s*(.*?)\s*$")


def check(book: Book) -> list[Problem]:
    """The faults of every widget of the book; builds nothing."""
    problems: list[Problem] = []
    for chapter in book.chapters:
        lines = list(prose_lines(chapter))
        for position, (line, text) in enumerate(lines):
            if not (opening := OPENING.match(text)):
                continue
            below = (OPTION.match(text) for _, text in lines[position + 1 :])
            options = {found[1]: found[2] for found in takewhile(bool, below) if found}
            wanted = options.get("data", ""), options.get("figure", "")
            for message, hint in faults(book, chapter, opening[1], *wanted):
                problems.append(Problem(chapter.source, line, message, hint))
    return problems


def faults(
    book: Book, chapter: Chapter, name: str, data: str, figure: str
) -> Iterator[tuple[str, str]]:
    """What the widget `name` lacks in its chapter: messages, each with a hint."""
    scripts = (book.root / "book" / FOLDER).glob("*.js")
    known = {script.stem for script in scripts}
    if name not in known:
        otherwise = f"write its script, book/{FOLDER}/{name or 'NAME'}.js"
        yield f"no widget is called {name!r}", did_you_mean(name, known, otherwise)
    cells = chapter.code_cells
    glues = [found for cell in cells for found in GLUED.findall(cell.source)]
    glued = {text for _, text in glues}
    computed = any(prefix for prefix, _ in glues)
    if not data:
        hint = "add :data: and the name of what a cell glues"
        yield f"the widget {name!r} has no data", hint
    elif data not in glued and not computed:
        message = f"no cell of this chapter glues {data!r}, the data of this widget"
        hint = f"glue({data!r}, …) in the cell that computes them"
        yield message, did_you_mean(data, glued, hint)
    drawn = {str(mystnb_option(cell, "figure").get("name", "")) for cell in cells} - {
        ""
    }
    if not figure:
        hint = "add :figure: and the name of a cell's figure"
        yield f"the widget {name!r} has no figure to stand for it on paper", hint
    elif figure not in drawn:
        message = f"no cell of this chapter draws {figure!r}, the figure of this widget"
        hint = f"give a cell mystnb: figure: name: {figure}"
        yield message, did_you_mean(figure, drawn, hint)
