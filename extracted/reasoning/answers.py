# Generated from book/reasoning/answers.md; do not edit (4f8b4f908999)
"""Real problems, GSM8K and MATH-500, and a checker that finds an answer in a text,
reads it, and says whether it means the same as the right one.
"""

# %% book/reasoning/answers.md#imports
import ctypes
import json
import random
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sympy
from sympy import Expr

from extracted.foundations.language_modeling import RemoteFile


# %% book/reasoning/answers.md#_GSM8K
_GSM8K = (
    "https://raw.githubusercontent.com/openai/grade-school-math/master/"
    "grade_school_math/data/"
)
_PROBLEMS = {
    "train": RemoteFile(
        _GSM8K + "train.jsonl",
        "gsm8k/train.jsonl",
        "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465",
    ),
    "test": RemoteFile(
        _GSM8K + "test.jsonl",
        "gsm8k/test.jsonl",
        "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
    ),
    "math500": RemoteFile(
        "https://raw.githubusercontent.com/rasbt/reasoning-from-scratch/main/"
        "ch03/01_main-chapter-code/math500_test.json",
        "math500/test.json",
        "a9eccff7e25ecaf3952614e5b92fe081b4f0549c68ae6a387b96e131df9ddf41",
    ),
}


# %% book/reasoning/answers.md#WordProblem
@dataclass(frozen=True)
class WordProblem:
    """A problem in words, its gold answer, and a worked solution."""

    question: str
    answer: str
    solution: str


def load_gsm8k(split: str = "test") -> list[WordProblem]:
    """GSM8K's 7,473 "train" or 1,319 "test" problems, MIT licence.

    `ValueError` for another split, else as `RemoteFile.fetch`. Cobbe et al.
    (2021).
    """
    if split not in ("train", "test"):
        raise ValueError(f"no split {split!r}; choose train or test")
    lines = _PROBLEMS[split].fetch().read_text("utf-8").splitlines()
    problems = []
    for row in map(json.loads, lines):
        solution, _, answer = row["answer"].rpartition("####")
        problems.append(
            WordProblem(row["question"], answer.strip(), solution.strip())
        )
    return problems


# %% book/reasoning/answers.md#load_math500
def load_math500() -> list[WordProblem]:
    """The 500 problems of MATH-500, answers in LaTeX, MIT licence.

    Errors as `RemoteFile.fetch`. Hendrycks et al. (2021), Lightman et al.
    (2023).
    """
    rows = json.loads(_PROBLEMS["math500"].fetch().read_text("utf-8"))
    return [
        WordProblem(row["problem"], row["answer"], row["solution"])
        for row in rows
    ]


# %% book/reasoning/answers.md#_BRACE
_BRACE = re.compile(r"(\\boxed\s*\{)|\\[^A-Za-z]|[{}]")


def _boxed(text: str) -> str | None:
    """What the box that opens last, and closes, contains."""
    best, content = -1, ""
    stack: list[tuple[bool, int]] = []
    for match in _BRACE.finditer(text):
        if match[1] or match[0] == "{":
            stack.append((bool(match[1]), match.end()))
        elif match[0] == "}" and stack:
            is_box, start = stack.pop()
            if is_box and start > best:
                best, content = start, text[start : match.start()]
    return content.strip() or None


# %% book/reasoning/answers.md#_NUMBER
_NUMBER = re.compile(
    r"""(?:(?<![\w)}.])[-−]\s?)?\\?\$?
    (?:\\[dt]?frac\{\d+\}\{\d+\}
    |(?:\d+\ )?\d+/\d+
    |(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)
    (?:\\?%)?""",
    re.VERBOSE,
)


def _marked(text: str) -> str | None:
    """What follows the last #### on its line."""
    _, mark, rest = text.rpartition("####")
    return rest.partition("\n")[0].strip() or None if mark else None


def _last_number(text: str) -> str | None:
    found = None
    for match in _NUMBER.finditer(text):
        found = match[0].replace("\\$", "").replace("$", "")
    return found


# %% book/reasoning/answers.md#_RULES
_RULES: dict[str, Callable[[str], str | None]] = {
    "boxed": _boxed, "####": _marked, "last": _last_number,
}


def extract_answer(
    text: str, order: Sequence[str] = ("boxed", "####", "last")
) -> str | None:
    """The answer in a text by the first rule that finds one, else None.

    "boxed": in the last complete \\boxed. "####": after the last #### on
    its line. "last": the last number, with sign, commas, decimals, fraction
    and percent. `ValueError` for another rule.
    """
    if unknown := set(order) - set(_RULES):
        raise ValueError(
            f"no rule {sorted(unknown)}; choose from {', '.join(_RULES)}"
        )
    answers = (_RULES[rule](text) for rule in order)
    return next((answer for answer in answers if answer), None)


# %% book/reasoning/answers.md#_UNICODE
_UNICODE = str.maketrans({
    "−": "-", "–": "-", "×": "*", "·": "*", "÷": "/", "π": r"\pi ",
    "√": r"\sqrt ", "∞": r"\infty ", "∪": r"\cup ", "±": r"\pm ",
    "²": "^2", "³": "^3", "≤": r"\le ", "≥": r"\ge ",
})
_REWRITES = [(re.compile(old), new) for old, new in (
    (r",\\!\s*|(?<=\d)\\,(?=\d{3}(?!\d))", ""),  # 10,\!080 and 10\,080
    (r"\\(?:left|right|[bB]igg?[lr]?|displaystyle)(?![A-Za-z])\.?", ""),
    (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
    (r"\\(?:mbox|text[a-z]*|math(?:rm|bf|bb)|operatorname)\s*\{", r"\\text{"),
    (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))", "°"),
    (r"\\%", "%"),
    (r"(\\\\)|\\[][()$,;:!> ]|[$~]|\\q?quad(?![A-Za-z])", r"\1 "),
    (r"\s+", " "),
)]
_WORD = re.compile(
    r"(?:\\text\{)? ?\(? ?([A-Za-z]+(?: [A-Za-z]+)*) ?\)? ?\}?"
)


# %% book/reasoning/answers.md#normalize_answer
def normalize_answer(text: str) -> str:
    """The text without what only concerns its looks; LaTeX stays LaTeX."""
    text = text.translate(_UNICODE)
    for old, new in _REWRITES:
        text = old.sub(new, text)
    return text.strip().rstrip(".").strip()


def _word(text: str) -> str | None:
    """The small letters of a normalized answer that is only words."""
    match = _WORD.fullmatch(text)
    return match[1].lower() if match else None


def same_spelling(given: str, gold: str) -> bool:
    """Whether two answers are one string, or one word, once normalized."""
    a, b = normalize_answer(given), normalize_answer(gold)
    return a == b != "" or None is not _word(a) == _word(b)


# %% book/reasoning/answers.md#_Unreadable
class _Unreadable(ValueError):
    """The text is no answer that the reader knows, or too large a one."""


_TOKEN = re.compile(
    r"""(?P<mixed>\d+\ \d+\ ?/\ ?\d+(?![\d.]))
    |(?P<number>\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)
    |(?P<text>\\text\{[^{}]*\})
    |(?P<sign>\\(?:begin|end)\{[a-z]*matrix\}|\\[A-Za-z]+|\\[{}\\|]
        |<=|>=|[-+*/^!%°|()\[\]{},;=<>_&])
    |(?P<word>[A-Za-z]+)|(?P<space>\ )""",
    re.VERBOSE | re.ASCII,
)


# %% book/reasoning/answers.md#_UNITS
_UNITS = {
    "cm", "mm", "km", "kg", "mg", "ml", "ft", "in", "lb", "lbs", "oz", "mph",
    "hr", "hrs", "min", "sec", "per",
}
_FUNCTIONS: dict[str, Callable[[Expr], Expr]] = {
    **{"\\" + name: getattr(sympy, name)
       for name in ("sin", "cos", "tan", "cot", "sec", "csc")},
    "\\arcsin": sympy.asin, "\\arccos": sympy.acos, "\\arctan": sympy.atan,
    "\\ln": sympy.log, "\\log": lambda x: sympy.log(x, 10),
}
_ALIASES = dict(pair.split() for pair in (
    r"\cdot *", r"\times *", r"\div /", r"<= \le", r"\leq \le", r">= \ge",
    r"\geq \ge", r"\lvert |", r"\rvert |", r"\degree °", "; ,", r"\or ,",
    r"\and ,", r"\varnothing \emptyset", r"\lbrace \{", r"\rbrace \}",
))
_NAMES = {*_FUNCTIONS, *_ALIASES, "\\pi", "\\sqrt", "\\infty"}


# %% book/reasoning/answers.md#_named
def _named(word: str, is_text: bool) -> list[str]:
    """The tokens of a word: a command, a text, or letters."""
    word = word.strip()
    if (command := "\\" + word.lower()) in _NAMES:
        return [_ALIASES.get(command, command)]
    if is_text or word in _UNITS or len(word) > 3:
        return ['"' + word.lower()] if word else []
    return list(word)


# %% book/reasoning/answers.md#_tokens
def _tokens(text: str) -> list[str]:
    """Numbers, letters, commands, signs, and texts marked by a quote."""
    found: list[str] = []
    place = depth = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise _Unreadable(text[place])
        token, kind = match[0], match.lastgroup
        if kind == "number" and depth:
            token = token.split(",")[0]
        place += len(token)
        depth += (token in ("(", "[", "\\{")) - (token in (")", "]", "\\}"))
        if kind == "text" and re.search(r"\d", token):
            found += _tokens(token[6:-1])
        elif kind in ("word", "text"):
            word = token[6:-1] if kind == "text" else token
            found += _named(word, kind == "text")
        elif kind != "space":
            found.append(_ALIASES.get(token, token))
    return found


# %% book/reasoning/answers.md#Group
@dataclass(frozen=True)
class Group:
    """Several values, or a text; kinds "set", "()", "[)", "=", "matrix"."""

    kind: str
    items: tuple[Any, ...] = ()  # of Expr or Group


MAX_LENGTH = 400  # characters of an answer
MAX_DEPTH = 20  # brackets and arguments within each other
MAX_DIGITS = 60  # of a number as written
MAX_BITS = 1400  # of a power's numerator or denominator
MAX_EXPONENT = 1000
MAX_FACTORIAL = 100


# %% book/reasoning/answers.md#_Reader
class _Reader:
    """A place in a list of tokens; "" is the end."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.place, self.depth = [*tokens, ""], 0, 0
        self.has_angles = any(token in _FUNCTIONS for token in tokens)

    def peek(self) -> str:
        return self.tokens[self.place]

    def next(self) -> str:
        self.place += 1
        return self.tokens[self.place - 1]

    def take(self, *options: str) -> str:
        """The next token if it is one of these, else ""."""
        return self.next() if self.peek() in options else ""

    def need(self, *options: str) -> str:
        token = self.take(*options)
        if not token:
            raise _Unreadable(f"{self.peek()!r} in place of {options}")
        return token


# %% book/reasoning/answers.md#_items
def _items(r: _Reader) -> list[Any]:
    items = [_relation(r)]
    while r.take(","):
        items.append(_relation(r))
    return items


def _relation(r: _Reader) -> Any:
    value = _union(r)
    while sign := r.take("=", "<", ">", "\\le", "\\ge", "\\in"):
        right = _union(r)
        if sign in (">", "\\ge"):
            kind = "<" if sign == ">" else "\\le"
            value = Group(kind, (right, value))
        else:
            kind = "=" if sign == "\\in" else sign
            value = Group(kind, (value, right))
    return value


def _union(r: _Reader) -> Any:
    parts = [_sum(r)]
    while r.take("\\cup"):
        parts.append(_sum(r))
    return parts[0] if len(parts) == 1 else Group("union", tuple(parts))


# %% book/reasoning/answers.md#_scalar
def _scalar(value: Any) -> Expr:
    if isinstance(value, Group):
        raise _Unreadable(f"cannot calculate with a {value.kind}")
    return value


def _signs(r: _Reader) -> int:
    sign = 1
    while token := r.take("+", "-"):
        sign = -sign if token == "-" else sign
    return sign


def _sum(r: _Reader) -> Any:
    if r.peek() in ("+", "-"):
        value = _signs(r) * _scalar(_term(r))
    else:
        value = _term(r)
    while r.peek() in ("+", "-"):
        sign = _signs(r)
        value = _scalar(value) + sign * _scalar(_term(r))
    return value


# %% book/reasoning/answers.md#_begins_factor
def _begins_factor(r: _Reader) -> bool:
    token, before = r.peek(), r.tokens[r.place - 1]
    if token[:1].isdigit() or token[:1] == ".":
        return not before[:1].isdigit()
    commands = ("\\frac", "\\sqrt", *_CONSTANTS, *_FUNCTIONS)
    return token.isalpha() or token in ("(", "[", "{", *commands)


def _term(r: _Reader) -> Any:
    value = _power(r)
    while True:
        if sign := r.take("*", "/"):
            factor = _signs(r) * _scalar(_power(r))
            value = _scalar(value) * (factor if sign == "*" else 1 / factor)
        elif _begins_factor(r):
            value = _scalar(value) * _scalar(_power(r))
        else:
            return value


# %% book/reasoning/answers.md#_size
def _size(number: Any) -> int:
    return max(abs(int(number.p)), int(number.q))


def _tame(value: Expr) -> Expr:
    """The value, if it has no power with a variable exponent."""
    powers = value.atoms(sympy.Pow, sympy.exp)
    if not all(power.exp.is_Rational for power in powers):
        raise _Unreadable("a tower of powers")
    return value


def _small_exponents(*exponents: Expr) -> None:
    for exponent in exponents:
        for number in exponent.atoms(sympy.Rational):
            if _size(number) > MAX_EXPONENT:
                raise _Unreadable(f"exponent {number}")


def _to_power(base: Expr, exponent: Expr) -> Expr:
    _small_exponents(_tame(exponent))
    if exponent.is_Rational:
        sizes = (_size(n).bit_length() for n in base.atoms(sympy.Rational))
        if max(sizes, default=0) * abs(exponent) > MAX_BITS:
            raise _Unreadable("a power of too many digits")
    value = base**exponent
    powers = value.atoms(sympy.Pow, sympy.exp)
    _small_exponents(*(power.exp for power in powers))
    return value


# %% book/reasoning/answers.md#_factorial
def _factorial(n: Expr) -> Expr:
    if not (n.is_Integer and 0 <= n <= MAX_FACTORIAL):
        raise _Unreadable(f"factorial of {n}")
    return sympy.factorial(n)


def _skip_units(r: _Reader) -> None:
    while r.peek().startswith('"'):
        r.next()
        if r.peek() == "/" and r.tokens[r.place + 1].startswith('"'):
            r.next()
        elif r.take("^"):
            _argument(r)


def _power(r: _Reader) -> Any:
    value = _atom(r)
    if isinstance(value, Group):
        return value
    while sign := r.take("!", "%", "°"):
        if sign == "!":
            value = _factorial(value)
        elif sign == "°" and r.has_angles:
            value = value * sympy.pi / 180
    if r.take("^"):
        value = _to_power(value, _signs(r) * _scalar(_power(r)))
    _skip_units(r)
    return value


# %% book/reasoning/answers.md#_exact
def _exact(digits: str) -> Expr:
    if len(digits) > MAX_DIGITS:
        raise _Unreadable("a number of too many digits")
    return sympy.Rational(digits.replace(",", ""))


def _number(r: _Reader, token: str) -> Any:
    """A number, a mixed number, or digits in a base."""
    if " " in token:
        whole, over, under = map(_exact, re.split("[ /]+", token))
        return whole + over / under
    if r.take("_"):
        return Group(f"{token} in base {_subscript(r)}")
    value = _exact(token)
    exponent = r.place > 1 and r.tokens[r.place - 2] == "^"
    if r.peek() != "\\frac" or not value.is_Integer or exponent:
        return value
    r.next()
    over, under = _argument(r), _argument(r)
    whole = over.is_Integer and under.is_Integer and 0 < over < under
    return value + over / under if whole else value * over / under


# %% book/reasoning/answers.md#_argument
def _argument(r: _Reader) -> Expr:
    token = r.peek()
    if token.isdigit() and len(token) > 1:
        r.tokens[r.place] = token[1:]
        return sympy.Integer(int(token[0]))
    return _scalar(_atom(r))


def _subscript(r: _Reader) -> str:
    if not r.take("{"):
        return r.next()
    text = r.next()
    r.need("}")
    return text


# %% book/reasoning/answers.md#_function
def _function(r: _Reader, name: str) -> Expr:
    r.has_angles = True
    base = _argument(r) if name == "\\log" and r.take("_") else None
    exponent = _argument(r) if r.take("^") else sympy.Integer(1)
    if exponent == -1:
        raise _Unreadable("an inverse or a reciprocal?")
    if r.peek() in ("(", "{", "["):
        value = _scalar(_atom(r))
    else:
        value = _scalar(_power(r))
        while _begins_factor(r) and r.peek() not in ("(", *_FUNCTIONS):
            value = value * _scalar(_power(r))
    value = _tame(value)
    result = _FUNCTIONS[name](value) if base is None else (
        sympy.log(value, _tame(base)))
    return _to_power(result, exponent)


# %% book/reasoning/answers.md#_set
def _set(items: Sequence[Any]) -> Group:
    return Group("set", tuple(dict.fromkeys(items)))  # each once


def _bracket(r: _Reader, left: str) -> Any:
    braces = left in ("{", "\\{")
    closers = ("}",) if left == "{" else ("\\}",) if braces else (")", "]")
    if braces and r.take(*closers):
        return Group("set")
    items = _items(r)
    right = r.need(*closers)
    if len(items) == 1 and left + right in ("{}", "()", "[]"):
        return items[0]
    if len(items) == 1 and not braces:
        raise _Unreadable("half an interval")
    return _set(items) if braces else Group(left + right, tuple(items))


def _matrix(r: _Reader, begin: str) -> Group:
    rows = []
    while not r.take(begin.replace("begin", "end")):
        row = [_scalar(_sum(r))]
        while r.take("&"):
            row.append(_scalar(_sum(r)))
        rows.append(Group("row", tuple(row)))
        if not r.take("\\\\") and not r.peek().startswith("\\end"):
            raise _Unreadable("a matrix without its end")
    return Group("matrix", tuple(rows))


# %% book/reasoning/answers.md#_command
def _command(r: _Reader, token: str) -> Any:
    if token == "\\frac":
        over, under = _argument(r), _argument(r)
        return over / under
    if token == "\\sqrt":
        index = sympy.Integer(2)
        if r.take("["):
            index = _scalar(_sum(r))
            r.need("]")
        return _to_power(_argument(r), 1 / index)
    if token == "|":
        value = sympy.Abs(_scalar(_sum(r)))
        r.need("|")
        return value
    if token == "\\emptyset":
        return Group("set")
    if token.startswith("\\begin"):
        return _matrix(r, token)
    raise _Unreadable(token)


# %% book/reasoning/answers.md#_CONSTANTS
_CONSTANTS = {
    "\\pi": sympy.pi, "\\infty": sympy.oo, "e": sympy.E, "i": sympy.I,
    **{"\\" + name: sympy.Symbol(name) for name in (
        "alpha", "beta", "gamma", "delta", "theta", "lambda", "mu", "phi")},
}


def _atom(r: _Reader) -> Any:
    if r.depth >= MAX_DEPTH:
        raise _Unreadable("brackets too deep")
    r.depth += 1
    token, value = r.next(), None
    if token[:1].isdigit() or token[:1] == ".":
        value = _number(r, token)
    elif token in ("(", "[", "{", "\\{"):
        value = _bracket(r, token)
    elif token in _FUNCTIONS:
        value = _function(r, token)
    elif token in _CONSTANTS:
        value = _CONSTANTS[token]
    elif token.isalpha():
        name = token + "_" + _subscript(r) if r.take("_") else token
        value = sympy.Symbol(name)
    else:
        text = token.startswith('"')
        value = Group(token) if text else _command(r, token)
    r.depth -= 1
    return value


# %% book/reasoning/answers.md#_parse
def _parse(tokens: list[str]) -> Any:
    r = _Reader(tokens)
    items = _items(r)
    if r.peek():
        raise _Unreadable(f"{r.peek()!r} after the end")
    return items[0] if len(items) == 1 else _set(items)


def parse_answer(text: str) -> Any:
    """The SymPy expression, or `Group` of them, that an answer means.

    `ValueError` for what is no answer or too large; nothing in the text is
    ever executed.
    """
    text = normalize_answer(text)
    if len(text) > MAX_LENGTH:
        raise _Unreadable(f"more than {MAX_LENGTH} characters")
    tokens = _tokens(text)
    if "\\pm" not in tokens:
        return _parse(tokens)
    items: list[Any] = []
    for sign in "+-":
        half = _parse([sign if t == "\\pm" else t for t in tokens])
        is_set = isinstance(half, Group) and half.kind == "set"
        items += half.items if is_set else [half]
    return _set(items)


# %% book/reasoning/answers.md#_at_point
def _at_point(value: Expr, seed: int) -> Expr:
    """A value's number with a random one, below 1, for each variable."""
    draw, point = random.Random(), {}
    for name in value.free_symbols:
        draw.seed(f"{seed} {name}")
        point[name] = sympy.Rational(draw.randint(200, 900), 1009)
    return value.subs(point).evalf(30)


def _equal(a: Expr, b: Expr) -> bool:
    if a.has(sympy.nan, sympy.zoo) or b.has(sympy.nan, sympy.zoo):
        return False
    if a == b or (a.is_Rational and b.is_Rational):
        return bool(a == b)
    for seed in range(2):
        left, right = _at_point(a, seed), _at_point(b, seed)
        scale = sympy.Max(abs(left), abs(right), sympy.Float(1e-8))
        if abs(left - right) > 1e-12 * scale:
            return False
    difference = sympy.expand(a - b)
    return bool(difference == 0 or sympy.simplify(difference) == 0
                or difference.equals(0) is True)


# %% book/reasoning/answers.md#_same_equation
def _same_equation(a: Group, b: Group) -> bool:
    if any(isinstance(side, Group) for side in a.items + b.items):
        return all(map(_same, a.items, b.items))
    one, other = (x.items[0] - x.items[1] for x in (a, b))
    ratios = [_at_point(one, s) / _at_point(other, s) for s in range(2)]
    if abs(ratios[0] - ratios[1]) > 1e-12 * abs(ratios[0]):
        return False
    ratio = sympy.simplify(one / other)
    return bool(ratio.is_number and ratio.is_finite and ratio != 0)


# %% book/reasoning/answers.md#_same
def _same(a: Any, b: Any) -> bool:
    kinds = [x.kind if isinstance(x, Group) else "" for x in (a, b)]
    if kinds == ["=", "="]:
        return _same_equation(a, b)
    if "=" in kinds:
        equation, value = (a, b) if kinds[0] == "=" else (b, a)
        name, right = equation.items
        return isinstance(name, sympy.Symbol) and _same(right, value)
    if kinds == ["", ""]:
        return _equal(a, b)
    if kinds[0] != kinds[1] or len(a.items) != len(b.items):
        return False
    if kinds[0] not in ("set", "union"):
        return all(map(_same, a.items, b.items))
    left = list(b.items)
    for item in a.items:
        partner = next((x for x in left if _same(item, x)), None)
        if partner is None:
            return False
        left.remove(partner)
    return True


# %% book/reasoning/answers.md#_same_answer
def _same_answer(given: str, gold: str) -> bool:
    """Whether two normalized answers mean the same, in percent too."""
    a, b = parse_answer(given), parse_answer(gold)
    if _same(a, b):
        return True
    percent = [bool(re.search("%|percent", text)) for text in (given, gold)]
    if percent[0] == percent[1]:
        return False
    if isinstance(a, Group) or isinstance(b, Group):
        return False
    return _equal(a, 100 * b) if percent[0] else _equal(100 * a, b)


# %% book/reasoning/answers.md#_Expired
class _Expired(BaseException):
    """Sent into a thread; becomes a TimeoutError on the way out."""


class _Messenger:
    """Leaves `_Expired` in its maker's thread, repeatedly, until closed."""

    INTERVAL = 0.1  # seconds from one message to the next
    lock = threading.Lock()  # one for all limits

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.open, self.fired = True, False
        self.closed = threading.Event()

    def start(self, seconds: float) -> None:
        watch = threading.Thread(
            target=self._watch, args=(seconds,), daemon=True
        )
        with self.lock:
            watch.start()

    def _watch(self, seconds: float) -> None:
        while not self.closed.wait(seconds):
            with self.lock:
                if not self.open:
                    return
                self.fired = True
                self._leave(_Expired)
            seconds = self.INTERVAL

    def close(self) -> None:
        while True:
            try:
                with self.lock:
                    self._leave(None)  # take back what has not arrived
                self.closed.set()
                return
            except _Expired:  # it was on its way when the door was shut
                continue

    def _leave(self, error: type[BaseException] | None) -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(self.thread),
            ctypes.py_object(error) if error else None,
        )


# %% book/reasoning/answers.md#_check_seconds
def _check_seconds(seconds: float) -> None:
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise ValueError(f"{seconds} seconds; give a positive number")


# %% book/reasoning/answers.md#run_limited
def run_limited(work: Callable[[], Any], seconds: float) -> Any:
    """What `work()` returns; `TimeoutError` after some seconds.

    Works in any thread and on every system under CPython. It interrupts
    Python code that starts no threads; one long call into C ends first.
    `ValueError` for seconds that are not positive.
    """
    _check_seconds(seconds)
    messenger = _Messenger()
    try:
        try:
            messenger.start(seconds)
            return work()
        finally:
            messenger.open = False
            messenger.close()
    except _Expired:
        messenger.close()  # the first may have been struck before it began
        if not messenger.fired:  # it is another limit's, around this one
            raise
        raise TimeoutError(f"more than {seconds} seconds") from None


# %% book/reasoning/answers.md#equivalent
def equivalent(given: str, gold: str, *, seconds: float = 2.0) -> bool:
    """Whether two answers, LaTeX or plain, mean the same.

    Text is read and never executed. What cannot be read, is too large or
    takes longer than `seconds` is equal only to its own spelling.
    `ValueError` for seconds that are not positive.
    """
    _check_seconds(seconds)
    if same_spelling(given, gold):
        return True
    a, b = normalize_answer(given), normalize_answer(gold)
    if max(len(a), len(b)) > MAX_LENGTH:
        return False
    try:
        return bool(run_limited(lambda: _same_answer(a, b), seconds))
    except Exception:  # out of time, or one of SymPy's ways to stumble
        return False
