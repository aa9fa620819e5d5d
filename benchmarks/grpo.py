"""Five ways to learn from rewards: the book's reasoner trained on by each of them.

The same checkpoint, problems, iterations and rates for all; two updates a batch, so
that ratios leave 1 and clips have something to do. Greedy accuracy on test before
and after, with the paired p-value, and the log of each run.
"""

import copy
import sys
import time
from dataclasses import replace
from typing import Any

import torch
from harness import digits, main, progress

from extracted.alignment.evaluation import paired_p_value
from extracted.foundations.gpt import GPT
from extracted.foundations.tokenizer import Tokenizer
from extracted.reasoning.chain_of_thought import REASONER_CONFIG, fresh_reasoner, solve
from extracted.reasoning.grpo import METHODS, GRPOConfig, train_grpo
from extracted.reasoning.problems import generate_problems, iterate_problems


def answers(model: GPT, tokenizer: Tokenizer, count: int) -> list[bool]:
    problems = generate_problems(count, "test")
    return [attempt.correct for (attempt,) in solve(model, tokenizer, problems)]


def one_run(
    name: str,
    seed: int,
    start: GPT,
    tokenizer: Tokenizer,
    before: list[bool],
    quick: bool,
) -> dict[str, Any]:
    size: dict[str, Any] = {"iterations": 2, "num_problems": 4} if quick else {}
    config = replace(METHODS[name], seed=seed, updates=2, **size)
    model = copy.deepcopy(start)
    began = time.perf_counter()
    log = train_grpo(
        model,
        tokenizer,
        iterate_problems(seed=1_000 + seed),
        config,
        validation=generate_problems(20 if quick else 300, "validation"),
    )
    seconds = time.perf_counter() - began
    after = answers(model, tokenizer, len(before))
    row: dict[str, Any] = {
        "method": name,
        "seed": seed,
        "seconds": digits(seconds),
        "test": sum(after),
        "p": digits(paired_p_value(before, after)),
    }
    progress(str(row))
    kept = ("step", "reward", "validation", "entropy", "length", "kl", "outside")
    row["log"] = [
        {key: digits(entry[key]) for key in kept if key in entry} for entry in log
    ]
    return row


def run(quick: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    steps = 30 if quick else REASONER_CONFIG.steps
    start, tokenizer, _ = fresh_reasoner(config=replace(REASONER_CONFIG, steps=steps))
    before = answers(start, tokenizer, 50 if quick else 1000)
    rows = [
        one_run(name, seed, start, tokenizer, before, quick)
        for seed in ([0] if quick else [0, 1, 2])
        for name in METHODS
    ]
    config = GRPOConfig()
    return {
        "problems": len(before),
        "before": sum(before),
        "iterations": 2 if quick else config.iterations,
        "threads": 1,
        "runs": rows,
    }


if __name__ == "__main__":
    sys.exit(main("grpo", run, ("torch",)))
