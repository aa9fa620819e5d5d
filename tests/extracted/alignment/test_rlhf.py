"""RLHF: each part by hand or against a loop, probabilities against generation."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import repeat

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import opinionated
from sklearn.metrics import r2_score
from torch import Tensor

from extracted.alignment.classification import Classifier
from extracted.alignment.instruction_tuning import (
    CHAT_TOKENS,
    Message,
    Task,
    encode_chat,
    generate_tasks,
)
from extracted.alignment.reward_model import score_replies
from extracted.alignment.rlhf import (
    METHODS,
    AdaptiveKL,
    Critic,
    RLHFConfig,
    clipped_objective,
    collect_rollouts,
    discounted,
    explained_variance,
    gae,
    k3_kl,
    kl_rewards,
    make_scorer,
    masked_mean,
    policy_ratio,
    ppo_loss,
    reinforce_loss,
    rloo_advantages,
    schedule,
    standardize,
    token_logprobs,
    train_rlhf,
    value_loss,
    whiten,
)
from extracted.foundations.generation import SamplingParams
from extracted.foundations.gpt import GPT
from extracted.foundations.language_modeling import END_OF_TEXT
from extracted.foundations.tokenizer import Tokenizer

BYTES = Tokenizer([], special_tokens=[END_OF_TEXT, *CHAT_TOKENS])
TASKS = generate_tasks(6)


def tiny(seed: int = 0) -> GPT:
    return opinionated(BYTES.vocab_size, seed=seed)


def judge(seed: int = 1) -> Classifier:
    model = Classifier(tiny(seed), 1)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        model.readout.weight.normal_(generator=generator)
    return model.eval()


def plain_text(tasks: Sequence[Task], replies: Sequence[str]) -> Tensor:
    """A reward that any model can earn: the share of characters in ASCII."""
    shares = [sum(c.isascii() for c in r) / max(1, len(r)) for r in replies]
    return torch.tensor(shares)


# --- replies and their probabilities


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.5])
def test_recomputed_probabilities_are_those_drawn_from(temperature: float) -> None:
    model = tiny()
    batch = collect_rollouts(
        model,
        BYTES,
        TASKS,
        plain_text,
        num_samples=3,
        temperature=temperature,
        max_new_tokens=12,
    )
    assert len({len(task.prompt) for task in TASKS}) > 1, "empty without padding"
    params = SamplingParams(temperature=temperature)
    with torch.no_grad():
        again = token_logprobs(model, batch.ids, batch.counted, params)
    torch.testing.assert_close(again, batch.drawn, atol=2e-4, rtol=0)
    assert (again[~batch.counted] == 0).all()


def test_padding_changes_nothing() -> None:
    model, params = tiny(), SamplingParams(8)
    row = torch.tensor([[5, 6, 7, 8]])
    counted = torch.tensor([[False, True, True]])
    longer = torch.nn.functional.pad(row, (0, 6), value=99)
    wide = torch.nn.functional.pad(counted, (0, 6), value=False)
    alone = token_logprobs(model, row, counted, params)
    padded = token_logprobs(model, longer, wide, params)
    torch.testing.assert_close(padded[:, :3], alone)


@pytest.mark.parametrize("changes", [{"temperature": 0}, {"repetition_penalty": 2}])
def test_what_is_no_policy_is_refused(changes: dict) -> None:
    ids, counted = torch.ones(1, 2, dtype=torch.long), torch.ones(1, 1).bool()
    with pytest.raises(ValueError, match="no policy"):
        token_logprobs(tiny(), ids, counted, SamplingParams(4, **changes))


def test_rollouts_stand_task_by_task_and_count_from_the_prompt_on() -> None:
    batch = collect_rollouts(
        tiny(), BYTES, TASKS[:2], plain_text, num_samples=2, max_new_tokens=6
    )
    assert batch.tasks == [TASKS[0], TASKS[0], TASKS[1], TASKS[1]]
    for row, task in enumerate(batch.tasks):
        prompt = encode_chat(BYTES, [Message("user", task.prompt)], reply=True)
        assert batch.ids[row, : len(prompt)].tolist() == prompt
        assert int(batch.counted[row].nonzero()[0]) == len(prompt) - 1
    torch.testing.assert_close(batch.scores, plain_text(batch.tasks, batch.texts))


# --- the judge's zero and unit


def test_standard_scores_of_the_given_replies() -> None:
    model, replies = judge(), ["yes", "no", "Gladly!", "a", "?", "One is red."]
    before = score_replies(model, BYTES, TASKS, replies)
    found = standardize(model, BYTES, TASKS, replies)
    after = make_scorer(found, BYTES)(TASKS, replies)
    expected = (before - before.mean()) / before.std()
    torch.testing.assert_close(after, expected, atol=1e-4, rtol=1e-4)
    untouched = score_replies(model, BYTES, TASKS, replies)
    torch.testing.assert_close(untouched, before)


def test_equal_scores_have_no_unit() -> None:
    with pytest.raises(ValueError, match="that differ"):
        standardize(judge(), BYTES, [TASKS[0]] * 2, ["a", "a"])


# --- advantages


def test_rloo_against_a_loop() -> None:
    scores = torch.randn(12, generator=torch.Generator().manual_seed(0))
    expected = []
    for start in range(0, 12, 4):
        group = scores[start : start + 4].tolist()
        for i, own in enumerate(group):
            others = group[:i] + group[i + 1 :]
            expected.append(own - sum(others) / 3)
    torch.testing.assert_close(rloo_advantages(scores, 4), torch.tensor(expected))


@pytest.mark.parametrize(("count", "group"), [(4, 1), (5, 2)])
def test_rloo_refuses(count: int, group: int) -> None:
    with pytest.raises(ValueError, match="two replies or more"):
        rloo_advantages(torch.zeros(count), group)


ONES = torch.ones(1, 3).bool()
EARNED, FORETOLD = torch.tensor([[0.0, 0, 1]]), torch.tensor([[0.2, 0.5, 0.6]])


@pytest.mark.parametrize(
    ("gamma", "lam", "expected"),
    [
        (1.0, 0.0, [0.3, 0.1, 0.4]),
        (1.0, 0.5, [0.45, 0.3, 0.4]),
        (1.0, 1.0, [0.8, 0.5, 0.4]),
        # errors 0.25 - 0.2, 0.3 - 0.5 and 1 - 0.6, with a factor of 1/4
        (0.5, 0.5, [0.05 - 0.05 + 0.025, -0.2 + 0.1, 0.4]),
    ],
)
def test_gae_by_hand(gamma: float, lam: float, expected: list[float]) -> None:
    found = gae(EARNED, FORETOLD, ONES, gamma, lam)
    torch.testing.assert_close(found, torch.tensor([expected]))


def ragged(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards, values and counted (5, 9): replies that begin and end anywhere."""
    generator = torch.Generator().manual_seed(seed)
    counted = torch.zeros(5, 9).bool()
    for row, (start, stop) in enumerate([(0, 9), (2, 5), (4, 9), (3, 4), (0, 2)]):
        counted[row, start:stop] = True
    rewards = torch.randn(5, 9, generator=generator) * counted
    return rewards, torch.randn(5, 9, generator=generator), counted


def test_gae_against_the_double_sum() -> None:
    rewards, values, counted = ragged()
    gamma, lam = 0.9, 0.7
    expected = torch.zeros(5, 9)
    for row in range(5):
        places = counted[row].nonzero()[:, 0].tolist()
        r, v = rewards[row, places].tolist(), [*values[row, places].tolist(), 0.0]
        errors = [r[t] + gamma * v[t + 1] - v[t] for t in range(len(r))]
        for t, place in enumerate(places):
            rest = errors[t:]
            expected[row, place] = sum(
                (gamma * lam) ** k * e for k, e in enumerate(rest)
            )
    torch.testing.assert_close(gae(rewards, values, counted, gamma, lam), expected)


def test_gae_at_its_ends() -> None:
    rewards, values, counted = ragged(1)
    returns = discounted(rewards, counted, 0.9)
    whole = gae(rewards, values, counted, 0.9, 1.0)
    torch.testing.assert_close(whole, torch.where(counted, returns - values, 0.0))
    following = torch.where(counted, values, 0.0)[:, 1:]
    following = torch.nn.functional.pad(following, (0, 1))
    errors = torch.where(counted, rewards + 0.9 * following - values, 0.0)
    torch.testing.assert_close(gae(rewards, values, counted, 0.9, 0.0), errors)


@given(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=9))
def test_returns_without_discount_are_sums_of_the_rest(rewards: list[float]) -> None:
    table = torch.tensor([rewards], dtype=torch.float64)
    found = discounted(table, torch.ones_like(table).bool())
    expected = [sum(rewards[t:]) for t in range(len(rewards))]
    assert found[0].tolist() == pytest.approx(expected, abs=1e-9)


def test_a_perfect_critic_leaves_no_advantage() -> None:
    rewards, _, counted = ragged(2)
    values = discounted(rewards, counted, 0.8)
    for lam in (0.0, 0.6, 1.0):
        assert gae(rewards, values, counted, 0.8, lam).abs().max() < 1e-5


# --- the penalty


def test_rewards_of_tokens_by_hand() -> None:
    counted = torch.tensor([[False, True, True, False], [True, True, True, True]])
    logp = torch.tensor([[9.0, -1.0, -2.0, 9.0], [-1.0, -1.0, -1.0, -1.0]])
    ref = torch.tensor([[0.0, -2.0, -1.0, 0.0], [-1.0, -1.0, -1.0, -3.0]])
    found = kl_rewards(torch.tensor([5.0, -1.0]), logp, ref, counted, 0.1)
    expected = [[0.0, -0.1, 5.1, 0.0], [0.0, 0.0, 0.0, -1.2]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_rewards_add_up_to_the_score_less_the_distance() -> None:
    _, logp, counted = ragged(3)
    scores, ref = torch.arange(5.0), torch.zeros(5, 9)
    found = kl_rewards(scores, logp, ref, counted, 0.3).sum(dim=1)
    expected = scores - 0.3 * torch.where(counted, logp, 0.0).sum(dim=1)
    torch.testing.assert_close(found, expected)


def test_k3_is_exact_in_the_mean_and_never_negative() -> None:
    torch.manual_seed(1)
    p, q = torch.randn(2, 7, dtype=torch.float64).log_softmax(dim=-1)
    exact = torch.nn.functional.kl_div(q, p, log_target=True, reduction="sum")
    values = k3_kl(p, q)
    torch.testing.assert_close((p.exp() * values).sum(), exact)
    assert (values >= 0).all()
    ids = torch.multinomial(p.exp(), 200_000, replacement=True)
    assert abs(values[ids].mean() - exact) < 0.02 * max(exact, 1.0)
    assert k3_kl(p, p).abs().max() == 0


def test_controller_by_hand() -> None:
    control = AdaptiveKL(0.1, 4.0, gain=0.5)
    seen = []
    for kl in (400.0, 4.4, 4.0, 0.0):
        control.update(kl)
        seen.append(control.beta)
    assert seen == pytest.approx([0.11, 0.1155, 0.1155, 0.10395])
    fixed = AdaptiveKL(0.1, 4.0, gain=0.0)
    fixed.update(100.0)
    assert fixed.beta == 0.1
    for bad in ((-0.1, 1.0), (0.1, 0.0)):
        with pytest.raises(ValueError, match="above 0"):
            AdaptiveKL(*bad)


def test_controller_holds_a_policy_that_answers_to_the_price() -> None:
    control = AdaptiveKL(0.5, 3.0, gain=0.5)
    for _ in range(200):
        control.update(0.3 / control.beta)
    assert 0.3 / control.beta == pytest.approx(3.0, rel=0.01)


# --- losses


@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "slope"),
    [
        (1.1, 2.0, 2.2, 2.0),
        (1.5, 1.0, 1.28, 0.0),
        (0.5, 1.0, 0.5, 1.0),
        (0.5, -1.0, -0.8, 0.0),
        (1.5, -1.0, -1.5, -1.0),
    ],
)
def test_clip(ratio: float, advantage: float, value: float, slope: float) -> None:
    x = torch.tensor(ratio, requires_grad=True)
    found = clipped_objective(x, torch.tensor(advantage), 0.2, 0.28)
    found.backward()
    assert found.item() == pytest.approx(value)
    assert x.grad is not None and x.grad.item() == pytest.approx(slope)


def test_ratio_corrects_the_expectation() -> None:
    old, new = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6])
    worth = torch.tensor([1.0, -2.0, 3.0])
    corrected = (old * policy_ratio(new.log(), old.log()) * worth).sum()
    torch.testing.assert_close(corrected, (new * worth).sum())


def test_reinforce_is_the_gradient_of_the_expected_reward() -> None:
    z = torch.tensor([1.0, -0.5, 0.3], requires_grad=True)
    worth = torch.tensor([0.0, 1.0, 2.0])
    expected = (z.softmax(dim=-1) * worth).sum()
    (exact,) = torch.autograd.grad(expected, z)
    logp, probs = z.log_softmax(dim=-1), z.softmax(dim=-1).detach()
    # each token as a reply of its own, weighed by how often it is drawn
    weights = (3 * probs * (worth - 0.7))[:, None]
    loss = reinforce_loss(logp[:, None], weights, torch.ones(3, 1).bool())
    (found,) = torch.autograd.grad(loss, z)
    torch.testing.assert_close(found, -exact)


def test_ppo_begins_with_the_policy_gradient() -> None:
    rewards, old, counted = ragged(4)
    logp = old.clone().requires_grad_()
    ppo_loss(logp, old, rewards, counted).backward()
    torch.testing.assert_close(logp.grad, -rewards / counted.sum())


def test_value_loss_by_hand() -> None:
    values = torch.tensor([[0.5, 0.1, 7.0]], requires_grad=True)
    old, returns = torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([[1.0, 1.0, 1.0]])
    counted = torch.tensor([[True, True, False]])
    loss = value_loss(values, old, returns, counted, 0.2)
    # 0.5 is held at 0.2, whose error is larger and flat; 0.1 is inside
    assert loss.item() == pytest.approx(0.5 * (0.64 + 0.81) / 2)
    loss.backward()
    assert values.grad is not None
    assert values.grad[0].tolist() == pytest.approx([0.0, -0.45, 0.0])


def test_means_leave_out_what_is_not_counted() -> None:
    counted = torch.tensor([[True, False, True]])
    values = torch.tensor([[1.0, float("nan"), 3.0]])
    assert masked_mean(values, counted).item() == 2.0
    white = whiten(values, counted)[counted]
    assert white.mean().abs() < 1e-6 and white.std().item() == pytest.approx(1.0)


def test_explained_variance_is_r_squared_of_unbiased_values() -> None:
    _, values, counted = ragged(5)
    noise = torch.randn(5, 9, generator=torch.Generator().manual_seed(6))
    returns = values + 0.5 * (noise - noise[counted].mean())
    expected = r2_score(returns[counted], values[counted])
    found = explained_variance(values, returns, counted)
    assert found == pytest.approx(expected, abs=1e-5)
    assert explained_variance(torch.zeros(5, 9), returns, counted) == 0


# --- the critic and the loop


def test_critic_says_at_the_end_what_the_judge_says() -> None:
    model = judge()
    ids = torch.randint(0, 256, (3, 8), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(3, 8).bool()
    critic = Critic(model)
    torch.testing.assert_close(critic(ids)[:, -1], model(ids, mask)[:, 0])
    with torch.no_grad():
        critic.readout.weight.zero_()
    assert model.readout.weight.abs().sum() > 0, "the judge shares no weight"


SMALL = RLHFConfig(
    iterations=8,
    num_tasks=4,
    num_samples=8,
    max_new_tokens=20,
    rate=2e-2,
    matrix_rate=2e-2,
    kl=0.0,
)


@pytest.mark.parametrize("method", METHODS)
def test_each_method_earns_more(method: str) -> None:
    critic = Critic(judge())
    with torch.no_grad():  # a random judge's opinions would drown what is earned
        critic.readout.weight.zero_()
    log = train_rlhf(
        tiny(),
        BYTES,
        plain_text,
        repeat(TASKS[0]),
        replace(SMALL, iterations=24, lam=1.0),
        method=method,
        critic=critic if method == "ppo" else None,
    )
    earned = [entry["reward"] for entry in log]
    assert sum(earned[-4:]) / 4 > sum(earned[:4]) / 4 + 0.05
    assert log[0]["kl"] == pytest.approx(0, abs=1e-3)
    expected = {"step", "beta", "reward", "truth", "entropy", "length", "grad_norm"}
    assert expected <= set(log[0])


def test_the_price_of_distance_leads_back_to_the_reference() -> None:
    z = torch.tensor([2.0, 0.0, -1.0], requires_grad=True)
    ref = torch.tensor([0.0, 1.0, 0.0]).log_softmax(dim=-1)
    logp, counted = z.log_softmax(dim=-1), torch.ones(3, 1).bool()
    (exact,) = torch.autograd.grad((logp.exp() * (logp - ref)).sum(), z)
    logp = z.log_softmax(dim=-1)[:, None]
    rewards = kl_rewards(torch.zeros(3), logp.detach(), ref[:, None], counted, 0.7)
    # each token as a reply of its own, weighed by how often it is drawn
    weights = 3 * logp.detach().exp() * rewards
    (found,) = torch.autograd.grad(reinforce_loss(logp, weights, counted), z)
    torch.testing.assert_close(found, 0.7 * exact)


def test_ppo_trains_the_critic_and_leaves_the_judge() -> None:
    model = judge()
    critic = Critic(model)
    config = replace(SMALL, iterations=2)
    log = train_rlhf(tiny(), BYTES, plain_text, repeat(TASKS[0]), config, critic=critic)
    assert {"clipped", "value_loss", "explained"} <= set(log[0])
    assert not torch.equal(critic.readout.weight, model.readout.weight)


def test_the_loop_refuses() -> None:
    with pytest.raises(ValueError, match="none of"):
        train_rlhf(tiny(), BYTES, plain_text, TASKS, SMALL, method="grpo")
    with pytest.raises(ValueError, match="needs a critic"):
        train_rlhf(tiny(), BYTES, plain_text, TASKS, SMALL)
    with pytest.raises(ValueError, match="2 are left"):
        train_rlhf(tiny(), BYTES, plain_text, TASKS, SMALL, method="rloo")


@pytest.mark.parametrize(
    "change",
    [
        {"iterations": 0},
        {"num_samples": 0},
        {"updates": 0},
        {"temperature": 0.0},
        {"clip": 1.0},
        {"gamma": 0.0},
        {"lam": 1.1},
        {"kl": -1.0},
        {"kl_target": 0.0},
        {"kl_gain": -0.1},
    ],
)
def test_the_config_refuses(change: dict) -> None:
    (name,) = change
    with pytest.raises(ValueError, match=name):
        RLHFConfig(**change)


def test_rates_rise_and_end_low() -> None:
    factors = [schedule(i, 40) for i in range(40)]
    assert factors[0] < factors[4] and max(factors) == 1
    assert factors[-1] < 0.1 and schedule(0, 1) > 0
