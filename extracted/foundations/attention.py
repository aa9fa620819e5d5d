# Generated from book/foundations/attention.md; do not edit (59fb248c17b3)
"""Scaled dot-product attention with a causal mask, several heads, query-key
normalization, a fused kernel and a key-value cache.
"""

# %% book/foundations/attention.md#OBJECTS
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OBJECTS = ("ball", "cup", "drum", "hat", "book", "lamp", "doll", "kite")
PLACES = ("attic", "barn", "cave", "tent", "park", "shop", "mill", "hall")
RECALL_WORDS = OBJECTS + PLACES


def recall_batch(
    batch_size: int,
    *,
    num_facts: int = 4,
    num_questions: int = 1,
    num_objects: int = 8,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw stories "object place object place … question" and their answers.

    Object `i` has the word id `i`, place `i` the id `num_objects + i`;
    `RECALL_WORDS` spells them for the default of 8. Nothing repeats within a
    story. Returns the words, (batch_size, 2 * num_facts + num_questions), and
    the places asked for, (batch_size, num_questions). Raises `ValueError` when
    there are too few objects or facts.
    """
    if not 1 <= num_questions <= num_facts <= num_objects:
        raise ValueError(
            f"{num_questions} questions about {num_facts} facts on "
            f"{num_objects} objects: each number must be at most the next"
        )

    def draw(count: int, of: int) -> Tensor:
        order = torch.rand(batch_size, of, generator=generator).argsort(dim=1)
        return order[:, :count]

    objects = draw(num_facts, num_objects)
    places = draw(num_facts, num_objects) + num_objects
    asked = draw(num_questions, num_facts)
    facts = torch.stack((objects, places), dim=2).flatten(1)
    words = torch.cat((facts, objects.gather(1, asked)), dim=1)
    return words, places.gather(1, asked)


# %% book/foundations/attention.md#causal_mask
def causal_mask(
    T: int, S: int | None = None, *, device: torch.device | str | None = None
) -> Tensor:
    """Boolean (T, S), `True` where the last T of S words may read: the past.

    Query row t is word S - T + t and reads keys 0 … S - T + t. S is T unless
    earlier keys were kept.
    """
    S = T if S is None else S
    if not 0 < T <= S:
        raise ValueError(f"{T} queries over {S} keys: no query may lack a key")
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(S - T)


# %% book/foundations/attention.md#attention_weights
def attention_weights(
    q: Tensor,
    k: Tensor,
    *,
    mask: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """How much each query reads from each key; rows sum to one.

    q (..., T, D), k (..., S, D), `mask` boolean and broadcastable to the
    result (..., T, S), `True` where a query may read; `scale` is 1/sqrt(D)
    unless given. A query that may read nothing gets zeros, not NaN.
    """
    if mask is not None and mask.dtype != torch.bool:
        raise ValueError(
            f"the mask has dtype {mask.dtype}; pass booleans, True where a "
            "query may read, e.g. mask.bool() for a mask of 0 and 1"
        )
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = scale * q @ k.transpose(-2, -1)
    if mask is None:
        return scores.softmax(dim=-1)
    weights = scores.masked_fill(~mask, -math.inf).softmax(dim=-1)
    return weights.masked_fill(~mask, 0.0)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Scaled dot-product attention, written out.

    q (..., T, D), k and v (..., S, D) -> (..., T, D); `mask` and `scale` as
    in `attention_weights`. `dropout` drops weights whenever it is not zero, so
    pass 0.0 outside training. Source: Vaswani et al. 2017, section 3.2.1.
    """
    weights = attention_weights(q, k, mask=mask, scale=scale)
    return F.dropout(weights, dropout) @ v


# %% book/foundations/attention.md#split_heads
def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, T, C) -> (B, H, T, D): the width is cut into heads of width D."""
    B, T, C = x.shape
    return x.view(B, T, num_heads, C // num_heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, T, D) -> (B, T, C), the inverse of `split_heads`."""
    return x.transpose(1, 2).flatten(2)


# %% book/foundations/attention.md#KVCache
class KVCache:
    """Keys and values of one layer for the words read so far.

    `keys` and `values` are (B, H, max_seq_len, D), of which the first `length`
    positions are filled. All rows have the same length: pad a batch of texts
    on the left and mask the padding. Lower `length` to forget the last words.
    """

    def __init__(
        self,
        batch_size: int,
        max_seq_len: int,
        *,
        num_heads: int,
        head_width: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        shape = (batch_size, num_heads, max_seq_len, head_width)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros_like(self.keys)
        self.length = 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add k and v, (B, H, T, D); return all of them, (B, H, length, D)."""
        B, H, max_seq_len, D = self.keys.shape
        T = k.shape[2]
        end = self.length + T
        if k.requires_grad or v.requires_grad:
            raise ValueError(
                "a cache cannot be differentiated; call under torch.no_grad()"
            )
        if not k.shape == v.shape == (B, H, T, D):
            raise ValueError(
                f"keys {tuple(k.shape)} and values {tuple(v.shape)} are not "
                f"(B, H, T, D) = {(B, H, T, D)}; when the batch drops rows, "
                "drop them here with select(rows)"
            )
        if end > max_seq_len:
            raise ValueError(
                f"{end} words do not fit a cache of {max_seq_len}; make it "
                "with a larger max_seq_len"
            )
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch, given as indices or booleans.

        Drops finished texts; repeated indices copy a prompt that has several
        continuations.
        """
        self.keys, self.values = self.keys[rows], self.values[rows]


# %% book/foundations/attention.md#AttentionConfig
@dataclass(frozen=True)
class AttentionConfig:
    """Shape and options of a self-attention layer; `width` is C."""

    width: int
    num_heads: int
    dropout: float = 0.0  # of the attention weights, in training
    bias: bool = False  # in both maps; GPT-2 has it
    qk_norm: bool = False

    def __post_init__(self) -> None:
        if self.width < 1 or self.num_heads < 1 or self.width % self.num_heads:
            raise ValueError(
                f"width {self.width} is not a positive multiple of num_heads "
                f"{self.num_heads}; every head needs the same width"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout {self.dropout} is not in [0, 1)")

    @property
    def head_width(self) -> int:
        """The width D of one head."""
        return self.width // self.num_heads


# %% book/foundations/attention.md#CausalSelfAttention
class CausalSelfAttention(nn.Module):
    """Multi-head causal self-attention, (B, T, C) -> (B, T, C), written out.

    `qkv` and `out` are GPT-2's `c_attn` and `c_proj`, transposed. Dropout of
    the output belongs to the block around this layer.
    """

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()
        C, D, qk_norm = config.width, config.head_width, config.qk_norm
        self.config = config
        self.qkv = nn.Linear(C, 3 * C, bias=config.bias)
        self.out = nn.Linear(C, C, bias=config.bias)
        self.q_norm = nn.RMSNorm(D, eps=1e-6) if qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(D, eps=1e-6) if qk_norm else nn.Identity()

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Let each of the T words read itself and the words before it.

        `mask`, boolean and broadcastable to (B, H, T, S), narrows the causal
        mask; pass a padding mask (B, S), `True` at words, as
        `mask[:, None, None, :]`. With a `cache`, x continues the cached words
        and S counts both. `positions`, (T,) or (B, T), reach `transform`.
        """
        if mask is not None and mask.dim() != 4:
            raise ValueError(
                f"the mask has shape {tuple(mask.shape)}, not (B, H, T, S); "
                "pass mask[:, None, None, :] for padding (B, S), "
                "mask[None, None] for (T, S)"
            )
        past = 0 if cache is None else cache.length
        q, k, v = self.project(x, positions=positions, past=past)
        if cache is not None:
            k, v = cache.append(k, v)
        y: Tensor = self.out(merge_heads(self.attend(q, k, v, mask)))
        return y

    def project(
        self, x: Tensor, *, positions: Tensor | None = None, past: int = 0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (B, H, T, D)."""
        T, H = x.shape[1], self.config.num_heads
        if positions is None:
            positions = torch.arange(past, past + T, device=x.device)
        parts = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (split_heads(part, H) for part in parts)
        q, k = self.transform(q, k, positions)
        return q, k, v

    def transform(
        self, q: Tensor, k: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Normalize if configured; a subclass may use the positions."""
        return self.q_norm(q), self.k_norm(k)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Read v: q (B, H, T, D) with k and v (B, H, S, D) -> (B, H, T, D)."""
        mask = self.readable(q, k, mask)
        return attention(q, k, v, mask=mask, dropout=self.weight_dropout)

    def weights(self, x: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """The attention weights of every head, (B, H, T, T), to look at."""
        q, k, _ = self.project(x)
        return attention_weights(q, k, mask=self.readable(q, k, mask))

    def readable(self, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
        """The causal mask (T, S), narrowed by `mask`."""
        causal = causal_mask(q.shape[2], k.shape[2], device=q.device)
        return causal if mask is None else causal & mask

    @property
    def weight_dropout(self) -> float:
        """The configured dropout while training, else 0."""
        return self.config.dropout if self.training else 0.0

    def make_cache(self, batch_size: int, max_seq_len: int) -> KVCache:
        """An empty cache for this layer, on its device and of its dtype."""
        weight = self.qkv.weight
        return KVCache(
            batch_size,
            max_seq_len,
            num_heads=self.config.num_heads,
            head_width=self.config.head_width,
            device=weight.device,
            dtype=weight.dtype,
        )


# %% book/foundations/attention.md#FusedCausalSelfAttention
class FusedCausalSelfAttention(CausalSelfAttention):
    """The same layer through PyTorch's fused kernel; keeps no weights."""

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> Tensor:
        # The fastest kernels want a flag and no mask. The flag aligns the mask
        # with the first key, so it is right only when nothing is cached.
        dropout, flag = self.weight_dropout, False
        if mask is None and q.shape[2] == k.shape[2]:
            flag = True
        elif mask is not None or q.shape[2] > 1:
            mask = self.readable(q, k, mask)
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=flag, dropout_p=dropout
        )
