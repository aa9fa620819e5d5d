"""What a small model learns from a teacher: the book's student trained in several ways.

For each seed a student begins on examples. From there each method goes on, for as many
steps and with batches as large, but for `longer`, which has no teacher and more steps
instead. Accuracy on the test split, greedy and of a sample at temperature 1. The
teacher is trained first, as the book trains its reasoner.
"""

import copy
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from harness import digits, main, progress

from extracted.alignment.evaluation import paired_p_value
from extracted.alignment.instruction_tuning import (
    BATCH_SIZE,
    Example,
    ExampleBatches,
    finetune,
)
from extracted.foundations.gpt import GPT
from extracted.foundations.language_modeling import END_OF_TEXT
from extracted.foundations.tokenizer import Tokenizer
from extracted.reasoning.capstone import pooled_differences, sign_flip_p_value
from extracted.reasoning.chain_of_thought import (
    REASONER_CONFIG,
    Attempt,
    fresh_reasoner,
    make_examples,
    solve,
    think_first,
)
from extracted.reasoning.distillation import (
    FIRST_CONFIG,
    SECOND_CONFIG,
    Divergence,
    OnPolicyBatches,
    distill,
    forward_kl,
    new_student,
    reverse_kl,
    sound,
    written_examples,
)
from extracted.reasoning.problems import Problem, generate_problems

FEW = 256  # questions, read again and again, where they are few
SEEDS = (100, 101, 102)  # of the students; the teacher's is 0


@dataclass(frozen=True)
class Method:
    """Whose texts are read, and what is compared; no divergence: the text itself."""

    texts: str = "examples"
    divergence: Divergence | None = None
    temperature: float = 1.0  # of the divergence
    more: float = 1.0  # times the steps
    few: bool = False  # whether there are but `FEW` questions


METHODS = {
    "examples": Method(),
    "longer": Method(more=2.0),
    "samples": Method("samples"),
    "checked": Method("checked"),
    "greedy": Method("greedy"),
    "forward": Method(divergence=forward_kl),
    "forward, T=2": Method(divergence=forward_kl, temperature=2.0),
    "reverse": Method(divergence=reverse_kl),
    "own, forward": Method("own", forward_kl),
    "own, reverse": Method("own", reverse_kl),
    "few, examples": Method(few=True),
    "few, forward": Method(divergence=forward_kl, few=True),
    "few, samples": Method("samples", forward_kl, few=True),
    "few, own": Method("own", reverse_kl, few=True),
}


class Counted(OnPolicyBatches):
    """Counts the tokens that the student writes."""

    written = 0

    def write(self) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        batches = super().write()
        self.written += sum(int(counted.sum()) for _, _, counted in batches)
        return batches


def teacher_texts(
    teacher: GPT,
    tokenizer: Tokenizer,
    kind: str,
    count: int,
    seed: int,
    few: list[Problem],
) -> tuple[list[Example], int]:
    """`count` texts of the teacher, for `few` again and again or for new problems,
    and the tokens it wrote.
    """
    found, written = list[Example](), 0

    def keep(attempt: Attempt) -> bool:
        nonlocal written
        written += len(attempt.completion.ids)
        return kind != "checked" or sound(attempt)

    for lot in range(100):
        found += written_examples(
            teacher,
            tokenizer,
            few
            or generate_problems(min(count, 2048), seed=10_000 + 1_000 * seed + lot),
            temperature=0.0 if kind == "greedy" else 1.0,
            keep=keep,
            seed=lot,
        )
        if len(found) >= count:
            return found[:count], written
    raise ValueError(f"the teacher wrote {len(found)} texts that pass, not {count}")


def begin(tokenizer: Tokenizer, seed: int, steps: int) -> GPT:
    """The student that all methods of a seed start from."""
    problems = generate_problems(steps * BATCH_SIZE, seed=seed)
    examples = make_examples(problems, tokenizer, think_first, seed=seed)
    student = new_student(tokenizer, seed=seed)
    config = replace(FIRST_CONFIG, steps=steps, seed=seed)
    finetune(student, examples, tokenizer, config)
    return student


def go_on(
    student: GPT,
    method: Method,
    teacher: GPT,
    tokenizer: Tokenizer,
    seed: int,
    steps: int,
) -> dict[str, Any]:
    """Train `student` in place; what it took."""
    start = time.perf_counter()
    steps = round(method.more * steps)
    config = replace(SECOND_CONFIG, steps=steps, seed=seed)
    count, written = FEW if method.few else steps * BATCH_SIZE, 0
    problems = generate_problems(count, seed=1_000 + seed)
    end = tokenizer.special_tokens[END_OF_TEXT]
    if method.texts == "own":
        assert method.divergence is not None
        again = problems * -(-steps * BATCH_SIZE // count)
        own = Counted(student, tokenizer, again, batch_size=BATCH_SIZE)
        log = distill(student, teacher, own, config, divergence=method.divergence)
        written = own.written
    else:
        examples = make_examples(problems, tokenizer, think_first, seed=seed)
        if method.texts != "examples":
            few = problems if method.few else []
            examples, written = teacher_texts(
                teacher, tokenizer, method.texts, steps * BATCH_SIZE, seed, few
            )
        if method.divergence is None:
            log = finetune(student, examples, tokenizer, config)
        else:
            log = distill(
                student,
                teacher,
                ExampleBatches(examples, batch_size=BATCH_SIZE, seed=seed, pad_id=end),
                config,
                divergence=method.divergence,
                temperature=method.temperature,
            )
    return {
        "steps": steps,
        "seconds": digits(time.perf_counter() - start),
        "written": written,
        "loss": digits(log[-1]["loss"]),
    }


def results(
    model: GPT, tokenizer: Tokenizer, problems: list[Problem], temperature: float = 0.0
) -> list[bool]:
    found = solve(model, tokenizer, problems, temperature=temperature)
    return [attempt.correct for (attempt,) in found]


def all_runs(
    teacher: GPT,
    tokenizer: Tokenizer,
    problems: list[Problem],
    steps: tuple[int, int],
    seeds: tuple[int, ...],
    methods: Collection[str] = METHODS.keys(),
) -> Iterator[tuple[dict[str, Any], list[bool]]]:
    """Each seed's start, and each method from there; "examples" goes first."""
    for seed in seeds:
        first = begin(tokenizer, seed, steps[0])
        right = results(first, tokenizer, problems)
        row: dict[str, Any] = {"method": "start", "seed": seed, "steps": steps[0]}
        row["sampled"] = sum(results(first, tokenizer, problems, 1.0))
        yield row | {"test": sum(right)}, right
        base: list[bool] = []
        for name in methods:
            student = copy.deepcopy(first)
            took = go_on(student, METHODS[name], teacher, tokenizer, seed, steps[1])
            right = results(student, tokenizer, problems)
            base = base or right
            row = {"method": name, "seed": seed, **took, "test": sum(right)}
            row["sampled"] = sum(results(student, tokenizer, problems, 1.0))
            row["p"] = digits(paired_p_value(base, right))
            progress(str(row))
            yield row, right


def pooled(rows: list[dict[str, Any]], right: list[list[bool]]) -> dict[str, float]:
    """p-values against the examples alone; a problem's seeds are added up first."""
    together: dict[str, list[list[bool]]] = {}
    for row, found in zip(rows, right, strict=True):
        together.setdefault(row["method"], []).append(found)
    base = together["examples"]
    return {
        name: digits(sign_flip_p_value(pooled_differences(base, found)))
        for name, found in together.items()
    }


def run(quick: bool, seeds: tuple[int, ...] = SEEDS) -> dict[str, Any]:
    torch.set_num_threads(1)
    count, taught = (50, 20) if quick else (1000, REASONER_CONFIG.steps)
    steps = (16, 16) if quick else (FIRST_CONFIG.steps, SECOND_CONFIG.steps)
    teacher, tokenizer, _ = fresh_reasoner(
        config=replace(REASONER_CONFIG, steps=taught)
    )
    problems = generate_problems(count, "test")
    rows, right = list[dict[str, Any]](), list[list[bool]]()
    chosen = seeds[:1] if quick else seeds
    # A teacher of twenty steps writes nothing that passes the checker.
    methods = [name for name in METHODS if not (quick and name == "checked")]
    for row, found in all_runs(teacher, tokenizer, problems, steps, chosen, methods):
        rows.append(row)
        right.append(found)
    return {
        "problems": count,
        "steps": steps,
        "threads": 1,
        "seeds": len(chosen),
        "teacher": sum(results(teacher, tokenizer, problems)),
        "pooled_p": pooled(rows, right),
        "runs": rows,
    }


if __name__ == "__main__":
    sys.exit(main("distillation", run, ("torch",)))
