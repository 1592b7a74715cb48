"""Which settings would make y right? Forgotten options= look like a wrong forward."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from minires.backend import Array
from minires.gradcheck import definitions

EPS = (1e-3, 1e-5, 1e-8, 1e-6, 1e-7, 1e-4, 1e-12, 1e-2, 0.1)


def find(like: str, inputs: tuple[Array, ...], options: dict, y: Array) -> dict | None:
    """Settings, other than those given, with which the op gives exactly y; None if there are none."""
    for settings in _candidates(like, inputs, options, y):
        changed = {k: v for k, v in settings.items() if options.get(k, _DEFAULTS.get(k)) != v}
        if not changed:
            continue
        try:
            if definitions.DEFINITIONS[like].shape(inputs, options | settings) != y.shape:
                continue
            expected, _ = definitions.run_forward(like, inputs, options | settings)
        except (ValueError, TypeError):
            continue
        if expected.shape == y.shape and np.allclose(y, expected, rtol=1e-10, atol=1e-12 * np.max(np.abs(expected))):
            return changed
    return None


def sentence(like: str, changed: dict) -> str:
    """What to tell whoever forgot them."""
    settings = ", ".join(f"{k} = {v:g}" if isinstance(v, float) else f"{k} = {v}" for k, v in changed.items())
    options = ", ".join(f'"{k}": {v:g}' if isinstance(v, float) else f'"{k}": {v}' for k, v in changed.items())
    return (
        f"y is what {like} gives with {settings}. If that is what you meant, say options={{{options}}}; if not, "
        "forward uses another setting than it was called with"
    )


_DEFAULTS = {"stride": 1, "padding": 0, "dilation": 1, "eps": 1e-5, "slope": 0.01}


def _candidates(like: str, inputs: tuple[Array, ...], options: dict, y: Array) -> Iterator[dict]:
    x = inputs[0]
    if like == "conv2d":
        for stride, padding, dilation in product((1, 2, 3, 4), (0, 1, 2, 3), (1, 2, 3)):
            yield {"stride": stride, "padding": padding, "dilation": dilation}
    elif like in ("max_pool2d", "avg_pool2d"):
        for kernel, stride, padding in product((2, 3, 1, 4), (1, 2, 3, 4), (0, 1)):
            yield {"stride": stride, "padding": padding}
            yield {"kernel_size": kernel, "stride": stride, "padding": padding}
    elif like == "batchnorm" and options.get("mean") is None:
        yield from ({"eps": eps} for eps in EPS)
    elif like == "leaky_relu" and y.shape == x.shape and np.any(x < 0):
        yield {"slope": float(f"{np.median((y / np.where(x == 0, 1, x))[x < 0]):.6g}")}
