"""Random inputs and settings for every op: what the demo, the tests and the measured evidence run on.

Batches of four and more, sizes that differ (H != W, in != out), strides that do not divide, gains and biases that
are not zero: nothing in which a fault could hide. `needs` asks for the settings under which one fault shows.
"""

from __future__ import annotations

import numpy as np

from minires.backend import Array

Configuration = tuple[tuple[Array, ...], dict]


def draw(op: str, rng: np.random.Generator, **needs: object) -> Configuration:
    """(inputs, options) for one call of `op`; ValueError for an op that is not known."""
    if op not in _DRAW:
        raise ValueError(f"op is {op!r}; expected one of {', '.join(_DRAW)}")
    return _DRAW[op](rng, needs)


def _normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape)


def _some(rng: np.random.Generator, *choices: object) -> object:
    return choices[int(rng.integers(len(choices)))]


def _conv2d(rng: np.random.Generator, needs: dict) -> Configuration:
    n, c, o = int(rng.integers(4, 6)), int(rng.integers(2, 4)), int(rng.integers(2, 5))
    if "square" in needs:
        o = c
    elif "batch_is_out" in needs:
        o = n
    kernel = _some(rng, (3, 3), (2, 3), (3, 2))
    if "square_kernel" in needs:
        kernel = (3, 3)
    options = {
        "stride": needs.get("stride", _some(rng, 1, 2, (1, 2), (2, 1))),
        "padding": needs.get("padding", _some(rng, 0, 1)),
        "dilation": needs.get("dilation", _some(rng, 1, 1, 2)),
    }
    h, w = (8, 7) if options["dilation"] == 2 else _some(rng, (6, 5), (5, 6))
    weight = _normal(rng, o, c, *kernel) / np.sqrt(c * kernel[0] * kernel[1])
    return (_normal(rng, n, c, h, w), weight, _normal(rng, o)), options


def _linear(rng: np.random.Generator, needs: dict) -> Configuration:
    n, out = int(rng.integers(4, 7)), int(rng.integers(2, 7))
    if "batch_is_out" in needs:
        out = n
    inside = out if "square" in needs else out + int(rng.integers(1, 4))
    return (_normal(rng, n, inside), _normal(rng, out, inside) / np.sqrt(inside), _normal(rng, out)), {}


def _batchnorm(rng: np.random.Generator, needs: dict) -> Configuration:
    n, c = int(rng.integers(4, 7)), int(rng.integers(2, 5))
    image = "image" in needs or rng.random() < 0.7
    shape = (n, c, *(int(s) for s in rng.permutation([2, 3]))) if image else (n + 4, c)
    x = 0.7 + rng.uniform(0.7, 2) * _normal(rng, *shape)
    gain = rng.choice([-1.0, 1.0], c) * rng.uniform(0.5, 1.5, c)
    return (x, gain, _normal(rng, c)), {"eps": needs.get("eps", _some(rng, 1e-5, 1e-3, 0.3))}


def _values(rng: np.random.Generator, needs: dict) -> Configuration:
    return (_normal(rng, *_some(rng, (4, 7), (5, 2, 3, 2), (6, 4))),), {}


def _leaky_relu(rng: np.random.Generator, needs: dict) -> Configuration:
    return _values(rng, needs)[0], {"slope": float(rng.uniform(0.05, 0.4))}


def _dropout(rng: np.random.Generator, needs: dict) -> Configuration:
    inputs, p = _values(rng, needs)[0], float(rng.uniform(0.2, 0.45))
    mask = rng.random(inputs[0].shape) >= p
    mask.flat[:2] = (True, False)
    return inputs, {"p": p, "mask": mask}


def _pool(rng: np.random.Generator, needs: dict) -> Configuration:
    kernel = _some(rng, 2, 3, (3, 2), (2, 3))
    options = {"kernel_size": kernel, "padding": needs.get("padding", _some(rng, 0, 1))}
    if "overlap" in needs:
        options |= {"kernel_size": 3, "stride": _some(rng, 1, 2)}
    elif rng.random() < 0.6:
        options["stride"] = _some(rng, 1, 2, (1, 2))
    x = _normal(rng, int(rng.integers(4, 6)), int(rng.integers(2, 4)), *(int(s) for s in rng.permutation([5, 6])))
    return (x - 2.0 if "negative" in needs else x,), options


def _global_pool(rng: np.random.Generator, needs: dict) -> Configuration:
    w = int(rng.integers(3, 5))
    c = w if "channels_are_columns" in needs else 2
    return (_normal(rng, int(rng.integers(4, 6)), c, w + 1, w),), {}


def _softmax_cross_entropy(rng: np.random.Generator, needs: dict) -> Configuration:
    n = int(rng.integers(4, 9))
    k = n + int(_some(rng, -1, 2, 3))
    return (rng.uniform(0.5, 3) * _normal(rng, n, k),), {"labels": rng.integers(0, k, n)}


def _mse(rng: np.random.Generator, needs: dict) -> Configuration:
    shape = (int(rng.integers(4, 7)), int(rng.integers(2, 6)))
    return (_normal(rng, *shape),), {"target": _normal(rng, *shape)}


def _residual(rng: np.random.Generator, needs: dict) -> Configuration:
    n, d = int(rng.integers(4, 7)), int(rng.integers(2, 5))
    hidden = d if "square" in needs else d + int(rng.integers(1, 4))
    return (_normal(rng, n, d), _normal(rng, hidden, d), _normal(rng, d, hidden)), {}


def _shared_linear(rng: np.random.Generator, needs: dict) -> Configuration:
    n, d = int(rng.integers(4, 7)), int(rng.integers(3, 6))
    return (_normal(rng, n, d), _normal(rng, d, d)), {}


_DRAW = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batchnorm": _batchnorm,
    "relu": _values,
    "leaky_relu": _leaky_relu,
    "tanh": _values,
    "sigmoid": _values,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    "global_avg_pool2d": _global_pool,
    "dropout": _dropout,
    "softmax_cross_entropy": _softmax_cross_entropy,
    "mse": _mse,
    "residual": _residual,
    "shared_linear": _shared_linear,
}
