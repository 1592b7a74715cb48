"""Right functions under conditions in which a careless check calls them wrong.

Each kind draws a function whose gradient is right and returns the report of its check: ops at scales from 1e-8 to 1e8,
saturated losses, small losses of large numbers, networks of 30 layers, forwards in float32.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minires import nn
from minires.gradcheck import GradReport, check_model, check_op
from minires.gradcheck.configurations import draw
from minires.gradcheck.definitions import DEFINITIONS, run_backward, run_forward

SATURATING = ("softmax_cross_entropy", "sigmoid", "tanh")


def op_check(op: str, inputs: tuple, settings: dict, dtype: type = np.float64, **more: object) -> GradReport:
    """minires' own op, computed in `dtype`."""
    settings = {k: v.astype(dtype) if getattr(v, "dtype", None) == np.float64 else v for k, v in settings.items()}

    def backward(dy: np.ndarray, cache: object) -> tuple:
        return run_backward(op, np.asarray(dy, dtype) if np.ndim(dy) else dtype(dy), cache)

    def forward(*arrays: np.ndarray) -> tuple:
        return run_forward(op, tuple(a.astype(dtype) for a in arrays), settings)

    return check_op(forward, backward, inputs, **more)


def plain(rng: np.random.Generator) -> GradReport:
    """Any op on ordinary numbers."""
    op = str(rng.choice(list(DEFINITIONS)))
    inputs, options = draw(op, rng)
    return op_check(op, inputs, options, like=op, options=options)


def scaled(rng: np.random.Generator) -> GradReport:
    """Any op, its first input times 1e-8 to 1e8, with and without `like`."""
    op = str(rng.choice(list(DEFINITIONS)))
    inputs, options = draw(op, rng)
    inputs = (inputs[0] * 10.0 ** rng.uniform(-8, 8), *inputs[1:])
    known = {"like": op, "options": options} if rng.random() < 0.5 else {}
    return op_check(op, inputs, options, **known)


def all_scaled(rng: np.random.Generator) -> GradReport:
    """An op with weights, each input with a scale of its own, 1e-8 to 1e8, and an upstream of 1e-8 to 1e8."""
    op = str(rng.choice(["linear", "conv2d", "batchnorm", "residual", "shared_linear"]))
    inputs, options = draw(op, rng)
    inputs = tuple(a * 10.0 ** rng.uniform(-8, 8) for a in inputs)
    y, _ = run_forward(op, inputs, options)
    return op_check(op, inputs, options, dy=10.0 ** rng.uniform(-8, 8) * rng.standard_normal(y.shape))


def saturated(rng: np.random.Generator) -> GradReport:
    """A loss or activation far out: most of its gradients are next to nothing."""
    op = str(rng.choice(SATURATING))
    inputs, options = draw(op, rng)
    inputs = (inputs[0] * rng.uniform(5, 400),)
    known = {"like": op, "options": options} if rng.random() < 0.5 else {}
    return op_check(op, inputs, options, **known)


def least_squares(rng: np.random.Generator) -> GradReport:
    """Features around 10 to 1e5 that nobody scaled, near the best weights: the loss is small, its terms are not."""
    n, d = int(rng.integers(5, 40)), int(rng.integers(1, 5))
    level, spread = 10.0 ** rng.uniform(1, 5), 10.0 ** rng.uniform(-1, 2)
    a = np.c_[np.ones(n), level + spread * rng.standard_normal((n, d))]
    best = rng.standard_normal(d + 1)
    y = a @ best + 0.1 * rng.standard_normal(n)

    def forward(w: np.ndarray) -> tuple:
        e = a @ w - y
        return (e * e).mean(), e

    return check_op(forward, lambda dy, e: dy * 2 * a.T @ e / n, [best + 0.01 * rng.standard_normal(d + 1)])


def line_fit(rng: np.random.Generator) -> GradReport:
    """Two numbers, w and b, under a squared error."""
    x = rng.standard_normal(30) * 10.0 ** rng.uniform(-3, 3)
    y = 3 * x + 2 + 0.1 * rng.standard_normal(30)

    def forward(w: np.ndarray, b: np.ndarray) -> tuple:
        e = w * x + b - y
        return (e * e).mean(), e

    def backward(dy: float, e: np.ndarray) -> tuple:
        return dy * 2 * (e * x).mean(), dy * 2 * e.mean()

    return check_op(forward, backward, [np.array(rng.standard_normal()), np.array(rng.standard_normal())])


def deep(rng: np.random.Generator) -> GradReport:
    """30 layers (or 8 with tiny weights) under a softmax cross-entropy."""
    width, small = int(rng.integers(3, 9)), rng.random() < 0.4
    layers = []
    for _ in range(8 if small else 30):
        layers += [nn.Linear(width, width, rng=rng), nn.Tanh() if rng.random() < 0.7 else nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(width, 3, rng=rng))
    for p in model.parameters():
        p.value = rng.standard_normal(p.value.shape) * (0.01 if small else rng.uniform(0.5, 2) / np.sqrt(width))
    return check_model(model, rng.standard_normal((4, width)), rng.integers(0, 3, 4), seed=int(rng.integers(1000)))


def float32(rng: np.random.Generator) -> GradReport:
    """Any op in float32, with and without `like`."""
    op = str(rng.choice(list(DEFINITIONS)))
    inputs, options = draw(op, rng)
    known = {"like": op, "options": options} if rng.random() < 0.5 else {}
    return op_check(op, inputs, options, np.float32, **known)


def float32_inside(rng: np.random.Generator) -> GradReport:
    """A float32 step in the middle of a float64 function: its output does not look like float32."""
    x, w = rng.standard_normal((4, 5)), rng.standard_normal((3, 5))

    def forward(x: np.ndarray, w: np.ndarray) -> tuple:
        z = (x.astype(np.float32) @ w.T.astype(np.float32)).astype(np.float64)
        return np.tanh(z) * 1.1, (x, w, z)

    def backward(dy: np.ndarray, cache: tuple) -> tuple:
        x, w, z = cache
        dz = 1.1 * dy * (1 - np.tanh(z) ** 2)
        return dz @ w, dz.T @ x

    return check_op(forward, backward, [x, w])


KINDS: dict[str, tuple[Callable[[np.random.Generator], GradReport], float]] = {
    "plain": (plain, 0.24),
    "scaled": (scaled, 0.2),
    "all_scaled": (all_scaled, 0.1),
    "saturated": (saturated, 0.14),
    "least_squares": (least_squares, 0.1),
    "line_fit": (line_fit, 0.08),
    "deep": (deep, 0.01),
    "float32": (float32, 0.1),
    "float32_inside": (float32_inside, 0.02),
}
"""Every kind with its share."""
