# Generated from book/reasoning/problems.md; do not edit (06db8018b4f9)
"""Word problems by the thousand, in splits that cannot leak, with solutions in steps
and a checker that says which step is wrong.
"""

# %% book/reasoning/problems.md#imports
import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from extracted.foundations.language_modeling import END_OF_TEXT, Dice
from extracted.foundations.tokenizer import Tokenizer


# %% book/reasoning/problems.md#LARGEST
LARGEST = 99  # of all numbers in a problem


def compute(op: str, a: int, b: int) -> int:
    """The whole number a op b; 0, which nothing here is, if there is none."""
    if op == "/":
        return a // b if b and a % b == 0 else 0
    return {"+": a + b, "-": a - b, "*": a * b}[op]


@dataclass(frozen=True)
class Step:
    """A quantity that has to be computed: `args` of `op` and the `value`.

    An argument is a number of the text, or the place of an earlier step
    among the problem's, written as a string: "0" is the first.
    """

    op: str  # one of + - * /
    args: tuple[int | str, int | str]
    value: int


@dataclass(frozen=True)
class Problem:
    """A question in words and the steps to its answer, operands first."""

    question: str
    steps: tuple[Step, ...]

    @property
    def answer(self) -> int:
        """The number that is asked for."""
        return self.steps[-1].value

    def operands(self, step: Step) -> tuple[int, int]:
        """The two numbers that a step computes with."""
        a, b = (
            self.steps[int(arg)].value if isinstance(arg, str) else arg
            for arg in step.args
        )
        return a, b


# %% book/reasoning/problems.md#PEOPLE
PEOPLE = (
    "Ana", "Ben", "Eva", "Ida", "Kim", "Leo", "Lou", "Max", "Mia", "Sam",
    "Tom", "Zoe",
)
THINGS = (
    "apples", "pears", "nuts", "coins", "stones", "shells", "cards", "stamps",
    "beads", "rolls",
)
HOLDERS = ("bags", "boxes", "jars", "baskets")
OTHERS = ("friends", "neighbours", "cousins", "children")
PHRASES = {
    "have": ("{hero} has {n} {unit}.", "{hero} starts with {n} {unit}."),
    "have*": (
        "{hero} has {k} {holders} with {n} {unit} in each.",
        "{hero} starts with {k} {holders} of {n} {unit}.",
    ),
    "+": (
        "{hero} finds {n} {unit}.",
        "{friend} gives {hero} {n} {unit}.",
        "{hero} buys {n} more {unit}.",
    ),
    "+*": (
        "{hero} buys {k} {holders} with {n} {unit} in each.",
        "{hero} gets {n} {unit} from each of {k} {others}.",
    ),
    "-": (
        "{hero} loses {n} {unit}.",
        "{hero} gives {n} {unit} to {friend}.",
        "{hero} sells {n} of the {unit}.",
    ),
    "-*": (
        "{hero} gives {n} {unit} to each of {k} {others}.",
        "{hero} sells {k} {holders} with {n} {unit} in each.",
    ),
    "*": (
        "{hero} wins and now has {n} times as many.",
        "The {unit} of {hero} become {n} times as many.",
    ),
    "/": (
        "{hero} makes {n} equal shares of them and keeps one share.",
        "{hero} puts them into {n} equal {holders} and keeps one of these.",
    ),
    "also": ("{friend} has {n} {unit}.",),
    "noise": (
        "{third} has {n} {unit2}.",
        "{hero} also has {n} {unit2}.",
        "{hero} is {n} years old.",
    ),
    "?": (
        "How many {unit} does {hero} have now?",
        "How many {unit} does {hero} have in the end?",
    ),
    "?+": ("How many {unit} do {hero} and {friend} have together now?",),
    "?-": ("How many more {unit} than {friend} does {hero} have now?",),
}


# %% book/reasoning/problems.md#REWORDED
REWORDED = PHRASES | {
    "have*": ("{hero} has {n} {unit} in each of {k} {holders}.",),
    "+": ("{hero} gets {n} more {unit} from {friend}.",),
    "+*": ("{hero} finds {n} {unit} in each of {k} {holders}.",),
    "-": ("{friend} gets {n} of the {unit} from {hero}.",),
    "-*": ("{hero} loses {k} {holders} of {n} {unit}.",),
    "*": ("{hero} now has {n} times as many {unit}.",),
    "/": ("{hero} keeps one of {n} equal shares.",),
    "?": ("How many {unit} has {hero} now?",),
    "?+": ("How many {unit} do {hero} and {friend} now have together?",),
}


# %% book/reasoning/problems.md#Author
@dataclass
class Author:
    """Writes one problem: its sentences, its steps, the running number."""

    dice: Dice
    phrases: dict[str, tuple[str, ...]]
    lines: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        names = self.dice.sample(PEOPLE, 3)
        self.words = dict(zip(("hero", "friend", "third"), names))
        things = self.dice.sample(THINGS, 2)
        self.words |= dict(zip(("unit", "unit2"), things))

    def say(self, kind: str, n: int = 0, k: int = 0) -> None:
        """Add a sentence of this kind."""
        line = self.dice.pick(self.phrases[kind])
        holders, others = self.dice.pick(HOLDERS), self.dice.pick(OTHERS)
        words = self.words | {"holders": holders, "others": others}
        self.lines.append(line.format(n=n, k=k, **words))

    def insert(self, kind: str, n: int) -> None:
        """Put a sentence somewhere behind the first."""
        self.say(kind, n)
        line = self.lines.pop()
        self.lines.insert(1 + self.dice.below(len(self.lines)), line)

    def add(self, op: str, a: int | str, b: int | str, value: int) -> str:
        """Add a step; how later ones refer to it."""
        self.steps.append(Step(op, (a, b), value))
        return str(len(self.steps) - 1)

    def number(self) -> int:
        """A number of things, small enough to go on from."""
        return 2 + self.dice.below(38)


# %% book/reasoning/problems.md#product
def product(author: Author, most: int = LARGEST) -> tuple[int, int]:
    """How many holders, and how many things in each, at most in all."""
    k = 2 + author.dice.below(4)
    return k, 2 + author.dice.below(min(11, most // k - 1))


def begin(author: Author, steps: int) -> tuple[int | str, int]:
    """The first sentence; the number it gives, by itself or by a step."""
    if steps > 1 and author.dice.chance(0.35):
        k, n = product(author)
        author.say("have*", n, k)
        return author.add("*", k, n, k * n), k * n
    start = author.number()
    author.say("have", start)
    return start, start


def happen(
    author: Author, now: int | str, value: int, steps: int
) -> tuple[int | str, int]:
    """One event of at most `steps` steps, and the number after it."""
    dice = author.dice
    last = author.steps[-1].op if author.steps else ""
    while True:
        op = dice.pick("++--*/")
        double = op in "+-" and steps > 1 and dice.chance(0.4)
        if op in "*/" and last in ("*", "/"):
            continue
        k, n = product(author) if double else (1, 2 + dice.below(
            29 if op in "+-" else 4))
        after = compute(op, value, k * n)
        if 0 < after <= LARGEST:
            break
    author.say(op + "*" if double else op, n, k)
    other = author.add("*", k, n, k * n) if double else n
    return author.add(op, now, other, after), after


# %% book/reasoning/problems.md#write_problem
def write_problem(
    dice: Dice, num_steps: int, phrases: dict[str, tuple[str, ...]] = PHRASES
) -> Problem:
    """A problem of so many steps, from 1, told in words."""
    while True:
        author = Author(dice, phrases)
        asked = dice.pick(("", "", "", "+", "-")) if num_steps > 1 else ""
        before = num_steps - (asked != "")
        now, value = begin(author, before)
        while len(author.steps) < before:
            left = before - len(author.steps)
            now, value = happen(author, now, value, left)
        other = author.number()
        after = compute(asked, value, other) if asked else value
        if 0 < after <= LARGEST:
            break
    if asked:
        author.add(asked, now, other, after)
    if asked or dice.chance(0.15):
        author.insert("also", other)
    if dice.chance(0.4):
        author.insert("noise", author.number())
    author.say("?" + asked)
    return Problem(" ".join(author.lines), tuple(author.steps))


# %% book/reasoning/problems.md#skeleton
def skeleton(problem: Problem) -> str:
    """The computation alone, the same in whatever words it is told.

    Its steps in order, "#0" for the first one's result.
    """
    lines = []
    for step in problem.steps:
        parts = [f"#{x}" if isinstance(x, str) else str(x) for x in step.args]
        if step.op in "+*":
            parts.sort()
        lines.append(step.op.join(parts))
    return ";".join(lines)


def share(problem: Problem, purpose: str) -> float:
    """A number in [0, 1) that the skeleton and `purpose` decide."""
    text = f"{purpose} {skeleton(problem)}"
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


# %% book/reasoning/problems.md#SPLITS
SPLITS = {  # fewest steps, most steps, phrases, what a skeleton must be
    "train": (2, 4, PHRASES, "train"),
    "validation": (2, 4, PHRASES, "validation"),
    "test": (2, 4, PHRASES, "test"),
    "longer": (5, 6, PHRASES, "test"),
    "reworded": (2, 4, REWORDED, "test"),
}


def purpose_of(problem: Problem) -> str:
    """What problems with this skeleton are for: "train", with nine of ten
    skeletons, "validation" or "test"."""
    place = share(problem, "held out")
    return "test" if place < 0.05 else "validation" if place < 0.1 else "train"


def iterate_problems(
    split: str = "train", *, seed: int = 0, steps: int | None = None
) -> Iterator[Problem]:
    """Problems of a split without end, the same for one seed.

    With `steps`, only those of so many steps.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: use one of {', '.join(SPLITS)}")
    fewest, most, phrases, purpose = SPLITS[split]
    dice = Dice(random.Random(f"problems {split} {seed}"))
    while True:
        count = steps or fewest + dice.below(most - fewest + 1)
        problem = write_problem(dice, count, phrases)
        while purpose_of(problem) != purpose:
            problem = write_problem(dice, count, phrases)
        yield problem


def generate_problems(
    count: int, split: str = "train", *, seed: int = 0
) -> list[Problem]:
    """The first `count` problems of a split and seed."""
    return list(islice(iterate_problems(split, seed=seed), count))


# %% book/reasoning/problems.md#write_rationale
def write_rationale(problem: Problem, dice: Dice | None = None) -> str:
    """The steps, " 3*2=6. 12+6=18." and so on, in the order of the problem.

    With `dice`, a valid order and form is drawn from all of them.
    """
    left, done, lines = list(range(len(problem.steps))), set(), []
    while left:
        ready = [
            i for i in left
            if all(x in done for x in problem.steps[i].args if type(x) is str)
        ]
        place = dice.pick(ready) if dice else ready[0]
        step = problem.steps[place]
        a, b = problem.operands(step)
        if dice and step.op in "+*" and dice.chance(0.5):
            a, b = b, a
        lines.append(f" {a}{step.op}{b}={step.value}.")
        done.add(str(place))
        left.remove(place)
    return "".join(lines)


# %% book/reasoning/problems.md#EQUATION
EQUATION = re.compile(r" ?(\d{1,4})([-+*/])(\d{1,4})=(\d{1,4})")


@dataclass(frozen=True)
class Verdict:
    """What the checker says of a solution: of each step, of its answer."""

    steps: tuple[bool, ...]
    answer: bool


def find_step(
    problem: Problem, done: set[str], op: str, a: int, b: int
) -> int | None:
    """The step, not yet done, that computes a op b from what is done."""
    for place, step in enumerate(problem.steps):
        due = problem.operands(step)
        same = due == (a, b) or (op in "+*" and due == (b, a))
        ready = {x for x in step.args if isinstance(x, str)} <= done
        if step.op == op and same and ready and str(place) not in done:
            return place
    return None


def check_rationale(problem: Problem, text: str) -> Verdict:
    """Judge steps like " 12+6=18." and, behind ####, the answer."""
    thought, _, said = text.partition("####")
    done: set[str] = set()
    verdicts = []
    for line in thought.split(".")[:-1]:
        found = EQUATION.fullmatch(line)
        place = None
        if found:
            a, b, result = int(found[1]), int(found[3]), int(found[4])
            place = find_step(problem, done, found[2], a, b)
            if place is not None and result != problem.steps[place].value:
                place = None
        if place is not None:
            done.add(str(place))
        verdicts.append(place is not None)
    return Verdict(tuple(verdicts), said.strip() == str(problem.answer))


# %% book/reasoning/problems.md#THINK
THINK, END_THINK = "<think>", "</think>"
DIGITS_APART = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"


def train_problem_tokenizer(directory: str | Path) -> None:
    """Write the tokenizer of the problems and their solutions."""
    dice = Dice(random.Random(0))
    texts = [
        f" {problem.question}{write_rationale(problem, dice)}#### 0123456789"
        for problem in generate_problems(3_000)
    ]
    special = [END_OF_TEXT, THINK, END_THINK]
    tokenizer = Tokenizer.train(
        texts, 1024, pattern=DIGITS_APART, special_tokens=special
    )
    tokenizer.save(Path(directory, "tokenizer.json"))
