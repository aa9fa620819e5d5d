"""Files against the safetensors library, models against transformers, transfers against
servers that fail, and memory against the kernel's own count."""

import hashlib
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from extracted.foundations.data import prepare_story_tokens
from extracted.foundations.gpt import GPT, GPTConfig, SinusoidalGPT
from extracted.foundations.language_modeling import END_OF_TEXT, DownloadError
from extracted.foundations.pretrained_weights import (
    DTYPES,
    INDEX,
    WEIGHTS,
    Checkpoint,
    SafetensorsFile,
    config_from_gpt2,
    config_to_gpt2,
    export_gpt2,
    fetch_gpt2,
    gpt2_table,
    load_gpt2,
    match_gpt2,
    read_header,
    story_gpt2_trainer,
    to_gpt2,
    write_safetensors,
)
from extracted.foundations.tokenizer import Tokenizer

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

SMALL = GPTConfig(50, 24, 3, 2, 16)
SHAPES = [
    SMALL,
    GPTConfig(301, 9, 1, 1, 8),
    GPTConfig(64, 16, 2, 8, 32, tied=False),
    GPTConfig(40, 33, 5, 3, 48, dropout=0.2),
]


def random_gpt(config: GPTConfig = SMALL, kind: type[GPT] = GPT) -> GPT:
    """Every weight drawn, biases and norms too."""
    torch.manual_seed(0)
    model = kind(config).eval()
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3)
    return model


def peer_config(config: GPTConfig) -> GPT2Config:
    return GPT2Config(
        vocab_size=config.vocab_size,
        n_positions=config.max_seq_len,
        n_embd=config.width,
        n_layer=config.num_layers,
        n_head=config.num_heads,
        tie_word_embeddings=config.tied,
        resid_pdrop=config.dropout,
        bos_token_id=None,
        eos_token_id=None,
    )


def random_peer(config: GPTConfig = SMALL) -> GPT2LMHeadModel:
    torch.manual_seed(1)
    peer = GPT2LMHeadModel(peer_config(config)).eval()
    for weight in peer.parameters():
        nn.init.normal_(weight, std=0.3)
    return peer


def ids_for(config: GPTConfig) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    shape = (2, config.max_seq_len)
    return torch.randint(config.vocab_size, shape, generator=generator)


@torch.no_grad()
def logits_of(model: nn.Module, config: GPTConfig = SMALL) -> torch.Tensor:
    found = model(ids_for(config))
    logits: torch.Tensor = getattr(found, "logits", found)
    return logits


# ------------------------------------------------------------------ the file


def test_a_file_byte_by_byte(tmp_path: Path) -> None:
    tensor = torch.tensor([[1.0, -2.0]])
    write_safetensors(tmp_path / "a.safetensors", {"a": tensor})
    data = (tmp_path / "a.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    assert json.loads(data[8 : 8 + length]) == {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
    }
    assert length % 8 == 0
    assert data[8 + length :].hex() == "0000803f" + "000000c0"
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


numbers = st.integers(-100, 100)
kinds = st.sampled_from(list(DTYPES.values()))
shapes = st.lists(st.integers(0, 4), max_size=3)
files = st.dictionaries(st.text(max_size=8), st.tuples(kinds, shapes), max_size=5)


@given(files)
@settings(deadline=None, max_examples=60)
def test_files_are_the_librarys_both_ways(
    tmp_path_factory: pytest.TempPathFactory,
    chosen: dict[str, tuple[torch.dtype, list[int]]],
) -> None:
    chosen.pop("__metadata__", None)
    folder = tmp_path_factory.mktemp("files")
    tensors = {
        name: torch.randint(0, 9, shape).to(kind)
        for name, (kind, shape) in chosen.items()
    }
    write_safetensors(folder / "ours", tensors)
    safetensors.torch.save_file(tensors, folder / "theirs")
    read_by_them = safetensors.torch.load_file(folder / "ours")
    read_by_us = SafetensorsFile(folder / "theirs")
    assert read_by_them.keys() == set(read_by_us) == tensors.keys()
    assert len(read_by_us) == len(tensors)
    for name, tensor in tensors.items():
        for found in (read_by_them[name], read_by_us[name]):
            assert found.dtype == tensor.dtype and torch.equal(found, tensor)


def test_views_and_conversion(tmp_path: Path) -> None:
    matrix = torch.randn(3, 5)
    write_safetensors(tmp_path / "w", {"t": matrix.T, "row": matrix[1]})
    found = safetensors.torch.load_file(tmp_path / "w")
    assert torch.equal(found["t"], matrix.T) and torch.equal(found["row"], matrix[1])
    write_safetensors(tmp_path / "w", {"t": matrix}, dtype=torch.bfloat16)
    found = safetensors.torch.load_file(tmp_path / "w")
    assert torch.equal(found["t"], matrix.bfloat16())


def test_tensors_that_are_not_aligned(tmp_path: Path) -> None:
    tensors = {
        "odd": torch.tensor([1, 2, 3], dtype=torch.uint8),
        "double": torch.tensor([0.5, 3.0], dtype=torch.float64),
    }
    write_safetensors(tmp_path / "w", tensors)
    file = SafetensorsFile(tmp_path / "w")
    assert file.entries["double"].start % 8 == 3
    assert torch.equal(file["double"], tensors["double"])
    assert file["double"].data_ptr() % 8 == 0


def test_writing_to_a_tensor_leaves_the_file_alone(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "w", {"a": torch.ones(5), "b": torch.zeros(5)})
    before = (tmp_path / "w").read_bytes()
    file = SafetensorsFile(tmp_path / "w")
    file["a"].add_(1)
    assert (tmp_path / "w").read_bytes() == before
    assert torch.equal(file["a"], torch.ones(5))


def test_a_missing_name_is_a_key_error(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "w", {"a": torch.ones(5)})
    file = SafetensorsFile(tmp_path / "w")
    assert "a" in file and "b" not in file
    with pytest.raises(KeyError, match="b"):
        _ = file["b"]


def handmade(header: object, data: bytes = bytes(8)) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(shape: object = (2,), offsets: object = (0, 8), dtype: object = "F32") -> Any:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01\x02",
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 2) + b"{",
        struct.pack("<Q", 3) + b"\xff\xfe\xfd",
        struct.pack("<Q", 40_000) + b"[" * 40_000,
        handmade([1, 2]),
        handmade({"a": 3}),
        handmade({"a": {"dtype": "F32"}}),
        handmade({"a": entry(dtype="F33")}),
        handmade({"a": entry(dtype=["F32"])}),
        handmade({"a": entry(shape=[3])}),
        handmade({"a": entry(shape=[-1, -2])}),
        handmade({"a": entry(shape=["2"])}),
        handmade({"a": entry(offsets=[0, 16])}, bytes(8)),  # beyond the end
        handmade({"a": entry(offsets=[4, 12])}, bytes(12)),  # a gap
        handmade({"a": entry(), "b": entry()}),  # an overlap
        handmade({"a": entry()}, bytes(9)),  # bytes that belong to nothing
        handmade({"a": entry(shape=[0], offsets=[-8, -8])}),
        handmade({}, bytes(1)),
    ],
)
def test_files_that_are_not_whole_are_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="is not a whole safetensors file") as caught:
        read_header(path)
    assert str(path) in str(caught.value)


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_no_damage_to_a_header_reads_outside_the_file(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damage") / "w"
    write_safetensors(path, {"a": torch.ones(3), "b": torch.ones(2, 2)})
    whole = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 30))
    whole[place] = data.draw(st.integers(0, 255))
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        file = SafetensorsFile(path)
    except ValueError:
        return
    assert sum(tensor.nbytes for tensor in file.values()) == 28
    for tensor in file.values():
        tensor.view(-1).sum()  # reads every page


# ---------------------------------------------------------------- the folder


def test_a_pickle_is_refused_unopened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    (tmp_path / "config.json").write_text(
        json.dumps(config_to_gpt2(SMALL, dtype=torch.float32))
    )
    with pytest.raises(ValueError, match=r"pytorch_model\.bin.*run any program"):
        load_gpt2(tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_a_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"lacks model\.safetensors"):
        Checkpoint(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    export_gpt2(random_gpt(), tmp_path, max_shard_bytes=10_000)
    (tmp_path / "model-00002-of-00005.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="lacks model-00002-of-00005"):
        load_gpt2(tmp_path)


@pytest.mark.parametrize(
    "shard", ["../w.safetensors", "/etc/passwd", "a\\b", "C:x", ""]
)
def test_an_index_names_files_beside_it_only(shard: str, tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"wte.weight": shard}}))
    with pytest.raises(ValueError, match="not files beside it"):
        Checkpoint(tmp_path)


# --------------------------------------------------------------- the configuration


def test_the_configuration_is_transformers() -> None:
    for config in SHAPES:
        record = config_to_gpt2(config, end=7, dtype=torch.float16)
        peer = GPT2Config.from_dict(dict(record)).to_dict()
        wanted = peer_config(config).to_dict() | {"eos_token_id": 7, "bos_token_id": 7}
        wanted |= {"attn_pdrop": config.dropout, "embd_pdrop": config.dropout}
        different = {k for k in wanted if peer[k] != wanted[k]}
        assert different <= {"architectures", "dtype"}
        assert config_from_gpt2(record) == config
        assert config_from_gpt2(peer_config(config).to_dict()) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "llama"}, "'model_type': 'llama'"),
        ({"activation_function": "gelu"}, "'activation_function': 'gelu'"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon"),
        ({"scale_attn_weights": False}, "scale_attn_weights"),
        ({"scale_attn_by_inverse_layer_idx": True}, "inverse_layer_idx"),
        ({"add_cross_attention": True}, "add_cross_attention"),
        ({"n_inner": 65}, "n_inner"),
        ({"n_embd": None}, "n_embd"),
        ({"n_layer": "3", "n_head": 2.0}, "n_layer.*n_head"),
    ],
)
def test_what_our_gpt_does_not_compute_is_refused(
    change: dict[str, Any], message: str
) -> None:
    record = config_to_gpt2(SMALL, dtype=torch.float32) | change
    with pytest.raises(ValueError, match=message):
        config_from_gpt2(record)


def test_a_width_that_is_spelled_out_is_fine() -> None:
    record = config_to_gpt2(SMALL, dtype=torch.float32) | {"n_inner": 64}
    record["activation_function"] = "gelu_pytorch_tanh"
    assert config_from_gpt2(record) == SMALL


# -------------------------------------------------------------------- parity


@pytest.mark.parametrize("config", SHAPES)
def test_their_models_load_with_equal_logits(config: GPTConfig, tmp_path: Path) -> None:
    peer = random_peer(config)
    peer.save_pretrained(tmp_path)
    ours = load_gpt2(tmp_path)
    assert not ours.training and ours.config == config
    expected = logits_of(peer, config)
    assert expected.abs().max() > 0.5, "the comparison would be empty"
    assert torch.allclose(logits_of(ours, config), expected, atol=1e-4)
    mapped = load_gpt2(tmp_path, mapped=True)
    assert torch.allclose(logits_of(mapped, config), expected, atol=1e-4)


def test_their_shards_load(tmp_path: Path) -> None:
    peer = random_peer()
    peer.save_pretrained(tmp_path, max_shard_size="10KB")
    assert (tmp_path / INDEX).is_file() and not (tmp_path / WEIGHTS).exists()
    assert torch.allclose(logits_of(load_gpt2(tmp_path)), logits_of(peer), atol=1e-4)


def test_the_published_layout_loads(tmp_path: Path) -> None:
    """Names without a prefix, masks beside the weights, a copy of the embedding."""
    peer = random_peer()
    peer.save_pretrained(tmp_path)
    tensors = {
        name.removeprefix("transformer."): tensor
        for name, tensor in safetensors.torch.load_file(tmp_path / WEIGHTS).items()
    }
    for i in range(SMALL.num_layers):
        tensors[f"h.{i}.attn.bias"] = torch.ones(1, 1, 24, 24).tril()
        tensors[f"h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    tensors["lm_head.weight"] = tensors["wte.weight"].clone()
    safetensors.torch.save_file(tensors, tmp_path / WEIGHTS)
    assert torch.allclose(logits_of(load_gpt2(tmp_path)), logits_of(peer), atol=1e-4)
    tensors["lm_head.weight"][3, 3] += 1
    safetensors.torch.save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(ValueError, match=r"lm_head\.weight is not wte"):
        load_gpt2(tmp_path)


@pytest.mark.parametrize("config", SHAPES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("max_shard_bytes", [1 << 40, 9_000])
def test_our_models_load_there_with_equal_logits(
    config: GPTConfig, bias: bool, max_shard_bytes: int, tmp_path: Path
) -> None:
    model = random_gpt(replace(config, bias=bias))
    export_gpt2(model, tmp_path, max_shard_bytes=max_shard_bytes)
    peer, report = GPT2LMHeadModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    expected = logits_of(model, config)
    assert torch.allclose(logits_of(peer.eval(), config), expected, atol=1e-4)
    again = load_gpt2(tmp_path)
    assert torch.equal(logits_of(again, config), expected) or not bias
    assert torch.allclose(logits_of(again, config), expected, atol=1e-5)
    tied = peer.lm_head.weight is peer.transformer.wte.weight
    assert tied == config.tied


def test_the_order_of_heads_and_parts_matters() -> None:
    """The test above can fail: each of these mistakes moves the logits."""
    model = random_gpt()
    right = logits_of(model)
    for spoil in ("c_proj", "c_attn"):
        wrong = random_gpt()
        with torch.no_grad():
            if spoil == "c_proj":
                weight = wrong.blocks[1].attention.out.weight
                weight.copy_(weight.T.clone())
            else:
                weight = wrong.blocks[1].attention.qkv.weight
                weight.copy_(weight.roll(16, dims=0))
        assert not torch.allclose(logits_of(wrong), right, atol=1e-2)


def test_shards_are_small_and_complete(tmp_path: Path) -> None:
    model = random_gpt()
    export_gpt2(model, tmp_path, max_shard_bytes=10_000)
    index = json.loads((tmp_path / INDEX).read_text())
    where = index["weight_map"]
    assert where.keys() == to_gpt2(model).keys()
    assert index["metadata"]["total_size"] == 4 * model.num_parameters()
    for shard in set(where.values()):
        assert re.fullmatch(r"model-0000\d-of-00005\.safetensors", shard)
        file = SafetensorsFile(tmp_path / shard)
        assert {name for name in where if where[name] == shard} == set(file)
        assert sum(tensor.nbytes for tensor in file.values()) <= 10_000


def test_both_directions_are_one_table() -> None:
    config = GPTConfig(50, 24, 12, 2, 16, tied=False)
    table = gpt2_table(config)
    assert set(table) == {name for name, _ in GPT(config).named_parameters()}
    peer = GPT2LMHeadModel(peer_config(config))
    theirs = {name.removeprefix("transformer.") for name, _ in peer.named_parameters()}
    assert {name for name, _ in table.values()} == theirs
    assert len(table) == len(theirs)


# --------------------------------------------------------------- types and places


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_files(kind: torch.dtype, tmp_path: Path) -> None:
    peer = random_peer().to(kind)
    peer.save_pretrained(tmp_path / "theirs")
    ours = load_gpt2(tmp_path / "theirs")
    assert {weight.dtype for weight in ours.parameters()} == {torch.float32}
    assert torch.allclose(logits_of(ours), logits_of(peer.float()), atol=1e-4)
    export_gpt2(ours, tmp_path / "ours", dtype=kind)
    back = GPT2LMHeadModel.from_pretrained(tmp_path / "ours")
    assert back.dtype == kind, "config.json says the type of the file"
    for a, b in zip(back.parameters(), peer.parameters(), strict=True):
        assert torch.equal(a.float(), b)
    short = load_gpt2(tmp_path / "ours", dtype=kind, mapped=True)
    assert {weight.dtype for weight in short.parameters()} == {kind}


def test_a_loaded_model_is_a_model_like_any_other(tmp_path: Path) -> None:
    export_gpt2(random_gpt(), tmp_path)
    before = (tmp_path / WEIGHTS).read_bytes()
    for mapped in (False, True):
        model = load_gpt2(tmp_path, mapped=mapped)
        assert model.readout.weight is model.tokens.weight
        assert model.num_parameters() == random_gpt().num_parameters()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        losses = []
        for _ in range(5):
            logits = model(ids_for(SMALL)).flatten(0, 1)
            loss = nn.functional.cross_entropy(logits, ids_for(SMALL).flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]
        assert all(p.grad is not None for p in model.parameters())
    assert (tmp_path / WEIGHTS).read_bytes() == before, "training changed the file"
    assert all(p.is_contiguous() for p in load_gpt2(tmp_path).parameters())


# ------------------------------------------------------------------- refusals


def test_everything_wrong_is_told_at_once() -> None:
    model = random_gpt()
    tensors = to_gpt2(model)
    del tensors["transformer.h.1.ln_2.bias"]
    del tensors["transformer.wpe.weight"]
    tensors["transformer.h.0.mlp.c_fc.weight"] = torch.zeros(64, 16)
    tensors["transformer.h.2.ln_1.weight"] = torch.zeros(16, dtype=torch.int8)
    tensors["transformer.h.7.ln_1.weight"] = torch.zeros(16)
    tensors["score.weight"] = torch.zeros(2, 16)
    with pytest.raises(ValueError) as caught:
        match_gpt2(tensors, model)
    message = str(caught.value)
    assert message.startswith("6 weights do not fit config.json")
    for part in (
        "wpe.weight is missing",
        "h.1.ln_2.bias is missing",
        "h.0.mlp.c_fc.weight is torch.float32 (64, 16), expected floats (16, 64)",
        "h.2.ln_1.weight is torch.int8 (16,)",
        "h.7.ln_1.weight is unknown",
        "score.weight is unknown",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: GPT(replace(SMALL, qk_norm=True)), r"blocks\.0\.attention\.q_norm"),
        (lambda: SinusoidalGPT(SMALL), r"positions\.weight"),
        (lambda: PostNorm(SMALL), "PostNormBlock"),
    ],
)
def test_what_the_layout_cannot_express_is_refused(
    model: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"cannot express.*{message}.*qk_norm=False"):
        export_gpt2(model(), tmp_path / "new")
    assert not (tmp_path / "new").exists()


class PostNormBlock(GPT.block_class):  # type: ignore[misc]
    """The same names and another computation."""

    def forward(self, x: torch.Tensor, **options: Any) -> torch.Tensor:
        x = self.attention_norm(x + self.attention(x, **options))
        y: torch.Tensor = self.mlp_norm(x + self.mlp(x))
        return y


class PostNorm(GPT):
    block_class = PostNormBlock


def test_an_export_never_mixes_with_an_older_one(tmp_path: Path) -> None:
    export_gpt2(random_gpt(), tmp_path)
    before = (tmp_path / WEIGHTS).read_bytes()
    with pytest.raises(FileExistsError, match="name another folder"):
        export_gpt2(random_gpt(), tmp_path, max_shard_bytes=5_000)
    assert (tmp_path / WEIGHTS).read_bytes() == before


def test_an_export_cut_short_is_not_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        export_gpt2(random_gpt(), tmp_path)
    assert not (tmp_path / WEIGHTS).exists()
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load_gpt2(tmp_path)


# ------------------------------------------------------------------ tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    texts = ["The cat sat on the mat, and the cat's 12 kittens sat there too. é😀"] * 3
    return Tokenizer.train(texts, 300, special_tokens=[END_OF_TEXT])


def test_the_tokenizer_goes_along(tokenizer: Tokenizer, tmp_path: Path) -> None:
    config = replace(SMALL, vocab_size=tokenizer.vocab_size)
    export_gpt2(random_gpt(config), tmp_path, tokenizer=tokenizer)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in (
        "The cat's  mat; 345 kittens ate.\n\n",
        f"one{END_OF_TEXT}two , too 's",
        "Grüße 😀",
    ):
        ids = tokenizer.encode(text, allowed_special="all")
        assert theirs(text)["input_ids"] == ids
        assert theirs.decode(ids) == text
    end = tokenizer.special_tokens[END_OF_TEXT]
    assert theirs.eos_token_id == theirs.bos_token_id == end
    assert theirs.model_max_length == SMALL.max_seq_len
    assert Tokenizer.load(tmp_path).merges == tokenizer.merges
    peer = GPT2LMHeadModel.from_pretrained(tmp_path)
    assert peer.generation_config.eos_token_id == end
    with torch.no_grad():
        told = peer.generate(torch.tensor([[1, 2]]), max_new_tokens=4, pad_token_id=end)
    assert 3 <= told.shape[1] <= 6


def test_a_tokenizer_that_is_too_large(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has \d+ tokens, the model 50"):
        export_gpt2(random_gpt(), tmp_path, tokenizer=tokenizer)
    assert list(tmp_path.iterdir()) == []


def test_the_books_own_gpt2(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Its run is set up so that the result can be exported."""
    prepare_story_tokens(tmp_path, tokenizer, num_stories=60)
    trainer = story_gpt2_trainer(tmp_path, tokenizer)
    assert trainer.config.steps == 300
    history = trainer.run(until=2)
    assert history[-1]["loss"] < 6.5
    assert isinstance(trainer.model, GPT)
    export_gpt2(trainer.model, tmp_path / "out", tokenizer=tokenizer)
    peer = GPT2LMHeadModel.from_pretrained(tmp_path / "out").eval()
    config = trainer.model.config
    expected = logits_of(trainer.model.eval(), config)
    assert torch.allclose(logits_of(peer, config), expected, atol=1e-4)


# --------------------------------------------------------------------- memory

MEASURE = """
import sys
from pathlib import Path
import torch
from extracted.foundations.gpt import GPT
from extracted.foundations.pretrained_weights import load_gpt2, match_gpt2, Checkpoint
from safetensors.torch import load_file

def memory(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024

way, warm, folder = sys.argv[1:]
config = load_gpt2(warm).config  # what PyTorch imports on the way is not the model
Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS")
if way == "naive":
    config = load_gpt2(folder, mapped=True).config
    model = GPT(config)
    whole = load_file(Path(folder, "model.safetensors"))
    model.load_state_dict(match_gpt2(whole, model), strict=False)
else:
    model = load_gpt2(folder, mapped=way == "mapped")
print(memory("VmHWM") - before)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    model = GPT(GPTConfig(8_000, 64, 8, 8, 896))  # 85 million weights, 340 MB
    export_gpt2(model, folder)
    return folder


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the kernel does not count peaks"
)
@pytest.mark.parametrize(
    ("way", "least", "most"),
    [("load", 0.98, 1.2), ("mapped", 0.0, 0.1), ("naive", 1.9, 2.3)],
)
def test_peak_memory(
    way: str, least: float, most: float, large: Path, tmp_path: Path
) -> None:
    export_gpt2(random_gpt(), tmp_path)
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, way, str(tmp_path), str(large)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    share = int(run.stdout) / (large / WEIGHTS).stat().st_size
    assert least <= share <= most, f"{way}: {share:.2f} times the model"


# -------------------------------------------------------------------- the Hub


class Hub(BaseHTTPRequestHandler):
    """Serves `server.folder` as the Hugging Face Hub does; fails as it is told."""

    server: Any

    def do_HEAD(self) -> None:
        data = self.find()
        if data is None:
            return self.send_error(404)
        if self.path.endswith(".safetensors"):  # kept elsewhere
            self.send_response(302)
            self.send_header("Location", "http://elsewhere.invalid/file")
            digest = hashlib.sha256(data).hexdigest()
            self.send_header("X-Linked-Etag", f'"{self.server.stated or digest}"')
        else:
            self.send_response(200)
            self.send_header("ETag", '"0123456789abcdef0123456789abcdef01234567"')
        self.end_headers()

    def do_GET(self) -> None:
        data = self.find()
        if data is None:
            return self.send_error(404)
        asked = self.headers.get("Range")
        name = self.path.split("/")[-1]
        self.server.log.append((name, asked))
        start = int(asked[6:-1]) if asked else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        cut = self.server.cuts.pop(name, None)
        self.wfile.write(data[start:cut])

    def find(self) -> bytes | None:
        match = re.fullmatch(r"/us/gpt2-tiny/resolve/(v1|main)/([^/]+)", self.path)
        path = self.server.folder / match[2] if match else None
        return path.read_bytes() if path and path.is_file() else None

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.delenv("EXTRACTED_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.folder, server.log, server.cuts = tmp_path / "served", [], {}
    server.stated = None
    server.handle_error = lambda *_: None  # a client that hung up is no news
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_model_is_fetched_once(
    hub: Any, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model = random_gpt(replace(SMALL, vocab_size=300))
    export_gpt2(model, hub.folder, tokenizer=tokenizer)
    folder = fetch_gpt2("us/gpt2-tiny", hub=hub.url)
    assert folder == tmp_path / "cache/extracted/models/us/gpt2-tiny/main"
    assert torch.equal(logits_of(load_gpt2(folder)), logits_of(model))
    assert Tokenizer.load(folder).merges == tokenizer.merges
    count = len(hub.log)
    hub.shutdown()  # from here on there is no network
    assert fetch_gpt2("us/gpt2-tiny", hub=hub.url, timeout=1) == folder
    assert len(hub.log) == count == 4


def test_an_interrupted_transfer_goes_on(hub: Any) -> None:
    model = random_gpt()
    export_gpt2(model, hub.folder)
    hub.cuts[WEIGHTS] = 20_000
    with pytest.raises(DownloadError, match="received 20000 of"):
        fetch_gpt2("us/gpt2-tiny", hub=hub.url)
    folder = fetch_gpt2("us/gpt2-tiny", hub=hub.url)
    of_weights = [asked for name, asked in hub.log if name == WEIGHTS]
    assert of_weights == [None, "bytes=20000-"]
    assert (folder / WEIGHTS).read_bytes() == (hub.folder / WEIGHTS).read_bytes()
    assert torch.equal(logits_of(load_gpt2(folder)), logits_of(model))


def test_a_wrong_checksum_is_told_and_nothing_kept(hub: Any, tmp_path: Path) -> None:
    export_gpt2(random_gpt(), hub.folder)
    hub.stated = "ab" * 32
    with pytest.raises(DownloadError, match=f"expected {'ab' * 32}"):
        fetch_gpt2("us/gpt2-tiny", hub=hub.url)
    assert not list((tmp_path / "cache").rglob("*.safetensors*"))


def test_a_file_that_changed_in_the_cache_is_refused(hub: Any) -> None:
    export_gpt2(random_gpt(), hub.folder)
    folder = fetch_gpt2("us/gpt2-tiny", hub=hub.url)
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    with pytest.raises(ValueError, match="delete it"):
        fetch_gpt2("us/gpt2-tiny", hub=hub.url)


def test_shards_are_fetched(hub: Any) -> None:
    model = random_gpt()
    export_gpt2(model, hub.folder, max_shard_bytes=10_000)
    folder = fetch_gpt2("us/gpt2-tiny", hub=hub.url, revision="v1")
    assert folder.name == "v1" and len(list(folder.glob("model-*.safetensors"))) == 5
    assert torch.equal(logits_of(load_gpt2(folder)), logits_of(model))


def test_another_architecture_is_refused_before_its_weights_move(hub: Any) -> None:
    export_gpt2(random_gpt(), hub.folder)
    (hub.folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ValueError, match="'model_type': 'llama'"):
        fetch_gpt2("us/gpt2-tiny", hub=hub.url)
    assert [name for name, _ in hub.log] == ["config.json"]


def test_offline_the_error_says_what_to_put_where(hub: Any, tmp_path: Path) -> None:
    hub.shutdown()
    hub.socket.close()
    with pytest.raises(DownloadError) as caught:
        fetch_gpt2("us/gpt2-tiny", hub=hub.url, timeout=1)
    place = tmp_path / "cache/extracted/models/us/gpt2-tiny/main/config.json"
    assert str(place) in str(caught.value)


def test_a_missing_model_is_an_error(hub: Any) -> None:
    with pytest.raises(DownloadError, match="404"):
        fetch_gpt2("us/unknown", hub=hub.url)
    export_gpt2(random_gpt(), hub.folder)
    (hub.folder / WEIGHTS).unlink()
    with pytest.raises(DownloadError, match=f"{INDEX}.*404"):
        fetch_gpt2("us/gpt2-tiny", hub=hub.url)


@pytest.mark.parametrize("name", ["gpt2", "../etc/passwd", "a/b/c", "/a", "a/..", ""])
def test_names_of_models(name: str) -> None:
    with pytest.raises(ValueError, match="openai-community/gpt2"):
        fetch_gpt2(name)


def test_given_data_serve_as_a_hub(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "given/models/us/gpt2-tiny/main"
    export_gpt2(random_gpt(), place)
    monkeypatch.setenv("EXTRACTED_DATA", str(tmp_path / "given"))
    assert fetch_gpt2("us/gpt2-tiny", hub=hub.url) == place
    assert hub.log == []
