"""Examples of solutions, training on them, and budget forcing."""

from dataclasses import replace
from pathlib import Path

import torch

from extracted.alignment.instruction_tuning import (
    finetune,
)
from extracted.foundations.language_modeling import END_OF_TEXT
from extracted.foundations.pretraining import TrainConfig
from extracted.foundations.tokenizer import Tokenizer
from extracted.reasoning.chain_of_thought import (
    answer_only,
    encode_question,
    load_reasoner,
    make_examples,
    new_reasoner,
    solve,
    think_first,
    think_within,
    train_reasoner,
)
from extracted.reasoning.problems import END_THINK, THINK, generate_problems


def test_a_target_is_the_text_and_its_end(tokenizer: Tokenizer) -> None:
    (problem,) = generate_problems(1)
    end = tokenizer.special_tokens[END_OF_TEXT]
    for write in (answer_only, think_first):
        (example,) = make_examples([problem], tokenizer, write)
        assert example.prompt == encode_question(tokenizer, problem)
        assert example.prompt[0] == example.target[-1] == end
        text = tokenizer.decode(example.target[:-1])
        assert text.endswith(f"#### {problem.answer}")
        assert (THINK in text and END_THINK in text) == (write is think_first)
    marks = {tokenizer.special_tokens[mark] for mark in (THINK, END_THINK)}
    assert marks <= set(example.target), "the marks are tokens, not letters"


def test_a_model_learns_a_handful_by_heart(tokenizer: Tokenizer) -> None:
    problems = generate_problems(16)
    examples = make_examples(problems, tokenizer, think_first)
    model = new_reasoner(tokenizer)
    log = finetune(model, examples, tokenizer, TrainConfig(steps=120, log_every=40))
    assert log[-1]["loss"] < 0.1
    attempts = solve(model, tokenizer, problems)
    assert sum(a.correct and all(a.verdict.steps) for (a,) in attempts) >= 15
    one = [a for (a,) in solve(model, tokenizer, problems[:3])]
    assert [a.text for a in one] == [a.text for (a,) in attempts[:3]]
    sampled = solve(model, tokenizer, problems[:2], temperature=1.0, num_samples=3)
    assert [len(group) for group in sampled] == [3, 3]
    # Room enough: the same answers. None: no thought, and still an answer's form.
    whole = think_within(model, tokenizer, problems, 90)
    assert [a.answer for a in whole] == [a.answer for (a,) in attempts]
    cut = think_within(model, tokenizer, problems, 2)
    assert all(f"{END_THINK}####" in a.text for a in cut)
    assert all(len(a.text.partition(END_THINK)[0]) < 12 for a in cut)
    more = think_within(model, tokenizer, problems[:2], 60, extend=1)
    assert all(len(m.text) >= len(w.text) for m, w in zip(more, whole, strict=False))


def test_a_saved_reasoner_is_the_one_that_was_trained(tmp_path: Path) -> None:
    config = TrainConfig(steps=2, log_every=1, evaluate_every=0, seed=5)
    log = train_reasoner(tmp_path, config=config)
    assert [record["step"] for record in log] == [1, 2]
    model, tokenizer = load_reasoner(tmp_path)
    again = tmp_path / "again"
    train_reasoner(again, config=config)
    twin, _ = load_reasoner(again)
    ids = torch.tensor([encode_question(tokenizer, generate_problems(1)[0])])
    with torch.no_grad():
        assert torch.equal(model(ids), twin(ids))
    other = tmp_path / "other"
    train_reasoner(other, config=replace(config, seed=6))
    with torch.no_grad():
        assert not torch.equal(load_reasoner(other)[0](ids), twin(ids))
