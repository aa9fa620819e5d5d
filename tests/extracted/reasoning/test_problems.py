"""Problems, their splits, rationales and checker, against brute force and sympy."""

import itertools
import random
import re
from pathlib import Path

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from extracted.foundations.language_modeling import Dice
from extracted.foundations.tokenizer import Tokenizer
from extracted.reasoning.problems import (
    LARGEST,
    PHRASES,
    REWORDED,
    SPLITS,
    Problem,
    Step,
    check_rationale,
    compute,
    generate_problems,
    iterate_problems,
    purpose_of,
    skeleton,
    train_problem_tokenizer,
    write_problem,
    write_rationale,
)

MIA = Problem(
    "Mia has 12 apples. Mia buys 3 bags with 2 apples in each. How many?",
    (Step("*", (3, 2), 6), Step("+", (12, "0"), 18)),
)


def dice(seed: int = 0) -> Dice:
    return Dice(random.Random(seed))


def words(problem: Problem) -> set[str]:
    return set(re.findall(r"[A-Za-z]+", problem.question))


@given(st.sampled_from("+-*/"), st.integers(1, 99), st.integers(1, 99))
def test_compute_is_arithmetic_or_nothing(op: str, a: int, b: int) -> None:
    exact = sympy.Rational(a) / b if op == "/" else sympy.sympify(f"{a}{op}{b}")
    assert compute(op, a, b) == (exact if exact.is_integer else 0)


def test_nothing_can_be_divided_by_zero() -> None:
    assert compute("/", 5, 0) == 0  # as a model may write it


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_has_its_steps_and_numbers(split: str) -> None:
    fewest, most, _, purpose = SPLITS[split]
    problems = generate_problems(200, split)
    counts = {len(problem.steps) for problem in problems}
    assert counts == set(range(fewest, most + 1))
    for problem in problems:
        assert purpose_of(problem) == purpose
        numbers = [int(n) for n in re.findall(r"\d+", problem.question)]
        given_numbers = {x for s in problem.steps for x in s.args if isinstance(x, int)}
        assert given_numbers <= set(numbers), "a step uses what the text does not say"
        for step in problem.steps:
            a, b = problem.operands(step)
            assert step.value == compute(step.op, a, b)
            assert 0 < step.value <= LARGEST


def test_every_step_is_needed() -> None:
    for problem in generate_problems(200) + generate_problems(50, "longer"):
        used = {x for s in problem.steps for x in s.args if isinstance(x, str)}
        assert used == {str(i) for i in range(len(problem.steps) - 1)}


def test_splits_share_no_skeleton() -> None:
    kept = {
        split: set(map(skeleton, generate_problems(800, split))) for split in SPLITS
    }
    for first, second in itertools.combinations(kept, 2):
        if {first, second} != {"test", "reworded"}:  # the same exam in other words
            assert not kept[first] & kept[second], (first, second)


def test_seeds_and_splits_draw_apart_and_repeat() -> None:
    assert generate_problems(20, seed=3) == generate_problems(20, seed=3)
    assert generate_problems(20, seed=3) != generate_problems(20, seed=4)
    only = itertools.islice(iterate_problems("test", steps=3), 30)
    assert all(len(problem.steps) == 3 for problem in only)
    with pytest.raises(ValueError, match="split 'exam': use one of train, "):
        next(iterate_problems("exam"))


def test_reworded_sentences_are_new_and_their_words_are_not() -> None:
    for key, lines in REWORDED.items():
        changed = lines is not PHRASES[key]
        assert not changed or not set(lines) & set(PHRASES[key])
    taught = set().union(*map(words, generate_problems(3_000)))
    used = set().union(*map(words, generate_problems(500, "reworded")))
    assert used <= taught


def test_a_skeleton_forgets_words_and_the_order_of_sums() -> None:
    turned = Problem("Ida walks.", (Step("*", (2, 3), 6), Step("+", ("0", 12), 18)))
    assert skeleton(MIA) == skeleton(turned) == "2*3;#0+12"
    other = Problem(MIA.question, (Step("*", (3, 2), 6), Step("-", (12, "0"), 6)))
    assert skeleton(other) != skeleton(MIA)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_what_the_author_writes_the_checker_accepts(seed: int, steps: int) -> None:
    problem = write_problem(dice(seed), steps)
    assert len(problem.steps) == steps
    for text in (write_rationale(problem), write_rationale(problem, dice(seed))):
        verdict = check_rationale(problem, f"{text}#### {problem.answer}")
        assert verdict.answer and verdict.steps == (True,) * steps


def test_a_drawn_rationale_takes_every_valid_form() -> None:
    two = Problem("", (Step("+", (1, 2), 3), Step("*", (4, 5), 20)))
    seen = {write_rationale(two, d) for d in [dice()] for _ in range(200)}
    sums, products = ("1+2=3", "2+1=3"), ("4*5=20", "5*4=20")
    pairs = [(a, b) for a in sums for b in products]
    assert seen == {f" {x}. {y}." for p in pairs for x, y in (p, p[::-1])}


@pytest.mark.parametrize(
    ("text", "steps", "answer"),
    [
        (" 3*2=6. 12+6=18.#### 18", (True, True), True),
        (" 2*3=6. 6+12=18.#### 18", (True, True), True),
        (" 12+6=18. 3*2=6.#### 18", (False, True), True),  # 6 is not known yet
        (" 3*2=5. 12+5=17.#### 17", (False, False), False),
        (" 3*2=6. 3*2=6. 12+6=18.#### 18", (True, False, True), True),
        (" 1+1=2.#### 18", (False,), True),
        (" 3*2=6. 12+6=18.#### 18 apples", (True, True), False),
        (" 3*2=6 and 12+6=18.", (False,), False),
        (" 3*2=99999999999999999999.#### 18", (False,), True),
        ("", (), False),
        ("#### ####", (), False),
    ],
)
def test_verdicts_by_hand(text: str, steps: tuple[bool, ...], answer: bool) -> None:
    verdict = check_rationale(MIA, text)
    assert (verdict.steps, verdict.answer) == (steps, answer)


def test_two_equal_steps_are_two_steps() -> None:
    twice = Problem("", (Step("+", (2, 2), 4), Step("+", (2, 2), 4)))
    assert check_rationale(twice, " 2+2=4. 2+2=4. 2+2=4.").steps == (True, True, False)


def test_the_tokenizer_cuts_words_whole_and_digits_apart(tmp_path: Path) -> None:
    train_problem_tokenizer(tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    for problem in generate_problems(50, "test") + generate_problems(50, "reworded"):
        pieces = [
            tokenizer.decode([i]) for i in tokenizer.encode(" " + problem.question)
        ]
        assert "".join(pieces) == " " + problem.question
        for piece in pieces:
            assert piece.isdigit() <= (len(piece) == 1)
            assert not re.search(r"[A-Za-z]", piece) or piece.startswith(" ")
