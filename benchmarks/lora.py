"""What adapters cost and reach: the book's assistant taught a book of manners in
several ways.

Rates are chosen on the validation split with one seed. Then, for each seed, every
method gets the same examples in the same order. Passed are replies on the test split,
greedy, that are right and mannerly; `story_loss` is the loss on held-out stories,
in nats a token, where the untouched assistant has `story_loss_before`.
"""

import copy
import sys
import time
from dataclasses import dataclass
from typing import Any

import torch
from harness import digits, main, progress

from bookbuild.notebook import checkpoint
from extracted.alignment.instruction_tuning import (
    BATCH_SIZE,
    Example,
    Task,
    ask,
    chat_examples,
    generate_tasks,
    is_right,
    train_assistant,
)
from extracted.alignment.lora import (
    LoRAConfig,
    add_lora,
    passes,
    tune,
    write_mannerly,
)
from extracted.foundations.gpt import GPT
from extracted.foundations.language_modeling import generate_stories
from extracted.foundations.pretraining import TrainConfig, load_model, next_token_loss
from extracted.foundations.tokenizer import Tokenizer

SEEDS = (0, 1, 2)
ATTENTION, MLP = ("qkv", "out"), ("up", "down")
SCALE = 4.0  # alpha / rank, the same for every rank


@dataclass(frozen=True)
class Method:
    """An adapter of a rank, or else the weights whose names have `part` in them."""

    rank: int = 0
    targets: tuple[str, ...] = ATTENTION + MLP
    part: str = ""


METHODS = {
    "full": Method(),
    "norms": Method(part="norm"),
    "last matrix": Method(part="blocks.3.mlp.down"),
    "rank 1": Method(1),
    "rank 3": Method(3),
    "rank 8": Method(8),
    "attention, rank 8": Method(8, ATTENTION),
    "MLP, rank 5": Method(5, MLP),
}
RATES = {
    "full": (1e-3, 2e-3),
    "norms": (2e-2,),
    "last matrix": (1e-2,),
    "rank 3": (2.5e-3, 5e-3, 1e-2),
}


def taught(
    base: GPT,
    tokenizer: Tokenizer,
    examples: list[Example],
    method: Method,
    config: TrainConfig,
) -> GPT:
    """A copy of the assistant after training by a method."""
    model = copy.deepcopy(base)
    if method.rank:
        adapters = LoRAConfig(method.rank, SCALE * method.rank, 0.0, method.targets)
        dice = torch.Generator().manual_seed(config.seed)
        add_lora(model, adapters, generator=dice)
    else:
        for name, weight in model.named_parameters():
            weight.requires_grad_(method.part in name)
    tune(model, examples, tokenizer, config)
    return model


def count_right(
    model: GPT, tokenizer: Tokenizer, tasks: list[Task]
) -> tuple[list[bool], list[bool]]:
    """Which replies pass, and which are right in whatever manner."""
    found = ask(model, tokenizer, [task.prompt for task in tasks])
    pairs = [(task, reply.text) for task, (reply,) in zip(tasks, found, strict=True)]
    return [passes(*pair) for pair in pairs], [is_right(*pair) for pair in pairs]


@torch.no_grad()
def story_loss(model: GPT, tokenizer: Tokenizer, count: int) -> float:
    """Nats a token on validation stories, in windows of 128 tokens."""
    text = "\n".join(generate_stories(count, split="validation"))
    ids = torch.tensor(tokenizer.encode(text))
    windows = ids[: len(ids) // 129 * 129].view(-1, 129)
    return next_token_loss(model, windows[:, :-1], windows[:, 1:]).item()


def run(quick: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    base, tokenizer = load_model(checkpoint("assistant", make=train_assistant))
    steps, count, stories = (3, 20, 8) if quick else (500, 600, 60)
    validation = generate_tasks(count * 2 // 3, "validation", seed=5)
    test = generate_tasks(count, "test", seed=6)

    def examples(seed: int) -> list[Example]:
        tasks = generate_tasks(steps * BATCH_SIZE, seed=1000 + seed)
        dialogues = [[task] for task in tasks]
        return chat_examples(dialogues, tokenizer, write=write_mannerly)

    def train(name: str, rate: float, seed: int) -> GPT:
        config = TrainConfig(
            steps=steps, rate=rate, seed=seed, log_every=0, evaluate_every=0
        )
        return taught(base, tokenizer, examples(seed), METHODS[name], config)

    search, chosen = list[dict[str, Any]](), dict[str, float]()
    for name, rates in RATES.items():
        for rate in rates[: 1 if quick else None]:
            passed, _ = count_right(train(name, rate, 0), tokenizer, validation)
            row = {"method": name, "rate": rate, "passed": sum(passed)}
            search.append(row)
            progress(str(row))
        rows = [row for row in search if row["method"] == name]
        chosen[name] = max(rows, key=lambda row: row["passed"])["rate"]
    runs = list[dict[str, Any]]()
    for name, method in METHODS.items():
        for seed in SEEDS[: 1 if quick else None]:
            rate = chosen["rank 3" if method.rank else name]
            start = time.process_time()
            model = train(name, rate, seed)
            seconds = time.process_time() - start
            passed, right = count_right(model, tokenizer, test)
            trained = [w for w in model.parameters() if w.requires_grad]
            row = {
                "method": name,
                "seed": seed,
                "rate": rate,
                "weights": sum(w.numel() for w in trained),
                "seconds": digits(seconds),
                "passed": sum(passed),
                "right": sum(right),
                "story_loss": digits(story_loss(model, tokenizer, stories)),
            }
            runs.append(row)
            progress(str(row))
    return {
        "threads": 1,
        "steps": steps,
        "batch_size": BATCH_SIZE,
        "validation": len(validation),
        "test": len(test),
        "weights": base.num_parameters(),
        "right_before": sum(count_right(base, tokenizer, test)[1]),
        "story_loss_before": digits(story_loss(base, tokenizer, stories)),
        "search": search,
        "runs": runs,
    }


if __name__ == "__main__":
    sys.exit(main("lora", run, ("torch",)))
