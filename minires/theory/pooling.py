"""Pooling over a map, position by position; the moments of one window are in `minires.theory.layer`.

*Max-pooling* pads with minus infinity, so a window at the edge is the maximum of fewer values: with 3x3
windows, stride 2 and padding 1 of n = 4 in the corner, 6 along two edges, 9 inside. On ReLU features it
multiplies the second moment by about 3 (2x2) to 5 (3x3): harmless before a BatchNorm, not before a He layer
without one. Every window sends its gradient to one pixel, so E|dx|^2 = |dy|^2 for a dy of independent entries,
an identity if windows do not overlap. Behind a ReLU a window whose n inputs are all negative sends it to a
closed gate: a share 2^-n of windows.

*Average pooling* of values with mean m and pairwise uncorrelated deviations of variance v: E y^2 = m^2 + v/n,
n = k^2 (padding counts, as zeros). |dx|^2 = |dy|^2 / n without overlap. Global average pooling: E y^2 = mean
of the features' same-sample kernel over pairs of positions.

*Dropout* that keeps a share p: second moments and gradients' times 1/p; products of different samples
unchanged, so their correlation falls by p. Weights of variance 2p/fan_in make up for it in a He network.
"""

from __future__ import annotations

import numpy as np

from minires.theory.geometry import ConvGeometry
from minires.theory.layer import max_moment, rectified_max_moment


def max_pool_map(geometry: ConvGeometry, power: int = 2, *, rectified: bool = False) -> np.ndarray:
    """(Ho, Wo): E y^power of max-pooled iid N(0, 1) pixels; rectified: of their ReLU, pooled."""
    moment = rectified_max_moment if rectified else max_moment
    counts = geometry.forward_counts
    values = {n: moment(int(n), power) for n in np.unique(counts)}
    return np.vectorize(values.__getitem__, otypes=[float])(counts)


def max_pool_gate(geometry: ConvGeometry) -> float:
    """Share of the upstream energy that gets through max-pooling and the ReLU below it: mean of 1 - 2^-n."""
    return float(np.mean(1 - 0.5**geometry.forward_counts))


def avg_pool_map(geometry: ConvGeometry, mean: float, variance: float) -> np.ndarray:
    """(Ho, Wo): E y^2 of average-pooled uncorrelated pixels; zeros of the padding count."""
    n, k2 = geometry.forward_counts, geometry.taps
    return (mean * n / k2) ** 2 + variance * n / k2**2


def dropout_kernel(q: np.ndarray, kernel: np.ndarray, p: float) -> tuple[np.ndarray, np.ndarray]:
    """(q, cross-sample kernel) behind inverted dropout that drops with probability p."""
    return q / (1 - p), kernel
