"""REINFORCE, RLOO and PPO beside each other: as many replies for each, three seeds.

All start from one assistant, are paid by one reward model and read the same tasks of a
seed. The true reward is measured on test tasks, greedy and at temperature 1. Assistant
and reward model are those in the folder that BOOK_CHECKPOINTS names, as the book's
build sets it; without one they are trained first, in a scratch folder.
"""

import copy
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from harness import digits, main, progress

from extracted.alignment.classification import t_interval
from extracted.alignment.instruction_tuning import (
    Task,
    ask,
    generate_tasks,
    is_right,
    iterate_dialogues,
    train_assistant,
)
from extracted.alignment.reward_model import (
    load_reward_model,
    train_reward_model,
    true_reward,
)
from extracted.alignment.rlhf import (
    METHODS,
    Critic,
    RLHFConfig,
    Scorer,
    make_scorer,
    standardize,
    train_rlhf,
)
from extracted.foundations.gpt import GPT
from extracted.foundations.pretraining import load_model
from extracted.foundations.tokenizer import Tokenizer

SEEDS = (0, 1, 2)
CONFIG = RLHFConfig()
QUICK = RLHFConfig(iterations=1, num_tasks=2, num_samples=2, max_new_tokens=4)


def begin(folder: Path) -> tuple[GPT, Tokenizer, Scorer, Critic]:
    """The assistant and its judge, whose unit is the assistant's deviation."""
    assistant, reward_model = folder / "assistant", folder / "reward-model"
    if not assistant.is_dir():
        train_assistant(assistant)
    if not reward_model.is_dir():
        train_reward_model(reward_model, assistant=assistant)
    policy, tokenizer = load_model(assistant)
    judge, _ = load_reward_model(reward_model)
    tasks = generate_tasks(256, seed=2)
    found = ask(policy, tokenizer, [t.prompt for t in tasks], temperature=1.0, seed=2)
    judge = standardize(judge, tokenizer, tasks, [reply.text for (reply,) in found])
    return policy.eval(), tokenizer, make_scorer(judge, tokenizer), Critic(judge)


def measure(
    policy: GPT, tokenizer: Tokenizer, tasks: list[Task], seed: int
) -> dict[str, float]:
    """True reward and share of right replies, greedy and sampled."""
    row = {}
    for name, temperature in (("greedy", 0.0), ("sampled", 1.0)):
        found = ask(
            policy,
            tokenizer,
            [task.prompt for task in tasks],
            temperature=temperature,
            seed=seed,
        )
        texts = [reply.text for (reply,) in found]
        pairs = list(zip(tasks, texts, strict=True))
        row[name] = sum(true_reward(*pair) for pair in pairs) / len(pairs)
        row[f"{name}_right"] = sum(is_right(*pair) for pair in pairs) / len(pairs)
    return row


def run_in(folder: Path, quick: bool) -> Iterator[dict[str, Any]]:
    """The start of each seed, and each method from there."""
    policy, tokenizer, reward, critic = begin(folder)
    exam = generate_tasks(8 if quick else 300, "test")
    for seed in SEEDS[:1] if quick else SEEDS:
        row = {"method": "sft", "seed": seed}
        yield row | measure(policy, tokenizer, exam, seed)
        for method in METHODS:
            config = replace(QUICK if quick else CONFIG, seed=seed)
            learner = copy.deepcopy(policy)
            tasks = (first for first, *_ in iterate_dialogues(seed=1_000 + seed))
            begun = time.process_time()
            log = train_rlhf(
                learner,
                tokenizer,
                reward,
                tasks,
                config,
                method=method,
                critic=copy.deepcopy(critic),
            )
            took = time.process_time() - begun
            row = {"method": method, "seed": seed, "cpu_s": digits(took)}
            row |= measure(learner, tokenizer, exam, seed)
            tail = log[-5:]
            for key in ("kl", "length", "entropy", "beta", "reward"):
                row[f"last_{key}"] = digits(sum(r[key] for r in tail) / len(tail))
            yield row


def intervals(rows: list[dict[str, Any]]) -> dict[str, dict[str, tuple[float, float]]]:
    """Mean and half width over seeds, and the same of the gain over the start."""
    table: dict[str, dict[str, tuple[float, float]]] = {}
    for method in ("sft", *METHODS):
        own = [row for row in rows if row["method"] == method]
        base = [row for row in rows if row["method"] == "sft"]
        table[method] = {}
        for key in ("greedy", "sampled"):
            gains = [a[key] - b[key] for a, b in zip(own, base, strict=True)]
            table[method][key] = t_interval([row[key] for row in own])
            table[method][f"{key}_gain"] = t_interval(gains)
    return table


def run(quick: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    rows = []
    with TemporaryDirectory() as scratch:
        folder = Path(os.environ.get("BOOK_CHECKPOINTS", scratch))
        for row in run_in(folder, quick):
            progress(str(row))
            rows.append(row)
    return {
        "threads": 1,
        "config": asdict(CONFIG),
        "replies": CONFIG.iterations * CONFIG.num_tasks * CONFIG.num_samples,
        "runs": rows,
        "intervals": {} if quick else intervals(rows),
    }


if __name__ == "__main__":
    sys.exit(main("rlhf", run, ("torch",)))
