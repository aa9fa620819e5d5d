"""Losses on pairs: by hand, against sympy and autograd, and a policy that learns."""

import math
import random
from dataclasses import replace
from functools import partial

import pytest
import sympy
import torch
from models import opinionated
from scipy.optimize import minimize

from extracted.alignment.instruction_tuning import (
    CHAT_TOKENS,
    Example,
    Message,
    ask,
    encode_chat,
    generate_tasks,
)
from extracted.alignment.preference_optimization import (
    PairLogprobs,
    PairLoss,
    PreferenceBatches,
    PreferenceConfig,
    chosen_loss,
    compare_ratios,
    divergences,
    dpo_loss,
    examine_policy,
    ipo_loss,
    join_examples,
    kto_loss,
    log_odds,
    orpo_loss,
    pair_examples,
    reply_logprobs,
    sequence_logprobs,
    simpo_loss,
    train_preferences,
)
from extracted.alignment.reward_model import Preference, true_reward
from extracted.foundations.gpt import GPT
from extracted.foundations.language_modeling import END_OF_TEXT
from extracted.foundations.tokenizer import Tokenizer

BYTES = Tokenizer([], special_tokens=[END_OF_TEXT, *CHAT_TOKENS])
LOSSES: dict[str, PairLoss] = {
    "chosen": chosen_loss,
    "dpo": dpo_loss,
    "cdpo": partial(dpo_loss, smoothing=0.1),
    "ipo": ipo_loss,
    "kto": kto_loss,
    "simpo": simpo_loss,
    "orpo": orpo_loss,
}


def tiny(seed: int = 0) -> GPT:
    return opinionated(BYTES.vocab_size, seed=seed)


def some_pairs(count: int = 24) -> list[Preference]:
    """A short polite reply is chosen, a rambling one is not."""
    tasks = generate_tasks(count)
    return [
        Preference(task, f"Yes! {task.answers[0]}", "No. I said no." + " no" * (i % 3))
        for i, task in enumerate(tasks)
    ]


def numbers(seed: int = 0, count: int = 5) -> PairLogprobs:
    """Log-probabilities as if of replies of 3 to 9 tokens, in float64."""
    rng = torch.Generator().manual_seed(seed)
    table = -8 * torch.rand(4, count, generator=rng, dtype=torch.float64) - 0.5
    lengths = torch.randint(3, 10, (2, count), generator=rng)
    return PairLogprobs(*table, *lengths)


def shifted(pair: PairLogprobs, chosen: float, rejected: float) -> PairLogprobs:
    return replace(pair, chosen=pair.chosen + chosen, rejected=pair.rejected + rejected)


# --- the probability of a reply


def test_sequence_logprobs_are_those_of_plain_softmax() -> None:
    model = tiny()
    examples = [Example([5, 6, 7], [8, 9]), Example([5], [6, 7, 8, 9, 10])]
    ids, counted = join_examples(examples)
    sums, lengths = sequence_logprobs(model, ids, counted)
    assert lengths.tolist() == [2, 5]
    for row, example in enumerate(examples):
        text = torch.tensor([example.prompt + example.target])
        table = model(text)[0].log_softmax(dim=-1)
        start = len(example.prompt)
        by_hand = sum(table[t - 1, text[0, t]] for t in range(start, text.shape[1]))
        torch.testing.assert_close(sums[row], by_hand)


def test_sequence_logprobs_agree_with_sampling() -> None:
    model, prompt = tiny(), "Name a colour."
    replies = ask(
        model, BYTES, [prompt], temperature=1.0, num_samples=4, max_new_tokens=12
    )[0]
    start = encode_chat(BYTES, [Message("user", prompt)], reply=True)
    sums, lengths = sequence_logprobs(
        model, *join_examples([Example(start, reply.ids) for reply in replies])
    )
    drawn = torch.tensor([sum(reply.logprobs) for reply in replies])
    torch.testing.assert_close(sums.detach(), drawn, atol=1e-3, rtol=0)
    assert lengths.tolist() == [len(reply.ids) for reply in replies]


def test_reply_logprobs_keep_the_order_of_pairs() -> None:
    model, pairs = tiny(), some_pairs(9)
    found = reply_logprobs(model, BYTES, pairs)
    for row, pair in zip(found, pairs, strict=True):
        sums, _ = sequence_logprobs(
            model, *join_examples(list(pair_examples(BYTES, pair)))
        )
        torch.testing.assert_close(row, sums.detach())
    assert reply_logprobs(model, BYTES, []).shape == (0, 2)


# --- the losses


def test_losses_by_hand() -> None:
    def row(*values: float) -> list[torch.Tensor]:
        return [torch.tensor([value], dtype=torch.float64) for value in values]

    pair = PairLogprobs(*row(-4.0, -6.0, -5.0, -4.0, 4.0, 3.0))
    # Log-ratios 1 and -2, so a gap of 3; means -1 and -2.
    softplus = lambda x: math.log1p(math.exp(x))  # noqa: E731
    odds = [math.log(p / (1 - p)) for p in (math.exp(-1), math.exp(-2))]
    expected = {
        "chosen": 1.0,
        "dpo": softplus(-0.3),
        "cdpo": 0.9 * softplus(-0.3) + 0.1 * softplus(0.3),
        "ipo": (3 - 5) ** 2,
        "kto": 1 - 0.5 / (1 + math.exp(-0.1)) - 0.5 / (1 + math.exp(-0.2)),
        "simpo": softplus(-(2 * 1 - 1)),
        "orpo": 1 + softplus(-(odds[0] - odds[1])),
    }
    for name, loss in LOSSES.items():
        assert loss(pair).item() == pytest.approx(expected[name]), name


def test_losses_and_slopes_are_those_of_sympy() -> None:
    """The papers' formulas, typed once more as symbols and differentiated there."""
    w, l, rw, rl, nw, nl, b = sympy.symbols("w l rw rl nw nl b")  # noqa: E741
    sigma = lambda x: 1 / (1 + sympy.exp(-x))  # noqa: E731
    odds = lambda p: p / (1 - p)  # noqa: E731
    pw, pl = sympy.exp(w / nw), sympy.exp(l / nl)
    papers = {
        "chosen": -w / nw,
        "dpo": -sympy.log(sigma(b * sympy.log(sympy.exp(w - rw) / sympy.exp(l - rl)))),
        "ipo": (w - l - rw + rl - 1 / (2 * b)) ** 2,
        "simpo": -sympy.log(sigma(2 * w / nw - 2 * l / nl - 1)),
        "orpo": -w / nw - sympy.log(sigma(sympy.log(odds(pw) / odds(pl)))),
    }
    pair = numbers()
    chosen = pair.chosen.clone().requires_grad_()
    rejected = pair.rejected.clone().requires_grad_()
    live = replace(pair, chosen=chosen, rejected=rejected)
    for name, formula in papers.items():
        value = LOSSES[name](live)
        slopes = torch.autograd.grad(value.sum(), (chosen, rejected), allow_unused=True)
        for i in range(len(chosen)):
            at = {
                w: pair.chosen[i].item(),
                l: pair.rejected[i].item(),
                rw: pair.ref_chosen[i].item(),
                rl: pair.ref_rejected[i].item(),
                nw: pair.chosen_length[i].item(),
                nl: pair.rejected_length[i].item(),
                b: 0.1,
            }
            assert value[i].item() == pytest.approx(float(formula.subs(at))), name
            for slope, symbol in zip(slopes, (w, l), strict=True):
                mine = 0.0 if slope is None else slope[i].item()
                theirs = float(sympy.diff(formula, symbol).subs(at))
                assert mine == pytest.approx(theirs), name


def test_dpo_weighs_a_pair_by_how_wrong_it_is() -> None:
    pair = numbers(1)
    chosen = pair.chosen.clone().requires_grad_()
    dpo_loss(replace(pair, chosen=chosen), beta=0.3).sum().backward()
    gap = (pair.chosen - pair.ref_chosen) - (pair.rejected - pair.ref_rejected)
    torch.testing.assert_close(chosen.grad, -0.3 * torch.sigmoid(-0.3 * gap))


def test_dpo_cannot_see_both_fall_and_others_can() -> None:
    pair = numbers(2)
    fallen = shifted(pair, -3.0, -3.0)
    for loss in (dpo_loss, ipo_loss):
        torch.testing.assert_close(loss(pair), loss(fallen))
    assert (orpo_loss(fallen) > orpo_loss(pair)).all()


def test_ipo_has_enough_and_dpo_has_not() -> None:
    pair = replace(
        numbers(3), chosen=torch.zeros(1), rejected=torch.zeros(1),
        ref_chosen=torch.zeros(1), ref_rejected=torch.zeros(1),
    )  # fmt: skip
    gaps = (4.0, 5.0, 6.0, 60.0)
    ipo = [ipo_loss(shifted(pair, gap, 0.0)).item() for gap in gaps]
    assert ipo == pytest.approx([1.0, 0.0, 1.0, 55.0**2])
    dpo = [dpo_loss(shifted(pair, gap, 0.0)).item() for gap in gaps]
    assert dpo == sorted(dpo, reverse=True) and len({*dpo}) == 4


def test_smoothing_of_one_half_wants_no_gap() -> None:
    pair = numbers(4)
    level = replace(pair, ref_chosen=pair.chosen, ref_rejected=pair.rejected)
    found = dpo_loss(pair, smoothing=0.5)
    assert (found >= dpo_loss(level, smoothing=0.5) - 1e-12).all()


def test_kto_baseline_is_constant_and_not_negative() -> None:
    pair = numbers(5)
    up = replace(pair, ref_chosen=pair.chosen - 4, ref_rejected=pair.rejected - 2)
    sigma = torch.sigmoid(torch.tensor(0.1, dtype=torch.float64))
    # The baseline is 3, so both are one nat off it, one well and one badly.
    expected = 1 - (sigma + sigma) / 2
    torch.testing.assert_close(kto_loss(up), expected.expand(5))
    down = replace(pair, ref_chosen=pair.chosen + 4, ref_rejected=pair.rejected + 4)
    parts = torch.sigmoid(torch.tensor([-0.4, 0.4], dtype=torch.float64))
    torch.testing.assert_close(kto_loss(down), (1 - parts.mean()).expand(5))
    chosen = up.chosen.clone().requires_grad_()
    kto_loss(replace(up, chosen=chosen)).sum().backward()
    slope = -0.1 * sigma * (1 - sigma) / 2
    torch.testing.assert_close(chosen.grad, slope.expand(5))


def test_log_odds() -> None:
    p = torch.tensor([0.1, 0.5, 0.9, 1.0], dtype=torch.float64)
    found = log_odds(p.log())
    torch.testing.assert_close(found[:3], torch.logit(p[:3]))
    assert torch.isfinite(found[3]), "a certain token has no infinite odds here"


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "chosen"])
def test_a_wider_gap_costs_less(name: str) -> None:
    pair = replace(numbers(6), ref_chosen=numbers(6).chosen)
    pair = replace(pair, ref_rejected=pair.rejected)
    better = LOSSES[name](shifted(pair, 0.1, -0.1))
    assert (better < LOSSES[name](pair)).all()


def test_no_loss_is_lost_in_large_gaps() -> None:
    pair = numbers(7)
    for name in ("dpo", "kto", "simpo"):
        for gap in (1e4, -1e4):
            assert torch.isfinite(LOSSES[name](shifted(pair, gap, 0.0))).all()


# --- the derivation


@pytest.mark.parametrize("beta", [0.3, 1.0, 4.0])
def test_the_minimum_of_dpo_is_the_best_policy(beta: float) -> None:
    rng = torch.Generator().manual_seed(8)
    ref = torch.rand(4, generator=rng, dtype=torch.float64).softmax(dim=0)
    reward = torch.randn(4, generator=rng, dtype=torch.float64)
    w, lower = torch.tensor([(i, j) for i in range(4) for j in range(4) if i != j]).T
    weight = ref[w] * ref[lower] * torch.sigmoid(reward[w] - reward[lower])
    ones = torch.ones(len(w))

    def value(free: list[float]) -> tuple[float, list[float]]:
        logits = torch.tensor([0.0, *free], dtype=torch.float64, requires_grad=True)
        logp = logits.log_softmax(dim=0)
        pair = PairLogprobs(
            logp[w], logp[lower], ref.log()[w], ref.log()[lower], ones, ones
        )
        loss = (weight * dpo_loss(pair, beta=beta)).sum()
        loss.backward()
        assert logits.grad is not None
        return loss.item(), logits.grad[1:].tolist()

    found = minimize(value, [0.0] * 3, jac=True, method="BFGS", options={"gtol": 1e-9})
    policy = torch.tensor([0.0, *found.x], dtype=torch.float64).softmax(dim=0)
    best = ref * (reward / beta).exp()
    torch.testing.assert_close(policy, best / best.sum(), atol=1e-5, rtol=0)


# --- batches, training, examination


def test_batches_put_the_chosen_first_and_their_references_beside() -> None:
    pairs, model = some_pairs(8), tiny()
    references = reply_logprobs(model, BYTES, pairs)
    batches = PreferenceBatches(pairs, references, BYTES, batch_size=4)
    seen = 0.0
    for _ in range(2):
        ids, counted, given = next(batches)
        sums, _ = sequence_logprobs(model, ids, counted)
        torch.testing.assert_close(sums.detach().view(2, 4).T, given)
        seen += given.sum().item()
    assert seen == pytest.approx(references.sum().item(), rel=1e-4), "each once"


def test_batches_refuse_other_references() -> None:
    pairs = some_pairs(4)
    with pytest.raises(ValueError, match="reply_logprobs"):
        PreferenceBatches(pairs, torch.zeros(4), BYTES, batch_size=2)
    with pytest.raises(ValueError, match="do not fill"):
        PreferenceBatches(pairs, torch.zeros(4, 2), BYTES, batch_size=8)


def test_the_config_refuses() -> None:
    with pytest.raises(ValueError, match="batch_size 0"):
        PreferenceConfig(batch_size=0)
    with pytest.raises(ValueError, match="steps is 0"):
        PreferenceConfig(steps=0)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_each_loss_learns_to_prefer(name: str) -> None:
    policy, pairs = tiny(), some_pairs()
    before = reply_logprobs(policy, BYTES, pairs)
    config = PreferenceConfig(
        steps=12, rate=5e-3, matrix_rate=0.02, batch_size=8, evaluate_every=4
    )
    log = train_preferences(
        policy, BYTES, pairs, config, LOSSES[name], held_out=pairs[:6]
    )
    moved = reply_logprobs(policy, BYTES, pairs) - before
    assert (moved[:, 0] - moved[:, 1]).mean() > 1
    expected = compare_ratios(moved[:6])
    assert {name: log[-1][name] for name in expected} == pytest.approx(
        expected, abs=1e-3
    )


def test_the_reference_is_the_start_unless_given() -> None:
    pairs, losses = some_pairs(8), []
    config = PreferenceConfig(steps=1, batch_size=8, evaluate_every=0)
    own = reply_logprobs(tiny(), BYTES, pairs)
    for references in (None, own, own + torch.tensor([5.0, -5.0])):
        log = train_preferences(
            tiny(), BYTES, pairs, config, partial(dpo_loss, beta=1.0),
            references=references,
        )  # fmt: skip
        losses.append(log[-1]["loss"])
    assert losses[:2] == pytest.approx([math.log(2)] * 2, abs=1e-4)
    assert losses[2] == pytest.approx(10, abs=1e-2), "as if the gap were -10"


def test_compare_ratios() -> None:
    found = compare_ratios(torch.tensor([[1.0, 0.0], [-3.0, -2.0], [0.0, 0.0]]))
    assert found["chosen"] == pytest.approx(-2 / 3)
    assert found["rejected"] == pytest.approx(-2 / 3)
    assert found["accuracy"] == pytest.approx(1 / 3), "a tie is no success"


def test_examination_tells_the_truth() -> None:
    model, tasks = tiny(), generate_tasks(5)
    found = examine_policy(model, model, BYTES, tasks, seed=3)
    prompts = [task.prompt for task in tasks]
    again = ask(model, BYTES, prompts, temperature=1.0, seed=3)
    texts = [reply.text for (reply,) in again]
    expected = [true_reward(t, text) for t, text in zip(tasks, texts, strict=True)]
    assert found["reward"] == expected
    assert max(found["kl"]) < 1e-3, "no distance from itself"
    assert "kl" not in examine_policy(model, model, BYTES, tasks, temperature=0.0)


def test_divergence_of_sampled_replies_is_near_the_exact_one() -> None:
    policy, reference = tiny(0), tiny(1)
    start = encode_chat(BYTES, [Message("user", "Hi")], reply=True)
    ids = torch.tensor([start])
    p = policy(ids)[0, -1].detach().log_softmax(dim=-1)
    q = reference(ids)[0, -1].detach().log_softmax(dim=-1)
    exact = (p.exp() * (p - q)).sum().item()
    rng = random.Random(0)
    drawn = rng.choices(range(len(p)), weights=p.exp().tolist(), k=4000)
    examples = [Example(start, [token]) for token in drawn]
    found = divergences(reference, examples, [[p[token].item()] for token in drawn])
    assert sum(found) / len(found) == pytest.approx(exact, rel=0.15)
    assert min(found) >= -1e-6
