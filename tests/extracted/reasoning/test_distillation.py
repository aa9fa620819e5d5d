"""Divergences by hand and by other means; whose texts a student reads; one that learns.

The numbers in the first tests were worked out on paper.
"""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from extracted.alignment.instruction_tuning import (
    Example,
    ExampleBatches,
    collate,
    finetune,
)
from extracted.foundations.gpt import GPTConfig, RotaryGPT
from extracted.foundations.language_modeling import END_OF_TEXT
from extracted.foundations.pretraining import TrainConfig, Trainer
from extracted.foundations.tokenizer import Tokenizer
from extracted.reasoning.chain_of_thought import (
    encode_question,
    make_examples,
    new_reasoner,
    think_first,
)
from extracted.reasoning.distillation import (
    OnPolicyBatches,
    disagreement,
    distill,
    distillation_loss,
    forward_kl,
    new_student,
    reverse_kl,
    sound,
    target_logits,
    written_examples,
)
from extracted.reasoning.problems import generate_problems


@pytest.fixture(scope="module")
def teacher(tokenizer: Tokenizer) -> RotaryGPT:
    """Knows sixteen problems by heart."""
    model = new_reasoner(tokenizer)
    examples = make_examples(generate_problems(16), tokenizer, think_first)
    finetune(model, examples, tokenizer, TrainConfig(steps=120, log_every=40))
    return model


def tiny(seed: int = 0, vocab_size: int = 11) -> RotaryGPT:
    shape = GPTConfig(vocab_size, 32, 1, 1, 8, qk_norm=True)
    return RotaryGPT(shape, generator=torch.Generator().manual_seed(seed)).eval()


def random_logits(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    dice = torch.Generator().manual_seed(3)
    student, teacher = (2 * torch.randn(*shape, generator=dice) for _ in range(2))
    return student.requires_grad_(), teacher


def test_both_divergences_by_hand() -> None:
    p, q = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25, 0.75]).log()
    # 1/2 ln 2 + 1/2 ln 2/3, and 1/4 ln 1/2 + 3/4 ln 3/2
    assert math.isclose(forward_kl(q, p).item(), 0.5 * math.log(4 / 3), rel_tol=1e-6)
    expected = -0.25 * math.log(2) + 0.75 * math.log(1.5)
    assert math.isclose(reverse_kl(q, p).item(), expected, rel_tol=1e-6)
    assert forward_kl(q + 7, q).abs() < 1e-6  # a constant in the logits is nothing


def test_divergences_are_those_of_pytorch() -> None:
    z, v = random_logits(4, 3, 20)
    ln_q, ln_p = z.log_softmax(-1), v.log_softmax(-1)
    for ours, theirs in (
        (forward_kl(z, v), F.kl_div(ln_q, ln_p, reduction="none", log_target=True)),
        (reverse_kl(z, v), F.kl_div(ln_p, ln_q, reduction="none", log_target=True)),
    ):
        assert ours.shape == (4, 3)
        assert torch.allclose(ours, theirs.sum(-1), atol=1e-6)
        assert (ours >= 0).all()


def test_gradients_are_those_of_the_chapter() -> None:
    z, v = random_logits(5, 9)
    q, p = z.detach().softmax(-1), v.softmax(-1)
    (grad,) = torch.autograd.grad(forward_kl(z, v).sum(), z)
    assert torch.allclose(grad, q - p, atol=1e-6)
    (grad,) = torch.autograd.grad(reverse_kl(z, v).sum(), z)
    mean = reverse_kl(z, v).detach()[:, None]
    assert torch.allclose(grad, q * ((q / p).log() - mean), atol=1e-6)


def test_soft_targets_are_the_mean_of_drawn_ones() -> None:
    z, v = random_logits(1, 6)
    p, mean, square = v.softmax(-1)[0], torch.zeros(6), 0.0
    (soft,) = torch.autograd.grad(forward_kl(z, v).sum(), z)
    for token in range(6):
        loss = F.cross_entropy(z, torch.tensor([token]))
        (grad,) = torch.autograd.grad(loss, z)
        mean += p[token] * grad[0]
        square += (p[token] * (grad - soft).square().sum()).item()
    assert torch.allclose(mean, soft[0], atol=1e-6)
    assert math.isclose(square, 1 - p.square().sum().item(), rel_tol=1e-5)


def test_a_high_temperature_compares_logits() -> None:
    z, v = random_logits(1, 8)
    tau = 1000.0
    loss = tau**2 * forward_kl(z.double() / tau, v.double() / tau).sum()
    (grad,) = torch.autograd.grad(loss, z)
    difference = (z.detach() - z.detach().mean()) - (v - v.mean())
    assert torch.allclose(grad, difference / 8, atol=2e-3)


def test_the_loss_is_a_mean_over_the_counted_places() -> None:
    student, teacher = tiny(0), tiny(1)
    examples = [Example([1, 2, 3], [4, 5]), Example([6], [7, 8, 9, 10])]
    inputs, targets, counted = collate(examples, 0)
    loss = distillation_loss(teacher, reverse_kl, temperature=2.0)
    found = loss(student, inputs, targets, counted)
    each = reverse_kl(student(inputs) / 2, teacher(inputs) / 2)
    assert torch.allclose(found, 4 * each[counted > 0].mean())
    assert torch.equal(found, loss(student, inputs, 0 * targets, counted))
    found.backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is None for weight in teacher.parameters())
    assert all(weight.grad is not None for weight in student.parameters())
    same = distillation_loss(student)(student, inputs, targets, counted)
    assert same.abs() < 1e-6


def test_target_logits_are_the_models_own() -> None:
    model = tiny()
    inputs, _, counted = collate([Example([1, 2], [3, 4]), Example([5], [6])], 0)
    expected = model(inputs)[counted > 0]
    assert torch.allclose(target_logits(model, inputs, counted), expected)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_is_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        distillation_loss(tiny(), temperature=temperature)


def test_disagreement_stands_at_its_token() -> None:
    student, teacher = tiny(0), tiny(1)
    examples = [Example([1, 2, 3], [4, 5]), Example([6], [7, 8, 9])]
    found = disagreement(student, teacher, examples)
    assert found.shape == (2, 3) and found[0, 2] == 0
    for row, example in enumerate(examples):
        for place in range(len(example.target)):
            ids = torch.tensor([example.prompt + example.target[:place]])
            with torch.no_grad():
                alone = forward_kl(student(ids)[0, -1], teacher(ids)[0, -1])
            assert torch.allclose(found[row, place], alone, atol=1e-5)


def test_vocabularies_must_be_the_same() -> None:
    batches = ExampleBatches([Example([1], [2])], batch_size=1, pad_id=0)
    with pytest.raises(ValueError, match="of 12 and 11 tokens"):
        distill(tiny(vocab_size=12), tiny(), batches, TrainConfig(steps=1))


def test_a_student_takes_over_what_the_teacher_thinks() -> None:
    dice = torch.Generator().manual_seed(0)
    rows = torch.randint(11, (32, 6), generator=dice).tolist()
    examples = [Example(row[:2], row[2:]) for row in rows]
    teacher = tiny(1)
    with torch.no_grad():
        for weight in teacher.parameters():
            weight.mul_(3)
    config = TrainConfig(steps=150, log_every=50, evaluate_every=0)
    for divergence in (forward_kl, reverse_kl):
        student = tiny(2)
        before = disagreement(student, teacher, examples, divergence).mean()
        batches = ExampleBatches(examples, batch_size=8, pad_id=0)
        log = distill(student, teacher, batches, config, divergence=divergence)
        after = disagreement(student, teacher, examples, divergence).mean()
        assert after < before / 3 and log[-1]["loss"] < log[0]["loss"]
        assert not student.training


def test_texts_of_a_model_become_examples(
    teacher: RotaryGPT, tokenizer: Tokenizer
) -> None:
    known, unknown = generate_problems(16), generate_problems(16, "test")
    texts = written_examples(teacher, tokenizer, known, temperature=0.0)
    assert [e.prompt for e in texts] == [encode_question(tokenizer, p) for p in known]
    end = tokenizer.special_tokens[END_OF_TEXT]
    assert all(example.target[-1] == end for example in texts)
    kept = written_examples(teacher, tokenizer, known, temperature=0.0, keep=sound)
    assert len(kept) >= 15 and all(example in texts for example in kept)
    few = written_examples(teacher, tokenizer, unknown, temperature=0.0, keep=sound)
    assert len(few) < 4
    short = written_examples(teacher, tokenizer, known[:2], max_new_tokens=3)
    assert [len(example.target) for example in short] == [3, 3]


def own_batches(student: RotaryGPT, tokenizer: Tokenizer) -> OnPolicyBatches:
    problems = generate_problems(24)
    return OnPolicyBatches(student, tokenizer, problems, batch_size=4, lot=2)


def test_a_student_fills_its_batches_itself(
    teacher: RotaryGPT, tokenizer: Tokenizer
) -> None:
    batches = own_batches(teacher, tokenizer)
    first = [next(batches) for _ in range(2)]
    texts = written_examples(teacher, tokenizer, generate_problems(8), seed=0)
    expected = sorted(example.prompt + example.target for example in texts)
    found = []
    for inputs, targets, counted in first:
        rows = torch.cat([inputs[:, :1], targets], dim=1).tolist()
        for row, marks in zip(rows, counted.tolist(), strict=True):
            last = max(i for i, mark in enumerate(marks) if mark)
            found.append(row[: last + 2])
    assert sorted(found) == expected
    assert batches.lots_written == 1
    next(batches)
    assert batches.lots_written == 2


def test_a_run_on_own_texts_resumes(teacher: RotaryGPT, tokenizer: Tokenizer) -> None:
    batches = own_batches(teacher, tokenizer)
    next(batches)
    state, expected = batches.state_dict(), [next(batches) for _ in range(3)]
    again = own_batches(teacher, tokenizer)
    again.load_state_dict(state)
    for batch in expected:
        for a, b in zip(batch, next(again), strict=True):
            assert torch.equal(a, b)
    for _ in range(2):
        next(batches)
    with pytest.raises(ValueError, match="0 problems are left of the 8 of a lot"):
        next(batches)


def test_the_trainer_uses_the_weights_of_the_moment(tokenizer: Tokenizer) -> None:
    student = new_student(tokenizer)
    config = TrainConfig(steps=3, evaluate_every=0)
    batches = own_batches(student, tokenizer)
    loss = distillation_loss(new_reasoner(tokenizer, seed=1), reverse_kl)
    Trainer(student, batches, config, loss=loss).run()
    assert batches.lots_written == 2
    late = batches.waiting[0][1]
    untrained = own_batches(new_student(tokenizer), tokenizer)
    for _ in range(3):
        next(untrained)
    early = untrained.waiting[0][1]
    assert late.shape != early.shape or not torch.equal(late, early)


def test_the_student_has_less_than_half_of_the_weights(tokenizer: Tokenizer) -> None:
    student, whole = new_student(tokenizer), new_reasoner(tokenizer)
    assert 0.4 < student.num_parameters() / whole.num_parameters() < 0.5
    assert replace(student.config, num_layers=4, num_heads=4, width=64) == whole.config
