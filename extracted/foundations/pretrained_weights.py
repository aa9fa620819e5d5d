# Generated from book/foundations/pretrained_weights.md; do not edit (7b7008975ec3)
"""Read and write safetensors and the Hugging Face layout of GPT-2, with equal logits
and hardly more memory than the model fills.
"""

# %% book/foundations/pretrained_weights.md#imports
import json
import mmap
import os
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import HTTPError

import torch
from torch import Tensor

from extracted.foundations.data import prepare_story_tokens
from extracted.foundations.gpt import GPT, Block, GPTConfig, LearnedPositions
from extracted.foundations.language_modeling import (
    END_OF_TEXT,
    DownloadError,
    RemoteFile,
)
from extracted.foundations.pretraining import (
    TrainConfig,
    Trainer,
    build_run,
)
from extracted.foundations.tokenizer import Tokenizer, train_story_tokenizer


# %% book/foundations/pretrained_weights.md#DTYPES
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def write_safetensors(
    path: str | Path,
    tensors: Mapping[str, Tensor],
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """Write `tensors` in their order, one at a time, as `dtype` if given.

    Views are welcome: a transposed matrix takes memory only while it is
    written. `path` appears when it is complete.
    """
    spelled = {kind: name for name, kind in DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        kind = dtype or tensor.dtype
        start, end = end, end + tensor.numel() * kind.itemsize
        header[name] = {"dtype": spelled[kind], "shape": list(tensor.shape)}
        header[name]["data_offsets"] = [start, end]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the numbers begin at a multiple of 8
    part = Path(f"{path}.part")
    with part.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            flat = tensor.detach().to("cpu", dtype).contiguous().flatten()
            file.write(flat.view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


# %% book/foundations/pretrained_weights.md#Entry
@dataclass(frozen=True)
class Entry:
    """A tensor in a file: its type and shape, its bytes start … stop - 1."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int


NOT_A_HEADER = (
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)


def read_header(path: Path) -> dict[str, Entry]:
    """Where the tensors of a safetensors file lie; nothing else is read.

    Raises `ValueError` unless they fill the file without gap or overlap.
    """
    size, entries = path.stat().st_size, {}
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if (end := 8 + length) > min(size, 100_000_000):
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        offsets = {k: header[k]["data_offsets"] for k in header}
        for name in sorted(header, key=offsets.__getitem__):
            dtype = DTYPES.get(header[name]["dtype"])
            if dtype is None:
                raise ValueError(f"{name} is {header[name]['dtype']}")
            shape = tuple(header[name]["shape"])
            start, stop = (8 + length + place for place in offsets[name])
            full = end + prod(shape) * dtype.itemsize
            if (start, stop) != (end, full) or min(shape, default=0) < 0:
                raise ValueError(f"{name} {shape} at bytes {start} … {stop}")
            entries[name], end = Entry(dtype, shape, start, stop), stop
        if end != size:
            raise ValueError(f"{size} bytes, of which the tensors fill {end}")
    except NOT_A_HEADER as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}); fetch it or "
            "write it again"
        ) from None
    return entries


# %% book/foundations/pretrained_weights.md#SafetensorsFile
class SafetensorsFile(Mapping[str, Tensor]):
    """The tensors of a safetensors file, each read where it is used.

    A tensor is a memory map of its own part of the file. Writing to it does
    not change the file, and when it is dropped its memory is free.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.entries = read_header(self.path)

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __getitem__(self, name: str) -> Tensor:
        entry = self.entries[name]
        size = entry.stop - entry.start
        if not size:
            return torch.empty(entry.shape, dtype=entry.dtype)
        before = entry.start % mmap.ALLOCATIONGRANULARITY  # a map's step
        with self.path.open("rb") as file:
            memory = mmap.mmap(
                file.fileno(),
                before + size,
                offset=entry.start - before,
                access=mmap.ACCESS_COPY,
            )
        raw = torch.frombuffer(memory, dtype=torch.uint8, offset=before)
        if entry.start % entry.dtype.itemsize:
            raw = raw.clone()  # which lies at a multiple of the size
        return raw.view(entry.dtype).view(entry.shape)


# %% book/foundations/pretrained_weights.md#GPT2_NAMES
# Ours, GPT-2's, and whether GPT-2 stores the matrix as (in, out).
GPT2_NAMES = (
    ("tokens", "wte", False),
    ("positions", "wpe", False),
    ("blocks.{}.attention_norm", "h.{}.ln_1", False),
    ("blocks.{}.attention.qkv", "h.{}.attn.c_attn", True),
    ("blocks.{}.attention.out", "h.{}.attn.c_proj", True),
    ("blocks.{}.mlp_norm", "h.{}.ln_2", False),
    ("blocks.{}.mlp.up", "h.{}.mlp.c_fc", True),
    ("blocks.{}.mlp.down", "h.{}.mlp.c_proj", True),
    ("norm", "ln_f", False),
)


def gpt2_table(config: GPTConfig) -> dict[str, tuple[str, bool]]:
    """For each of our weights, GPT-2's name and whether it lies transposed."""
    first, last = GPT2_NAMES[:2], GPT2_NAMES[-1:]
    rows = [*first, *last]
    for i in range(config.num_layers):
        for ours, theirs, flipped in GPT2_NAMES[2:-1]:
            rows.append((ours.format(i), theirs.format(i), flipped))
    table = {}
    for ours, theirs, flipped in rows:
        table[f"{ours}.weight"] = f"{theirs}.weight", flipped
        if (ours, theirs, flipped) not in first:  # embeddings have no bias
            table[f"{ours}.bias"] = f"{theirs}.bias", False
    if not config.tied:
        table["readout.weight"] = "lm_head.weight", False
    return table


# %% book/foundations/pretrained_weights.md#match_gpt2
def match_gpt2(
    weights: Mapping[str, Tensor], model: GPT
) -> dict[str, Tensor]:
    """Views of `weights` under our names and in our shapes.

    Raises one `ValueError` with all that is missing, unknown or misshapen.
    """
    there = {name.removeprefix("transformer."): name for name in weights}
    masks = (".attn.bias", ".attn.masked_bias")  # constants, once stored
    there = {k: v for k, v in there.items() if not k.endswith(masks)}
    views, problems = {}, []
    for ours, (theirs, flipped) in gpt2_table(model.config).items():
        if theirs not in there:
            problems.append(f"{theirs} is missing")
            continue
        view = weights[there.pop(theirs)]
        shape = tuple(model.get_parameter(ours).shape)
        shape = shape[::-1] if flipped else shape
        if view.shape != shape or not view.is_floating_point():
            found = f"{view.dtype} {tuple(view.shape)}"
            problems.append(f"{theirs} is {found}, expected floats {shape}")
        views[ours] = view.T if flipped else view
    head = there.pop("lm_head.weight", None)  # a copy of wte, in some files
    wte = views.get("tokens.weight")
    if head and wte is not None and not weights[head].equal(wte):
        problems.append("lm_head.weight is not wte.weight, but tied")
    problems += [f"{name} is unknown" for name in there]
    if problems:
        raise ValueError(
            f"{len(problems)} weights do not fit config.json; take both from "
            "the same model:\n  " + "\n  ".join(problems)
        )
    return views


# %% book/foundations/pretrained_weights.md#FIXED
# What a GPT-2 of the book computes: the values of config.json that it can
# follow. The first of each is what it writes.
FIXED: dict[str, tuple[Any, ...]] = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}
SIZES = {
    "vocab_size": "vocab_size",
    "n_positions": "max_seq_len",
    "n_layer": "num_layers",
    "n_head": "num_heads",
    "n_embd": "width",
}


def config_from_gpt2(record: Mapping[str, Any]) -> GPTConfig:
    """The shape that a config.json of model type "gpt2" describes.

    Its three rates of dropout become one, that of the residual stream.
    Raises `ValueError` for what our GPT does not compute.
    """
    width = record.get("n_embd") or 0
    known = FIXED | {"n_inner": (None, 4 * width)}
    odd = {
        key: record.get(key)
        for key, allowed in known.items()
        if record.get(key, allowed[0]) not in allowed
    }
    odd |= {key: None for key in SIZES if not isinstance(record.get(key), int)}
    if odd:
        raise ValueError(
            f"config.json has {odd}, which this GPT cannot follow; it is "
            "GPT-2's with its sizes free"
        )
    sizes = {ours: record[theirs] for theirs, ours in SIZES.items()}
    return GPTConfig(
        **sizes,
        dropout=record.get("resid_pdrop", 0.1),
        tied=record.get("tie_word_embeddings", True),
    )


# %% book/foundations/pretrained_weights.md#WEIGHTS
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = (".bin", ".ckpt", ".pkl", ".pt", ".pth")


class Checkpoint(Mapping[str, Tensor]):
    """The tensors of a model's folder: one file, or shards with an index."""

    def __init__(self, folder: str | Path) -> None:
        self.folder, shards = Path(folder), [WEIGHTS]
        index = self.folder / INDEX
        if not (self.folder / WEIGHTS).is_file() and index.is_file():
            shards = read_index(index)
        if absent := [s for s in shards if not (self.folder / s).is_file()]:
            raise self._lacking(absent)
        self.files = {
            name: file
            for file in (SafetensorsFile(self.folder / s) for s in shards)
            for name in file
        }

    def _lacking(self, absent: list[str]) -> Exception:
        found = (p.name for p in self.folder.iterdir())
        if pickles := sorted(p for p in found if p.endswith(PICKLES)):
            return ValueError(
                f"{self.folder} keeps its weights in {pickles}, pickles, "
                "which can run any program when they are loaded. Get "
                "model.safetensors from the same source, or load them with "
                "weights_only=True and write them with write_safetensors"
            )
        return FileNotFoundError(f"{self.folder} lacks {', '.join(absent)}")

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __getitem__(self, name: str) -> Tensor:
        return self.files[name][name]


def read_index(path: Path) -> list[str]:
    """The names of the shards, which must be files beside the index."""
    where = json.loads(path.read_text("utf-8"))["weight_map"]
    shards = sorted({str(shard) for shard in where.values()})
    if odd := [s for s in shards if not re.fullmatch(r"[\w-][\w.-]*", s)]:
        raise ValueError(f"{path} names {odd}, not files beside it")
    return shards


# %% book/foundations/pretrained_weights.md#load_gpt2
def load_gpt2(
    folder: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    mapped: bool = False,
) -> GPT:
    """The GPT-2 in `folder`, which holds config.json and safetensors.

    In memory there are the model and one tensor of the file. With `mapped`,
    what has the right type already stays in the file, which must not change
    then. Nothing is dropped out until `train()` is called.
    """
    record = json.loads(Path(folder, "config.json").read_text("utf-8"))
    with torch.device("meta"):  # shapes without memory
        model = GPT(config_from_gpt2(record))
    views = match_gpt2(Checkpoint(folder), model)
    loaded = {}
    for name in list(views):
        view = views.pop(name)  # the last hold on this part of the file
        if mapped:
            loaded[name] = view.to(device, dtype)
        else:
            weight = torch.empty(view.shape, dtype=dtype, device=device)
            loaded[name] = weight.copy_(view)
    model.load_state_dict(loaded, strict=False, assign=True)
    if model.config.tied:  # assigning has torn the two apart
        model.readout.weight = model.tokens.weight
    return model.eval()


# %% book/foundations/pretrained_weights.md#to_gpt2
def to_gpt2(model: GPT) -> dict[str, Tensor]:
    """Views of the model's weights in GPT-2's names and shapes.

    A missing bias becomes zeros, which compute the same. Raises `ValueError`
    for what GPT-2's layout has no name for.
    """
    mine: dict[str, Tensor] = dict(model.named_parameters())
    table, tensors = gpt2_table(model.config), {}
    odd = [name for name in mine if name not in table]
    odd += [n for n in table if n not in mine and n.endswith("weight")]
    kinds = model.block_class, model.position_class
    if odd or kinds != (Block, LearnedPositions):
        raise ValueError(
            f"GPT-2's layout cannot express {', '.join(odd) or kinds}; train "
            "a plain GPT with qk_norm=False, or export to the layout of an "
            "architecture that has these parts"
        )
    for ours, (theirs, flipped) in table.items():
        kin = mine[ours.removesuffix("bias").removesuffix("weight") + "weight"]
        weight = mine.get(ours, kin.new_zeros(kin.shape[0]))
        name = theirs if theirs.startswith("lm_") else f"transformer.{theirs}"
        tensors[name] = (weight.T if flipped else weight).detach()
    return tensors


# %% book/foundations/pretrained_weights.md#write_shards
def write_shards(
    tensors: Mapping[str, Tensor],
    folder: Path,
    *,
    dtype: torch.dtype,
    max_bytes: int,
) -> None:
    """model.safetensors, or shards of at most `max_bytes` and their index."""
    shards: list[dict[str, Tensor]] = [{}]
    size = total = 0
    for name, tensor in tensors.items():
        step = tensor.numel() * dtype.itemsize
        if size + step > max_bytes and shards[-1]:
            shards.append({})
            size = 0
        shards[-1][name], size, total = tensor, size + step, total + step
    where: dict[str, str] = {}
    for i, shard in enumerate(shards, 1):
        file = f"model-{i:05}-of-{len(shards):05}.safetensors"
        file = file if len(shards) > 1 else WEIGHTS
        write_safetensors(folder / file, shard, dtype=dtype)
        where |= dict.fromkeys(shard, file)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": where}
        write_json(folder / INDEX, index)


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write `record` as JSON that people can read."""
    path.write_text(json.dumps(record, indent=2) + "\n", "utf-8")


# %% book/foundations/pretrained_weights.md#config_to_gpt2
def config_to_gpt2(
    config: GPTConfig, *, end: int | None = None, dtype: torch.dtype
) -> dict[str, Any]:
    """The config.json of a model; `end` is the id that ends a text."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        **{key: allowed[0] for key, allowed in FIXED.items()},
        **{theirs: getattr(config, ours) for theirs, ours in SIZES.items()},
        "n_inner": None,
        "tie_word_embeddings": config.tied,
        **dict.fromkeys(
            ("attn_pdrop", "embd_pdrop", "resid_pdrop"), config.dropout
        ),
        "bos_token_id": end,
        "eos_token_id": end,
        "torch_dtype": str(dtype).removeprefix("torch."),
    }


# %% book/foundations/pretrained_weights.md#write_tokenizer
def write_tokenizer(
    tokenizer: Tokenizer, folder: Path, config: GPTConfig
) -> int | None:
    """tokenizer.json and what transformers asks for; the id of the end."""
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model "
            f"{config.vocab_size}; export the one that it was trained with"
        )
    end = tokenizer.special_tokens.get(END_OF_TEXT)
    ends = {} if end is None else dict.fromkeys(
        ("bos_token", "eos_token"), END_OF_TEXT
    )
    tokenizer.save(folder / "tokenizer.json")
    record = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.max_seq_len,
        "clean_up_tokenization_spaces": False,
    }
    write_json(folder / "tokenizer_config.json", record | ends)
    return end


def export_gpt2(
    model: GPT,
    folder: str | Path,
    *,
    tokenizer: Tokenizer | None = None,
    dtype: torch.dtype = torch.float32,
    max_shard_bytes: int = 5_000_000_000,
) -> None:
    """Write `folder` so that transformers, vLLM and `load_gpt2` load it.

    config.json comes last: a folder without it is an export cut short. Raises
    `FileExistsError` where weights are, and `ValueError` for a model that
    GPT-2's layout cannot express.
    """
    tensors, place = to_gpt2(model), Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    if old := sorted(p.name for p in place.glob("*.safetensors*")):
        raise FileExistsError(f"{place} holds {old}; name another folder")
    end = None
    if tokenizer is not None:
        end = write_tokenizer(tokenizer, place, model.config)
    write_shards(tensors, place, dtype=dtype, max_bytes=max_shard_bytes)
    ends = {"bos_token_id": end, "eos_token_id": end}
    write_json(place / "generation_config.json", ends)
    record = config_to_gpt2(model.config, end=end, dtype=dtype)
    write_json(place / "config.json", record)


# %% book/foundations/pretrained_weights.md#story_gpt2_trainer
def story_gpt2_trainer(tokens: str | Path, tokenizer: Tokenizer) -> Trainer:
    """The run that makes a small GPT-2, on a folder of story tokens.

    It has GPT-2's biases and no normalization of queries and keys.
    """
    return build_run(
        Path(tokens),
        tokenizer,
        TrainConfig(steps=300, evaluate_every=0),
        shape=GPTConfig(tokenizer.vocab_size, 128, 4, 4, 64),
        batch_size=8,
    )


def train_story_gpt2(directory: str | Path) -> None:
    """Train the book's small GPT-2, from nothing; export it to `directory`."""
    with TemporaryDirectory() as scratch:
        train_story_tokenizer(Path(scratch))
        tokenizer = Tokenizer.load(scratch)
        prepare_story_tokens(scratch, tokenizer)
        trainer = story_gpt2_trainer(scratch, tokenizer)
        trainer.run()
    assert isinstance(trainer.model, GPT)
    export_gpt2(trainer.model, directory, tokenizer=tokenizer)


# %% book/foundations/pretrained_weights.md#HUB
HUB = "https://huggingface.co"


def fetch_gpt2(
    name: str,
    *,
    revision: str = "main",
    hub: str = HUB,
    timeout: float = 30.0,
) -> Path:
    """The folder of a model on the Hub, such as "openai-community/gpt2-xl".

    Fetched once, as by `RemoteFile`, into models/`name`/`revision` of its
    cache. A commit as `revision` names the same files for ever. Raises
    `DownloadError` without a network, `ValueError` for what is no GPT-2.
    """
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise ValueError(f'{name!r} is not like "openai-community/gpt2"')

    def fetch(file: str, *, optional: bool = False) -> Path | None:
        url = f"{hub}/{name}/resolve/{revision}/{file}"
        path = f"models/{name}/{revision}/{file}"
        try:
            return RemoteFile(url, path).fetch(timeout=timeout)
        except DownloadError as error:
            cause = error.__cause__
            absent = isinstance(cause, HTTPError) and cause.code == 404
            if optional and absent:
                return None
            raise

    config = fetch("config.json")
    assert config is not None
    config_from_gpt2(json.loads(config.read_text("utf-8")))
    for file in ("tokenizer.json", "generation_config.json"):
        fetch(file, optional=True)
    if fetch(WEIGHTS, optional=True) is None:
        index = fetch(INDEX)
        assert index is not None
        for shard in read_index(index):
            fetch(shard)
    return config.parent
