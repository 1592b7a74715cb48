"""Every op written out as its definition: plain loops over one output number, nothing clever.

Finite differences cannot see a wrong forward: the gradient of a wrong function agrees with that function. So the
output is compared with these definitions, number by number. Each gives the number and its size, the sum of the
absolute values of the terms added up in it; a correct forward agrees to a few roundings of that size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import NamedTuple

import numpy as np

from minires import ops
from minires.backend import Array
from minires.gradcheck import composites
from minires.gradcheck.report import TensorReport

ROUNDINGS = 16
"""How many roundings (of eps each: 2^-52 in float64) of its size a number may be off."""

MAX_OUTPUTS = 600
"""Of a larger output, this many numbers are drawn and compared."""

Index = tuple[int, ...]


class Value(NamedTuple):
    """One output number and the size of what was added up in it."""

    value: float
    size: float


class Definition(NamedTuple):
    """An op: the names of its inputs, the names of its settings, and its output numbers."""

    inputs: tuple[str, ...]
    required: tuple[str, ...]
    optional: tuple[str, ...]
    shape: Callable[[tuple[Array, ...], dict], tuple[int, ...]]
    at: Callable[[Index, tuple[Array, ...], dict], Value]


def compare(like: str, y: Array, inputs: tuple[Array, ...], options: dict, rng: np.random.Generator) -> TensorReport:
    """Holds the output y of somebody's forward against the definition of the op `like`.

    A y of float32 is held to the roundings of float32. One that float32 was hidden in (a cast there and back) is not.
    """
    definition = DEFINITIONS[like]
    shape = definition.shape(inputs, options)
    if y.shape != shape:
        reason = f"y has shape {y.shape}; {like} of these inputs has {shape}"
        return TensorReport("y", y.shape, "fail", reason, "the shape")
    indices = np.arange(y.size)
    if y.size > MAX_OUTPUTS:
        indices = np.sort(rng.choice(y.size, MAX_OUTPUTS, replace=False))
    values = [definition.at(_unravel(i, shape), inputs, options) for i in indices]
    expected = np.array([v.value for v in values])
    eps = np.finfo(np.float32 if y.dtype == np.float32 else np.float64).eps
    bounds = ROUNDINGS * float(eps) * np.array([v.size for v in values])
    got = y.ravel()[indices].astype(float)
    errors = np.abs(got - expected)
    excess = np.where(np.isfinite(got), errors / np.maximum(bounds, 1e-300), np.inf)
    worst = int(np.argmax(excess))
    off = int(np.sum(excess > 1))
    reason = f"{off} of {len(indices)} outputs differ from the definition" if off else "agrees with the definition"
    coverage = f"all {y.size}" if len(indices) == y.size else f"{len(indices)} of {y.size}"
    at = str(_unravel(indices[worst], shape))
    numbers = (float(got[worst]), float(expected[worst]), float(errors[worst]), float(bounds[worst]))
    report = TensorReport("y", shape, "fail" if off else "pass", reason, coverage, at, *numbers)
    if len(indices) == y.size:
        report.yours, report.right = y, expected.reshape(shape)
    return report


def check_options(like: str, inputs: tuple[Array, ...], options: dict) -> None:
    """ValueError for an unknown op, a setting it does not have, one it needs, or a number of inputs that is not its."""
    if like not in DEFINITIONS:
        raise ValueError(f"like is {like!r}; expected one of {', '.join(DEFINITIONS)}")
    definition = DEFINITIONS[like]
    for name in options:
        if name not in definition.required + definition.optional:
            known = ", ".join(definition.required + definition.optional) or "none"
            raise ValueError(f"options holds {name!r}, which {like} does not know; its settings: {known}")
    for name in definition.required:
        if name not in options:
            raise ValueError(f'like="{like}" needs options={{"{name}": ...}}: the setting forward was called with')
    fewest = len(definition.inputs) - (definition.inputs[-1] == "bias" and like != "batchnorm")
    if not fewest <= len(inputs) <= len(definition.inputs):
        raise ValueError(
            f"{len(inputs)} inputs for {like}; expected {', '.join(definition.inputs)} "
            "(labels, target and settings belong into options)"
        )


def check_fit(like: str, inputs: tuple[Array, ...], options: dict) -> None:
    """ValueError if the op itself refuses these inputs, in its own words: another layout of a weight, most often."""
    if like == "dropout":
        return  # its mask is not known yet
    try:
        run_forward(like, inputs, options)
    except (TypeError, ValueError) as error:
        raise ValueError(f'these inputs do not fit like="{like}": {error}') from error


def _unravel(index: int, shape: tuple[int, ...]) -> Index:
    return tuple(int(i) for i in np.unravel_index(index, shape)) if shape else ()


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int | np.integer) else (int(value[0]), int(value[1]))


def _sum(terms: list[float]) -> Value:
    return Value(math.fsum(terms), math.fsum(map(abs, terms)))


# --- products ------------------------------------------------------------------------------------------------------


def _window_size(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def _conv2d_shape(inputs: tuple[Array, ...], options: dict) -> tuple[int, ...]:
    x, weight = inputs[:2]
    stride, padding, dilation = (_pair(options.get(k, d)) for k, d in _CONV_DEFAULTS)
    places = [_window_size(x.shape[2 + k], weight.shape[2 + k], stride[k], padding[k], dilation[k]) for k in (0, 1)]
    return (x.shape[0], weight.shape[0], *places)


_CONV_DEFAULTS = (("stride", 1), ("padding", 0), ("dilation", 1))


def _conv2d(index: Index, inputs: tuple[Array, ...], options: dict) -> Value:
    n, o, i, j = index
    x, weight = inputs[:2]
    (sh, sw), (ph, pw), (dh, dw) = (_pair(options.get(k, d)) for k, d in _CONV_DEFAULTS)
    terms = [] if len(inputs) < 3 else [float(inputs[2][o])]
    first = o // (weight.shape[0] // options.get("groups", 1)) * weight.shape[1]
    for c in range(weight.shape[1]):
        for a in range(weight.shape[2]):
            for b in range(weight.shape[3]):
                row, column = i * sh + a * dh - ph, j * sw + b * dw - pw
                if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
                    terms.append(float(x[n, first + c, row, column]) * float(weight[o, c, a, b]))
    return _sum(terms)


def _linear(index: Index, inputs: tuple[Array, ...], options: dict) -> Value:
    n, o = index
    x, weight = inputs[:2]
    terms = [] if len(inputs) < 3 else [float(inputs[2][o])]
    for i in range(x.shape[1]):
        terms.append(float(x[n, i]) * float(weight[o, i]))
    return _sum(terms)


# --- batch normalization -------------------------------------------------------------------------------------------


def _batchnorm(index: Index, inputs: tuple[Array, ...], options: dict) -> Value:
    x, weight, bias = inputs
    c = index[1]
    if options.get("mean") is not None:
        mean, var = float(options["mean"][c]), float(options["var"][c])
    else:
        numbers = [float(v) for v in x[:, c].ravel()]
        mean = math.fsum(numbers) / len(numbers)
        var = math.fsum((v - mean) ** 2 for v in numbers) / len(numbers)
    var += options.get("eps", 1e-5)
    gain = float(weight[c]) / math.sqrt(var)
    value = (float(x[index]) - mean) * gain + float(bias[c])
    size = (abs(float(x[index])) + abs(mean)) * abs(gain) * (1 + mean * mean / var) + abs(float(bias[c]))
    return Value(value, size)


# --- activations ---------------------------------------------------------------------------------------------------


def _elementwise(f: Callable[[float, dict], float]) -> Definition:
    def at(index: Index, inputs: tuple[Array, ...], options: dict) -> Value:
        x = float(inputs[0][index])
        return Value(f(x, options), 1 + abs(x))

    optional = ("slope",) if f is _leaky_relu else ()
    return Definition(("x",), (), optional, _same, at)


def _leaky_relu(x: float, options: dict) -> float:
    return x if x > 0 else x * options.get("slope", 0.01)


def _sigmoid(x: float, options: dict) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


def _dropout(index: Index, inputs: tuple[Array, ...], options: dict) -> Value:
    x = float(inputs[0][index])
    return Value(x / (1 - options["p"]) if options["mask"][index] else 0.0, 1 + abs(x))


# --- pooling -------------------------------------------------------------------------------------------------------


def _pool_shape(inputs: tuple[Array, ...], options: dict) -> tuple[int, ...]:
    x = inputs[0]
    kernel, stride, padding = _pool_settings(options)
    return (*x.shape[:2], *(_window_size(x.shape[2 + k], kernel[k], stride[k], padding[k]) for k in (0, 1)))


def _pool_settings(options: dict) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    kernel = _pair(options["kernel_size"])
    stride = kernel if options.get("stride") is None else _pair(options["stride"])
    return kernel, stride, _pair(options.get("padding", 0))


def _window(index: Index, x: Array, options: dict) -> Iterator[float]:
    """The pixels of x under one place of the window; those on padding do not exist."""
    n, c, i, j = index
    (kh, kw), (sh, sw), (ph, pw) = _pool_settings(options)
    for a in range(kh):
        for b in range(kw):
            row, column = i * sh + a - ph, j * sw + b - pw
            if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
                yield float(x[n, c, row, column])


def _max_pool2d(index: Index, inputs: tuple[Array, ...], options: dict) -> Value:
    largest = max(_window(index, inputs[0], options))
    return Value(largest, abs(largest))


def _avg_pool2d(index: Index, inputs: tuple[Array, ...], options: dict) -> Value:
    kh, kw = _pair(options["kernel_size"])
    return _sum([pixel / (kh * kw) for pixel in _window(index, inputs[0], options)])


def _global_avg_pool2d(index: Index, inputs: tuple[Array, ...], options: dict) -> Value:
    pixels = inputs[0][index].ravel()
    return _sum([float(pixel) / len(pixels) for pixel in pixels])


# --- where paths meet (see composites.py) --------------------------------------------------------------------------


def _hidden(row: Array, weight: Array) -> list[float]:
    return [max(math.fsum(float(w) * float(v) for w, v in zip(filter_, row, strict=True)), 0.0) for filter_ in weight]


def _residual(index: Index, inputs: tuple[Array, ...], options: dict) -> Value:
    (n, o), (x, weight1, weight2) = index, inputs
    hidden = _hidden(x[n], weight1)
    size = abs(float(x[n, o])) + float(np.abs(weight2[o]) @ np.abs(weight1) @ np.abs(x[n]))
    return Value(float(x[n, o]) + _sum([float(w) * h for w, h in zip(weight2[o], hidden, strict=True)]).value, size)


def _shared_linear(index: Index, inputs: tuple[Array, ...], options: dict) -> Value:
    (n, o), (x, weight) = index, inputs
    hidden = _hidden(x[n], weight)
    size = float(np.abs(weight[o]) @ np.abs(weight) @ np.abs(x[n]))
    return Value(_sum([float(w) * h for w, h in zip(weight[o], hidden, strict=True)]).value, size)


# --- losses --------------------------------------------------------------------------------------------------------


def _softmax_cross_entropy(index: Index, inputs: tuple[Array, ...], options: dict) -> Value:
    (logits,), total, size = inputs, 0.0, 0.0
    for row, label in zip(logits, options["labels"], strict=True):
        largest = float(row.max())
        log_sum = largest + math.log(math.fsum(math.exp(float(z) - largest) for z in row))
        total += (log_sum - float(row[label])) / len(logits)
        size += (abs(largest) + math.log(len(row)) + abs(float(row[label])) + 1) / len(logits)
    return Value(total, size)


def _mse(index: Index, inputs: tuple[Array, ...], options: dict) -> Value:
    (prediction,), target = inputs, np.asarray(options["target"])
    pairs = zip(prediction.ravel(), target.ravel(), strict=True)
    return _sum([(float(p) - float(t)) ** 2 / prediction.size for p, t in pairs])


def _same(inputs: tuple[Array, ...], options: dict) -> tuple[int, ...]:
    return inputs[0].shape


def _number(inputs: tuple[Array, ...], options: dict) -> tuple[int, ...]:
    return ()


_POOL = (("x",), ("kernel_size",), ("stride", "padding"), _pool_shape)

DEFINITIONS: dict[str, Definition] = {
    "conv2d": Definition(
        ("x", "weight", "bias"), (), ("stride", "padding", "dilation", "groups"), _conv2d_shape, _conv2d
    ),
    "linear": Definition(
        ("x", "weight", "bias"), (), (), lambda inputs, options: (len(inputs[0]), len(inputs[1])), _linear
    ),
    "batchnorm": Definition(("x", "weight", "bias"), (), ("eps", "mean", "var"), _same, _batchnorm),
    "relu": _elementwise(lambda x, options: max(x, 0.0)),
    "leaky_relu": _elementwise(_leaky_relu),
    "tanh": _elementwise(lambda x, options: math.tanh(x)),
    "sigmoid": _elementwise(_sigmoid),
    "max_pool2d": Definition(*_POOL, _max_pool2d),
    "avg_pool2d": Definition(*_POOL, _avg_pool2d),
    "global_avg_pool2d": Definition(("x",), (), (), lambda i, o: i[0].shape[:2], _global_avg_pool2d),
    "dropout": Definition(("x",), ("p",), ("mask", "rng"), _same, _dropout),
    "softmax_cross_entropy": Definition(("logits",), ("labels",), (), _number, _softmax_cross_entropy),
    "mse": Definition(("prediction",), ("target",), (), _number, _mse),
    "residual": Definition(("x", "weight1", "weight2"), (), (), _same, _residual),
    "shared_linear": Definition(("x", "weight"), (), (), _same, _shared_linear),
}
"""Every op of `minires.ops`, and the two of `composites`, by the name that `like=` takes."""


def run_forward(like: str, inputs: tuple[Array, ...], options: dict) -> tuple[Array, object]:
    """minires' own forward of `like`. Dropout takes its mask from the options, so that nothing is random."""
    if like == "dropout":
        scaled = options["mask"].astype(inputs[0].dtype) / (1 - options["p"])
        return inputs[0] * scaled, scaled
    return getattr(_home(like), f"{like}_forward")(*inputs, **options)


def run_backward(like: str, dy: Array, cache: object) -> tuple[Array | None, ...]:
    """minires' own backward of `like`, always as a tuple."""
    gradients = getattr(_home(like), f"{like}_backward")(dy, cache)
    return gradients if isinstance(gradients, tuple) else (gradients,)


def _home(like: str) -> ModuleType:
    return composites if hasattr(composites, f"{like}_forward") else ops
