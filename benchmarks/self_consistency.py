"""A vote of many samples against a longer training: what each costs and brings.

The book's reasoner trained for 600 steps, for 1,200 with two seeds, and for 2,400; on
the same test problems one greedy attempt each, and votes of samples at
temperature 0.7.
"""

import sys
import time
from dataclasses import replace
from typing import Any

import torch
from harness import digits, main, progress

from extracted.alignment.instruction_tuning import BATCH_SIZE
from extracted.reasoning.chain_of_thought import (
    REASONER_CONFIG,
    fresh_reasoner,
    make_examples,
    solve,
    think_first,
)
from extracted.reasoning.problems import generate_problems
from extracted.reasoning.self_consistency import vote_curve

TEMPERATURE = 0.7
STEPS = 1200
SAMPLES = 16


def one_run(steps: int, seed: int, count: int) -> dict[str, Any]:
    config = replace(REASONER_CONFIG, steps=steps, seed=seed)
    start = time.perf_counter()
    model, tokenizer, _ = fresh_reasoner(config=config)
    seconds = time.perf_counter() - start
    seen = generate_problems(steps * BATCH_SIZE, seed=seed)
    tokens = sum(
        len(example.prompt) + len(example.target)
        for example in make_examples(seen, tokenizer, think_first, seed=seed)
    )
    exam = generate_problems(count, "test")
    greedy = [a for (a,) in solve(model, tokenizer, exam)]
    start = time.perf_counter()
    samples = solve(
        model, tokenizer, exam, temperature=TEMPERATURE, num_samples=SAMPLES
    )
    sampling = time.perf_counter() - start
    truth = [str(problem.answer) for problem in exam]
    answers = [[a.answer for a in row] for row in samples]
    curve = 100 * vote_curve(answers, truth).mean(axis=0)
    row = {
        "steps": steps,
        "seed": seed,
        "seconds": digits(seconds),
        "tokens": tokens,
        "greedy": digits(100 * sum(a.correct for a in greedy) / count),
        "greedy tokens": sum(len(a.completion.ids) for a in greedy),
        "sampling seconds": digits(sampling),
        "sampled tokens": sum(len(a.completion.ids) for s in samples for a in s),
        "vote": {str(k): digits(float(curve[k - 1])) for k in (1, 4, 16)},
    }
    progress(str(row))
    return row


def run(quick: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    count, full = (50, 50) if quick else (500, STEPS)
    plan = [(full // 2, 0), *((full, seed) for seed in range(2)), (2 * full, 0)]
    rows = [one_run(steps, seed, count) for steps, seed in plan]
    return {"problems": count, "temperature": TEMPERATURE, "threads": 1, "runs": rows}


if __name__ == "__main__":
    sys.exit(main("self_consistency", run, ("torch",)))
