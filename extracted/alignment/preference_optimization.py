# Generated from book/alignment/preference_optimization.md; do not edit (89aea43b33e7)
"""DPO derived step by step, and IPO, KTO, SimPO and ORPO beside it; what they teach the
assistant from the same pairs with the same budget.
"""

# %% book/alignment/preference_optimization.md#imports
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extracted.alignment.classification import LengthBatches
from extracted.alignment.instruction_tuning import (
    Example,
    Message,
    Task,
    ask,
    encode_chat,
    is_right,
    reply_example,
    target_logprobs,
)
from extracted.alignment.reward_model import (
    Preference,
    count_words,
    true_reward,
)
from extracted.alignment.rlhf import (
    join_examples,
    join_sampled,
    k3_kl,
    token_logprobs,
)
from extracted.foundations.generation import SamplingParams
from extracted.foundations.gpt import GPT
from extracted.foundations.pretraining import TrainConfig, Trainer
from extracted.foundations.tokenizer import Tokenizer


# %% book/alignment/preference_optimization.md#sequence_logprobs
def sequence_logprobs(
    model: GPT, ids: Tensor, counted: Tensor
) -> tuple[Tensor, Tensor]:
    """ln of the probability of each row's reply, and its length, (R,).

    `ids` (R, T) is padded on the right; `counted` (R, T - 1) is True where
    the next token is of the reply. The end mark counts: ending is an act.
    """
    logprobs = token_logprobs(model, ids, counted, SamplingParams(1))
    return logprobs.sum(dim=1), counted.sum(dim=1)


# %% book/alignment/preference_optimization.md#PairLogprobs
@dataclass(frozen=True)
class PairLogprobs:
    """What a loss may know of B pairs: ln p in nats, lengths in tokens."""

    chosen: Tensor  # (B,), of the policy, with a gradient
    rejected: Tensor
    ref_chosen: Tensor  # (B,), of the reference, constants
    ref_rejected: Tensor
    chosen_length: Tensor  # (B,)
    rejected_length: Tensor

    def ratios(self) -> tuple[Tensor, Tensor]:
        """ln of policy over reference, for chosen and rejected."""
        chosen = self.chosen - self.ref_chosen
        return chosen, self.rejected - self.ref_rejected

    def means(self) -> tuple[Tensor, Tensor]:
        """ln p per token, for chosen and rejected."""
        chosen = self.chosen / self.chosen_length
        return chosen, self.rejected / self.rejected_length


PairLoss = Callable[[PairLogprobs], Tensor]


def chosen_loss(pair: PairLogprobs) -> Tensor:
    """-ln p per token of the chosen reply: supervised learning, (B,)."""
    return -pair.means()[0]


# %% book/alignment/preference_optimization.md#pair_examples
def pair_examples(
    tokenizer: Tokenizer, pair: Preference
) -> tuple[Example, Example]:
    """The chosen and the rejected reply, after the same prompt."""
    prompt = [Message("user", pair.task.prompt)]
    chosen = reply_example(tokenizer, prompt, pair.chosen)
    return chosen, reply_example(tokenizer, prompt, pair.rejected)


def pair_length(examples: tuple[Example, Example]) -> int:
    """The tokens of the longer of the two texts."""
    return max(len(e.prompt) + len(e.target) for e in examples)


def reply_logprobs(
    model: GPT, tokenizer: Tokenizer, pairs: Sequence[Preference]
) -> Tensor:
    """ln p of the chosen and the rejected reply of each pair, (N, 2)."""
    examples = [pair_examples(tokenizer, pair) for pair in pairs]
    sides = [both[side] for side in (0, 1) for both in examples]
    return target_logprobs(model, sides).view(2, len(pairs)).T


# %% book/alignment/preference_optimization.md#PairItem
PairItem = tuple[tuple[Example, Example], Tensor]


def join_pairs(items: Sequence[PairItem]) -> tuple[Tensor, ...]:
    """Ids (2B, T), counted (2B, T - 1), references (B, 2): chosen first."""
    rows = [pair[side] for side in (0, 1) for pair, _ in items]
    references = torch.stack([reference for _, reference in items])
    return *join_examples(rows), references


def pair_logprobs(
    model: GPT, ids: Tensor, counted: Tensor, references: Tensor
) -> PairLogprobs:
    """What a loss may know of a batch that `join_pairs` made."""
    (chosen, rejected), (n_chosen, n_rejected) = (
        both.chunk(2) for both in sequence_logprobs(model, ids, counted)
    )
    ref_chosen, ref_rejected = references.unbind(1)
    return PairLogprobs(
        chosen, rejected, ref_chosen, ref_rejected, n_chosen, n_rejected
    )


# %% book/alignment/preference_optimization.md#PreferenceBatches
class PreferenceBatches(LengthBatches[PairItem]):
    """Endless batches of pairs and of what the reference says of them.

    `references` (N, 2) is computed once, before the policy moves.
    """

    def __init__(
        self,
        pairs: Sequence[Preference],
        references: Tensor,
        tokenizer: Tokenizer,
        *,
        batch_size: int,
        seed: int = 0,
    ) -> None:
        if references.shape != (len(pairs), 2):
            raise ValueError(
                f"references of shape {tuple(references.shape)} for "
                f"{len(pairs)} pairs; take those of reply_logprobs, (N, 2)"
            )
        examples = [pair_examples(tokenizer, pair) for pair in pairs]
        super().__init__(
            list(zip(examples, references, strict=True)),
            [pair_length(pair) for pair in examples], join_pairs,
            batch_size=batch_size, seed=seed,
        )


# %% book/alignment/preference_optimization.md#PreferenceConfig
@dataclass(frozen=True)
class PreferenceConfig(TrainConfig):
    """How to train on pairs: a fifth of the rates of instruction tuning."""

    steps: int = 100
    rate: float = 1e-3
    matrix_rate: float = 6e-3
    log_every: int = 25
    evaluate_every: int = 25
    batch_size: int = 16  # pairs, so twice as many texts

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size < 1:
            raise ValueError(f"batch_size {self.batch_size}: use 1 or more")


# %% book/alignment/preference_optimization.md#compare_ratios
def compare_ratios(moved: Tensor) -> dict[str, float]:
    """Mean log-ratios of chosen and rejected, of (N, 2), and the accuracy.

    The implicit reward is beta times a log-ratio; beta changes no order.
    """
    chosen, rejected = moved.unbind(1)
    return {
        "chosen": chosen.mean().item(),
        "rejected": rejected.mean().item(),
        "accuracy": (chosen > rejected).float().mean().item(),
    }


# %% book/alignment/preference_optimization.md#train_preferences
def train_preferences(
    policy: GPT,
    tokenizer: Tokenizer,
    pairs: Sequence[Preference],
    config: PreferenceConfig,
    loss: PairLoss,
    *,
    references: Tensor | None = None,
    held_out: Sequence[Preference] = (),
) -> list[dict[str, float]]:
    """Train a policy on pairs, in place; the log.

    The reference is the policy at the start, or whoever gave `references`
    (N, 2). Of `held_out` pairs the log has the mean log-ratios to the policy
    at the start, "chosen" and "rejected", in nats, and the "accuracy".
    """
    if references is None:
        references = reply_logprobs(policy, tokenizer, pairs)
    batches = PreferenceBatches(
        pairs, references, tokenizer,
        batch_size=config.batch_size, seed=config.seed,
    )
    start = reply_logprobs(policy, tokenizer, held_out)

    def batch_loss(model: GPT, *batch: Tensor) -> Tensor:
        return loss(pair_logprobs(model, *batch)).mean()

    def evaluation(_: nn.Module) -> dict[str, float]:
        moved = reply_logprobs(policy, tokenizer, held_out) - start
        return compare_ratios(moved)

    trainer = Trainer(
        policy, batches, config, loss=batch_loss,
        evaluation=evaluation if held_out else None,
    )
    log = trainer.run()
    policy.eval()
    return log


# %% book/alignment/preference_optimization.md#divergences
@torch.no_grad()
def divergences(
    reference: GPT,
    examples: Sequence[Example],
    logprobs: Sequence[Sequence[float]],
    *,
    batch_size: int = 64,
) -> list[float]:
    """k3 of each sampled target, summed over its tokens, in nats.

    `logprobs` are those with which the targets were drawn.
    """
    device, found = next(reference.parameters()).device, list[float]()
    for start in range(0, len(examples), batch_size):
        part = slice(start, start + batch_size)
        values = [value for row in logprobs[part] for value in row]
        ids, counted, drawn = (
            tensor.to(device)
            for tensor in join_sampled(examples[part], values)
        )
        ref = token_logprobs(reference, ids, counted, SamplingParams(1))
        found += k3_kl(drawn, ref).sum(dim=1).tolist()
    return found


# %% book/alignment/preference_optimization.md#examine_policy
@torch.no_grad()
def examine_policy(
    model: GPT,
    reference: GPT,
    tokenizer: Tokenizer,
    tasks: Sequence[Task],
    *,
    temperature: float = 1.0,
    seed: int = 0,
) -> dict[str, list[float]]:
    """A reply to each task: its true "reward", whether "right", its "words".

    At temperature 1 also "kl", which estimates KL(model || reference) of a
    whole reply in nats.
    """
    prompts = [task.prompt for task in tasks]
    found = ask(
        model, tokenizer, prompts, temperature=temperature, seed=seed
    )
    replies = [reply for (reply,) in found]
    both = list(zip(tasks, (reply.text for reply in replies), strict=True))
    report = {
        "reward": [true_reward(task, text) for task, text in both],
        "right": [float(is_right(task, text)) for task, text in both],
        "words": [float(count_words(text)) for _, text in both],
    }
    if temperature == 1:
        examples = [
            Example(
                encode_chat(tokenizer, [Message("user", p)], reply=True),
                reply.ids,
            )
            for p, reply in zip(prompts, replies, strict=True)
        ]
        drawn = [reply.logprobs for reply in replies]
        report["kl"] = divergences(reference, examples, drawn)
    return report


# %% book/alignment/preference_optimization.md#dpo_loss
def dpo_loss(
    pair: PairLogprobs, *, beta: float = 0.1, smoothing: float = 0.0
) -> Tensor:
    """-ln sigmoid(beta * difference of log-ratios), (B,).

    Rafailov et al. (2023), equation 7; with `smoothing` the choice is
    believed to be wrong with this probability (cDPO, Mitchell 2023).
    """
    chosen, rejected = pair.ratios()
    margin = beta * (chosen - rejected)
    right, wrong = F.logsigmoid(margin), F.logsigmoid(-margin)
    return -(1 - smoothing) * right - smoothing * wrong


# %% book/alignment/preference_optimization.md#ipo_loss
def ipo_loss(pair: PairLogprobs, *, beta: float = 0.1) -> Tensor:
    """(difference of log-ratios - 1 / (2 beta))**2, (B,).

    Azar et al. (2024), equation 17, where beta is called tau.
    """
    chosen, rejected = pair.ratios()
    return (chosen - rejected - 1 / (2 * beta)) ** 2


def kto_loss(pair: PairLogprobs, *, beta: float = 0.1) -> Tensor:
    """One minus the value of a praised and of a blamed reply, (B,).

    Value is a sigmoid of gain over a baseline, which is the mean log-ratio
    of the batch or 0, whichever is more; Ethayarajh et al. (2024) take it
    over replies to other prompts.
    """
    chosen, rejected = pair.ratios()
    baseline = torch.cat([chosen, rejected]).detach().mean().clamp(min=0)
    praised = torch.sigmoid(beta * (chosen - baseline))
    blamed = torch.sigmoid(beta * (baseline - rejected))
    return 1 - (praised + blamed) / 2


# %% book/alignment/preference_optimization.md#simpo_loss
def simpo_loss(
    pair: PairLogprobs, *, beta: float = 2.0, gamma: float = 1.0
) -> Tensor:
    """-ln sigmoid(beta * difference of mean ln p - gamma), (B,).

    No reference. Meng et al. (2024), equation 6.
    """
    chosen, rejected = pair.means()
    return -F.logsigmoid(beta * (chosen - rejected) - gamma)


def log_odds(logprob: Tensor) -> Tensor:
    """ln(p / (1 - p)) from ln p, with p at most 1 - 1e-6."""
    below = logprob.clamp(max=-1e-6)
    return below - torch.log(-torch.expm1(below))


def orpo_loss(pair: PairLogprobs, *, weight: float = 1.0) -> Tensor:
    """-mean ln p of the chosen - weight * ln sigmoid(ln odds ratio), (B,).

    No reference; p is the geometric mean over tokens. Hong et al. (2024),
    equation 6.
    """
    chosen, rejected = pair.means()
    ratio = log_odds(chosen) - log_odds(rejected)
    return -chosen - weight * F.logsigmoid(ratio)
