"""The tests behind every statistical claim: a threshold comes from a law and a stated false-alarm rate, not from taste.

n checks at rate alpha/n each raise a false alarm with probability at most alpha (Bonferroni). A z-score is (measured -
expected) / sd; the mean of R networks over their sd/sqrt(R) is Student's t with R - 1 degrees of freedom. The test of
Kolmogorov and Smirnov asks whether z-scores are *distributed* as they should be, which "all are small" does not say.
"""

import math
from statistics import NormalDist

import numpy as np

FALSE_ALARM = 1e-6  # of a whole family of checks, two-sided


def normal_cdf(z: np.ndarray | float) -> np.ndarray | float:
    """P(Z <= z) for a standard normal Z, element by element."""
    return 0.5 * np.vectorize(math.erfc, otypes=[float])(-np.asarray(z) / math.sqrt(2))


def z_threshold(checks: int = 1, false_alarm: float = FALSE_ALARM) -> float:
    """|z| that a family of ``checks`` two-sided z-tests exceeds anywhere with probability at most ``false_alarm``."""
    return -NormalDist().inv_cdf(false_alarm / (2 * checks))


def t_threshold(networks: int, checks: int = 1, false_alarm: float = FALSE_ALARM) -> float:
    """|t| that ``checks`` t-tests over ``networks`` values exceed with probability at most ``false_alarm`` in all."""
    if networks < 2:
        raise ValueError(f"a t-test needs at least two networks, there is {networks}")
    low, high = 0.0, 2.0**64
    for _ in range(200):
        middle = 0.5 * (low + high)
        likely = t_two_sided(middle, networks - 1) > false_alarm / checks
        low, high = (middle, high) if likely else (low, middle)
    return high


def t_two_sided(t: float, freedom: int) -> float:
    """P(|T| > t) for Student's T with a whole number of degrees of freedom, to 1e-15.

    T = sqrt(freedom) tan a gives the angle a the density cos(a)^(freedom-1). With J_k the integral of cos^k from a to
    pi/2, by parts k J_k = (k-1) J_{k-2} - sin(a) cos(a)^(k-1).
    """
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = (freedom - 1) % 2
    tail, whole = (1 - sine, 1.0) if odd else (math.pi / 2 - angle, math.pi / 2)
    for k in range(odd + 2, freedom, 2):
        tail = ((k - 1) * tail - sine * cosine ** (k - 1)) / k
        whole *= (k - 1) / k
    return tail / whole


def ks_test(values: np.ndarray) -> float:
    """Are independent ``values`` standard normal? The probability of a gap at least as large as theirs.

    By Kolmogorov's series at (sqrt(n) + 0.12 + 0.11/sqrt(n)) * gap (Stephens 1970), good from n = 5 on.
    """
    ordered = np.sort(np.ravel(values))
    n = ordered.size
    expected = normal_cdf(ordered)
    gap = float(max((np.arange(1, n + 1) / n - expected).max(), (expected - np.arange(n) / n).max()))
    return kolmogorov_tail((math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * gap)


def kolmogorov_tail(x: float) -> float:
    """P(sup of the Brownian bridge's absolute value > x)."""
    if x < 0.2:
        return 1.0  # the series converges slowly there; the value is 1 to 12 digits
    k = np.arange(1, 101)
    return float(min(1.0, max(0.0, 2 * np.sum((-1.0) ** (k - 1) * np.exp(-2 * (k * x) ** 2)))))
