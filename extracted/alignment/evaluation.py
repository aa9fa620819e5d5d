# Generated from book/alignment/evaluation.md; do not edit (e313abc3cb77)
"""Whether 82 % is better than 80 %; how many questions that takes; multiple choice,
judges, ratings and leaked exams, each with its bias measured.
"""

# %% book/alignment/evaluation.md#imports
import copy
import hashlib
import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from extracted.alignment.classification import (
    Classifier,
    LabelledIds,
    class_logits,
    fit_classifier,
)
from extracted.alignment.instruction_tuning import (
    Message,
    Task,
    ask,
    encode_chat,
    generate_tasks,
    is_right,
    reply_example,
    target_logprobs,
    words,
)
from extracted.foundations.gpt import GPT
from extracted.foundations.language_modeling import Dice
from extracted.foundations.pretraining import TrainConfig
from extracted.foundations.tokenizer import Tokenizer


# %% book/alignment/evaluation.md#make_exam
def make_exam(
    count: int, split: str = "test", *, seed: int = 0
) -> list[Task]:
    """The different tasks among `count` that are drawn from a split."""
    drawn = generate_tasks(count, split, seed=seed)
    return list({task.prompt: task for task in drawn}.values())


def grade(
    model: GPT,
    tokenizer: Tokenizer,
    tasks: Sequence[Task],
    *,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[bool]:
    """Whether the model's one reply to each task is right."""
    found = ask(
        model, tokenizer, [task.prompt for task in tasks],
        temperature=temperature, seed=seed,
    )
    return [
        is_right(task, reply.text)
        for task, (reply,) in zip(tasks, found, strict=True)
    ]


# %% book/alignment/evaluation.md#wilson_interval
def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a rate of which `right` of `total` were seen."""
    if total < 1:
        raise ValueError("no trials: an interval needs at least one")
    z, rate = 1.959964, right / total
    middle = rate + z * z / (2 * total)
    half = z * math.sqrt(rate * (1 - rate) / total + (z / total) ** 2 / 4)
    scale = 1 + z * z / total
    return max(0.0, (middle - half) / scale), (middle + half) / scale


# %% book/alignment/evaluation.md#paired_p_value
def paired_p_value(first: Sequence[bool], second: Sequence[bool]) -> float:
    """McNemar's exact two-sided p-value for two results on one exam."""
    pairs = [(bool(a), bool(b)) for a, b in zip(first, second, strict=True)]
    wins, n = pairs.count((True, False)), sum(a != b for a, b in pairs)
    low = min(wins, n - wins)
    tail = sum(math.comb(n, k) for k in range(low + 1))
    return min(1.0, tail / 2 ** (n - 1) if n else 1.0)


# %% book/alignment/evaluation.md#bootstrap_interval
def bootstrap_interval(
    values: ArrayLike, *, resamples: int = 1000, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95 % interval of the mean over problems of `values` (P, ...).

    The percentile bootstrap over problems: Efron (1979).
    """
    table = np.asarray(values, dtype=float)
    if len(table) < 2:
        raise ValueError("an interval over problems needs two or more")
    rng = np.random.default_rng(seed)
    share = np.full(len(table), 1 / len(table))
    counts = rng.multinomial(len(table), share, size=resamples)
    means = np.tensordot(counts / len(table), table, axes=1)
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return low, high


# %% book/alignment/evaluation.md#questions_needed
def questions_needed(
    first: float,
    second: float,
    *,
    disagree: float | None = None,
    power: float = 0.8,
    level: float = 0.05,
) -> int:
    """Questions until two rates are seen to differ, with such a power.

    Each model sits its own exam of so many; or both the same, where exactly
    one is right at a share `disagree` of the questions (Connor, 1987).
    """
    gap, total = abs(first - second), first + second
    if gap == 0 or not 0 <= min(first, second) <= max(first, second) <= 1:
        raise ValueError(f"{first} and {second}: give two different rates")
    if disagree is None:
        null = total * (1 - total / 2)
        real = first * (1 - first) + second * (1 - second)
    elif gap <= disagree <= min(total, 2 - total) + 1e-9:
        null, real = disagree, disagree - gap**2
    else:
        raise ValueError(
            f"rates {first} and {second} cannot disagree at {disagree} of the "
            f"questions, but at {gap:.3f} to {min(total, 2 - total):.3f}"
        )
    normal = NormalDist()
    root = normal.inv_cdf(1 - level / 2) * math.sqrt(null)
    root += normal.inv_cdf(power) * math.sqrt(real)
    return math.ceil((root / gap) ** 2)


# %% book/alignment/evaluation.md#CHOICE_KINDS
CHOICE_KINDS = ("place", "colour", "trouble", "arithmetic")
LETTERS = "ABCD"


@dataclass(frozen=True)
class Choice:
    """A task with options; `replies` say them in whole sentences.

    `answer` is the place of the right one.
    """

    task: Task
    options: tuple[str, ...]
    replies: tuple[str, ...]
    answer: int

    @property
    def lettered(self) -> str:
        """The prompt with the options behind it: A: ... B: ..."""
        shown = zip(LETTERS, self.options, strict=False)
        return " ".join([self.task.prompt, *(f"{k}: {o}." for k, o in shown)])


# %% book/alignment/evaluation.md#make_choices
def make_choices(tasks: Sequence[Task], *, seed: int = 0) -> list[Choice]:
    """Of tasks with rivals, the answer among up to three, shuffled."""
    dice, choices = Dice(random.Random(seed)), []
    for task in tasks:
        if task.kind in CHOICE_KINDS:
            answer = task.answers[0]
            some = dice.sample(task.rivals, min(len(task.rivals), 3))
            options = dice.sample([answer, *some], len(some) + 1)
            before, _, after = task.sentence.rpartition(answer)
            replies = tuple(before + option + after for option in options)
            where = options.index(answer)
            choices.append(Choice(task, tuple(options), replies, where))
    return choices


# %% book/alignment/evaluation.md#choice_logprobs
def choice_logprobs(
    model: GPT,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    options: Sequence[Sequence[str]],
) -> list[list[float]]:
    """ln p of each option as the whole reply to its prompt, in nats."""
    examples = [
        reply_example(tokenizer, [Message("user", prompt)], option)
        for prompt, some in zip(prompts, options, strict=True)
        for option in some
    ]
    rest = iter(target_logprobs(model, examples).tolist())
    return [[next(rest) for _ in some] for some in options]


# %% book/alignment/evaluation.md#Contest
@dataclass(frozen=True)
class Contest:
    """Two replies to one prompt, in the order in which a judge sees them."""

    prompt: str
    first: str
    second: str

    def swapped(self) -> "Contest":
        """The same two in the other order."""
        return Contest(self.prompt, self.second, self.first)


def make_contests(
    model: GPT, tokenizer: Tokenizer, tasks: Sequence[Task], *, seed: int = 0
) -> list[Contest]:
    """Two samples a task at temperature 1; kept where one alone is right.

    The right one stands first.
    """
    found = ask(
        model, tokenizer, [task.prompt for task in tasks],
        temperature=1.0, num_samples=2, seed=seed,
    )
    contests = []
    for task, pair in zip(tasks, found, strict=True):
        one, two = (reply.text for reply in pair)
        if is_right(task, one) != is_right(task, two):
            contest = Contest(task.prompt, one, two)
            right = is_right(task, one)
            contests.append(contest if right else contest.swapped())
    return contests


# %% book/alignment/evaluation.md#encode_contest
def encode_contest(tokenizer: Tokenizer, contest: Contest) -> list[int]:
    """What the judge reads: prompt and both replies as one message."""
    text = (
        f"{contest.prompt} First: {contest.first} "
        f"Second: {contest.second} Which is better?"
    )
    return encode_chat(tokenizer, [Message("user", text)], reply=True)


# %% book/alignment/evaluation.md#JUDGE_CONFIG
JUDGE_CONFIG = TrainConfig(
    steps=150, rate=1e-3, matrix_rate=6e-3, log_every=0, evaluate_every=0
)


def fit_judge(
    assistant: GPT,
    tokenizer: Tokenizer,
    contests: Sequence[Contest],
    config: TrainConfig = JUDGE_CONFIG,
) -> Classifier:
    """A copy of the assistant, taught on contests whose first is better."""
    items = [LabelledIds(encode_contest(tokenizer, c), 0) for c in contests]
    items += [
        LabelledIds(encode_contest(tokenizer, c.swapped()), 1)
        for c in contests
    ]
    judge = Classifier(copy.deepcopy(assistant), 2)
    fit_classifier(judge, items, config)
    return judge


# %% book/alignment/evaluation.md#judge_contests
def judge_contests(
    judge: Classifier, tokenizer: Tokenizer, contests: Sequence[Contest]
) -> Tensor:
    """The log-odds (N,) that the first reply is better, as it says."""
    rows = [encode_contest(tokenizer, contest) for contest in contests]
    logits = class_logits(judge, rows)
    return logits[:, 0] - logits[:, 1]


def judge_both_orders(
    judge: Classifier, tokenizer: Tokenizer, contests: Sequence[Contest]
) -> Tensor:
    """The same (N,) from both orders: half the difference of log-odds."""
    swapped = [contest.swapped() for contest in contests]
    odds = judge_contests(judge, tokenizer, [*contests, *swapped])
    there, back = odds.chunk(2)
    return (there - back) / 2


# %% book/alignment/evaluation.md#Match
@dataclass(frozen=True)
class Match:
    """Two players and the first one's score: 1 won, 0 lost, 0.5 a tie."""

    first: str
    second: str
    score: float

    def __post_init__(self) -> None:
        if self.first == self.second or not 0 <= self.score <= 1:
            raise ValueError(
                f"{self}: two different players and a score from 0 to 1"
            )


def elo(
    matches: Iterable[Match], *, k: float = 32.0, start: float = 1000.0
) -> dict[str, float]:
    """Ratings after the matches, in their order. Elo (1978)."""
    ratings: dict[str, float] = {}
    for match in matches:
        gap = ratings.setdefault(match.second, start)
        gap -= ratings.setdefault(match.first, start)
        change = k * (match.score - 1 / (1 + 10 ** (gap / 400)))
        ratings[match.first] += change
        ratings[match.second] -= change
    return ratings


# %% book/alignment/evaluation.md#maximize_likelihood
def maximize_likelihood(wins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ratings (..., N), mean 0, of wins (..., N, N) of the row's player.

    The MM algorithm: Hunter (2004).
    """
    N = wins.shape[-1]
    reach = ((wins > 0) | np.eye(N, dtype=bool)).astype(float)
    if not (np.linalg.matrix_power(reach, N) > 0).all():
        raise ValueError(
            "somebody never lost a point to the others, so that no rating is "
            "high enough; add matches, or a prior"
        )
    played, won = wins + wins.swapaxes(-1, -2), wins.sum(axis=-1)
    logs = np.zeros(won.shape)
    for _ in range(10_000):
        pi = np.exp(logs)
        shares = played / (pi[..., :, None] + pi[..., None, :])
        new = np.log(won) - np.log(shares.sum(axis=-1))
        new -= new.mean(axis=-1, keepdims=True)
        change, logs = np.abs(new - logs).max(), new
        if change < 1e-9:
            break
    return logs * (400 / math.log(10))


# %% book/alignment/evaluation.md#count_wins
def count_wins(
    matches: Iterable[Match], names: Sequence[str], prior: float = 0.0
) -> NDArray[np.float64]:
    """Wins (N, N) of the row's player against the column's; ties are halves.

    `prior` is a number of wins for everybody against everybody.
    """
    place = {name: i for i, name in enumerate(names)}
    wins = prior * (1 - np.eye(len(names)))
    for match in matches:
        i, j = place[match.first], place[match.second]
        wins[i, j] += match.score
        wins[j, i] += 1 - match.score
    return wins


# %% book/alignment/evaluation.md#fit_bradley_terry
def fit_bradley_terry(
    matches: Sequence[Match], *, prior: float = 0.0, mean: float = 1000.0
) -> dict[str, float]:
    """The most likely ratings on Elo's scale. Bradley and Terry (1952)."""
    names = sorted({name for m in matches for name in (m.first, m.second)})
    ratings = maximize_likelihood(count_wins(matches, names, prior))
    return dict(zip(names, (mean + ratings).tolist(), strict=True))


# %% book/alignment/evaluation.md#bradley_terry_intervals
def bradley_terry_intervals(
    rounds: Sequence[Sequence[Match]],
    *,
    resamples: int = 500,
    prior: float = 0.0,
    mean: float = 1000.0,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """95 % bootstrap intervals of the ratings.

    Rounds are resampled: what one question gave stays together.
    """
    if len(rounds) < 2:
        raise ValueError("an interval over rounds needs two or more")
    names = sorted(
        {n for some in rounds for m in some for n in (m.first, m.second)}
    )
    tables = np.array([count_wins(some, names) for some in rounds])
    share = np.full(len(rounds), 1 / len(rounds))
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(rounds), share, size=resamples)
    wins = np.tensordot(counts, tables, axes=1)
    wins = wins + prior * (1 - np.eye(len(names)))
    ratings = mean + maximize_likelihood(wins)
    low, high = np.quantile(ratings, [0.025, 0.975], axis=0)
    return {n: (float(low[i]), float(high[i])) for i, n in enumerate(names)}


# %% book/alignment/evaluation.md#NgramIndex
class NgramIndex:
    """In how many texts of a corpus each run of n words occurs."""

    def __init__(self, texts: Iterable[str], n: int) -> None:
        if n < 1:
            raise ValueError(f"n is {n}; a run has at least one word")
        self.n, self.counts = n, Counter[bytes]()
        for text in texts:
            self.counts.update(set(self.hashes(text)))

    def hashes(self, text: str) -> list[bytes]:
        """One hash of eight bytes for each run, from left to right."""
        said = words(text).split()
        return [
            hashlib.blake2b(
                " ".join(said[i : i + self.n]).encode(), digest_size=8
            ).digest()
            for i in range(len(said) - self.n + 1)
        ]

    def coverage(self, text: str, *, common: int | None = None) -> float:
        """The share of the words that lie in a run of the corpus.

        Runs of more than `common` texts do not count: they are phrases that
        everybody uses. A text of fewer than n words has coverage 0.
        """
        seen: set[int] = set()
        for i, key in enumerate(self.hashes(text)):
            if 0 < self.counts[key] <= (common or math.inf):
                seen.update(range(i, i + self.n))
        return len(seen) / max(1, len(words(text).split()))


# %% book/alignment/evaluation.md#contaminated
def contaminated(
    index: NgramIndex,
    texts: Sequence[str],
    *,
    threshold: float = 0.8,
    common: int | None = None,
) -> list[bool]:
    """Which texts the corpus covers to at least `threshold`."""
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold {threshold} is a share of words above 0")
    return [index.coverage(t, common=common) >= threshold for t in texts]
