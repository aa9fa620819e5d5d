"""Tiny Shakespeare by characters on a CPU: the book's trainer beside nanoGPT.

nanoGPT trains with the settings that its README gives for a CPU (4 layers, 4 heads,
width 128, context 64, batch 12, 2,000 steps), and ours for the same seconds with the
same shape, context and batch. The two take turns, a tenth of a run each, so that a slow
minute of the machine falls on both. Both are judged on all windows of the held-out
tenth, outside the clock. Needs a checkout of nanoGPT, whose `model.py` is
imported: `git clone https://github.com/karpathy/nanoGPT`, then
`python benchmarks/pretraining.py --nanogpt nanoGPT`. The text comes from the folder
that EXTRACTED_DATA names, or is downloaded.
"""

import argparse
import importlib.util
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from harness import digits, main, progress
from torch import Tensor, nn

from extracted.foundations.data import PackedBatches
from extracted.foundations.gpt import GPT, GPTConfig
from extracted.foundations.language_modeling import Vocabulary, load_text
from extracted.foundations.pretraining import TrainConfig, Trainer, next_token_loss

CONTEXT, BATCH, STEPS = 64, 12, 2000
SHAPE = {"num_layers": 4, "num_heads": 4, "width": 128}
MARKS = 10  # points of each curve of loss against time


class NanoRun:
    """nanoGPT's loop: its model, AdamW groups, cosine and clipping."""

    def __init__(self, module: ModuleType, train: Tensor, vocab: int, seed: int):
        torch.manual_seed(seed)
        self.train, self.num_steps, self.steps = train, 0, STEPS
        config = module.GPTConfig(
            n_layer=4,
            n_head=4,
            n_embd=128,
            block_size=CONTEXT,
            bias=False,
            vocab_size=vocab,
            dropout=0.0,
        )
        self.peer = module.GPT(config)
        self.optimizer = self.peer.configure_optimizers(0.1, 1e-3, (0.9, 0.99), "cpu")

    def rate(self) -> float:
        if self.num_steps < 100:
            return 1e-3 * (self.num_steps + 1) / 101
        share = (self.num_steps - 100) / (STEPS - 100)
        return 1e-4 + 0.5 * (1 + math.cos(math.pi * share)) * 9e-4

    def run(self, until: int) -> None:
        while self.num_steps < until:
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate()
            first = torch.randint(len(self.train) - CONTEXT, (BATCH,)).tolist()
            inputs = torch.stack([self.train[i : i + CONTEXT] for i in first])
            targets = torch.stack([self.train[i + 1 : i + 1 + CONTEXT] for i in first])
            _, loss = self.peer(inputs, targets)
            loss.backward()
            nn.utils.clip_grad_norm_(self.peer.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.num_steps += 1

    def logits(self, ids: Tensor) -> Tensor:
        # With targets it computes all positions; without, the last one alone.
        found: Tensor = self.peer(ids, ids)[0]
        return found


class OurRun:
    """The book's GPT and Trainer, at their usual rates."""

    def __init__(self, train: Tensor, vocab: int, seed: int, steps: int):
        config = GPTConfig(vocab, CONTEXT, **SHAPE, bias=False, qk_norm=True)
        self.steps = steps
        self.trainer = Trainer(
            GPT(config, generator=torch.Generator().manual_seed(seed)),
            PackedBatches(train, batch_size=BATCH, seq_len=CONTEXT, seed=seed),
            TrainConfig(steps=steps, seed=seed, evaluate_every=0, save_every=0),
        )

    def run(self, until: int) -> None:
        self.trainer.run(until)

    def logits(self, ids: Tensor) -> Tensor:
        found: Tensor = self.trainer.model(ids)
        return found


@torch.no_grad()
def judge(logits: Callable[[Tensor], Tensor], held_out: Tensor) -> float:
    """Mean loss in nats a character on all windows of the held-out text."""
    count = (len(held_out) - 1) // CONTEXT
    inputs = held_out[: count * CONTEXT].view(count, CONTEXT)
    targets = held_out[1 : count * CONTEXT + 1].view(count, CONTEXT)
    total = 0.0
    for x, y in zip(inputs.split(256), targets.split(256), strict=True):
        total += next_token_loss(logits, x, y).item() * len(x)
    return total / count


def advance(run: NanoRun | OurRun, until: int) -> float:
    """Train to step `until`; the seconds that it took."""
    began = time.perf_counter()
    run.run(until)
    return time.perf_counter() - began


def steps_for_ours(nano: NanoRun, ours: OurRun) -> int:
    """Our steps in the time of nanoGPT's, from trials in turns, and a reserve."""
    runs = (nano, ours)
    for run in runs:  # the first steps are slower
        run.run(20)
    seconds = [
        sum(turn)
        for turn in zip(
            *([advance(run, until) for run in runs] for until in range(60, 260, 40)),
            strict=True,
        )
    ]
    return int(0.97 * STEPS * seconds[0] / seconds[1])


def one_seed(
    module: ModuleType, train: Tensor, held_out: Tensor, vocab: int, seed: int
) -> dict[str, Any]:
    """Both runs in turns, with seconds of training and losses at each mark."""
    peer = NanoRun(module, train, vocab, seed)
    steps = steps_for_ours(peer, OurRun(train, vocab, seed, STEPS))
    runs: dict[str, NanoRun | OurRun] = {
        "nanogpt": NanoRun(module, train, vocab, seed),
        "ours": OurRun(train, vocab, seed, steps),
    }
    seconds = dict.fromkeys(runs, 0.0)
    curves: dict[str, list[list[float]]] = {name: [] for name in runs}
    for mark in range(1, MARKS + 1):
        for name, run in runs.items():
            seconds[name] += advance(run, run.steps * mark // MARKS)
        for name, run in runs.items():
            loss = round(judge(run.logits, held_out), 4)
            curves[name].append([round(seconds[name], 2), loss])
    row: dict[str, Any] = {"seed": seed}
    for name, run in runs.items():
        row[name] = {
            "steps": run.steps,
            "seconds": digits(seconds[name]),
            "validation_loss": curves[name][-1][1],
            "curve": curves[name],
        }
        progress(f"seed {seed} {name}: {curves[name][-1]}")
    return row


def summary(rows: list[dict[str, Any]], name: str) -> dict[str, float]:
    losses = [row[name]["validation_loss"] for row in rows]
    mean = statistics.mean(losses)
    # Student's t for 95 % and three seeds
    half = 4.303 * statistics.stdev(losses) / math.sqrt(3) if len(losses) == 3 else 0.0
    return {"mean": round(mean, 4), "half_width_95": round(half, 4)}


def run(quick: bool) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("nanogpt", PEER / "model.py")
    if spec is None or spec.loader is None or not (PEER / "model.py").is_file():
        sys.exit(f"no {PEER / 'model.py'}: name a checkout of nanoGPT with --nanogpt")
    module = importlib.util.module_from_spec(spec)
    sys.modules["nanogpt"] = module
    spec.loader.exec_module(module)
    text = load_text("tiny_shakespeare")
    vocabulary = Vocabulary(sorted(set(text)))
    ids = vocabulary.encode(text)
    cut = len(ids) * 9 // 10
    rows = [
        one_seed(module, ids[:cut], ids[cut:], len(vocabulary), seed)
        for seed in ([0] if quick else [0, 1, 2])
    ]
    return {
        "threads": torch.get_num_threads(),
        "setting": {"context": CONTEXT, "batch": BATCH, **SHAPE},
        "validation_loss": {n: summary(rows, n) for n in ("nanogpt", "ours")},
        "seeds": rows,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--nanogpt", type=Path, default=Path("nanoGPT"))
    options, rest = parser.parse_known_args()
    PEER: Path = options.nanogpt
    sys.argv[1:] = rest
    sys.exit(main("pretraining", run, ("torch",)))
