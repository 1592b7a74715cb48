"""What is wrong with a forward whose op is known, where no fault of the catalogue gives the same y."""

from __future__ import annotations

import numpy as np

from minires.backend import Array
from minires.gradcheck import hypotheses
from minires.gradcheck.findings import Case
from minires.gradcheck.hypotheses import Comparison


def explain(case: Case, right: Array, sizes: dict[str, float]) -> str:
    """A sentence on y beside the right y."""
    axes = ("sample", "feature") if right.ndim == 2 else None
    bound = np.full(right.shape, case.y_bound)
    comparison = Comparison("y", case.y, right, bound, sizes, axes=axes)
    if case.y.shape == right.shape:
        for hypothesis in (_other_statistics, _without_bias):
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


def _other_statistics(case: Case, right: Array) -> str | None:
    """Batch normalization: y is affine in x in each channel, but with another mean and variance than the batch's."""
    bias = _of_bias(case, right)
    if case.like != "batchnorm" or bias is None or case.options.get("mean") is not None:
        return None
    x, weight, offset = case.inputs
    rows, mine = (np.moveaxis(a, 1, 0).reshape(a.shape[1], -1) for a in (x, case.y))
    told = []
    for c in range(len(rows)):
        if np.ptp(rows[c]) == 0:
            return None
        slope, level = np.polyfit(rows[c], mine[c], 1)
        if slope == 0 or not np.allclose(slope * rows[c] + level, mine[c], rtol=1e-8, atol=1e-9):
            return None
        told.append(((offset[c] - level) / slope, (weight[c] / slope) ** 2 - case.options.get("eps", 1e-5)))
    means, variances = np.transpose(told)
    off = [not np.allclose(a, b, rtol=1e-6, atol=1e-6) for a, b in ((means, rows.mean(1)), (variances, rows.var(1)))]
    if not any(off):
        return None
    which = {(True, True): "mean and variance", (True, False): "mean", (False, True): "variance"}[tuple(off)]
    return (
        f"y is normalized with another {which} than the batch's: channel 0 has mean {rows[0].mean():.4g} and variance "
        f"{rows[0].var():.4g}, and y is what mean {means[0]:.4g} and variance {variances[0]:.4g} give"
    )
