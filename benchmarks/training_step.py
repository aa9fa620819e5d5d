"""One training step of GPT-2 small's shape, ours beside transformers'.

Forward, backward and a step of PyTorch's AdamW on a batch of one text of 256 tokens,
in float32 and under bfloat16 autocast, on this machine's CPU.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from harness import compare, digits, main
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from extracted.foundations.gpt import GPT, GPTConfig
from extracted.foundations.pretraining import next_token_loss

SEQ_LEN = 256


def our_loss(model: nn.Module, ids: Tensor) -> Tensor:
    return next_token_loss(model, ids[:, :-1], ids[:, 1:])


def peers_loss(model: nn.Module, ids: Tensor) -> Tensor:
    logits = model(ids[:, :-1]).logits.float()
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def stepper(
    model: nn.Module, loss: Callable[[nn.Module, Tensor], Tensor], half: bool
) -> Callable[[], object]:
    """A function that makes one step, after a first one that is not timed."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, (1, SEQ_LEN + 1), generator=generator)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            found = loss(model, ids)
        found.backward()
        optimizer.step()

    step()
    return step


def run(quick: bool) -> dict[str, Any]:
    shape = GPTConfig.gpt2_small() if not quick else GPTConfig(1000, 256, 2, 4, 64)
    theirs = GPT2Config(
        vocab_size=shape.vocab_size,
        n_positions=shape.max_seq_len,
        n_embd=shape.width,
        n_layer=shape.num_layers,
        n_head=shape.num_heads,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
    )
    results: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "batch": [1, SEQ_LEN],
    }
    for name, half in (("float32", False), ("bfloat16", True)):
        steps = {
            "ours": stepper(GPT(shape).train(), our_loss, half),
            "transformers": stepper(GPT2LMHeadModel(theirs).train(), peers_loss, half),
        }
        times = compare(
            {n: lambda step=step: step for n, step in steps.items()},
            2 if quick else 7,
        )
        for figures in times.values():
            median = figures["wall"]["median_s"]
            figures["tokens_per_second"] = digits(SEQ_LEN / median)
        ours, peers = (times[n]["tokens_per_second"] for n in steps)
        results[name] = {**times, "ours_is_faster_by": digits(ours / peers)}
    return results


if __name__ == "__main__":
    sys.exit(main("training_step", run, ("torch", "transformers")))
