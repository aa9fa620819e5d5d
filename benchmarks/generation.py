"""Generation with a key-value cache beside transformers and LLMs-from-scratch.

Greedy decoding with GPT-2 small's shape and the same random weights in all three, whose
tokens must agree; then sixteen samples a prompt with a small model, ours beside
`transformers.generate`. LLMs-from-scratch is 1.0.14, the last version whose cached
GPT-2 runs (1.0.15 to 1.0.19 stop with an error at the first token after the prompt); it
needs none of its dependencies here: `pip install --no-deps llms-from-scratch==1.0.14`.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
from harness import compare, digits, main, progress
from peers import transformers_samples
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from extracted.foundations.generation import SamplingParams, generate
from extracted.foundations.gpt import GPT, GPTConfig
from extracted.foundations.pretrained_weights import to_gpt2

try:
    from llms_from_scratch.kv_cache.generate import generate_text_simple
    from llms_from_scratch.kv_cache.gpt2 import GPTModel
except ImportError:
    sys.exit("a peer is missing: pip install --no-deps llms-from-scratch==1.0.14")

PROMPT = 32


def transformers_model(model: GPT) -> GPT2LMHeadModel:
    """GPT-2 of transformers with the weights of `model`, which has biases."""
    config = model.config
    peer = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.max_seq_len,
            n_embd=config.width,
            n_layer=config.num_layers,
            n_head=config.num_heads,
            bos_token_id=0,
            eos_token_id=0,
        )
    ).eval()
    weights = to_gpt2(model)
    weights["lm_head.weight"] = weights["transformer.wte.weight"]
    peer.load_state_dict(weights)
    return peer


def llms_from_scratch_model(model: GPT) -> GPTModel:
    """The peer's GPT with the weights of `model`."""
    config = model.config
    peer = GPTModel(
        {
            "vocab_size": config.vocab_size,
            "context_length": config.max_seq_len,
            "emb_dim": config.width,
            "n_heads": config.num_heads,
            "n_layers": config.num_layers,
            "drop_rate": 0.0,
            "qkv_bias": True,
        }
    ).eval()
    with torch.no_grad():
        peer.tok_emb.weight.copy_(model.tokens.weight)
        peer.pos_emb.weight.copy_(model.positions.weight)
        peer.out_head.weight.copy_(model.readout.weight)
        norms = [(peer.final_norm, model.norm)]
        for theirs, block in zip(peer.trf_blocks, model.blocks, strict=True):
            norms += [
                (theirs.norm1, block.attention_norm),
                (theirs.norm2, block.mlp_norm),
            ]
            attention = theirs.att
            rows = zip(
                (attention.W_query, attention.W_key, attention.W_value),
                block.attention.qkv.weight.chunk(3),
                block.attention.qkv.bias.chunk(3),
                strict=True,
            )
            pairs = [
                (attention.out_proj, block.attention.out),
                (theirs.ff.layers[0], block.mlp.up),
                (theirs.ff.layers[2], block.mlp.down),
            ]
            for layer, weight, bias in [
                *rows,
                *((a, b.weight, b.bias) for a, b in pairs),
            ]:
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)
        for theirs, norm in norms:
            theirs.scale.copy_(norm.weight)
            theirs.shift.copy_(norm.bias)
    return peer


def llms_from_scratch_greedy(peer: GPTModel, ids: Tensor, count: int) -> Tensor:
    """The peer's own function; it makes one pass more than there are tokens."""
    context = peer.pos_emb.num_embeddings
    found: Tensor = generate_text_simple(peer, ids, count, context_size=context)
    return found


def transformers_greedy(peer: GPT2LMHeadModel, ids: Tensor, count: int) -> Tensor:
    found: Tensor = peer.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=count,
        min_new_tokens=count,
        pad_token_id=0,
    )
    return found


def our_greedy(model: GPT, ids: Tensor, count: int) -> Tensor:
    params = SamplingParams(max_new_tokens=count, temperature=0)
    found = generate(model, ids.tolist(), params)
    return torch.tensor(
        [p + c[0].ids for p, c in zip(ids.tolist(), found, strict=True)]
    )


def rates(
    runs: dict[str, Callable[[], object]], tokens: int, repeats: int
) -> dict[str, Any]:
    """Tokens a second of each, by the median time, and ours against each."""
    times = compare({name: lambda run=run: run for name, run in runs.items()}, repeats)
    found: dict[str, Any] = {}
    for name, figures in times.items():
        median = figures["wall"]["median_s"]
        found[name] = {"tokens_per_second": digits(tokens / median), **figures}
    ours = found["ours"]["tokens_per_second"]
    for name in found.keys() - {"ours"}:
        found[name]["ours_is_faster_by"] = digits(
            ours / found[name]["tokens_per_second"]
        )
    return found


def gpt2_small(quick: bool) -> dict[str, Any]:
    """The three libraries, greedy, batch 1 and 16."""
    config = GPTConfig.gpt2_small()
    if quick:
        config = GPTConfig(1000, 256, 2, 4, 64)
    generator = torch.Generator().manual_seed(0)
    model = GPT(config, generator=generator).eval()
    with torch.no_grad():  # wide enough that the best token leads by a margin
        model.tokens.weight.mul_(5)
    theirs, scratch = transformers_model(model), llms_from_scratch_model(model)
    results: dict[str, Any] = {"prompt_tokens": PROMPT}
    for batch in (1, 16):
        count = 8 if quick else 64
        ids = torch.randint(1, config.vocab_size, (batch, PROMPT), generator=generator)
        runs = {
            "ours": lambda ids=ids, n=count: our_greedy(model, ids, n),
            "transformers": lambda ids=ids, n=count: transformers_greedy(
                theirs, ids, n
            ),
            "llms_from_scratch": lambda ids=ids, n=count: llms_from_scratch_greedy(
                scratch, ids, n
            ),
        }
        first, *others = (run() for run in runs.values())
        same = [torch.equal(first, other) for other in others]
        progress(f"batch {batch}: tokens equal {same}")
        results[f"batch_{batch}"] = {
            "new_tokens": count,
            "same_tokens": all(same),
            **rates(runs, batch * count, 1 if quick else 3),
        }
    return results


def many_samples(quick: bool) -> dict[str, Any]:
    """Sixteen samples a prompt with 0.2 million weights, as votes need them."""
    config = GPTConfig(110, 192, 4, 4, 64)
    generator = torch.Generator().manual_seed(0)
    model = GPT(config, generator=generator).eval()
    theirs = transformers_model(model)
    num_prompts = 8 if quick else 500
    lengths = torch.randint(35, 61, (num_prompts,), generator=generator).tolist()
    prompts = [
        torch.randint(1, 110, (n,), generator=generator).tolist() for n in lengths
    ]
    params = SamplingParams(max_new_tokens=48, temperature=0.7, stop_ids=(0,))

    def ours() -> int:
        found = generate(model, prompts, params, num_samples=16)
        return sum(len(c.ids) for row in found for c in row)

    def peers() -> int:
        return transformers_samples(
            theirs,
            prompts,
            num_samples=16,
            temperature=params.temperature,
            max_new_tokens=params.max_new_tokens,
            end=0,
        )

    found: dict[str, Any] = {"prompts": num_prompts, "samples": 16}
    counted: dict[str, list[int]] = {"ours": [], "transformers": []}
    runs = {
        "ours": lambda: counted["ours"].append(ours()),
        "transformers": lambda: counted["transformers"].append(peers()),
    }
    times = compare(
        {n: lambda run=run: run for n, run in runs.items()}, 1 if quick else 3
    )
    for name, figures in times.items():
        tokens = sum(counted[name]) / len(counted[name])
        median = figures["wall"]["median_s"]
        found[name] = {"tokens_per_second": digits(tokens / median), **figures}
    found["transformers"]["ours_is_faster_by"] = digits(
        found["ours"]["tokens_per_second"] / found["transformers"]["tokens_per_second"]
    )
    return found


def run(quick: bool) -> dict[str, Any]:
    torch.manual_seed(0)
    return {
        "threads": torch.get_num_threads(),
        "gpt2_small": gpt2_small(quick),
        "many_samples": many_samples(quick),
    }


if __name__ == "__main__":
    packages = ("torch", "transformers", "llms-from-scratch")
    sys.exit(main("generation", run, packages))
