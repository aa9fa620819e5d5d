"""Votes, and estimates that waste no sample, against counting every subset."""

import math
from itertools import combinations, permutations, product

import numpy as np
import pytest

from extracted.foundations.generation import Completion
from extracted.reasoning.chain_of_thought import Attempt
from extracted.reasoning.problems import Problem, Step, Verdict
from extracted.reasoning.self_consistency import (
    Ballots,
    agreement,
    break_even,
    collect,
    confidence,
    majority_vote,
    pass_at_k,
    risk_coverage,
    rival_shares,
    running_winners,
    samples_needed,
    vote_curve,
)


def written(*logprobs: float) -> Completion:
    return Completion([1] * len(logprobs), list(logprobs), [], "stop")


def ballots(answers: list[list[str]], truth: list[str]) -> Ballots:
    return Ballots(answers, truth, [[written(-0.1) for _ in row] for row in answers])


@pytest.mark.parametrize(
    ("answers", "weights", "winner"),
    [
        (["9", "18", "18"], None, "18"),
        (["9", "18", "18", "9"], None, "18"),  # both have two; 18 had them first
        (["9", "18"], None, "9"),
        (["", "", "", "7"], None, "7"),
        (["", ""], None, ""),
        ([], None, ""),
        (["9", "18", "18"], [0.9, 0.3, 0.3], "9"),
        (["9", "18"], [0.0, 0.0], ""),  # weight 0 is no vote
        (["9", "18", "9"], [1.0, 2.0, 1.0], "18"),  # a tie: 18 reached 2 first
    ],
)
def test_votes_by_hand(
    answers: list[str], weights: list[float] | None, winner: str
) -> None:
    assert majority_vote(answers, weights) == winner


def test_votes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        majority_vote(["1"], [-0.5])
    with pytest.raises(ValueError, match="zip"):
        majority_vote(["1", "2"], [1.0])


def test_pass_at_k_is_the_mean_over_all_subsets() -> None:
    for n in range(1, 8):
        for c, k in product(range(n + 1), range(1, n + 1)):
            flags = [i < c for i in range(n)]
            subsets = list(combinations(flags, k))
            expected = sum(map(any, subsets)) / len(subsets)
            assert math.isclose(pass_at_k(n, c, k), expected, abs_tol=1e-12)


def test_pass_at_k_is_exact_where_binomials_overflow() -> None:
    n, c, k = 10_000, 37, 512
    exact = 1 - math.comb(n - c, k) / math.comb(n, k)  # big integers, then one division
    assert math.isclose(pass_at_k(n, c, k), exact, rel_tol=1e-10)
    assert pass_at_k(n, 0, n) == 0 and pass_at_k(n, 1, n) == 1


@pytest.mark.parametrize("case", [(4, 5, 1), (4, -1, 1), (4, 2, 0), (4, 2, 5)])
def test_pass_at_k_refuses(case: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="samples"):
        pass_at_k(*case)


def test_pass_at_k_is_unbiased_and_the_plug_in_is_not() -> None:
    n, k, p = 8, 4, 0.2
    chances = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    mean = sum(q * pass_at_k(n, c, k) for c, q in enumerate(chances))
    plug_in = sum(q * (1 - (1 - c / n) ** k) for c, q in enumerate(chances))
    assert math.isclose(mean, 1 - (1 - p) ** k)
    assert plug_in < mean - 0.01


def test_running_winners_are_those_of_majority_vote() -> None:
    """Also with ties, empty answers and weights (powers of two add exactly)."""
    rng = np.random.default_rng(0)
    names = np.array(["", "1", "2", "3"])
    codes = rng.integers(0, 4, size=(200, 9))
    weights = 2.0 ** rng.integers(-1, 2, size=(200, 9))
    weights[:100] = 1.0
    found = running_winners(codes, weights * (codes > 0))
    for row, weight, places in zip(names[codes], weights, found, strict=True):
        for k in range(1, 10):
            place = places[k - 1]
            winner = row[place] if place >= 0 else ""
            assert winner == majority_vote(row[:k].tolist(), weight[:k].tolist())


def test_the_curve_is_the_mean_over_all_orders() -> None:
    row = ["1", "2", "1", "", "3"]
    curve = vote_curve([row], ["1"], orders=20_000)[0]
    orders = list(permutations(row))
    for k in range(1, 6):
        exact = sum(majority_vote(o[:k]) == "1" for o in orders) / len(orders)
        assert abs(curve[k - 1] - exact) < 0.015, k


def test_a_vote_of_two_is_worth_one_sample() -> None:
    curve = vote_curve([["1", "2", "1", "3"]], ["1"])[0]
    assert curve[1] == curve[0]


def test_a_sharp_weight_decides_alone() -> None:
    curve = vote_curve([["1", "2", "2"]], ["1"], [[1.0, 0.01, 0.01]])[0]
    assert curve[-1] == 1.0


def test_curves_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="same number"):
        vote_curve([["1"], ["1", "2"]], ["1", "1"])


def test_confidence_is_a_geometric_mean() -> None:
    made = written(math.log(0.5), math.log(0.125))
    assert math.isclose(confidence(made), 0.25)
    assert math.isclose(confidence(made, 2), 0.0625)  # the text's probability
    assert confidence(made, 0) == 1
    with pytest.raises(ValueError, match="without tokens"):
        confidence(written())


def test_ballots_of_attempts() -> None:
    problem = Problem("", (Step("+", (1, 2), 3),))
    attempts = [
        Attempt(written(-0.5), " 1+2=3.#### 3", Verdict((True,), True)),
        Attempt(written(-2.0), " 1+2=4.#### 4", Verdict((False,), False)),
        Attempt(written(-2.0), " 1+2=3.", Verdict((True,), False)),
    ]
    votes = collect([problem], [attempts])
    assert votes.answers == [["3", "4", ""]] and votes.truth == ["3"]
    assert votes.right.tolist() == [[True, False, False]]
    assert np.allclose(votes.weights(1), np.exp([[-0.5, -2, -2]]))
    assert np.allclose(votes.pass_curve(), [[1 / 3, 2 / 3, 1]])
    assert votes.curve(10)[0, -1] == 1


def test_rivals() -> None:
    votes = ballots([["1", "2", "2", "3"], ["1", "1", "", ""]], ["1", "1"])
    p, q = rival_shares(votes)
    assert p.tolist() == [0.25, 0.5] and q.tolist() == [0.5, 0.0]


def test_the_bound_holds_and_is_refused_where_it_says_nothing() -> None:
    p, q = 0.6, 0.4
    k = samples_needed(p, q)
    lost = sum(math.comb(k, c) * p**c * q ** (k - c) for c in range(k // 2 + 1))
    assert lost <= 0.05
    assert samples_needed(1.0, 0.0) == math.ceil(2 * math.log(20))
    with pytest.raises(ValueError, match="p > q"):
        samples_needed(0.4, 0.4)


def test_agreement_counts_empty_answers_as_dissent() -> None:
    assert agreement(["1", "1", "", "2"]) == 0.5
    assert agreement(["", ""]) == 0
    with pytest.raises(ValueError, match="nobody"):
        agreement([])


def test_equal_confidences_are_answered_together() -> None:
    coverage, accuracy = risk_coverage([0.9, 0.5, 0.5, 0.1], [True, False, True, False])
    assert np.allclose(coverage, [0.25, 0.75, 1])
    assert np.allclose(accuracy, [1, 2 / 3, 1 / 2])
    with pytest.raises(ValueError, match="give one"):
        risk_coverage([0.5], [])
    with pytest.raises(ValueError, match="at least one"):
        risk_coverage([], [])


def test_break_even() -> None:
    assert break_even(1000, 20, 11) == 15
    with pytest.raises(ValueError, match="two samples"):
        break_even(1000, 20, 1)
