"""Stochastic gradient descent, and learning rates that change.

For each parameter w with gradient g, weight decay d, momentum mu and learning rate lr (PyTorch's convention):

    g = g + d * w        v = mu * v + g        w = w - lr * v          (Nesterov: w = w - lr * (g + mu * v))

Weight decay is the gradient of d/2 * |w|^2. v starts at zero.
Sources: Polyak 1964; Nesterov 1983; Sutskever et al. 2013; Loshchilov, Hutter 2017, arXiv:1608.03983 (cosine).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from minires.backend import Array, array_namespace
from minires.checks import check_number, check_parameters, check_schedule, convert_state, distinct_names, flag
from minires.nn.layer import Layer, Parameter


class SGD:
    """Stochastic gradient descent with momentum, Nesterov's variant, and weight decay.

    decay_all=False spares biases and BatchNorm's gains and offsets (everything with one axis) from weight decay.
    `lr` may be changed between steps; a schedule says to what.
    """

    def __init__(
        self,
        parameters: Layer | Sequence[Parameter],
        lr: float = 0.1,
        momentum: float = 0.9,
        *,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        decay_all: bool = True,
    ) -> None:
        self.lr, self.momentum = check_number("lr", lr, 0), check_number("momentum", momentum, 0, below=1)
        self.weight_decay, self.decay_all = check_number("weight_decay", weight_decay, 0), flag("decay_all", decay_all)
        if flag("nesterov", nesterov) and momentum == 0:
            raise ValueError("nesterov is True but momentum is 0; expected a momentum to look ahead with")
        self.parameters = check_parameters(parameters)
        self.names = distinct_names(self.parameters)
        self.nesterov = nesterov
        self.velocities = [array_namespace(p.value).zeros_like(p.value) for p in self.parameters]

    def step(self) -> None:
        """Updates every parameter once, by its `.grad`."""
        lr = check_number("lr", self.lr, 0)  # a np.float64 would turn float32 weights into float64
        for i, p in enumerate(self.parameters):
            grad = p.grad
            if self.weight_decay and (self.decay_all or p.value.ndim >= 2):
                grad = grad + self.weight_decay * p.value
            velocity = self.velocities[i] = self.momentum * self.velocities[i] + grad
            p.value = p.value - lr * (grad + self.momentum * velocity if self.nesterov else velocity)

    def state_dict(self) -> dict[str, Array]:
        """Copies of the velocities, by the parameters' names."""
        return {name: velocity.copy() for name, velocity in zip(self.names, self.velocities, strict=True)}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Loads the velocities. Raises ValueError unless there is one of the right shape for each parameter."""
        new = convert_state(dict(zip(self.names, self.velocities, strict=True)), state)
        self.velocities = [new[name] for name in self.names]


def clip_grad_norm(parameters: Sequence[Parameter], max_norm: float) -> Array:
    """Scales all gradients by one factor so that their joint norm is at most `max_norm`; returns the norm before."""
    max_norm = check_number("max_norm", max_norm, 5e-324)
    parameters = check_parameters(parameters)
    xp = array_namespace(*(p.grad for p in parameters))
    norm = xp.sqrt(sum((xp.abs(p.grad) ** 2).sum() for p in parameters))
    factor = xp.minimum(1.0, max_norm / (norm + 1e-12))
    for p in parameters:
        p.grad = (p.grad * factor).astype(p.grad.dtype)
    return norm


Schedule = Callable[[int], float]
"""A learning rate for every step, counted from 0."""


@dataclass(frozen=True)
class Constant:
    """Always lr."""

    lr: float
    __post_init__ = check_schedule

    def __call__(self, step: int) -> float:
        return self.lr


@dataclass(frozen=True)
class Step:
    """lr, multiplied by gamma at each of the milestones (steps)."""

    lr: float
    milestones: Sequence[int]
    gamma: float = 0.1
    __post_init__ = check_schedule

    def __call__(self, step: int) -> float:
        return self.lr * self.gamma ** sum(check_number("step", step, 0) >= milestone for milestone in self.milestones)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from lr down to `final` in `steps` steps, and `final` from then on."""

    lr: float
    steps: int
    final: float = 0.0
    __post_init__ = check_schedule

    def __call__(self, step: int) -> float:
        done = min(1.0, check_number("step", step, 0) / self.steps)
        return self.final + (self.lr - self.final) * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True)
class Warmup:
    """In the first `steps` steps a straight line from `start` times the schedule's rate up to the rate itself."""

    schedule: Schedule
    steps: int
    start: float = 0.0
    __post_init__ = check_schedule

    def __call__(self, step: int) -> float:
        share = min(1.0, (check_number("step", step, 0) + 1) / max(1, self.steps))
        return check_number("the schedule's rate", self.schedule(step), 0) * (self.start + (1 - self.start) * share)
