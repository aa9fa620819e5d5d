"""People who choose, a model that learns from it, and the instruments beside it."""

import itertools
import json
import math
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LinearRegression, LogisticRegression

from extracted.alignment.classification import Classifier
from extracted.alignment.instruction_tuning import (
    CHAT_TOKENS,
    RAMBLINGS,
    Message,
    Task,
    add_special_tokens,
    generate_tasks,
)
from extracted.alignment.reward_model import (
    GRADES,
    REWARD_CONFIG,
    Bin,
    ChatPreference,
    Preference,
    balance_lengths,
    best_accuracy,
    best_of_kl,
    best_of_n,
    calibration_error,
    center,
    collect_preferences,
    count_words,
    encode_reply,
    fit_platt,
    fit_reward_model,
    length_slope,
    load_preferences,
    load_reward_model,
    new_reward_model,
    pairwise_loss,
    prefer,
    reliability,
    save_reward_model,
    score_differences,
    score_replies,
    sigmoid,
    true_reward,
)
from extracted.foundations.data import pad_batch
from extracted.foundations.gpt import GPT, GPTConfig
from extracted.foundations.language_modeling import END_OF_TEXT
from extracted.foundations.tokenizer import Tokenizer

TASK = Task("place", "Where is Ann?", ("park",), ("mill",), "Ann is in the park.")
GOOD, BAD = "Ann is in the park.", "Ann is in the mill."


@pytest.fixture(scope="module")
def made() -> tuple[GPT, Tokenizer]:
    """A small assistant that has learned nothing, on bytes."""
    plain = Tokenizer([], special_tokens=[END_OF_TEXT])
    shape = GPTConfig(plain.vocab_size, 256, 2, 2, 16, bias=False)
    model = GPT(shape, generator=torch.Generator().manual_seed(0))
    model, tokenizer = add_special_tokens(model, plain, CHAT_TOKENS)
    return model.eval(), tokenizer


@pytest.fixture
def scorer(made: tuple[GPT, Tokenizer]) -> Classifier:
    model = new_reward_model(made[0]).eval()
    with torch.no_grad():
        model.readout.weight.normal_(generator=torch.Generator().manual_seed(1))
    return model


def test_the_truth_by_hand() -> None:
    assert true_reward(TASK, GOOD) == 1.0
    assert true_reward(TASK, BAD) == 0.0
    assert true_reward(TASK, f"Gladly! {GOOD}") == 1.5
    assert true_reward(TASK, f"You bore me. {GOOD}") == pytest.approx(0.45)
    # Five words needed and two for a courtesy; these are five and nine.
    long = f"{GOOD} I thought about it for a long time."
    assert true_reward(TASK, long) == pytest.approx(1 - 0.05 * (14 - 7) + 0.05)


def test_choices_are_those_of_bradley_and_terry() -> None:
    rng, worse = random.Random(0), f"You bore me. {GOOD}"
    count = 4000
    won = sum(prefer(TASK, GOOD, worse, rng, noise=0.5).chosen == GOOD
              for _ in range(count))  # fmt: skip
    expected = sigmoid((1 - 0.45) / 0.5)
    spread = math.sqrt(expected * (1 - expected) / count)
    assert abs(won / count - expected) < 4 * spread


def test_grades_are_of_the_felt_difference() -> None:
    rng, rude = random.Random(0), f"You bore me. {GOOD}"
    sure = [prefer(TASK, GOOD, rude, rng, noise=1e-6) for _ in range(9)]
    assert {(p.chosen, p.grade) for p in sure} == {(GOOD, 2)}  # 0.55 apart
    best = prefer(TASK, BAD, f"Gladly! {GOOD}", rng, noise=1e-6)
    assert best.grade == len(GRADES) and best.rejected == BAD
    # The felt difference is logistic: P(|felt| > c) for equal replies.
    equal = Counter(prefer(TASK, GOOD, GOOD, rng).grade for _ in range(4000))
    assert equal[0] / 4000 == pytest.approx(2 * sigmoid(0.25 / 0.2) - 1, abs=0.04)


def test_a_bias_for_length_turns_a_choice() -> None:
    rng, long = random.Random(0), f"{GOOD} {RAMBLINGS[0]} {RAMBLINGS[1]}"
    assert prefer(TASK, GOOD, long, rng, noise=1e-6).chosen == GOOD
    assert prefer(TASK, GOOD, long, rng, noise=1e-6, length_bias=0.1).chosen == long


def test_collected_pairs_are_of_two_replies(made: tuple[GPT, Tokenizer]) -> None:
    tasks = generate_tasks(6)
    pairs = collect_preferences(*made, tasks, seed=1)
    assert pairs == collect_preferences(*made, tasks, seed=1)
    assert all(pair.chosen != pair.rejected for pair in pairs)
    assert 0 < len(pairs) <= 6 and all(pair.task in tasks for pair in pairs)


def test_nobody_foresees_more_than_the_ceiling() -> None:
    rng, replies = (
        random.Random(0),
        [GOOD, BAD, f"Gladly! {GOOD}", f"{BAD} You bore me."],
    )
    pairs = [prefer(TASK, *rng.sample(replies, 2), rng, noise=0.6) for _ in range(4000)]
    known = [true_reward(TASK, p.chosen) > true_reward(TASK, p.rejected) for p in pairs]
    ceiling = best_accuracy(pairs, noise=0.6)
    assert sum(known) / len(known) == pytest.approx(ceiling, abs=0.03)
    assert best_accuracy([Preference(TASK, GOOD, GOOD)]) == 0.5


def test_the_head_starts_at_0_and_the_loss_at_ln_2(made: tuple[GPT, Tokenizer]) -> None:
    model, tokenizer = made
    fresh = new_reward_model(model)
    rows = [encode_reply(tokenizer, TASK, reply) for reply in (GOOD, BAD)]
    loss = pairwise_loss(fresh, *pad_batch(rows, pad_id=0))
    assert loss.item() == pytest.approx(math.log(2))
    loss.backward()
    assert fresh.readout.weight.grad is not None and fresh.readout.weight.grad.any()
    before = model.tokens.weight.clone()
    fit_reward_model(
        fresh, tokenizer, [Preference(TASK, GOOD, BAD)] * 2,
        replace(REWARD_CONFIG, steps=1, log_every=0), batch_size=2,
    )  # fmt: skip
    assert torch.equal(model.tokens.weight, before), "the assistant is left alone"


class Table(torch.nn.Module):
    """Scores that stand in the ids."""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return ids[:, :1].double()


def test_the_loss_against_cross_entropy() -> None:
    scores = torch.tensor([[2.0], [-1.0], [0.5], [1.0]], dtype=torch.float64)
    two = torch.stack([scores[:2, 0], scores[2:, 0]], dim=1)
    expected = F.cross_entropy(two, torch.zeros(2, dtype=torch.long))
    model: Any = Table()
    found = pairwise_loss(model, scores, torch.ones(4, 1))
    torch.testing.assert_close(found, expected)
    shifted = scores + torch.tensor([7.0, -9.0]).repeat(2)[:, None]
    torch.testing.assert_close(pairwise_loss(model, shifted, torch.ones(4, 1)), found)


def test_the_derivative_is_the_probability_of_the_other_choice() -> None:
    scores = torch.tensor([[1.5], [0.2]], dtype=torch.float64, requires_grad=True)
    model: Any = Table()
    pairwise_loss(model, scores, torch.ones(2, 1)).backward()
    assert scores.grad is not None
    assert scores.grad[0].item() == pytest.approx(-sigmoid(-1.3))
    assert scores.grad[1].item() == pytest.approx(sigmoid(-1.3))


def test_a_margin_is_taken_from_the_difference() -> None:
    model: Any = Table()
    scores, mask = torch.tensor([[3.0], [2.0], [1.0], [1.0]]), torch.ones(4, 1)
    found = pairwise_loss(model, scores, mask, torch.tensor([0.5, 2.0]))
    expected = -(math.log(sigmoid(1.5)) + math.log(sigmoid(-1.0))) / 2
    assert found.item() == pytest.approx(expected)
    one = pairwise_loss(model, scores, mask, 1.0)
    expected = -(math.log(sigmoid(1.0)) + math.log(sigmoid(0.0))) / 2
    assert one.item() == pytest.approx(expected)


def test_scores_alone_in_batches_and_of_conversations(
    made: tuple[GPT, Tokenizer], scorer: Classifier
) -> None:
    _, tokenizer = made
    replies = [GOOD, f"{GOOD} {RAMBLINGS[0]}", "Yes."]
    together = score_replies(scorer, tokenizer, [TASK] * 3, replies)
    for reply, score in zip(replies, together, strict=True):
        alone = score_replies(scorer, tokenizer, [TASK], [reply])
        torch.testing.assert_close(alone[0], score, rtol=1e-4, atol=1e-5)
    chat = [(Message("user", TASK.prompt),)] * 3
    assert torch.equal(score_replies(scorer, tokenizer, chat, replies), together)
    gaps = score_differences(scorer, tokenizer, [Preference(TASK, GOOD, "Yes.")])
    torch.testing.assert_close(gaps[0], together[0] - together[2], rtol=1e-4, atol=1e-5)


def test_what_can_be_learned_is_learned(made: tuple[GPT, Tokenizer]) -> None:
    model, tokenizer = made
    names = ("Ann", "Ben", "Eve", "Max", "Ida", "Tom", "Zoe", "Pia")
    pairs = [
        Preference(replace(TASK, prompt=f"Where is {name}?"), "Park!", "Mill.")
        for name in names
    ]
    fit = new_reward_model(model)
    config = replace(REWARD_CONFIG, steps=80, log_every=1)
    log = fit_reward_model(fit, tokenizer, pairs[:6], config, batch_size=3)
    assert log[0]["loss"] == pytest.approx(math.log(2))
    assert (score_differences(fit, tokenizer, pairs[6:]) > 1).all()
    chats = [
        ChatPreference((Message("user", p.task.prompt),), p.chosen, p.rejected)
        for p in pairs
    ]
    again = new_reward_model(model)
    fit_reward_model(again, tokenizer, chats[:6], config, batch_size=3)
    assert torch.equal(again.readout.weight, fit.readout.weight)


def test_grades_reach_the_loss(made: tuple[GPT, Tokenizer]) -> None:
    model, tokenizer = made
    pairs = [Preference(TASK, GOOD, BAD, grade=2)] * 2
    config = replace(REWARD_CONFIG, steps=1, log_every=1)
    fit = new_reward_model(model)
    [first] = fit_reward_model(fit, tokenizer, pairs, config, batch_size=2, margin=0.5)
    assert first["loss"] == pytest.approx(-math.log(sigmoid(-1.0)))


def test_saved_and_loaded_models_agree(
    tmp_path: Path, made: tuple[GPT, Tokenizer], scorer: Classifier
) -> None:
    save_reward_model(scorer, made[1], tmp_path / "new folder")
    again, tokenizer = load_reward_model(tmp_path / "new folder")
    expected = score_replies(scorer, made[1], [TASK], [GOOD])
    assert torch.equal(score_replies(again, tokenizer, [TASK], [GOOD]), expected)


def test_the_sigmoid_of_any_number() -> None:
    for z in (-900.0, -3.0, 0.0, 3.0, 900.0):
        expected = torch.tensor(z, dtype=torch.float64).sigmoid().item()
        assert sigmoid(z) == pytest.approx(expected)


def test_platt_finds_what_was_done_to_honest_logits() -> None:
    generator = torch.Generator().manual_seed(0)
    honest = 2 * torch.randn(40_000, generator=generator)
    labels = (torch.rand(40_000, generator=generator) < honest.sigmoid()).tolist()
    a, b = fit_platt((3 * honest - 1.5).tolist(), labels)
    assert a == pytest.approx(1 / 3, abs=0.02)
    assert b == pytest.approx(0.5, abs=0.05)
    with pytest.raises(ValueError, match="right and wrong"):
        fit_platt([1.0, 2.0], [True, True])


def test_platt_against_scikit_learn() -> None:
    dice = random.Random(0)
    z = [dice.gauss(0, 2) for _ in range(500)]
    y = [dice.random() < sigmoid(0.5 * one + 0.3) for one in z]
    oracle = LogisticRegression(C=1e9, tol=1e-8).fit([[one] for one in z], y)
    a, b = fit_platt(z, y)
    assert a == pytest.approx(oracle.coef_[0, 0], abs=1e-3)
    assert b == pytest.approx(oracle.intercept_[0], abs=1e-3)


def test_bins_by_hand() -> None:
    bins = reliability([0.05, 0.55, 0.51, 1.0], [False, True, False, True])
    assert [b.count for b in bins] == [1, 2, 1]
    assert bins[1].score == pytest.approx(0.53) and bins[1].right == 0.5
    assert calibration_error([Bin(0.9, 0.5, 3), Bin(0.1, 0.1, 1)]) == (
        pytest.approx(0.3)
    )
    with pytest.raises(ValueError, match="outside"):
        reliability([1.5], [True])


def test_honest_coins_are_calibrated() -> None:
    dice = random.Random(0)
    scores = [dice.random() for _ in range(20_000)]
    labels = [dice.random() < score for score in scores]
    assert calibration_error(reliability(scores, labels)) < 0.02


def test_the_slope_within_prompts_against_a_regression_with_levels() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, 20, (5, 4), generator=generator)
    scores = torch.randn(5, 4, generator=generator) - 0.3 * lengths
    scores += 10 * torch.arange(5)[:, None]
    levels = torch.eye(5).repeat_interleave(4, dim=0)
    x = torch.cat([lengths.view(-1, 1), levels], dim=1).numpy()
    oracle = LinearRegression(fit_intercept=False).fit(x, scores.flatten().numpy())
    found = length_slope(scores, lengths)
    assert found == pytest.approx(float(oracle.coef_[0]), abs=1e-4)
    assert center(scores).mean(dim=1).abs().max() < 1e-5
    with pytest.raises(ValueError, match="equally long"):
        length_slope(scores, torch.ones(5, 4))


def test_balanced_pairs_say_nothing_about_length() -> None:
    def pair(chosen: int, rejected: int) -> Preference:
        return Preference(TASK, "a " * chosen, "b " * rejected)

    pairs = [pair(5, 3)] * 10 + [pair(3, 5)] * 4 + [pair(20, 3)] * 7 + [pair(4, 4)] * 2
    kept = balance_lengths(pairs)
    found = Counter((count_words(p.chosen), count_words(p.rejected)) for p in kept)
    assert found == {(5, 3): 4, (3, 5): 4, (4, 4): 2}  # 17 words has no rival
    assert kept == balance_lengths(pairs) != balance_lengths(pairs, seed=1)
    assert balance_lengths([]) == []


def test_best_of_n_against_all_subsets() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 6, generator=generator)
    values = torch.randn(3, 6, generator=generator)
    for n, found in zip(
        range(1, 7), best_of_n(scores, values, range(1, 7)), strict=True
    ):
        each = [
            values[p, max(subset, key=lambda i: scores[p, i].item())].item()
            for p in range(3)
            for subset in itertools.combinations(range(6), n)
        ]
        assert found == pytest.approx(sum(each) / len(each), abs=1e-6)
    with pytest.raises(ValueError, match="the 6 samples"):
        best_of_n(scores, values, [7])


def test_the_divergence_of_the_best_against_an_integral() -> None:
    for n in (1, 2, 8, 64):
        u = (torch.arange(400_000, dtype=torch.float64) + 0.5) / 400_000
        density = n * u ** (n - 1)
        integral = (density * density.log()).nan_to_num().mean().item()
        assert best_of_kl(n) == pytest.approx(integral, abs=1e-3)
    with pytest.raises(ValueError, match="at least one"):
        best_of_kl(0)


def write(path: Path, *records: Any) -> Path:
    lines = [r if isinstance(r, str) else json.dumps(r) for r in records]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


USER = {"role": "user", "content": "Hi"}


def says(text: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Hi", "chosen": "Hello\u2028!", "rejected": "What?"},
        {"prompt": [USER], "chosen": "Hello\u2028!", "rejected": "What?"},
        {
            "prompt": [USER],
            "chosen": [says("Hello\u2028!")],
            "rejected": [says("What?")],
        },
        {
            "prompt": "Hi",
            "chosen": [USER, says("Hello\u2028!")],
            "rejected": [USER, says("What?")],
            "score_chosen": 8.0,
        },
        {
            "chosen": "\n\nHuman: Hi\n\nAssistant: Hello\u2028!",
            "rejected": "\n\nHuman: Hi\n\nAssistant: What?",
        },
    ],
)
def test_every_usual_form_is_read(tmp_path: Path, record: Any) -> None:
    expected = ChatPreference((Message("user", "Hi"),), "Hello\u2028!", "What?")
    raw = json.dumps(record, ensure_ascii=False)
    path = write(tmp_path / "pairs.jsonl", raw, "", record)
    assert load_preferences(path) == [expected, expected]


def test_longer_conversations_and_ties(tmp_path: Path) -> None:
    talk = "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: A colour:\n\nAssistant:"
    path = write(
        tmp_path / "pairs.jsonl",
        {"chosen": f"{talk} Red.", "rejected": f"{talk} No."},
        {"chosen": f"{talk} Red.", "rejected": f"{talk} Red."},
    )
    [pair] = load_preferences(path)
    assert [(m.role, m.content) for m in pair.prompt] == [
        ("user", "Hi"), ("assistant", "Yes?"), ("user", "A colour:"),
    ]  # fmt: skip
    assert (pair.chosen, pair.rejected) == ("Red.", "No.")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{", "not JSON .*; write one object a line"),
        ([1], "not an object; write one"),
        ({"prompt": "a", "chosen": "b"}, 'no "rejected"; each pair needs both'),
        ({"chosen": "a", "rejected": "b"}, 'does not begin with .*; give a "prompt"'),
        (
            {"chosen": [USER], "rejected": [USER, says("a")]},
            "does not end with the assistant; cut it there",
        ),
        (
            {"chosen": [USER, says("a")], "rejected": [says("x"), says("b")]},
            "differ before the last reply; cut them",
        ),
        ({"chosen": [says("a")], "rejected": [says("b")]}, "a reply to nothing; give"),
        ({"prompt": [3], "chosen": "a", "rejected": "b"}, "must be a list of"),
        (
            {"prompt": [USER], "chosen": [says(["a"])], "rejected": [says("b")]},
            "must be a string",
        ),
    ],
)
def test_a_bad_line_is_named_with_the_remedy(
    tmp_path: Path, record: Any, message: str
) -> None:
    good = {"prompt": "Hi", "chosen": "Hello!", "rejected": "What?"}
    path = write(tmp_path / "some pairs.jsonl", good, record)
    with pytest.raises(ValueError, match=rf"some pairs\.jsonl:2: .*{message}"):
        load_preferences(path)
