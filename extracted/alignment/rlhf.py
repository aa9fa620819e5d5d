# Generated from book/alignment/rlhf.md; do not edit (d2cedcb7eca9)
"""The assistant learns from a judgement of its own replies, by REINFORCE, RLOO and PPO;
and what happens when it is let loose on a judge who can be fooled.
"""

# %% book/alignment/rlhf.md#imports
import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor, nn

from extracted.alignment.classification import Classifier
from extracted.alignment.instruction_tuning import (
    Example,
    Message,
    Task,
    ask,
    collate,
    encode_chat,
)
from extracted.alignment.reward_model import score_replies, true_reward
from extracted.foundations.generation import (
    SamplingParams,
    check_fields,
    warp,
)
from extracted.foundations.gpt import GPT
from extracted.foundations.optimization import (
    Optimizers,
    build_optimizer,
    clip_gradients,
    warmup_stable_decay,
)
from extracted.foundations.tokenizer import Tokenizer


# %% book/alignment/rlhf.md#_Item
_Item = TypeVar("_Item")
Scorer = Callable[[Sequence[Task], Sequence[str]], Tensor]


@dataclass(frozen=True)
class Rollouts:
    """Replies to P tasks, K each: B = P * K rows of at most T tokens."""

    tasks: list[Task]  # B, each K times in a row
    texts: list[str]  # B
    ids: Tensor  # (B, T), prompt and reply, padded on the right
    counted: Tensor  # (B, T - 1), True where the next token was sampled
    drawn: Tensor  # (B, T - 1), ln of its probability when it was, else 0
    scores: Tensor  # (B,)


# %% book/alignment/rlhf.md#join_examples
def join_examples(examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Ids (B, T), and whether each next token is of a target, (B, T - 1)."""
    inputs, targets, mask = collate(examples, pad_id=0)
    return torch.cat([inputs[:, :1], targets], dim=1), mask.bool()


def join_sampled(
    examples: Sequence[Example], values: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Ids (B, T), where the next token is of a target, and its value.

    The last two are (B, T - 1); `values` has one for each token of all
    targets, and there is 0 elsewhere. Rows are padded on the right.
    """
    ids, counted = join_examples(examples)
    placed = torch.zeros(counted.shape)
    placed[counted] = torch.tensor(values)
    return ids, counted, placed


# %% book/alignment/rlhf.md#collect_rollouts
def collect_rollouts(
    policy: GPT,
    tokenizer: Tokenizer,
    tasks: Sequence[Task],
    reward: Scorer,
    *,
    num_samples: int = 1,
    temperature: float = 1.0,
    max_new_tokens: int = 48,
    seed: int = 0,
) -> Rollouts:
    """Sample `num_samples` replies to each task, and have them scored."""
    found = ask(
        policy, tokenizer, [task.prompt for task in tasks],
        temperature=temperature, num_samples=num_samples, seed=seed,
        max_new_tokens=max_new_tokens,
    )
    examples, drawn = [], []
    for task, replies in zip(tasks, found, strict=True):
        chat = [Message("user", task.prompt)]
        prompt = encode_chat(tokenizer, chat, reply=True)
        for reply in replies:
            examples.append(Example(prompt, reply.ids))
            drawn += reply.drawn
    repeated = [task for task in tasks for _ in range(num_samples)]
    texts = [reply.text for replies in found for reply in replies]
    device = next(policy.parameters()).device
    ids, counted, old = (
        part.to(device) for part in join_sampled(examples, drawn)
    )
    scores = reward(repeated, texts).to(device)
    return Rollouts(repeated, texts, ids, counted, old, scores)


# %% book/alignment/rlhf.md#standardize
def standardize(
    model: Classifier,
    tokenizer: Tokenizer,
    tasks: Sequence[Task],
    replies: Sequence[str],
) -> Classifier:
    """A copy whose scores of these replies have mean 0 and deviation 1.

    As Ziegler et al. (2019) do with replies of the first policy.
    """
    scores = score_replies(model, tokenizer, tasks, replies)
    deviation = scores.std().item()
    if not deviation > 0:
        raise ValueError(
            f"{len(scores)} replies with scores of deviation {deviation}: "
            "give two or more that differ"
        )
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.readout.bias.sub_(scores.mean().item())
        for weight in model.readout.parameters():
            weight.div_(deviation)
    return model


def make_scorer(model: Classifier, tokenizer: Tokenizer) -> Scorer:
    """A reward model as a function of B tasks and B replies."""
    def score(tasks: Sequence[Task], replies: Sequence[str]) -> Tensor:
        return score_replies(model, tokenizer, tasks, replies)

    return score


# %% book/alignment/rlhf.md#token_logprobs
def token_logprobs(
    model: GPT, ids: Tensor, counted: Tensor, params: SamplingParams
) -> Tensor:
    """ln of the probability with which `params` draws each next token.

    `ids` (R, T) is padded on the right; the result (R, T - 1) is 0 where
    `counted` is False. A token that a cut removes has -inf.
    """
    if params.temperature == 0 or params.repetition_penalty != 1:
        raise ValueError(
            "greedy decoding and repetition penalties are no policy to "
            "differentiate; use a temperature above 0 and a penalty of 1"
        )
    states = model.hidden(ids[:, :-1])[counted]  # (R, T - 1, C) -> (N, C)
    logits = warp(model.readout(states).float(), params)
    logprobs = logits.log_softmax(dim=-1)
    chosen = logprobs.gather(1, ids[:, 1:][counted][:, None])[:, 0]
    zeros = torch.zeros_like(counted, dtype=chosen.dtype)
    return zeros.masked_scatter(counted, chosen)


# %% book/alignment/rlhf.md#reinforce_loss
def reinforce_loss(
    logp: Tensor, advantages: Tensor, counted: Tensor
) -> Tensor:
    """What to descend to climb the expected reward. Williams (1992).

    `logp` (B, T) with gradient; `advantages` (B, 1) or (B, T) without.
    """
    pushed = torch.where(counted, advantages * logp, 0.0)
    return -pushed.sum(dim=1).mean()


# %% book/alignment/rlhf.md#rloo_advantages
def rloo_advantages(scores: Tensor, num_samples: int) -> Tensor:
    """Scores (B,) less the mean of the other replies to the same task.

    Replies to a task stand in a row. Kool et al. (2019).
    """
    if num_samples < 2 or len(scores) % num_samples:
        raise ValueError(
            f"{len(scores)} scores in groups of {num_samples}: leaving one "
            "out needs whole groups of two replies or more"
        )
    groups = scores.view(-1, num_samples)
    others = groups.sum(dim=1, keepdim=True) - groups
    return (groups - others / (num_samples - 1)).flatten()


# %% book/alignment/rlhf.md#kl_rewards
def kl_rewards(
    scores: Tensor,
    logp: Tensor,
    ref_logp: Tensor,
    counted: Tensor,
    beta: float,
) -> Tensor:
    """Rewards (B, T) of tokens: less beta * ln ratio each, plus the score.

    The score (B,) comes with the last token. Ziegler et al. (2019).
    """
    rewards = torch.where(counted, -beta * (logp - ref_logp), 0.0)
    places = torch.arange(1, counted.shape[1] + 1, device=counted.device)
    last = (counted * places).argmax(dim=1, keepdim=True)
    return rewards.scatter_add(1, last, scores[:, None])


# %% book/alignment/rlhf.md#k3_kl
def k3_kl(logp: Tensor, ref_logp: Tensor) -> Tensor:
    """An estimate of KL(policy || reference) at tokens of the policy.

    Non-negative, and unbiased for the value. Schulman (2020).
    """
    log_ratio = ref_logp - logp
    return torch.expm1(log_ratio) - log_ratio


# %% book/alignment/rlhf.md#AdaptiveKL
@dataclass
class AdaptiveKL:
    """The penalty `beta` that holds the KL of a reply near a target.

    It grows by `gain` times the relative error, which is held within
    `limit`. Ziegler et al. (2019), section 2.2; a gain of 0 keeps beta.
    """

    beta: float
    target: float  # nats a reply
    gain: float = 0.1
    limit: float = 0.2

    def __post_init__(self) -> None:
        if self.beta < 0 or self.target <= 0:
            raise ValueError(
                f"beta {self.beta} and target {self.target}: a penalty is "
                "not negative, and a target in nats is above 0"
            )

    def update(self, kl: float) -> None:
        """Learn how far the replies of a batch were."""
        error = kl / self.target - 1
        error = max(-self.limit, min(self.limit, error))
        self.beta *= 1 + self.gain * error


# %% book/alignment/rlhf.md#gae
def gae(
    rewards: Tensor,
    values: Tensor,
    counted: Tensor,
    gamma: float = 1.0,
    lam: float = 0.95,
) -> Tensor:
    """Generalized advantages (B, T), 0 where not `counted`.

    `values` (B, T) are of the text before each token, and 0 behind the end.
    Schulman et al. (2015), equation 16.
    """
    advantages = torch.zeros_like(rewards)
    running = following = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        real = counted[:, t]
        error = rewards[:, t] + gamma * following - values[:, t]
        running = torch.where(real, error + gamma * lam * running, 0.0)
        following = torch.where(real, values[:, t], 0.0)
        advantages[:, t] = running
    return advantages


def discounted(
    rewards: Tensor, counted: Tensor, gamma: float = 1.0
) -> Tensor:
    """The return (B, T) of each token: its reward and all that follow."""
    return gae(rewards, torch.zeros_like(rewards), counted, gamma, 1.0)


# %% book/alignment/rlhf.md#Critic
class Critic(nn.Module):
    """A model of its own that says at each token what will be earned."""

    def __init__(self, reward_model: Classifier) -> None:
        super().__init__()
        self.trunk = copy.deepcopy(reward_model.trunk)
        self.readout = copy.deepcopy(reward_model.readout)

    def forward(self, ids: Tensor) -> Tensor:
        """Values (B, T) of the texts that end at each of ids (B, T)."""
        values: Tensor = self.readout(self.trunk.hidden(ids))[..., 0]
        return values


# %% book/alignment/rlhf.md#policy_ratio
def policy_ratio(logp: Tensor, drawn: Tensor) -> Tensor:
    """New over old probability of each token, (R, T)."""
    return (logp - drawn).exp()


def clipped_objective(
    ratio: Tensor, advantages: Tensor, low: float, high: float
) -> Tensor:
    """What PPO maximizes: no pay beyond 1 - low and 1 + high.

    `advantages` broadcasts over `ratio`. Schulman et al. (2017); two bounds
    that differ are DAPO's, Yu et al. (2025).
    """
    clipped = ratio.clamp(1 - low, 1 + high)
    return torch.minimum(ratio * advantages, clipped * advantages)


# %% book/alignment/rlhf.md#masked_mean
def masked_mean(values: Tensor, counted: Tensor) -> Tensor:
    """The mean of values (B, T) where `counted`."""
    return torch.where(counted, values, 0.0).sum() / counted.sum()


def ppo_loss(
    logp: Tensor,
    drawn: Tensor,
    advantages: Tensor,
    counted: Tensor,
    clip: float = 0.2,
) -> Tensor:
    """The clipped objective to descend, a mean over tokens."""
    ratio = policy_ratio(logp, drawn)
    gain = clipped_objective(ratio, advantages, clip, clip)
    return -masked_mean(gain, counted)


def value_loss(
    values: Tensor,
    old_values: Tensor,
    returns: Tensor,
    counted: Tensor,
    clip: float = 0.2,
) -> Tensor:
    """Half the squared error, the larger of plain and clipped values."""
    near = old_values + (values - old_values).clamp(-clip, clip)
    plain, clipped = (values - returns) ** 2, (near - returns) ** 2
    return 0.5 * masked_mean(torch.maximum(plain, clipped), counted)


# %% book/alignment/rlhf.md#whiten
def whiten(values: Tensor, counted: Tensor) -> Tensor:
    """Values (B, T) of mean 0 and deviation 1 over what is counted."""
    chosen = values[counted]
    return (values - chosen.mean()) / (chosen.std() + 1e-8)


def explained_variance(
    values: Tensor, returns: Tensor, counted: Tensor
) -> float:
    """The share of the returns' variance that the values foretold."""
    missed = (returns - values)[counted].var()
    return 1 - (missed / returns[counted].var()).item()


# %% book/alignment/rlhf.md#RLHFConfig
@dataclass(frozen=True)
class RLHFConfig:
    """How to learn from scores; an iteration is one batch of replies."""

    iterations: int = 30
    num_tasks: int = 32  # an iteration
    num_samples: int = 4  # a task
    updates: int = 2  # PPO's steps on a batch; the others take one
    temperature: float = 1.0
    max_new_tokens: int = 48
    rate: float = 1.5e-3  # AdamW's
    matrix_rate: float = 1e-2  # Muon's
    max_norm: float = 1.0
    clip: float = 0.2
    gamma: float = 1.0
    lam: float = 0.95
    kl: float = 0.1  # the penalty at the start
    kl_target: float = 2.0  # nats a reply
    kl_gain: float = 0.5  # 0 keeps the penalty as it is
    seed: int = 0

    def __post_init__(self) -> None:
        fine = {
            "iterations": self.iterations >= 1,
            "num_tasks": self.num_tasks >= 1,
            "num_samples": self.num_samples >= 1,
            "updates": self.updates >= 1,
            "temperature": self.temperature > 0,
            "clip": 0 < self.clip < 1,
            "gamma": 0 < self.gamma <= 1,
            "lam": 0 <= self.lam <= 1,
            "kl": self.kl >= 0,
            "kl_target": self.kl_target > 0,
            "kl_gain": self.kl_gain >= 0,
        }
        check_fields(self, fine)


# %% book/alignment/rlhf.md#descend
def descend(
    loss: Tensor, model: nn.Module, optimizer: Optimizers, max_norm: float
) -> float:
    """One step of the optimizer; the gradient's norm before the clip."""
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    norm = clip_gradients(model.parameters(), max_norm)
    optimizer.step()
    return norm.item()


# %% book/alignment/rlhf.md#Reinforce
class Reinforce:
    """One step a batch; the baseline is the mean of the batch."""

    def __init__(self, policy: GPT, config: RLHFConfig) -> None:
        self.policy, self.config = policy.eval(), config
        self.reference = copy.deepcopy(policy).requires_grad_(False)
        self.params = SamplingParams(temperature=config.temperature)
        self.optimizers = [self.optimizer_of(policy)]

    def optimizer_of(self, model: nn.Module) -> Optimizers:
        """Muon and AdamW with the configured rates."""
        config = self.config
        return build_optimizer(
            model, rate=config.rate, matrix_rate=config.matrix_rate
        )

    def logprobs(self, model: GPT, batch: Rollouts) -> Tensor:
        """What `model` thinks of the drawn tokens, ln, (B, T - 1)."""
        return token_logprobs(model, batch.ids, batch.counted, self.params)

    def advantages(self, earned: Tensor) -> Tensor:
        """What each reply (B,) earned, less what was to be expected."""
        return earned - earned.mean()

    def improve(self, batch: Rollouts, rewards: Tensor) -> dict[str, float]:
        """Learn from a batch and the rewards of its tokens; what was seen."""
        advantages = self.advantages(rewards.sum(dim=1))[:, None]
        logp = self.logprobs(self.policy, batch)
        loss = reinforce_loss(logp, advantages, batch.counted)
        norm = descend(
            loss, self.policy, self.optimizers[0], self.config.max_norm
        )
        return {"grad_norm": norm}


# %% book/alignment/rlhf.md#RLOO
class RLOO(Reinforce):
    """One step a batch; the baseline is what the other replies earned."""

    def advantages(self, earned: Tensor) -> Tensor:
        return rloo_advantages(earned, self.config.num_samples)


# %% book/alignment/rlhf.md#PPO
class PPO(Reinforce):
    """Several clipped steps a batch, with advantages from a critic."""

    def __init__(
        self, policy: GPT, config: RLHFConfig, critic: Critic
    ) -> None:
        super().__init__(policy, config)
        self.critic = critic.eval()
        self.optimizers.append(self.optimizer_of(critic))

    def improve(self, batch: Rollouts, rewards: Tensor) -> dict[str, float]:
        config, counted = self.config, batch.counted
        with torch.no_grad():
            old = self.critic(batch.ids[:, :-1])
        advantages = gae(rewards, old, counted, config.gamma, config.lam)
        returns = advantages + old
        seen = {"explained": explained_variance(old, returns, counted)}
        advantages = whiten(advantages, counted)
        actor, reader = self.optimizers
        for _ in range(config.updates):
            logp = self.logprobs(self.policy, batch)
            loss = ppo_loss(
                logp, batch.drawn, advantages, counted, config.clip
            )
            seen["grad_norm"] = descend(
                loss, self.policy, actor, config.max_norm
            )
            values = self.critic(batch.ids[:, :-1])
            loss = value_loss(values, old, returns, counted, config.clip)
            seen["value_loss"] = loss.item()
            descend(loss, self.critic, reader, config.max_norm)
            ratio = policy_ratio(logp.detach(), batch.drawn)[counted]
            far = (ratio - 1).abs() > config.clip
            seen["clipped"] = far.float().mean().item()
        return seen


# %% book/alignment/rlhf.md#METHODS
METHODS = ("ppo", "rloo", "reinforce")


def train_rlhf(
    policy: GPT,
    tokenizer: Tokenizer,
    reward: Scorer,
    tasks: Iterable[Task],
    config: RLHFConfig,
    *,
    method: str = "ppo",
    critic: Critic | None = None,
) -> list[dict[str, float]]:
    """Let `policy` learn from scores of its replies, in place; the log.

    Takes `config.num_tasks` of `tasks` an iteration. "ppo" trains the
    `critic` as well, in place.
    """
    learner = make_learner(policy, config, method, critic)
    control = AdaptiveKL(config.kl, config.kl_target, config.kl_gain)
    supply, log = iter(tasks), list[dict[str, float]]()
    for step in range(config.iterations):
        for optimizer in learner.optimizers:
            optimizer.set_rate(schedule(step, config.iterations))
        batch = collect_rollouts(
            policy, tokenizer, take(supply, config.num_tasks), reward,
            num_samples=config.num_samples, temperature=config.temperature,
            max_new_tokens=config.max_new_tokens,
            seed=config.seed * config.iterations + step,
        )
        with torch.no_grad():
            ref_logp = learner.logprobs(learner.reference, batch)
        row = {"step": step + 1.0, "beta": control.beta}
        row |= describe_rollouts(batch, ref_logp)
        rewards = kl_rewards(
            batch.scores, batch.drawn, ref_logp, batch.counted, control.beta
        )
        row |= learner.improve(batch, rewards)
        control.update(row["kl"])
        log.append(row)
    return log


# %% book/alignment/rlhf.md#make_learner
def make_learner(
    policy: GPT, config: RLHFConfig, method: str, critic: Critic | None
) -> Reinforce:
    """The learner of one of METHODS."""
    if method not in METHODS:
        raise ValueError(f"method {method!r} is none of {METHODS}")
    if method == "ppo":
        if critic is None:
            raise ValueError("PPO needs a critic; give Critic(reward_model)")
        return PPO(policy, config, critic)
    learner = RLOO if method == "rloo" else Reinforce
    return learner(policy, config)


# %% book/alignment/rlhf.md#take
def take(supply: Iterator[_Item], count: int) -> list[_Item]:
    """The next `count` of what an iteration learns from."""
    items = list(islice(supply, count))
    if len(items) < count:
        raise ValueError(
            f"{len(items)} are left of the {count} that an iteration needs; "
            "give as many as all iterations take"
        )
    return items


def schedule(step: int, iterations: int) -> float:
    """The factor of the rates: up in a few steps, then down to zero."""
    warmup = min(5, iterations // 4)
    return warmup_stable_decay(
        step, steps=iterations, warmup=warmup, decay=iterations - warmup
    )


# %% book/alignment/rlhf.md#describe_rollouts
def describe_rollouts(batch: Rollouts, ref_logp: Tensor) -> dict[str, float]:
    """What a batch earned, in truth too, and how it was written."""
    pairs = zip(batch.tasks, batch.texts, strict=True)
    truths = [true_reward(task, text) for task, text in pairs]
    kl = k3_kl(batch.drawn, ref_logp).sum(dim=1)
    return {
        "reward": batch.scores.mean().item(),
        "truth": sum(truths) / len(truths),
        "kl": kl.mean().item(),  # nats a reply
        "entropy": -batch.drawn[batch.counted].mean().item(),
        "length": batch.counted.sum(dim=1).float().mean().item(),
    }
