"""Intervals, tests, exams, judges, ratings, leaks, against brute force and oracles."""

import itertools
import math
import random

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from extracted.alignment.evaluation import (
    Choice,
    Contest,
    Match,
    NgramIndex,
    bootstrap_interval,
    bradley_terry_intervals,
    choice_logprobs,
    contaminated,
    count_wins,
    elo,
    encode_contest,
    fit_bradley_terry,
    fit_judge,
    grade,
    judge_both_orders,
    judge_contests,
    make_choices,
    make_contests,
    make_exam,
    maximize_likelihood,
    paired_p_value,
    questions_needed,
    wilson_interval,
)
from extracted.alignment.instruction_tuning import (
    CHAT_TOKENS,
    Message,
    ask,
    encode_chat,
    is_right,
)
from extracted.foundations.gpt import GPTConfig, RotaryGPT
from extracted.foundations.language_modeling import END_OF_TEXT
from extracted.foundations.pretraining import TrainConfig
from extracted.foundations.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Bytes and the marks."""
    marks = (END_OF_TEXT, *CHAT_TOKENS)
    return Tokenizer([], special_tokens={m: 256 + i for i, m in enumerate(marks)})


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> RotaryGPT:
    torch.manual_seed(0)
    shape = GPTConfig(tokenizer.vocab_size, 256, 1, 2, 16, bias=False)
    return RotaryGPT(shape).eval()


# The four statistics.


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


def test_the_paired_p_value_takes_numpys_booleans() -> None:
    first, second = np.arange(200) < 130, np.arange(200) % 2 == 0
    expected = paired_p_value(first.tolist(), second.tolist())
    assert paired_p_value(first, second) == expected > 0


def test_the_bootstrap_agrees_with_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(size=(400, 2))
    low, high = bootstrap_interval(values, resamples=4000)
    half = 1.96 * values.std(axis=0) / 20
    assert np.allclose(low, values.mean(axis=0) - half, atol=0.01)
    assert np.allclose(high, values.mean(axis=0) + half, atol=0.01)
    low, high = bootstrap_interval([1.0, 1.0, 1.0])
    assert np.isclose(low, 1) and np.isclose(high, 1)
    with pytest.raises(ValueError, match="two or more"):
        bootstrap_interval([1.0])


# How many questions.


def test_questions_by_a_published_table() -> None:
    # Fleiss, table A.3 without continuity correction: 0.5 against 0.6, 80 %.
    assert abs(questions_needed(0.5, 0.6) - 388) <= 1


def test_the_number_of_pairs_by_hand() -> None:
    alpha, beta = norm.ppf(0.975), norm.ppf(0.8)
    root = alpha * math.sqrt(0.1) + beta * math.sqrt(0.1 - 0.03**2)
    expected = math.ceil((root / 0.03) ** 2)
    assert questions_needed(0.7, 0.73, disagree=0.1) == expected
    assert questions_needed(0.73, 0.7, disagree=0.1) == expected


@pytest.mark.parametrize("disagree", [None, 0.12])
def test_so_many_questions_find_four_in_five(disagree: float | None) -> None:
    p, q = 0.75, 0.80
    n = questions_needed(p, q, disagree=disagree)
    rng = np.random.default_rng(0)
    if disagree is None:
        x, y = rng.binomial(n, p, 20_000) / n, rng.binomial(n, q, 20_000) / n
        mean = (x + y) / 2
        z = (y - x) / np.sqrt(2 * mean * (1 - mean) / n)
    else:
        shares = [(disagree - 0.05) / 2, (disagree + 0.05) / 2, 1 - disagree]
        losses, wins, _ = rng.multinomial(n, shares, 20_000).T
        z = (wins - losses) / np.sqrt(wins + losses)
    assert abs(np.mean(np.abs(z) > 1.96) - 0.8) < 0.015


@pytest.mark.parametrize(
    ("rates", "disagree", "message"),
    [
        ((0.5, 0.5), None, "different"),
        ((0.5, 1.2), None, "different"),
        ((0.5, 0.6), 0.05, "cannot disagree"),
        ((0.9, 0.95), 0.3, "cannot disagree"),
    ],
)
def test_impossible_differences_are_refused(
    rates: tuple[float, float], disagree: float | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        questions_needed(*rates, disagree=disagree)


# Exams and choices.


def test_an_exam_asks_nothing_twice(tokenizer: Tokenizer, model: RotaryGPT) -> None:
    exam = make_exam(500, seed=3)
    assert len({task.prompt for task in exam}) == len(exam) < 500
    few = exam[:8]
    replies = ask(model, tokenizer, [task.prompt for task in few])
    expected = [is_right(t, r.text) for t, (r,) in zip(few, replies, strict=True)]
    assert grade(model, tokenizer, few) == expected


def test_choices_hold_the_answer_once() -> None:
    choices = make_choices(make_exam(600))
    assert {len(c.options) for c in choices} == {2, 4}
    for choice in choices:
        assert choice.options[choice.answer] == choice.task.answers[0]
        assert choice.replies[choice.answer] == choice.task.sentence
        assert len({*choice.options}) == len({*choice.replies}) == len(choice.options)
        right = [is_right(choice.task, reply) for reply in choice.replies]
        assert right.index(True) == choice.answer and sum(right) == 1
    places = {choice.answer for choice in choices}
    assert places == {0, 1, 2, 3}
    one = Choice(choices[0].task, ("tent", "barn"), ("", ""), 0)
    assert one.lettered == f"{one.task.prompt} A: tent. B: barn."


def test_logprobs_are_sums_over_the_reply_and_its_end(
    tokenizer: Tokenizer, model: RotaryGPT
) -> None:
    prompts = ["Where is Tom?", "Say this: a long prompt, longer than the other."]
    options = [["In the barn.", "No."], ["One.", "Two of them.", "Three"]]
    found = choice_logprobs(model, tokenizer, prompts, options)
    assert [len(row) for row in found] == [2, 3]
    for prompt, some, row in zip(prompts, options, found, strict=True):
        start = encode_chat(tokenizer, [Message("user", prompt)], reply=True)
        for option, score in zip(some, row, strict=True):
            end = tokenizer.special_tokens[CHAT_TOKENS[-1]]
            ids = start + tokenizer.encode(f" {option}") + [end]
            with torch.no_grad():
                table = model(torch.tensor([ids])).log_softmax(dim=-1)[0]
            steps = range(len(start), len(ids))
            total = sum(float(table[i - 1, ids[i]]) for i in steps)
            assert score == pytest.approx(total, abs=1e-3)


# The judge.


def test_contests_have_the_right_reply_first(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, model: RotaryGPT
) -> None:
    tasks = make_exam(12)

    class Said:
        def __init__(self, text: str) -> None:
            self.text = text

    def answers(*_: object, **__: object) -> list[list[Said]]:
        texts = [["no", t.sentence] if i % 2 else [t.sentence] * 2 for i, t in kept]
        return [[Said(text) for text in pair] for pair in texts]

    kept = list(enumerate(tasks))
    monkeypatch.setattr("extracted.alignment.evaluation.ask", answers)
    contests = make_contests(model, tokenizer, tasks)
    odd = tasks[1::2]
    assert contests == [Contest(t.prompt, t.sentence, "no") for t in odd]


def test_both_orders_cancel_a_preference_for_a_place(
    tokenizer: Tokenizer, model: RotaryGPT
) -> None:
    contests = [Contest("Which?", f"{'ab'[i % 2]}{i}", f"c{i}") for i in range(20)]
    config = TrainConfig(steps=6, log_every=0, evaluate_every=0)
    judge = fit_judge(model, tokenizer, contests, config)
    before = judge_both_orders(judge, tokenizer, contests)
    single = judge_contests(judge, tokenizer, contests)
    with torch.no_grad():
        judge.readout.bias += torch.tensor([5.0, 0.0])
    assert torch.allclose(
        judge_both_orders(judge, tokenizer, contests), before, atol=1e-4
    )
    assert torch.allclose(
        judge_contests(judge, tokenizer, contests), single + 5, atol=1e-4
    )
    swapped = [contest.swapped() for contest in contests]
    assert torch.allclose(
        judge_both_orders(judge, tokenizer, swapped), -before, atol=1e-4
    )
    ids = encode_contest(tokenizer, contests[0])
    assert "First: a0 Second: c0" in tokenizer.decode(ids)


def test_a_judge_learns_who_is_better_and_leaves_the_model_alone(
    tokenizer: Tokenizer, model: RotaryGPT
) -> None:
    contests = [Contest("Which?", f"yes {i}", f"no {i}") for i in range(24)]
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    config = TrainConfig(steps=60, log_every=0, evaluate_every=0)
    judge = fit_judge(model, tokenizer, contests, config)
    assert (judge_both_orders(judge, tokenizer, contests) > 0).all()
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name])


# Ratings.


def some_matches(count: int = 400, seed: int = 0) -> list[Match]:
    dice, strength = random.Random(seed), {"a": 0.0, "b": 0.7, "c": 1.1, "d": 1.2}
    matches = []
    for _ in range(count):
        x, y = dice.sample(sorted(strength), 2)
        p = 1 / (1 + math.exp(strength[y] - strength[x]))
        matches.append(Match(x, y, float(dice.random() < p)))
    return matches


def test_elo_by_hand() -> None:
    once = elo([Match("a", "b", 1.0)])
    assert once == {"a": 1016.0, "b": 984.0}
    twice = elo([Match("a", "b", 1.0), Match("b", "a", 1.0)])
    expected = 1 / (1 + 10 ** (32 / 400))  # the chance of b
    assert twice["b"] == pytest.approx(984 + 32 * (1 - expected))
    assert sum(elo(some_matches()).values()) == pytest.approx(4000)


def test_bradley_and_terry_of_two_players_is_the_log_odds() -> None:
    matches = (
        [Match("a", "b", 1.0)] * 6 + [Match("b", "a", 1.0)] + [Match("a", "b", 0.5)] * 2
    )  # 7 points against 2
    ratings = fit_bradley_terry(matches)
    gap = ratings["a"] - ratings["b"]
    assert gap == pytest.approx(400 * math.log10(7 / 2))
    assert sum(ratings.values()) == pytest.approx(2000)


def test_bradley_and_terry_is_logistic_regression() -> None:
    matches = some_matches()
    names = ["a", "b", "c", "d"]
    rows = [[(n == m.first) - (n == m.second) for n in names] for m in matches]
    oracle = LogisticRegression(C=1e8, fit_intercept=False, tol=1e-10, max_iter=1000)
    oracle.fit(rows, [m.score for m in matches])
    weights = oracle.coef_[0] - oracle.coef_[0].mean()
    ratings = fit_bradley_terry(matches, mean=0.0)
    expected = weights * 400 / math.log(10)
    assert [ratings[n] for n in names] == pytest.approx(expected.tolist(), abs=0.05)
    shuffled = random.Random(1).sample(matches, len(matches))
    again = fit_bradley_terry(shuffled, mean=0.0)
    assert again == pytest.approx(ratings), "the order must not matter"


def test_at_the_maximum_points_are_as_expected() -> None:
    wins = count_wins(some_matches(), ["a", "b", "c", "d"])
    ratings = maximize_likelihood(np.stack([wins, wins + 1]))
    for table, rating in zip((wins, wins + 1), ratings, strict=True):
        chance = 1 / (1 + 10 ** ((rating[None, :] - rating[:, None]) / 400))
        played = table + table.T
        np.fill_diagonal(played, 0)
        points = table.sum(axis=1) - np.diag(table)
        assert np.allclose((played * chance).sum(axis=1), points, atol=1e-4)


def test_who_never_lost_has_no_rating_without_a_prior() -> None:
    matches = [Match("a", "b", 1.0), Match("b", "c", 1.0), Match("c", "b", 1.0)]
    with pytest.raises(ValueError, match="never lost"):
        fit_bradley_terry(matches)
    ratings = fit_bradley_terry(matches, prior=0.5)
    assert ratings["a"] > ratings["b"]
    with pytest.raises(ValueError, match="two different players"):
        Match("a", "a", 1.0)
    with pytest.raises(ValueError, match="from 0 to 1"):
        Match("a", "b", 2.0)


def test_intervals_of_ratings_shrink_with_the_root_of_the_rounds() -> None:
    widths = []
    for count in (400, 1600):
        matches = some_matches(count)
        rounds = [matches[i : i + 4] for i in range(0, count, 4)]
        ends = bradley_terry_intervals(rounds)
        ratings = fit_bradley_terry(matches)
        assert all(low < ratings[n] < high for n, (low, high) in ends.items())
        widths.append(sum(high - low for low, high in ends.values()))
    assert 1.6 < widths[0] / widths[1] < 2.5
    with pytest.raises(ValueError, match="two or more"):
        bradley_terry_intervals([some_matches()])


# Leaks.


def test_coverage_by_hand() -> None:
    index = NgramIndex(["The red kite, the RED kite flew."], 3)
    assert index.coverage("A red kite the red") == pytest.approx(4 / 5)
    assert index.coverage("the red kite") == 1.0
    assert index.coverage("red kite") == 0.0, "too short to be checked"
    assert index.coverage("") == 0.0
    assert max(index.counts.values()) == 1, "a text counts once"
    index = NgramIndex(["a b c d", "x a b c", "b c d"], 3)
    assert index.coverage("a b c d") == 1.0
    assert index.coverage("a b c d", common=1) == 0.0
    assert contaminated(index, ["a b c q", "q r s"], threshold=0.75) == [True, False]


def test_impossible_indexes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one word"):
        NgramIndex([], 0)
    with pytest.raises(ValueError, match="share of words"):
        contaminated(NgramIndex([], 1), ["a"], threshold=0.0)


def test_what_was_planted_is_found_and_nothing_else() -> None:
    exam = make_exam(300)
    texts = [f"{task.prompt} {task.sentence}" for task in exam]
    longer = [text for text in texts if len(text.split()) >= 12]
    index = NgramIndex(longer[::2], 10)
    flags = contaminated(index, longer, threshold=1.0)
    assert all(flags[::2]) and not any(flags[1::2])
