"""Rules that a forward-backward pair has to keep, whatever its numbers are.

A gradient can be right in a single call and still do harm: written into dy, which a shortcut also needs; taken from
the last forward call instead of from the cache; or not finite as soon as the numbers grow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from minires.backend import Array
from minires.gradcheck import definitions

Gradients = tuple[Array | None, ...]

RULES = {
    "dy changed": "backward changes dy in place: a shortcut may still need it. Write dx = dy * ..., not dy *= ...",
    "input changed": "forward changes its input in place: others may still need it. Make a new array, or copy first",
    "input changed by backward": "backward changes the inputs of forward in place. Make new arrays, or copy first",
    "cache changed": "a second backward with the same cache gives another result: backward changes what it is given",
    "cache of the last call": (
        "backward uses what the last forward call left behind (a global, an attribute), not the cache it is given"
    ),
    "not linear in dy": "backward(-2 dy) is not -2 backward(dy): dy is more than a factor (a gate taken from dy?)",
    "dy ignored": "backward returns the same whatever dy is: the gradient from above has to be multiplied in",
    "not finite for large inputs": "forward is not finite for large inputs (1000 and the like): an exp overflows",
    "grad overwritten": (
        "a second backward replaces what is in .grad; it has to be added to it, as parameter.add_grad does: a "
        "parameter that is used twice receives the sum of both gradients"
    ),
    "other when unwatched": (
        "the layer gives other numbers when nobody observes it: then a Conv2d, a BatchNorm2d and a ReLU behind each "
        "other go through memory together (nn/sequential.py), which must not change a bit of y"
    ),
    "ties": (
        "where several pixels of a window are equally large, the first of them has to get all of dy; "
        "here it goes to others, too"
    ),
}
"""Every rule that can be broken, and what to tell whoever broke it."""

OF_RIGHT_GRADIENTS = ("ties", "not finite for large inputs")
"""Rules about special inputs. They say nothing where the gradient is wrong on ordinary ones already."""


class Conduct(NamedTuple):
    """The gradients of an undisturbed call, and the names of the rules broken."""

    gradients: Gradients
    broken: list[str]


def examine(
    forward: Callable[[tuple[Array, ...]], tuple[Array, object]],
    backward: Callable[[Array, object], Gradients],
    inputs: tuple[Array, ...],
    dy: Array,
    keeps_cache: bool = False,
) -> Conduct:
    """Runs the pair under every rule that needs no knowledge of the op. `inputs` and `dy` are left alone.

    keeps_cache: a layer's pair, whose cache is that of the last call by design.
    """
    broken = []
    given, upstream = _copies(inputs), dy.copy()
    _, cache = forward(given)
    if not _same(given, inputs):
        broken.append("input changed")
        given = _copies(inputs)
        _, cache = forward(given)
    before = _copies(given)
    gradients = _kept(backward(upstream, cache))
    if not np.array_equal(upstream, dy):
        broken.append("dy changed")
    elif not _same(given, before):
        broken.append("input changed by backward")
    elif not _same(_again(backward, dy, cache, gradients), gradients):
        broken.append("cache changed")
    if not keeps_cache and _stale(forward, backward, inputs, dy, gradients):
        broken.append("cache of the last call")
    if dy.ndim:
        broken += _linearity(forward, backward, inputs, dy, gradients)
    return Conduct(gradients, broken)


def of_op(
    like: str,
    forward: Callable[[tuple[Array, ...]], tuple[Array, object]],
    backward: Callable[[Array, object], Gradients],
    inputs: tuple[Array, ...],
    options: dict,
    dy: Array,
) -> list[str]:
    """Names of the rules broken that only hold for one op: no overflow, one winner of a tie."""
    try:
        if like in ("softmax_cross_entropy", "tanh", "sigmoid"):
            return [] if _stays_finite(like, forward, backward, inputs[0], dy) else ["not finite for large inputs"]
        if like == "max_pool2d":
            return [] if _one_winner(forward, backward, np.round(inputs[0]), options, dy) else ["ties"]
    except ValueError:
        pass  # a function that does not take such inputs cannot be asked
    return []


def _stays_finite(like: str, forward: Callable, backward: Callable, x: Array, dy: Array) -> bool:
    large = x + 1000.0 if like == "softmax_cross_entropy" else 1000.0 * np.sign(x)
    with np.errstate(all="ignore"):
        y, cache = forward((large,))
        (dx,) = backward(dy.copy(), cache)
    return bool(np.all(np.isfinite(y)) and (dx is None or np.all(np.isfinite(dx))))


def _one_winner(forward: Callable, backward: Callable, tied: Array, options: dict, dy: Array) -> bool:
    """Whether the first of several largest pixels gets all of dy; True as well where `tied` has no ties to show it."""
    _, cache = forward((tied,))
    _, first = definitions.run_forward("max_pool2d", (tied,), options)
    (mine,), expected = backward(dy.copy(), cache), definitions.run_backward("max_pool2d", dy, first)[0]
    last = definitions.run_backward("max_pool2d", dy, _last_wins(tied, options))[0]
    return (
        np.array_equal(expected, last)
        or mine is None
        or mine.shape != expected.shape
        or np.allclose(mine, expected, rtol=1e-9, atol=1e-12)
    )


def _last_wins(tied: Array, options: dict) -> object:
    """The cache of a max-pool in which the last of several largest pixels wins: another one only if there are ties."""
    grid = np.arange(tied[0, 0].size).reshape(tied.shape[2:])
    return definitions.run_forward("max_pool2d", (tied + 1e-6 * grid,), options)[1]


def _stale(forward: Callable, backward: Callable, inputs: tuple[Array, ...], dy: Array, gradients: Gradients) -> bool:
    """Whether another forward call in between changes what backward makes of the first one's cache."""
    _, cache = forward(_copies(inputs))
    try:
        forward(tuple(np.flip(a).copy() for a in inputs))
    except ValueError:
        return False  # a function that does not take the numbers in another order cannot be asked
    return not _same(_kept(backward(dy.copy(), cache)), gradients)


def _linearity(
    forward: Callable, backward: Callable, inputs: tuple[Array, ...], dy: Array, gradients: Gradients
) -> list[str]:
    _, cache = forward(_copies(inputs))
    reversed_ = _kept(backward(-2.0 * dy, cache))
    if _same(reversed_, gradients) and any(g is not None and np.any(g) for g in gradients):
        return ["dy ignored"]
    expected = tuple(None if g is None else -2.0 * g for g in gradients)
    return [] if _same(reversed_, expected) else ["not linear in dy"]


def _again(backward: Callable, dy: Array, cache: object, gradients: Gradients) -> Gradients:
    """A second backward; a cache that may be used once only (and says so) breaks no rule."""
    try:
        return _kept(backward(dy.copy(), cache))
    except ValueError:
        return gradients


def _copies(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(a.copy() for a in arrays)


def _kept(gradients: Gradients) -> Gradients:
    """Copies: a gradient may be a view of an array that the next call writes into."""
    return tuple(None if g is None else np.array(g) for g in gradients)


def _same(a: Gradients, b: Gradients) -> bool:
    """Equal up to the order of sums (which threads may change)."""
    for one, other in zip(a, b, strict=True):
        if one is None or other is None:
            if one is not other:
                return False
        elif one.shape != other.shape:
            return False
        else:
            size = float(np.max(np.abs(other), initial=0.0, where=np.isfinite(other)))
            if not np.allclose(one, other, rtol=1e-9, atol=1e-12 * size, equal_nan=True):
                return False
    return True
