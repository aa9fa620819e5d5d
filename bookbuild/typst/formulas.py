"""Formulas: TeX to Typst's mathematics, all of the book in one call of pandoc."""

import json
import re
import subprocess
from collections.abc import Iterable
from functools import lru_cache

from bookbuild.errors import BookError, Problem
from bookbuild.typst.markup import Formula, Piece, string
from bookbuild.typst.symbols import known

SEPARATOR = re.compile(r"^@@(\d+)@@$", re.MULTILINE)
OPERATOR = re.compile(r"\\operatorname\*\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
ENVIRONMENT = re.compile(r"\\begin\{(\w+\*?)\}.*?\\end\{\1\}", re.DOTALL)
BRACED = re.compile(r"\{[^{}]*\}")
QUOTED = re.compile(
    r'(delim: |(?:upright|mono|sans|serif|italic|bold|cal|frak|bb)\()?"([^"]*)"'
)
LARGE = re.compile(r"#scale\(x: (\d+)%, y: \d+%\)\[(\\.|[^\\\]]+)\]")
LIMITS = "LIMITS"
COMMAND, UNSEEN = re.compile(r"\\[a-zA-Z]+"), re.compile(r"[\\{}^_ ]")
RELATION = re.compile(
    r"[=<>]|\\(?:[lg]eq?|neq?|in|approx|sim|equiv|propto|(?:maps)?to|\w*arrow|mid"
    r"|ll|gg|subset\w*)\b"
)
WHOLE = 24  # signs of a formula without a relation that stays on one line


def convert(formulas: Iterable[Formula]) -> dict[Formula, str]:
    """Each formula as Typst mathematics, `$…$`.

    Raises `BookError` that names every formula which cannot be read.
    """
    wanted = list(dict.fromkeys(formulas))
    sources = [(prepared(f.tex, f.displayed), f.displayed) for f in wanted]
    different = list(dict.fromkeys(sources))
    made = dict(zip(different, _pandoc(different), strict=True))
    problems = []
    found: dict[Formula, str] = {}
    for formula, key in zip(wanted, sources, strict=True):
        typst = made[key]
        if not typst.startswith("$"):
            path, line = formula.where
            message = f"this formula is not TeX that can be typeset: {formula.tex}"
            hint = "use the commands of amsmath; macros and \\color are not known"
            problems.append(Problem(path, line, message, hint))
        found[formula] = mended(typst)
    if problems:
        raise BookError(*problems)
    return found


def prepared(tex: str, displayed: bool) -> str:
    """What pandoc reads well: aligned lines in an environment, operators marked."""
    tex = OPERATOR.sub(lambda m: rf"\operatorname{{{LIMITS}{m[1]}}}", tex.strip())
    bare = ENVIRONMENT.sub("", tex)
    while BRACED.search(bare):
        bare = BRACED.sub("", bare)
    if displayed and (r"\\" in bare or re.search(r"(?<!\\)&", bare)):
        return rf"\begin{{aligned}}{tex}\end{{aligned}}"
    return tex


def mended(typst: str) -> str:
    """Pandoc's Typst with TeX's spaces, operators and large delimiters put right."""
    typst = typst.replace("#h(-1em)", "#h(-0.1667em)").replace("#h(0em)", "thick")
    typst = known(QUOTED.sub(_operator, typst))
    typst = LARGE.sub(_large, typst)
    if typst.startswith("$ cases(") or " cases(" in typst:
        typst = re.sub(r"(?<=[^\\]) & ", " & quad ", typst)
    return typst


def _large(found: re.Match[str]) -> str:
    """A delimiter as high as \\big and its like ask for."""
    sign = f"\\{found[2]}" if found[2] in "{}" else found[2]
    return f"lr(size: #{int(found[1]) / 100:g}em, {sign})"


def _operator(found: re.Match[str]) -> str:
    if found[1]:
        return found[0]
    name = found[2]
    if name.startswith(LIMITS):
        return f"op({string(name.removeprefix(LIMITS))}, limits: #true)"
    return f"op({string(name)})"


def _pandoc(formulas: list[tuple[str, bool]]) -> list[str]:
    import pypandoc

    if not formulas:
        return []
    blocks = []
    for number, (tex, displayed) in enumerate(formulas):
        kind = {"t": "DisplayMath" if displayed else "InlineMath"}
        mark = {"t": "RawBlock", "c": ["typst", f"@@{number}@@"]}
        blocks += [mark, {"t": "Para", "c": [{"t": "Math", "c": [kind, tex]}]}]
    document = {"pandoc-api-version": _api(), "meta": {}, "blocks": blocks}
    command = [pypandoc.get_pandoc_path(), "-f", "json", "-t", "typst", "--wrap=none"]
    text = json.dumps(document).encode()
    done = subprocess.run(command, input=text, capture_output=True, check=True)
    pieces = SEPARATOR.split(done.stdout.decode())[1:]
    return [body.strip() for body in pieces[1::2]]


@lru_cache(maxsize=1)
def _api() -> list[int]:
    """The version of pandoc's document model, which each document must name."""
    import pypandoc

    command = [pypandoc.get_pandoc_path(), "-f", "markdown", "-t", "json"]
    empty = subprocess.run(command, input=b"", capture_output=True, check=True)
    api: list[int] = json.loads(empty.stdout)["pandoc-api-version"]
    return api


def source(pieces: Iterable[Piece], converted: dict[Formula, str]) -> str:
    """The finished source: strings as they are, formulas by their function."""
    done = []
    for piece in pieces:
        if isinstance(piece, str):
            done.append(piece)
        else:
            alt, math = string(" ".join(piece.tex.split())), converted[piece]
            if piece.displayed:
                number = string(piece.number) if piece.number else "none"
                done.append(f"#display({alt}, {number}, {math})")
            else:
                kind = "whole" if whole(piece.tex) else "formula"
                done.append(f"#{kind}({alt}, {math});")
    return "".join(done)


def whole(tex: str) -> bool:
    """Short, and without a relation before which a line may end.

    Typst breaks a formula after any operator, also in the middle of a parenthesis.
    """
    signs = UNSEEN.sub("", COMMAND.sub("x", tex))
    return len(signs) <= WHOLE and not RELATION.search(tex)
