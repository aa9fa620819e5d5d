# Generated from book/reasoning/distillation.md; do not edit (2239e4989756)
"""What a smaller model learns from a larger one, from its texts, from its
distributions, and from its opinion of what the small one writes itself.
"""

# %% book/reasoning/distillation.md#imports
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from extracted.alignment.instruction_tuning import Example, collate
from extracted.foundations.data import length_buckets
from extracted.foundations.gpt import GPT, GPTConfig, RotaryGPT
from extracted.foundations.language_modeling import END_OF_TEXT
from extracted.foundations.pretraining import Batches, TrainConfig, Trainer
from extracted.foundations.tokenizer import Tokenizer
from extracted.reasoning.chain_of_thought import (
    Attempt,
    encode_question,
    solve,
)
from extracted.reasoning.problems import Problem


# %% book/reasoning/distillation.md#FIRST_CONFIG
FIRST_CONFIG = TrainConfig(
    steps=1000, decay=0.0, log_every=100, evaluate_every=0
)
SECOND_CONFIG = TrainConfig(
    steps=480, decay=1.0, log_every=60, evaluate_every=0
)


def new_student(tokenizer: Tokenizer, *, seed: int = 0) -> RotaryGPT:
    """An untrained model with less than half of the reasoner's weights."""
    shape = GPTConfig(
        tokenizer.vocab_size, 256, 3, 3, 48, bias=False, qk_norm=True
    )
    generator = torch.Generator().manual_seed(seed)
    return RotaryGPT(shape, generator=generator)


# %% book/reasoning/distillation.md#anything
def anything(attempt: Attempt) -> bool:
    """Keeps every attempt."""
    return True


def sound(attempt: Attempt) -> bool:
    """Keeps an attempt whose steps and answer are right."""
    return attempt.correct and all(attempt.verdict.steps)


def written_examples(
    model: GPT,
    tokenizer: Tokenizer,
    problems: Sequence[Problem],
    *,
    temperature: float = 1.0,
    keep: Callable[[Attempt], bool] = anything,
    seed: int = 0,
    max_new_tokens: int = 64,
) -> list[Example]:
    """What `model` writes for each problem, as examples, where `keep` is True.

    Kim and Rush (2016) call training on them sequence-level distillation.
    """
    found = solve(
        model, tokenizer, problems, temperature=temperature, seed=seed,
        max_new_tokens=max_new_tokens,
    )
    return [
        Example(encode_question(tokenizer, problem), attempt.completion.ids)
        for problem, (attempt,) in zip(problems, found, strict=True)
        if keep(attempt)
    ]


# %% book/reasoning/distillation.md#target_logits
def target_logits(model: GPT, inputs: Tensor, counted: Tensor) -> Tensor:
    """Logits (N, V) at the N places of inputs (B, T) where `counted` is 1."""
    states = model.hidden(inputs)[counted > 0]  # (B, T, C) -> (N, C)
    logits: Tensor = model.readout(states)
    return logits.float()


# %% book/reasoning/distillation.md#Divergence
Divergence = Callable[[Tensor, Tensor], Tensor]  # student, teacher: logits
Loss = Callable[[GPT, Tensor, Tensor, Tensor], Tensor]


def forward_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) in nats from logits (..., V), each place's (...).

    What Hinton, Vinyals and Dean (2015) minimize, less a constant.
    """
    ln_p, ln_q = teacher.log_softmax(dim=-1), student.log_softmax(dim=-1)
    return (ln_p.exp() * (ln_p - ln_q)).sum(dim=-1)


def reverse_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(student || teacher) in nats from logits (..., V), each place's."""
    return forward_kl(teacher, student)


def distillation_loss(
    teacher: GPT,
    divergence: Divergence = forward_kl,
    *,
    temperature: float = 1.0,
) -> Loss:
    """A loss for the `Trainer`: the mean divergence where targets count.

    Both distributions are taken at `temperature`, and the result times its
    square, so that gradients keep their size. The targets are not looked at.
    """
    if not temperature > 0:
        raise ValueError(
            f"temperature {temperature} must be positive; use 1 for the "
            "models' own distributions"
        )

    def loss(
        student: GPT, inputs: Tensor, targets: Tensor, counted: Tensor
    ) -> Tensor:
        with torch.no_grad():
            theirs = target_logits(teacher, inputs, counted)
        ours = target_logits(student, inputs, counted)
        each = divergence(ours / temperature, theirs / temperature)
        return temperature**2 * each.mean()

    return loss


# %% book/reasoning/distillation.md#distill
def distill(
    student: GPT,
    teacher: GPT,
    batches: Batches,
    config: TrainConfig,
    *,
    divergence: Divergence = forward_kl,
    temperature: float = 1.0,
) -> list[dict[str, float]]:
    """Train `student` towards `teacher` in place, on `batches`; the log."""
    if student.config.vocab_size != teacher.config.vocab_size:
        raise ValueError(
            f"vocabularies of {student.config.vocab_size} and "
            f"{teacher.config.vocab_size} tokens cannot be compared token by "
            "token; train on the teacher's texts instead"
        )
    teacher.eval()
    loss = distillation_loss(teacher, divergence, temperature=temperature)
    log = Trainer(student, batches, config, loss=loss).run()
    student.eval()
    return log


# %% book/reasoning/distillation.md#disagreement
@torch.no_grad()
def disagreement(
    student: GPT,
    teacher: GPT,
    examples: Sequence[Example],
    divergence: Divergence = forward_kl,
) -> Tensor:
    """The divergence at each token of each target, (B, T), 0 elsewhere.

    Column t holds the t-th tokens of the targets, the longest has T.
    """
    inputs, _, counted = collate(examples, pad_id=0)
    each = divergence(
        target_logits(student, inputs, counted),
        target_logits(teacher, inputs, counted),
    )
    lengths = [len(example.target) for example in examples]
    rows = torch.split(each, lengths)
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)


# %% book/reasoning/distillation.md#OnPolicyBatches
class OnPolicyBatches(Iterator[tuple[Tensor, Tensor, Tensor]]):
    """Batches of what `student` itself writes for `problems`, in order.

    `lot` batches at a time are sampled, with the weights that the student
    has by then. Agarwal et al. (2024), who mix in batches of examples.
    """

    def __init__(
        self,
        student: GPT,
        tokenizer: Tokenizer,
        problems: Sequence[Problem],
        *,
        batch_size: int,
        lot: int = 8,
        temperature: float = 1.0,
    ) -> None:
        self.student, self.tokenizer = student, tokenizer
        self.problems, self.batch_size = problems, batch_size
        self.lot, self.temperature = lot, temperature
        self.lots_written = 0
        self.waiting: list[tuple[Tensor, Tensor, Tensor]] = []

    def __next__(self) -> tuple[Tensor, Tensor, Tensor]:
        if not self.waiting:
            self.waiting = self.write()
        return self.waiting.pop()

    def write(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The next `lot` batches, sampled now."""
        size = self.lot * self.batch_size
        start = self.lots_written * size
        problems = self.problems[start : start + size]
        if len(problems) < size:
            raise ValueError(
                f"{len(problems)} problems are left of the {size} of a lot; "
                "give batch_size for every step, in whole lots"
            )
        examples = written_examples(
            self.student, self.tokenizer, problems, seed=self.lots_written,
            temperature=self.temperature,
        )
        order = length_buckets(
            [len(e.prompt) + len(e.target) for e in examples],
            batch_size=self.batch_size, pool_batches=self.lot,
            seed=self.lots_written,
        )
        self.lots_written += 1
        end = self.tokenizer.special_tokens[END_OF_TEXT]
        return [collate([examples[i] for i in row], end) for row in order]

    def state_dict(self) -> dict[str, Any]:
        """Where the run stands, with the batches that were not read yet."""
        return {
            "lots_written": self.lots_written, "waiting": list(self.waiting)
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken, with the same problems."""
        self.lots_written = state["lots_written"]
        self.waiting = list(state["waiting"])
