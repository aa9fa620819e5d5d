"""What makes the book's assistant: pretraining, and a loss on replies alone.

Each way to train it is run for each seed: right replies to test instructions, greedy,
and the loss on replies that people wrote to them.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from harness import digits, main, progress

from extracted.alignment.instruction_tuning import (
    ASSISTANT_CONFIG,
    CHAT_TOKENS,
    Example,
    add_special_tokens,
    ask,
    chat_examples,
    finetune,
    generate_tasks,
    is_right,
    iterate_dialogues,
    response_loss,
    training_examples,
)
from extracted.foundations.gpt import GPT, GPTConfig
from extracted.foundations.pretraining import (
    TrainConfig,
    load_model,
    save_model,
    train_story_gpt,
)
from extracted.foundations.tokenizer import Tokenizer, train_story_tokenizer

SEEDS = (0, 1, 2)


def count_all(example: Example) -> Example:
    """The same row, with all tokens but the first as its target."""
    return Example(example.prompt[:1], [*example.prompt[1:], *example.target])


def forget(model: GPT, seed: int) -> None:
    """Undo pretraining."""
    model.initialize(torch.Generator().manual_seed(seed))


def keep(model: GPT, seed: int) -> None:
    """Leave the model as it is."""


Start = Callable[[GPT, int], None]
Change = Callable[[Example], Example]
WAYS: dict[str, tuple[Start, Change]] = {
    "no pretraining": (forget, lambda example: example),
    "all tokens": (keep, count_all),
    "replies alone": (keep, lambda example: example),
}


def judged(model: GPT, tokenizer: Tokenizer, count: int) -> dict[str, Any]:
    """Right replies to test instructions, of each kind too, and the loss."""
    tasks = generate_tasks(count, "test")
    found = ask(model, tokenizer, [task.prompt for task in tasks])
    right = Counter(
        task.kind
        for task, (reply,) in zip(tasks, found, strict=True)
        if is_right(task, reply.text)
    )
    dialogues = list(islice(iterate_dialogues(split="test"), count))
    loss = response_loss(model, chat_examples(dialogues, tokenizer))
    return {"right": right.total(), "loss": digits(loss), "kinds": dict(right)}


def train(
    place: Path, way: str, config: TrainConfig
) -> tuple[GPT, Tokenizer, dict[str, Any]]:
    """The pretrained model in `place`, taught in one of WAYS."""
    start, change = WAYS[way]
    model, tokenizer = load_model(place)
    start(model, config.seed)
    model, tokenizer = add_special_tokens(model, tokenizer, CHAT_TOKENS)
    examples = [change(e) for e in training_examples(tokenizer, config)]
    begin = time.process_time()
    finetune(model, examples, tokenizer, config)
    return model, tokenizer, {"seconds": digits(time.process_time() - begin)}


def pretrain(place: Path, quick: bool) -> None:
    """The book's pretrained model, or in a hurry one that has read nothing."""
    if not quick:
        train_story_gpt(place)
        return
    train_story_tokenizer(place)
    tokenizer = Tokenizer.load(place)
    shape = replace(GPTConfig.micro(tokenizer.vocab_size), max_seq_len=256)
    save_model(GPT(shape), tokenizer, place)


def run(quick: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    count, seeds = (40, SEEDS[:1]) if quick else (1000, SEEDS)
    steps = 8 if quick else ASSISTANT_CONFIG.steps
    with TemporaryDirectory() as scratch:
        place = Path(scratch)
        pretrain(place, quick)
        base, tokenizer = load_model(place)
        base, tokenizer = add_special_tokens(base, tokenizer, CHAT_TOKENS)
        rows = [{"way": "base", "seed": 0, **judged(base, tokenizer, count)}]
        for seed in seeds:
            config = replace(ASSISTANT_CONFIG, steps=steps, seed=seed)
            for way in WAYS:
                model, tokenizer, took = train(place, way, config)
                found = judged(model, tokenizer, count)
                rows.append({"way": way, "seed": seed, **took, **found})
                progress(str(rows[-1]))
    return {
        "tasks": count,
        "steps": steps,
        "threads": 1,
        "seeds": len(seeds),
        "tasks_by_kind": dict(Counter(t.kind for t in generate_tasks(count, "test"))),
        "runs": rows,
    }


if __name__ == "__main__":
    sys.exit(main("instruction_tuning", run, ("torch",)))
