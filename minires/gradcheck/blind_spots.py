"""What a check could not have seen: inputs on which a typical mistake gives the right numbers.

A gain of 1 hides a gain that is forgotten, positive inputs hide a missing gate, a constant kernel hides a flip. With
`like`, the catalogue is run on the same inputs: a fault that looks right here, but not on random inputs of the same
shapes and settings, is hidden by these numbers, and the verdict is vacuous. A fault that looks right on random inputs
too (a stride that is ignored where the stride is 1) is not possible under these settings; it is only listed.
Without `like`, the few ways in which numbers hide mistakes of any function are looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from minires.backend import Array
from minires.gradcheck import definitions
from minires.gradcheck.faults import Fault, faults_of

LARGEST = 20_000
"""Inputs with more numbers than this are not run through the catalogue."""

STEP = 1e-4


def of_settings(like: str | None, arrays: tuple[Array, ...], y: Array, dy: Array, names: list[str]) -> dict[str, str]:
    """Tensor -> why a wrong gradient could have passed here, by dy and the size of the batch; "*" means all."""
    x = arrays[0]
    if y.size > 1 and np.all(dy == dy.flat[0]):
        return {
            "*": "dy is the same everywhere, so errors that add up to zero cannot show (BatchNorm's dx is 0); "
            "use a random dy"
        }
    if x.ndim == 0 or len(x) > 1:
        return {}
    if like in ("softmax_cross_entropy", "mse"):
        return {"*": "a batch of 1: a factor 1/N that is missing or too much cannot show; use 4 samples or more"}
    batched = x.ndim > 1 and y.ndim > 1 and len(y) == 1
    if like in ("conv2d", "linear", "batchnorm", "residual", "shared_linear") or (like is None and batched):
        reason = "a batch of 1: a sum over the batch that is missing cannot show; use 4 samples or more"
        return {f"d{name}": reason for name in names[1:]}
    return {}


# --- with the catalogue --------------------------------------------------------------------------------------------


def of_catalogue(like: str, arrays: tuple[Array, ...], options: dict, dy: Array) -> tuple[list[Fault], list[Fault]]:
    """(faults that these numbers hide, faults that these settings rule out)."""
    if sum(a.size for a in arrays) > LARGEST:
        return [], []
    hidden, impossible = [], []
    rng = np.random.default_rng(0)
    others = tuple(rng.standard_normal(a.shape) for a in arrays)
    right = _outputs(like, arrays, options, dy)
    for fault in faults_of(like):
        if fault.rule is None and _looks_right(fault, arrays, options, dy, right):
            same = _looks_right(fault, others, options, dy, _outputs(like, others, options, dy))
            (impossible if same else hidden).append(fault)
    return hidden, impossible


def _outputs(like: str, arrays: tuple[Array, ...], options: dict, dy: Array) -> tuple[Array, tuple[Array | None, ...]]:
    """y and the gradients as they should be."""
    y, cache = definitions.run_forward(like, arrays, options)
    return y, definitions.run_backward(like, dy, cache)


def _looks_right(
    fault: Fault, arrays: tuple[Array, ...], options: dict, dy: Array, outputs: tuple[Array, tuple[Array | None, ...]]
) -> bool:
    """Whether a check at these inputs would let the fault pass, `outputs` being the right ones."""
    settings = {"batchnorm": {"eps": 1e-5}, "leaky_relu": {"slope": 0.01}}.get(fault.op, {}) | options
    right, gradients = outputs
    try:
        with np.errstate(all="ignore"):
            y, saved = fault.forward(*(a.copy() for a in arrays), **settings)
            theirs = fault.backward(dy.copy(), saved)
    except (ValueError, IndexError, KeyError, TypeError):
        return False
    if not _same(y, right) or len(theirs) < len(arrays):
        return False
    if not all(_same(a, b) for a, b in zip(theirs, gradients, strict=False) if b is not None):
        return False
    return all(_same_slope(fault, arrays, settings, dy, i) for i in range(len(arrays)))


def _same(a: Array, b: Array) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-9, atol=1e-12 * float(np.max(np.abs(b), initial=0.0)))


def _same_slope(fault: Fault, arrays: tuple[Array, ...], settings: dict, dy: Array, i: int) -> bool:
    """Whether the fault's forward moves as the right one does: where it differs, its own gradient check fails."""
    direction = STEP * np.cos(np.arange(arrays[i].size) ** 2.0).reshape(arrays[i].shape)
    moved = [tuple(a + s * direction if k == i else a for k, a in enumerate(arrays)) for s in (1, -1)]
    with np.errstate(all="ignore"):
        mine = [float(np.sum(dy * fault.forward(*inputs, **settings)[0])) for inputs in moved]
        right = [float(np.sum(dy * definitions.run_forward(fault.op, inputs, settings)[0])) for inputs in moved]
    size = abs(right[0]) + abs(right[1]) + float(np.sum(np.abs(dy)))
    return abs((mine[0] - mine[1]) - (right[0] - right[1])) <= 1e-7 * STEP * size


# --- without it ----------------------------------------------------------------------------------------------------


def of_numbers(
    forward: Callable[[tuple[Array, ...]], Array], arrays: tuple[Array, ...], dy: Array, names: list[str]
) -> dict[str, str]:
    """Tensor -> what these numbers hide, for a function that nobody knows."""
    found: dict[str, str] = {}
    for i, name in enumerate(names):
        for k, why in _hiding(forward, arrays, dy, i, name):
            found.setdefault(f"d{names[k]}", why)
    return found


def _hiding(forward: Callable, arrays: tuple[Array, ...], dy: Array, i: int, name: str) -> Iterator[tuple[int, str]]:
    """(tensor whose check suffers, why) for degenerate numbers in tensor i."""
    value = arrays[i]
    if value.size < 2 or not np.any(value):
        return
    others = [k for k in range(len(arrays)) if k != i]
    if np.all(value == 1):
        for k in others:
            if _is_factor(forward, arrays, dy, i, k):
                yield k, f"{name} is 1 everywhere: whether it is forgotten in this gradient cannot show"
    if value.ndim > 1 and min(value.shape) > 1 and (how := _symmetry(value)):
        yield from ((k, f"{name} {how}: a transpose or flip of it cannot show") for k in others)
    one_sign = value.size > 3 and (np.all(value > 0) or np.all(value < 0))
    if (i == 0 or value.ndim > 1) and one_sign and _bends_at_zero(forward, arrays, dy, i):  # no gate looks at a gain
        sign = "negative" if value.flat[0] > 0 else "positive"
        yield i, f"no number of {name} is {sign}: y bends at 0, and a gate that is missing cannot show"


def _symmetry(value: Array) -> str | None:
    if np.all(value == value.flat[0]):
        return "is the same number everywhere"
    if value.ndim == 2 and value.shape[0] == value.shape[1] and np.array_equal(value, value.T):
        return "equals its own transpose"
    return None


def _slope(forward: Callable, arrays: tuple[Array, ...], dy: Array, k: int) -> float:
    """The derivative of the loss along a fixed direction of tensor k."""
    step = STEP * max(float(np.sqrt(np.mean(np.square(arrays[k])))), 1e-3)
    direction = step * (1.5 + np.cos(np.arange(arrays[k].size) ** 2.0)).reshape(arrays[k].shape)
    moved = [tuple(a + s * direction if j == k else a for j, a in enumerate(arrays)) for s in (1, -1)]
    return float(np.sum(dy * (forward(moved[0]) - forward(moved[1])))) / (2 * step)


def _is_factor(forward: Callable, arrays: tuple[Array, ...], dy: Array, i: int, k: int) -> bool:
    """Whether the gradient of tensor k is proportional to tensor i."""
    scaled = tuple(1.7 * a if j == i else a for j, a in enumerate(arrays))
    try:
        here, there = _slope(forward, arrays, dy, k), _slope(forward, scaled, dy, k)
    except (ValueError, TypeError):
        return False
    return here != 0 and abs(there / here - 1.7) < 1e-5


def _bends_at_zero(forward: Callable, arrays: tuple[Array, ...], dy: Array, i: int) -> bool:
    """Whether y is linear in tensor i on either side of 0, with other slopes: as a ReLU of that tensor is.

    On either side two points are compared, not on one line through 0: relu(x w) is linear along such a line as well.
    """
    slopes, stretched = [], 1.5 + np.sin(1.0 + np.arange(arrays[i].size)).reshape(arrays[i].shape)
    for factor in (1.0, stretched, -1.0, -stretched):
        try:
            slopes.append(_slope(forward, tuple(factor * a if j == i else a for j, a in enumerate(arrays)), dy, i))
        except (ValueError, TypeError):
            return False
    size = max(map(abs, slopes))
    straight = abs(slopes[0] - slopes[1]) < 1e-7 * size and abs(slopes[2] - slopes[3]) < 1e-7 * size
    return size > 0 and straight and abs(slopes[0] - slopes[2]) > 1e-3 * size
