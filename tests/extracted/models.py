"""Models for the tests of learning from samples: tiny, and with opinions."""

import torch

from extracted.foundations.gpt import GPTConfig, RotaryGPT


def opinionated(vocab_size: int, *, seed: int = 0) -> RotaryGPT:
    """A tiny model whose weights are three times as large as at a start.

    So that its probabilities differ, and a mistake in them shows.
    """
    config = GPTConfig(vocab_size, 512, 1, 2, 16, bias=False, qk_norm=True)
    model = RotaryGPT(config, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)
    return model.eval()
