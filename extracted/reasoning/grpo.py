# Generated from book/reasoning/grpo.md; do not edit (4b2138648935)
"""Reinforcement learning from rewards that can be checked, built from parts that are
tested one by one, and what happens when the wrong thing is paid.
"""

# %% book/reasoning/grpo.md#imports
import copy
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from extracted.alignment.instruction_tuning import Example
from extracted.alignment.rlhf import (
    clipped_objective,
    descend,
    join_sampled,
    k3_kl,
    masked_mean,
    policy_ratio,
    schedule,
    take,
    token_logprobs,
)
from extracted.foundations.generation import (
    SamplingParams,
    check_fields,
    generate,
)
from extracted.foundations.gpt import GPT
from extracted.foundations.language_modeling import END_OF_TEXT
from extracted.foundations.optimization import Optimizers, build_optimizer
from extracted.foundations.pretraining import save_model
from extracted.foundations.tokenizer import Tokenizer
from extracted.reasoning.chain_of_thought import (
    Attempt,
    encode_question,
    fresh_reasoner,
    judge,
    load_reasoner,
    solve,
)
from extracted.reasoning.problems import (
    Problem,
    generate_problems,
    iterate_problems,
)


# %% book/reasoning/grpo.md#Reward
Reward = Callable[[Problem, Attempt], float]


def right_answer(problem: Problem, attempt: Attempt) -> float:
    """1 for a right answer, whatever the steps are."""
    return float(attempt.correct)


def right_steps(problem: Problem, attempt: Attempt) -> float:
    """The share of steps that are right, of those written or those needed."""
    written = attempt.verdict.steps
    return sum(written) / max(len(written), len(problem.steps))


# %% book/reasoning/grpo.md#Rollouts
@dataclass(frozen=True)
class Rollouts:
    """Attempts at P problems, G each: R = P * G rows of at most T tokens."""

    ids: Tensor  # (R, T), question and attempt, padded on the right
    counted: Tensor  # (R, T - 1), True where the next token was sampled
    drawn: Tensor  # (R, T - 1), ln of its probability when it was, else 0
    rewards: Tensor  # (P, G)

    def select(self, keep: Tensor) -> "Rollouts":
        """The groups where `keep` (P,) is True."""
        rows = keep.repeat_interleave(self.rewards.shape[1])
        parts = self.ids[rows], self.counted[rows], self.drawn[rows]
        return Rollouts(*parts, self.rewards[keep])


def collect_rollouts(
    model: GPT,
    tokenizer: Tokenizer,
    problems: Sequence[Problem],
    params: SamplingParams,
    *,
    num_samples: int,
    reward: Reward = right_answer,
) -> Rollouts:
    """Sample `num_samples` attempts at each problem, and pay for them."""
    prompts = [encode_question(tokenizer, problem) for problem in problems]
    found = generate(model, prompts, params, num_samples=num_samples)
    examples, drawn, rewards = [], [], []
    for problem, prompt, group in zip(problems, prompts, found, strict=True):
        for completion in group:
            examples.append(Example(prompt, completion.ids))
            drawn += completion.drawn
            attempt = judge(tokenizer, problem, completion)
            rewards.append(reward(problem, attempt))
    device = next(model.parameters()).device
    ids, counted, old = (
        part.to(device) for part in join_sampled(examples, drawn)
    )
    groups = torch.tensor(rewards, device=device).view(len(problems), -1)
    return Rollouts(ids, counted, old, groups)


# %% book/reasoning/grpo.md#group_advantages
def group_advantages(rewards: Tensor, scale: str = "std") -> Tensor:
    """Rewards (P, G) less their group's mean, over its deviation for "std".

    Shao et al. (2024) divide; with "none", as Liu et al. (2025), we do not.
    """
    if scale not in ("std", "none"):
        raise ValueError(f'scale {scale!r}: use "std" or "none"')
    if rewards.dim() != 2 or rewards.shape[1] < 2:
        raise ValueError(
            f"rewards of shape {tuple(rewards.shape)}: a group needs two or "
            "more attempts, (P, G) with G >= 2"
        )
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    if scale == "none":
        return centred
    return centred / (rewards.std(dim=1, keepdim=True) + 1e-6)


def informative(rewards: Tensor) -> Tensor:
    """Which groups (P,) of rewards (P, G) do not all earn the same."""
    return (rewards != rewards[:, :1]).any(dim=1)


# %% book/reasoning/grpo.md#Surrogate
Surrogate = Callable[[Tensor, Tensor, Tensor, Tensor, float, float], Tensor]


def token_surrogate(
    logp: Tensor,
    drawn: Tensor,
    counted: Tensor,
    advantages: Tensor,
    low: float,
    high: float,
) -> Tensor:
    """PPO's objective of each token (R, T); `advantages` is (R, 1)."""
    ratio = policy_ratio(logp, drawn)
    return clipped_objective(ratio, advantages, low, high)


def sequence_surrogate(
    logp: Tensor,
    drawn: Tensor,
    counted: Tensor,
    advantages: Tensor,
    low: float,
    high: float,
) -> Tensor:
    """GSPO's: one ratio a row, the geometric mean. Zheng et al. (2025)."""
    moved = torch.where(counted, logp - drawn, 0.0)
    mean = moved.sum(dim=1, keepdim=True) / counted.sum(dim=1, keepdim=True)
    value = clipped_objective(mean.exp(), advantages, low, high)
    return value.expand_as(logp)


def weighted_surrogate(
    logp: Tensor,
    drawn: Tensor,
    counted: Tensor,
    advantages: Tensor,
    low: float,
    high: float,
) -> Tensor:
    """CISPO's: ln p times a clipped weight. MiniMax (2025)."""
    ratio = policy_ratio(logp.detach(), drawn)
    return ratio.clamp(1 - low, 1 + high) * advantages * logp


# %% book/reasoning/grpo.md#Average
Average = Callable[[Tensor, Tensor, int], Tensor]


def sequence_mean(values: Tensor, counted: Tensor, length: int) -> Tensor:
    """The mean over rows of each row's mean, of values (R, T). GRPO."""
    sums = torch.where(counted, values, 0.0).sum(dim=1)
    return (sums / counted.sum(dim=1)).mean()


def token_mean(values: Tensor, counted: Tensor, length: int) -> Tensor:
    """The mean over all tokens of the batch. DAPO."""
    return masked_mean(values, counted)


def fixed_mean(values: Tensor, counted: Tensor, length: int) -> Tensor:
    """The sum over a constant, rows times `length`. Dr. GRPO."""
    total = torch.where(counted, values, 0.0).sum()
    return total / (len(values) * length)


# %% book/reasoning/grpo.md#GRPOConfig
@dataclass(frozen=True)
class GRPOConfig:
    """How to learn from attempts; one step is one batch of problems."""

    iterations: int = 30
    num_problems: int = 24  # an iteration
    num_samples: int = 8  # a problem
    updates: int = 1  # steps of the optimizer on each batch
    temperature: float = 1.0
    max_new_tokens: int = 64
    rate: float = 6e-4  # AdamW's, as in pretraining but much smaller
    matrix_rate: float = 4e-3  # Muon's
    max_norm: float = 1.0
    low: float = 0.2
    high: float = 0.2
    kl: float = 0.0  # the weight of the penalty
    scale: str = "none"
    surrogate: Surrogate = token_surrogate
    average: Average = sequence_mean
    drop_equal: bool = True  # dynamic sampling, without refilling
    evaluate_every: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        fine = {
            "iterations": self.iterations >= 1,
            "num_problems": self.num_problems >= 1,
            "num_samples": self.num_samples >= 2,
            "updates": self.updates >= 1,
            "temperature": self.temperature > 0,
            "max_new_tokens": self.max_new_tokens >= 1,
            "low": 0 < self.low <= 1,
            "high": self.high > 0,
            "kl": self.kl >= 0,
            "scale": self.scale in ("std", "none"),
            "evaluate_every": self.evaluate_every >= 1,
        }
        check_fields(self, fine)

    def sampling(self, tokenizer: Tokenizer, step: int) -> SamplingParams:
        """How the attempts of iteration `step` are drawn."""
        return SamplingParams(
            self.max_new_tokens, self.temperature,
            stop_ids=(tokenizer.special_tokens[END_OF_TEXT],),
            seed=self.seed * self.iterations + step,
        )


METHODS: dict[str, GRPOConfig] = {
    "GRPO": GRPOConfig(scale="std", drop_equal=False, kl=0.01),
    "Dr. GRPO": GRPOConfig(
        scale="none", average=fixed_mean, drop_equal=False
    ),
    "DAPO": GRPOConfig(scale="std", high=0.28, average=token_mean),
    "GSPO": GRPOConfig(
        drop_equal=False, surrogate=sequence_surrogate, low=0.03, high=0.04
    ),
    "CISPO": GRPOConfig(
        surrogate=weighted_surrogate, average=token_mean, low=1.0, high=0.28
    ),
}


# %% book/reasoning/grpo.md#grpo_loss
def grpo_loss(
    logp: Tensor,
    ref_logp: Tensor,
    rollouts: Rollouts,
    config: GRPOConfig,
) -> Tensor:
    """The number to minimize, from log-probabilities (R, T) with gradient."""
    advantages = group_advantages(rollouts.rewards, config.scale)
    values = config.surrogate(
        logp, rollouts.drawn, rollouts.counted, advantages.reshape(-1, 1),
        config.low, config.high,
    )
    if config.kl:
        values = values - config.kl * k3_kl(logp, ref_logp)
    return -config.average(values, rollouts.counted, config.max_new_tokens)


def improve(
    model: GPT,
    reference: GPT,
    optimizer: Optimizers,
    rollouts: Rollouts,
    config: GRPOConfig,
    params: SamplingParams,
) -> dict[str, float]:
    """Take `config.updates` steps on a batch; what there was to see."""
    ids, counted = rollouts.ids, rollouts.counted
    with torch.no_grad():
        ref_logp = token_logprobs(reference, ids, counted, params)
    seen = {"kl": k3_kl(rollouts.drawn, ref_logp)[counted].mean().item()}
    for _ in range(config.updates):
        logp = token_logprobs(model, ids, counted, params)
        loss = grpo_loss(logp, ref_logp, rollouts, config)
        norm = descend(loss, model, optimizer, config.max_norm)
        ratio = policy_ratio(logp.detach(), rollouts.drawn)[counted]
        outside = (ratio < 1 - config.low) | (ratio > 1 + config.high)
        seen["outside"] = outside.float().mean().item()
        seen["grad_norm"] = norm
    return seen


# %% book/reasoning/grpo.md#accuracy
def accuracy(
    model: GPT, tokenizer: Tokenizer, problems: Sequence[Problem]
) -> float:
    """The share of problems that greedy decoding answers right."""
    found = solve(model, tokenizer, problems)
    return sum(group[0].correct for group in found) / len(problems)


def train_grpo(
    model: GPT,
    tokenizer: Tokenizer,
    problems: Iterable[Problem],
    config: GRPOConfig,
    *,
    reward: Reward = right_answer,
    validation: Sequence[Problem] = (),
) -> list[dict[str, float]]:
    """Let `model` learn from its attempts, in place; the log.

    Takes `config.num_problems` of `problems` an iteration. Dropout is off:
    it would make the recomputed probabilities differ from those drawn from.
    """
    model.eval()
    reference = copy.deepcopy(model).requires_grad_(False)
    optimizer = build_optimizer(
        model, rate=config.rate, matrix_rate=config.matrix_rate
    )
    supply, log = iter(problems), list[dict[str, float]]()
    for step in range(1, config.iterations + 1):
        batch = take(supply, config.num_problems)
        params = config.sampling(tokenizer, step)
        optimizer.set_rate(schedule(step - 1, config.iterations))
        rollouts = collect_rollouts(
            model, tokenizer, batch, params, reward=reward,
            num_samples=config.num_samples,
        )
        row = {"step": float(step), **describe(rollouts)}
        kept = informative(rollouts.rewards)
        if config.drop_equal:
            rollouts = rollouts.select(kept)
        if kept.any():
            row |= improve(
                model, reference, optimizer, rollouts, config, params
            )
        if validation and step % config.evaluate_every == 0:
            row["validation"] = accuracy(model, tokenizer, validation)
        log.append(row)
    return log


# %% book/reasoning/grpo.md#describe
def describe(rollouts: Rollouts) -> dict[str, float]:
    """What a batch earned, and how it was written."""
    counted = rollouts.counted
    return {
        "reward": rollouts.rewards.mean().item(),
        "entropy": -rollouts.drawn[counted].mean().item(),
        "length": counted.sum(dim=1).float().mean().item(),
        "dropped": 1 - informative(rollouts.rewards).float().mean().item(),
    }


# %% book/reasoning/grpo.md#train_reasoner_grpo
def train_reasoner_grpo(
    directory: str | Path,
    *,
    reasoner: str | Path | None = None,
    config: GRPOConfig = GRPOConfig(),
) -> list[dict[str, float]]:
    """Train the book's reasoner on from where it is; save it and its log.

    `reasoner` is the directory of one; without, it is trained first.
    """
    if reasoner is None:
        model, tokenizer, _ = fresh_reasoner()
    else:
        model, tokenizer = load_reasoner(reasoner)
    log = train_grpo(
        model, tokenizer, iterate_problems(seed=1_000 + config.seed), config,
        validation=generate_problems(300, "validation"),
    )
    save_model(model, tokenizer, directory)
    text = "".join(json.dumps(row) + "\n" for row in log)
    Path(directory, "log.jsonl").write_text(text, encoding="utf-8")
    return log
