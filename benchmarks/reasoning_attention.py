"""What a step may read: the book's reasoner trained under masks and with a bias.

The same weights to begin with, the same problems, solutions, steps and seeds for each
pattern; greedy accuracy on problems like those of the training, on longer and on
reworded ones.
"""

import sys
import time
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import torch
from harness import digits, main, progress

from extracted.alignment.instruction_tuning import BATCH_SIZE, finetune
from extracted.foundations.tokenizer import Tokenizer
from extracted.reasoning.chain_of_thought import (
    REASONER_CONFIG,
    make_examples,
    new_reasoner,
    solve,
    think_first,
)
from extracted.reasoning.problems import generate_problems, train_problem_tokenizer
from extracted.reasoning.reasoning_attention import (
    BiasedGPT,
    Rule,
    StepGPT,
    read_all,
    read_needed,
    read_results,
    with_rule,
)

PATTERNS: dict[str, tuple[type[StepGPT], Rule]] = {
    "causal": (StepGPT, read_all),
    "results": (StepGPT, read_results),
    "needed": (StepGPT, read_needed),
    "bias": (BiasedGPT, read_all),
}


def one_run(
    tokenizer: Tokenizer, name: str, seed: int, count: int, steps: int
) -> dict[str, Any]:
    config = replace(REASONER_CONFIG, steps=steps, seed=seed)
    problems = generate_problems(steps * BATCH_SIZE, seed=seed)
    examples = make_examples(problems, tokenizer, think_first, seed=seed)
    kind, rule = PATTERNS[name]
    untrained = new_reasoner(tokenizer, seed=seed)
    model = with_rule(untrained, tokenizer, rule, model_class=kind)
    start = time.perf_counter()
    log = finetune(model, examples, tokenizer, config)
    seconds = time.perf_counter() - start
    row: dict[str, Any] = {"pattern": name, "seed": seed, "seconds": digits(seconds)}
    row["loss"] = digits(log[-1]["loss"])
    for split, share in (("test", 1), ("longer", 2), ("reworded", 2)):
        exam = generate_problems(count // share, split)
        found = solve(model, tokenizer, exam, max_new_tokens=120)
        row[split] = sum(attempt.correct for (attempt,) in found)
    for part in ("dependency_bias", "proximity_bias") if kind is BiasedGPT else ():
        row[part] = [
            [digits(value) for value in weight.tolist()]
            for key, weight in model.named_parameters()
            if key.endswith(part)
        ]
    progress(str(row))
    return row


def run(quick: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    with TemporaryDirectory() as place:
        train_problem_tokenizer(place)
        tokenizer = Tokenizer.load(place)
    count, steps = (40, 20) if quick else (1000, REASONER_CONFIG.steps)
    rows = [
        one_run(tokenizer, name, seed, count, steps)
        for seed in ([0] if quick else [0, 1, 2])
        for name in PATTERNS
    ]
    sizes = {"test": count, "longer": count // 2, "reworded": count // 2}
    return {"problems": sizes, "steps": steps, "threads": 1, "runs": rows}


if __name__ == "__main__":
    sys.exit(main("reasoning_attention", run, ("torch",)))
