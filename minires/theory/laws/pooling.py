"""Max-pooling, position by position. (Averages and Dropout: `rules.pooling`.)

Of n independent N(0, 1), E max^k = int x^k n phi Phi^(n-1). The padding is minus infinity, so a window at the edge is
the maximum of fewer values. On ReLU features the maximum multiplies the second moment by about 3 (2x2) to 5 (3x3):
harmless before a BatchNorm, not before a He layer without one. Backward each output sends its dy to one pixel of its
window, each equally likely: E dx(j)^2 = tau^2 sum_{windows i that hold j} 1/n_i for a dy of independent entries. Behind
a ReLU a window whose n inputs are all negative, a share 2^-n of them, sends it to a closed gate.
"""

import math
from functools import lru_cache

import numpy as np

from minires.theory.laws.activations import NODES, WEIGHTS, Activation, Function
from minires.theory.laws.signal import Signal
from minires.theory.laws.sums import function_of_normal
from minires.theory.stats import normal_cdf

CDF_NODES = normal_cdf(NODES)


def _maximum(n: int, common: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The maximum of n N(0, 1) that share a part of variance ``common``: sqrt(common) Z + sqrt(1 - common) times the
    maximum of n independent ones. Its values on a grid, and the weights of the grid's rows and columns."""
    z, weights = NODES[::8], 8 * WEIGHTS[::8]
    values = math.sqrt(common) * z[:, None] + math.sqrt(1 - common) * z
    return values, weights, n * weights * CDF_NODES[::8] ** (n - 1)


def max_of_function(n: int, common: float, mean: float, deviation: float, function: Function) -> tuple[float, ...]:
    """E M, E M^2 and P(M > 0) of the maximum M of an increasing function of n Gaussians that share ``common``."""
    values, rows, columns = _maximum(n, common)
    m = function(mean + deviation * values)
    return float(rows @ m @ columns), float(rows @ m**2 @ columns), float(rows @ (m > 0) @ columns)


@lru_cache(maxsize=1024)
def shared_max_moments(n: int, common: float, *, rectified: bool, shift: float = 0.0) -> tuple[float, ...]:
    """The same of n N(shift, 1) that share ``common``; if rectified of max(M, 0), else P is 1."""
    values, rows, columns = _maximum(n, common)
    m, positive = shift + values, 1.0
    if rectified:
        alone = not shift and not common
        positive = 1 - 0.5**n if alone else float(rows @ ((m > 0) + 0.5 * (m == 0)) @ columns)
        m = np.maximum(m, 0)
    return float(rows @ m @ columns), float(rows @ m**2 @ columns), positive


@lru_cache(maxsize=256)
def independent_count(n: float, common: float) -> float:
    """How many independent Gaussians have the mean maximum of n that share a part of variance ``common``."""

    def mean_maximum(count: float) -> float:
        return float(count * (WEIGHTS * NODES) @ CDF_NODES ** (count - 1))

    aim, low, high = math.sqrt(1 - common) * mean_maximum(n), 1.0, n
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if mean_maximum(middle) < aim else (low, middle)
    return low


def largest_of(n: float, mean: float, deviation: float, function: Activation) -> Activation:
    """The maximum of n, as a function of one Gaussian z' of unit variance: Phi(z') = Phi(z)^n for the largest z."""
    return function_of_normal(
        lambda chance: function.value(mean + deviation * np.interp(chance ** (1 / n), CDF_NODES, NODES))
    )


def gate_of_largest(n: float, source: Signal, above: Function | None) -> Function:
    """What is sent back arrives where z is the largest of n, with the chance n Phi(z)^(n - 1) in units of 1/n; above:
    gates there, as a function of z'."""
    deviation = math.sqrt(max(float(source.q.mean()) - source.mean**2, 1e-300))
    known = 1.0 if above is None else above(np.interp(CDF_NODES**n, CDF_NODES, NODES))
    table = n * CDF_NODES ** (n - 1) * known
    return lambda z: np.interp((z - source.mean) / deviation, NODES, table)
