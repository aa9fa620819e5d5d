"""Segments, dependencies and masks against plain loops; the cache under every rule."""

import math
import random
from pathlib import Path

import pytest
import torch
from torch import Tensor

from extracted.alignment.instruction_tuning import Example, collate, finetune
from extracted.foundations.gpt import GPTConfig, RotaryGPT
from extracted.foundations.language_modeling import END_OF_TEXT
from extracted.foundations.pretraining import TrainConfig
from extracted.foundations.tokenizer import Tokenizer
from extracted.reasoning.chain_of_thought import (
    make_examples,
    new_reasoner,
    solve,
    think_first,
)
from extracted.reasoning.problems import generate_problems
from extracted.reasoning.reasoning_attention import (
    BiasedGPT,
    Marks,
    Rule,
    StepGPT,
    cost_of_hiding,
    depends,
    numbers,
    read_all,
    read_needed,
    read_own,
    read_results,
    read_thought,
    segments,
    with_rule,
)

RULES = (read_all, read_own, read_results, read_needed)

# A small world: ids 0 … 9 are the digits, and so on.
TOY = Marks(think=10, end_think=11, equals=12, stop=13, digits=tuple(range(10)))
SIGNS = {"<": 10, ">": 11, "=": 12, ".": 13, "+": 14, "*": 15, " ": 16, "w": 17}


def spell(text: str) -> list[int]:
    return [SIGNS[c] if c in SIGNS else int(c) for c in text]


class Reader:
    """The rules, told for one text, token by token, as one would do them by hand."""

    def __init__(self, ids: list[int], marks: Marks) -> None:
        self.segment: list[int] = []
        self.computing: list[bool] = []
        self.result: list[bool] = []
        self.wanted: list[set[int]] = []  # segments, as each token knows them
        values: dict[int, int] = {}  # results of the steps so far
        used: set[int] = set()  # segments whose result is spent
        operands: set[int] = set()  # of this segment
        current, begun, ended, behind, digits = 0, False, False, False, ""
        previous = -1
        for token in ids:
            starts = previous in (marks.think, marks.stop) or token == marks.end_think
            if starts and begun and not ended:
                if current:
                    used |= self.matches(operands, values, current)
                current, behind, operands = current + 1, False, set()
            spelled, inside = digits, current > 0
            is_digit = token in marks.digits
            digits = digits + str(marks.digits.index(token)) if is_digit else ""
            if spelled and not is_digit and inside and not behind:
                operands.add(int(spelled[-4:]))
            computing = inside and (token == marks.equals or behind)
            self.segment.append(current)
            self.computing.append(computing and token != marks.stop)
            self.result.append(is_digit and behind)
            if self.computing[-1]:
                self.wanted.append(self.matches(operands, values, current))
            else:
                self.wanted.append(set(range(1, current)) - used)
            if token == marks.stop and behind and spelled:
                values[current] = int(spelled[-4:])
            behind = behind or (inside and token == marks.equals)
            begun, ended = (
                begun or token == marks.think,
                ended or token == (marks.end_think),
            )
            previous = token

    @staticmethod
    def matches(operands: set[int], values: dict[int, int], current: int) -> set[int]:
        return {s for s, v in values.items() if s < current and v in operands}

    def mask(self, rule: Rule) -> Tensor:
        T = len(self.segment)
        may = torch.zeros(T, T, dtype=torch.bool)
        for t in range(T):
            for s in range(t + 1):
                own = self.segment[s] in (0, self.segment[t])
                answers: dict[Rule, bool] = {
                    read_all: True,
                    read_own: own,
                    read_results: own or self.result[s],
                    read_needed: own or self.segment[s] in self.wanted[t],
                }
                may[t, s] = answers[rule]
        return may


def random_texts(count: int) -> list[list[int]]:
    """Thoughts as they should be, and tokens in any order."""
    rng, texts = random.Random(0), []
    for trial in range(count):
        if trial % 2:
            tokens = [1, 2, 2, 10, 11, 12, 12, 13, 13, 14, 15, 16, 17]
            texts.append([rng.choice(tokens) for _ in range(rng.randrange(1, 60))])
            continue
        steps = (
            f" {rng.choice([1, 2, 12])}{rng.choice('+*')}{rng.choice([2, 3, 12])}"
            f"={rng.choice([1, 2, 3, 12])}."
            for _ in range(rng.randrange(1, 7))
        )
        texts.append(spell(f"w2w<{''.join(steps)}>w 12"))
    return texts


def test_segments_of_a_text_that_one_can_see() -> None:
    ids = torch.tensor([spell("w.w< 3*2=6. 12+6=18.>w 18")])
    found = "".join(map(str, segments(ids, TOY)[0].tolist()))
    assert found == "0000" + "1" * 7 + "2" * 9 + "3" * 5
    cut = torch.tensor([spell("w< 3*2>w 6")])  # a thought that was ended for it
    assert "".join(map(str, segments(cut, TOY)[0].tolist())) == "0011112222"


def test_numbers_are_what_the_digits_spell() -> None:
    ids = torch.tensor([spell("12+304=w12345"), [1] * 13])
    assert numbers(ids, TOY)[0].tolist() == [
        *(1, 12, -1, 3, 30, 304, -1, -1),
        *(1, 12, 123, 1234, 2345),
    ]


def test_a_chain_by_hand() -> None:
    #            0  1      2         3          4
    text = "w< 3*2=6. 4*2=8. 8+6=14. 14+5=19.> 19"
    thought = read_thought(torch.tensor([spell(text)]), TOY)
    links = {tuple(pair) for pair in thought.needs[0].nonzero().tolist()}
    assert links == {(3, 1), (3, 2), (4, 3)}, "the answer's 19 is not over yet"
    may = read_needed(thought, len(text))[0]

    def reads(query: int) -> str:
        seen = {
            int(s) for s in thought.segment[0, : query + 1][may[query, : query + 1]]
        }
        return "".join(map(str, sorted(seen)))

    plus, equals = text.index("8+6") + 1, text.index("=14")
    assert reads(plus) == "0123", "both results are open"
    assert reads(equals) == "0123", "and both are needed"
    assert reads(text.index("14+")) == "034", "they are spent"
    assert reads(text.index("=8")) == "02", "4 and 2 are nobody's result"
    assert reads(len(text) - 1) == "045", "the answer has the last result"
    only = read_results(thought, 1)[0, 0]
    assert "".join(c for c, m in zip(text, only, strict=True) if m) == (
        "w<6814" + "19> 19"
    )


def test_every_rule_is_what_one_would_do_by_hand() -> None:
    for ids in random_texts(300):
        thought, reader = read_thought(torch.tensor([ids]), TOY), Reader(ids, TOY)
        assert thought.segment[0].tolist() == reader.segment
        assert thought.computing[0].tolist() == reader.computing
        assert thought.result[0].tolist() == reader.result
        for rule in RULES:
            assert torch.equal(rule(thought, len(ids))[0].tril(), reader.mask(rule))


def test_no_rule_looks_ahead_and_each_row_reads_itself() -> None:
    for ids in random_texts(60):
        text = torch.tensor([ids])
        whole = read_thought(text, TOY)
        for rule in (*RULES, depends):
            mask = rule(whole, len(ids))[0].tril()
            for t in range(1, len(ids) + 1):
                part = rule(read_thought(text[:, :t], TOY), t)[0].tril()
                assert torch.equal(part, mask[:t, :t])
                last = rule(read_thought(text[:, :t], TOY), 1)[0]
                assert torch.equal(last[0], mask[t - 1, :t])
            assert rule is depends or mask.diagonal().all()


def test_rules_are_nested() -> None:
    for ids in random_texts(40):
        thought, T = read_thought(torch.tensor([ids]), TOY), len(ids)
        own, everything = read_own(thought, T), read_all(thought, T)
        for rule in (read_results, read_needed):
            found = rule(thought, T)
            assert not (own & ~found).any() and not (found & ~everything).any()


def batch(tokenizer: Tokenizer, count: int) -> tuple[Tensor, Tensor, Tensor]:
    problems = generate_problems(count, "validation")
    examples = make_examples(problems, tokenizer, think_first, seed=1)
    return collate(examples, tokenizer.special_tokens[END_OF_TEXT])


def untrained(tokenizer: Tokenizer, kind: type[StepGPT], rule: Rule) -> StepGPT:
    """A model whose opinions are strong enough to show a wrong mask."""
    model = with_rule(new_reasoner(tokenizer), tokenizer, rule, model_class=kind)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("_bias"):
                weight.normal_(generator=generator)
            elif weight.dim() == 2:
                weight.mul_(3)
    return model.eval()


def test_the_marks_are_tokens_of_the_book(tokenizer: Tokenizer) -> None:
    marks = Marks.of(tokenizer)
    assert tokenizer.decode([marks.equals, marks.stop, *marks.digits]) == "=.0123456789"
    inputs, _, _ = batch(tokenizer, 20)
    thought = read_thought(inputs, marks)
    problems = generate_problems(20, "validation")
    for row, problem in enumerate(problems):
        assert int(thought.segment[row].max()) == len(problem.steps) + 1
        values = {step.value for step in problem.steps}
        ids = inputs[row][thought.result[row]].tolist()
        assert set(tokenizer.decode(ids)) <= set("".join(map(str, values)))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", [StepGPT, BiasedGPT])
def test_the_cache_gives_the_same_logits(
    tokenizer: Tokenizer, kind: type[StepGPT], rule: Rule
) -> None:
    inputs, _, _ = batch(tokenizer, 4)
    model = untrained(tokenizer, kind, rule)
    with torch.no_grad():
        whole = model(inputs)
        assert not torch.equal(whole, new_reasoner(tokenizer)(inputs))
        for chunk in (1, 5, 40):
            caches = model.make_caches(*inputs.shape)
            pieces = [
                model(inputs[:, i : i + chunk], caches=caches)
                for i in range(0, inputs.shape[1], chunk)
            ]
            gap = (torch.cat(pieces, dim=1) - whole).abs().max()
            assert gap < 1e-5 * max(1.0, whole.abs().max())


@pytest.mark.parametrize("kind", [StepGPT, BiasedGPT])
def test_padding_on_the_left_changes_nothing(
    tokenizer: Tokenizer, kind: type[StepGPT]
) -> None:
    inputs, _, _ = batch(tokenizer, 1)
    model = untrained(tokenizer, kind, read_needed)
    padded = torch.cat([torch.zeros(1, 7, dtype=torch.long), inputs], dim=1)
    mask = torch.arange(padded.shape[1])[None] >= 7
    with torch.no_grad():
        plain, other = model(inputs), model(padded, mask=mask)[:, 7:]
        caches = model.make_caches(*padded.shape)
        first = model(padded[:, :-1], mask=mask[:, :-1], caches=caches)
        positions = torch.tensor([[inputs.shape[1] - 1]])
        last = model(padded[:, -1:], mask=mask, caches=caches, positions=positions)
    assert first.shape[1] == padded.shape[1] - 1
    scale = plain.abs().max()
    assert (plain - other).abs().max() < 1e-5 * scale
    assert (plain[:, -1] - last[:, -1]).abs().max() < 1e-5 * scale


def test_without_a_rule_it_is_the_rotary_model(tokenizer: Tokenizer) -> None:
    inputs, _, _ = batch(tokenizer, 3)
    plain = new_reasoner(tokenizer, seed=4)
    for kind in (StepGPT, BiasedGPT):
        same = with_rule(plain, tokenizer, read_all, model_class=kind)
        with torch.no_grad():
            assert torch.allclose(same(inputs), plain(inputs), atol=1e-5)
    shape = GPTConfig(20, 32, 1, 2, 8)
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    first = RotaryGPT(shape, generator=generators[0])
    second = BiasedGPT(shape, TOY, generator=generators[1])
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name]), "the same first weights"


def test_a_large_bias_is_a_mask(tokenizer: Tokenizer) -> None:
    inputs, _, _ = batch(tokenizer, 2)
    plain = untrained(tokenizer, StepGPT, read_own)
    biased = with_rule(plain, tokenizer, read_all, model_class=BiasedGPT).eval()
    with torch.no_grad():
        for name, weight in biased.named_parameters():
            if name.endswith("proximity_bias"):
                weight.fill_(1e4)  # one segment away is out of sight
        assert torch.allclose(biased(inputs), plain(inputs), atol=1e-4)


def test_gradients_reach_the_biases(tokenizer: Tokenizer) -> None:
    inputs, _, _ = batch(tokenizer, 2)
    model = with_rule(
        new_reasoner(tokenizer), tokenizer, read_all, model_class=BiasedGPT
    )
    model(inputs).square().mean().backward()
    for name, weight in model.named_parameters():
        if name.endswith("_bias"):
            assert weight.grad is not None and (weight.grad != 0).any(), name


def test_hiding_is_the_mask_of_the_book(tokenizer: Tokenizer) -> None:
    inputs, targets, _ = batch(tokenizer, 2)
    model = new_reasoner(tokenizer).eval()
    T = inputs.shape[1]
    nothing = torch.zeros(2, T, T, dtype=torch.bool)
    assert (cost_of_hiding(model, inputs, targets, nothing) == 0).all() or (
        cost_of_hiding(model, inputs, targets, nothing).abs().max() < 1e-5
    )
    hidden = nothing.clone()
    hidden[:, 30:, 5] = True
    cost = cost_of_hiding(model, inputs, targets, hidden)
    assert (cost[:, :30].abs() < 1e-5).all(), "who reads as before loses nothing"
    assert (cost[:, 30:] != 0).any()
    # Hide all of the past: each token alone, which the model can be asked directly.
    cost = cost_of_hiding(model, inputs, targets, ~nothing)
    with torch.no_grad():
        t = 17
        alone = model(inputs[:1, t : t + 1]).log_softmax(dim=-1)
        full = model(inputs[:1, : t + 1]).log_softmax(dim=-1)
    expected = (full[0, -1] - alone[0, -1])[targets[0, t]]
    assert math.isclose(cost[0, t], expected, abs_tol=1e-4)


@pytest.mark.parametrize("rule", [read_results, read_needed])
def test_a_masked_model_learns_a_handful_by_heart(
    tokenizer: Tokenizer, rule: Rule, tmp_path: Path
) -> None:
    problems = generate_problems(16)
    examples: list[Example] = make_examples(problems, tokenizer, think_first)
    model = with_rule(new_reasoner(tokenizer), tokenizer, rule)
    finetune(model, examples, tokenizer, TrainConfig(steps=120, log_every=40))
    attempts = solve(model, tokenizer, problems)
    assert sum(a.correct and all(a.verdict.steps) for (a,) in attempts) >= 14
    # What a sample gets does not depend on who is in its batch, or who left it.
    one = [a for (a,) in solve(model, tokenizer, problems[:3])]
    assert [a.text for a in one] == [a.text for (a,) in attempts[:3]]
