"""Attention against hand-worked numbers, torch.nn and transformers."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from extracted.foundations.attention import (
    RECALL_WORDS,
    AttentionConfig,
    CausalSelfAttention,
    FusedCausalSelfAttention,
    KVCache,
    attention,
    attention_weights,
    causal_mask,
    merge_heads,
    recall_batch,
    split_heads,
)

LAYERS = (CausalSelfAttention, FusedCausalSelfAttention)


def make(kind, *, seed=0, dtype=torch.float64, **options):
    torch.manual_seed(seed)
    config = AttentionConfig(**{"width": 16, "num_heads": 4, **options})
    return kind(config).to(dtype).eval()


def normal(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


# ---------------------------------------------------------------- attention


def test_hand_worked_answer():
    """Scores ln 3 and 0 after the scale 1/2: weights 3/4 and 1/4."""
    q = torch.tensor([[2 * math.log(3), 0.0, 0.0, 0.0]])
    k = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    v = torch.tensor([[8.0], [0.0]])
    assert torch.allclose(attention_weights(q, k), torch.tensor([[0.75, 0.25]]))
    assert torch.allclose(attention(q, k, v), torch.tensor([[6.0]]))
    unscaled = attention_weights(q, k, scale=1.0)
    assert torch.allclose(unscaled, torch.tensor([[0.9, 0.1]]))


def test_causal_mask_is_aligned_with_the_last_key():
    assert causal_mask(3).int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert causal_mask(2, 4).int().tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert causal_mask(1, 3).all()
    assert causal_mask(3).dtype == torch.bool


@given(st.integers(1, 8), st.integers(0, 8))
def test_causal_mask_counts_the_past(T, past):
    mask = causal_mask(T, past + T)
    assert mask.sum(dim=1).tolist() == list(range(past + 1, past + T + 1))
    assert torch.equal(mask, causal_mask(past + T)[past:])


@pytest.mark.parametrize(("T", "S"), [(3, 2), (0, 2), (0, None)])
def test_causal_mask_refuses_queries_without_a_key(T, S):
    with pytest.raises(ValueError, match=f"{T} queries over {S or T} keys"):
        causal_mask(T, S)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*(st.integers(1, 5) for _ in range(5))),
    seed=st.integers(0, 2**16),
    masked=st.booleans(),
)
def test_equals_torch_with_any_mask_even_an_empty_row(shape, seed, masked):
    B, H, T, S, D = shape
    q, k = normal(B, H, T, D, seed=seed), normal(B, H, S, D, seed=seed + 1)
    v, mask = normal(B, H, S, 3, seed=seed + 2), None
    if masked:
        mask = normal(B, 1, T, S, seed=seed + 3) > 0
        mask[:, :, 0] = False
    ours = attention(q, k, v, mask=mask)
    assert torch.allclose(ours, F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
    assert not ours.isnan().any()
    rows = attention_weights(q, k, mask=mask).sum(dim=-1)
    readable = torch.ones(1, dtype=torch.bool) if mask is None else mask.any(dim=-1)
    assert torch.allclose(rows, readable.to(rows.dtype).expand_as(rows))


def test_gradient_is_right_and_finite_where_a_row_reads_nothing():
    mask = causal_mask(4) & torch.tensor([False, True, True, True])
    inputs = [normal(1, 1, 4, 3, seed=s).requires_grad_() for s in range(3)]
    assert torch.autograd.gradcheck(
        lambda q, k, v: attention(q, k, v, mask=mask), inputs
    )


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(6)))
def test_permutation_equivariant_without_a_mask(order):
    q, k, v = (normal(2, 6, 4, seed=s) for s in range(3))
    shuffled = attention(q[:, order], k[:, order], v[:, order])
    assert torch.allclose(shuffled, attention(q, k, v)[:, order])


def test_causal_mask_breaks_the_symmetry_for_all_but_the_last_word():
    q, k, v = (normal(1, 6, 4, seed=s) for s in range(3))
    order = [3, 0, 4, 1, 2, 5]
    plain = attention(q, k, v, mask=causal_mask(6))
    shuffled = attention(q[:, order], k[:, order], v[:, order], mask=causal_mask(6))
    assert not torch.allclose(shuffled, plain[:, order])
    assert torch.allclose(shuffled[:, -1], plain[:, -1])


def test_dropout_keeps_the_expected_output():
    torch.manual_seed(0)
    q, k, v = (normal(1, 3, 4, seed=s) for s in range(3))
    many = [expanded.expand(20_000, 3, 4) for expanded in (q, k, v)]
    dropped = attention(*many, dropout=0.3)
    assert dropped.std(dim=0).min() > 0.05
    assert torch.allclose(dropped.mean(dim=0), attention(q, k, v)[0], atol=0.03)
    weights = attention(q, k, torch.eye(3, dtype=q.dtype)[None], dropout=0.999)
    assert (weights == 0).sum() >= 6


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_refuses_a_mask_of_numbers(dtype):
    x = torch.randn(1, 2, 4)
    with pytest.raises(ValueError, match=r"pass booleans.*mask\.bool\(\)"):
        attention(x, x, x, mask=torch.ones(2, 2, dtype=dtype))


# -------------------------------------------------------------------- heads


def test_heads_are_slices_of_the_width():
    x = torch.arange(12.0).view(1, 2, 6)
    heads = split_heads(x, 3)
    assert heads.shape == (1, 3, 2, 2)
    assert heads[0, 1].tolist() == [[2.0, 3.0], [8.0, 9.0]]


@given(st.tuples(*(st.integers(1, 5) for _ in range(4))))
def test_merge_undoes_split(shape):
    B, T, H, D = shape
    x = normal(B, T, H * D)
    assert torch.equal(merge_heads(split_heads(x, H)), x)


# ------------------------------------------------------------------- layers


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("bias", [False, True])
def test_equals_multihead_attention_of_torch(kind, bias):
    ours = make(kind, bias=bias)
    theirs = nn.MultiheadAttention(
        16, 4, bias=bias, batch_first=True, dtype=torch.float64
    )
    theirs.in_proj_weight.data.copy_(ours.qkv.weight)
    theirs.out_proj.weight.data.copy_(ours.out.weight)
    if bias:
        theirs.in_proj_bias.data.copy_(ours.qkv.bias)
        theirs.out_proj.bias.data.copy_(ours.out.bias)
    x = normal(3, 7, 16)
    y, weights = theirs(x, x, x, attn_mask=~causal_mask(7), average_attn_weights=False)
    assert torch.allclose(ours(x), y)
    assert torch.allclose(ours.weights(x), weights)


@pytest.mark.parametrize("kind", LAYERS)
def test_equals_gpt2_attention_of_transformers(kind):
    from transformers import GPT2Config
    from transformers.models.gpt2.modeling_gpt2 import GPT2Attention

    torch.manual_seed(0)
    config = GPT2Config(n_embd=16, n_head=4, attn_implementation="sdpa")
    theirs = GPT2Attention(config, layer_idx=0).double().eval()
    nn.init.normal_(theirs.c_attn.bias)
    nn.init.normal_(theirs.c_proj.bias)
    ours = make(kind, bias=True)
    ours.qkv.weight.data.copy_(theirs.c_attn.weight.T)
    ours.qkv.bias.data.copy_(theirs.c_attn.bias)
    ours.out.weight.data.copy_(theirs.c_proj.weight.T)
    ours.out.bias.data.copy_(theirs.c_proj.bias)
    x = normal(2, 9, 16)
    assert torch.allclose(ours(x), theirs(x)[0])


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_fused_equals_explicit_with_gradients(qk_norm, padded):
    explicit, fused = (make(kind, qk_norm=qk_norm, bias=True) for kind in LAYERS)
    fused.load_state_dict(explicit.state_dict())
    mask = None
    if padded:
        mask = torch.tensor([[True] * 6, [False] * 2 + [True] * 4])[:, None, None]
    x = normal(2, 6, 16)
    outputs = [layer(x, mask=mask) for layer in (explicit, fused)]
    assert torch.allclose(*outputs)
    for y in outputs:
        (y * normal(2, 6, 16, seed=1)).sum().backward()
    for (name, ours), theirs in zip(explicit.named_parameters(), fused.parameters()):
        assert ours.grad.abs().sum() > 0, name
        assert torch.allclose(ours.grad, theirs.grad), name


@pytest.mark.parametrize("kind", LAYERS)
def test_no_output_depends_on_a_later_word(kind):
    layer, x = make(kind, qk_norm=True), normal(1, 6, 16).requires_grad_()
    for t in range(6):
        (gradient,) = torch.autograd.grad(layer(x)[0, t].sum(), x)
        read = gradient[0].abs().sum(dim=1) > 0
        assert read.tolist() == [s <= t for s in range(6)]


@pytest.mark.parametrize("kind", LAYERS)
@settings(max_examples=25, deadline=None)
@given(chunks=st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_cached_in_any_chunks_equals_one_pass(kind, chunks):
    layer, T = make(kind, qk_norm=True, bias=True), sum(chunks)
    x = normal(2, T, 16)
    with torch.no_grad():
        cache = layer.make_cache(2, T)
        parts = [layer(part, cache=cache) for part in x.split(chunks, dim=1)]
        assert cache.length == T
        assert torch.allclose(torch.cat(parts, dim=1), layer(x))


@pytest.mark.parametrize("kind", LAYERS)
def test_left_padded_batch_that_drops_a_row_equals_each_text_alone(kind):
    layer = make(kind, qk_norm=True)
    texts = [normal(n, 16, seed=n) for n in (8, 5, 7)]
    alone = [layer(text[None])[0] for text in texts]
    x = torch.stack([F.pad(text, (0, 0, 8 - len(text), 0)) for text in texts])
    words = torch.tensor([[t >= 8 - len(text) for t in range(8)] for text in texts])
    mask = words[:, None, None, :]
    with torch.no_grad():
        cache = layer.make_cache(3, 8)
        first = layer(x[:, :6], mask=mask[..., :6], cache=cache)
        rows = torch.tensor([True, False, True])  # the second text has ended
        cache.select(rows)
        rest = layer(x[rows, 6:], mask=mask[rows], cache=cache)
    assert torch.allclose(first[1, 3:], alone[1][:3])
    for row, text in ((0, 0), (1, 2)):
        start = 8 - len(texts[text])
        assert torch.allclose(first[text, start:], alone[text][: 6 - start])
        assert torch.allclose(rest[row], alone[text][6 - start :])


def test_one_prompt_serves_several_continuations_and_forgets_words():
    layer = make(FusedCausalSelfAttention)
    prompt, tails = normal(1, 4, 16), normal(3, 2, 16, seed=1)
    with torch.no_grad():
        cache = layer.make_cache(1, 6)
        layer(prompt, cache=cache)
        cache.select(torch.zeros(3, dtype=torch.long))
        whole = layer(torch.cat((prompt.expand(3, 4, 16), tails), dim=1))
        assert torch.allclose(layer(tails, cache=cache), whole[:, 4:])
        cache.length = 5
        assert torch.allclose(layer(tails[:, 1:], cache=cache), whole[:, 5:])


@pytest.mark.parametrize("kind", LAYERS)
def test_subclass_can_turn_queries_and_keys_by_position(kind):
    """The seam for rotary positions: only relative positions matter, cached too."""

    class Rotary(kind):
        def transform(self, q: Tensor, k: Tensor, positions: Tensor):
            q, k = super().transform(q, k, positions)
            angle = positions.to(q.dtype) * 0.3  # (T,) or (B, T)
            angle = angle[..., None, :, None] if angle.dim() == 2 else angle[:, None]
            return self.turn(q, angle), self.turn(k, angle)

        def turn(self, x, angle):
            a, b = x.chunk(2, dim=-1)
            sin, cos = angle.sin(), angle.cos()
            return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)

    layer, x = make(Rotary), normal(2, 6, 16)
    with torch.no_grad():
        whole = layer(x)
        assert not torch.allclose(whole, make(kind)(x))
        assert torch.allclose(layer(x, positions=torch.arange(6) + 40), whole)
        shifted = torch.stack((torch.arange(6), torch.arange(6) + 3))
        assert torch.allclose(layer(x, positions=shifted), whole)
        assert not torch.allclose(layer(x, positions=2 * torch.arange(6)), whole)
        cache = layer.make_cache(2, 6)
        parts = [layer(part, cache=cache) for part in x.split((3, 1, 2), dim=1)]
        assert torch.allclose(torch.cat(parts, dim=1), whole)


def test_normalized_scores_are_bounded_however_large_the_input():
    layer = make(CausalSelfAttention, qk_norm=True)
    nn.init.uniform_(layer.q_norm.weight, -2, 2)
    nn.init.uniform_(layer.k_norm.weight, -2, 2)
    bound = math.prod(n.weight.abs().max().item() for n in (layer.q_norm, layer.k_norm))
    for size in (1e-2, 1.0, 1e6):
        q, k, _ = layer.project(size * normal(4, 9, 16))
        scores = q @ k.transpose(-2, -1) / 2.0
        assert scores.abs().max() <= bound * 2.0
    plain, _, _ = make(CausalSelfAttention).project(1e6 * normal(4, 9, 16))
    assert plain.abs().max() > 1e4


def test_queries_and_keys_are_normalized_each_with_its_own_scale():
    layer, x = make(CausalSelfAttention, qk_norm=True), normal(2, 3, 16)
    nn.init.normal_(layer.q_norm.weight)
    nn.init.normal_(layer.k_norm.weight)
    q, k, v = layer.project(x)
    raw = [split_heads(part, 4) for part in layer.qkv(x).chunk(3, dim=-1)]
    for ours, part, norm in ((q, raw[0], layer.q_norm), (k, raw[1], layer.k_norm)):
        size = (part.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()
        assert torch.allclose(ours, norm.weight * part / size)
    assert torch.equal(v, raw[2])


@pytest.mark.parametrize("kind", LAYERS)
def test_dropout_acts_in_training_only(kind):
    layer, x = make(kind, dropout=0.5), normal(1, 6, 16)
    assert torch.equal(layer(x), layer(x))
    layer.train()
    assert not torch.equal(layer(x), layer(x))


@pytest.mark.parametrize("kind", LAYERS)
def test_bfloat16_stays_bfloat16(kind):
    layer = make(kind, qk_norm=True, dtype=torch.bfloat16)
    x = normal(1, 4, 16, dtype=torch.bfloat16)
    with torch.no_grad():
        cache = layer.make_cache(1, 4)
        assert layer(x, cache=cache).dtype == cache.keys.dtype == torch.bfloat16
        assert torch.allclose(layer(x).float(), layer.float()(x.float()), atol=0.05)


def test_learns_to_recall_what_one_layer_cannot():
    """Two layers with positions fit a batch of stories; one layer does not."""

    class Stack(nn.Module):
        def __init__(self, depth):
            super().__init__()
            self.word, self.position = nn.Embedding(16, 32), nn.Embedding(9, 32)
            config = AttentionConfig(width=32, num_heads=2)
            self.layers = nn.ModuleList(
                FusedCausalSelfAttention(config) for _ in range(depth)
            )
            self.readout = nn.Linear(32, 16)

        def forward(self, words):
            x = self.word(words) + self.position(torch.arange(9))
            for layer in self.layers:
                x = x + layer(F.rms_norm(x, (32,)))
            return self.readout(x)[:, -1]

    losses = []
    for depth in (1, 2):
        torch.manual_seed(0)
        model, generator = Stack(depth), torch.Generator().manual_seed(0)
        optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
        for _ in range(200):
            words, answers = recall_batch(64, generator=generator)
            loss = F.cross_entropy(model(words), answers[:, 0])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1.2 > 0.3 > losses[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 10, "num_heads": 4}, "10 is not a positive multiple of num_heads 4"),
        ({"width": 0, "num_heads": 1}, "0 is not a positive multiple"),
        ({"width": 8, "num_heads": 0}, "num_heads 0"),
        ({"width": 8, "num_heads": 2, "dropout": 1.0}, r"dropout 1\.0"),
        ({"width": 8, "num_heads": 2, "dropout": -0.1}, r"dropout -0\.1"),
    ],
)
def test_config_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        AttentionConfig(**options)


def test_config_knows_the_head_width_and_is_frozen():
    config = AttentionConfig(width=12, num_heads=3)
    assert config.head_width == 4
    with pytest.raises(AttributeError):
        config.width = 6


@pytest.mark.parametrize("shape", [(2, 4), (4, 4), (2, 1, 4)])
def test_layer_refuses_a_mask_whose_axes_are_ambiguous(shape):
    layer = make(CausalSelfAttention)
    with pytest.raises(ValueError, match=r"mask\[:, None, None, :\]"):
        layer(normal(2, 4, 16), mask=torch.ones(shape, dtype=torch.bool))


# -------------------------------------------------------------------- cache


def test_cache_returns_all_keys_in_order_from_one_allocation():
    cache = KVCache(2, 5, num_heads=3, head_width=4)
    k, v = normal(2, 3, 5, 4, dtype=torch.float32), torch.ones(2, 3, 5, 4)
    place = cache.keys.data_ptr()
    cache.append(k[:, :, :2], v[:, :, :2])
    keys, values = cache.append(k[:, :, 2:], v[:, :, 2:])
    assert torch.equal(keys, k) and torch.equal(values, v)
    assert keys.data_ptr() == place and cache.length == 5


def test_cache_refuses_what_does_not_fit():
    cache = KVCache(2, 3, num_heads=1, head_width=4)
    k = torch.zeros(2, 1, 2, 4)
    cache.append(k, k)
    with pytest.raises(ValueError, match="4 words do not fit a cache of 3"):
        cache.append(k, k)
    with pytest.raises(ValueError, match=r"select\(rows\)"):
        cache.append(k[:1], k[:1])
    with pytest.raises(ValueError, match=r"\(2, 1, 1, 4\)"):
        cache.append(k[:, :, :1], k)
    with pytest.raises(ValueError, match=r"torch\.no_grad"):
        cache.append(k[:, :, :1].requires_grad_(), k[:, :, :1])
    assert cache.length == 2


# ------------------------------------------------------------------- recall


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_answer_is_the_place_behind_the_object_asked_for(data):
    num_objects = data.draw(st.integers(1, 8))
    num_facts = data.draw(st.integers(1, num_objects))
    num_questions = data.draw(st.integers(1, num_facts))
    words, answers = recall_batch(
        5,
        num_facts=num_facts,
        num_questions=num_questions,
        num_objects=num_objects,
        generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))),
    )
    assert words.shape == (5, 2 * num_facts + num_questions)
    for story, places in zip(words.tolist(), answers.tolist()):
        facts, asked = story[: 2 * num_facts], story[2 * num_facts :]
        assert len(set(facts)) == 2 * num_facts and len(set(asked)) == num_questions
        assert all(word < num_objects for word in facts[::2])
        assert all(num_objects <= word < 2 * num_objects for word in facts[1::2])
        known = dict(zip(facts[::2], facts[1::2]))
        assert [known[word] for word in asked] == places


def test_recall_is_drawn_from_the_generator_and_covers_the_words():
    words, answers = recall_batch(500, generator=torch.Generator().manual_seed(3))
    again, _ = recall_batch(500, generator=torch.Generator().manual_seed(3))
    assert torch.equal(words, again)
    assert set(words.flatten().tolist()) == set(range(len(RECALL_WORDS)))
    assert set(answers.flatten().tolist()) == set(range(8, 16))


@pytest.mark.parametrize(
    "options",
    [
        {"num_questions": 0},
        {"num_questions": 5, "num_facts": 4},
        {"num_facts": 9, "num_objects": 8},
    ],
)
def test_recall_refuses_impossible_stories(options):
    with pytest.raises(ValueError, match="each number must be at most the next"):
        recall_batch(1, **options)
