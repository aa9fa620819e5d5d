# Generated from book/reasoning/self_consistency.md; do not edit (eae6b6b7cbd6)
"""Many attempts and a vote; when the majority is wrong, what agreement knows, and what
a vote costs beside a longer training.
"""

# %% book/reasoning/self_consistency.md#imports
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extracted.foundations.generation import Completion
from extracted.reasoning.chain_of_thought import Attempt
from extracted.reasoning.problems import Problem


# %% book/reasoning/self_consistency.md#majority_vote
def majority_vote(
    answers: Sequence[str], weights: Sequence[float] | None = None
) -> str:
    """The answer of the greatest total weight, or "" if nobody votes.

    Of equal totals the one that was reached first wins. Empty answers do not
    vote. Weights are 1 if not given, and never negative.
    Wang et al. (2023).
    """
    if weights is None:
        weights = [1.0] * len(answers)
    if any(weight < 0 for weight in weights):
        raise ValueError("a negative weight; pass exp of a log-probability")
    totals: dict[str, float] = {}
    winner, most = "", 0.0
    for answer, weight in zip(answers, weights, strict=True):
        if answer:
            totals[answer] = totals.get(answer, 0.0) + weight
            if totals[answer] > most:
                winner, most = answer, totals[answer]
    return winner


# %% book/reasoning/self_consistency.md#pass_at_k
def pass_at_k(num_samples: int, num_right: int, k: int) -> float:
    """Probability that k of the samples, drawn at random, have a right one.

    An unbiased estimate of that for k fresh samples. Chen et al. (2021).
    """
    n, c = num_samples, num_right
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(
            f"{c} right of {n}, k = {k}: need 0 <= right <= samples and "
            "1 <= k <= samples; draw more samples for a larger k"
        )
    if n - c < k:
        return 1.0
    i = np.arange(n - c + 1, n + 1)
    return float(1.0 - np.prod(1.0 - k / i))


# %% book/reasoning/self_consistency.md#running_winners
def running_winners(
    codes: NDArray[np.intp], weights: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Place of a voter for the winner after each vote, or -1; all (R, n).

    Each row is an order of votes: `codes` numbers the answers.
    """
    same = codes[:, :, None] == codes[:, None, :]  # (R, n, n)
    totals = np.cumsum(same * weights[:, None, :], axis=2)
    own = np.diagonal(totals, axis1=1, axis2=2)  # own total after each vote
    most = np.maximum.accumulate(own, axis=1)
    before = np.pad(most[:, :-1], ((0, 0), (1, 0)))
    turns = np.where(own > before, np.arange(codes.shape[1]), -1)
    return np.maximum.accumulate(turns, axis=1)


def vote_curve(
    answers: Sequence[Sequence[str]],
    truth: Sequence[str],
    weights: Sequence[Sequence[float]] | None = None,
    *,
    orders: int = 100,
    seed: int = 0,
) -> NDArray[np.float64]:
    """For P problems with n answers each: P(a vote of k is right), (P, n).

    Column k - 1 is the mean over `orders` random subsets of size k.
    """
    if len({len(row) for row in answers}) != 1:
        raise ValueError("every problem needs the same number of answers")
    rng = np.random.default_rng(seed)
    n = len(answers[0])
    curve = np.empty((len(answers), n))
    for i, (row, right) in enumerate(zip(answers, truth, strict=True)):
        codes = np.unique(row, return_inverse=True)[1]
        counted = np.array([bool(answer) for answer in row], dtype=float)
        if weights is not None:
            counted *= np.asarray(weights[i])
        order = rng.permuted(np.tile(np.arange(n), (orders, 1)), axis=1)
        place = running_winners(codes[order], counted[order])
        hit = np.array([answer == right for answer in row])[order]
        led = np.take_along_axis(hit, np.maximum(place, 0), axis=1)
        curve[i] = (led & (place >= 0)).mean(axis=0)
    return curve


# %% book/reasoning/self_consistency.md#confidence
def confidence(completion: Completion, sharpness: float = 1.0) -> float:
    """Geometric mean of the token probabilities, to the power `sharpness`.

    Of the model as it is, whatever the temperature of sampling.
    """
    if not completion.logprobs:
        raise ValueError("a completion without tokens has no confidence")
    mean = sum(completion.logprobs) / len(completion.logprobs)
    return math.exp(sharpness * mean)


# %% book/reasoning/self_consistency.md#Ballots
@dataclass(frozen=True)
class Ballots:
    """The attempts at P problems, n each, as what a vote needs of them."""

    answers: list[list[str]]  # (P, n)
    truth: list[str]  # (P,)
    completions: list[list[Completion]]  # (P, n)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which answers are right, (P, n)."""
        right: NDArray[np.bool_] = np.array([
            [answer == true for answer in row]
            for row, true in zip(self.answers, self.truth, strict=True)
        ])
        return right

    def weights(self, sharpness: float) -> list[list[float]]:
        """The confidence of each attempt, (P, n)."""
        return [
            [confidence(c, sharpness) for c in row] for row in self.completions
        ]

    def curve(self, sharpness: float = 0.0) -> NDArray[np.float64]:
        """P(a vote of k is right) for each problem and k, (P, n)."""
        return vote_curve(self.answers, self.truth, self.weights(sharpness))

    def pass_curve(self) -> NDArray[np.float64]:
        """P(one of k is right) for each problem and k, (P, n)."""
        n = self.right.shape[1]
        table = np.array([
            [pass_at_k(n, c, k) for k in range(1, n + 1)] for c in range(n + 1)
        ])
        curve: NDArray[np.float64] = table[self.right.sum(axis=1)]
        return curve


def collect(
    problems: Sequence[Problem], attempts: Sequence[Sequence[Attempt]]
) -> Ballots:
    """The ballots of what `solve` returned for these problems."""
    return Ballots(
        [[attempt.answer for attempt in row] for row in attempts],
        [str(problem.answer) for problem in problems],
        [[attempt.completion for attempt in row] for row in attempts],
    )


# %% book/reasoning/self_consistency.md#rival_shares
def rival_shares(
    ballots: Ballots,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share p of right answers and q of the strongest wrong one, (P,) each."""
    p = ballots.right.mean(axis=1)
    q = np.zeros(len(p))
    for i, (row, right) in enumerate(
        zip(ballots.answers, ballots.truth, strict=True)
    ):
        wrong = [a for a in row if a and a != right]
        rivals = np.unique(wrong, return_counts=True)[1]
        q[i] = max(rivals, default=0) / len(row)
    return p, q


def samples_needed(p: float, q: float, error: float = 0.05) -> int:
    """Samples after which one rival leads with at most chance `error`.

    Hoeffding's bound; needs p > q.
    """
    if not (0 <= q < p <= 1 and 0 < error < 1):
        raise ValueError(
            f"p = {p}, q = {q}, error = {error}: a vote converges to the "
            "right answer only for p > q, at any error in (0, 1)"
        )
    return max(1, math.ceil(2 * math.log(1 / error) / (p - q) ** 2))


# %% book/reasoning/self_consistency.md#agreement
def agreement(answers: Sequence[str]) -> float:
    """Share of the samples, empty ones included, that name the winner."""
    if not answers:
        raise ValueError("no answers: nobody can agree")
    winner = majority_vote(answers)
    return sum(a == winner for a in answers if a) / len(answers)


def risk_coverage(
    confidences: Sequence[float], right: Sequence[bool]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coverage and accuracy when only the surest questions are answered.

    One point for each distinct confidence, from the highest down: equal
    confidences are answered together. El-Yaniv and Wiener (2010).
    """
    scores = np.asarray(confidences, dtype=float)
    hits = np.asarray(right, dtype=float)
    if len(scores) != len(hits) or not len(scores):
        raise ValueError(
            f"{len(scores)} confidences for {len(hits)} results; give one "
            "for each, and at least one"
        )
    order = np.argsort(-scores, kind="stable")
    counts = np.arange(1, len(scores) + 1)
    accuracy = np.cumsum(hits[order]) / counts
    ends = np.append(np.diff(scores[order]) != 0, True)
    return counts[ends] / len(scores), accuracy[ends]


# %% book/reasoning/self_consistency.md#break_even
def break_even(
    training_tokens: float, sample_tokens: float, num_samples: int
) -> float:
    """Questions after which further training is cheaper than a vote.

    A vote writes `num_samples - 1` samples more than one greedy attempt, at
    2 operations a weight and token; training takes 6.
    """
    if num_samples < 2 or sample_tokens <= 0 or training_tokens < 0:
        raise ValueError(
            f"{num_samples} samples of {sample_tokens} tokens: a vote needs "
            "two samples or more, of at least one token"
        )
    return 3 * training_tokens / ((num_samples - 1) * sample_tokens)
