"""z-scores and bounds for single draws, which only tests need; `minires.theory.stats` has the thresholds.

Wilson-Hilferty    (chi2_N / N)^(1/3) is nearly normal with mean 1 - 2/(9N) and variance 2/(9N)
Laurent-Massart    Q = sum a_i chi2_1: P(Q - EQ > 2|a|_2 sqrt(x) + 2|a|_inf x) <= e^-x and
                   P(Q - EQ < -2|a|_2 sqrt(x)) <= e^-x (Annals of Statistics 28, 2000, Lemma 1); rigorous
"""

from __future__ import annotations

import math

import numpy as np

from minires.theory.stats import FALSE_ALARM


def mean_z(samples: np.ndarray, expected: float) -> float:
    """(mean - expected) / (sd / sqrt(R)) of R independent samples: Student's t with R - 1 degrees of freedom."""
    samples = np.asarray(samples, dtype=float)
    se = samples.std(ddof=1) / math.sqrt(samples.size)
    difference = float(samples.mean()) - expected
    return 0.0 if difference == 0 else math.copysign(math.inf, difference) if se == 0 else difference / float(se)


def wilson_hilferty(q: np.ndarray | float, freedom: float) -> np.ndarray | float:
    """z-score of a chi-square Q with ``freedom`` degrees; at |z| = 5 and 100 degrees its tail is right to 15 %."""
    variance = 2 / (9 * freedom)
    return (np.cbrt(np.asarray(q) / freedom) - (1 - variance)) / math.sqrt(variance)


def laurent_massart(weights: np.ndarray, false_alarm: float = FALSE_ALARM) -> tuple[float, float]:
    """(low, high) around Q = sum a_i chi2_1, a_i = ``weights`` >= 0: outside with probability at most false_alarm."""
    a = np.asarray(weights, dtype=float)
    x = math.log(2 / false_alarm)
    reach = 2 * math.sqrt(float(a @ a) * x)
    return float(a.sum()) - reach, float(a.sum()) + reach + 2 * float(a.max()) * x
