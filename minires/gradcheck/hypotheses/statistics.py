"""The right gradient times a known statistic of x: a division by the standard deviation forgotten, and the like."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minires.backend import Array
from minires.gradcheck.hypotheses.comparison import Comparison, along, subsets

EPS = (0.0, 1e-5, 1e-3, 1e-6, 1e-7, 1e-8, 1e-12)


def statistic(c: Comparison) -> str | None:
    """yours = expected * s, s a standard deviation, variance, mean or length of an input along some axes."""
    if c.evidence is None or not c.is_far or not np.all(c.known):
        return None
    for number, (name, x) in enumerate(zip(c.names, c.evidence.inputs, strict=True)):
        for words, values in _statistics(c, x, "x" if number == 0 else name):
            for aligned in _aligned(values, c.yours.shape):
                with np.errstate(all="ignore"):
                    multiplied, divided = c.expected * aligned, c.expected / aligned
                if c.near(multiplied):
                    return (
                        f"{c.name} is the right one times {words}: a division by it is missing, or it is multiplied in"
                    )
                if c.near(divided):
                    return f"{c.name} is the right one divided by {words}: it is divided by once too often"
    return None


def _statistics(c: Comparison, x: Array, name: str) -> Iterator[tuple[str, Array]]:
    """(words, values with the reduced axes kept) of an input."""
    names = c.nouns(x.shape)
    given = [value for name, value in c.sizes.items() if name.startswith("eps")]
    for axes in subsets(x.ndim) if x.ndim > 1 else ():
        if x.size // int(np.prod([x.shape[a] for a in axes])) < 2:
            continue
        where = along(names[a] for a in axes)
        var, mean = x.var(axis=axes, keepdims=True), x.mean(axis=axes, keepdims=True)
        for eps in (*given, *EPS):
            yield f"the standard deviation of {name} over {where}", np.sqrt(var + eps)
            yield f"the variance of {name} over {where}", var + eps
        yield f"the mean of {name} over {where}", mean
        norm = np.sqrt(np.sum(x * x, axis=axes, keepdims=True))
        yield f"the length of {name} over {where}", norm


def _aligned(values: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    """`values` so that they stand along `shape`: as they are, or as a vector."""
    try:
        if np.broadcast_shapes(values.shape, shape) == shape and values.size > 1:
            yield values
    except ValueError:
        pass
    if len(shape) == 1 and values.size == shape[0]:
        yield values.reshape(shape)
