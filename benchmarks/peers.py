"""How benchmarks make `transformers` sample, as well as it can be asked to."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel


def transformers_samples(
    peer: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    num_samples: int,
    temperature: float,
    max_new_tokens: int,
    end: int,
    at_once: int = 16,
) -> int:
    """Sample `num_samples` texts a prompt; the number of tokens, ends included.

    Prompts are sorted by length, so that padding costs little, and taken `at_once`.
    """
    total = 0
    order = sorted(prompts, key=len)
    for first in range(0, len(order), at_once):
        rows = order[first : first + at_once]
        longest = max(map(len, rows))
        ids = torch.tensor([[end] * (longest - len(r)) + [*r] for r in rows])
        mask = torch.tensor([[0] * (longest - len(r)) + [1] * len(r) for r in rows])
        out = peer.generate(
            ids,
            attention_mask=mask,
            do_sample=True,
            temperature=temperature,
            top_k=0,
            num_return_sequences=num_samples,
            max_new_tokens=max_new_tokens,
            eos_token_id=end,
            pad_token_id=end,
        )
        ended = out[:, longest:] == end
        before = ended.long().cumsum(dim=1) - ended.long()
        total += int((before == 0).sum())
    return total
