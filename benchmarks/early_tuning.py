"""What pretraining is worth while examples are few: effects known after 200 steps.

The book's pretrained model and the same shape with random weights are taught the same
instructions for a short while, five seeds each: how many effects of troubles does each
know, and at which loss did it begin?
"""

import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from harness import digits, main, progress
from instruction_tuning import forget, keep, pretrain

from extracted.alignment.instruction_tuning import (
    ASSISTANT_CONFIG,
    CHAT_TOKENS,
    add_special_tokens,
    ask,
    finetune,
    generate_tasks,
    is_right,
    training_examples,
)
from extracted.foundations.pretraining import load_model

STARTS = {"pretrained": keep, "random weights": forget}


def run(quick: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    steps, seeds, count = (8, 1, 40) if quick else (200, 5, 1000)
    troubles = [t for t in generate_tasks(count, "test") if t.kind == "trouble"]
    rows = []
    with TemporaryDirectory() as scratch:
        place = Path(scratch)
        pretrain(place, quick)
        for seed in range(seeds):
            config = replace(
                ASSISTANT_CONFIG, steps=steps, seed=seed, log_every=max(1, steps // 5)
            )
            for name, start in STARTS.items():
                model, tokenizer = load_model(place)
                start(model, seed)
                model, tokenizer = add_special_tokens(model, tokenizer, CHAT_TOKENS)
                examples = training_examples(tokenizer, config)
                log = finetune(model, examples, tokenizer, config)
                told = ask(model, tokenizer, [task.prompt for task in troubles])
                pairs = zip(troubles, told, strict=True)
                known = sum(is_right(task, reply.text) for task, (reply,) in pairs)
                losses = [digits(row["loss"]) for row in log]
                rows.append(
                    {"start": name, "seed": seed, "known": known, "losses": losses}
                )
                progress(str(rows[-1]))
    return {"troubles": len(troubles), "steps": steps, "threads": 1, "runs": rows}


if __name__ == "__main__":
    sys.exit(main("early_tuning", run, ("torch",)))
