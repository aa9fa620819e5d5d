# Generated from book/reasoning/chain_of_thought.md; do not edit (500e5becc556)
"""The same model and examples trained on answers alone and on steps; why steps help,
what in them helps, and how long a thought may be.
"""

# %% book/reasoning/chain_of_thought.md#imports
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from extracted.alignment.instruction_tuning import (
    BATCH_SIZE,
    Example,
    finetune,
)
from extracted.foundations.generation import (
    Completion,
    SamplingParams,
    generate,
)
from extracted.foundations.gpt import GPT, GPTConfig, RotaryGPT
from extracted.foundations.language_modeling import END_OF_TEXT, Dice
from extracted.foundations.pretraining import (
    TrainConfig,
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


# %% book/reasoning/chain_of_thought.md#REASONER_CONFIG
REASONER_CONFIG = TrainConfig(steps=1800, log_every=100, evaluate_every=0)


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
