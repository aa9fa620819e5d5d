# Generated from book/foundations/optimization.md; do not edit (9b547a422b51)
"""Optimizers from gradient descent to AdamW and Muon, learning-rate schedules, gradient
clipping and the groups of weights that decay.
"""

# %% book/foundations/optimization.md#Record
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

Record: TypeAlias = dict[str, Any]  # a group of weights, or a weight's state


# %% book/foundations/optimization.md#FirstOrder
class FirstOrder(torch.optim.Optimizer):
    """A rule that moves each weight by its gradient and a state of its own.

    Subclasses write `update`. Groups, `zero_grad`, `state_dict` and
    `load_state_dict` are those of `torch.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        weight_decay: float,
        **more: Any,
    ) -> None:
        for name, value in {"lr": lr, "weight_decay": weight_decay}.items():
            if not value >= 0:
                raise ValueError(f"{name} is {value}; it must not be negative")
        settings = {"lr": lr, "weight_decay": weight_decay, **more}
        super().__init__(params, settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move the weights that have a gradient; the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    state = self.state[weight]
                    self.update(weight, weight.grad, state, group)
        return loss

    def update(
        self, weight: Tensor, grad: Tensor, state: Record, group: Record
    ) -> None:
        """Change `weight` and `state` in place, and leave `grad` alone."""
        raise NotImplementedError


def _check_fractions(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} is {value}; it must be in [0, 1)")


# %% book/foundations/optimization.md#SGD
class SGD(FirstOrder):
    """Gradient descent with momentum; decay is added to the gradient.

    Polyak (1964); Sutskever et al. (2013) for `nesterov`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        _check_fractions(momentum=momentum)
        if nesterov and momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        options = {"momentum": momentum, "nesterov": nesterov}
        super().__init__(
            params, lr=lr, weight_decay=weight_decay, **options
        )

    def update(
        self, weight: Tensor, grad: Tensor, state: Record, group: Record
    ) -> None:
        momentum = group["momentum"]
        direction = grad + group["weight_decay"] * weight
        if momentum:
            if not state:
                state["momentum_buffer"] = torch.zeros_like(weight)
            velocity = state["momentum_buffer"]
            velocity.mul_(momentum).add_(direction)
            ahead = direction + momentum * velocity
            direction = ahead if group["nesterov"] else velocity
        weight.sub_(direction, alpha=group["lr"])


# %% book/foundations/optimization.md#Adam
class Adam(FirstOrder):
    """Momentum divided by the gradient's running root mean square.

    Decay is added to the gradient, as in `torch.optim.Adam`; prefer `AdamW`.
    Two numbers of state a weight. Kingma and Ba (2015), Algorithm 1.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        _check_fractions(beta1=betas[0], beta2=betas[1])
        if not eps >= 0:
            raise ValueError(f"eps is {eps}; it must not be negative")
        super().__init__(
            params, lr=lr, weight_decay=weight_decay, betas=betas, eps=eps
        )

    def update(
        self, weight: Tensor, grad: Tensor, state: Record, group: Record
    ) -> None:
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(weight)
            state["exp_avg_sq"] = torch.zeros_like(weight)
        state["step"] += 1
        grad = self.decayed(weight, grad, group)
        t, (beta1, beta2) = float(state["step"]), group["betas"]
        mean = state["exp_avg"].lerp_(grad, 1 - beta1)
        square = state["exp_avg_sq"].lerp_(grad.square(), 1 - beta2)
        size = (square / (1 - beta2**t)).sqrt() + group["eps"]
        weight.addcdiv_(mean, size, value=-group["lr"] / (1 - beta1**t))

    def decayed(self, weight: Tensor, grad: Tensor, group: Record) -> Tensor:
        """The gradient with the decay in it."""
        pulled: Tensor = grad + group["weight_decay"] * weight
        return pulled


# %% book/foundations/optimization.md#AdamW
class AdamW(Adam):
    """Adam with decay beside the step, not in the gradient.

    A step multiplies each weight by 1 - lr * weight_decay first.
    Loshchilov and Hutter (2019).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(
            params, lr, betas=betas, eps=eps, weight_decay=weight_decay
        )

    def decayed(self, weight: Tensor, grad: Tensor, group: Record) -> Tensor:
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        return grad


# %% book/foundations/optimization.md#_tables
def _tables(model: nn.Module) -> set[int]:
    """The ids of all embeddings' weights, a tied readout's among them."""
    return {
        id(weight)
        for module in model.modules()
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag))
        for weight in module.parameters()
    }


def parameter_groups(
    model: nn.Module,
    *,
    weight_decay: float,
    without: Iterable[Tensor] = (),
) -> list[Record]:
    """Groups for an optimizer: matrices decay; vectors and tables do not.

    Frozen weights and those in `without` are left out; empty groups too.
    """
    tables, left_out = _tables(model), {id(weight) for weight in without}
    decay: list[Tensor] = []
    keep: list[Tensor] = []
    for weight in model.parameters():
        if weight.requires_grad and id(weight) not in left_out:
            matrix = weight.dim() >= 2 and id(weight) not in tables
            (decay if matrix else keep).append(weight)
    groups = [(decay, weight_decay), (keep, 0.0)]
    return [{"params": p, "weight_decay": d} for p, d in groups if p]


# %% book/foundations/optimization.md#QUINTIC
QUINTIC = (3.4445, -4.7750, 2.0315)


def newton_schulz(
    matrix: Tensor,
    *,
    steps: int = 5,
    coefficients: tuple[float, float, float] = QUINTIC,
    eps: float = 1e-7,
) -> Tensor:
    """Drive the singular values of a matrix (M, N) towards 1.

    With the default quintic those above 0.002 of the matrix's norm end
    between 0.67 and 1.21. Jordan et al. (2024), Muon.
    """
    if matrix.dim() != 2:
        raise ValueError(
            f"the shape {tuple(matrix.shape)} is not that of a matrix; "
            "flatten all axes but one"
        )
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if tall else matrix
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT  # the smaller of the two products
        x = torch.addmm(
            x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a
        )
    return x.mT if tall else x


# %% book/foundations/optimization.md#Muon
class Muon(FirstOrder):
    """Momentum with its singular values set to about 1, for matrices.

    For hidden layers only; see `build_optimizer`. `adjust_lr_fn` says how the
    rate grows with the shape, `dtype` in what the iteration computes. With
    bfloat16 equal to `torch.optim.Muon`, whose defaults for `lr` and
    `weight_decay` are 0.001 and 0.1. Jordan et al. (2024).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.02,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        ns_steps: int = 5,
        ns_coefficients: tuple[float, float, float] = QUINTIC,
        adjust_lr_fn: Literal["original", "match_rms_adamw"] = "original",
        dtype: torch.dtype | None = None,
    ) -> None:
        _check_fractions(momentum=momentum)
        if adjust_lr_fn not in ("original", "match_rms_adamw"):
            raise ValueError(
                f"adjust_lr_fn is {adjust_lr_fn!r}; use 'original' or "
                "'match_rms_adamw'"
            )
        options = {
            "momentum": momentum, "nesterov": nesterov, "ns_steps": ns_steps,
            "ns_coefficients": ns_coefficients, "adjust_lr_fn": adjust_lr_fn,
            "dtype": dtype,
        }
        super().__init__(
            params, lr=lr, weight_decay=weight_decay, **options
        )
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.dim() != 2:
                    raise ValueError(
                        f"a weight of shape {tuple(weight.shape)} is not a "
                        "matrix; give it to AdamW"
                    )

    def update(
        self, weight: Tensor, grad: Tensor, state: Record, group: Record
    ) -> None:
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        mean = state["momentum_buffer"].lerp_(grad, 1 - group["momentum"])
        if group["nesterov"]:
            mean = grad.lerp(mean, group["momentum"])
        step = newton_schulz(
            mean.to(group["dtype"] or weight.dtype),
            steps=group["ns_steps"],
            coefficients=group["ns_coefficients"],
        )
        M, N = weight.shape
        scale = math.sqrt(max(1, M / N))
        if group["adjust_lr_fn"] == "match_rms_adamw":
            scale = 0.2 * math.sqrt(max(M, N))
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(step, alpha=-group["lr"] * scale)


# %% book/foundations/optimization.md#hidden_matrices
def hidden_matrices(
    model: nn.Module, *, exclude: Sequence[str] = ("readout",)
) -> list[nn.Parameter]:
    """The weights for Muon: matrices but for embeddings and heads.

    Modules whose name or last part of a name is in `exclude` are heads.
    """
    outside = _tables(model)
    for name, module in model.named_modules():
        if name in exclude or name.rpartition(".")[2] in exclude:
            outside |= {id(weight) for weight in module.parameters()}
    return [
        weight
        for weight in model.parameters()
        if weight.requires_grad
        and weight.dim() == 2
        and id(weight) not in outside
    ]


class Optimizers:
    """Several optimizers that step, save and load as one."""

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self.optimizers = optimizers
        seen: set[int] = set()
        for group in self.param_groups:
            group.setdefault("initial_lr", group["lr"])
            for weight in group["params"]:
                if id(weight) in seen:
                    raise ValueError(
                        f"a weight of shape {tuple(weight.shape)} is in two "
                        "optimizers; give each weight to one"
                    )
                seen.add(id(weight))

    @property
    def param_groups(self) -> list[Record]:
        """The groups of all optimizers; each has an `lr` of its own."""
        return [g for part in self.optimizers for g in part.param_groups]

    def set_rate(self, factor: float) -> None:
        """Set each group's rate to `factor` times the one it began with."""
        for group in self.param_groups:
            group["lr"] = factor * group["initial_lr"]

    def step(self) -> None:
        """Step each of them."""
        for part in self.optimizers:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        for part in self.optimizers:
            part.zero_grad(set_to_none=set_to_none)

    def state_dict(self) -> Record:
        """The states of all optimizers, for `torch.save`."""
        return {"optimizers": [part.state_dict() for part in self.optimizers]}

    def load_state_dict(self, state: Record) -> None:
        """Go on where `state_dict` was taken."""
        states = state["optimizers"]
        if len(states) != len(self.optimizers):
            raise ValueError(
                f"the state is of {len(states)} optimizers, not of "
                f"{len(self.optimizers)}; build them as in the saved run"
            )
        for part, saved in zip(self.optimizers, states):
            part.load_state_dict(saved)


def build_optimizer(
    model: nn.Module,
    *,
    rate: float = 5e-3,
    matrix_rate: float = 0.03,
    weight_decay: float = 0.0,
    exclude: Sequence[str] = ("readout",),
    dtype: torch.dtype | None = None,
) -> Optimizers:
    """Muon at `matrix_rate` for hidden matrices, AdamW at `rate` for the rest.

    `exclude` names the heads, `dtype` is Muon's; bfloat16 suits a GPU.
    """
    matrices = hidden_matrices(model, exclude=exclude)
    rest = parameter_groups(model, weight_decay=weight_decay, without=matrices)
    parts: list[torch.optim.Optimizer] = []
    if matrices:
        parts.append(
            Muon(matrices, matrix_rate, weight_decay=weight_decay, dtype=dtype)
        )
    if rest:
        parts.append(AdamW(rest, rate, betas=(0.9, 0.95)))
    return Optimizers(*parts)


# %% book/foundations/optimization.md#warmup_cosine
def warmup_cosine(
    step: int, *, steps: int, warmup: int, floor: float = 0.0
) -> float:
    """The factor of the rate at `step`, 0 … steps - 1: up, then a cosine.

    Reaches 1 at the last step of the warm-up and `floor` at `steps`, where
    it stays.
    """
    _check_schedule(step, steps, warmup)
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup_stable_decay(
    step: int, *, steps: int, warmup: int, decay: int, floor: float = 0.0
) -> float:
    """The factor of the rate at `step`: up, level, down in `decay` steps.

    The last of `steps` has a factor just above `floor`, and `steps` has it.
    """
    _check_schedule(step, steps, warmup + decay)
    if step < warmup:
        return (step + 1) / warmup
    if decay == 0:
        return 1.0
    left = min(1.0, max(0.0, (steps - step) / decay))
    return floor + (1 - floor) * left


def _check_schedule(step: int, steps: int, reserved: int) -> None:
    if step < 0:
        raise ValueError(f"step is {step}; the first step is 0")
    if reserved > steps:
        raise ValueError(
            f"warm-up and decay take {reserved} of {steps} steps; "
            "shorten them"
        )


# %% book/foundations/optimization.md#clip_gradients
@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients together to a norm of at most `max_norm`.

    Returns the norm before, a scalar: log it, and skip the step when it is
    not finite, for then the gradients are not either. As
    `torch.nn.utils.clip_grad_norm_`.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm is {max_norm}; it must be positive")
    grads = [p.grad for p in parameters if p.grad is not None]
    if not grads:
        return torch.zeros(())
    norms = [grad.norm().to(grads[0].device) for grad in grads]
    norm: Tensor = torch.stack(norms).norm()
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(factor.to(grad.device))
    return norm
