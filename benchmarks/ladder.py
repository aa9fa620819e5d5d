"""The whole ladder, three seeds: base, steps, vote, verifier, GRPO, all together.

Each seed trains all its models and climbs on 2,000 test problems and on two harder
splits, in a process of its own. Weights are chosen on validation. Seconds are the
processor's, so that it does not matter how many cores the processes share.
"""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import torch
from harness import digits, main, progress

from extracted.reasoning.capstone import LadderConfig, run_ladder

SEEDS = 3
QUICK = LadderConfig(
    reasoner=replace(LadderConfig().reasoner, steps=20),
    grpo=replace(LadderConfig().grpo, iterations=1, num_problems=2),
    verifier_problems=0,
    validation=4,
    exams=(("test", 4), ("longer", 4), ("reworded", 4)),
    num_samples=2,
)


def one_seed(config: LadderConfig, seed: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    row = rounded(run_ladder(config, seed))
    for name, rung in row["exams"]["test"].items():
        solved = rung["right"].count("1")
        progress(f"seed {seed}: {name}: {solved} of {len(rung['right'])}")
    return row


def rounded(value: Any) -> Any:
    """The same record with timings to four digits."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return digits(value) if isinstance(value, float) else value


def run(quick: bool) -> dict[str, Any]:
    config = QUICK if quick else LadderConfig()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(SEEDS, mp_context=context) as pool:
        rows = list(pool.map(one_seed, [config] * SEEDS, range(SEEDS)))
    return {
        "threads": 1,
        "processes": SEEDS,
        "samples": config.num_samples,
        "temperature": config.temperature,
        "seeds": rows,
    }


if __name__ == "__main__":
    sys.exit(main("ladder", run, ("torch",)))
