"""Memory and time to load a model of GPT-2 XL's shape, and its logits beside a peer's.

Writes 1.5 billion random weights (6.2 GB) to a temporary folder, then loads them in a
fresh process for each way: ours, transformers, and the two naive ways of the chapter.
Peaks are the kernel's VmHWM less what the process held before it loaded, so this runs
on Linux only.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from harness import digits, main, progress, timed
from safetensors import safe_open
from safetensors.torch import load_file

from extracted.foundations.gpt import GPT, GPTConfig
from extracted.foundations.pretrained_weights import (
    config_from_gpt2,
    export_gpt2,
    gpt2_table,
    load_gpt2,
)

QUICK = GPTConfig(2_000, 128, 8, 8, 256)


def memory(field: str) -> int:
    """Bytes of VmRSS (now) or VmHWM (the peak) of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"the kernel does not tell {field}")


def read_config(folder: Path) -> GPTConfig:
    record = json.loads((folder / "config.json").read_text("utf-8"))
    return config_from_gpt2(record)


def write(folder: Path) -> None:
    config = json.loads(os.environ["BENCHMARK_CONFIG"])
    model = GPT(GPTConfig(**config), generator=torch.Generator().manual_seed(0))
    for parameter in model.parameters():  # biases and norms too
        if parameter.dim() < 2:
            torch.nn.init.normal_(parameter, std=0.2)
    start_measuring()
    export_gpt2(model, folder, max_shard_bytes=1 << 40)


def ours(folder: Path) -> torch.nn.Module:
    return load_gpt2(folder)


def ours_bfloat16(folder: Path) -> torch.nn.Module:
    return load_gpt2(folder, dtype=torch.bfloat16)


def ours_mapped(folder: Path) -> torch.nn.Module:
    return load_gpt2(folder, mapped=True)


def transformers(folder: Path) -> torch.nn.Module:
    from transformers import GPT2LMHeadModel

    start_measuring()
    return GPT2LMHeadModel.from_pretrained(folder).eval()


def copy_all(folder: Path) -> torch.nn.Module:
    """A model with random weights, a dictionary with all tensors, and a copy."""
    model = GPT(read_config(folder))
    tensors = load_file(folder / "model.safetensors")
    state = {}
    for mine, (theirs, flipped) in gpt2_table(model.config).items():
        tensor = tensors[f"transformer.{theirs}"]
        state[mine] = tensor.T if flipped else tensor
    state["readout.weight"] = state["tokens.weight"]
    model.load_state_dict(state)
    return model.eval()


def map_whole_file(folder: Path) -> torch.nn.Module:
    """No random weights, but a map of the whole file that stays until the end."""
    with torch.device("meta"):
        model = GPT(read_config(folder))
    state = {}
    with safe_open(folder / "model.safetensors", "pt") as file:
        for mine, (theirs, flipped) in gpt2_table(model.config).items():
            tensor = file.get_tensor(f"transformer.{theirs}")
            tensor = tensor.T if flipped else tensor
            state[mine] = torch.empty(tensor.shape).copy_(tensor)
    model.load_state_dict(state, strict=False, assign=True)
    model.readout.weight = model.tokens.weight
    return model.eval()


WAYS: dict[str, Callable[[Path], torch.nn.Module]] = {
    "ours": ours,
    "ours_mapped": ours_mapped,
    "ours_bfloat16": ours_bfloat16,
    "transformers": transformers,
    "map_whole_file": map_whole_file,
    "copy_all": copy_all,
}
START: dict[str, float] = {}


def start_measuring() -> None:
    """Forget the peak so far: imports are not what is measured."""
    Path("/proc/self/clear_refs").write_text("5")
    START.update(bytes=memory("VmRSS"), seconds=time.perf_counter())


def child(way: str, folder: Path) -> None:
    """One way, in this process; prints what it took as JSON."""
    start_measuring()
    model = write(folder) if way == "write" else WAYS[way](folder)
    seconds = time.perf_counter() - START["seconds"]
    peak = memory("VmHWM")
    figures: dict[str, Any] = {
        "seconds": digits(seconds),
        "peak_bytes": int(peak - START["bytes"]),
        "process_peak_bytes": peak,
    }
    if model is not None:
        ids = some_ids(read_config(folder).vocab_size)
        logits = compute(model, ids)
        figures["peak_bytes_computing"] = int(memory("VmHWM") - START["bytes"])
        torch.save(logits, folder.with_name(f"{way}.pt"))
        for name, part in (("prompt", ids), ("token", ids[:, :1])):
            runs = [timed(partial(compute, model, part))[0] for _ in range(5)]
            figures[f"{name}_seconds"] = digits(statistics.median(runs))
    print(json.dumps(figures))


def some_ids(vocab_size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(vocab_size, (1, 16), generator=generator)


@torch.no_grad()
def compute(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """Logits in float32 of ours, or of a peer that returns them in an object."""
    found = model(ids)
    logits: torch.Tensor = getattr(found, "logits", found)
    return logits.float()


def run_child(way: str, folder: Path, config: GPTConfig) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", way, str(folder)]
    environment = os.environ | {"BENCHMARK_CONFIG": json.dumps(vars(config))}
    run = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False
    )
    if run.returncode:
        raise RuntimeError(f"{way} failed:\n{run.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return figures


def measure(quick: bool) -> dict[str, Any]:
    config = QUICK if quick else GPTConfig.gpt2_xl()
    with torch.device("meta"):
        num_weights = GPT(config).num_parameters()
    model_bytes = 4 * num_weights
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "model")
        folder.mkdir()
        progress(f"writing {model_bytes / 1e9:.1f} GB of random weights")
        export = run_child("write", folder, config)
        figures = {}
        for way in WAYS:
            found = run_child(way, folder, config)
            size = model_bytes // 2 if way == "ours_bfloat16" else model_bytes
            for when in ("", "_computing"):
                peak = found[f"peak_bytes{when}"]
                found[f"peak_of_model{when}"] = digits(peak / size)
            figures[way] = found
            progress(f"  {way}: {found}")
        logits = {way: torch.load(folder.with_name(f"{way}.pt")) for way in WAYS}
    export["peak_of_model"] = digits(export["peak_bytes"] / model_bytes)
    difference = (logits["ours"] - logits["transformers"]).abs().max().item()
    return {
        "weights": num_weights,
        "model_bytes": model_bytes,
        "load": figures,
        "export": export,
        "logits": {
            "largest": digits(logits["ours"].abs().max().item()),
            "largest_difference_to_transformers": digits(difference),
            "mapped_equal": torch.equal(logits["ours"], logits["ours_mapped"]),
        },
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]))
    else:
        packages = ("torch", "safetensors", "transformers")
        sys.exit(main("pretrained_weights", measure, packages))
