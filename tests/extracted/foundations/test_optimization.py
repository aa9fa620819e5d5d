"""Optimizers against torch.optim, the decomposition, and hand-worked steps."""

import copy
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from extracted.foundations.gpt import GPT, GPTConfig
from extracted.foundations.optimization import (
    QUINTIC,
    SGD,
    Adam,
    AdamW,
    FirstOrder,
    Muon,
    Optimizers,
    build_optimizer,
    clip_gradients,
    hidden_matrices,
    newton_schulz,
    parameter_groups,
    warmup_cosine,
    warmup_stable_decay,
)

BF16 = {"dtype": torch.bfloat16}


def normal(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def weights(shapes=((5, 3), (3, 7), (4, 4)), seed=0):
    return [
        normal(*shape, seed=seed + i).requires_grad_() for i, shape in enumerate(shapes)
    ]


def feed(optimizer, params, steps, *, first=0):
    """Step with gradients that depend on the step and the weight's place only."""
    for step in range(first, first + steps):
        for i, weight in enumerate(params):
            weight.grad = normal(*weight.shape, seed=1000 * step + i)
            weight.grad *= 10.0 ** (i - 1)
        optimizer.step()


def tiny(**options):
    generator = torch.Generator().manual_seed(0)
    return GPT(GPTConfig(11, 8, 2, 2, 8, **options), generator=generator)


# ---------------------------------------------------- equal to torch, step by step

PAIRS = [
    (SGD, torch.optim.SGD, {"lr": 0.1}, {}),
    (SGD, torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.2}, {}),
    (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}, {}),
    (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}, {}),
    (Adam, torch.optim.Adam, {}, {}),
    (Adam, torch.optim.Adam, {"lr": 0.1, "betas": (0.5, 0.9), "eps": 0.1}, {}),
    (Adam, torch.optim.Adam, {"lr": 0.1, "weight_decay": 0.3}, {}),
    (Adam, torch.optim.Adam, {"lr": 0.1, "betas": (0.0, 0.0)}, {}),
    (AdamW, torch.optim.AdamW, {}, {}),
    (AdamW, torch.optim.AdamW, {"lr": 0.1, "weight_decay": 0.3}, {}),
    (Muon, torch.optim.Muon, {"lr": 0.1, "weight_decay": 0.0}, BF16),
    (Muon, torch.optim.Muon, {"lr": 0.1, "weight_decay": 0.3}, BF16),
    (
        Muon,
        torch.optim.Muon,
        {"lr": 0.1, "weight_decay": 0.3, "nesterov": False, "momentum": 0.5},
        BF16,
    ),
    (
        Muon,
        torch.optim.Muon,
        {"lr": 0.1, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"},
        BF16,
    ),
    (
        Muon,
        torch.optim.Muon,
        {
            "lr": 0.1,
            "weight_decay": 0.1,
            "ns_steps": 3,
            "ns_coefficients": (1.5, -0.5, 0.0),
        },
        BF16,
    ),
]


@pytest.mark.parametrize(("ours", "theirs", "options", "more"), PAIRS)
def test_equals_torch_at_every_step(ours, theirs, options, more):
    a, b = weights(), weights()
    first, second = ours(a, **options, **more), theirs(b, **options)
    for step in range(25):
        feed(first, a, 1, first=step)
        feed(second, b, 1, first=step)
        for x, y in zip(a, b, strict=True):
            assert torch.allclose(x, y, rtol=1e-12, atol=1e-12), step


@pytest.mark.parametrize("ours", [SGD, Adam, AdamW, Muon])
def test_defaults_that_torch_shares(ours):
    theirs = getattr(torch.optim, ours.__name__)(weights()).defaults
    mine = ours(weights()).defaults
    own = {"lr", "weight_decay", "dtype", "adjust_lr_fn"} if ours is Muon else set()
    assert all(theirs[name] == mine[name] for name in mine.keys() - own)


def test_muon_in_double_precision_is_near_torch_in_bfloat16():
    a, b = weights(), weights()
    feed(Muon(a, 0.01), a, 10)
    feed(torch.optim.Muon(b, 0.01, weight_decay=0.0), b, 10)
    for x, y in zip(a, b, strict=True):
        assert 1e-12 < (x - y).abs().max() < 0.02


@pytest.mark.parametrize("ours", [SGD, Adam, AdamW])
def test_takes_over_from_torch(ours):
    """Adam's state has torch's names, so a torch run can be gone on with."""
    options = {"momentum": 0.9} if ours is SGD else {}
    a, b = weights(), weights()
    theirs = getattr(torch.optim, ours.__name__)(b, 0.01, **options)
    feed(theirs, b, 5)
    for x, y in zip(a, b, strict=True):
        x.data.copy_(y)
    mine = ours(a, 0.01, **options)
    mine.load_state_dict(copy.deepcopy(theirs.state_dict()))
    feed(mine, a, 5, first=5)
    feed(theirs, b, 5, first=5)
    for x, y in zip(a, b, strict=True):
        assert torch.allclose(x, y, rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------- hand-worked steps


def stepped(optimizer_class, grads, start=1.0, **options):
    x = torch.tensor([start], dtype=torch.float64, requires_grad=True)
    optimizer, seen = optimizer_class([x], **options), []
    for grad in grads:
        x.grad = torch.tensor([grad], dtype=torch.float64)
        optimizer.step()
        seen.append(x.item())
    return seen


def test_momentum_by_hand():
    """Velocities 1, 1.5, 1.75 at half the memory."""
    assert stepped(SGD, [1, 1, 1], start=10.0, lr=1.0, momentum=0.5) == [9, 7.5, 5.75]
    ahead = stepped(SGD, [1, 1], start=10.0, lr=1.0, momentum=0.5, nesterov=True)
    assert ahead == [8.5, 6.75]


def test_adam_by_hand():
    """With betas 0: the sign. The first step is the rate, whatever the gradient."""
    signs = stepped(Adam, [3, -7, 5], start=0.0, lr=0.5, betas=(0.0, 0.0), eps=0.0)
    assert signs == [-0.5, 0.0, -0.5]
    for grad in (1e-4, 1.0, 1e4):
        assert stepped(Adam, [grad], lr=0.25, eps=0.0)[0] == pytest.approx(0.75)
    # means 2 * 0.5 / 0.5 and (1 + 3) / 2 / 1.5 ... by the definition
    m, v = (0.25 * 2 + 0.5 * 4) / 0.75, (0.25 * 4 + 0.5 * 16) / 0.75
    two = stepped(Adam, [2, 4], start=0.0, lr=1.0, betas=(0.5, 0.5), eps=0.0)
    assert two[1] - two[0] == pytest.approx(-m / math.sqrt(v))


def test_decay_is_decoupled_in_adamw_and_muon_only():
    zero = [0.0] * 10
    assert stepped(AdamW, zero, lr=0.1, weight_decay=0.5)[-1] == pytest.approx(0.95**10)
    assert stepped(SGD, zero, lr=0.1, weight_decay=0.5)[-1] == pytest.approx(0.95**10)
    assert stepped(Adam, zero, lr=0.01, weight_decay=0.5)[0] == pytest.approx(0.99)
    x = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    x.grad = torch.zeros(2, 3, dtype=torch.float64)
    Muon([x], 0.1, weight_decay=0.5).step()
    assert torch.allclose(x, torch.full_like(x, 0.95))


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-3, 1e3), st.integers(0, 100))
def test_adam_and_muon_do_not_see_the_unit_of_the_loss(unit, seed):
    for rule in (lambda p: Adam(p, 0.1, eps=0.0), lambda p: Muon(p, 0.1)):
        a, b = weights(seed=seed), weights(seed=seed)
        first, second = rule(a), rule(b)
        for step in range(3):
            for i, (x, y) in enumerate(zip(a, b, strict=True)):
                x.grad = normal(*x.shape, seed=seed + 10 * step + i)
                y.grad = unit * x.grad
            first.step()
            second.step()
        for x, y in zip(a, b, strict=True):
            assert torch.allclose(x, y, atol=1e-8)


@settings(max_examples=30, deadline=None)
@given(
    curvature=st.floats(0.05, 20.0),
    rate=st.floats(0.005, 0.5),
    momentum=st.floats(0.1, 0.9),
)
def test_momentum_obeys_its_recurrence_and_is_bounded_in_the_band(
    curvature, rate, momentum
):
    """x' = (1 + mu - eta h) x - mu x'': the chapter's equation, on its band."""
    x = torch.ones(1, dtype=torch.float64, requires_grad=True)
    optimizer, path = SGD([x], rate, momentum=momentum), [1.0]
    for _ in range(200):
        x.grad = curvature * x.detach()
        optimizer.step()
        path.append(x.item())
    for old, now, new in zip(path, path[1:], path[2:], strict=False):
        expected = (1 + momentum - rate * curvature) * now - momentum * old
        assert new == pytest.approx(expected, rel=1e-6, abs=1e-9 * max(1, abs(now)))
    root = math.sqrt(momentum)
    if 1.05 * (1 - root) ** 2 < rate * curvature < 0.95 * (1 + root) ** 2:
        assert abs(path[-1]) < 1e3 * root**200 + 1e-12


# ----------------------------------------------------------- the base, and states


def test_weights_without_a_gradient_stay_and_have_no_state():
    a = weights()
    for rule in (SGD, Adam, AdamW, Muon):
        optimizer = rule(a, 0.1)
        before = [x.detach().clone() for x in a]
        optimizer.zero_grad()
        optimizer.step()
        assert all(torch.equal(x, y) for x, y in zip(a, before, strict=True))
        assert not optimizer.state


@pytest.mark.parametrize("rule", [SGD, Adam, AdamW, Muon])
def test_a_step_leaves_the_gradient_alone_and_runs_a_closure(rule):
    (x,) = weights([(4, 3)])
    optimizer = rule([x], 0.1, weight_decay=0.1)
    seen = []

    def closure():
        optimizer.zero_grad()
        loss = x.square().sum()
        loss.backward()
        seen.append(x.grad.clone())
        return loss

    before = x.square().sum().item()
    assert optimizer.step(closure).item() == before
    assert torch.equal(x.grad, seen[0])
    assert x.square().sum() < before


def test_a_group_has_settings_of_its_own():
    a, b = weights([(2, 2), (2, 2)])
    optimizer = SGD([{"params": [a], "lr": 0.5}, {"params": [b]}], 0.1)
    old = [a.detach().clone(), b.detach().clone()]
    a.grad, b.grad = torch.ones_like(a), torch.ones_like(b)
    optimizer.step()
    assert torch.allclose(old[0] - a, torch.full_like(a, 0.5))
    assert torch.allclose(old[1] - b, torch.full_like(b, 0.1))


@pytest.mark.parametrize(
    "make",
    [
        lambda p: SGD(p, 0.1, momentum=0.9, nesterov=True),
        lambda p: Adam(p, 0.1),
        lambda p: AdamW(p, 0.1),
        lambda p: Muon(p, 0.1),
        lambda p: Optimizers(Muon(p[:1], 0.1), AdamW(p[1:], 0.1)),
    ],
)
def test_a_saved_run_goes_on_as_if_it_had_not_stopped(make, tmp_path):
    a, b = weights(), weights()
    straight = make(a)
    feed(straight, a, 10)
    first = make(b)
    feed(first, b, 4)
    torch.save({"weights": b, "optimizer": first.state_dict()}, tmp_path / "run.pt")
    saved = torch.load(tmp_path / "run.pt")
    c = [w.detach().clone().requires_grad_() for w in saved["weights"]]
    second = make(c)
    second.load_state_dict(saved["optimizer"])
    feed(second, c, 6, first=4)
    assert all(torch.equal(x, y) for x, y in zip(a, c, strict=True))


def test_a_rule_must_say_how_it_updates():
    (x,) = weights([(2, 2)])
    x.grad = torch.ones_like(x)
    with pytest.raises(NotImplementedError):
        FirstOrder([x], lr=0.1, weight_decay=0.0).step()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: SGD(p, -1.0), "lr is -1.0"),
        (lambda p: SGD(p, float("nan")), "lr is nan"),
        (lambda p: AdamW(p, weight_decay=-0.1), "weight_decay is -0.1"),
        (lambda p: SGD(p, momentum=1.0), "momentum is 1.0"),
        (lambda p: SGD(p, nesterov=True), "nesterov needs a momentum"),
        (lambda p: Adam(p, betas=(0.9, 1.0)), "beta2 is 1.0"),
        (lambda p: Adam(p, betas=(-0.1, 0.9)), "beta1 is -0.1"),
        (lambda p: Adam(p, eps=-1e-8), "eps is"),
        (lambda p: Muon(p, momentum=1.5), "momentum is 1.5"),
        (lambda p: Muon(p, adjust_lr_fn="none"), "adjust_lr_fn is 'none'"),
        (lambda p: Muon([torch.zeros(3, requires_grad=True)]), "give it to AdamW"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(weights())


# ------------------------------------------------------------------ Newton–Schulz


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 1000))
def test_many_convergent_steps_give_the_polar_factor(rows, columns, seed):
    U, _, Vt = torch.linalg.svd(normal(rows, columns, seed=seed), full_matrices=False)
    values = torch.linspace(0.2, 3.0, len(Vt), dtype=torch.float64)
    polar = newton_schulz(
        U @ torch.diag(values) @ Vt, steps=25, coefficients=(1.5, -0.5, 0.0)
    )
    assert torch.allclose(polar, U @ Vt, atol=1e-8)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 1000))
def test_each_singular_value_goes_through_the_quintic(rows, columns, seed):
    matrix = normal(rows, columns, seed=seed)
    U, values, Vt = torch.linalg.svd(matrix, full_matrices=False)
    values = values / values.norm()
    for _ in range(5):
        a, b, c = QUINTIC
        values = a * values + b * values**3 + c * values**5
    expected = U @ torch.diag(values) @ Vt
    assert torch.allclose(newton_schulz(matrix), expected, atol=1e-8)


def test_the_band_that_the_docstring_promises():
    values = torch.logspace(math.log10(0.002), 0, 2000, dtype=torch.float64)
    a, b, c = QUINTIC
    for _ in range(5):
        values = a * values + b * values**3 + c * values**5
    assert 0.67 < values.min() < values.max() < 1.21


def test_newton_schulz_of_zero_and_of_other_shapes():
    assert torch.equal(newton_schulz(torch.zeros(3, 2)), torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"\(2, 3, 4\) is not that of a matrix"):
        newton_schulz(torch.zeros(2, 3, 4))


# ---------------------------------------------------------------------- schedules


def test_schedules_by_hand():
    wsd = [warmup_stable_decay(s, steps=10, warmup=2, decay=4) for s in range(12)]
    assert wsd == [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0, 0]
    cosine = [warmup_cosine(s, steps=6, warmup=2, floor=0.2) for s in (0, 1, 2, 4, 6)]
    assert cosine == pytest.approx([0.5, 1, 1, 0.6, 0.2])
    assert warmup_cosine(99, steps=6, warmup=2, floor=0.2) == pytest.approx(0.2)
    assert warmup_cosine(6, steps=6, warmup=6) == 1.0


def test_cosine_equals_torch_after_the_warmup():
    (x,) = weights([(2, 2)])
    optimizer = torch.optim.SGD([x], lr=1.0)
    oracle = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20, eta_min=0.1)
    for step in range(21):
        ours = warmup_cosine(step + 5, steps=25, warmup=5, floor=0.1)
        assert ours == pytest.approx(oracle.get_last_lr()[0])
        optimizer.step()
        oracle.step()


@given(
    warmup=st.integers(0, 20),
    middle=st.integers(0, 20),
    decay=st.integers(0, 20),
    floor=st.floats(0.0, 1.0),
)
def test_schedules_rise_then_fall_within_bounds(warmup, middle, decay, floor):
    steps = warmup + middle + decay
    for factors in (
        [warmup_cosine(s, steps=steps, warmup=warmup, floor=floor) for s in range(80)],
        [
            warmup_stable_decay(s, steps=steps, warmup=warmup, decay=decay, floor=floor)
            for s in range(80)
        ],
    ):
        assert all(0 <= f <= 1 for f in factors)
        up, down = factors[:warmup], factors[warmup:]
        assert up == sorted(up)
        assert all(a >= b - 1e-12 for a, b in itertools.pairwise(down))
        if warmup:
            assert up[-1] == 1.0 and up[0] > 0


def test_bad_schedules_are_refused():
    with pytest.raises(ValueError, match="take 12 of 10 steps"):
        warmup_stable_decay(0, steps=10, warmup=4, decay=8)
    with pytest.raises(ValueError, match="take 11 of 10 steps"):
        warmup_cosine(0, steps=10, warmup=11)
    with pytest.raises(ValueError, match="step is -1"):
        warmup_cosine(-1, steps=10, warmup=1)


# ----------------------------------------------------------------------- clipping


@settings(max_examples=30, deadline=None)
@given(st.floats(1e-3, 1e3), st.integers(0, 1000))
def test_clipping_equals_torch(max_norm, seed):
    a, b = weights(), weights()
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        x.grad = normal(*x.shape, seed=seed + i)
        y.grad = x.grad.clone()
    b.append(torch.zeros(2, requires_grad=True))  # without a gradient
    norm = clip_gradients(iter(b), max_norm)
    oracle = nn.utils.clip_grad_norm_(a, max_norm)
    assert torch.allclose(norm, oracle)
    for x, y in zip(a, b, strict=False):
        assert torch.allclose(x.grad, y.grad)
    left = torch.cat([y.grad.flatten() for y in b[:-1]]).norm()
    assert left <= max_norm * (1 + 1e-9)
    assert left == pytest.approx(min(norm.item(), max_norm), rel=1e-2)


def test_clipping_without_gradients_or_with_a_bad_bound():
    assert clip_gradients(weights(), 1.0) == 0
    for bound in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="max_norm"):
            clip_gradients(weights(), bound)


def test_a_norm_that_is_not_finite_is_told():
    (x,) = weights([(2, 2)])
    x.grad = torch.full_like(x, float("inf"))
    assert not clip_gradients([x], 1.0).isfinite()


# ------------------------------------------------------- which weight goes where


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_groups_hold_each_weight_once_and_decay_matrices_only(tied, bias):
    model = tiny(tied=tied, bias=bias, qk_norm=True)
    decay, keep = parameter_groups(model, weight_decay=0.1)
    assert (decay["weight_decay"], keep["weight_decay"]) == (0.1, 0.0)
    ids = [id(p) for g in (decay, keep) for p in g["params"]]
    assert sorted(ids) == sorted(id(p) for p in model.parameters())
    decayed = {id(p) for p in decay["params"]}
    for name, weight in model.named_parameters():
        matrix = ".qkv.w" in name or ".out.w" in name or "mlp.up.w" in name
        matrix = matrix or "mlp.down.w" in name or (name.startswith("readout"))
        assert (id(weight) in decayed) == matrix, name


@pytest.mark.parametrize("tied", [True, False])
def test_muon_gets_the_matrices_of_the_blocks(tied):
    model = tiny(tied=tied)
    names = {id(p): n for n, p in model.named_parameters()}
    chosen = {names[id(p)] for p in hidden_matrices(model)}
    parts = ("attention.qkv", "attention.out", "mlp.up", "mlp.down")
    assert chosen == {f"blocks.{i}.{p}.weight" for i in range(2) for p in parts}


def test_heads_and_frozen_weights_are_left_out():
    model = nn.ModuleDict({"trunk": tiny(), "score": nn.Linear(8, 1)})
    model["trunk"].blocks[0].requires_grad_(False)
    assert len(hidden_matrices(model)) == 4 + 1
    assert len(hidden_matrices(model, exclude=("readout", "score"))) == 4
    inner = hidden_matrices(model, exclude=("readout", "score", "trunk.blocks.1.mlp"))
    assert len(inner) == 2
    groups = parameter_groups(model, weight_decay=0.1, without=hidden_matrices(model))
    assert len(groups) == 1 and all(p.requires_grad for p in groups[0]["params"])


def test_built_optimizer_equals_two_of_torch():
    """Muon and AdamW of torch, with the same groups, on a GPT's real gradients."""
    ids = torch.arange(16).view(2, 8) % 11
    ours, theirs = tiny().double(), tiny().double()
    mine = build_optimizer(ours, weight_decay=0.1, dtype=torch.bfloat16)
    matrices = hidden_matrices(theirs)
    rest = parameter_groups(theirs, weight_decay=0.1, without=matrices)
    oracles = (
        torch.optim.Muon(matrices, 0.03, weight_decay=0.1),
        torch.optim.AdamW(rest, 5e-3, betas=(0.9, 0.95)),
    )
    for _ in range(5):
        for model in (ours, theirs):
            model.zero_grad()
            F.cross_entropy(model(ids).flatten(0, 1), ids.flatten()).backward()
        mine.step()
        for oracle in oracles:
            oracle.step()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-8), name


def test_built_optimizer_overfits_one_batch():
    model = tiny(qk_norm=True)
    optimizer = build_optimizer(model, rate=0.05)
    ids = torch.tensor([[1, 5, 2, 7, 3, 3, 9, 4]])
    for _ in range(60):
        loss = F.cross_entropy(model(ids[:, :-1])[0], ids[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05


def test_a_model_without_matrices_or_without_vectors():
    assert len(build_optimizer(nn.LayerNorm(4)).optimizers) == 1
    linear = nn.Linear(3, 2, bias=False)
    assert isinstance(build_optimizer(linear).optimizers[0], Muon)


def test_set_rate_scales_each_group_from_where_it_began():
    a, b, c = weights()
    both = Optimizers(Muon([a], 0.03), AdamW([b, c], 0.5))
    for factor in (0.1, 0.5, 1.0):
        both.set_rate(factor)
        rates = [group["lr"] for group in both.param_groups]
        assert rates == pytest.approx([0.03 * factor, 0.5 * factor])
    both.set_rate(0.25)
    again = Optimizers(Muon([a], 0.03), AdamW([b, c], 0.5))
    again.load_state_dict(both.state_dict())
    again.set_rate(1.0)
    assert [g["lr"] for g in again.param_groups] == pytest.approx([0.03, 0.5])


def test_zero_grad_reaches_every_part():
    a = weights()
    both = Optimizers(Muon(a[:1]), AdamW(a[1:]))
    for set_to_none in (False, True):
        for x in a:
            x.grad = torch.ones_like(x)
        both.zero_grad(set_to_none=set_to_none)
        assert all((x.grad is None) == set_to_none for x in a)
        assert set_to_none or all(not x.grad.any() for x in a)


def test_one_weight_in_two_optimizers_is_refused():
    a = weights()
    with pytest.raises(ValueError, match=r"\(5, 3\) is in two optimizers"):
        Optimizers(Muon(a[:2]), AdamW(a[:1]))


def test_a_state_of_another_shape_is_refused():
    a = weights()
    saved = Optimizers(Muon(a)).state_dict()
    with pytest.raises(ValueError, match="of 1 optimizers, not of 2"):
        Optimizers(Muon(a[:1]), AdamW(a[1:])).load_state_dict(saved)


# ------------------------------------------------------------------- accumulation


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 8), min_size=2, max_size=5), st.integers(0, 100))
def test_pieces_weighted_by_their_tokens_equal_the_large_batch(lengths, seed):
    """What the chapter says of accumulation, for any lengths of the pieces."""
    model = nn.Linear(3, 4).double()
    x, y = normal(sum(lengths), 3, seed=seed), torch.arange(sum(lengths)) % 4
    F.cross_entropy(model(x), y).backward()
    whole = model.weight.grad.clone()
    model.zero_grad()
    for part, target in zip(x.split(lengths), y.split(lengths), strict=True):
        loss = F.cross_entropy(model(part), target)
        (loss * len(part) / len(x)).backward()
    assert torch.allclose(model.weight.grad, whole)
