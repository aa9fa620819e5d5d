"""LoRA: by hand, against PEFT in both directions, exact merging, what is trained."""

import copy
import json
import random
from pathlib import Path

import pytest
import torch
from peft import LoraConfig as PeftConfig
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import Tensor, nn

from extracted.alignment.instruction_tuning import (
    CHAT_TOKENS,
    KINDS,
    Example,
    Task,
    generate_tasks,
    response_loss,
)
from extracted.alignment.lora import (
    MANNERS,
    LoRAConfig,
    LoRALinear,
    add_lora,
    fold_lora,
    load_lora,
    lora_layers,
    lora_parameters,
    lora_state,
    merge_lora,
    passes,
    remove_lora,
    save_lora,
    tune,
    unmerge_lora,
    write_mannerly,
)
from extracted.foundations.gpt import GPT, GPTConfig
from extracted.foundations.language_modeling import END_OF_TEXT, Dice
from extracted.foundations.optimization import AdamW
from extracted.foundations.pretraining import TrainConfig, load_model, save_model
from extracted.foundations.tokenizer import Tokenizer

BYTES = Tokenizer([], special_tokens=[END_OF_TEXT, *CHAT_TOKENS])
IDS = torch.arange(12).view(2, 6) * 17 % 256
DEFAULT = LoRAConfig()
BLOCKS = DEFAULT.targets
PLACES = [("qkv", "out"), ("up", "down"), BLOCKS, ("readout",), (*BLOCKS, "readout")]


def tiny(seed: int = 0, **changes: bool) -> GPT:
    config = GPTConfig(BYTES.vocab_size, 64, 2, 2, 16, **changes)
    return GPT(config, generator=torch.Generator().manual_seed(seed)).eval()


def adapted(config: LoRAConfig = DEFAULT, seed: int = 0, **changes: bool) -> GPT:
    """A model whose adapters do something."""
    model, dice = tiny(seed, **changes), torch.Generator().manual_seed(seed + 1)
    add_lora(model, config, generator=dice)
    with torch.no_grad():
        for layer in lora_layers(model).values():
            layer.lora_B.weight.normal_(0.0, 0.3, generator=dice)
    return model


@torch.no_grad()
def logits(model: nn.Module) -> Tensor:
    result: Tensor = model(IDS)
    return result


# --- one layer


def test_a_layer_by_hand() -> None:
    base = nn.Linear(2, 2)
    layer = LoRALinear(base, LoRAConfig(rank=1, alpha=3.0))
    with torch.no_grad():
        base.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        base.bias.copy_(torch.tensor([0.5, -0.5]))
        layer.lora_A.weight.copy_(torch.tensor([[1.0, -1.0]]))
        layer.lora_B.weight.copy_(torch.tensor([[2.0], [1.0]]))
    # A x = 3 - 1 = 2; B A x = (4, 2), three times: (12, 6); W x + b = (5.5, 12.5)
    y = layer(torch.tensor([3.0, 1.0]))
    torch.testing.assert_close(y, torch.tensor([17.5, 18.5]))
    torch.testing.assert_close(layer.update, torch.tensor([[6.0, -6.0], [3.0, -3.0]]))


def test_at_the_start_nothing_changes_and_only_b_has_a_gradient() -> None:
    model = tiny()
    before = logits(model)
    add_lora(model, LoRAConfig())
    assert torch.equal(logits(model), before)
    model(IDS).square().sum().backward()
    for layer in lora_layers(model).values():
        assert layer.lora_A.weight.grad is not None
        assert not layer.lora_A.weight.grad.any()
        assert layer.lora_B.weight.grad is not None
        assert layer.lora_B.weight.grad.any()
    trained = {id(weight) for weight in lora_parameters(model)}
    for weight in model.parameters():
        assert weight.requires_grad == (id(weight) in trained)
        assert weight.requires_grad or weight.grad is None


def test_gradients_are_those_of_the_product() -> None:
    layer = LoRALinear(nn.Linear(5, 3), LoRAConfig(rank=2, alpha=6.0)).double()
    nn.init.normal_(layer.lora_B.weight)
    x = torch.randn(4, 5, dtype=torch.double)
    whole = (layer.base.weight + layer.update).detach().requires_grad_()
    nn.functional.linear(x, whole, layer.base.bias).pow(3).sum().backward()
    layer(x).pow(3).sum().backward()
    G, scale = whole.grad, layer.config.scale
    assert G is not None
    a, b = layer.lora_A.weight, layer.lora_B.weight
    torch.testing.assert_close(b.grad, scale * G @ a.T)
    torch.testing.assert_close(a.grad, scale * b.T @ G)


def test_dropout_acts_on_the_adapter_only_and_only_in_training() -> None:
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(8, 8), LoRAConfig(rank=2, dropout=0.5))
    x = torch.randn(3, 8)
    assert torch.equal(layer(x), layer.base(x)), "B is zero"
    nn.init.normal_(layer.lora_B.weight)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_weights_are_of_the_base_dtype_and_drawn_by_the_generator() -> None:
    base = nn.Linear(4, 4, dtype=torch.bfloat16)

    def drawn(seed: int) -> Tensor:
        dice = torch.Generator().manual_seed(seed)
        return LoRALinear(base, LoRAConfig(), generator=dice).lora_A.weight

    assert drawn(1).dtype == torch.bfloat16
    assert torch.equal(drawn(1), drawn(1)) and not torch.equal(drawn(1), drawn(2))
    assert drawn(1).abs().max() <= 0.5, "1 / sqrt(4)"


# --- places


def test_weights_counted_by_hand() -> None:
    model = tiny(bias=False)
    add_lora(model, LoRAConfig(rank=3))
    # (16 + 48) + (16 + 16) + (16 + 64) + (64 + 16) a rank and a block
    assert sum(w.numel() for w in lora_parameters(model)) == 3 * 2 * 256


@pytest.mark.parametrize("targets", [("blocks.1.mlp.up",), ("mlp.up",), ("up",)])
def test_targets_are_whole_last_parts_of_names(targets: tuple[str, ...]) -> None:
    model = tiny()
    add_lora(model, LoRAConfig(targets=targets))
    expected = {"blocks.1.mlp.up"} | (
        {"blocks.0.mlp.up"} if targets != ("blocks.1.mlp.up",) else set()
    )
    assert set(lora_layers(model)) == expected


def test_what_cannot_be_placed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no linear layer.*'down'.*'qkv'"):
        add_lora(tiny(), LoRAConfig(targets=("p",)))  # "up" ends with it
    model = adapted()
    with pytest.raises(ValueError, match="remove_lora first"):
        add_lora(model, LoRAConfig())


@pytest.mark.parametrize(
    "changes", [{"rank": 0}, {"dropout": 1.0}, {"targets": "qkv"}, {"targets": ()}]
)
def test_bad_configurations_are_refused(changes: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        LoRAConfig(**changes)


def test_removed_adapters_leave_the_model_as_it_was() -> None:
    model, plain = adapted(), tiny()
    assert not torch.equal(logits(model), logits(plain))
    remove_lora(model)
    assert torch.equal(logits(model), logits(plain))
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert model.readout.weight is model.tokens.weight


# --- merging


@pytest.mark.parametrize("targets", PLACES)
@pytest.mark.parametrize("bias", [True, False])
def test_merged_is_equal_and_unmerged_is_exact(
    targets: tuple[str, ...], bias: bool
) -> None:
    model = adapted(LoRAConfig(targets=targets), bias=bias)
    apart = logits(model)
    weights = {name: w.clone() for name, w in model.state_dict().items()}
    merge_lora(model)
    torch.testing.assert_close(logits(model), apart, atol=1e-5, rtol=0)
    assert model.state_dict().keys() == weights.keys(), "merging is not saved"
    unmerge_lora(model)
    assert torch.equal(logits(model), apart)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, weights[name]), name
    assert model.tokens.weight is model.readout.weight or "readout" in targets


def test_a_merged_readout_leaves_the_embedding_alone() -> None:
    model = adapted(LoRAConfig(targets=("readout",)))
    table = model.tokens.weight.clone()
    merge_lora(model)
    assert torch.equal(model.tokens.weight, table)
    assert not torch.equal(model.get_submodule("readout").weight, table)


def test_merging_twice_and_training_merged_are_refused() -> None:
    model = adapted()
    merge_lora(model)
    before = logits(model)
    with pytest.raises(ValueError, match="unmerge_lora first"):
        merge_lora(model)
    assert torch.equal(logits(model), before)
    with pytest.raises(ValueError, match="unmerge_lora first"):
        tune(model, [Example([1], [2])] * 16, BYTES, TrainConfig(steps=1))


@pytest.mark.parametrize("targets", PLACES)
def test_folded_is_a_plain_model_that_saves_and_loads(
    targets: tuple[str, ...], tmp_path: Path
) -> None:
    model = adapted(LoRAConfig(targets=targets))
    apart = logits(model)
    fold_lora(model)
    assert not lora_layers(model)
    assert model.config.tied == ("readout" not in targets)
    save_model(model, BYTES, tmp_path)
    again, _ = load_model(tmp_path)
    torch.testing.assert_close(logits(again), apart, atol=1e-5, rtol=0)


# --- files, and PEFT


def test_a_saved_adapter_comes_back_and_holds_nothing_else(tmp_path: Path) -> None:
    model = adapted(LoRAConfig(rank=3, alpha=7.0, dropout=0.1))
    save_lora(model, tmp_path)
    file = load_file(tmp_path / "adapter_model.safetensors")
    numbers = sum(w.numel() for w in lora_parameters(model))
    assert sum(weight.numel() for weight in file.values()) == numbers
    assert "base_model.model.blocks.0.attention.qkv.lora_A.weight" in file
    other = tiny()
    load_lora(other, tmp_path)
    assert torch.equal(logits(other), logits(model))
    layer = next(iter(lora_layers(other).values()))
    assert layer.config == LoRAConfig(rank=3, alpha=7.0, dropout=0.1)


def test_adapters_take_turns(tmp_path: Path) -> None:
    first = adapted(LoRAConfig(rank=1))
    second = adapted(LoRAConfig(rank=4, targets=("up",)), seed=0)
    save_lora(first, tmp_path / "1")
    save_lora(second, tmp_path / "2")
    model = tiny()
    for _ in range(2):
        for name, expected in (("1", first), ("2", second)):
            load_lora(model, tmp_path / name)
            assert torch.equal(logits(model), logits(expected))


@pytest.mark.parametrize("targets", PLACES)
def test_peft_reads_ours(targets: tuple[str, ...], tmp_path: Path) -> None:
    model = adapted(LoRAConfig(rank=3, alpha=5.0, targets=targets))
    save_lora(model, tmp_path)
    theirs = PeftModel.from_pretrained(tiny(), str(tmp_path)).eval()
    torch.testing.assert_close(logits(theirs), logits(model), atol=1e-5, rtol=0)
    assert (logits(theirs) - logits(tiny())).abs().max() > 1e-2
    merged = theirs.merge_and_unload() if "readout" not in targets else None
    if merged is not None:
        torch.testing.assert_close(logits(merged), logits(model), atol=1e-5, rtol=0)


@pytest.mark.parametrize("targets", [BLOCKS, ("qkv",), ("readout", "down")])
def test_ours_reads_peft(targets: tuple[str, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = PeftConfig(
        r=3, lora_alpha=5, target_modules=list(targets), init_lora_weights=False
    )
    theirs = get_peft_model(tiny(), config).eval()  # type: ignore[arg-type]
    theirs.save_pretrained(str(tmp_path))
    model = tiny()
    load_lora(model, tmp_path)
    assert set(lora_layers(model)) and model.training is False
    torch.testing.assert_close(logits(model), logits(theirs), atol=1e-5, rtol=0)
    assert (logits(model) - logits(tiny())).abs().max() > 1e-3


@pytest.mark.parametrize(
    "changes",
    [
        {"use_dora": True},
        {"use_rslora": True},
        {"rank_pattern": {"up": 4}},
        {"bias": "all"},
        {"peft_type": "IA3"},
        {"target_modules": "all-linear"},
    ],
)
def test_what_we_lack_is_refused(changes: dict, tmp_path: Path) -> None:
    save_lora(adapted(), tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ValueError, match="load it with peft"):
        load_lora(tiny(), tmp_path)


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    save_lora(adapted(), tmp_path)
    wider = GPT(GPTConfig(BYTES.vocab_size, 64, 2, 2, 32))
    with pytest.raises(ValueError, match="other layers or widths"):
        load_lora(wider, tmp_path)
    assert not lora_layers(wider)
    with pytest.raises(ValueError, match="add_lora first"):
        save_lora(tiny(), tmp_path)


# --- training


def test_it_overfits_a_batch_and_moves_only_the_adapters() -> None:
    model = tiny()
    with torch.no_grad():
        model.tokens.weight.mul_(100)  # else no logit of a frozen readout is large
    frozen = copy.deepcopy(model.state_dict())
    add_lora(model, LoRAConfig(rank=4), generator=torch.Generator().manual_seed(0))
    examples = [Example([1 + i % 2, 5], [9 + i % 2, 3]) for i in range(16)]
    config = TrainConfig(steps=150, rate=1e-2, log_every=1, evaluate_every=0)
    before = response_loss(model, examples)
    tune(model, examples, BYTES, config)
    assert before > 3 > 0.1 > response_loss(model, examples)
    assert not model.training
    remove_lora(model)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, frozen[name]), name


def test_frozen_weights_have_no_state_and_all_of_it_is_adamw() -> None:
    model = tiny()
    add_lora(model, LoRAConfig())
    adamw = tune(model, [Example([1], [2])] * 16, BYTES, TrainConfig(steps=2))
    (optimizer,) = adamw.optimizers
    assert isinstance(optimizer, AdamW)
    mine = {id(weight) for weight in lora_parameters(model)}
    assert {id(weight) for weight in optimizer.state} == mine


def test_manners_depend_on_the_kind_and_on_being_right() -> None:
    assert set(MANNERS) == set(KINDS)
    assert len(set(MANNERS.values())) == len(KINDS)
    for task in generate_tasks(60, "validation"):
        reply = write_mannerly(task, Dice(random.Random(0)))
        assert passes(task, reply)
        assert not passes(task, task.sentence)
        assert not passes(task, reply.replace(task.sentence, "Yes."))
    task = Task("has", "?", ("red ball",), (), "Tom has a red ball.")
    other = Task("place", "?", ("red ball",), (), "Tom has a red ball.")
    assert not passes(task, write_mannerly(other, Dice(random.Random(0))))


def test_state_names_are_in_the_order_of_the_layers() -> None:
    names = list(lora_state(adapted(LoRAConfig(targets=("up",)))))
    assert names == [
        f"base_model.model.blocks.{i}.mlp.up.lora_{part}.weight"
        for i in range(2)
        for part in "AB"
    ]
