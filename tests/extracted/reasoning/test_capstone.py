"""The ladder: its statistics against brute force, its rungs, and a whole small run."""

import itertools
import math
import random
from dataclasses import replace

import pytest

from extracted.alignment.evaluation import paired_p_value
from extracted.foundations.gpt import GPTConfig, RotaryGPT
from extracted.foundations.tokenizer import Tokenizer
from extracted.reasoning.capstone import (
    HOWS,
    RUNGS,
    LadderConfig,
    Models,
    Scored,
    Weighing,
    choose_weighing,
    climb,
    pooled_differences,
    run_ladder,
    sign_flip_p_value,
)
from extracted.reasoning.chain_of_thought import solve
from extracted.reasoning.problems import generate_problems
from extracted.reasoning.verifiers import Verifier


@pytest.fixture(scope="module")
def models(tokenizer: Tokenizer) -> Models:
    shape = GPTConfig(tokenizer.vocab_size, 256, 1, 2, 16, bias=False)
    model = RotaryGPT(shape).eval()
    return Models(tokenizer, model, model, Verifier(model).eval(), model)


def test_sign_flips_equal_brute_force() -> None:
    dice = random.Random(0)
    for _ in range(30):
        d = [dice.randint(-3, 3) for _ in range(8)]
        patterns = list(itertools.product((-1, 1), repeat=len(d)))
        sums = [sum(s * x for s, x in zip(p, d, strict=True)) for p in patterns]
        extreme = sum(abs(total) >= abs(sum(d)) for total in sums)
        assert sign_flip_p_value(d) == pytest.approx(extreme / len(patterns))


def test_sign_flips_of_one_seed_are_mcnemars_test() -> None:
    dice = random.Random(1)
    before = [dice.random() < 0.6 for _ in range(300)]
    after = [dice.random() < 0.7 for _ in range(300)]
    differences = pooled_differences([before], [after])
    assert sign_flip_p_value(differences) == pytest.approx(
        paired_p_value(before, after)
    )


def test_no_difference_is_no_evidence() -> None:
    assert sign_flip_p_value([]) == sign_flip_p_value([0, 0]) == 1.0
    assert sign_flip_p_value([1, -1]) == 1.0


def test_seeds_are_added_up_for_each_problem() -> None:
    lower = [[True, False, False], [False, False, True]]
    upper = [[True, True, False], [True, True, False]]
    assert pooled_differences(lower, upper) == [1, 2, -1]
    with pytest.raises(ValueError):
        pooled_differences([[True]], [[True, False]])


def test_a_vote_by_scores_and_what_it_costs() -> None:
    scores = [[0.9, 0.3, 0.3], [0.5, 0.5, 0.6]]
    scored = Scored(
        truth=["1", "2"],
        answers=[["1", "9", "9"], ["2", "2", "9"]],
        scores=dict.fromkeys(HOWS, scores) | {"answer": [[0.5] * 3, [0.5] * 3]},
        written=60,
        read=200,
        writing=2.0,
        reading=1.0,
    )
    plain = scored.vote()
    assert plain.right == [False, True]
    assert (plain.written, plain.read, plain.seconds) == (60, 0, 2.0)
    weighed = scored.vote(Weighing("product", 1))
    assert weighed.right == [True, True]
    assert (weighed.read, weighed.seconds) == (200, 3.0)
    assert scored.vote(Weighing("product", math.inf)).right == [True, False]
    assert choose_weighing(scored) == Weighing("product", 1.0)


def test_every_rung_answers_every_problem(models: Models) -> None:
    problems = generate_problems(3, "test")
    rungs = climb(models, problems, Weighing("all", 1.0), num_samples=2)
    assert tuple(rungs) == RUNGS
    for rung in rungs.values():
        assert len(rung.right) == 3
        assert rung.written > 0 and rung.seconds > 0
    assert rungs["verifier"].read > rungs["verifier"].written > 0
    assert rungs["vote"].read == 0
    attempts = solve(models.base, models.tokenizer, problems)
    assert rungs["answers alone"].written == sum(
        len(a.completion.ids) for (a,) in attempts
    )


def test_a_small_ladder_is_a_record() -> None:
    whole = LadderConfig()
    config = LadderConfig(
        reasoner=replace(whole.reasoner, steps=2),
        grpo=replace(whole.grpo, iterations=1, num_problems=2, num_samples=2),
        verifier_problems=0,
        validation=2,
        exams=(("test", 2), ("longer", 1)),
        num_samples=2,
    )
    row = run_ladder(config, seed=1)
    assert set(row["exams"]) == {"test", "longer"}
    assert set(row["training_seconds"]) == {"base", "reasoner", "learner", "verifier"}
    for name in RUNGS:
        marks = row["exams"]["test"][name]["right"]
        assert len(marks) == 2 and set(marks) <= {"0", "1"}
