"""The softmax cross-entropy that a network has before it learned anything.

Logits z_1..z_K iid N(0, s^2), labels independent of them: the loss is log sum_k e^(z_k) - z_y and E z_y = 0,
so [EX]

    E L = E log sum_k e^(z_k) = log K + s^2 (1 - 1/K)/2 - s^4 (K - 1)/(4 K^2) + O(s^6)

by the cumulants of e^z under the uniform mixture. For any s, from log S = int_0^inf (e^-t - e^(-t S)) / t dt
with t = e^u and the independence of the logits,

    E L = int (e^(-e^u) - M(e^u)^K) du,       M(t) = E e^(-t e^(s Z)), Z ~ N(0, 1).

log K + s^2/2 is its limit for many classes. s^2 is the head's weight gain times the features' second moment:
s^2 = Var W * fan_in * E a^2 (+ Var b). With a zero head the loss is log K to rounding.

One network's loss scatters by about s however large the batch is: the samples of a batch share the weights,
behind average-pooled ReLU features they share nearly the whole logit vector. Balanced labels cancel that to
first order.

The gradient at the logits of zero [ID]: N sum dlogits^2 = 1 - 1/K.
"""

from __future__ import annotations

import math

import numpy as np

_Z = np.arange(-8.0, 8.0001, 1 / 32)
_DENSITY = np.exp(-0.5 * _Z**2) / (32 * math.sqrt(2 * math.pi))  # the trapezoid rule against a Gaussian


def expected_cross_entropy(classes: int, logit_variance: float) -> float:
    """E L in nats, exact for iid Gaussian logits of any variance s^2; ValueError if classes < 1 or s^2 < 0."""
    if classes < 1 or logit_variance < 0:
        raise ValueError(f"expected classes >= 1 and a variance >= 0, got {classes} and {logit_variance}")
    s = math.sqrt(logit_variance)
    step = 0.02
    u = np.arange(-40.0 - 9 * s, 9 * s + 6.0, step)  # below, both terms are 1; above, both are 0
    t = np.exp(u)
    transform = np.exp(-np.multiply.outer(t, np.exp(s * _Z))) @ (_DENSITY / _DENSITY.sum())
    return float(np.sum(np.exp(-t) - transform**classes) * step)


def series_cross_entropy(classes: int, logit_variance: float, order: int = 4) -> float:
    """The expansion for small s, up to s^2 (order 2) or s^4 (order 4)."""
    k, s2 = classes, logit_variance
    loss = math.log(k) + s2 * (1 - 1 / k) / 2
    return loss if order == 2 else loss - s2**2 * (k - 1) / (4 * k**2)


def logit_variance(weight_variance: float, features: int, second_moment: float, bias_variance: float = 0.0) -> float:
    """s^2 of a linear head on features of mean square `second_moment`."""
    return weight_variance * features * second_moment + bias_variance
