"""BatchNorm, one layer: m values a channel, biased variance v, r = v/(v + eps), xh = (x - mean)/sqrt(v + eps).

Identities of every draw: mean y = bias, var y = weight^2 r, sum dx = 0 and
sum dx xh = weight eps (v + eps)^(-3/2) dweight. Backward is a projection: two of the m directions are cut, one of them
only up to 1 - r. For iid dy of variance tau^2 [EX]

    E sum dx^2 = weight^2 tau^2 / (v + eps) * (m - 2 + (1 - r)^2)
    relative variance 2 (m - 2 + (1 - r)^4) / (m - 2 + (1 - r)^2)^2
    weights W before it, input X (m x fan_in):   E dW_j^2 = weight^2 tau^2/(v + eps) * [sum_p (X_pj - mean)^2
                                                        - (1 - (1 - r)^2) (sum_p xh_p X_pj)^2 / (m r)]

`minires.theory.laws.signal` has BatchNorm for a signal that varies over the image, and v that varies between channels.
"""

from __future__ import annotations

import numpy as np

from tests.theory.reference.convolution import Moment


def batchnorm_backward(v: float, m: int, *, eps: float = 1e-5, weight: float = 1.0, upstream: float = 1.0) -> Moment:
    """Mean of dx^2 over the m values of a channel whose batch variance is v, for iid dy of variance ``upstream``."""
    lost = (eps / (v + eps)) ** 2  # (1 - r)^2
    kept = m - 2 + lost
    relative = 2 * (m - 2 + lost**2) / kept**2
    return Moment(weight**2 * upstream / (v + eps) * kept / m, relative)


def batchnorm_weight_map(
    x: np.ndarray, filters: np.ndarray, *, eps: float = 1e-5, gain: np.ndarray | float = 1.0, upstream: float = 1.0
) -> np.ndarray:
    """E dW^2 of weights (C_out, fan_in) between unfolded input x (m, fan_in) and BatchNorm, dy iid at BN's output."""
    z = x @ filters.T
    centered, z = x - x.mean(axis=0), z - z.mean(axis=0)
    m, v = len(x), np.mean(z**2, axis=0)
    r = v / (v + eps)
    seen = np.sum(centered**2, axis=0)[None, :]
    cut = (z.T @ centered) ** 2 / (v + eps)[:, None]
    share = ((1 - (1 - r) ** 2) / (m * r))[:, None]
    scale = np.broadcast_to(gain, r.shape) ** 2 * upstream / (v + eps)
    return scale[:, None] * (seen - share * cut)
