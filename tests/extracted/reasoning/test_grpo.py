"""GRPO: each part by hand and against autograd, probabilities against generation."""

import math
from dataclasses import replace
from itertools import repeat

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import opinionated

from extracted.alignment.rlhf import (
    token_logprobs,
)
from extracted.foundations.generation import Completion, SamplingParams
from extracted.foundations.gpt import GPT
from extracted.foundations.language_modeling import END_OF_TEXT
from extracted.foundations.tokenizer import Tokenizer
from extracted.reasoning.chain_of_thought import Attempt
from extracted.reasoning.grpo import (
    METHODS,
    GRPOConfig,
    Rollouts,
    collect_rollouts,
    fixed_mean,
    group_advantages,
    grpo_loss,
    informative,
    right_answer,
    right_steps,
    sequence_mean,
    sequence_surrogate,
    token_mean,
    token_surrogate,
    train_grpo,
    weighted_surrogate,
)
from extracted.reasoning.problems import (
    END_THINK,
    THINK,
    Problem,
    check_rationale,
    generate_problems,
)

BYTES = Tokenizer([], special_tokens=[END_OF_TEXT, THINK, END_THINK])
STOP = (BYTES.special_tokens[END_OF_TEXT],)
MIXED = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
SURROGATES = (token_surrogate, sequence_surrogate, weighted_surrogate)


def tiny(seed: int = 0) -> GPT:
    return opinionated(BYTES.vocab_size, seed=seed)


def attempt(problem: Problem, text: str) -> Attempt:
    completion = Completion([], [], [], "stop")
    return Attempt(completion, text, check_rationale(problem, text))


# --- attempts


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"temperature": 0.6},
        {"temperature": 1.5, "top_k": 9},
        {"top_p": 0.8},
        {"min_p": 0.05},
    ],
)
def test_recomputed_probabilities_are_those_drawn_from(changes: dict) -> None:
    model = tiny()
    params = SamplingParams(20, stop_ids=STOP, **changes)
    batch = collect_rollouts(model, BYTES, generate_problems(5), params, num_samples=3)
    lengths = {len(BYTES.encode(p.question)) for p in generate_problems(5)}
    assert len(lengths) > 1, "the case is empty without padding"
    with torch.no_grad():
        again = token_logprobs(model, batch.ids, batch.counted, params)
    torch.testing.assert_close(again, batch.drawn, atol=2e-4, rtol=0)
    assert (again[~batch.counted] == 0).all()


def test_first_token_is_predicted_at_the_end_of_the_question() -> None:
    model, params = tiny(), SamplingParams(6, stop_ids=STOP)
    problems = generate_problems(2)
    batch = collect_rollouts(model, BYTES, problems, params, num_samples=2)
    for row, problem in enumerate([p for p in problems for _ in range(2)]):
        start = 1 + len(BYTES.encode(" " + problem.question))
        first = int(batch.counted[row].nonzero()[0])
        assert first == start - 1
    assert batch.rewards.shape == (2, 2)


def test_select_keeps_whole_groups() -> None:
    ids = torch.arange(8).view(4, 2)
    batch = Rollouts(ids, ids[:, :1] > 0, ids[:, :1] * 1.0, MIXED[:, :2])
    kept = batch.select(torch.tensor([False, True]))
    assert kept.ids.tolist() == [[4, 5], [6, 7]]
    assert kept.rewards.tolist() == [[1.0, 1.0]]


def test_rewards() -> None:
    (problem,) = generate_problems(1)
    a, b = problem.operands(problem.steps[0])
    first = problem.steps[0]
    line = f" {a}{first.op}{b}={first.value}."
    lucky = attempt(problem, f"#### {problem.answer}")
    assert (right_answer(problem, lucky), right_steps(problem, lucky)) == (1, 0)
    once, twice = attempt(problem, line), attempt(problem, line * 9)
    assert right_steps(problem, once) == 1 / len(problem.steps)
    assert right_steps(problem, twice) == 1 / 9, "padding costs"


# --- advantages


def test_advantages_by_hand() -> None:
    found = group_advantages(MIXED)
    torch.testing.assert_close(found[0], torch.tensor([1.5, -0.5, -0.5, -0.5]))
    assert (found[1] == 0).all()
    plain = group_advantages(MIXED, "none")
    assert plain[0].tolist() == [0.75, -0.25, -0.25, -0.25]
    assert informative(MIXED).tolist() == [True, False]


@given(st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=9))
def test_advantages_of_a_group_sum_to_zero(rewards: list[float]) -> None:
    table = torch.tensor([rewards], dtype=torch.float64)
    for scale in ("std", "none"):
        assert abs(group_advantages(table, scale).sum().item()) < 1e-6


def test_advantages_refuse() -> None:
    with pytest.raises(ValueError, match='use "std" or "none"'):
        group_advantages(MIXED, "var")
    for shape in ((4,), (4, 1)):
        with pytest.raises(ValueError, match="two or more"):
            group_advantages(torch.zeros(shape))


# --- ratios and clips


def test_sequence_ratio_is_the_geometric_mean() -> None:
    old = torch.tensor([[0.5, 0.5, 0.5]]).log()
    new = torch.tensor([[0.6, 0.45, 0.9]]).log()
    counted = torch.tensor([[True, True, False]])
    value = sequence_surrogate(new, old, counted, torch.ones(1, 1), 0.9, 0.9)
    expected = math.sqrt(1.2 * 0.9)
    torch.testing.assert_close(value, torch.full((1, 3), expected))


def test_cispo_has_a_gradient_where_ppo_has_none() -> None:
    old, ones = torch.tensor([[0.1]]).log(), torch.ones(1, 1)
    slopes = []
    for surrogate in (token_surrogate, weighted_surrogate):
        logp = torch.tensor([[0.3]]).log().requires_grad_()
        surrogate(logp, old, ones.bool(), ones, 0.2, 0.28).sum().backward()
        assert logp.grad is not None
        slopes.append(logp.grad.item())
    assert slopes == [0.0, pytest.approx(1.28)]


def test_all_surrogates_begin_with_the_policy_gradient() -> None:
    torch.manual_seed(0)
    old = torch.randn(4, 5)
    counted, advantages = torch.ones(4, 5).bool(), torch.randn(4, 1)
    for surrogate in SURROGATES:
        logp = old.clone().requires_grad_()
        value = surrogate(logp, old, counted, advantages, 0.2, 0.2)
        sequence_mean(value, counted, 5).backward()
        torch.testing.assert_close(logp.grad, (advantages / 20).expand(4, 5))


# --- divergence


# --- averages


def test_averages_by_hand() -> None:
    counted = torch.tensor([[1, 0, 0], [1, 1, 1]]).bool()
    values = torch.tensor([[3.0, math.inf, math.nan], [1.0, 1.0, 1.0]])
    assert sequence_mean(values, counted, 8).item() == 2.0
    assert token_mean(values, counted, 8).item() == 1.5
    assert fixed_mean(values, counted, 8).item() == 6 / 16


# --- the loss and the loop


def test_loss_pushes_the_right_attempt_up_and_the_penalty_back() -> None:
    old = torch.tensor([[0.5], [0.5]]).log()
    rewards = torch.tensor([[1.0, 0.0]])
    batch = Rollouts(torch.zeros(2, 2).long(), torch.ones(2, 1).bool(), old, rewards)
    slopes = []
    for kl in (0.0, 10.0):
        logp = old.clone().requires_grad_()
        ref = torch.tensor([[0.1], [0.5]]).log()
        grpo_loss(logp, ref, batch, GRPOConfig(kl=kl)).backward()
        assert logp.grad is not None
        slopes.append(logp.grad[:, 0].tolist())
    assert slopes[0][0] < 0 < slopes[0][1], "a descent raises the first"
    assert slopes[1][0] > 0, "a strong penalty leads back to the reference"


def test_the_config_refuses() -> None:
    bad: list[dict] = [
        {"iterations": 0},
        {"num_samples": 1},
        {"temperature": 0.0},
        {"low": 0.0},
        {"kl": -1.0},
        {"scale": "var"},
        {"updates": 0},
        {"evaluate_every": 0},
    ]
    for change in bad:
        (name,) = change
        with pytest.raises(ValueError, match=name):
            GRPOConfig(**change)
    assert set(METHODS) == {"GRPO", "Dr. GRPO", "DAPO", "GSPO", "CISPO"}


def plain_text(problem: Problem, given: Attempt) -> float:
    """A reward that any model can earn: the share of characters in ASCII."""
    return sum(c.isascii() for c in given.text) / max(1, len(given.text))


@pytest.mark.parametrize("method", sorted(METHODS))
def test_each_method_earns_more(method: str) -> None:
    config = replace(
        METHODS[method],
        iterations=8,
        num_problems=4,
        num_samples=8,
        max_new_tokens=20,
        matrix_rate=0.02,
        rate=2e-2,
        updates=2,
    )
    model = tiny()
    problems = repeat(generate_problems(1)[0])
    log = train_grpo(model, BYTES, problems, config, reward=plain_text)
    assert log[-1]["reward"] > log[0]["reward"]
    assert log[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert {"entropy", "length", "dropped", "outside", "grad_norm"} <= set(log[0])


def test_equal_rewards_leave_the_weights_alone() -> None:
    model = tiny()
    before = [w.clone() for w in model.parameters()]
    config = GRPOConfig(iterations=2, num_problems=2, num_samples=2, max_new_tokens=4)
    log = train_grpo(model, BYTES, generate_problems(4), config)
    assert all(row["dropped"] == 1 for row in log)
    pairs = zip(model.parameters(), before, strict=True)
    assert all(torch.equal(new, old) for new, old in pairs)


def test_too_few_problems_are_refused() -> None:
    config = GRPOConfig(iterations=3, num_problems=2, num_samples=2, max_new_tokens=4)
    with pytest.raises(ValueError, match="1 are left of the 2"):
        train_grpo(tiny(), BYTES, generate_problems(5), config)
