"""A verifier: labels, readings, a head, votes, and whether its probabilities hold."""

import itertools
import math
import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from extracted.alignment.reward_model import (
    reliability,
)
from extracted.foundations.generation import Completion
from extracted.foundations.gpt import GPTConfig, RotaryGPT
from extracted.foundations.language_modeling import END_OF_TEXT
from extracted.foundations.tokenizer import Tokenizer
from extracted.reasoning.chain_of_thought import Attempt, encode_question, judge
from extracted.reasoning.problems import Problem, generate_problems, write_rationale
from extracted.reasoning.self_consistency import majority_vote
from extracted.reasoning.verifiers import (
    LEAST,
    Reading,
    Verifier,
    auc,
    collate_readings,
    combine,
    fit_verifier,
    load_verifier,
    read_attempts,
    rollout_labels,
    save_verifier,
    score_attempts,
    step_ends,
    step_logits,
    train_verifier,
    undecided,
    vote_weights,
    within_auc,
)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> RotaryGPT:
    shape = GPTConfig(tokenizer.vocab_size, 256, 2, 2, 16, bias=False)
    return RotaryGPT(shape, generator=torch.Generator().manual_seed(0)).eval()


def attempt(tokenizer: Tokenizer, problem: Problem, text: str) -> Attempt:
    """A text as if a model had written it, each token with its own ln p."""
    ids = tokenizer.encode(text + END_OF_TEXT, allowed_special="all")
    logprobs = [-0.01 * i for i in range(len(ids))]
    return judge(tokenizer, problem, Completion(ids, logprobs, logprobs, "stop"))


def written(problem: Problem) -> str:
    return f"<think>{write_rationale(problem)}</think>#### {problem.answer}"


def test_steps_end_at_their_full_stops(tokenizer: Tokenizer) -> None:
    for problem in generate_problems(20):
        one = attempt(tokenizer, problem, written(problem))
        ends = step_ends(tokenizer, one)
        assert len(ends) == len(problem.steps) == len(one.verdict.steps)
        for end, step in zip(ends, problem.steps, strict=True):
            text = tokenizer.decode(one.completion.ids[: end + 1])
            assert text.endswith(f"={step.value}.")


def test_readings_hold_the_question_the_attempt_and_what_is_right(
    tokenizer: Tokenizer,
) -> None:
    problems = generate_problems(2)
    texts = [[written(p), "#### 1", "<think> 1+1=2.</think>#### 2"] for p in problems]
    rows = [
        [attempt(tokenizer, p, text) for text in row]
        for p, row in zip(problems, texts, strict=True)
    ]
    found = read_attempts(tokenizer, problems, rows)
    for problem, row, readings in zip(problems, rows, found, strict=True):
        question = encode_question(tokenizer, problem)
        for one, reading in zip(row, readings, strict=True):
            assert reading.ids == question + one.completion.ids
            assert reading.logprobs[: len(question)] == [0.0] * len(question)
            assert reading.logprobs[len(question) :] == one.completion.logprobs
            assert reading.ends[-1] == len(reading.ids) - 1
            assert reading.labels == [*one.verdict.steps, one.correct]
            for end in reading.ends[:-1]:
                assert "." in tokenizer.decode([reading.ids[end]])


def test_only_problems_that_a_vote_can_win_or_lose_are_kept(
    tokenizer: Tokenizer,
) -> None:
    problems = generate_problems(3)
    good, bad = [written(p) for p in problems], "#### 1"
    rows = [[good[0], bad, bad], [good[1], good[1]], [bad, bad]]
    attempts = [
        [attempt(tokenizer, p, text) for text in row]
        for p, row in zip(problems, rows, strict=True)
    ]
    kept = undecided(read_attempts(tokenizer, problems, attempts))
    assert [reading.labels[-1] for reading in kept] == [True, False]


def test_rollouts_of_a_model_that_knows_nothing(
    tokenizer: Tokenizer, model: RotaryGPT
) -> None:
    (problem,) = generate_problems(1)
    one = attempt(tokenizer, problem, written(problem))
    shares, cost = rollout_labels(model, tokenizer, problem, one, k=2)
    assert len(shares) == len(problem.steps)
    assert all(0 <= share <= 1 for share in shares)
    assert cost >= 2 * len(shares)
    stepless = attempt(tokenizer, problem, "#### 1")
    assert rollout_labels(model, tokenizer, problem, stepless) == ([], 0)


def reading(label: bool, generator: torch.Generator) -> Reading:
    """Right where the author did not hesitate at the third token."""
    ids = torch.randint(1, 9, (6,), generator=generator).tolist()
    return Reading(
        ids, [0.0, 0.0, -0.1 if label else -2.0, 0.0, 0.0, 0.0], [3, 5],
        [label, label],
    )  # fmt: skip


def test_labels_stand_at_the_ends_only() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = [reading(True, generator), reading(False, generator)]
    ids, logprobs, labels, counted = collate_readings(rows)
    assert ids.tolist() == [row.ids for row in rows]
    assert counted.nonzero().tolist() == [[0, 3, 0], [0, 5, 1], [1, 3, 0], [1, 5, 1]]
    assert labels.nonzero()[:, 0].unique().tolist() == [0]
    assert logprobs[1, 2].item() == -2.0
    rows = [Reading([1, 2], [0.0, -99.0], [1], [True])]
    assert collate_readings(rows)[1].tolist() == [[0.0, LEAST]]


def test_a_verifier_begins_as_the_model_and_leaves_it_alone(model: RotaryGPT) -> None:
    verifier = Verifier(model).eval()
    ids = torch.randint(1, 9, (2, 7), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        verifier.readout.weight[0] = model.tokens.weight[5]
        expected = model(ids)[..., 5]
        found = verifier(ids, torch.zeros(ids.shape))[..., 0]
        torch.testing.assert_close(found, expected)
        assert (verifier(ids, torch.full(ids.shape, -3.0))[..., 0] == found).all()
    before = model.tokens.weight.clone()
    generator = torch.Generator().manual_seed(0)
    fit_verifier(model, [reading(i > 3, generator) for i in range(8)], epochs=1)
    assert torch.equal(model.tokens.weight, before)


def test_rates_of_zero_teach_nothing(model: RotaryGPT) -> None:
    generator = torch.Generator().manual_seed(0)
    data = [reading(i > 3, generator) for i in range(8)]
    verifier = fit_verifier(model, data, epochs=1, rate=0.0, matrix_rate=0.0)
    for name, weight in Verifier(model).named_parameters():
        assert torch.equal(verifier.get_parameter(name), weight)


def test_padding_and_later_tokens_change_nothing(model: RotaryGPT) -> None:
    verifier = Verifier(model).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        verifier.readout.weight.normal_(generator=generator)
        verifier.hesitation.normal_(generator=generator)
    long, short = reading(True, generator), reading(False, generator)
    short = Reading(short.ids[:4], short.logprobs[:4], [3], [False])
    alone, beside = step_logits(verifier, [short]), step_logits(verifier, [long, short])
    assert beside[1] == pytest.approx(alone[0], abs=1e-5)


def test_a_verifier_learns_what_can_be_learned(model: RotaryGPT) -> None:
    generator = torch.Generator().manual_seed(0)
    data = [reading(i % 3 > 0, generator) for i in range(600)]
    verifier = fit_verifier(model, data, epochs=3)
    fresh = [[reading(i % 2 > 0, generator) for i in range(20)]]
    labels = [[r.labels[-1] for r in fresh[0]]]
    for how in ("min", "product", "answer", "all"):
        assert within_auc(score_attempts(verifier, fresh, how=how), labels) > 0.9


def test_the_whole_training_runs(model: RotaryGPT, tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="nothing to learn"):
        train_verifier(model, tokenizer, count=2)  # all its attempts are wrong


def test_the_loss_is_lowest_at_the_true_probability() -> None:
    labels = torch.tensor([1.0, 1.0, 1.0, 0.0])
    logit = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([logit], max_iter=100)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(logit.expand(4), labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert logit.sigmoid().item() == pytest.approx(0.75, abs=1e-3)


def test_saved_and_loaded_verifiers_agree(
    tmp_path: Path, model: RotaryGPT, tokenizer: Tokenizer
) -> None:
    verifier = Verifier(model).eval()
    with torch.no_grad():
        verifier.readout.weight.normal_(generator=torch.Generator().manual_seed(0))
    save_verifier(verifier, tokenizer, tmp_path / "new folder")
    again = load_verifier(tmp_path / "new folder")
    row = [reading(True, torch.Generator().manual_seed(1))]
    assert step_logits(again, row) == step_logits(verifier, row)


def weighted_vote(answers: list[str], scores: list[float], exponent: float) -> str:
    return majority_vote(answers, vote_weights(scores, exponent))


def test_votes_worked_by_hand() -> None:
    answers, scores = ["A", "B", "B"], [0.9, 0.6, 0.5]
    assert weighted_vote(answers, scores, 0) == "B"
    assert weighted_vote(answers, scores, 1) == "B"  # 0.9 against 1.1
    assert weighted_vote(answers, scores, 2) == "A"  # 0.81 against 0.61
    assert weighted_vote(answers, scores, math.inf) == "A"
    assert weighted_vote(["", "", "7"], [0.9, 0.9, 0.1], 1) == "7"
    assert weighted_vote(["", ""], [1.0, 1.0], 1) == weighted_vote([], [], 1) == ""
    assert weighted_vote(["x", "y"], [0.0, 0.0], 4) == "x"
    assert weighted_vote(["7", "8", "8"], [1e-200, 2e-200, 2e-200], 4) == "8"


def test_an_infinite_exponent_takes_the_best_score() -> None:
    dice = random.Random(0)
    for _ in range(50):
        answers = [dice.choice("abc") for _ in range(8)]
        scores = [dice.random() for _ in range(8)]
        best = answers[scores.index(max(scores))]
        assert weighted_vote(answers, scores, math.inf) == best


def test_log_odds_are_the_optimal_weights() -> None:
    """Against brute force over all votes of three voters on two answers."""
    rates = (0.9, 0.7, 0.6)
    for votes in itertools.product((0, 1), repeat=3):
        likelihood = [
            math.prod(
                p if vote == truth else 1 - p
                for p, vote in zip(rates, votes, strict=True)
            )
            for truth in (0, 1)
        ]
        weights = [math.log(p / (1 - p)) for p in rates]
        odds = majority_vote([str(vote) for vote in votes], weights)
        assert odds == str(likelihood.index(max(likelihood)))


def test_a_score_of_several_steps() -> None:
    assert combine([0.5, 0.8, 0.9], "min") == 0.5
    assert combine([0.5, 0.8, 0.9], "product") == pytest.approx(0.4)
    assert combine([0.5, 0.8, 0.9], "answer") == 0.9
    assert combine([0.5, 0.8, 0.9], "all") == pytest.approx(0.36)
    assert combine([0.9], "product") == combine([0.9], "min") == 0.0


def test_auc_by_counting() -> None:
    assert auc([0.1, 0.4, 0.35, 0.8], [False, False, True, True]) == 0.75
    assert auc([0.5, 0.5], [True, False]) == 0.5
    assert math.isnan(auc([0.5], [True]))


def test_within_problems_the_level_of_a_problem_does_not_count() -> None:
    scores, labels = [[0.9, 0.8], [0.2, 0.1]], [[True, False], [True, False]]
    assert within_auc(scores, labels) == 1.0
    assert auc([0.9, 0.8, 0.2, 0.1], [True, False, True, False]) == 0.75
    with pytest.raises(ValueError, match="no problem"):
        within_auc([[0.5]], [[True]])


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        vote_weights([-1.0], 1)
    with pytest.raises(ValueError, match="negative"):
        vote_weights([1.0], -1)
    with pytest.raises(ValueError, match="use min"):
        combine([0.5], "mean")
    with pytest.raises(ValueError, match="outside"):
        reliability([1.5], [True])
