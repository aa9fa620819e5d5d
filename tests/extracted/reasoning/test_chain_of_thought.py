"""Examples, loss mask, batches, budget forcing and statistics of chain of thought."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from extracted.foundations.language_modeling import END_OF_TEXT
from extracted.foundations.pretraining import TrainConfig
from extracted.foundations.tokenizer import Tokenizer
from extracted.reasoning.chain_of_thought import (
    Example,
    ExampleBatches,
    answer_only,
    collate,
    encode_question,
    finetune,
    load_reasoner,
    make_examples,
    new_reasoner,
    paired_p_value,
    solve,
    target_loss,
    think_first,
    think_within,
    train_reasoner,
    wilson_interval,
)
from extracted.reasoning.problems import (
    END_THINK,
    THINK,
    generate_problems,
)


def test_a_target_is_the_text_and_its_end(tokenizer: Tokenizer) -> None:
    (problem,) = generate_problems(1)
    end = tokenizer.special_tokens[END_OF_TEXT]
    for write in (answer_only, think_first):
        (example,) = make_examples([problem], tokenizer, write)
        assert example.prompt == encode_question(tokenizer, problem)
        assert example.prompt[0] == example.target[-1] == end
        text = tokenizer.decode(example.target[:-1])
        assert text.endswith(f"#### {problem.answer}")
        assert (THINK in text and END_THINK in text) == (write is think_first)
    marks = {tokenizer.special_tokens[mark] for mark in (THINK, END_THINK)}
    assert marks <= set(example.target), "the marks are tokens, not letters"


def test_the_mask_counts_the_target_alone() -> None:
    pair = [Example([7, 8, 9], [3, 4]), Example([5], [6])]
    inputs, targets, counted = collate(pair, pad_id=0)
    assert inputs.tolist() == [[7, 8, 9, 3], [5, 6, 0, 0]]
    assert targets.tolist() == [[8, 9, 3, 4], [6, 0, 0, 0]]
    assert counted.tolist() == [[0, 0, 1, 1], [1, 0, 0, 0]]


def test_the_loss_is_torchs_mean_over_the_counted() -> None:
    logits = torch.randn(2, 4, 10, requires_grad=True)
    targets = torch.randint(10, (2, 4))
    counted = torch.tensor([[0.0, 0, 1, 1], [1, 0, 0, 0]])
    loss = target_loss(lambda ids: logits, targets, targets, counted)
    where = counted.bool()
    assert torch.allclose(loss, F.cross_entropy(logits[where], targets[where]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert (logits.grad[~where] == 0).all() and (logits.grad[where] != 0).any()


def test_batches_read_each_example_once_and_resume() -> None:
    examples = [Example([i + 1] * (1 + i % 5), [i + 1]) for i in range(23)]
    batches = ExampleBatches(examples, batch_size=4, pad_id=0, seed=1)
    first = [next(batches) for _ in range(6)]
    seen = sorted(int(t[c > 0][i]) for _, t, c in first for i in range(int(c.sum())))
    assert seen == list(range(1, 24))
    state, expected = batches.state_dict(), [next(batches) for _ in range(8)]
    again = ExampleBatches(examples, batch_size=4, pad_id=0, seed=1)
    again.load_state_dict(state)
    for batch, other in zip(expected, (next(again) for _ in range(8)), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(batch, other, strict=True))
    with pytest.raises(ValueError, match="of seed 1, not 2"):
        ExampleBatches(examples, batch_size=4, pad_id=0, seed=2).load_state_dict(state)
    with pytest.raises(ValueError, match="3 examples do not fill a batch of 4"):
        ExampleBatches(examples[:3], batch_size=4, pad_id=0)


def test_a_model_learns_a_handful_by_heart(tokenizer: Tokenizer) -> None:
    problems = generate_problems(16)
    examples = make_examples(problems, tokenizer, think_first)
    model = new_reasoner(tokenizer)
    log = finetune(model, examples, tokenizer, TrainConfig(steps=120, log_every=40))
    assert log[-1]["loss"] < 0.1
    attempts = solve(model, tokenizer, problems)
    assert sum(a.correct and all(a.verdict.steps) for (a,) in attempts) >= 15
    one = [a for (a,) in solve(model, tokenizer, problems[:3])]
    assert [a.text for a in one] == [a.text for (a,) in attempts[:3]]
    sampled = solve(model, tokenizer, problems[:2], temperature=1.0, num_samples=3)
    assert [len(group) for group in sampled] == [3, 3]
    # Room enough: the same answers. None: no thought, and still an answer's form.
    whole = think_within(model, tokenizer, problems, 90)
    assert [a.answer for a in whole] == [a.answer for (a,) in attempts]
    cut = think_within(model, tokenizer, problems, 2)
    assert all(f"{END_THINK}####" in a.text for a in cut)
    assert all(len(a.text.partition(END_THINK)[0]) < 12 for a in cut)
    more = think_within(model, tokenizer, problems[:2], 60, extend=1)
    assert all(len(m.text) >= len(w.text) for m, w in zip(more, whole, strict=False))


def test_a_saved_reasoner_is_the_one_that_was_trained(tmp_path: Path) -> None:
    config = TrainConfig(steps=2, log_every=1, evaluate_every=0, seed=5)
    log = train_reasoner(tmp_path, config=config)
    assert [record["step"] for record in log] == [1, 2]
    model, tokenizer = load_reasoner(tmp_path)
    again = tmp_path / "again"
    train_reasoner(again, config=config)
    twin, _ = load_reasoner(again)
    ids = torch.tensor([encode_question(tokenizer, generate_problems(1)[0])])
    with torch.no_grad():
        assert torch.equal(model(ids), twin(ids))
    other = tmp_path / "other"
    train_reasoner(other, config=replace(config, seed=6))
    with torch.no_grad():
        assert not torch.equal(load_reasoner(other)[0](ids), twin(ids))


@pytest.mark.parametrize(("right", "total"), [(0, 5), (7, 10), (735, 1000), (9, 9)])
def test_wilsons_bounds_are_the_rates_1_96_deviations_away(
    right: int, total: int
) -> None:
    low, high = wilson_interval(right, total)
    for bound in (low, high):
        if 0 < bound < 1:
            deviation = math.sqrt(bound * (1 - bound) / total)
            distance = abs(right / total - bound) / deviation
            assert math.isclose(distance, 1.959964, rel_tol=1e-6)
    assert 0 <= low <= right / total <= high <= 1
    assert (low == 0) == (right == 0) and math.isclose(high, 1) == (right == total)


def test_wilson_by_a_published_example() -> None:
    low, high = wilson_interval(81, 263)  # Newcombe (1998), table I
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_wilson_wants_a_trial() -> None:
    with pytest.raises(ValueError, match="no trials"):
        wilson_interval(0, 0)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (10, 0), (9, 4), (5, 5)])
def test_the_paired_p_value_counts_the_coins_that_are_as_far_off(
    wins: int, losses: int
) -> None:
    first = [True] * wins + [False] * losses + [True, False] * 7
    second = [False] * wins + [True] * losses + [True, False] * 7
    tosses = [sum(t) for t in itertools.product((0, 1), repeat=wins + losses)]
    far = abs(wins - losses)
    extreme = sum(abs(2 * heads - wins - losses) >= far for heads in tosses)
    assert math.isclose(paired_p_value(first, second), extreme / len(tosses))
    with pytest.raises(ValueError, match="zip"):
        paired_p_value([True], [])
