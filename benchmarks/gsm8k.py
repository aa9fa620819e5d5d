"""The book's ladder on real GSM8K: a published GPT-2, steps, votes and a verifier.

Four rungs, judged on all 1,319 test questions, with three seeds: fine-tuned on answers
alone; on GSM8K's own steps; a vote of 16 samples; the vote weighted by a verifier that
learned from attempts at training questions, and from their answers only. Beside each
accuracy stand its interval, its tokens and seconds, and the p-value of its difference
to the rung below. Tokens of training count questions and padding, those of sampling
what the model writes.

What is chosen is chosen on `HELD_OUT` of the training questions, which no model sees:
the rate of each fine-tuning and the exponent of the weighted vote. The rest are
constants, set before any run.

`GSM8K_MODEL` names another GPT-2 of the Hugging Face Hub. This is meant for a CUDA GPU
of 80 GB. `--quick` needs neither a GPU nor a network: it goes the same way with a tiny
model and questions of the book, and its numbers mean nothing.
"""

import math
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from harness import digits, main, progress

from extracted.alignment.evaluation import paired_p_value, wilson_interval
from extracted.alignment.instruction_tuning import BATCH_SIZE, finetune
from extracted.foundations.data import in_validation
from extracted.foundations.generation import Completion, SamplingParams, generate
from extracted.foundations.gpt import GPT, GPTConfig
from extracted.foundations.language_modeling import END_OF_TEXT, Dice
from extracted.foundations.pretrained_weights import export_gpt2, fetch_gpt2, load_gpt2
from extracted.foundations.pretraining import TrainConfig
from extracted.foundations.tokenizer import Tokenizer
from extracted.reasoning.answers import (
    WordProblem,
    equivalent,
    extract_answer,
    load_gsm8k,
)
from extracted.reasoning.chain_of_thought import (
    answer_only,
    encode_question,
    make_examples,
)
from extracted.reasoning.problems import iterate_problems, write_rationale
from extracted.reasoning.self_consistency import majority_vote
from extracted.reasoning.verifiers import (
    Reading,
    fit_verifier,
    score_attempts,
    undecided,
    vote_weights,
)

MODEL = os.environ.get("GSM8K_MODEL", "openai-community/gpt2-medium")
HELD_OUT = 0.05  # share of the training questions on which choices are made
SAMPLES, TEMPERATURE = 16, 0.7
MAX_NEW_TOKENS = 256  # all but one in a thousand of GSM8K's solutions are shorter
EXPONENTS = (0.0, 1.0, 2.0, 4.0, 8.0, math.inf)  # 0 is the plain vote
# Muon's rate for one of AdamW: a step then moves an entry of a matrix 1,024 wide about
# as far as AdamW's 0.2 * rate (Liu et al. 2025). The book's own rates have this ratio.
MATRIX_RATE = 6.0
VERIFIER_RATE = 0.5  # of the fine-tuning's, as in the chapter
KEYS = 256 * 24 * 1024  # rows * layers * width whose cache fits beside the weights

# The book's functions name its Problem, of which they need what a WordProblem has too.
Questions = Sequence[Any]
same = cache(equivalent)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Setting:
    """The model and questions of a run, and how much is done with them."""

    folder: Path
    tokenizer: Tokenizer
    device: str
    train: Questions
    held_out: Questions
    test: Questions
    rates: tuple[float, ...] = (1e-5, 3e-5, 1e-4)
    epochs: int = 2  # Cobbe et al. (2021): more lowers the variety of samples
    attempts: int = 8  # at each training question, for the verifier
    seeds: tuple[int, ...] = (0, 1, 2)


def split(questions: Questions, held_out: bool) -> Questions:
    """The questions on which choices are made, or all others."""
    chosen = (in_validation(q.question, share=HELD_OUT) for q in questions)
    return [q for q, held in zip(questions, chosen, strict=True) if held == held_out]


def real_setting() -> Setting:
    """GSM8K and the published weights; `DownloadError` without a way to them."""
    train, test = load_gsm8k("train"), load_gsm8k("test")
    folder = fetch_gpt2(MODEL)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        progress("no CUDA device, where this is slow beyond use; try --quick")
    return Setting(
        folder,
        Tokenizer.load(folder),
        device,
        train=split(train, held_out=False),
        held_out=split(train, held_out=True),
        test=test,
    )


def book_questions(name: str, count: int) -> list[WordProblem]:
    """Questions of the book in GSM8K's form, with small answers, which luck finds."""
    found = (p for p in iterate_problems(name, steps=2) if p.answer <= 3)
    marked = re.compile(r"(\S+)=(\d+)")
    return [
        WordProblem(
            p.question,
            str(p.answer),
            marked.sub(r"\1=<<\1=\2>>\2", write_rationale(p).strip()),
        )
        for p in islice(found, count)
    ]


def quick_setting(folder: Path) -> Setting:
    """A tiny model of random weights, in GPT-2's files."""
    train, test = book_questions("train", 200), book_questions("test", 12)
    texts = [with_steps(problem, None) for problem in train]
    tokenizer = Tokenizer.train(
        [*texts, *(p.question for p in train)], 400, special_tokens=[END_OF_TEXT]
    )
    shape = GPTConfig(tokenizer.vocab_size, 384, 2, 2, 32)
    model = GPT(shape, generator=torch.Generator().manual_seed(0))
    export_gpt2(model, folder, tokenizer=tokenizer)
    return Setting(
        folder,
        Tokenizer.load(folder),
        "cpu",
        train=split(train, held_out=False),
        held_out=split(train, held_out=True),
        test=test,
        rates=(2.5e-3, 5e-3),
        epochs=6,
        attempts=4,
        seeds=(0,),
    )


def with_steps(problem: WordProblem, dice: Dice | None) -> str:
    """GSM8K's solution without the marks for its calculator, and the answer."""
    steps = re.sub(r"<<.*?>>", "", problem.solution)
    return f"\n{steps}\n#### {problem.answer}"


def clocked(work: Callable[[], Result]) -> tuple[Result, float]:
    """What `work` returns, and its seconds."""
    start = time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, digits(time.perf_counter() - start)


def finetuned(
    setting: Setting, write: Callable[..., str], rate: float, seed: int
) -> tuple[GPT, dict[str, Any]]:
    """The published model trained on what `write` writes, and what that took."""
    model = load_gpt2(setting.folder, device=setting.device).train()  # with its dropout
    examples = make_examples(setting.train, setting.tokenizer, write)
    config = TrainConfig(
        steps=setting.epochs * -(-len(examples) // BATCH_SIZE),
        rate=rate,
        matrix_rate=MATRIX_RATE * rate,
        seed=seed,
        device=setting.device,
        log_every=50,
        evaluate_every=0,
    )
    log, seconds = clocked(lambda: finetune(model, examples, setting.tokenizer, config))
    cost = {"training_tokens": log[-1]["tokens"], "training_seconds": seconds}
    return model, {"rate": rate, "loss": digits(log[-1]["loss"]), **cost}


def write_answers(
    setting: Setting,
    model: GPT,
    questions: Questions,
    *,
    num_samples: int = 1,
    temperature: float = TEMPERATURE,
    seed: int = 0,
) -> tuple[list[list[Completion]], dict[str, Any]]:
    """Solutions of each question, and what they took."""
    prompts = [encode_question(setting.tokenizer, q) for q in questions]
    params = SamplingParams(
        MAX_NEW_TOKENS,
        temperature,
        stop_ids=(setting.tokenizer.special_tokens[END_OF_TEXT],),
        seed=seed,
    )
    shape = model.config
    rows, seconds = clocked(
        lambda: generate(
            model,
            prompts,
            params,
            num_samples=num_samples,
            tokenizer=setting.tokenizer,
            max_rows=min(256, KEYS // (shape.num_layers * shape.width)),
        )
    )
    tokens = sum(len(solution.ids) for row in rows for solution in row)
    return rows, {"tokens": tokens, "seconds": seconds}


def read_answers(row: Sequence[Completion]) -> list[str]:
    """The answer of each solution, "" without one; those that mean the same, alike."""
    found: dict[str, None] = {}
    answers = []
    for solution in row:
        answer = extract_answer(solution.text) or ""
        if answer and answer not in found:
            answer = next((known for known in found if same(answer, known)), answer)
            found[answer] = None
        answers.append(answer)
    return answers


def are_right(answers: Sequence[str], question: WordProblem) -> list[bool]:
    """Whether each answer means what the gold one does."""
    right = {a: bool(a) and same(a, question.answer) for a in set(answers)}
    return [right[answer] for answer in answers]


def winners_right(
    rows: Sequence[Sequence[Completion]],
    questions: Questions,
    weights: Sequence[Sequence[float] | None] | None = None,
) -> list[bool]:
    """Whether the answer that wins the vote of each row is right."""
    if weights is None:
        weights = [None] * len(rows)
    winners = [
        majority_vote(read_answers(row), weight)
        for row, weight in zip(rows, weights, strict=True)
    ]
    return [are_right([w], q)[0] for w, q in zip(winners, questions, strict=True)]


def readings(
    setting: Setting, rows: Sequence[Sequence[Completion]], questions: Questions
) -> list[list[Reading]]:
    """Solutions as a verifier reads them, labelled by their answers alone."""
    found = []
    for row, question in zip(rows, questions, strict=True):
        start = encode_question(setting.tokenizer, question)
        labels = are_right(read_answers(row), question)
        found.append(
            [
                Reading(
                    start + solution.ids,
                    [0.0] * len(start) + solution.logprobs,
                    [len(start) + len(solution.ids) - 1],
                    [label],
                )
                for solution, label in zip(row, labels, strict=True)
            ]
        )
    return found


def choose_rate(setting: Setting, write: Callable[..., str]) -> dict[float, int]:
    """For each rate the held-out questions that a model trained at it answers."""
    found = {}
    for rate in setting.rates:
        model, cost = finetuned(setting, write, rate, seed=0)
        rows, _ = write_answers(setting, model, setting.held_out, temperature=0.0)
        found[rate] = sum(winners_right(rows, setting.held_out))
        progress(f"{found[rate]} of {len(setting.held_out)} held out: {cost}")
    return found


def weighted_vote(
    setting: Setting, model: GPT, rate: float, seed: int, test: list[list[Completion]]
) -> tuple[list[bool], dict[str, Any]]:
    """The vote on `test` weighted by a verifier, and what that took."""
    rows, sampling = write_answers(
        setting, model, setting.train, num_samples=setting.attempts, seed=seed + 1
    )
    lessons = undecided(readings(setting, rows, setting.train))
    rate *= VERIFIER_RATE
    verifier, training_seconds = clocked(
        lambda: fit_verifier(
            model, lessons, rate=rate, matrix_rate=MATRIX_RATE * rate, seed=seed
        )
    )

    def scored(rows: list[list[Completion]], of: Questions) -> list[list[float]]:
        return score_attempts(verifier, readings(setting, rows, of), how="answer")

    def vote(
        rows: list[list[Completion]],
        of: Questions,
        scores: list[list[float]],
        exponent: float,
    ) -> list[bool]:
        weights = [vote_weights(row, exponent) for row in scores]
        return winners_right(rows, of, weights)

    held, _ = write_answers(
        setting, model, setting.held_out, num_samples=SAMPLES, seed=seed
    )
    held_scores = scored(held, setting.held_out)
    chosen = {e: sum(vote(held, setting.held_out, held_scores, e)) for e in EXPONENTS}
    exponent = max(chosen, key=chosen.__getitem__)
    scores, seconds = clocked(lambda: scored(test, setting.test))
    return vote(test, setting.test, scores, exponent), {
        "exponent": str(exponent),
        "held_out_right": {str(e): right for e, right in chosen.items()},
        "sampled_tokens": sampling["tokens"],
        "sampling_seconds": sampling["seconds"],
        "readings": len(lessons),
        "training_seconds": training_seconds,
        "scoring_seconds": seconds,
    }


def climb(
    setting: Setting, rates: dict[str, float], seed: int
) -> list[tuple[str, list[bool], dict[str, Any]]]:
    """Each rung's name, which test questions it answers, and what it took."""
    rungs = []
    for name, write in KINDS.items():
        model, cost = finetuned(setting, write, rates[name], seed)
        rows, more = write_answers(setting, model, setting.test, temperature=0.0)
        rungs.append((name, winners_right(rows, setting.test), cost | more))
    # The model that took steps, the last, goes on.
    rows, cost = write_answers(
        setting, model, setting.test, num_samples=SAMPLES, seed=seed
    )
    rungs.append(("vote", winners_right(rows, setting.test), cost))
    right, more = weighted_vote(setting, model, rates["steps"], seed, rows)
    rungs.append(("verifier", right, cost | more))
    return rungs


KINDS: dict[str, Callable[..., str]] = {
    "answer alone": answer_only,
    "steps": with_steps,
}


def one_seed(setting: Setting, rates: dict[str, float], seed: int) -> list[Any]:
    """A record of each rung, with the p-value against the one below."""
    records, below = [], None
    for name, right, cost in climb(setting, rates, seed):
        low, high = wilson_interval(sum(right), len(right))
        record: dict[str, Any] = {"rung": name, "seed": seed, "right": sum(right)}
        record["interval"] = [digits(low), digits(high)]
        if below is not None:
            record["p_value"] = digits(paired_p_value(below, right))
        records.append(record | cost)
        below = right
        progress(str(records[-1]))
    return records


def ladder(setting: Setting) -> dict[str, Any]:
    """All rungs with all seeds, at the rates that do best on what is held out."""
    tried = {name: choose_rate(setting, write) for name, write in KINDS.items()}
    rates = {name: max(found, key=found.__getitem__) for name, found in tried.items()}
    records = [r for seed in setting.seeds for r in one_seed(setting, rates, seed)]
    mean: dict[str, float] = {}
    for record in records:
        share = record["right"] / len(setting.test) / len(setting.seeds)
        mean[record["rung"]] = mean.get(record["rung"], 0.0) + share
    return {
        "questions": {
            "train": len(setting.train),
            "held_out": len(setting.held_out),
            "test": len(setting.test),
        },
        "epochs": setting.epochs,
        "samples": SAMPLES,
        "temperature": TEMPERATURE,
        "held_out_right": {
            name: {str(rate): right for rate, right in found.items()}
            for name, found in tried.items()
        },
        "accuracy": {name: digits(value) for name, value in mean.items()},
        "runs": records,
    }


def run(quick: bool) -> dict[str, Any]:
    torch.set_float32_matmul_precision("high")  # on a GPU: TF32, also when sampling
    if not quick:
        return {"model": MODEL, **ladder(real_setting())}
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        return {"model": "tiny", **ladder(quick_setting(Path(folder)))}


if __name__ == "__main__":
    sys.exit(main("gsm8k", run, ("torch",)))
