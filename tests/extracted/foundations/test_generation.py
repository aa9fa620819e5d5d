"""Generation: against transformers' processors, plain loops, and each request alone."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from extracted.foundations.generation import (
    Completion,
    Decoding,
    SamplingParams,
    TextStream,
    draw,
    generate,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalize_repetition,
    plan_batches,
    request_keys,
    stream,
    uniforms,
    warp,
)
from extracted.foundations.gpt import GPT, GPTConfig
from extracted.foundations.tokenizer import Tokenizer

BYTES = Tokenizer([], special_tokens=["<end>"])
END = BYTES.special_tokens["<end>"]
V = BYTES.vocab_size


def lively(seed: int = 0, **changes: object) -> GPT:
    """A small model with opinions: an untrained one gives every token the same."""
    config = GPTConfig(V, 64, 2, 2, 16, bias=False, qk_norm=True)
    model = GPT(
        replace(config, **changes),  # type: ignore[arg-type]
        generator=torch.Generator().manual_seed(seed),
    )
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.mul_(12)
    return model.eval()


MODEL = lively()
PROMPTS = [[1, 2, 3], [7], [9, 8, 7, 6, 5, 4, 3, 2, 1], [40, 41, 42, 43, 44]]


@torch.no_grad()
def plain_greedy(model: GPT, prompt: list[int], count: int) -> list[int]:
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


def some_logits(seed: int = 0, rows: int = 6) -> torch.Tensor:
    return 4 * torch.randn(rows, 50, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(3))
def test_cuts_are_those_of_transformers(seed: int) -> None:
    logits, ids = some_logits(seed), torch.randint(50, (6, 9))
    for k in (1, 5, 50, 80):
        expected = TopKLogitsWarper(min(k, 50))(ids, logits)
        assert torch.equal(keep_top_k(logits, k), expected)
    for p in (0.01, 0.3, 0.9, 0.999):
        assert torch.equal(keep_top_p(logits, p), TopPLogitsWarper(p)(ids, logits))
    for p in (0.01, 0.2, 1.0):
        assert torch.equal(keep_min_p(logits, p), MinPLogitsWarper(p)(ids, logits))


def test_penalty_is_that_of_transformers() -> None:
    logits, ids = some_logits(), torch.randint(50, (6, 9))
    seen = torch.zeros(6, 50).scatter(1, ids, 1.0) > 0
    expected = RepetitionPenaltyLogitsProcessor(1.3)(ids, logits.clone())
    assert torch.allclose(penalize_repetition(logits, seen, 1.3), expected)


def test_all_together_in_the_order_of_transformers() -> None:
    logits, ids = some_logits(4), torch.randint(50, (6, 9))
    params = SamplingParams(
        temperature=0.8, top_k=20, top_p=0.9, min_p=0.02, repetition_penalty=1.2
    )
    seen = torch.zeros(6, 50).scatter(1, ids, 1.0) > 0
    expected = logits.clone()
    for processor in (
        RepetitionPenaltyLogitsProcessor(1.2),
        TemperatureLogitsWarper(0.8),
        TopKLogitsWarper(20),
        TopPLogitsWarper(0.9),
        MinPLogitsWarper(0.02),
    ):
        expected = processor(ids, expected)
    assert torch.allclose(warp(logits, params, seen), expected)


@pytest.mark.parametrize("p", [0.05, 0.5, 0.8, 1.0])
def test_a_certain_model_keeps_one_token(p: float) -> None:
    sure = torch.tensor([[100.0, 0.0, -5.0]])
    for kept in (keep_top_p(sure, p), keep_min_p(sure, p)):
        assert kept[0, 0] == 100 and not kept.softmax(dim=-1).isnan().any()


def test_temperature_by_hand() -> None:
    probs = torch.tensor([[0.8, 0.1, 0.1]])
    cold = warp(probs.log(), SamplingParams(temperature=0.5)).softmax(dim=-1)
    assert torch.allclose(cold, torch.tensor([[64 / 66, 1 / 66, 1 / 66]]))


def test_draw_by_hand() -> None:
    probs = torch.tensor([[0.0, 0.25, 0.5, 0.0, 0.25, 0.0]]).expand(6, 6)
    u = torch.tensor([0.0, 0.2499, 0.25, 0.74, 0.75, 1 - 2**-52], dtype=torch.float64)
    assert draw(probs, u).tolist() == [1, 1, 2, 2, 4, 4]


def test_draw_follows_the_probabilities() -> None:
    probs = torch.tensor([[0.5, 0.0, 0.3, 0.2]])
    keys = request_keys([[5]], [3], 40_000)
    ids = draw(probs.expand(40_000, 4), uniforms(keys, 7))
    shares = ids.bincount(minlength=4) / 40_000
    assert shares[1] == 0
    assert torch.allclose(shares, probs[0], atol=0.01)


def test_uniforms_are_uniform_and_unrelated() -> None:
    keys = request_keys([[1, 2], [1, 3], [2, 1]], [0, 0, 0], 20_000)
    assert len(np.unique(keys)) == 60_000
    table = torch.stack([uniforms(keys, step) for step in range(4)])
    assert table.min() >= 0 and table.max() < 1
    counts = torch.histc(table.flatten().float(), bins=20, min=0, max=1)
    expected = table.numel() / 20
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert chi2 < 43.8  # 99.9 % of the chi-square distribution, 19 degrees
    related = torch.corrcoef(table) - torch.eye(4)
    assert related.abs().max() < 0.02


def test_greedy_is_the_plain_loop() -> None:
    params = SamplingParams(max_new_tokens=20, temperature=0)
    found = generate(MODEL, PROMPTS, params)
    for prompt, (one,) in zip(PROMPTS, found, strict=True):
        assert one.ids == plain_greedy(MODEL, prompt, 20)
        assert one.finish_reason == "length" and one.drawn == [0.0] * 20


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.7, "top_k": 9},
        {"top_p": 0.8, "stop_ids": (10, 20, 30, 40, 50, 60, 70, 80)},
        {"min_p": 0.1, "repetition_penalty": 1.2},
    ],
)
def test_company_changes_nothing(options: dict[str, object]) -> None:
    """Neither the batch, nor its order, nor its size, nor the other samples."""
    params = SamplingParams(max_new_tokens=25, seed=5, **options)  # type: ignore[arg-type]
    whole = generate(MODEL, PROMPTS, params, num_samples=3)
    turned = generate(MODEL, PROMPTS[::-1], params, num_samples=3, max_rows=6)
    for prompt, one, other in zip(PROMPTS, whole, turned[::-1], strict=True):
        (alone,) = generate(MODEL, [prompt], params, num_samples=3)
        (first,) = generate(MODEL, [prompt], params)
        ids = [c.ids for c in one]
        assert ids == [c.ids for c in other] == [c.ids for c in alone]
        assert first[0].ids == ids[0]
        assert len({tuple(i) for i in ids}) > 1


def test_requests_of_many_kinds_in_one_call() -> None:
    kinds = [
        SamplingParams(max_new_tokens=9, temperature=0),
        SamplingParams(max_new_tokens=12, seed=1),
        SamplingParams(max_new_tokens=12, seed=2),
        SamplingParams(max_new_tokens=5, top_k=3),
    ]
    together = generate(MODEL, [PROMPTS[0]] * 4, kinds)
    for kind, found in zip(kinds, together, strict=True):
        assert found[0].ids == generate(MODEL, PROMPTS[:1], kind)[0][0].ids
    assert together[1][0].ids != together[2][0].ids
    assert plan_batches([[1]] * 4, kinds, 8) == [[0], [1, 2], [3]]


def test_log_probabilities_are_those_of_one_pass() -> None:
    params = SamplingParams(max_new_tokens=15, temperature=0.6, top_k=12, seed=2)
    for prompt, found in zip(
        PROMPTS, generate(MODEL, PROMPTS, params, num_samples=2), strict=True
    ):
        for one in found:
            with torch.no_grad():
                logits = MODEL(torch.tensor([prompt + one.ids[:-1]]))[0]
            logits = logits[len(prompt) - 1 :]
            ids = torch.tensor(one.ids)[:, None]
            for values, table in (
                (one.logprobs, logits),
                (one.drawn, keep_top_k(logits / 0.6, 12)),
            ):
                expected = table.log_softmax(dim=-1).gather(1, ids)[:, 0]
                assert torch.allclose(torch.tensor(values), expected, atol=1e-4)


def test_cached_decoding_is_recomputation() -> None:
    """The logits of every step, under padding, equal a fresh pass."""
    params = SamplingParams(max_new_tokens=12)
    decoding = Decoding(MODEL, PROMPTS, params, seeds=[0] * 4)
    texts = [list(prompt) for prompt in PROMPTS]
    for _ in range(12):
        for row, text in enumerate(texts):
            with torch.no_grad():
                fresh = MODEL(torch.tensor([text]))[0, -1]
            assert torch.allclose(decoding.logits[row], fresh, atol=2e-4)
        for text, token in zip(texts, decoding.step().ids.tolist(), strict=True):
            text.append(token)
        assert decoding.advance(torch.zeros(4, dtype=torch.bool))


def test_rows_that_end_leave() -> None:
    params = SamplingParams(max_new_tokens=12)
    decoding = Decoding(MODEL, PROMPTS, params, seeds=[0] * 4, num_samples=5)
    assert len(decoding.step().ids) == 20
    assert decoding.advance(torch.arange(20) < 15)
    assert decoding.step().rows.tolist() == [15, 16, 17, 18, 19]
    assert decoding.caches[0].keys.shape[0] == 5
    assert not decoding.advance(torch.ones(5, dtype=torch.bool))


def test_a_stop_token_ends_and_is_counted() -> None:
    free = SamplingParams(max_new_tokens=30, seed=1)
    ids = generate(MODEL, PROMPTS[:1], free)[0][0].ids
    stop = ids[10]
    end = ids.index(stop) + 1
    (one,) = generate(
        MODEL, PROMPTS[:1], replace(free, stop_ids=(stop,)), tokenizer=BYTES
    )[0]
    assert one.ids == ids[:end] and one.finish_reason == "stop"
    assert one.text == BYTES.decode(ids[: end - 1])
    assert len(one.logprobs) == len(one.drawn) == end


def test_a_stop_string_ends_and_is_not_shown() -> None:
    free = SamplingParams(max_new_tokens=40, seed=3, top_k=40)
    prompts, found = PROMPTS, generate(MODEL, PROMPTS, free, tokenizer=BYTES)
    for prompt, (whole,) in zip(prompts, found, strict=True):
        stop = whole.text[9:12]
        params = replace(free, stop=(stop, "never occurs"))
        (one,) = generate(MODEL, [prompt], params, tokenizer=BYTES)[0]
        assert one.text == whole.text[: whole.text.index(stop)]
        assert one.finish_reason == "stop"
        assert whole.ids[: len(one.ids)] == one.ids


@settings(max_examples=200, deadline=None)
@given(st.text("abc☃", max_size=30), st.lists(st.text("abc☃", min_size=1, max_size=4)))
def test_streamed_text_ends_at_the_first_stop_string(
    text: str, stops: list[str]
) -> None:
    watch = TextStream(BYTES, tuple(stops))
    shown = ""
    for token in BYTES.encode(text):
        shown += watch.feed(token)
        assert "\ufffd" not in shown
    shown += watch.flush()
    # The stop that is complete first, then the earliest beginning.
    ends = [text.find(s) + len(s) for s in stops if s in text]
    if not ends:
        assert shown == text and not watch.stopped
        return
    read = text[: min(ends)]
    assert watch.stopped
    assert shown == read[: min(read.find(s) for s in stops if s in read)]


def test_streaming_gives_the_text_and_no_half_characters() -> None:
    params = SamplingParams(max_new_tokens=40, seed=6)
    for prompt in PROMPTS:
        (one,) = generate(MODEL, [prompt], params, tokenizer=BYTES)[0]
        pieces = list(stream(MODEL, prompt, params, tokenizer=BYTES))
        assert "".join(pieces) == one.text


def test_a_snowman_is_streamed_whole() -> None:
    watch = TextStream(BYTES)
    assert [watch.feed(i) for i in BYTES.encode("☃")] == ["", "", "☃"]


def test_dropout_is_off_and_the_mode_comes_back() -> None:
    model = lively(dropout=0.5).train()
    params = SamplingParams(max_new_tokens=10, temperature=0)
    first = generate(model, PROMPTS, params)
    assert first == generate(model, PROMPTS, params)
    assert model.training
    with pytest.raises(ValueError, match="empty"):
        generate(model, [[]], params)
    assert model.training


def test_samples_differ_as_the_model_says() -> None:
    """The first token of many samples has the model's distribution."""
    params = SamplingParams(max_new_tokens=1)
    (found,) = generate(MODEL, [[5, 6]], params, num_samples=20_000)
    counts = Counter(one.ids[0] for one in found)
    with torch.no_grad():
        probs = MODEL(torch.tensor([[5, 6]]))[0, -1].softmax(dim=-1)
    for token in probs.topk(5).indices.tolist():
        expected = float(probs[token])
        error = 5 * math.sqrt(expected * (1 - expected) / 20_000)
        assert abs(counts[token] / 20_000 - expected) < error


@pytest.mark.parametrize(
    "options",
    [
        {"max_new_tokens": 0},
        {"temperature": -1.0},
        {"temperature": math.inf},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"min_p": -0.1},
        {"repetition_penalty": 0.0},
        {"stop": ("",)},
        {"stop": "a string"},
        {"seed": -1},
    ],
)
def test_senseless_settings_are_refused(options: dict[str, object]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=name):
        SamplingParams(**options)  # type: ignore[arg-type]


def test_requests_that_cannot_be_served_are_refused() -> None:
    with pytest.raises(ValueError, match="max_seq_len 64"):
        generate(MODEL, [[1] * 60], SamplingParams(max_new_tokens=6))
    (fits,) = generate(MODEL, [[1] * 60], SamplingParams(max_new_tokens=5))[0]
    assert len(fits.ids) == 5 and isinstance(fits, Completion)
    with pytest.raises(ValueError, match="tokenizer"):
        generate(MODEL, [[1]], SamplingParams(stop=("x",)))
    assert generate(MODEL, [], SamplingParams()) == []
