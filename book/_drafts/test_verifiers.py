"""A verifier: labels, readings, a head, votes, and whether its probabilities hold."""

import itertools
import math
import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from extracted.reasoning.verifiers import (
    Bin,
    Reading,
    Verifier,
    auc,
    calibration_error,
    collate_readings,
    combine,
    fit_verifier,
    load_verifier,
    read_attempts,
    reliability,
    rollout_labels,
    save_verifier,
    score_attempts,
    step_ends,
    step_scores,
    weighted_vote,
    within_auc,
)

from extracted.foundations.generation import Completion
from extracted.foundations.gpt import GPTConfig, RotaryGPT
from extracted.foundations.language_modeling import END_OF_TEXT
from extracted.foundations.tokenizer import Tokenizer
from extracted.reasoning.chain_of_thought import Attempt, encode_question, judge
from extracted.reasoning.problems import (
    Problem,
    generate_problems,
    train_problem_tokenizer,
    write_rationale,
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    place = tmp_path_factory.mktemp("tokenizer")
    train_problem_tokenizer(place)
    return Tokenizer.load(place)


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


def test_readings_equal_the_uncached_states(
    tokenizer: Tokenizer, model: RotaryGPT
) -> None:
    problems = generate_problems(2)
    texts = [[written(p), "#### 1", "<think> 1+1=2.</think>#### 2"] for p in problems]
    rows = [
        [attempt(tokenizer, p, text) for text in row]
        for p, row in zip(problems, texts, strict=True)
    ]
    for problem, row, readings in zip(
        problems, rows, read_attempts(model, tokenizer, problems, rows), strict=True
    ):
        question = encode_question(tokenizer, problem)
        for one, reading in zip(row, readings, strict=True):
            ids = one.completion.ids
            with torch.no_grad():
                states = model.hidden(torch.tensor([question + ids]))
            C, n = model.config.width, len(ids)
            assert reading.features.shape[:1] == (n,)
            torch.testing.assert_close(
                reading.features[:, :C], states[0, -n:], atol=1e-5, rtol=1e-4
            )
            assert reading.ends[-1] == n - 1
            assert reading.labels == [*one.verdict.steps, one.correct]


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
    """Right where the first feature at the end is positive."""
    features = torch.randn(6, 5, generator=generator)
    features[3, 0] = features[5, 0] = 2.0 if label else -2.0
    return Reading(features, [3, 5], [label, label])


def test_labels_stand_at_the_ends_only() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = [reading(True, generator), reading(False, generator)]
    for kind, places in {"steps": [3], "outcome": [5], "both": [3, 5]}.items():
        _, labels, counted = collate_readings(rows, kind)
        assert counted.nonzero()[:, 1].tolist() == places * 2
        assert labels.nonzero()[:, 0].unique().tolist() == [0]


def test_padding_and_later_tokens_change_nothing() -> None:
    verifier = Verifier(5, generator=torch.Generator().manual_seed(0)).eval()
    x = torch.randn(1, 9, 5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(verifier(x)[:, :4], verifier(x[:, :4]))


@pytest.mark.parametrize("kind", ["steps", "outcome", "both"])
def test_a_verifier_learns_what_can_be_learned(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    data = [reading(i % 3 > 0, generator) for i in range(600)]
    verifier = fit_verifier(data, kind=kind, epochs=3, weight_decay=0.0)
    fresh = [[reading(i % 2 > 0, generator) for i in range(20)]]
    scores = score_attempts(verifier, fresh, kind=kind)
    assert within_auc(scores, [[r.labels[-1] for r in fresh[0]]]) > 0.9


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


def test_saved_and_loaded_verifiers_agree(tmp_path: Path) -> None:
    verifier = Verifier(5, generator=torch.Generator().manual_seed(0)).eval()
    save_verifier(verifier, tmp_path / "new folder")
    again = load_verifier(tmp_path / "new folder")
    row = [reading(True, torch.Generator().manual_seed(1))]
    assert step_scores(again, row) == step_scores(verifier, row)


def test_votes_worked_by_hand() -> None:
    answers, scores = ["A", "B", "B"], [0.9, 0.6, 0.5]
    assert weighted_vote(answers, scores, 0) == "B"
    assert weighted_vote(answers, scores, 1) == "B"  # 0.9 against 1.1
    assert weighted_vote(answers, scores, 2) == "A"  # 0.81 against 0.61
    assert weighted_vote(answers, scores, math.inf) == "A"
    assert weighted_vote(["", "", "7"], [0.9, 0.9, 0.1]) == "7"
    assert weighted_vote(["", ""], [1.0, 1.0]) == weighted_vote([], []) == ""
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
        odds = weighted_vote([str(vote) for vote in votes], weights)
        assert odds == str(likelihood.index(max(likelihood)))


def test_a_score_of_several_steps() -> None:
    assert combine([0.5, 0.8, 0.9], "min") == 0.5
    assert combine([0.5, 0.8], "product") == pytest.approx(0.4)
    assert combine([0.5, 0.8], "last") == 0.8
    assert combine([], "product") == 0.0


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


def test_bins_by_hand() -> None:
    bins = reliability([0.05, 0.55, 0.51, 1.0], [False, True, False, True])
    assert [b.count for b in bins] == [1, 2, 1]
    assert bins[1].score == pytest.approx(0.53) and bins[1].right == 0.5
    assert calibration_error([Bin(0.9, 0.5, 3), Bin(0.1, 0.1, 1)]) == (
        pytest.approx(0.3)
    )


def test_honest_coins_are_calibrated() -> None:
    dice = random.Random(0)
    scores = [dice.random() for _ in range(20_000)]
    labels = [dice.random() < score for score in scores]
    assert calibration_error(reliability(scores, labels)) < 0.02


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="2 answers and 1 scores"):
        weighted_vote(["a", "b"], [1.0])
    with pytest.raises(ValueError, match="negative"):
        weighted_vote(["a"], [-1.0])
    with pytest.raises(ValueError, match="use min"):
        combine([0.5], "mean")
    with pytest.raises(ValueError, match="outside"):
        reliability([1.5], [True])
    with pytest.raises(ValueError, match="one of steps"):
        fit_verifier([reading(True, torch.Generator())], kind="all")
