# Generated from book/reasoning/reasoning_attention.md; do not edit (dba2cefa6a6a)
"""What a model reads while it reasons, shown by cutting it off; masks that keep a step
to the question and what it depends on, with a correct cache; and a learned preference
for dependency.
"""

# %% book/reasoning/reasoning_attention.md#imports
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extracted.foundations.attention import (
    AttentionConfig,
    KVCache,
    causal_mask,
)
from extracted.foundations.gpt import (
    GPT,
    GPTConfig,
    RotaryAttention,
    RotaryBlock,
    RotaryGPT,
)
from extracted.foundations.tokenizer import Tokenizer
from extracted.reasoning.problems import END_THINK, THINK


# %% book/reasoning/reasoning_attention.md#Marks
@dataclass(frozen=True)
class Marks:
    """Ids of the tokens that give a thought its form."""

    think: int
    end_think: int
    equals: int
    stop: int  # the full stop behind a step
    digits: tuple[int, ...]  # "0" to "9"

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Marks":
        """The marks in a tokenizer of the book's problems."""
        equals, stop, *digits = (
            i for text in "=.0123456789" for i in tokenizer.encode(text)
        )
        special = tokenizer.special_tokens
        return cls(
            special[THINK], special[END_THINK], equals, stop, tuple(digits)
        )


def shift(x: Tensor, fill: int = 0, by: int = 1) -> Tensor:
    """Each row of x (B, T) moved `by` places to the right: the past."""
    return F.pad(x, (by, 0), value=fill)[:, : x.shape[1]]


def segments(ids: Tensor, marks: Marks) -> Tensor:
    """The segment of each of ids (B, T): 0, the question, up to <think>;
    then the steps from 1, each to its full stop; the answer is the last.
    """
    begun = shift((ids == marks.think).cumsum(dim=1)) > 0
    ended = shift((ids == marks.end_think).cumsum(dim=1)) > 0
    before = shift(ids, fill=-1)
    starts = (before == marks.think) | (before == marks.stop)
    starts |= ids == marks.end_think
    return (starts & begun & ~ended).cumsum(dim=1)


# %% book/reasoning/reasoning_attention.md#token_losses
def token_losses(
    model: GPT, inputs: Tensor, targets: Tensor, may: Tensor | None = None
) -> Tensor:
    """Nats (B, T) of targets after inputs; `may` (B, T, T) narrows reading."""
    mask = None if may is None else may[:, None]
    logits = model(inputs, mask=mask).float()
    return F.cross_entropy(
        logits.transpose(1, 2), targets, reduction="none"
    )


@torch.no_grad()
def cost_of_hiding(
    model: GPT, inputs: Tensor, targets: Tensor, hidden: Tensor
) -> Tensor:
    """By how many nats each of targets (B, T) becomes less probable when
    token t may not read token s, wherever `hidden` (B, T, T) is true.

    In all layers at once. A token always reads itself. Geva et al. (2023).
    """
    itself = torch.eye(
        inputs.shape[1], dtype=torch.bool, device=inputs.device
    )
    cut = token_losses(model, inputs, targets, ~hidden | itself)
    return cut - token_losses(model, inputs, targets)


# %% book/reasoning/reasoning_attention.md#numbers
def numbers(ids: Tensor, marks: Marks) -> Tensor:
    """The number (B, T) that the digits up to here spell, -1 elsewhere.

    Of numbers with more than four digits, the last four.
    """
    digit = torch.full_like(ids, -1)
    for value, token in enumerate(marks.digits):
        digit[ids == token] = value
    total, going = torch.zeros_like(ids), digit >= 0
    for place in range(4):
        part = shift(digit, -1, place)
        going = going & (part >= 0)
        total += torch.where(going, part * 10**place, 0)
    return torch.where(digit >= 0, total, -1)


# %% book/reasoning/reasoning_attention.md#Thought
class Thought(NamedTuple):
    """What can be known of a batch of texts, each token from its past."""

    ids: Tensor  # (B, S)
    segment: Tensor  # (B, S)
    computing: Tensor  # (B, S): "=" and the digits behind it
    result: Tensor  # (B, S): the digits behind "="
    needs: Tensor  # (B, M, M): segment m computes with the result of n


def read_thought(ids: Tensor, marks: Marks) -> Thought:
    """Segments, results and dependencies of ids (B, S).

    A step depends on the earlier ones whose result is among its operands.
    """
    segment, number = segments(ids, marks), numbers(ids, marks)
    inside, (B, S) = segment > 0, ids.shape
    place = torch.arange(S, device=ids.device).expand(B, S)
    start = torch.where(segment > shift(segment), place, 0)
    start = start.cummax(dim=1).values
    equals = torch.where(inside & (ids == marks.equals), place, -1)
    behind = shift(equals.cummax(dim=1).values, -1) >= start
    behind &= inside
    ended = torch.where(number < 0, shift(number, -1), -1)

    M = int(segment.max()) + 1
    full = behind & (ids == marks.stop) & (ended >= 0)
    row, at = full.nonzero(as_tuple=True)
    results = torch.full((B, M), -1, device=ids.device)
    results[row, segment[row, at]] = ended[row, at]
    operand = torch.where(inside & ~behind, ended, -1)
    same = operand[:, :, None] == results[:, None, :]  # (B, S, M)
    same &= (operand >= 0)[:, :, None]
    owner = F.one_hot(segment, M).float()  # (B, S, M)
    needs = owner.transpose(1, 2) @ same.float() > 0
    needs &= causal_mask(M, device=ids.device).tril(-1)
    computing = ((equals >= 0) | behind) & (ids != marks.stop)
    result = behind & (number >= 0)
    return Thought(ids, segment, computing, result, needs)


# %% book/reasoning/reasoning_attention.md#depends
def depends(thought: Thought, T: int) -> Tensor:
    """Whether each of the last T tokens may need the step of each token.

    (B, T, S). Behind "=", the steps that gave an operand; before it, all
    earlier ones whose result no step before has used.
    """
    segment, needs = thought.segment, thought.needs
    B, S = segment.shape
    M = needs.shape[1]
    used = needs.cumsum(dim=1) - needs.long() > 0  # by a segment before m
    open_steps = ~used & causal_mask(M, device=needs.device).tril(-1)
    asking = segment[:, -T:, None].expand(B, T, M)
    table = torch.where(
        thought.computing[:, -T:, None],
        needs.gather(1, asking),
        open_steps.gather(1, asking),
    )  # (B, T, M)
    return table.gather(2, segment[:, None, :].expand(B, T, S))


Rule = Callable[[Thought, int], Tensor]  # who reads whom, (B, T, S)


def read_all(thought: Thought, T: int) -> Tensor:
    """The causal mask alone."""
    B, S = thought.segment.shape
    return thought.segment.new_ones(B, T, S, dtype=torch.bool)


def read_own(thought: Thought, T: int) -> Tensor:
    """Only the question and the token's own segment."""
    keys, queries = thought.segment[:, None], thought.segment[:, -T:, None]
    return (keys == 0) | (keys == queries)


def read_results(thought: Thought, T: int) -> Tensor:
    """Of earlier steps the digits of their results, nothing else."""
    return read_own(thought, T) | thought.result[:, None]


def read_needed(thought: Thought, T: int) -> Tensor:
    """Of earlier steps those on which this one depends, or may depend."""
    return read_own(thought, T) | depends(thought, T)


# %% book/reasoning/reasoning_attention.md#StepGPT
class StepGPT(RotaryGPT):
    """The rotary model with a rule for which tokens may read which.

    Its last cache remembers the ids, from which the mask is made.
    """

    def __init__(
        self,
        config: GPTConfig,
        marks: Marks,
        rule: Rule = read_all,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(config, generator=generator)
        self.marks, self.rule = marks, rule

    def make_caches(self, batch_size: int, max_seq_len: int) -> list[KVCache]:
        """One a block, and one of "heads" of width 1 for the ids."""
        caches = super().make_caches(batch_size, max_seq_len)
        ids = KVCache(
            batch_size, max_seq_len, num_heads=1, head_width=1,
            device=caches[0].keys.device, dtype=torch.long,
        )
        return [*caches, ids]

    def pattern(self, ids: Tensor, T: int) -> Tensor:
        """What the last T of ids (B, S) may read, (B, 1, T, S)."""
        return self.rule(read_thought(ids, self.marks), T)[:, None]

    def hidden(
        self,
        ids: Tensor,
        *,
        mask: Tensor | None = None,
        caches: list[KVCache] | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """As in GPT; a padding mask (B, S) is joined with the rule's."""
        T, seen = ids.shape[1], ids
        past = caches[0].length if caches else 0
        if positions is None:
            positions = self.count_positions(ids, mask, past)
        if caches:
            *caches, memory = caches
            line = ids[:, None, :, None]  # (B, T) -> (B, 1, T, 1)
            seen = memory.append(line, line)[0][:, 0, :, 0]
        pattern = self.pattern(seen, T)
        if mask is not None:
            wide = mask[:, None, None] if mask.dim() == 2 else mask
            pattern = pattern * wide
        return super().hidden(
            ids, mask=pattern, caches=caches, positions=positions
        )


# %% book/reasoning/reasoning_attention.md#with_rule
def with_rule(
    model: GPT,
    tokenizer: Tokenizer,
    rule: Rule,
    *,
    model_class: type[StepGPT] = StepGPT,
) -> StepGPT:
    """A copy of a rotary model that reads by a rule."""
    copy = model_class(model.config, Marks.of(tokenizer), rule)
    copy.load_state_dict(model.state_dict(), strict=False)
    return copy.train(model.training)


# %% book/reasoning/reasoning_attention.md#BiasedAttention
class BiasedAttention(RotaryAttention):
    """Attention that may prefer needed steps, or near ones, by a number.

    Its mask is (B, 3, T, S): what may be read, what is needed, how far it is.
    The biases start at 0; a mask is the bias of minus infinity.
    """

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__(config)
        self.dependency_bias = nn.Parameter(torch.zeros(config.num_heads))
        self.proximity_bias = nn.Parameter(torch.zeros(config.num_heads))

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> Tensor:
        assert mask is not None and mask.shape[1] == 3
        may, needed, distance = mask.chunk(3, dim=1)  # (B, 1, T, S) each
        bias = self.dependency_bias[:, None, None] * needed
        bias = bias - self.proximity_bias[:, None, None] * distance
        bias = bias.masked_fill(~self.readable(q, k, may > 0), -math.inf)
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=bias, dropout_p=self.weight_dropout
        )


class BiasedBlock(RotaryBlock):
    """A layer with biased attention."""

    attention_class = BiasedAttention


class BiasedGPT(StepGPT):
    """A model that learns how much dependency and proximity are worth."""

    block_class = BiasedBlock

    def pattern(self, ids: Tensor, T: int) -> Tensor:
        """The mask, the needed and the distance in segments, (B, 3, T, S)."""
        thought = read_thought(ids, self.marks)
        segment = thought.segment
        keys, queries = segment[:, None], segment[:, -T:, None]
        distance = (queries - keys).clamp(min=0) * (keys > 0)
        needed = depends(thought, T) & (keys > 0)
        parts = [self.rule(thought, T), needed, distance]
        return torch.stack([part.float() for part in parts], dim=1)
