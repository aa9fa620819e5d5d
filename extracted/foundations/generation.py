# Generated from book/foundations/generation.md; do not edit (41c9d58801be)
"""Text from a trained model, chosen token by token with a key-value cache, for many
requests at once, each with its own seed, stop conditions and stream.
"""

# %% book/foundations/generation.md#imports
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from extracted.foundations.data import pad_batch, scramble
from extracted.foundations.gpt import GPT
from extracted.foundations.tokenizer import ByteVocabulary, StreamDecoder


# %% book/foundations/generation.md#keep_top_k
def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Logits (B, V) with all but the k largest at -inf; ties stay.

    Fan, Lewis and Dauphin (2018).
    """
    if k >= logits.shape[-1]:
        return logits
    least = logits.topk(k, dim=-1).values[..., -1:]
    return logits.masked_fill(logits < least, -math.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Logits (B, V) of the fewest tokens whose probability reaches p.

    The most probable token always stays. Holtzman et al. (2020).
    """
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    probs = ordered.softmax(dim=-1)
    enough = probs.cumsum(dim=-1) - probs >= p  # reached before this token
    enough[..., 0] = False
    dropped = enough.scatter(-1, order, enough)
    return logits.masked_fill(dropped, -math.inf)


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Logits (B, V) of tokens at least p times as probable as the best.

    Nguyen et al. (2024).
    """
    least = logits.amax(dim=-1, keepdim=True) + math.log(p)
    return logits.masked_fill(logits < least, -math.inf)


# %% book/foundations/generation.md#penalize_repetition
def penalize_repetition(
    logits: Tensor, seen: Tensor, penalty: float
) -> Tensor:
    """Logits (B, V), lower where `seen` (B, V). Keskar et al. (2019)."""
    lower = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, lower, logits)


# %% book/foundations/generation.md#SamplingParams
@dataclass(frozen=True)
class SamplingParams:
    """How one request chooses its tokens, and when it ends."""

    max_new_tokens: int = 64
    temperature: float = 1.0  # 0 takes the most probable token
    top_k: int = 0  # 0 keeps all
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop_ids: tuple[int, ...] = ()  # tokens that end the text
    stop: tuple[str, ...] = ()  # strings that do; not part of the text
    seed: int = 0

    def __post_init__(self) -> None:
        sound = {
            "max_new_tokens": self.max_new_tokens >= 1,
            "temperature": 0 <= self.temperature < math.inf,
            "top_k": self.top_k >= 0,
            "top_p": 0 < self.top_p <= 1,
            "min_p": 0 <= self.min_p <= 1,
            "repetition_penalty": self.repetition_penalty > 0,
            "stop": not isinstance(self.stop, str) and all(self.stop),
            "seed": 0 <= self.seed < 2**64,
        }
        check_fields(self, sound)


def check_fields(config: object, sound: Mapping[str, bool]) -> None:
    """Refuse a configuration with a field that is not sound."""
    for name, fine in sound.items():
        if not fine:
            raise ValueError(
                f"{name} {getattr(config, name)!r} makes no sense; see "
                f"{type(config).__name__} for its range"
            )


def warp(
    logits: Tensor, params: SamplingParams, seen: Tensor | None = None
) -> Tensor:
    """The logits (B, V) to draw from: penalty, temperature, then the cuts."""
    if seen is not None:
        logits = penalize_repetition(logits, seen, params.repetition_penalty)
    logits = logits / params.temperature
    if params.top_k:
        logits = keep_top_k(logits, params.top_k)
    if params.top_p < 1:
        logits = keep_top_p(logits, params.top_p)
    if params.min_p > 0:
        logits = keep_min_p(logits, params.min_p)
    return logits


# %% book/foundations/generation.md#STRIDE
STRIDE = np.uint64(0x9E3779B97F4A7C15)  # an odd number without a pattern


def request_keys(
    prompts: Sequence[Sequence[int]], seeds: Sequence[int], num_samples: int
) -> NDArray[np.uint64]:
    """A key for each sample of each request, (requests * num_samples,)."""
    keys = []
    for prompt, seed in zip(prompts, seeds, strict=True):
        places = np.arange(1, len(prompt) + 1, dtype=np.uint64) * STRIDE
        text = scramble(np.array(prompt, np.uint64) + places).sum()
        keys.append(scramble(np.array([seed], np.uint64) + STRIDE) ^ text)
    samples = np.arange(num_samples, dtype=np.uint64) * STRIDE
    return scramble(np.array(keys) + samples).reshape(-1)


def uniforms(keys: NDArray[np.uint64], step: int) -> Tensor:
    """A number in [0, 1) for each of `keys` (B,) at `step`, float64."""
    bits = scramble(keys + np.array([step], np.uint64) * STRIDE)
    return torch.from_numpy((bits >> np.uint64(12)) * 2.0**-52)


def draw(probs: Tensor, u: Tensor) -> Tensor:
    """The token of each row of probs (B, V) on whose piece u (B,) falls."""
    ends = probs.double().cumsum(dim=-1)
    place = u.to(ends.device)[:, None] * ends[:, -1:]
    return torch.searchsorted(ends, place, right=True)[:, 0]


# %% book/foundations/generation.md#Step
class Step(NamedTuple):
    """What one step chose; everything is (R,), a number for each row."""

    rows: Tensor  # which sample of the batch: request * num_samples + sample
    ids: Tensor
    logprobs: Tensor  # ln of the model's probability
    drawn: Tensor  # ln of the probability with which it was drawn


class Decoding:
    """A batch of texts in the making, `num_samples` for each prompt.

    All requests share `params` but for the seed. Call `step`, then `advance`
    with the rows that are done, until that says that none is left.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: GPT,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        *,
        seeds: Sequence[int],
        num_samples: int = 1,
    ) -> None:
        ids, mask = pad_batch(prompts, pad_id=0, side="left")
        P, T = ids.shape
        ids = ids.to(next(model.parameters()).device)
        mask = mask.to(ids.device)
        self.model, self.params, self.num_steps = model, params, 0
        self.caches = model.make_caches(P, T + params.max_new_tokens)
        padding = None if mask.all() else mask
        x = model.hidden(ids, mask=padding, caches=self.caches)
        self.logits = model.readout(x[:, -1])  # (P, C) -> (P, V)
        self.keys = request_keys(prompts, seeds, num_samples)
        self.lengths = mask.sum(dim=1)
        self.mask = self.seen = None
        if padding is not None:
            future = mask.new_ones(P, params.max_new_tokens)
            self.mask = torch.cat([mask, future], dim=1)
        if params.repetition_penalty != 1:
            zeros = torch.zeros_like(self.logits)
            self.seen = zeros.scatter_add(1, ids, mask * 1.0) > 0
        self.rows = torch.arange(P, device=ids.device)
        self.select(self.rows.repeat_interleave(num_samples))
        self.rows = torch.arange(P * num_samples, device=ids.device)
        self.alive = torch.ones_like(self.rows, dtype=torch.bool)

    def select(self, rows: Tensor) -> None:
        """Keep these rows of all that has rows, copied where they repeat."""
        for cache in self.caches:
            cache.select(rows)
        for name in ("logits", "lengths", "rows", "mask", "seen"):
            if getattr(self, name) is not None:
                setattr(self, name, getattr(self, name)[rows])

    @torch.no_grad()
    def step(self) -> Step:
        """Choose a token for each row, dead ones included."""
        logits = self.logits.float()
        logprobs = logits.log_softmax(dim=-1)
        if self.params.temperature == 0:
            if self.seen is not None:
                penalty = self.params.repetition_penalty
                logits = penalize_repetition(logits, self.seen, penalty)
            ids = logits.argmax(dim=-1, keepdim=True)
            drawn = torch.zeros_like(ids, dtype=logits.dtype)
        else:
            warped = warp(logits, self.params, self.seen).log_softmax(dim=-1)
            u = uniforms(self.keys, self.num_steps)
            ids = draw(warped.exp(), u)[:, None]
            drawn = warped.gather(1, ids)
        self.ids = ids
        if self.seen is not None:
            self.seen.scatter_(1, ids, True)
        chosen = logprobs.gather(1, ids)
        return Step(self.rows, ids[:, 0], chosen[:, 0], drawn[:, 0])

    @torch.no_grad()
    def advance(self, done: Tensor) -> bool:
        """Read the tokens chosen; False when all rows are `done` (R,)."""
        self.alive &= ~done
        left = int(self.alive.sum())
        if left <= 0.8 * len(self.alive):
            rows = self.alive.nonzero()[:, 0]
            self.select(rows)
            self.ids, self.alive = self.ids[rows], self.alive[rows]
            self.keys = self.keys[rows.cpu().numpy()]
        if not left:
            return False
        S = self.caches[0].length + 1
        self.logits = self.model(
            self.ids,
            mask=None if self.mask is None else self.mask[:, :S],
            caches=self.caches,
            positions=(self.lengths + self.num_steps)[:, None],
        )[:, -1]
        self.num_steps += 1
        return True


# %% book/foundations/generation.md#TextStream
class TextStream:
    """The text of one completion, token by token, up to a stop string.

    The pieces that `feed` and a last `flush` return, joined, are the text.
    """

    def __init__(
        self, tokenizer: ByteVocabulary, stop: Sequence[str] = ()
    ) -> None:
        self._decoder = StreamDecoder(tokenizer)
        self._stop, self._held, self.stopped = stop, "", False

    def feed(self, token: int) -> str:
        """What is now certain to belong to the text, perhaps nothing."""
        return self._release(self._decoder.feed(token))

    def flush(self) -> str:
        """What was held back, at the end."""
        text = self._release(self._decoder.flush()) + self._held
        self._held = ""
        return text

    def _release(self, piece: str) -> str:
        if self.stopped:
            return ""
        text = self._held + piece
        found = [text.find(stop) for stop in self._stop if stop in text]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        held = max(
            (
                n
                for stop in self._stop
                for n in range(1, len(stop))
                if text.endswith(stop[:n])
            ),
            default=0,
        )
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


# %% book/foundations/generation.md#Completion
@dataclass(frozen=True)
class Completion:
    """One continuation of a prompt.

    `ids` has the stop token, `text` has not. `logprobs` are of the model as it
    is; `drawn` are of the distribution after temperature and cuts, from
    which the token was drawn, and 0 for greedy ones.
    """

    ids: list[int]
    logprobs: list[float]
    drawn: list[float]
    finish_reason: str  # "stop" or "length"
    text: str = ""  # given a tokenizer


def check_request(model: GPT, prompt: Sequence[int], new: int) -> None:
    """Refuse a prompt that is empty, or too long with `new` tokens."""
    if not prompt:
        raise ValueError("an empty prompt: begin with the end-of-text token")
    most = model.config.max_seq_len
    if len(prompt) + new - 1 > most:
        raise ValueError(
            f"a prompt of {len(prompt)} and max_new_tokens {new} do not fit "
            f"max_seq_len {most}; shorten one of them"
        )


def plan_batches(
    prompts: Sequence[Sequence[int]],
    params: Sequence[SamplingParams],
    rows: int,
) -> list[list[int]]:
    """Indices of requests that differ in the seed only, alike in length."""
    groups: dict[SamplingParams, list[int]] = {}
    for i, param in enumerate(params):
        groups.setdefault(replace(param, seed=0), []).append(i)
    batches = []
    for group in groups.values():
        group.sort(key=lambda i: len(prompts[i]))
        batches += [group[i : i + rows] for i in range(0, len(group), rows)]
    return batches


# %% book/foundations/generation.md#run_batch
def run_batch(
    decoding: Decoding, tokenizer: ByteVocabulary | None
) -> list[Completion]:
    """Continue all rows of a batch to their ends."""
    params, R = decoding.params, len(decoding.rows)
    N, device = params.max_new_tokens, decoding.rows.device
    stops = torch.tensor(params.stop_ids, dtype=torch.long, device=device)
    ends = torch.full((R,), N, device=device)
    ids = torch.zeros(R, N, dtype=torch.long, device=device)
    values = torch.zeros(2, R, N, device=device)
    texts = [TextStream(tokenizer, params.stop) for _ in range(R)] \
        if params.stop and tokenizer else []
    going = True
    while going:
        n, step = decoding.num_steps, decoding.step()
        ids[step.rows, n] = step.ids
        values[0, step.rows, n] = step.logprobs
        values[1, step.rows, n] = step.drawn
        done = torch.isin(step.ids, stops)
        if texts:
            pairs = zip(step.rows.tolist(), step.ids.tolist(), strict=True)
            for place, (row, token) in enumerate(pairs):
                texts[row].feed(token)
                done[place] |= texts[row].stopped
        ends[step.rows[done & decoding.alive]] = n + 1
        going = n + 1 < N and decoding.advance(done)
    parts = ids.tolist(), *values.tolist(), ends.tolist()
    return [
        complete(row[:end], first[:end], second[:end], params, tokenizer)
        for row, first, second, end in zip(*parts, strict=True)
    ]


def complete(
    ids: list[int],
    logprobs: list[float],
    drawn: list[float],
    params: SamplingParams,
    tokenizer: ByteVocabulary | None,
) -> Completion:
    """A row's record as a Completion."""
    stopped = ids[-1] in params.stop_ids
    text = ""
    if tokenizer:
        stream = TextStream(tokenizer, params.stop)
        shown = ids[:-1] if stopped else ids
        text = "".join(map(stream.feed, shown)) + stream.flush()
        stopped |= stream.stopped
    reason = "stop" if stopped else "length"
    return Completion(ids, logprobs, drawn, reason, text)


# %% book/foundations/generation.md#generate
def generate(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    params: SamplingParams | Sequence[SamplingParams] = SamplingParams(),
    *,
    num_samples: int = 1,
    tokenizer: ByteVocabulary | None = None,
    max_rows: int = 256,
) -> list[list[Completion]]:
    """`num_samples` completions of each prompt, in the order of the prompts.

    What a sample gets depends on its prompt, its params and its number, not
    on the batch. `tokenizer` gives the texts, and is needed for `stop`.
    `max_rows` bounds how many texts are continued at once (a prompt's samples
    stay together). The model's dropout is off meanwhile.
    """
    if isinstance(params, SamplingParams):
        params = [params] * len(prompts)
    for prompt, param in zip(prompts, params, strict=True):
        check_request(model, prompt, param.max_new_tokens)
        if param.stop and tokenizer is None:
            raise ValueError("stop strings need a tokenizer; pass one")
    results: dict[int, list[Completion]] = {}
    training = model.training
    model.eval()
    try:
        rows = max(1, max_rows // num_samples)
        for batch in plan_batches(prompts, params, rows):
            decoding = Decoding(
                model, [prompts[i] for i in batch], params[batch[0]],
                seeds=[params[i].seed for i in batch], num_samples=num_samples,
            )
            found = run_batch(decoding, tokenizer)
            for place, i in enumerate(batch):
                first = place * num_samples
                results[i] = found[first : first + num_samples]
    finally:
        model.train(training)
    return [results[i] for i in range(len(prompts))]


# %% book/foundations/generation.md#stream
def stream(
    model: GPT,
    prompt: Sequence[int],
    params: SamplingParams = SamplingParams(),
    *,
    tokenizer: ByteVocabulary,
) -> Iterator[str]:
    """The text of one completion, piece by piece, as it is written."""
    check_request(model, prompt, params.max_new_tokens)
    decoding = Decoding(model, [prompt], params, seeds=[params.seed])
    text = TextStream(tokenizer, params.stop)
    for _ in range(params.max_new_tokens):
        ids = decoding.step().ids
        ended = int(ids) in params.stop_ids
        if not ended and (piece := text.feed(int(ids))):
            yield piece
        done = ids.new_tensor([ended or text.stopped], dtype=torch.bool)
        if not decoding.advance(done):
            break
    yield text.flush()
