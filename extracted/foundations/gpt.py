# Generated from book/foundations/gpt.md; do not edit (9e6ef9be8898)
"""The GPT architecture from its parts, with embeddings, positions, pre-norm residual
blocks, GPT-2's initialization, presets and counts of parameters and operations.
"""

# %% book/foundations/gpt.md#imports
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from extracted.foundations.attention import (
    AttentionConfig,
    CausalSelfAttention,
    FusedCausalSelfAttention,
    KVCache,
)


# %% book/foundations/gpt.md#LearnedPositions
class LearnedPositions(nn.Embedding):
    """A vector for each position, learned like a word's: (T,) -> (T, C)."""

    def __init__(self, max_seq_len: int, width: int) -> None:
        super().__init__(max_seq_len, width)


# %% book/foundations/gpt.md#sinusoids
def sinusoids(positions: Tensor, width: int) -> Tensor:
    """Sine and cosine waves (..., C) at integer `positions` (...).

    The first half of the components are sines, the second half cosines of the
    same frequencies, 10000 ** (-2 i / C). Vaswani et al. (2017), section 3.5.
    """
    if width % 2:
        raise ValueError(f"width {width} is odd; a sine needs its cosine")
    i = torch.arange(width // 2, device=positions.device)
    angles = positions.unsqueeze(-1) * 10_000.0 ** (-2 * i / width)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class SinusoidalPositions(nn.Module):
    """Fixed waves in place of a table; they have no last position."""

    def __init__(self, max_seq_len: int, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, positions: Tensor) -> Tensor:
        return sinusoids(positions, self.width)


# %% book/foundations/gpt.md#layer_norm
def layer_norm(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, eps: float = 1e-5
) -> Tensor:
    """Normalize the last axis of x (..., C), then scale and shift by (C,).

    Written out; the model uses `nn.LayerNorm`, which computes the same in one
    pass. Ba, Kiros and Hinton (2016).
    """
    mean = x.mean(dim=-1, keepdim=True)
    variance = x.var(dim=-1, keepdim=True, correction=0)
    y = weight * (x - mean) / (variance + eps).sqrt()
    return y if bias is None else y + bias


# %% book/foundations/gpt.md#gelu
def gelu(z: Tensor) -> Tensor:
    """z times the standard normal distribution function at z, elementwise."""
    return 0.5 * z * (1 + torch.erf(z / math.sqrt(2)))


def gelu_tanh(z: Tensor) -> Tensor:
    """GPT-2's approximation of `gelu`. Hendrycks and Gimpel (2016)."""
    inner = math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)
    return 0.5 * z * (1 + torch.tanh(inner))


# %% book/foundations/gpt.md#GPTConfig
@dataclass(frozen=True)
class GPTConfig:
    """Shape and options of a GPT; `width` is C, `vocab_size` is V."""

    vocab_size: int
    max_seq_len: int
    num_layers: int
    num_heads: int
    width: int
    dropout: float = 0.0
    bias: bool = True  # in every linear map and norm, as GPT-2 has it
    qk_norm: bool = False
    tied: bool = True  # the readout is the transposed embedding

    def __post_init__(self) -> None:
        for name in ("vocab_size", "max_seq_len", "num_layers"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; it must be positive"
                )
        _ = self.attention  # checks width, num_heads and dropout

    @property
    def attention(self) -> AttentionConfig:
        """The configuration of each block's attention."""
        return AttentionConfig(
            width=self.width,
            num_heads=self.num_heads,
            dropout=self.dropout,
            bias=self.bias,
            qk_norm=self.qk_norm,
        )

    @classmethod
    def micro(cls, vocab_size: int = 1024) -> "GPTConfig":
        """Four layers of width 64, for minutes on two cores."""
        return cls(vocab_size, 128, 4, 4, 64, bias=False, qk_norm=True)

    @classmethod
    def mini(cls, vocab_size: int = 1024) -> "GPTConfig":
        """Six layers of width 192, about 2.9 million weights."""
        return cls(vocab_size, 256, 6, 6, 192, bias=False, qk_norm=True)

    @classmethod
    def gpt2_small(cls) -> "GPTConfig":
        """124 million weights. Radford et al. (2019)."""
        return cls(50_257, 1024, 12, 12, 768)

    @classmethod
    def gpt2_medium(cls) -> "GPTConfig":
        """355 million weights."""
        return cls(50_257, 1024, 24, 16, 1024)

    @classmethod
    def gpt2_large(cls) -> "GPTConfig":
        """774 million weights."""
        return cls(50_257, 1024, 36, 20, 1280)

    @classmethod
    def gpt2_xl(cls) -> "GPTConfig":
        """1,558 million weights."""
        return cls(50_257, 1024, 48, 25, 1600)


# %% book/foundations/gpt.md#MLP
class MLP(nn.Module):
    """Widen each position's vector four times, bend it, narrow it again."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        C = config.width
        self.up = nn.Linear(C, 4 * C, bias=config.bias)
        self.down = nn.Linear(4 * C, C, bias=config.bias)
        self.act = nn.GELU(approximate="tanh")

    def forward(self, x: Tensor) -> Tensor:
        # (B, T, C) -> (B, T, 4C) -> (B, T, C)
        y: Tensor = self.down(self.act(self.up(x)))
        return y


class Block(nn.Module):
    """One layer of the residual stream, (B, T, C) -> (B, T, C)."""

    attention_class: type[CausalSelfAttention] = FusedCausalSelfAttention

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width, bias=config.bias)
        self.attention = self.attention_class(config.attention)
        self.mlp_norm = nn.LayerNorm(config.width, bias=config.bias)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """`mask`, `cache` and `positions` are those of the attention layer."""
        read = self.attention(
            self.attention_norm(x), mask=mask, cache=cache, positions=positions
        )
        x = x + self.dropout(read)
        y: Tensor = x + self.dropout(self.mlp(self.mlp_norm(x)))
        return y


# %% book/foundations/gpt.md#GPT
class GPT(nn.Module):
    """GPT-2's architecture: ids (B, T) to logits (B, T, V).

    Radford et al. (2019), "Language Models are Unsupervised Multitask
    Learners". `block_class` and `position_class` are what variants replace.
    """

    block_class: type[nn.Module] = Block
    position_class: type[nn.Module] = LearnedPositions

    def __init__(
        self, config: GPTConfig, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.width)
        self.positions = self.position_class(config.max_seq_len, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            self.block_class(config) for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(config.width, bias=config.bias)
        self.readout = nn.Linear(config.width, config.vocab_size, bias=False)
        if config.tied:
            self.readout.weight = self.tokens.weight
        self.initialize(generator)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Draw GPT-2's initial weights, scaled for the depth."""
        for name, weight in self.named_parameters():
            if weight.dim() < 2:
                weight.fill_(0.0 if name.endswith("bias") else 1.0)
                continue
            last = name.endswith(("attention.out.weight", "mlp.down.weight"))
            scale = math.sqrt(2 * self.config.num_layers) if last else 1.0
            weight.normal_(0.0, 0.02 / scale, generator=generator)

    def forward(
        self,
        ids: Tensor,
        *,
        mask: Tensor | None = None,
        caches: list[KVCache] | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, T, V) of the token after each of ids (B, T).

        `mask` is boolean: (B, S) with `True` at words and `False` at padding,
        or (B, H, T, S) for each pair, where S counts cached tokens too.
        `caches`, one a block, hold what was read before and are extended.
        """
        x = self.hidden(ids, mask=mask, caches=caches, positions=positions)
        logits: Tensor = self.readout(x)
        return logits

    def hidden(
        self,
        ids: Tensor,
        *,
        mask: Tensor | None = None,
        caches: list[KVCache] | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """The normalized stream (B, T, C) that the readout reads."""
        T = ids.shape[1]
        past = caches[0].length if caches else 0
        if positions is None:
            positions = self.count_positions(ids, mask, past)
        if positions.numel() and past + T > self.config.max_seq_len:
            raise ValueError(
                f"{past + T} tokens are more than max_seq_len "
                f"{self.config.max_seq_len}; cut the text, or make the model "
                "with more positions"
            )
        if mask is not None and mask.dim() == 2:
            mask = mask[:, None, None, :]  # (B, S) -> (B, 1, 1, S)
        x = self.dropout(self.tokens(ids) + self.positions(positions))
        for i, block in enumerate(self.blocks):
            cache = caches[i] if caches else None
            x = block(x, mask=mask, cache=cache, positions=positions)
        y: Tensor = self.norm(x)
        return y

    @staticmethod
    def count_positions(ids: Tensor, mask: Tensor | None, past: int) -> Tensor:
        """Positions (T,); under a padding mask (B, T), counting words only."""
        T = ids.shape[1]
        if mask is None or mask.dim() != 2:
            return torch.arange(past, past + T, device=ids.device)
        return (mask.long().cumsum(dim=1) - 1).clamp(min=0)[:, -T:]

    def make_caches(self, batch_size: int, max_seq_len: int) -> list[KVCache]:
        """Empty caches, one a block."""
        caches = []
        for block in self.blocks:
            attention = block.get_submodule("attention")
            assert isinstance(attention, CausalSelfAttention)
            caches.append(attention.make_cache(batch_size, max_seq_len))
        return caches

    def num_parameters(self) -> int:
        """The number of weights, those that are shared counted once."""
        return sum(weight.numel() for weight in self.parameters())


class SinusoidalGPT(GPT):
    """The same model with fixed waves for positions."""

    position_class = SinusoidalPositions


# %% book/foundations/gpt.md#rotate
def rotate(x: Tensor, positions: Tensor) -> Tensor:
    """Turn the pairs (i, i + D/2) of x (B, H, T, D) by angles that grow with
    `positions`, (T,) or (B, T).

    Rotary position embedding, Su et al. (2021), in the layout of Llama.
    """
    waves = sinusoids(positions, x.shape[-1])
    if positions.dim() == 2:
        waves = waves.unsqueeze(1)  # (B, T, D) -> (B, 1, T, D)
    sin, cos = waves.chunk(2, dim=-1)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class RotaryAttention(FusedCausalSelfAttention):
    """Self-attention whose scores depend on distances."""

    def transform(
        self, q: Tensor, k: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        q, k = super().transform(q, k, positions)
        return rotate(q, positions), rotate(k, positions)


class RotaryBlock(Block):
    """A layer with rotary attention."""

    attention_class = RotaryAttention


class NoPositions(nn.Module):
    """Adds nothing to the words."""

    def __init__(self, max_seq_len: int, width: int) -> None:
        super().__init__()

    def forward(self, positions: Tensor) -> Tensor:
        return torch.zeros((), device=positions.device)


class RotaryGPT(GPT):
    """The same model with rotary positions."""

    block_class = RotaryBlock
    position_class = NoPositions


# %% book/foundations/gpt.md#flops_per_token
def flops_per_token(config: GPTConfig, seq_len: int) -> int:
    """Floating-point operations a token in training, forward and backward.

    Products of matrices only, a multiplication and an addition each; all
    `seq_len` ** 2 scores are counted although a causal kernel skips half.
    """
    L, T, C = config.num_layers, seq_len, config.width
    matrices = 12 * L * C * C + C * config.vocab_size
    return 6 * matrices + 12 * L * T * C
