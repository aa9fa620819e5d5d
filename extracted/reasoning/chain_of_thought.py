# Generated from book/reasoning/chain_of_thought.md; do not edit (8400903c313f)
"""The same model and examples trained on answers alone and on steps; why steps help,
what in them helps, and how long a thought may be.
"""

# %% book/reasoning/chain_of_thought.md#imports
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from extracted.foundations.data import length_buckets, pad_batch
from extracted.foundations.generation import (
    Completion,
    SamplingParams,
    generate,
)
from extracted.foundations.gpt import GPT, GPTConfig, RotaryGPT
from extracted.foundations.language_modeling import END_OF_TEXT, Dice
from extracted.foundations.pretraining import (
    TrainConfig,
    Trainer,
    load_model,
    save_model,
)
from extracted.foundations.tokenizer import Tokenizer
from extracted.reasoning.problems import (
    END_THINK,
    THINK,
    Problem,
    Verdict,
    check_rationale,
    generate_problems,
    train_problem_tokenizer,
    write_rationale,
)


# %% book/reasoning/chain_of_thought.md#Writer
Writer = Callable[[Problem, Dice], str]  # a solution to train on


def answer_only(problem: Problem, dice: Dice) -> str:
    """The answer at once."""
    return f"#### {problem.answer}"


def think_first(problem: Problem, dice: Dice) -> str:
    """The steps in a valid order, between the marks, and the answer."""
    thought = write_rationale(problem, dice)
    return f"{THINK}{thought}{END_THINK}#### {problem.answer}"


@dataclass(frozen=True)
class Example:
    """Token ids of a prompt and of the target that shall follow it."""

    prompt: list[int]
    target: list[int]


def encode_question(tokenizer: Tokenizer, problem: Problem) -> list[int]:
    """A separator and the question, which begins with a space."""
    start = tokenizer.special_tokens[END_OF_TEXT]
    return [start, *tokenizer.encode(" " + problem.question)]


def make_examples(
    problems: Sequence[Problem],
    tokenizer: Tokenizer,
    write: Writer,
    *,
    seed: int = 0,
) -> list[Example]:
    """What `write` writes for each problem, and the separator to end it."""
    dice = Dice(random.Random(seed))
    return [
        Example(
            encode_question(tokenizer, problem),
            tokenizer.encode(
                write(problem, dice) + END_OF_TEXT, allowed_special="all"
            ),
        )
        for problem in problems
    ]


# %% book/reasoning/chain_of_thought.md#target_loss
def target_loss(
    model: Callable[[Tensor], Tensor],
    inputs: Tensor,
    targets: Tensor,
    counted: Tensor,
) -> Tensor:
    """Mean cross-entropy in nats of targets (B, T) where `counted` is 1."""
    logits = model(inputs).float()
    losses = F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), reduction="none"
    )
    return (losses * counted.flatten()).sum() / counted.sum()


def collate(
    examples: Sequence[Example], pad_id: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, targets and the loss mask, each (B, T), padded on the right."""
    rows = [example.prompt + example.target for example in examples]
    ids, mask = pad_batch(rows, pad_id=pad_id)
    counted = mask.float()
    for row, example in enumerate(examples):
        counted[row, : len(example.prompt)] = 0.0
    return ids[:, :-1], ids[:, 1:], counted[:, 1:]


# %% book/reasoning/chain_of_thought.md#Item
Item = TypeVar("Item")


class LengthBatches(Iterator[tuple[Tensor, ...]], Generic[Item]):
    """Endless batches of items of similar length, each once an epoch.

    `join` makes the tensors of a batch from its items.
    """

    def __init__(
        self,
        items: Sequence[Item],
        lengths: Sequence[int],
        join: Callable[[list[Item]], tuple[Tensor, ...]],
        *,
        batch_size: int,
        seed: int = 0,
    ) -> None:
        if len(items) < batch_size:
            raise ValueError(
                f"{len(items)} examples do not fill a batch of "
                f"{batch_size}; give more, or a smaller batch_size"
            )
        self.items, self.lengths, self.join = items, lengths, join
        self.batch_size, self.seed = batch_size, seed
        self.per_epoch = -(-len(items) // batch_size)
        self.batches_read, self._epoch = 0, -1

    def __next__(self) -> tuple[Tensor, ...]:
        epoch, place = divmod(self.batches_read, self.per_epoch)
        if epoch != self._epoch:
            self._order = length_buckets(
                self.lengths, batch_size=self.batch_size, seed=self.seed,
                epoch=epoch,
            )
            self._epoch = epoch
        self.batches_read += 1
        return self.join([self.items[i] for i in self._order[place]])

    def state_dict(self) -> dict[str, int]:
        """Where the run stands."""
        return {"batches_read": self.batches_read, "seed": self.seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where `state` was taken, with the same examples."""
        if state["seed"] != self.seed:
            raise ValueError(
                f"the state is of seed {state['seed']}, not {self.seed}"
            )
        self.batches_read = state["batches_read"]


class ExampleBatches(LengthBatches[Example]):
    """Such batches of examples: inputs, targets and the loss mask."""

    def __init__(
        self,
        examples: Sequence[Example],
        *,
        batch_size: int,
        pad_id: int,
        seed: int = 0,
    ) -> None:
        lengths = [len(e.prompt) + len(e.target) for e in examples]
        super().__init__(
            examples, lengths, partial(collate, pad_id=pad_id),
            batch_size=batch_size, seed=seed,
        )


# %% book/reasoning/chain_of_thought.md#REASONER_CONFIG
REASONER_CONFIG = TrainConfig(steps=1800, log_every=100, evaluate_every=0)
BATCH_SIZE = 16


def finetune(
    model: GPT,
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    config: TrainConfig,
) -> list[dict[str, float]]:
    """Train a model on examples in place; the log."""
    batches = ExampleBatches(
        examples, batch_size=BATCH_SIZE, seed=config.seed,
        pad_id=tokenizer.special_tokens[END_OF_TEXT],
    )
    trainer = Trainer(model, batches, config, loss=target_loss)
    log = trainer.run()
    model.eval()
    return log


def new_reasoner(tokenizer: Tokenizer, *, seed: int = 0) -> RotaryGPT:
    """An untrained model in the shape of the book's reasoner."""
    shape = GPTConfig(
        tokenizer.vocab_size, 256, 4, 4, 64, bias=False, qk_norm=True
    )
    generator = torch.Generator().manual_seed(seed)
    return RotaryGPT(shape, generator=generator)


# %% book/reasoning/chain_of_thought.md#fresh_reasoner
def fresh_reasoner(
    *,
    write: Writer = think_first,
    config: TrainConfig = REASONER_CONFIG,
) -> tuple[RotaryGPT, Tokenizer, list[dict[str, float]]]:
    """A new model trained on what `write` makes of problems, and the log."""
    with TemporaryDirectory() as scratch:
        train_problem_tokenizer(scratch)
        tokenizer = Tokenizer.load(scratch)
    count = config.steps * BATCH_SIZE
    problems = generate_problems(count, seed=config.seed)
    examples = make_examples(problems, tokenizer, write, seed=config.seed)
    model = new_reasoner(tokenizer, seed=config.seed)
    log = finetune(model, examples, tokenizer, config)
    return model, tokenizer, log


def train_reasoner(
    directory: str | Path,
    *,
    write: Writer = think_first,
    config: TrainConfig = REASONER_CONFIG,
) -> list[dict[str, float]]:
    """Save a `fresh_reasoner`; the log."""
    model, tokenizer, log = fresh_reasoner(write=write, config=config)
    save_model(model, tokenizer, directory)
    return log


def train_direct_answerer(directory: str | Path) -> None:
    """The twin: the same model, problems and steps, answers alone."""
    train_reasoner(directory, write=answer_only)


def load_reasoner(directory: str | Path) -> tuple[RotaryGPT, Tokenizer]:
    """A model that `train_reasoner` saved, and its tokenizer."""
    model, tokenizer = load_model(directory, model_class=RotaryGPT)
    assert isinstance(model, RotaryGPT)
    return model, tokenizer


# %% book/reasoning/chain_of_thought.md#Attempt
@dataclass(frozen=True)
class Attempt:
    """What a model wrote for a problem, and what the checker says of it."""

    completion: Completion
    text: str
    verdict: Verdict

    @property
    def answer(self) -> str:
        """What stands behind ####, or ""."""
        return self.text.partition("####")[2].strip()

    @property
    def correct(self) -> bool:
        """Whether the answer is right, whatever the steps are."""
        return self.verdict.answer


def judge(
    tokenizer: Tokenizer, problem: Problem, completion: Completion
) -> Attempt:
    """A completion as an attempt at a problem."""
    end = tokenizer.special_tokens[END_OF_TEXT]
    text = tokenizer.decode([i for i in completion.ids if i != end])
    plain = text.replace(THINK, "").replace(END_THINK, "")
    return Attempt(completion, text, check_rationale(problem, plain))


# %% book/reasoning/chain_of_thought.md#solve
def solve(
    model: GPT,
    tokenizer: Tokenizer,
    problems: Sequence[Problem],
    *,
    temperature: float = 0.0,
    num_samples: int = 1,
    seed: int = 0,
    max_new_tokens: int = 96,
) -> list[list[Attempt]]:
    """`num_samples` attempts at each problem, judged."""
    params = SamplingParams(
        max_new_tokens=max_new_tokens, temperature=temperature, seed=seed,
        stop_ids=(tokenizer.special_tokens[END_OF_TEXT],),
    )
    prompts = [encode_question(tokenizer, problem) for problem in problems]
    found = generate(model, prompts, params, num_samples=num_samples)
    return [
        [judge(tokenizer, problem, completion) for completion in completions]
        for problem, completions in zip(problems, found, strict=True)
    ]


# %% book/reasoning/chain_of_thought.md#wilson_interval
def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a rate of which `right` of `total` were seen."""
    if total < 1:
        raise ValueError("no trials: an interval needs at least one")
    z, rate = 1.959964, right / total
    middle = rate + z * z / (2 * total)
    half = z * math.sqrt(rate * (1 - rate) / total + (z / total) ** 2 / 4)
    scale = 1 + z * z / total
    return max(0.0, (middle - half) / scale), (middle + half) / scale


def paired_p_value(first: Sequence[bool], second: Sequence[bool]) -> float:
    """McNemar's exact two-sided p-value for two results on one exam."""
    pairs = list(zip(first, second, strict=True))
    wins = sum(a and not b for a, b in pairs)
    n = wins + sum(b and not a for a, b in pairs)
    low = min(wins, n - wins)
    tail = sum(math.comb(n, k) for k in range(low + 1))
    return min(1.0, tail / 2 ** (n - 1) if n else 1.0)


# %% book/reasoning/chain_of_thought.md#think_within
def think_within(
    model: GPT,
    tokenizer: Tokenizer,
    problems: Sequence[Problem],
    budget: int,
    *,
    extend: int = 0,
) -> list[Attempt]:
    """Greedy attempts whose thoughts are cut after `budget` tokens.

    So many times, `extend`, the end of each thought is replaced by a space,
    where a further step can begin, and `budget` tokens more are allowed.
    """
    special, space = tokenizer.special_tokens, tokenizer.encode(" ")
    heads = [
        [*encode_question(tokenizer, p), special[THINK]] for p in problems
    ]
    texts = heads
    params = SamplingParams(
        max_new_tokens=budget, temperature=0.0, stop_ids=(special[END_THINK],)
    )
    for turn in range(extend + 1):
        begun = [text + space for text in texts] if turn else texts
        found = generate(model, begun, params)
        texts = [
            text + [i for i in completion.ids if i != special[END_THINK]]
            for text, (completion,) in zip(begun, found, strict=True)
        ]
    forced = tokenizer.encode(f"{END_THINK}####", allowed_special="all")
    texts = [text + forced for text in texts]
    params = replace(
        params, max_new_tokens=4, stop_ids=(special[END_OF_TEXT],)
    )
    found = generate(model, texts, params)
    rows = zip(problems, heads, texts, found, strict=True)
    return [
        judge(tokenizer, p, replace(end, ids=text[len(head) - 1 :] + end.ids))
        for p, head, text, (end,) in rows
    ]
