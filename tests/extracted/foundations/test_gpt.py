"""The GPT chapter's module against torch, transformers and hand-worked counts."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig
from transformers.models.llama.modeling_llama import (
    LlamaRotaryEmbedding,
    apply_rotary_pos_emb,
)

from extracted.foundations.gpt import (
    GPT,
    GPTConfig,
    RotaryGPT,
    SinusoidalGPT,
    flops_per_token,
    gelu,
    gelu_tanh,
    layer_norm,
    rotate,
    sinusoids,
)

TINY = GPTConfig(vocab_size=50, max_seq_len=24, num_layers=3, num_heads=2, width=16)


def tiny(**changes: object) -> GPT:
    config = replace(TINY, **changes)  # type: ignore[arg-type]
    return GPT(config, generator=torch.Generator().manual_seed(0)).eval()


def some_ids(*shape: int) -> torch.Tensor:
    return torch.randint(50, shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm_is_torchs(bias: bool) -> None:
    norm = nn.LayerNorm(12, bias=bias, dtype=torch.float64)
    nn.init.normal_(norm.weight)
    x = 5 * torch.randn(3, 4, 12, dtype=torch.float64) - 2
    assert torch.allclose(layer_norm(x, norm.weight, norm.bias), norm(x))


def test_layer_norm_by_hand() -> None:
    x = torch.tensor([1.0, 3.0])
    expected = torch.tensor([-1.0, 1.0])
    assert torch.allclose(layer_norm(x, torch.ones(2), eps=0.0), expected)


def test_gelus_are_torchs() -> None:
    z = torch.linspace(-8, 8, 999, dtype=torch.float64)
    assert torch.allclose(gelu(z), F.gelu(z), atol=1e-12)
    assert torch.allclose(gelu_tanh(z), F.gelu(z, approximate="tanh"), atol=1e-12)
    assert not torch.allclose(gelu(z), gelu_tanh(z), atol=1e-5)


def test_first_sinusoids_by_hand() -> None:
    waves = sinusoids(torch.tensor([0, 1]), 4)
    expected = [[0.0, 0.0, 1.0, 1.0]]
    expected.append([math.sin(1), math.sin(0.01), math.cos(1), math.cos(0.01)])
    assert torch.allclose(waves, torch.tensor(expected))


@given(st.integers(0, 5000), st.integers(0, 50))
@settings(deadline=None, max_examples=30)
def test_sinusoids_of_one_distance_have_one_dot_product(start: int, k: int) -> None:
    here = sinusoids(torch.tensor([0, k, start, start + k]), 32).double()
    assert here[0] @ here[1] == pytest.approx((here[2] @ here[3]).item(), abs=2e-2)


def test_sinusoids_need_an_even_width() -> None:
    with pytest.raises(ValueError, match="width 5 is odd"):
        sinusoids(torch.arange(3), 5)


@pytest.mark.parametrize(
    ("preset", "count"),
    [
        ("gpt2_small", 124_439_808),
        ("gpt2_medium", 354_823_168),
        ("gpt2_large", 774_030_080),
        ("gpt2_xl", 1_557_611_200),
    ],
)
def test_presets_have_the_published_sizes(preset: str, count: int) -> None:
    with torch.device("meta"):
        assert GPT(getattr(GPTConfig, preset)()).num_parameters() == count


def test_small_presets_build() -> None:
    for config in (GPTConfig.micro(100), GPTConfig.mini(100)):
        assert GPT(config)(torch.zeros(1, 3, dtype=torch.long)).shape == (1, 3, 100)


def transformers_twin(model: GPT) -> GPT2LMHeadModel:
    """transformers' GPT-2 with the weights of `model`."""
    config = model.config
    twin = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.max_seq_len,
            n_embd=config.width,
            n_layer=config.num_layers,
            n_head=config.num_heads,
        )
    ).eval()
    trunk = twin.transformer
    pairs: list[tuple[nn.Module, nn.Module, bool]] = [
        (trunk.wte, model.tokens, False),
        (trunk.wpe, model.positions, False),
        (trunk.ln_f, model.norm, False),
    ]
    for theirs, ours in zip(trunk.h, model.blocks, strict=True):
        pairs += [
            (theirs.ln_1, ours.attention_norm, False),
            (theirs.ln_2, ours.mlp_norm, False),
            (theirs.attn.c_attn, ours.attention.qkv, True),
            (theirs.attn.c_proj, ours.attention.out, True),
            (theirs.mlp.c_fc, ours.mlp.up, True),
            (theirs.mlp.c_proj, ours.mlp.down, True),
        ]
    for theirs, ours, transposed in pairs:
        weight = ours.weight.data
        theirs.weight.data.copy_(weight.T if transposed else weight)
        if getattr(ours, "bias", None) is not None:
            theirs.bias.data.copy_(ours.bias.data)
    return twin


def test_logits_equal_transformers() -> None:
    model = tiny()
    for weight in model.parameters():  # biases and norms too
        nn.init.normal_(weight, std=0.2)
    ids = some_ids(2, 20)
    with torch.no_grad():
        expected = transformers_twin(model)(ids).logits
        assert torch.allclose(model(ids), expected, atol=1e-4)


def test_padding_on_the_left_changes_nothing() -> None:
    model = tiny()
    text = some_ids(1, 9)
    padded = torch.cat([torch.zeros(1, 5, dtype=torch.long), text], dim=1)
    mask = torch.tensor([[False] * 5 + [True] * 9])
    with torch.no_grad():
        alone, together = model(text), model(padded, mask=mask)
    assert torch.allclose(alone, together[:, 5:], atol=1e-5)


def test_rotate_equals_transformers() -> None:
    x = torch.randn(2, 3, 7, 16)
    positions = torch.stack([torch.arange(7), torch.arange(40, 47)])
    config = LlamaConfig(hidden_size=48, num_attention_heads=3, head_dim=16)
    cos, sin = LlamaRotaryEmbedding(config)(x, positions)
    expected, _ = apply_rotary_pos_emb(x, x, cos, sin)
    assert torch.allclose(rotate(x, positions), expected, atol=1e-5)
    assert torch.equal(rotate(x, positions[:1]), rotate(x, positions[0]))


def test_rotary_logits_do_not_depend_on_where_a_text_begins() -> None:
    model = RotaryGPT(TINY, generator=torch.Generator().manual_seed(0)).eval()
    for weight in model.parameters():  # else attention hardly prefers anything
        nn.init.normal_(weight)
    ids, places = some_ids(1, 9), torch.arange(9)
    with torch.no_grad():
        moved = model(ids, positions=places + 100)
        assert torch.allclose(model(ids), moved, atol=1e-3)
        other = model(ids, positions=places * 2)
    assert not torch.allclose(moved, other, atol=0.1)


@pytest.mark.parametrize("kind", [GPT, SinusoidalGPT, RotaryGPT])
def test_cached_equals_whole(kind: type[GPT]) -> None:
    model = kind(TINY, generator=torch.Generator().manual_seed(0)).eval()
    ids = some_ids(2, 12)
    caches = model.make_caches(2, 12)
    with torch.no_grad():
        parts = [model(ids[:, :7], caches=caches)]
        parts += [model(ids[:, t : t + 1], caches=caches) for t in range(7, 12)]
        whole = model(ids)
    assert torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-5)


def test_cached_equals_whole_under_padding() -> None:
    model = tiny()
    ids = some_ids(2, 10)
    mask = torch.ones(2, 10, dtype=torch.bool)
    mask[0, :4] = False
    caches = model.make_caches(2, 10)
    with torch.no_grad():
        parts = [model(ids[:, :6], mask=mask[:, :6], caches=caches)]
        for t in range(6, 10):
            step = model(ids[:, t : t + 1], mask=mask[:, : t + 1], caches=caches)
            parts.append(step)
        whole = model(ids, mask=mask)
    ours = torch.cat(parts, dim=1)
    assert torch.allclose(ours[mask], whole[mask], atol=1e-5)


def test_a_mask_of_pairs_keeps_documents_apart() -> None:
    model = tiny()
    ids = some_ids(1, 10)
    document = torch.tensor([0] * 4 + [1] * 6)
    pairs = (document[:, None] == document[None, :])[None, None]
    positions = torch.cat([torch.arange(4), torch.arange(6)])
    with torch.no_grad():
        packed = model(ids, mask=pairs, positions=positions)
        apart = torch.cat([model(ids[:, :4]), model(ids[:, 4:])], dim=1)
    assert torch.allclose(packed, apart, atol=1e-5)


def test_the_future_does_not_matter() -> None:
    model, ids = tiny(), some_ids(1, 12)
    changed = ids.clone()
    changed[0, 8] = (changed[0, 8] + 1) % 50
    with torch.no_grad():
        same = torch.isclose(model(ids), model(changed), atol=1e-6).all(dim=-1)[0]
    assert same[:8].all() and not same[8:].any()


def test_gpt2s_initialization() -> None:
    model = GPT(GPTConfig(500, 64, 8, 4, 64))
    block = model.blocks[0]
    assert model.tokens.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert block.mlp.up.weight.std().item() == pytest.approx(0.02, rel=0.05)
    for last in (block.attention.out, block.mlp.down):
        assert last.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)
    assert not block.mlp.up.bias.any() and (block.mlp_norm.weight == 1).all()


def test_a_seed_fixes_the_weights() -> None:
    assert torch.equal(tiny().tokens.weight, tiny().tokens.weight)
    other = GPT(TINY, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(tiny().tokens.weight, other.tokens.weight)


def test_tied_weights_are_one_tensor() -> None:
    model = tiny()
    assert model.readout.weight is model.tokens.weight
    untied = tiny(tied=False)
    assert untied.readout.weight is not untied.tokens.weight
    assert untied.num_parameters() - model.num_parameters() == 50 * 16


@pytest.mark.parametrize("T", [8, 24])
def test_flops_are_those_that_torch_counts(T: int) -> None:
    model = tiny(bias=False)
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        model(some_ids(2, T)).sum().backward()
    # the counter skips nothing but the first layer's input gradient, which
    # an embedding does not need as a product
    assert counter.get_total_flops() == 2 * T * flops_per_token(model.config, T)


def test_it_overfits_one_batch() -> None:
    model = tiny(qk_norm=True).train()
    ids = some_ids(2, 12)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(80):
        logits = model(ids[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_every_weight_has_a_gradient() -> None:
    model = tiny()
    model(some_ids(2, 24)).square().sum().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="num_layers is 0"):
        replace(TINY, num_layers=0)
    with pytest.raises(ValueError, match="not a positive multiple of num_heads 3"):
        replace(TINY, num_heads=3)
    with pytest.raises(ValueError, match="25 tokens are more than max_seq_len 24"):
        tiny()(some_ids(1, 25))
    model = tiny()
    caches = model.make_caches(1, 40)
    with torch.no_grad():
        model(some_ids(1, 20), caches=caches)
        with pytest.raises(ValueError, match="25 tokens are more than max_seq_len"):
            model(some_ids(1, 5), caches=caches)
