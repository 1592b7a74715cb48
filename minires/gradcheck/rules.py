"""Rules that a forward-backward pair has to keep, whatever its numbers are.

A gradient can be right in a single call and still do harm: if it is written into dy, which a shortcut also needs; if it
comes from the last forward call and not from the cache; if it is no longer finite when the numbers grow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from minires.backend import Array

Gradients = tuple[Array | None, ...]

RULES = {
    "dy changed": "backward changes dy in place: a shortcut may still need it. Write dx = dy * ..., not dy *= ...",
    "input changed": "forward changes its input in place: others may still need it. Make a new array, or copy first",
    "input changed by backward": "backward changes the inputs of forward in place. Make new arrays, or copy first",
    "cache changed": (
        "a second backward with the same cache gives another result: backward changes what it is given, or adds to a "
        "gradient that it never sets back to 0"
    ),
    "cache of the last call": (
        "backward uses what the last forward call left behind (a global, an attribute), not the cache it is given. If "
        "it is a layer object that keeps its input: check_layer(wrap(layer, ...), x), or make a new layer in each "
        "forward and return it as the cache"
    ),
    "not linear in dy": "backward(-2 dy) is not -2 backward(dy): dy is more than a factor (a gate taken from dy?)",
    "switched by a gradient": (
        "backward(2 dy) is 2 backward(dy), but backward(-2 dy) is not -2 backward(dy): dy is more than a factor, the "
        "sign of a gradient switches something. A gate (mask) has to look at the values of forward"
    ),
    "not zero for no dy": (
        "backward gives something else than 0 for dy = 0: something in it does not have dy as a factor"
    ),
    "dy ignored": "backward returns the same whatever dy is: the gradient from above has to be multiplied in",
    "not finite for large inputs": "forward is not finite for large inputs (1000 and the like): an exp overflows",
    "not finite for rows far apart": (
        "forward is not finite where one sample's logits lie 1000 above the others: each row needs its own maximum "
        "taken off, not that of the whole batch"
    ),
    "not finite for an impossible label": (
        "forward is not finite where the label's logit lies 1000 below the others: its probability rounds to 0, and "
        "log(0) is infinite. Take the logarithm of the softmax by logits - max - log(sum(exp))"
    ),
    "gradient not finite for large inputs": (
        "backward is not finite for large inputs (numbers of 1000), though forward is: it divides inf by inf, or 0 by 0"
    ),
    "grad overwritten": (
        "a second backward replaces what is in .grad; it has to be added to it, as parameter.add_grad does: a "
        "parameter that is used twice receives the sum of both gradients"
    ),
    "ties": (
        "where several pixels of a window are equally large, one of them has to get all of dy (the first, unless ties= "
        "says otherwise); here it does not"
    ),
}
"""Every rule that can be broken, and what to tell whoever broke it."""

LINEARITY = ("not linear in dy", "switched by a gradient", "not zero for no dy", "dy ignored")
"""Rules whose breach shows in the gradient as well; the catalogue knows more precise names for them."""

OF_RIGHT_GRADIENTS = (
    *("ties", "not finite for large inputs", "not finite for rows far apart", "not finite for an impossible label"),
    "gradient not finite for large inputs",
)
"""Rules about special inputs. They say nothing where the gradient is wrong on ordinary ones already."""


class Examined(NamedTuple):
    """The gradients of an undisturbed call, and the names of the rules broken."""

    gradients: Gradients
    broken: list[str]


def examine(
    forward: Callable[[tuple[Array, ...]], tuple[Array, object]],
    backward: Callable[[Array, object], Gradients],
    inputs: tuple[Array, ...],
    dy: Array,
    keeps_cache: bool = False,
) -> Examined:
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
    adds_up = keeps_cache and "cache changed" in broken  # then no two calls can be compared
    if not adds_up and all(g is None or np.all(np.isfinite(g)) for g in gradients):
        broken += _linearity(forward, backward, inputs, dy, gradients)
    return Examined(gradients, broken)


def of_large_inputs(
    like: str,
    forward: Callable[[tuple[Array, ...]], tuple[Array, object]],
    backward: Callable[[Array, object], Gradients],
    x: Array,
    options: dict,
    dy: Array,
) -> list[str]:
    """Names of the rules broken by an op with an exponential inside, tried where it would overflow."""
    if like not in ("softmax_cross_entropy", "tanh", "sigmoid"):
        return []
    for rule, large in _large_inputs(like, x, options).items():
        try:
            with np.errstate(all="ignore"):
                y, cache = forward((large,))
                (dx,) = backward(dy.copy(), cache)
        except ValueError:
            continue  # a function that does not take such inputs cannot be asked
        if not np.all(np.isfinite(y)):
            return [rule]
        if dx is not None and not np.all(np.isfinite(dx)):
            return ["gradient not finite for large inputs"]
    return []


def _large_inputs(like: str, x: Array, options: dict) -> dict[str, Array]:
    """The rule that a forward breaks if it is not finite there -> inputs."""
    if like != "softmax_cross_entropy":
        return {"not finite for large inputs": 1000.0 * np.sign(x)}
    row_above, label_below = x.copy(), x.copy()
    row_above[0] += 1000.0
    label_below[np.arange(len(x)), np.asarray(options["labels"])] -= 1000.0
    return {
        "not finite for large inputs": x + 1000.0,
        "not finite for rows far apart": row_above,
        "not finite for an impossible label": label_below,
    }


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
    def at(factor: float) -> Gradients:
        return _kept(backward(factor * dy, forward(_copies(inputs))[1]))

    reversed_ = at(-2.0)
    if _same(reversed_, gradients) and any(g is not None and np.any(g) for g in gradients):
        return ["dy ignored"] if dy.ndim else []  # a loss is the end of the chain, and may ignore its dy of 1
    if _same(reversed_, _times(-2.0, gradients)):
        return []
    if _same(at(2.0), _times(2.0, gradients)):
        return ["switched by a gradient"]
    if any(g is not None and np.any(g) for g in at(0.0)):
        return ["not zero for no dy"]
    return ["not linear in dy"]


def _times(factor: float, gradients: Gradients) -> Gradients:
    return tuple(None if g is None else factor * g for g in gradients)


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
