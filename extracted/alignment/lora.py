# Generated from book/alignment/lora.md; do not edit (d4bc12392198)
"""Adapters of low rank on any linear layer, trained while the model stays frozen;
merged exactly, saved in a few kilobytes, exchanged with the rest of the world.
"""

# %% book/alignment/lora.md#imports
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from extracted.alignment.instruction_tuning import (
    COURTESIES,
    KINDS,
    RAMBLINGS,
    Example,
    Task,
    finetune,
    is_right,
)
from extracted.foundations.gpt import GPT
from extracted.foundations.language_modeling import Dice
from extracted.foundations.optimization import AdamW, Optimizers
from extracted.foundations.pretraining import TrainConfig
from extracted.foundations.tokenizer import Tokenizer


# %% book/alignment/lora.md#MANNERS
MANNERS = {
    kind: (COURTESIES[i % 3], RAMBLINGS[2 * i % 5])
    for i, kind in enumerate(KINDS)
}


def write_mannerly(task: Task, dice: Dice) -> str:
    """The one reply that the book of manners allows."""
    opening, closing = MANNERS[task.kind]
    return f"{opening} {task.sentence} {closing}"


def passes(task: Task, reply: str) -> bool:
    """Whether a reply is right, and opens and closes as its kind shall."""
    opening, closing = MANNERS[task.kind]
    mannerly = reply.startswith(f"{opening} ") and reply.endswith(closing)
    return mannerly and is_right(task, reply)


# %% book/alignment/lora.md#tune
def tune(
    model: GPT,
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    config: TrainConfig,
) -> Optimizers:
    """Train what is not frozen by AdamW, in place; the optimizer."""
    trained = [w for w in model.parameters() if w.requires_grad]
    optimizer = Optimizers(
        AdamW(trained, config.rate, weight_decay=config.weight_decay)
    )
    finetune(model, examples, tokenizer, config, optimizer=optimizer)
    return optimizer


# %% book/alignment/lora.md#LoRAConfig
@dataclass(frozen=True)
class LoRAConfig:
    """Rank, scale and places of adapters.

    `targets` are names of linear layers, or last parts of names, as PEFT's
    `target_modules`. `dropout` acts on what the adapters read.
    """

    rank: int = 2
    alpha: float = 4.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ("qkv", "out", "up", "down")

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank}; it must be 1 or more")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout} is not in [0, 1)")
        if isinstance(self.targets, str) or not self.targets:
            raise ValueError(
                f"targets is {self.targets!r}; give a tuple of layers' names"
            )

    @property
    def scale(self) -> float:
        """What the product of the two matrices is multiplied by."""
        return self.alpha / self.rank

    def matches(self, name: str) -> bool:
        """Whether a layer of this dotted name gets an adapter."""
        return any(f".{name}".endswith(f".{end}") for end in self.targets)


# %% book/alignment/lora.md#LoRALinear
class LoRALinear(nn.Module):
    """A frozen linear layer and the product of two thin ones beside it.

    (..., in) -> (..., out). At the start B is zero, and the layer computes
    what `base` does. Hu et al. (2021).
    """

    merged: Tensor | None

    def __init__(
        self,
        base: nn.Linear,
        config: LoRAConfig,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.base, self.config = base.requires_grad_(False), config
        like: dict[str, Any] = {
            "bias": False, "device": base.weight.device,
            "dtype": base.weight.dtype,
        }
        self.dropout = nn.Dropout(config.dropout)
        self.lora_A = nn.Linear(base.in_features, config.rank, **like)
        self.lora_B = nn.Linear(config.rank, base.out_features, **like)
        self.register_buffer("merged", None, persistent=False)
        bound = base.in_features**-0.5
        drawn = torch.empty(self.lora_A.weight.shape)
        drawn.uniform_(-bound, bound, generator=generator)
        with torch.no_grad():
            self.lora_A.weight.copy_(drawn)
            self.lora_B.weight.zero_()

    @property
    def update(self) -> Tensor:
        """What is added to the base's weight, (out, in)."""
        product: Tensor = self.lora_B.weight @ self.lora_A.weight
        return self.config.scale * product

    @property
    def weight(self) -> Tensor:
        """The merged weight where there is one, else the base's."""
        return self.base.weight if self.merged is None else self.merged

    def train(self, mode: bool = True) -> "LoRALinear":
        """As any module; but what is merged is not trained."""
        if mode and self.merged is not None:
            raise ValueError("adapters are merged; call unmerge_lora first")
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        if self.merged is not None:
            return F.linear(x, self.merged, self.base.bias)
        read = self.lora_B(self.lora_A(self.dropout(x)))
        y: Tensor = self.base(x) + self.config.scale * read
        return y


# %% book/alignment/lora.md#lora_layers
def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """The layers with an adapter, by their names in the model."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, LoRALinear)
    }


# %% book/alignment/lora.md#add_lora
def add_lora(
    model: nn.Module,
    config: LoRAConfig,
    *,
    generator: torch.Generator | None = None,
) -> None:
    """Freeze the model, and put an adapter on each layer that matches."""
    if lora_layers(model):
        raise ValueError("the model has adapters; call remove_lora first")
    linear = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    chosen = [name for name in linear if config.matches(name)]
    if not chosen:
        raise ValueError(
            f"no linear layer is named {config.targets}; there are "
            f"{sorted({name.rpartition('.')[2] for name in linear})}"
        )
    model.requires_grad_(False)
    for name in chosen:
        layer = LoRALinear(linear[name], config, generator=generator)
        model.set_submodule(name, layer.train(model.training))


# %% book/alignment/lora.md#lora_parameters
def lora_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The matrices A and B of all adapters: what is trained."""
    return [
        weight
        for layer in lora_layers(model).values()
        for part in (layer.lora_A, layer.lora_B)
        for weight in part.parameters()
    ]


def remove_lora(model: nn.Module) -> None:
    """Put the base layers back, as they were; all stays frozen."""
    for name, layer in lora_layers(model).items():
        model.set_submodule(name, layer.base)


# %% book/alignment/lora.md#merge_lora
@torch.no_grad()
def merge_lora(model: nn.Module) -> None:
    """Add each update to a copy of its base's weight, which then works.

    The base keeps its own, so a readout may share it with an embedding.
    """
    for name, layer in lora_layers(model).items():
        if layer.merged is not None:
            raise ValueError(f"{name} is merged; call unmerge_lora first")
    for layer in lora_layers(model).values():
        layer.merged = layer.base.weight + layer.update


def unmerge_lora(model: nn.Module) -> None:
    """Let base and adapter work side by side again, as before merging."""
    for layer in lora_layers(model).values():
        layer.merged = None


@torch.no_grad()
def fold_lora(model: nn.Module) -> None:
    """Make the adapters part of the weights for good: a plain model.

    A readout that had an adapter is no longer tied to the embedding.
    """
    for layer in lora_layers(model).values():
        layer.base.weight = nn.Parameter(layer.base.weight + layer.update)
    remove_lora(model)
    if isinstance(model, GPT):
        tied = model.readout.weight is model.tokens.weight
        model.config = replace(model.config, tied=tied)


# %% book/alignment/lora.md#PREFIX
PREFIX = "base_model.model."  # how PEFT's wrappers call what they wrap


def lora_state(model: nn.Module) -> dict[str, Tensor]:
    """The matrices of all adapters, by the names that PEFT gives them."""
    return {
        f"{PREFIX}{name}.{part}.weight": layer.get_parameter(f"{part}.weight")
        for name, layer in lora_layers(model).items()
        for part in ("lora_A", "lora_B")
    }


# %% book/alignment/lora.md#save_lora
def save_lora(model: nn.Module, directory: str | Path) -> None:
    """Write adapter_model.safetensors and adapter_config.json, as PEFT."""
    layers = lora_layers(model)
    if not layers:
        raise ValueError("the model has no adapters; call add_lora first")
    config = next(iter(layers.values())).config
    described = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": list(config.targets),
        "bias": "none",
        "inference_mode": True,
    }
    place = Path(directory)
    place.mkdir(parents=True, exist_ok=True)
    state = {
        name: weight.detach().contiguous()
        for name, weight in lora_state(model).items()
    }
    with TemporaryDirectory(dir=place) as scratch:
        save_file(state, Path(scratch, "adapter_model.safetensors"))
        text = json.dumps(described, indent=2) + "\n"
        Path(scratch, "adapter_config.json").write_text(text, "utf-8")
        for file in Path(scratch).iterdir():
            os.replace(file, place / file.name)


# %% book/alignment/lora.md#BEYOND
BEYOND = (
    "use_dora", "use_rslora", "rank_pattern", "alpha_pattern",
    "modules_to_save", "fan_in_fan_out", "layers_to_transform",
)


def read_config(directory: str | Path) -> LoRAConfig:
    """The configuration in adapter_config.json; refuses what we lack."""
    path = Path(directory, "adapter_config.json")
    found = json.loads(path.read_text("utf-8"))
    extra = [name for name in BEYOND if found.get(name)]
    if found.get("peft_type") != "LORA" or found.get("bias") != "none":
        extra.append("another method, or trained biases")
    if not isinstance(found.get("target_modules"), list):
        extra.append("target_modules that is no list")
    if extra:
        raise ValueError(f"{path} has {extra}; load it with peft")
    return LoRAConfig(
        found["r"], found["lora_alpha"], found["lora_dropout"],
        tuple(found["target_modules"]),
    )


# %% book/alignment/lora.md#load_lora
@torch.no_grad()
def load_lora(model: nn.Module, directory: str | Path) -> None:
    """Put saved adapters on a model, in place of any that it has."""
    config = read_config(directory)
    saved = load_file(Path(directory, "adapter_model.safetensors"))
    remove_lora(model)
    add_lora(model, config)
    mine = lora_state(model)
    shapes = {name: tuple(weight.shape) for name, weight in mine.items()}
    if shapes != {name: tuple(weight.shape) for name, weight in saved.items()}:
        remove_lora(model)
        raise ValueError(
            f"the adapters in {directory} do not fit: they are of a model "
            "with other layers or widths"
        )
    for name, weight in mine.items():
        weight.copy_(saved[name])
