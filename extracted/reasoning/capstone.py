# Generated from book/reasoning/capstone.md; do not edit (b5ead3bfbe18)
"""The whole ladder in one table, from answers alone to a verified reasoner that
practised, with seeds, intervals, paired tests and the cost of every rung.
"""

# %% book/reasoning/capstone.md#imports
import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from extracted.alignment.reward_model import sigmoid
from extracted.foundations.gpt import GPT
from extracted.foundations.pretraining import TrainConfig
from extracted.foundations.tokenizer import Tokenizer
from extracted.reasoning.chain_of_thought import (
    REASONER_CONFIG,
    answer_only,
    fresh_reasoner,
    solve,
    think_first,
)
from extracted.reasoning.grpo import GRPOConfig, train_grpo
from extracted.reasoning.problems import (
    Problem,
    generate_problems,
    iterate_problems,
)
from extracted.reasoning.self_consistency import majority_vote
from extracted.reasoning.verifiers import (
    Verifier,
    combine,
    read_attempts,
    step_logits,
    train_verifier,
    vote_weights,
)


# %% book/reasoning/capstone.md#Models
@dataclass(frozen=True)
class Models:
    """What the ladder climbs with; all share a tokenizer."""

    tokenizer: Tokenizer
    base: GPT  # trained on answers alone
    reasoner: GPT  # trained on steps
    verifier: Verifier  # learned from the reasoner's attempts
    learner: GPT  # the reasoner after reinforcement learning


# %% book/reasoning/capstone.md#Rung
@dataclass(frozen=True)
class Rung:
    """What one way to answer achieved on a list of problems."""

    right: list[bool]
    written: int  # tokens that models wrote
    read: int  # tokens that a verifier read, questions included
    seconds: float  # of the processor


class Clock:
    """Processor seconds of the last block that ran under `measure`.

    Of all threads, and whatever else the machine does meanwhile.
    """

    seconds = 0.0

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Time the block."""
        start = time.process_time()
        yield
        self.seconds = time.process_time() - start


def greedy_rung(
    model: GPT, tokenizer: Tokenizer, problems: Sequence[Problem]
) -> Rung:
    """One attempt at each problem, without chance."""
    clock = Clock()
    with clock.measure():
        rows = solve(model, tokenizer, problems)
    written = sum(len(a.completion.ids) for (a,) in rows)
    return Rung([a.correct for (a,) in rows], written, 0, clock.seconds)


# %% book/reasoning/capstone.md#HOWS
HOWS = ("product", "answer", "all")


@dataclass(frozen=True)
class Weighing:
    """How a verifier's probabilities become the weights of votes."""

    how: str  # steps are combined, as in verifiers
    exponent: float


@dataclass(frozen=True)
class Scored:
    """Samples for P problems, N each, with the verifier's scores."""

    truth: list[str]
    answers: list[list[str]]
    scores: dict[str, list[list[float]]]  # by how steps are combined
    written: int
    read: int
    writing: float  # seconds
    reading: float

    def vote(self, weighing: Weighing | None = None) -> Rung:
        """The rung of a vote, plain or weighed by the verifier."""
        weights: list[list[float] | None] = [None] * len(self.truth)
        read, seconds = 0, self.writing  # a plain vote reads nothing
        if weighing is not None:
            scores = self.scores[weighing.how]
            weights = [vote_weights(s, weighing.exponent) for s in scores]
            read, seconds = self.read, self.writing + self.reading
        right = [
            majority_vote(row, weight) == truth
            for row, weight, truth in zip(
                self.answers, weights, self.truth, strict=True
            )
        ]
        return Rung(right, self.written, read, seconds)


# %% book/reasoning/capstone.md#sample_and_score
def sample_and_score(
    model: GPT,
    verifier: Verifier,
    tokenizer: Tokenizer,
    problems: Sequence[Problem],
    *,
    num_samples: int = 32,
    temperature: float = 0.8,
    seed: int = 0,
) -> Scored:
    """Draw samples for each problem and let the verifier read them."""
    clock = Clock()
    with clock.measure():
        rows = solve(
            model, tokenizer, problems, temperature=temperature,
            num_samples=num_samples, seed=seed,
        )
    writing = clock.seconds
    with clock.measure():
        readings = read_attempts(tokenizer, problems, rows)
        probs = [
            [[sigmoid(z) for z in logits] for logits in found]
            for found in (step_logits(verifier, row) for row in readings)
        ]
        scores = {
            how: [[combine(p, how) for p in row] for row in probs]
            for how in HOWS
        }
    return Scored(
        [str(problem.answer) for problem in problems],
        [[a.answer for a in row] for row in rows], scores,
        sum(len(a.completion.ids) for row in rows for a in row),
        sum(len(r.ids) for row in readings for r in row),
        writing, clock.seconds,
    )


# %% book/reasoning/capstone.md#EXPONENTS
EXPONENTS = (0.5, 1.0, 2.0, 4.0, 8.0, float("inf"))


def choose_weighing(scored: Scored) -> Weighing:
    """The one with most right answers; of equals the first, the mildest."""
    candidates = [Weighing(how, e) for e in EXPONENTS for how in HOWS]
    return max(candidates, key=lambda w: sum(scored.vote(w).right))


RUNGS = (
    "answers alone", "chain of thought", "vote", "verifier", "GRPO",
    "GRPO, vote", "all together",
)


def climb(
    models: Models,
    problems: Sequence[Problem],
    weighing: Weighing,
    **sampling: Any,
) -> dict[str, Rung]:
    """Each rung on the same problems, sampled as `sampling` says."""
    tokenizer = models.tokenizer
    first, last = (
        sample_and_score(
            model, models.verifier, tokenizer, problems, **sampling
        )
        for model in (models.reasoner, models.learner)
    )
    found = (
        greedy_rung(models.base, tokenizer, problems),
        greedy_rung(models.reasoner, tokenizer, problems),
        first.vote(), first.vote(weighing),
        greedy_rung(models.learner, tokenizer, problems),
        last.vote(), last.vote(weighing),
    )
    return dict(zip(RUNGS, found, strict=True))


# %% book/reasoning/capstone.md#sign_flip_p_value
def sign_flip_p_value(differences: Sequence[int]) -> float:
    """Exact two-sided p of the sum, if each sign were a fair coin."""
    sizes = [abs(d) for d in differences if d]
    chances = {0: 1.0}
    for size in sizes:
        spread: dict[int, float] = {}
        for total, chance in chances.items():
            for moved in (total - size, total + size):
                spread[moved] = spread.get(moved, 0.0) + chance / 2
        chances = spread
    seen = abs(sum(differences))
    tails = (p for total, p in chances.items() if abs(total) >= seen)
    return min(1.0, sum(tails))


def pooled_differences(
    lower: Sequence[Sequence[bool]], upper: Sequence[Sequence[bool]]
) -> list[int]:
    """For each problem, by how many seeds `upper` is ahead; both (S, P)."""
    before, after = zip(*lower, strict=True), zip(*upper, strict=True)
    return [sum(b) - sum(a) for a, b in zip(before, after, strict=True)]


# %% book/reasoning/capstone.md#LADDER_GRPO
LADDER_GRPO = GRPOConfig(
    iterations=160, num_problems=32, num_samples=16, rate=6e-4,
    matrix_rate=4e-3, scale="std", evaluate_every=160,
)


@dataclass(frozen=True)
class LadderConfig:
    """How much of everything."""

    reasoner: TrainConfig = REASONER_CONFIG
    grpo: GRPOConfig = LADDER_GRPO
    verifier_problems: int = 4000  # 0 leaves the verifier untrained
    validation: int = 1000
    exams: tuple[tuple[str, int], ...] = (
        ("test", 2000), ("longer", 200), ("reworded", 200),
    )
    num_samples: int = 32
    temperature: float = 0.8


# %% book/reasoning/capstone.md#train_models
def train_models(
    config: LadderConfig, seed: int
) -> tuple[Models, dict[str, float]]:
    """All models of a seed, and the processor seconds that each took."""
    clock, seconds, trained = Clock(), dict[str, float](), []
    recipe = replace(config.reasoner, seed=seed)
    for name, write in (("base", answer_only), ("reasoner", think_first)):
        with clock.measure():
            trained.append(fresh_reasoner(write=write, config=recipe))
        seconds[name] = clock.seconds
    (base, _, _), (reasoner, tokenizer, _) = trained
    learner = copy.deepcopy(reasoner)
    hard = (
        problem
        for problem in iterate_problems(seed=1_000 + seed)
        if len(problem.steps) > 2
    )
    with clock.measure():
        train_grpo(learner, tokenizer, hard, replace(config.grpo, seed=seed))
    seconds["learner"] = clock.seconds
    with clock.measure():
        verifier = Verifier(reasoner)
        if config.verifier_problems:
            verifier = train_verifier(
                reasoner, tokenizer, count=config.verifier_problems,
                seed=2_000 + seed,
            )
    seconds["verifier"] = clock.seconds
    return Models(tokenizer, base, reasoner, verifier, learner), seconds


# %% book/reasoning/capstone.md#run_ladder
def run_ladder(config: LadderConfig, seed: int) -> dict[str, Any]:
    """One seed's ladder as a record: who was right where, and costs."""
    models, seconds = train_models(config, seed)
    sampling: dict[str, Any] = {
        "num_samples": config.num_samples, "temperature": config.temperature,
        "seed": seed,
    }
    choosing = generate_problems(config.validation, "validation")
    weighing = choose_weighing(
        sample_and_score(
            models.reasoner, models.verifier, models.tokenizer, choosing,
            **sampling,
        )
    )
    row: dict[str, Any] = {
        "seed": seed, "training_seconds": seconds,
        "weighing": [weighing.how, str(weighing.exponent)], "exams": {},
    }
    for split, count in config.exams:
        problems = generate_problems(count, split)
        rungs = climb(models, problems, weighing, **sampling)
        row["exams"][split] = {
            name: {
                "right": "".join("01"[r] for r in rung.right),
                "written": rung.written, "read": rung.read,
                "seconds": rung.seconds,
            }
            for name, rung in rungs.items()
        }
    return row
