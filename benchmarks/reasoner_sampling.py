"""Sixteen samples for each of 500 problems: the reasoner beside `transformers`.

The book's trained reasoner, and the same weights in `transformers`: StarCoder2's shape
with the norm of queries and keys put behind its projections. Logits must agree. Both
sample the same problems at temperature 0.7, in turns.
"""

import sys
from dataclasses import replace
from typing import Any

import torch
from harness import compare, digits, main, progress
from peers import transformers_samples
from torch import Tensor, nn
from transformers import Starcoder2Config, Starcoder2ForCausalLM

from extracted.foundations.generation import SamplingParams, generate
from extracted.foundations.gpt import RotaryGPT
from extracted.foundations.language_modeling import END_OF_TEXT
from extracted.reasoning.chain_of_thought import (
    REASONER_CONFIG,
    encode_question,
    fresh_reasoner,
)
from extracted.reasoning.problems import generate_problems

SAMPLES, TEMPERATURE, MAX_NEW_TOKENS = 16, 0.7, 96


class NormedProjection(nn.Module):
    """A projection (B, T, C) whose heads are normalized one by one."""

    def __init__(self, weight: Tensor, norm: nn.Module) -> None:
        super().__init__()
        self.weight, self.norm = nn.Parameter(weight.clone()), norm

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.linear(x, self.weight)
        heads: Tensor = self.norm(y.unflatten(-1, (-1, self.norm.weight.shape[0])))
        return heads.flatten(-2)


def transformers_model(model: RotaryGPT, end: int) -> Starcoder2ForCausalLM:
    """The same function in `transformers`' classes."""
    shape = model.config
    config = Starcoder2Config(
        vocab_size=shape.vocab_size,
        hidden_size=shape.width,
        intermediate_size=4 * shape.width,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_heads,
        max_position_embeddings=shape.max_seq_len,
        hidden_act="gelu_pytorch_tanh",
        norm_epsilon=1e-5,
        use_bias=False,
        sliding_window=None,
        bos_token_id=end,
        eos_token_id=end,
        tie_word_embeddings=True,
    )
    peer = Starcoder2ForCausalLM(config).eval()
    with torch.no_grad():
        peer.model.embed_tokens.weight.copy_(model.tokens.weight)
        peer.model.norm.weight.copy_(model.norm.weight)
        for layer, block in zip(peer.model.layers, model.blocks, strict=True):
            q, k, v = block.attention.qkv.weight.chunk(3)
            layer.self_attn.q_proj = NormedProjection(q, block.attention.q_norm)
            layer.self_attn.k_proj = NormedProjection(k, block.attention.k_norm)
            layer.self_attn.v_proj.weight.copy_(v)
            layer.self_attn.o_proj.weight.copy_(block.attention.out.weight)
            layer.mlp.c_fc.weight.copy_(block.mlp.up.weight)
            layer.mlp.c_proj.weight.copy_(block.mlp.down.weight)
            layer.input_layernorm.weight.copy_(block.attention_norm.weight)
            layer.post_attention_layernorm.weight.copy_(block.mlp_norm.weight)
    return peer


def run(quick: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    steps = 30 if quick else REASONER_CONFIG.steps
    model, tokenizer, _ = fresh_reasoner(config=replace(REASONER_CONFIG, steps=steps))
    end = tokenizer.special_tokens[END_OF_TEXT]
    peer = transformers_model(model, end)
    problems = generate_problems(20 if quick else 500, "test")
    prompts = [encode_question(tokenizer, problem) for problem in problems]
    with torch.no_grad():
        ids = torch.tensor(prompts[:1])
        difference = (model(ids) - peer(ids).logits).abs().max().item()
    progress(f"logits differ by at most {difference:.1g}")
    params = SamplingParams(MAX_NEW_TOKENS, TEMPERATURE, stop_ids=(end,))
    counted: dict[str, list[int]] = {"ours": [], "transformers": []}

    def ours() -> None:
        found = generate(model, prompts, params, num_samples=SAMPLES)
        counted["ours"].append(sum(len(c.ids) for row in found for c in row))

    def theirs() -> None:
        tokens = transformers_samples(
            peer,
            prompts,
            num_samples=SAMPLES,
            temperature=TEMPERATURE,
            max_new_tokens=MAX_NEW_TOKENS,
            end=end,
        )
        counted["transformers"].append(tokens)

    runs = {"ours": lambda: ours, "transformers": lambda: theirs}
    times = compare(runs, 1 if quick else 3)
    result: dict[str, Any] = {
        "threads": 1,
        "prompts": len(prompts),
        "samples": SAMPLES,
        "temperature": TEMPERATURE,
        "largest_difference_of_logits": digits(difference),
    }
    for name, figures in times.items():
        tokens = sum(counted[name]) / len(counted[name])
        rate = digits(tokens / figures["wall"]["median_s"])
        result[name] = {"tokens_per_second": rate, "tokens": tokens, **figures}
    result["times_as_fast"] = digits(
        result["ours"]["tokens_per_second"]
        / result["transformers"]["tokens_per_second"]
    )
    return result


if __name__ == "__main__":
    sys.exit(main("reasoner_sampling", run, ("torch", "transformers")))
