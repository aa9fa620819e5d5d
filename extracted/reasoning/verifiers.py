# Generated from book/reasoning/verifiers.md; do not edit (6199bb67d570)
"""A copy of the reasoner learns to say how probably each step is right; votes weighted
by it, its calibration, and how it is fooled.
"""

# %% book/reasoning/verifiers.md#imports
import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from extracted.alignment.classification import LengthBatches
from extracted.alignment.reward_model import sigmoid
from extracted.foundations.data import pad_batch
from extracted.foundations.generation import SamplingParams, generate
from extracted.foundations.gpt import GPT
from extracted.foundations.language_modeling import END_OF_TEXT
from extracted.foundations.pretraining import TrainConfig, Trainer, save_model
from extracted.foundations.tokenizer import Tokenizer
from extracted.reasoning.chain_of_thought import (
    Attempt,
    encode_question,
    judge,
    load_reasoner,
    solve,
)
from extracted.reasoning.problems import Problem, generate_problems


# %% book/reasoning/verifiers.md#collect_attempts
def collect_attempts(
    model: GPT,
    tokenizer: Tokenizer,
    count: int,
    split: str = "train",
    *,
    seed: int = 1,
    num_samples: int = 8,
    temperature: float = 1.0,
) -> tuple[list[Problem], list[list[Attempt]]]:
    """Problems of a split and seed, and samples of the model for each."""
    problems = generate_problems(count, split, seed=seed)
    attempts = solve(
        model, tokenizer, problems, temperature=temperature,
        num_samples=num_samples, seed=seed,
    )
    return problems, attempts


def vote_weights(scores: Sequence[float], exponent: float) -> list[float]:
    """What each vote counts: (score / best score) ** exponent.

    Exponent 0 is the plain vote; with infinity only the best score counts.
    """
    if exponent < 0 or any(score < 0 for score in scores):
        raise ValueError("scores and exponent must not be negative")
    best = max(scores, default=0.0)
    return [(score / best if best else 1.0) ** exponent for score in scores]


# %% book/reasoning/verifiers.md#step_ends
def step_ends(tokenizer: Tokenizer, attempt: Attempt) -> list[int]:
    """The places of the tokens, each with a full stop, that end the steps."""
    ids = attempt.completion.ids
    ends = [i for i, x in enumerate(ids) if "." in tokenizer.decode([x])]
    return ends[: len(attempt.verdict.steps)]


def rollout_labels(
    model: GPT,
    tokenizer: Tokenizer,
    problem: Problem,
    attempt: Attempt,
    *,
    k: int = 16,
    temperature: float = 1.0,
    seed: int = 0,
) -> tuple[list[float], int]:
    """After each step, the share of k continuations whose answer is right.

    Also the number of tokens that this took. Wang et al. (2024).
    """
    question = encode_question(tokenizer, problem)
    starts = [
        list(attempt.completion.ids[: end + 1])
        for end in step_ends(tokenizer, attempt)
    ]
    if not starts:
        return [], 0
    params = SamplingParams(
        max_new_tokens=96, temperature=temperature, seed=seed,
        stop_ids=(tokenizer.special_tokens[END_OF_TEXT],),
    )
    found = generate(
        model, [question + start for start in starts], params, num_samples=k
    )
    shares = []
    for row in found:
        judged = [judge(tokenizer, problem, one) for one in row]
        shares.append(sum(one.correct for one in judged) / k)
    return shares, sum(len(one.ids) for row in found for one in row)


# %% book/reasoning/verifiers.md#Reading
@dataclass(frozen=True)
class Reading:
    """Question and attempt as a verifier reads them, T tokens, and labels.

    `logprobs` are those that the author gave its tokens, 0 in the question.
    `ends` are the places of the steps' last tokens and of the attempt's last;
    `labels` say for each whether the step, and in the end the answer, is
    right.
    """

    ids: list[int]
    logprobs: list[float]
    ends: list[int]
    labels: list[bool]


# %% book/reasoning/verifiers.md#read_attempts
def read_attempts(
    tokenizer: Tokenizer,
    problems: Sequence[Problem],
    attempts: Sequence[Sequence[Attempt]],
) -> list[list[Reading]]:
    """The reading of each attempt at each problem."""
    rows = []
    for problem, row in zip(problems, attempts, strict=True):
        question = encode_question(tokenizer, problem)
        start, unwritten = len(question), [0.0] * len(question)
        readings = []
        for attempt in row:
            ids = question + attempt.completion.ids
            places = step_ends(tokenizer, attempt)
            readings.append(
                Reading(
                    ids, unwritten + attempt.completion.logprobs,
                    [*(start + end for end in places), len(ids) - 1],
                    [*attempt.verdict.steps[: len(places)], attempt.correct],
                )
            )
        rows.append(readings)
    return rows


# %% book/reasoning/verifiers.md#undecided
def undecided(rows: Sequence[Sequence[Reading]]) -> list[Reading]:
    """Of problems with right and wrong attempts, each attempt once."""
    kept: dict[tuple[int, ...], Reading] = {}
    for row in rows:
        if len({reading.labels[-1] for reading in row}) == 2:
            kept |= {tuple(reading.ids): reading for reading in row}
    return list(kept.values())


# %% book/reasoning/verifiers.md#auc
def auc(scores: Sequence[float], labels: Sequence[bool]) -> float:
    """How often a right one outscores a wrong one; a tie counts half.

    Not a number where either kind is missing.
    """
    pairs = list(zip(scores, labels, strict=True))
    right = [score for score, label in pairs if label]
    wrong = [score for score, label in pairs if not label]
    wins = sum((a > b) + 0.5 * (a == b) for a in right for b in wrong)
    return wins / (len(right) * len(wrong)) if right and wrong else math.nan


def within_auc(
    scores: Sequence[Sequence[float]], labels: Sequence[Sequence[bool]]
) -> float:
    """The mean AUC over the problems that have right and wrong attempts."""
    each = [auc(s, y) for s, y in zip(scores, labels, strict=True)]
    known = [value for value in each if not math.isnan(value)]
    if not known:
        raise ValueError("no problem has both right and wrong attempts")
    return sum(known) / len(known)


# %% book/reasoning/verifiers.md#Verifier
class Verifier(nn.Module):
    """A copy of a model that judges what ends at each place.

    Of its two logits one says that a step is right, one that the answer is.
    """

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.body = copy.deepcopy(model).requires_grad_(True)
        C = model.config.width
        self.hesitation = nn.Parameter(torch.zeros(C))
        self.readout = nn.Linear(C, 2)
        nn.init.zeros_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)

    def forward(self, ids: Tensor, logprobs: Tensor) -> Tensor:
        """Logits (B, T, 2) of ids and their log-probabilities (B, T)."""
        body = self.body
        positions = torch.arange(ids.shape[1], device=ids.device)
        x = body.tokens(ids) + body.positions(positions)
        x = x + logprobs[..., None] * self.hesitation
        for block in body.blocks:
            x = block(x, positions=positions)
        logits: Tensor = self.readout(body.norm(x))
        return logits


# %% book/reasoning/verifiers.md#LEAST
LEAST = -5.0  # ln p below which a token is no more surprising


def collate_readings(
    readings: Sequence[Reading],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ids and log-probabilities (B, T), labels and a mask, (B, T, 2)."""
    ids, _ = pad_batch([reading.ids for reading in readings], pad_id=0)
    logprobs = torch.zeros(ids.shape)
    labels, counted = torch.zeros(2, *ids.shape, 2)
    for row, reading in enumerate(readings):
        said = torch.tensor(reading.logprobs)
        logprobs[row, : len(said)] = said.clamp(min=LEAST)
        *steps, last = reading.ends
        *right, answer = reading.labels
        counted[row, steps, 0] = counted[row, last, 1] = 1.0
        labels[row, steps, 0] = torch.tensor(right, dtype=torch.float)
        labels[row, last, 1] = float(answer)
    return ids, logprobs, labels, counted


# %% book/reasoning/verifiers.md#reading_loss
def reading_loss(
    verifier: Callable[[Tensor, Tensor], Tensor],
    ids: Tensor,
    logprobs: Tensor,
    labels: Tensor,
    counted: Tensor,
) -> Tensor:
    """Mean cross-entropy in nats of labels (B, T, 2) where `counted` is 1."""
    losses = F.binary_cross_entropy_with_logits(
        verifier(ids, logprobs).float(), labels, reduction="none"
    )
    return (losses * counted).sum() / counted.sum()


def fit_verifier(
    model: GPT,
    readings: Sequence[Reading],
    *,
    epochs: int = 4,
    batch_size: int = 32,
    rate: float = 2.5e-3,
    matrix_rate: float = 0.015,
    seed: int = 0,
) -> Verifier:
    """A verifier that begins as `model` and learns from labelled readings."""
    if not readings:
        raise ValueError(
            "there is nothing to learn: no problem has right and wrong "
            "attempts; sample more problems, or more attempts at each"
        )
    batches = LengthBatches(
        readings, [len(reading.ids) for reading in readings],
        collate_readings, batch_size=min(batch_size, len(readings)),
        seed=seed,
    )
    config = TrainConfig(
        steps=epochs * batches.per_epoch, rate=rate, matrix_rate=matrix_rate,
        seed=seed, device=str(model.tokens.weight.device), log_every=0,
        evaluate_every=0,
    )
    verifier = Verifier(model)
    Trainer(verifier, batches, config, loss=reading_loss).run()
    return verifier.eval()


# %% book/reasoning/verifiers.md#step_logits
@torch.no_grad()
def step_logits(
    verifier: Verifier, readings: Sequence[Reading]
) -> list[list[float]]:
    """For each reading the logits of its steps, and last of its answer."""
    if not readings:
        return []
    device = verifier.hesitation.device
    parts = (part.to(device) for part in collate_readings(readings))
    ids, logprobs, _, counted = parts
    logits = verifier(ids, logprobs)
    return [
        row[mask.bool()].tolist()
        for row, mask in zip(logits, counted, strict=True)
    ]


# %% book/reasoning/verifiers.md#combine
def combine(scores: Sequence[float], how: str = "product") -> float:
    """One score of several steps' and, last, the answer's probability."""
    if how not in ("min", "product", "answer", "all"):
        raise ValueError(f"{how!r}: use min, product, answer or all")
    *steps, answer = scores
    if how == "answer":
        return answer
    if not steps:
        return 0.0
    if how == "min":
        return min(steps)
    return math.prod(steps) * (answer if how == "all" else 1.0)


def score_attempts(
    verifier: Verifier,
    rows: Sequence[Sequence[Reading]],
    *,
    how: str = "product",
) -> list[list[float]]:
    """A score for each attempt at each problem."""
    return [
        [combine([sigmoid(z) for z in logits], how) for logits in found]
        for found in (step_logits(verifier, row) for row in rows)
    ]


# %% book/reasoning/verifiers.md#HEAD
HEAD = "verifier.safetensors"


def save_verifier(
    verifier: Verifier, tokenizer: Tokenizer, directory: str | Path
) -> None:
    """Write the body as a model, and what is new beside it."""
    save_model(verifier.body, tokenizer, directory)
    weights = verifier.state_dict()
    new = {k: v for k, v in weights.items() if not k.startswith("body.")}
    save_file(new, Path(directory, HEAD))


def load_verifier(directory: str | Path) -> Verifier:
    """What `save_verifier` wrote, ready for use."""
    model, _ = load_reasoner(directory)
    verifier = Verifier(model)
    new = load_file(Path(directory, HEAD))
    verifier.load_state_dict(new, strict=False)
    return verifier.eval()


def train_verifier(
    model: GPT, tokenizer: Tokenizer, *, count: int = 2000, seed: int = 1
) -> Verifier:
    """Sample a reasoner at `count` problems, and fit a verifier to that.

    `seed` decides problems and samples; it must not be the reasoner's own,
    or the verifier learns from problems that the reasoner was trained on.
    """
    pair = collect_attempts(model, tokenizer, count, seed=seed)
    readings = undecided(read_attempts(tokenizer, *pair))
    return fit_verifier(model, readings)
