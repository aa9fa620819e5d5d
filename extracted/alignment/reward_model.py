# Generated from book/alignment/reward_model.md; do not edit (3ee81ee688f1)
"""From pairs of replies to a number for each; how much of what was meant it learned,
how honest it is, and what happens when it is believed too much.
"""

# %% book/alignment/reward_model.md#imports
import copy
import json
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_model as load_weights
from safetensors.torch import save_model as save_weights
from torch import Tensor

from extracted.alignment.classification import (
    Classifier,
    LengthBatches,
    class_logits,
)
from extracted.alignment.instruction_tuning import (
    COURTESIES,
    INSULTS,
    Message,
    Task,
    ask,
    generate_tasks,
    is_right,
    reply_example,
    train_assistant,
    words,
)
from extracted.foundations.data import pad_batch
from extracted.foundations.gpt import GPT
from extracted.foundations.pretraining import (
    TrainConfig,
    Trainer,
    load_model,
    save_model,
)
from extracted.foundations.tokenizer import Tokenizer


# %% book/alignment/reward_model.md#true_reward
def true_reward(task: Task, reply: str) -> float:
    """What the people of the story world think of a reply.

    1 for a right answer, 0.5 more for a courteous beginning, 0.5 less for an
    insult, and 0.05 less for each word beyond what was needed and a courtesy.
    """
    reward = 1.0 if is_right(task, reply) else 0.0
    reward += 0.5 * reply.startswith(COURTESIES)
    reward -= 0.5 * any(insult in reply for insult in INSULTS)
    needed = count_words(task.sentence) + 2
    return reward - 0.05 * max(0, count_words(reply) - needed)


def count_words(text: str) -> int:
    """How many words a text has."""
    return len(words(text).split())


# %% book/alignment/reward_model.md#sigmoid
def sigmoid(z: float) -> float:
    """1 / (1 + exp(-z)), for any z."""
    small = math.exp(-abs(z))
    return (1 if z >= 0 else small) / (1 + small)


# %% book/alignment/reward_model.md#Preference
@dataclass(frozen=True)
class Preference:
    """Two replies to a task, of which somebody prefers the first.

    `grade`, from 0 to 3, says how much better it felt.
    """

    task: Task
    chosen: str
    rejected: str
    grade: int = 0


# %% book/alignment/reward_model.md#GRADES
GRADES = (0.25, 0.5, 1.0)  # felt differences above which the grade is higher


def prefer(
    task: Task,
    first: str,
    second: str,
    rng: random.Random,
    *,
    noise: float = 0.2,
    length_bias: float = 0.0,
) -> Preference:
    """A person's choice, by Bradley and Terry's model.

    The first is preferred with probability sigmoid of the difference of
    rewards over `noise`; `length_bias` is what a word more adds for people
    who take length for care. The grade counts the GRADES that the felt
    difference exceeds.
    """
    a, b = (
        true_reward(task, reply) + length_bias * count_words(reply)
        for reply in (first, second)
    )
    u = min(max(rng.random(), 1e-12), 1 - 1e-12)
    felt = a - b + noise * math.log((1 - u) / u)  # with logistic noise
    grade = sum(abs(felt) > cut for cut in GRADES)
    if felt > 0:
        return Preference(task, first, second, grade)
    return Preference(task, second, first, grade)


# %% book/alignment/reward_model.md#collect_preferences
def collect_preferences(
    model: GPT,
    tokenizer: Tokenizer,
    tasks: Sequence[Task],
    *,
    seed: int = 0,
    noise: float = 0.2,
    length_bias: float = 0.0,
) -> list[Preference]:
    """Sample two replies to each task, and ask which is better.

    Tasks whose two replies are the same give no pair.
    """
    rng = random.Random(f"preferences {seed}")
    found = ask(
        model, tokenizer, [task.prompt for task in tasks],
        temperature=1.0, num_samples=2, seed=seed,
    )
    return [
        prefer(
            task, first.text, second.text, rng,
            noise=noise, length_bias=length_bias,
        )
        for task, (first, second) in zip(tasks, found, strict=True)
        if first.text != second.text
    ]


# %% book/alignment/reward_model.md#best_accuracy
def best_accuracy(pairs: Sequence[Preference], *, noise: float = 0.2) -> float:
    """The share of choices that one who knows the true rewards foresees."""
    gaps = [
        true_reward(pair.task, pair.chosen)
        - true_reward(pair.task, pair.rejected)
        for pair in pairs
    ]
    return sum(sigmoid(abs(gap) / noise) for gap in gaps) / len(gaps)


# %% book/alignment/reward_model.md#ChatPreference
@dataclass(frozen=True)
class ChatPreference:
    """Two replies to a conversation, of which the first is preferred."""

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str


# %% book/alignment/reward_model.md#encode_reply
def encode_reply(
    tokenizer: Tokenizer, task: Task | Sequence[Message], reply: str
) -> list[int]:
    """The ids of a prompt or conversation, a reply and its end mark."""
    messages = (
        [Message("user", task.prompt)] if isinstance(task, Task) else task
    )
    example = reply_example(tokenizer, messages, reply)
    return example.prompt + example.target


def new_reward_model(assistant: GPT) -> Classifier:
    """A copy of the assistant with one output, which is 0 at first."""
    return Classifier(copy.deepcopy(assistant), 1)


def pairwise_loss(
    model: Classifier,
    ids: Tensor,
    mask: Tensor,
    margin: float | Tensor = 0.0,
) -> Tensor:
    """-ln sigmoid(chosen - rejected - margin), the mean over pairs.

    ids and mask (2B, T): B chosen texts, then the B rejected; a margin for
    all, or one each (B,). Christiano et al. (2017); the margin is Llama 2's.
    """
    chosen, rejected = model(ids, mask)[:, 0].chunk(2)
    return -F.logsigmoid(chosen - rejected - margin).mean()


# %% book/alignment/reward_model.md#REWARD_CONFIG
REWARD_CONFIG = TrainConfig(
    steps=200, rate=1.25e-3, matrix_rate=7.5e-3, log_every=20,
    evaluate_every=0,
)


def fit_reward_model(
    model: Classifier,
    tokenizer: Tokenizer,
    pairs: Sequence[Preference | ChatPreference],
    config: TrainConfig = REWARD_CONFIG,
    *,
    batch_size: int = 16,
    margin: float = 0.0,
) -> list[dict[str, float]]:
    """Train a reward model on pairs, in place; the log.

    A pair of grade g has the margin g * `margin`, in nats.
    """
    rows = []
    for pair in pairs:
        prompt, grade = (
            (pair.task, pair.grade)
            if isinstance(pair, Preference)
            else (pair.prompt, 0)
        )
        sides = (pair.chosen, pair.rejected)
        good, bad = (encode_reply(tokenizer, prompt, side) for side in sides)
        rows.append((good, bad, margin * grade))

    def join(
        batch: list[tuple[list[int], list[int], float]],
    ) -> tuple[Tensor, ...]:
        chosen, rejected, margins = zip(*batch, strict=True)
        ids, mask = pad_batch([*chosen, *rejected], pad_id=0)
        return ids, mask, torch.tensor(margins)

    batches = LengthBatches(
        rows, [len(chosen) for chosen, _, _ in rows], join,
        batch_size=batch_size, seed=config.seed,
    )
    trainer = Trainer(model, batches, config, loss=pairwise_loss)
    log = trainer.run()
    model.eval()
    return log


# %% book/alignment/reward_model.md#score_replies
def score_replies(
    model: Classifier,
    tokenizer: Tokenizer,
    tasks: Sequence[Task | Sequence[Message]],
    replies: Sequence[str],
) -> Tensor:
    """The reward model's scores (N,) of replies to tasks, one each."""
    rows = [
        encode_reply(tokenizer, task, reply)
        for task, reply in zip(tasks, replies, strict=True)
    ]
    return class_logits(model, rows)[:, 0]


def score_differences(
    model: Classifier, tokenizer: Tokenizer, pairs: Sequence[Preference]
) -> Tensor:
    """Chosen minus rejected, in nats, for each of N pairs; (N,)."""
    tasks = [pair.task for pair in pairs]
    chosen = [pair.chosen for pair in pairs]
    rejected = [pair.rejected for pair in pairs]
    good = score_replies(model, tokenizer, tasks, chosen)
    return good - score_replies(model, tokenizer, tasks, rejected)


# %% book/alignment/reward_model.md#save_reward_model
def save_reward_model(
    model: Classifier, tokenizer: Tokenizer, directory: str | Path
) -> None:
    """Save the trunk as any model, and the head beside it."""
    save_model(model.trunk, tokenizer, directory)
    save_weights(model.readout, str(Path(directory, "head.safetensors")))


def load_reward_model(directory: str | Path) -> tuple[Classifier, Tokenizer]:
    """What `save_reward_model` saved."""
    trunk, tokenizer = load_model(directory)
    model = Classifier(trunk, 1)
    load_weights(model.readout, Path(directory, "head.safetensors"))
    return model.eval(), tokenizer


# %% book/alignment/reward_model.md#train_reward_model
def train_reward_model(
    directory: str | Path,
    *,
    assistant: str | Path | None = None,
    num_tasks: int = 4000,
) -> list[dict[str, float]]:
    """Make and save the book's reward model; the log.

    `assistant` is the folder of one; without, it is trained first.
    """
    with TemporaryDirectory() as scratch:
        if assistant is None:
            train_assistant(scratch)
        policy, tokenizer = load_model(assistant or scratch)
    tasks = generate_tasks(num_tasks, seed=1)
    pairs = collect_preferences(policy, tokenizer, tasks, seed=1)
    model = new_reward_model(policy)
    log = fit_reward_model(model, tokenizer, pairs)
    save_reward_model(model, tokenizer, directory)
    return log


# %% book/alignment/reward_model.md#Bin
@dataclass(frozen=True)
class Bin:
    """What has similar scores: mean score, share of right ones, number."""

    score: float
    right: float
    count: int


def reliability(
    scores: Sequence[float], labels: Sequence[bool], *, bins: int = 10
) -> list[Bin]:
    """Equal bins of [0, 1] that hold a score, in order."""
    if any(not 0 <= score <= 1 for score in scores):
        raise ValueError("a score outside [0, 1] is no probability")
    members: dict[int, list[tuple[float, bool]]] = {}
    for score, label in zip(scores, labels, strict=True):
        place = min(int(score * bins), bins - 1)
        members.setdefault(place, []).append((score, label))
    return [
        Bin(
            sum(score for score, _ in group) / len(group),
            sum(label for _, label in group) / len(group),
            len(group),
        )
        for _, group in sorted(members.items())
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """The expected calibration error. Guo et al. (2017)."""
    total = sum(b.count for b in bins)
    return sum(b.count * abs(b.score - b.right) for b in bins) / total


# %% book/alignment/reward_model.md#fit_platt
def fit_platt(
    logits: Sequence[float], labels: Sequence[bool]
) -> tuple[float, float]:
    """The a and b of which a * logit + b has the lowest loss. Platt (1999)."""
    if len(set(labels)) < 2:
        raise ValueError("calibration needs right and wrong examples")
    z = torch.tensor(logits, dtype=torch.float64)
    y = torch.tensor(labels, dtype=torch.float64)
    line = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([line], max_iter=100)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(line[0] * z + line[1], y)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    a, b = line.tolist()
    return a, b


# %% book/alignment/reward_model.md#center
def center(scores: Tensor) -> Tensor:
    """Scores (P, N) of N replies to each of P prompts, less their means."""
    return scores - scores.mean(dim=-1, keepdim=True)


# %% book/alignment/reward_model.md#length_slope
def length_slope(scores: Tensor, lengths: Tensor) -> float:
    """Score per word: least squares within prompts; both (P, N).

    ValueError where no prompt has replies of different lengths.
    """
    x, y = center(lengths.float()), center(scores)
    if not x.any():
        raise ValueError("all replies to a prompt are equally long")
    return ((x * y).sum() / (x * x).sum()).item()


def balance_lengths(
    pairs: Sequence[Preference], *, seed: int = 0, width: int = 4
) -> list[Preference]:
    """Pairs of which the longer reply is chosen as often as the shorter.

    This holds in each class of length differences, `width` words wide; what
    is in excess is left out at random. Pairs of one length are kept.
    """
    groups: dict[int, tuple[list[Preference], list[Preference]]] = {}
    kept = []
    for pair in pairs:
        more = count_words(pair.chosen) - count_words(pair.rejected)
        if more:
            sides = groups.setdefault((abs(more) - 1) // width, ([], []))
            sides[more > 0].append(pair)
        else:
            kept.append(pair)
    rng = random.Random(f"balance {seed}")
    for sides in groups.values():
        count = min(map(len, sides))
        kept += [pair for side in sides for pair in rng.sample(side, count)]
    rng.shuffle(kept)
    return kept


# %% book/alignment/reward_model.md#best_of_kl
def best_of_kl(n: int) -> float:
    """How far best-of-n is from one sample, in nats: ln n - (n - 1) / n.

    Exact where no two scores are equal, else an upper bound.
    """
    if n < 1:
        raise ValueError(f"best of {n}: at least one sample is needed")
    return math.log(n) - (n - 1) / n


def best_of_n(
    scores: Tensor, values: Tensor, counts: Sequence[int]
) -> list[float]:
    """The mean value of the reply with the best score among n, for each n.

    `scores` and `values` (P, M) are of M samples for each prompt; the mean
    is over prompts and all subsets of n of the M. Gao et al. (2023).
    """
    M = scores.shape[1]
    if not all(1 <= n <= M for n in counts):
        raise ValueError(f"counts {list(counts)}: from 1 to the {M} samples")
    order = scores.argsort(dim=1, stable=True)  # the worst first
    ranked = values.gather(1, order).double().mean(dim=0)
    means = []
    for n in counts:
        ways = [math.comb(i, n - 1) / math.comb(M, n) for i in range(M)]
        means.append((torch.tensor(ways).double() * ranked).sum().item())
    return means


# %% book/alignment/reward_model.md#read_messages
def read_messages(value: Any) -> tuple[Message, ...]:
    """Messages of a list of {"role", "content"}, or of Anthropic's text."""
    if isinstance(value, str):
        roles = {"Human": "user", "Assistant": "assistant"}
        before, *turns = re.split(r"\n\n(Human|Assistant):", value)
        if before.strip() or not turns:
            raise ValueError(
                'text that does not begin with "\\n\\nHuman:"; give a "prompt"'
            )
        return tuple(
            Message(roles[name], text.strip())
            for name, text in zip(turns[::2], turns[1::2], strict=True)
        )
    try:
        found = tuple(Message(str(m["role"]), m["content"]) for m in value)
    except (TypeError, KeyError):
        raise ValueError(
            'messages must be a list of {"role": ..., "content": ...}'
        ) from None
    if not all(isinstance(message.content, str) for message in found):
        raise ValueError("the content of a message must be a string")
    return found


# %% book/alignment/reward_model.md#read_preference
def read_preference(record: Any) -> ChatPreference:
    """A pair from one decoded line, in any form `load_preferences` reads."""
    if not isinstance(record, dict):
        raise ValueError("not an object; write one {...} a line")
    for name in ("chosen", "rejected"):
        if not record.get(name):
            raise ValueError(f'no "{name}"; each pair needs both replies')
    chosen, rejected = record["chosen"], record["rejected"]
    prompt = record.get("prompt")
    if isinstance(chosen, str) and isinstance(rejected, str) and prompt:
        start = (
            (Message("user", prompt),)
            if isinstance(prompt, str)
            else read_messages(prompt)
        )
        return ChatPreference(start, chosen.strip(), rejected.strip())
    before = read_messages(prompt) if isinstance(prompt, list) else ()
    ends = [before + read_messages(side) for side in (chosen, rejected)]
    (*first, good), (*second, bad) = ends
    if good.role != "assistant" or bad.role != "assistant":
        raise ValueError(
            "a side does not end with the assistant; cut it there"
        )
    if first != second:
        raise ValueError("the sides differ before the last reply; cut them")
    if not first:
        raise ValueError("a reply to nothing; give the messages before it")
    return ChatPreference(tuple(first), good.content, bad.content)


# %% book/alignment/reward_model.md#load_preferences
def load_preferences(path: str | Path) -> list[ChatPreference]:
    """Pairs from JSON lines, each with "chosen" and "rejected".

    Both are strings beside a "prompt", lists of messages (with the prompt in
    them, or beside them), or Anthropic's "\\n\\nHuman: ..." texts. Pairs of
    equal replies are left out. ValueError names the file and line of a bad
    one, and the remedy.
    """
    pairs = []
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                pairs.append(read_preference(json.loads(line)))
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"{path}:{number}: not JSON ({error.msg}); write one "
                    "object a line"
                ) from None
            except ValueError as error:
                raise ValueError(f"{path}:{number}: {error}") from None
    return [pair for pair in pairs if pair.chosen != pair.rejected]
