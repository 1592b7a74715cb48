"""Pooling of independent pixels, position by position, and dropout."""

from __future__ import annotations

import math

import numpy as np

from minires.theory.laws.activations import NODES, WEIGHTS
from minires.theory.laws.geometry import ConvGeometry
from minires.theory.laws.pooling import CDF_NODES


def max_moment(n: int, power: int) -> float:
    """E max^power of n independent standard normals."""
    density = n * WEIGHTS * CDF_NODES ** (n - 1)
    return float(np.sum(NODES**power * density))


def rectified_max_moment(n: int, power: int) -> float:
    """E max(0, max)^power of n independent standard normals: ReLU before or after the pooling."""
    density = n * WEIGHTS * CDF_NODES ** (n - 1)
    return float(np.sum(np.maximum(NODES, 0) ** power * density))


def max_pool_backward_map(geometry: ConvGeometry) -> np.ndarray:
    """(H, W): E dx(j)^2 for iid dy of variance 1 and exchangeable inputs: sum over windows that hold j of 1/n_i."""
    return geometry.box_transpose(1.0 / geometry.forward_counts)


def avg_pool_backward_map(geometry: ConvGeometry) -> np.ndarray:
    """(H, W): E dx(j)^2 for iid dy of variance 1: windows that hold j, over (kh kw)^2."""
    return geometry.box_transpose(np.ones(geometry.outputs)) / geometry.taps**2


def dropout_variance_ratio(p: float) -> float:
    """Batch variance of the next convolution in training over that in evaluation, for ReLU features of a Gaussian.

    (1/(2k) - 1/(2 pi)) / (1/2 - 1/(2 pi)) with k = 1 - p the share kept: dropout adds to E a^2 but not to (E a)^2.
    """
    common = 1 / (2 * math.pi)
    return (0.5 / (1 - p) - common) / (0.5 - common)


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
