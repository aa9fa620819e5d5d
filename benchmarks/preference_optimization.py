"""What the book's assistant learns from pairs of replies, by each loss.

Each method's rates and strength are chosen on the validation split from its own grid.
Then, for each seed, new pairs are sampled and all methods train on them, for as many
steps of as many pairs; "dpo, fresh pairs" samples the second half of its pairs from the
policy of the first half. The true reward is of the test split, whose tasks and
sampling seed all methods of a seed share. The assistant is trained first, unless
`EXTRACTED_ASSISTANT` names its directory.
"""

import copy
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import torch
from harness import digits, main, progress
from torch import Tensor

from extracted.alignment.instruction_tuning import (
    Task,
    generate_tasks,
    train_assistant,
)
from extracted.alignment.preference_optimization import (
    PairLoss,
    PreferenceConfig,
    chosen_loss,
    compare_ratios,
    dpo_loss,
    examine_policy,
    ipo_loss,
    kto_loss,
    orpo_loss,
    reply_logprobs,
    simpo_loss,
    train_preferences,
)
from extracted.alignment.reward_model import Preference, collect_preferences
from extracted.foundations.gpt import GPT
from extracted.foundations.pretraining import load_model
from extracted.foundations.tokenizer import Tokenizer

SEEDS = (0, 1, 2)
# Two tries each: a share of instruction tuning's rates, and a loss. Where no
# reference holds a policy back, the rates do.
TRIES: dict[str, list[tuple[float, PairLoss]]] = {
    "chosen only": [(share, chosen_loss) for share in (0.1, 0.2)],
    "dpo": [(0.2, partial(dpo_loss, beta=beta)) for beta in (0.1, 0.5)],
    "ipo": [(0.2, partial(ipo_loss, beta=beta)) for beta in (0.1, 0.5)],
    "kto": [(0.2, partial(kto_loss, beta=beta)) for beta in (0.1, 0.5)],
    "simpo": [(share, partial(simpo_loss, gamma=0.5)) for share in (0.1, 0.2)],
    "orpo": [(share, partial(orpo_loss, weight=1.0)) for share in (0.1, 0.2)],
}


def settings(loss: PairLoss) -> dict[str, float]:
    return dict(loss.keywords) if isinstance(loss, partial) else {}


class Course:
    """The pairs, references and tasks that all runs of a seed share."""

    def __init__(
        self,
        assistant: GPT,
        tokenizer: Tokenizer,
        tasks: list[Task],
        *,
        seed: int,
        quick: bool,
    ) -> None:
        self.assistant, self.tokenizer, self.tasks = assistant, tokenizer, tasks
        self.seed, self.count = seed, 100 if quick else 2000
        self.steps = 4 if quick else PreferenceConfig().steps
        self.pairs = self.collect(assistant, self.count, 10 + seed)
        self.references = reply_logprobs(assistant, tokenizer, self.pairs)
        split = generate_tasks(40 if quick else 200, "validation", seed=2)
        self.held_out = collect_preferences(assistant, tokenizer, split, seed=2)
        self.start = reply_logprobs(assistant, tokenizer, self.held_out)

    def collect(self, model: GPT, count: int, seed: int) -> list[Preference]:
        tasks = generate_tasks(count, seed=seed)
        return collect_preferences(model, self.tokenizer, tasks, seed=seed)

    def train(
        self,
        policy: GPT,
        share: float,
        loss: PairLoss,
        pairs: list[Preference],
        references: Tensor,
        steps: int,
    ) -> None:
        config = PreferenceConfig(
            steps=steps,
            rate=5e-3 * share,
            matrix_rate=0.03 * share,
            seed=self.seed,
        )
        train_preferences(
            policy, self.tokenizer, pairs, config, loss, references=references
        )

    def whole(self, share: float, loss: PairLoss) -> GPT:
        policy = copy.deepcopy(self.assistant)
        self.train(policy, share, loss, self.pairs, self.references, self.steps)
        return policy

    def halves(self, share: float, loss: PairLoss) -> GPT:
        """Half of the steps, then half of new pairs by the policy of then.

        The reference stays the assistant.
        """
        policy, half = copy.deepcopy(self.assistant), len(self.pairs) // 2
        self.train(
            policy,
            share,
            loss,
            self.pairs[:half],
            self.references[:half],
            self.steps // 2,
        )
        fresh = self.collect(policy, self.count, 20 + self.seed)[:half]
        references = reply_logprobs(self.assistant, self.tokenizer, fresh)
        self.train(policy, share, loss, fresh, references, self.steps - self.steps // 2)
        return policy

    def examine(self, model: GPT) -> dict[str, float]:
        """Means over the tasks, and what happened to held-out pairs."""
        report = partial(
            examine_policy, model, self.assistant, self.tokenizer, self.tasks
        )
        sampled, greedy = report(seed=self.seed), report(temperature=0.0)
        row = {name: fmean(values) for name, values in sampled.items()}
        row |= {f"greedy_{name}": fmean(values) for name, values in greedy.items()}
        now = reply_logprobs(model, self.tokenizer, self.held_out)
        row |= compare_ratios(now - self.start)
        return {name: digits(value) for name, value in row.items()}


def choose(course: Course) -> tuple[dict[str, tuple[float, PairLoss]], list[Any]]:
    """Each method's best share and loss on the validation split, and all tries."""
    best, tries = dict[str, tuple[float, PairLoss]](), list[Any]()
    for method, options in TRIES.items():
        most = -float("inf")
        for share, loss in options:
            found = course.examine(course.whole(share, loss))
            row = {"method": method, "share": share, **settings(loss), **found}
            tries.append(row)
            progress(str(row))
            if found["reward"] > most:
                most, best[method] = found["reward"], (share, loss)
    return best, tries


def compare(
    course: Course, chosen: dict[str, tuple[float, PairLoss]]
) -> Iterator[dict[str, Any]]:
    """A row for the assistant, and one for each method."""
    yield {"method": "assistant", **course.examine(course.assistant)}
    runs = {name: partial(course.whole, *how) for name, how in chosen.items()}
    runs["dpo, fresh pairs"] = partial(course.halves, *chosen["dpo"])
    for method, make in runs.items():
        start = time.process_time()
        policy = make()
        seconds = digits(time.process_time() - start)
        yield {"method": method, "cpu_s": seconds, **course.examine(policy)}


def load_assistant() -> tuple[GPT, Tokenizer]:
    if place := os.environ.get("EXTRACTED_ASSISTANT"):
        return load_model(place)
    with TemporaryDirectory() as scratch:
        train_assistant(scratch)
        return load_model(scratch)


def run(quick: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    begin = time.process_time()
    assistant, tokenizer = load_assistant()
    count = 20 if quick else 300
    watched = generate_tasks(count, "validation", seed=3)
    course = Course(assistant, tokenizer, watched, seed=100, quick=quick)
    chosen, tries = choose(course)
    exam, rows = generate_tasks(20 if quick else 600, "test"), list[Any]()
    for seed in SEEDS[:1] if quick else SEEDS:
        course = Course(assistant, tokenizer, exam, seed=seed, quick=quick)
        for row in compare(course, chosen):
            rows.append({"seed": seed, "pairs": len(course.pairs), **row})
            progress(str(rows[-1]))
    return {
        "threads": 1,
        "cpu_s": digits(time.process_time() - begin),
        "steps": course.steps,
        "batch_size": PreferenceConfig().batch_size,
        "validation_tasks": count,
        "test_tasks": len(exam),
        "chosen": {
            name: {"share": share, **settings(loss)}
            for name, (share, loss) in chosen.items()
        },
        "tries": tries,
        "runs": rows,
    }


if __name__ == "__main__":
    sys.exit(main("preference_optimization", run, ("torch",)))
