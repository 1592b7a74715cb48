"""The inputs on which anybody's version of an op is checked: the cases in which right and wrong part ways.

Every op has an ordinary case and the ones that are often forgotten: a stride that does not divide, no padding, an image
that is not square, a kernel of one pixel, a batch of one, ties. They are small, so that loops in plain Python take
well under a second each.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minires.backend import Array

DEFAULTS = {
    "conv2d": {"stride": 1, "padding": 0, "dilation": 1},
    "max_pool2d": {"kernel_size": 2, "padding": 0},
    "avg_pool2d": {"kernel_size": 2, "padding": 0},
    "batchnorm": {"eps": 1e-5},
    "leaky_relu": {"slope": 0.01},
}
"""The settings of an op where nothing is said; the stride of a pooling is then its kernel's size."""


class StandardCase(NamedTuple):
    """One call of an op: what is special about it, its arrays and its settings."""

    name: str
    inputs: tuple[Array, ...]
    options: dict


def standard_cases(op: str, free: tuple[str, ...], fixed: dict, seed: int = 0) -> list[StandardCase]:
    """The cases of `op` that a function can be asked, at least one.

    free: the settings that the function takes as arguments. fixed: the settings it was written for; they replace those
    of every case. A case that needs another value of a setting that is not free is left out. ValueError for an
    op without standard cases, or where no case fits the settings.
    """
    if op not in _CASES:
        raise ValueError(f"like is {op!r}; there are standard cases for {', '.join(_CASES)}")
    rng = np.random.default_rng([seed, *op.encode()])
    chosen = []
    for case in _CASES[op](rng):
        options = _settings(op, case.options, free, fixed)
        if options is not None and _fits(op, case, options):
            chosen.append(case._replace(options=options))
    if not chosen:
        told = ", ".join(f"{k} {v}" for k, v in fixed.items()) or "its settings"
        raise ValueError(f"no standard case of {op} fits {told}: its images are too small")
    return chosen


def _settings(op: str, wanted: dict, free: tuple[str, ...], fixed: dict) -> dict | None:
    """All settings of a case; None where it stands for one that the function cannot be asked or was not written for."""
    if any(wanted.get(name, value) != value for name, value in fixed.items()):
        return None
    options = DEFAULTS.get(op, {}) | wanted | fixed
    usual = dict(DEFAULTS.get(op, {}))
    if "kernel_size" in options:
        usual["stride"] = options["kernel_size"]
        options.setdefault("stride", options["kernel_size"])
    unasked = [name for name in usual if options[name] != usual[name] and name not in free and name not in fixed]
    return None if unasked else options


def _fits(op: str, case: StandardCase, options: dict) -> bool:
    """Whether the op has an output for these sizes."""
    if op not in ("conv2d", "max_pool2d", "avg_pool2d"):
        return True
    kernel = case.inputs[1].shape[2:] if op == "conv2d" else _pair(options["kernel_size"])
    padding, dilation = _pair(options.get("padding", 0)), _pair(options.get("dilation", 1))
    if op != "conv2d" and any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        return False
    sizes = zip(case.inputs[0].shape[2:], kernel, padding, dilation, strict=True)
    return all(size + 2 * p >= d * (k - 1) + 1 for size, k, p, d in sizes)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _conv2d(rng: np.random.Generator) -> list[StandardCase]:
    def case(name: str, x: tuple, weight: tuple, **options: int) -> StandardCase:
        inputs = (_normal(rng, *x), _normal(rng, *weight) / np.sqrt(np.prod(weight[1:])), _normal(rng, weight[0]))
        return StandardCase(name, inputs, options)

    return [
        case("3 x 3", (3, 2, 4, 4), (2, 2, 3, 3)),
        case("padding 1", (2, 2, 3, 4), (2, 2, 3, 3), padding=1),
        case("stride 2 that does not divide", (3, 2, 5, 4), (2, 2, 2, 2), stride=2),
        case("stride 2, padding 1", (3, 2, 4, 5), (2, 2, 3, 3), stride=2, padding=1),
        case("not square", (3, 2, 3, 5), (3, 2, 2, 3)),
        case("kernel 1", (4, 3, 2, 3), (2, 3, 1, 1)),
        case("batch of 1", (1, 2, 4, 5), (3, 2, 3, 3)),
        case("dilation 2", (3, 2, 4, 5), (2, 2, 2, 2), dilation=2),
    ]


def _linear(rng: np.random.Generator) -> list[StandardCase]:
    def case(name: str, n: int, inside: int, out: int) -> StandardCase:
        weight = _normal(rng, out, inside) / np.sqrt(inside)
        return StandardCase(name, (_normal(rng, n, inside), weight, _normal(rng, out)), {})

    return [case("5 samples", 5, 4, 3), case("more outputs than inputs", 4, 2, 6), case("batch of 1", 1, 4, 3)]


def _batchnorm(rng: np.random.Generator) -> list[StandardCase]:
    def case(name: str, *shape: int, shift: float = 0.7, **options: float) -> StandardCase:
        gain = rng.choice([-1.0, 1.0], shape[1]) * rng.uniform(0.5, 1.5, shape[1])
        x = shift + 1.5 * _normal(rng, *shape)
        return StandardCase(name, (x, gain, _normal(rng, shape[1])), options)

    return [
        case("images", 4, 3, 3, 2),
        case("rows", 8, 3),
        case("eps that matters", 4, 2, 2, 3, eps=0.3),
        case("rows, eps that matters", 6, 2, eps=0.3),
        case("rows, large mean", 6, 4, shift=20.0),
        case("large mean", 5, 2, 2, 3, shift=20.0),
        case("batch of 1", 1, 3, 3, 4),
    ]


def _elementwise(rng: np.random.Generator) -> list[StandardCase]:
    return [
        StandardCase("rows", (_normal(rng, 6, 5),), {}),
        StandardCase("images", (_normal(rng, 4, 2, 3, 2),), {}),
        StandardCase("large values", (6.0 * _normal(rng, 5, 4),), {}),
        StandardCase("one number", (_normal(rng, 1, 1),), {}),
    ]


def _leaky_relu(rng: np.random.Generator) -> list[StandardCase]:
    return [*_elementwise(rng), StandardCase("slope 0.3", (_normal(rng, 5, 4),), {"slope": 0.3})]


def _pooling(rng: np.random.Generator) -> list[StandardCase]:
    def case(name: str, x: tuple, scale: float = 1.0, **options: int) -> StandardCase:
        return StandardCase(name, (scale * _normal(rng, *x),), options)

    return [
        case("2 x 2", (4, 2, 4, 4)),
        case("windows that overlap", (4, 2, 5, 5), kernel_size=3, stride=1),
        case("stride 2 that does not divide", (3, 2, 6, 5), kernel_size=3, stride=2),
        case("padding 1", (3, 2, 5, 4), kernel_size=3, stride=2, padding=1),
        case("not square", (3, 3, 4, 6)),
        case("kernel 1", (4, 2, 3, 4), kernel_size=1, stride=1),
        case("batch of 1", (1, 2, 4, 6)),
        case("ties", (4, 2, 5, 5), 0.6, kernel_size=3, stride=2),
    ]


def _global_avg_pool2d(rng: np.random.Generator) -> list[StandardCase]:
    shapes = {"images": (4, 2, 3, 3), "not square": (4, 3, 2, 5), "batch of 1": (1, 2, 4, 3), "one pixel": (5, 3, 1, 1)}
    return [StandardCase(name, (_normal(rng, *shape),), {}) for name, shape in shapes.items()]


def _dropout(rng: np.random.Generator) -> list[StandardCase]:
    return [
        StandardCase("half", (_normal(rng, 6, 5),), {"p": 0.5}),
        StandardCase("a quarter of images", (_normal(rng, 4, 2, 3, 2),), {"p": 0.25}),
    ]


def _softmax_cross_entropy(rng: np.random.Generator) -> list[StandardCase]:
    def case(name: str, n: int, k: int, scale: float = 1.5) -> StandardCase:
        return StandardCase(name, (scale * _normal(rng, n, k),), {"labels": rng.integers(0, k, n)})

    return [
        case("5 samples, 4 classes", 5, 4),
        case("more classes than samples", 4, 7),
        case("large logits", 6, 3, 8.0),
        case("2 classes", 5, 2),
        case("batch of 1", 1, 4),
    ]


def _mse(rng: np.random.Generator) -> list[StandardCase]:
    shapes = {"rows": (5, 3), "one output": (6, 1), "batch of 1": (1, 4)}
    return [StandardCase(n, (_normal(rng, *s),), {"target": _normal(rng, *s)}) for n, s in shapes.items()]


def _normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape)


_CASES = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batchnorm": _batchnorm,
    "relu": _elementwise,
    "leaky_relu": _leaky_relu,
    "tanh": _elementwise,
    "sigmoid": _elementwise,
    "max_pool2d": _pooling,
    "avg_pool2d": _pooling,
    "global_avg_pool2d": _global_avg_pool2d,
    "dropout": _dropout,
    "softmax_cross_entropy": _softmax_cross_entropy,
    "mse": _mse,
}
"""The ops of `minires.ops`, each with the function that draws its cases."""
