"""What in a thought helps: the book's reasoner trained on thoughts of several kinds.

The same model, problems, steps and seeds for each kind; greedy accuracy on the test
split. Each kind changes one thing about the thought and leaves the answer right.
"""

import random
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from harness import digits, main, progress

from extracted.foundations.language_modeling import Dice
from extracted.reasoning.chain_of_thought import (
    REASONER_CONFIG,
    answer_only,
    fresh_reasoner,
    solve,
    think_first,
)
from extracted.reasoning.problems import (
    END_THINK,
    THINK,
    Problem,
    generate_problems,
    write_rationale,
)

STEPS = 1200  # two thirds of the reasoner's: there are 21 models to train


def framed(problem: Problem, thought: str) -> str:
    return f"{THINK}{thought}{END_THINK}#### {problem.answer}"


def one_order(problem: Problem, dice: Dice) -> str:
    """The steps in the order of the problem, always the same for one problem."""
    return framed(problem, write_rationale(problem))


def shuffled(problem: Problem, dice: Dice) -> str:
    """The right steps in an order drawn from all, needed results first or not."""
    lines = write_rationale(problem, dice).split(".")[:-1]
    order = dice.sample(lines, len(lines))
    return framed(problem, "".join(f"{line}." for line in order))


def wrong(problem: Problem, dice: Dice) -> str:
    """The steps of another problem with as many: in form right, of no use here."""
    rng = random.Random(problem.question)
    other = generate_problems(1, seed=rng.getrandbits(30))[0]
    while len(other.steps) != len(problem.steps):
        other = generate_problems(1, seed=rng.getrandbits(30))[0]
    return framed(problem, write_rationale(other, dice))


def filler(problem: Problem, dice: Dice) -> str:
    """Points in place of the steps, as many as the steps have characters."""
    return framed(problem, " ." * len(write_rationale(problem, dice)))


def answer_first(problem: Problem, dice: Dice) -> str:
    """The right steps, but behind the answer."""
    thought = write_rationale(problem, dice)
    return f"#### {problem.answer}{THINK}{thought}{END_THINK}"


KINDS: dict[str, Callable[[Problem, Dice], str]] = {
    "steps": think_first,
    "one order": one_order,
    "answer alone": answer_only,
    "answer first": answer_first,
    "filler": filler,
    "wrong": wrong,
    "shuffled": shuffled,
}


def first_number(text: str) -> str:
    return text.partition("####")[2].partition("<")[0].strip()


def one_run(kind: str, seed: int, count: int, steps: int) -> dict[str, Any]:
    config = replace(REASONER_CONFIG, steps=steps, seed=seed)
    start = time.perf_counter()
    model, tokenizer, _ = fresh_reasoner(write=KINDS[kind], config=config)
    seconds = time.perf_counter() - start
    row: dict[str, Any] = {"kind": kind, "seed": seed, "seconds": digits(seconds)}
    problems = generate_problems(count, "test")
    found = [a for (a,) in solve(model, tokenizer, problems)]
    row["test"] = sum(
        first_number(attempt.text) == str(problem.answer)
        for problem, attempt in zip(problems, found, strict=True)
    )
    progress(str(row))
    return row


def run(quick: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    count, steps = (100, 50) if quick else (1000, STEPS)
    rows = [
        one_run(kind, seed, count, steps)
        for seed in ([0] if quick else [0, 1, 2])
        for kind in KINDS
    ]
    return {"problems": count, "steps": steps, "threads": 1, "runs": rows}


if __name__ == "__main__":
    sys.exit(main("chain_of_thought", run, ("torch",)))
