"""What is wrong with a forward whose op is known, where no fault of the catalogue gives the same y."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice

import numpy as np

from minires.backend import Array
from minires.gradcheck import definitions, hypotheses
from minires.gradcheck.findings import Case
from minires.gradcheck.hypotheses import Comparison
from minires.gradcheck.hypotheses.comparison import listed
from minires.gradcheck.hypotheses.upstream import rearrangements


def explain(case: Case, right: Array, sizes: dict[str, float]) -> str:
    """A sentence on y beside the right y."""
    axes = ("sample", "feature") if right.ndim == 2 else None
    bound = np.full(right.shape, case.y_bound)
    comparison = Comparison("y", case.y, right, bound, sizes, axes=axes)
    if case.y.shape == right.shape:
        for hypothesis in (_other_statistics, _without_bias, _bias_counted, _other_padding, _other_input):
            if (sentence := hypothesis(case, right)) is not None:
                return sentence
    return hypotheses.explain(comparison) or hypotheses.located(comparison)


def _of_bias(case: Case, y: Array) -> Array | None:
    """The bias of the op, shaped to stand along y's channels."""
    if case.like not in ("linear", "conv2d", "batchnorm") or len(case.inputs) < 3:
        return None
    return case.inputs[2].reshape(1, -1, *(1,) * (y.ndim - 2))


def _without_bias(case: Case, right: Array) -> str | None:
    """Everything but the bias has a factor."""
    bias = _of_bias(case, right)
    if bias is None or np.allclose(case.y, right):
        return None
    mine, theirs = case.y - bias, right - bias
    factor = float(np.sum(mine * theirs) / np.sum(theirs * theirs))
    if f"{factor:.4g}" in ("1", "0") or not np.allclose(mine, factor * theirs, rtol=1e-8, atol=1e-10):
        return None
    return f"y without its bias is {factor:.6g} times what it should be"


def _bias_counted(case: Case, right: Array) -> str | None:
    """The bias is added more than once: inside a sum."""
    bias = _of_bias(case, right)
    if bias is None or not np.any(bias):
        return None
    error, bias = case.y - right, np.broadcast_to(bias, right.shape)
    times = 1 + float(np.sum(error * bias) / np.sum(bias * bias))
    if abs(times - 1) < 1e-6 or np.max(np.abs(error - (times - 1) * bias)) > 1e-9 * np.max(np.abs(right)):
        return None
    if abs(times) < 1e-6:
        return "the bias is not added to y"
    return f"y holds the bias {times:.6g} times, where it should hold it once: is it added inside a sum, or a loop?"


def _other_padding(case: Case, right: Array) -> str | None:
    """The border of the image is continued in another way than by zeros."""
    padding = case.options.get("padding", 0)
    if case.like not in ("conv2d", "avg_pool2d") or isinstance(padding, str) or not np.any(padding):
        return None
    height, width = np.broadcast_to(padding, 2)
    options = case.options | {"padding": 0}
    for mode, words in _PADDINGS.items():
        try:
            x = np.pad(case.inputs[0], ((0, 0), (0, 0), (height, height), (width, width)), mode=mode)
            y, _ = definitions.run_forward(case.like, (x, *case.inputs[1:]), options)
        except (ValueError, TypeError):
            continue
        if _same(case.y, y):
            return f'y is right for an image padded with {words} (np.pad with mode="{mode}"): it has to be zeros'
    return None


_PADDINGS = {
    "edge": "copies of its border pixels",
    "reflect": "its mirror image",
    "symmetric": "its mirror image, border pixels included",
    "wrap": "the pixels of its other side",
}


def _other_parameters(rows: Array, lines: Array, weight: Array, bias: Array, eps: float) -> str | None:
    """The statistics are the batch's, and weight or bias come in another way. lines: (channels, slope and level)."""
    std = np.sqrt(rows.var(1) + eps)
    gain, level = lines[:, 0] * std, lines[:, 1] + lines[:, 0] * rows.mean(1)
    fits = partial(np.allclose, rtol=1e-6, atol=1e-6)
    if fits(gain, weight):
        if fits(level, bias * weight):
            return "y holds weight * bias: the bias has to be added after the multiplication with weight"
        if fits(level, -bias):
            return "the bias is subtracted in y, where it has to be added"
    if fits(level, bias):
        for words, wrong in (("weight^2: it is multiplied in twice", weight**2), ("1 / weight", 1 / weight)):
            if fits(gain, wrong):
                return f"y is multiplied by {words}, where weight belongs"
    return None


def _other_input(case: Case, right: Array) -> str | None:
    """y is that of the op for an input whose numbers stand in another order."""
    for k, array in enumerate(case.inputs if case.like != "dropout" else ()):
        names = tuple(f"axis {a}" for a in range(array.ndim))
        for words, changed in (*islice(rearrangements(array, names), 60), *_mixed(array, case.options)):
            try:
                inputs = tuple(changed if j == k else a for j, a in enumerate(case.inputs))
                y, _ = definitions.run_forward(case.like, inputs, case.options)
            except (ValueError, TypeError):
                continue
            if _same(case.y, y) and not _same(y, right):
                return f"y is right for {case.names[k]} {words}"
    return None


def _mixed(array: Array, options: dict) -> Iterator[tuple[str, Array]]:
    """Groups that are taken as every g-th channel, not as neighbors."""
    groups = options.get("groups", 1)
    for axis in (0, 1) if groups > 1 else ():
        count = array.shape[axis] if axis < array.ndim else 0
        for columns in (groups, count // groups):
            if count and count % groups == 0 and 1 < columns < count:
                order = np.arange(count).reshape(-1, columns).T.ravel()
                channels = listed(int(k) for k in order)
                yield f"with axis {axis} in the order {channels}: a group has to be neighbors", array.take(order, axis)


def _same(a: Array, b: Array) -> bool:
    return np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-9, atol=1e-9 * np.max(np.abs(b)))


def _other_statistics(case: Case, right: Array) -> str | None:
    """Batch normalization: y is affine in x in each channel, but with another mean and variance than the batch's."""
    bias = _of_bias(case, right)
    if case.like != "batchnorm" or bias is None or case.options.get("mean") is not None:
        return None
    x, weight, offset = case.inputs
    rows, mine = (np.moveaxis(a, 1, 0).reshape(a.shape[1], -1) for a in (x, case.y))
    told, lines = [], []
    for c in range(len(rows)):
        if np.ptp(rows[c]) == 0:
            return None
        slope, level = np.polyfit(rows[c], mine[c], 1)
        if slope == 0 or not np.allclose(slope * rows[c] + level, mine[c], rtol=1e-8, atol=1e-9):
            return None
        lines.append((slope, level))
        told.append(((offset[c] - level) / slope, (weight[c] / slope) ** 2 - case.options.get("eps", 1e-5)))
    means, variances = np.transpose(told)
    off = [not np.allclose(a, b, rtol=1e-6, atol=1e-6) for a, b in ((means, rows.mean(1)), (variances, rows.var(1)))]
    if not any(off):
        return None
    parameters = _other_parameters(rows, np.array(lines), weight, offset, case.options.get("eps", 1e-5))
    if parameters is not None:
        return parameters
    which = {(True, True): "mean and variance", (True, False): "mean", (False, True): "variance"}[tuple(off)]
    return (
        f"y is normalized with another {which} than the batch's: channel 0 has mean {rows[0].mean():.4g} and variance "
        f"{rows[0].var():.4g}, and y is what mean {means[0]:.4g} and variance {variances[0]:.4g} give"
    )
