"""What a reward model learns from people's choices, and what its faults cost.

For each seed the book's assistant writes two replies to each of 2,000 tasks, people
with that seed choose, and reward models learn: from few and from many pairs, with a
margin, from people who pay for words, with two cures. Each is tested on the choices of
people without that fault, at tasks that were not trained on. At the end the best of up
to 64 replies is taken by several of them, alone and together.
"""

import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from harness import digits, main, progress
from torch import Tensor

from bookbuild.notebook import checkpoint
from extracted.alignment.classification import Classifier
from extracted.alignment.instruction_tuning import (
    RAMBLINGS,
    Task,
    ask,
    generate_tasks,
    train_assistant,
)
from extracted.alignment.reward_model import (
    REWARD_CONFIG,
    Preference,
    balance_lengths,
    best_accuracy,
    best_of_n,
    calibration_error,
    center,
    collect_preferences,
    count_words,
    fit_reward_model,
    length_slope,
    new_reward_model,
    prefer,
    reliability,
    score_differences,
    score_replies,
    true_reward,
)
from extracted.foundations.gpt import GPT
from extracted.foundations.pretraining import load_model
from extracted.foundations.tokenizer import Tokenizer

SEEDS = (1, 2, 3)
SIZES = {100: 30, 400: 60, 1600: 100}  # pairs, and steps of 16
BIAS = 0.1  # reward of a word, to people who pay for words
MARGIN = 0.5  # nats a grade
FEW, MEMBERS = 400, 4  # pairs of each member of the ensemble
COUNTS = (1, 2, 4, 8, 16, 32, 64)

Tasks = Sequence[Task]


class Bench:
    """The assistant, and what all runs of a seed share."""

    def __init__(self, policy: GPT, tokenizer: Tokenizer, quick: bool) -> None:
        self.policy, self.tokenizer, self.quick = policy, tokenizer, quick

    def fit(
        self, pairs: Sequence[Preference], steps: int, seed: int, margin: float = 0.0
    ) -> Classifier:
        steps = 2 if self.quick else steps
        model = new_reward_model(self.policy)
        config = replace(REWARD_CONFIG, steps=steps, seed=seed, log_every=0)
        fit_reward_model(model, self.tokenizer, pairs, config, margin=margin)
        return model

    def test(self, model: Classifier, held: Sequence[Preference]) -> dict[str, float]:
        """Accuracy, loss and calibration on choices; and against the truth."""
        gaps = score_differences(model, self.tokenizer, held)
        sign = torch.tensor([
            true_reward(p.task, p.chosen) - true_reward(p.task, p.rejected)
            for p in held
        ]).sign()  # fmt: skip
        flips = torch.arange(len(held)) % 2 * 2 - 1  # no side is always first
        bins = reliability((gaps * flips).sigmoid().tolist(), (flips > 0).tolist())
        return {
            "accuracy": (gaps > 0).float().mean().item(),
            "truth": (gaps * sign > 0)[sign != 0].float().mean().item(),
            "loss": torch.nn.functional.softplus(-gaps).mean().item(),
            "ece": calibration_error(bins),
        }

    def table(
        self, model: Classifier, tasks: Tasks, replies: list[list[str]]
    ) -> Tensor:
        """Scores (P, M); equal replies are read once."""
        keys = {(i, text): 0 for i, row in enumerate(replies) for text in row}
        scores = score_replies(
            model, self.tokenizer, [tasks[i] for i, _ in keys], [t for _, t in keys]
        )
        known = dict(zip(keys, scores.tolist(), strict=True))
        return torch.tensor([[known[i, t] for t in r] for i, r in enumerate(replies)])


def pad(tasks: Tasks) -> tuple[list[list[str]], Tensor]:
    """The plain reply to each task with 0 to 3 ramblings, and their words (P, 4)."""
    replies = [
        [" ".join([task.sentence, *RAMBLINGS[:k]]) for k in range(4)] for task in tasks
    ]
    return replies, torch.tensor([[count_words(t) for t in row] for row in replies])


def length_runs(
    bench: Bench,
    fair: Classifier,
    pairs: list[Preference],
    held: list[Preference],
    tasks: Tasks,
    seed: int,
) -> list[dict[str, Any]]:
    """People who pay for words, and two cures; beside a model of fair people."""
    rng = random.Random(f"biased {seed}")
    biased = [
        prefer(p.task, p.chosen, p.rejected, rng, length_bias=BIAS) for p in pairs
    ]
    balanced = balance_lengths(biased, seed=seed)
    replies, lengths = pad(tasks)
    truth = [
        [true_reward(t, r) for r in row] for t, row in zip(tasks, replies, strict=True)
    ]
    steps = SIZES[max(SIZES)]
    models = {
        "fair": fair,
        "biased": bench.fit(biased, steps, seed),
        "balanced": bench.fit(balanced, steps, seed),
    }
    # The term: score a word, of the assistant's own replies to one prompt.
    sides = [[p.chosen, p.rejected] for p in biased[:500]]
    words = torch.tensor([[count_words(t) for t in row] for row in sides])
    scores = bench.table(models["biased"], [p.task for p in biased[:500]], sides)
    term = length_slope(scores, words)
    longer = torch.tensor(
        [count_words(p.chosen) - count_words(p.rejected) for p in held]
    )
    rows: list[dict[str, Any]] = []
    for name, model in models.items():
        slope = length_slope(bench.table(model, tasks, replies), lengths)
        gaps = score_differences(model, bench.tokenizer, held)
        kinds = [(name, slope, gaps)]
        if name == "biased":
            kinds.append(("subtracted", slope - term, gaps - term * longer))
        rows += [
            {
                "method": kind, "seed": seed, "slope": slope,
                "accuracy": (gaps > 0).float().mean().item(),
            }
            for kind, slope, gaps in kinds
        ]  # fmt: skip
    true_slope = length_slope(torch.tensor(truth), lengths) / 0.2
    kept = {"biased": len(biased), "balanced": len(balanced)}
    return [
        {**row, "term": term, "true_slope": true_slope, "kept": kept} for row in rows
    ]


def search(
    bench: Bench, models: dict[str, list[Classifier]], tasks: Tasks, seed: int
) -> list[dict[str, Any]]:
    """The best of n replies by each judge: what it promises, and what is true."""
    asked = [task.prompt for task in tasks]
    found = ask(
        bench.policy, bench.tokenizer, asked, temperature=1.0, num_samples=COUNTS[-1],
        seed=seed,
    )  # fmt: skip
    replies = [[reply.text for reply in row] for row in found]
    truth = torch.tensor(
        [
            [true_reward(t, r) for r in row]
            for t, row in zip(tasks, replies, strict=True)
        ]
    )
    rows = []
    for name, members in models.items():
        tables = [center(bench.table(m, tasks, replies)) for m in members]
        judges = {name: tables[0]}
        if len(members) > 1:
            stack = torch.stack(tables)
            judges |= {"mean": stack.mean(dim=0), "minimum": stack.amin(dim=0)}
        for judge, scores in judges.items():
            rows.append({
                "judge": judge, "seed": seed, "counts": COUNTS,
                # In units of the truth, and equal to it for one sample.
                "proxy": best_of_n(scores, 0.2 * center(scores) + truth.mean(), COUNTS),
                "truth": best_of_n(scores, truth, COUNTS),
                "possible": best_of_n(truth, truth, COUNTS),
            })  # fmt: skip
    return rows


def one_seed(bench: Bench, seed: int) -> dict[str, list[dict[str, Any]]]:
    """All runs of a seed."""
    count, tests, searched = (160, 60, 2) if bench.quick else (2100, 500, 50)
    policy, tokenizer = bench.policy, bench.tokenizer
    train = generate_tasks(count, seed=seed)
    pairs = collect_preferences(policy, tokenizer, train, seed=seed)
    tasks = generate_tasks(tests, "test", seed=seed)
    held = collect_preferences(policy, tokenizer, tasks, seed=seed)
    ceiling = best_accuracy(held)
    curve, models = list[dict[str, Any]](), dict[str, list[Classifier]]()
    for size, steps in SIZES.items():
        model = bench.fit(pairs[:size], steps, seed)
        found = bench.test(model, held)
        curve.append({"pairs": size, "seed": seed, "ceiling": ceiling, **found})
        models[str(size)] = [model]
        progress(f"seed {seed}, {size} pairs: {found}")
    most = max(SIZES)
    margin = bench.fit(pairs[:most], SIZES[most], seed, MARGIN)
    graded = [{"margin": MARGIN, "seed": seed, **bench.test(margin, held)}]
    progress(f"margin: {graded}")
    fair = models[str(most)][0]
    lengths = length_runs(bench, fair, pairs[:most], held, tasks[:100], seed)
    progress(f"lengths: {lengths}")
    for member in range(1, MEMBERS):
        # The same few pairs, drawn with replacement.
        rng = random.Random(f"member {seed} {member}")
        few = rng.choices(pairs[:FEW], k=len(pairs[:FEW]))
        models[str(FEW)].append(bench.fit(few, SIZES[FEW], 100 * member + seed))
    judges = {name: models[name] for name in (str(FEW), str(most))}
    best = search(bench, judges, tasks[:searched], seed)
    progress(f"search: {best}")
    return {"curve": curve, "graded": graded, "lengths": lengths, "search": best}


def rounded(value: Any) -> Any:
    """Every float to four digits."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return digits(value) if isinstance(value, float) else value


def run(quick: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    place = checkpoint("assistant", make=train_assistant)
    bench = Bench(*load_model(place), quick)
    seeds = SEEDS[:1] if quick else SEEDS
    runs = [one_seed(bench, seed) for seed in seeds]
    merged = {
        key: [rounded(row) for found in runs for row in found[key]] for key in runs[0]
    }
    return {
        "threads": 1, "seeds": list(seeds), "margin": MARGIN, "bias": BIAS, **merged
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main("reward_model", run, ("torch",)))
