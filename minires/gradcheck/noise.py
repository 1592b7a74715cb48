"""How exactly a function can be evaluated, and what a kink looks like beside that noise. Both are measured.

A loss that is the small difference of large numbers carries far more rounding than u times its size. The fourth
difference of a probe shows it: for a smooth function and a small step it is rounding alone, sqrt(70) times the error of
one evaluation (the squares of 1, 4, 6, 4, 1 add up to 70). `amplification` is how many times larger than u S that error
is, at least 1.

A kink bends as well. What tells it from noise is the step: noise is the same at every step, a smooth bend grows as h^4,
and a kink bends in proportion to h. `is_kink` asks for all of it: far above the noise of five small steps, and growing
by about 2 each time that a large step doubles.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from minires.gradcheck.numerical import Probe

FOURTH_DIFFERENCE = math.sqrt(70)
"""Standard deviation of a fourth difference of independent errors of standard deviation 1."""

SUSPICIOUS = 16
"""A bend of so many times u S is looked at again: rounding alone reaches 16 / sqrt(70) = 1.9 standard deviations."""

ENOUGH = 8
"""Fourth differences at least are collected for `amplification`."""

FINEST_STEP = 4.0**-8
"""An entry that disagrees is measured again, each step a quarter of the one before, down to so much of a good step."""

FINEST = 6
"""So many of the finest steps tell the noise along a line: a step that is too large bends and slopes for itself."""

SMALL_STEPS = (1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128)
"""So many, since noise is near 0 now and then: of three bends, two were small enough to let the others look like a
kink once in a thousand checks of a noisy loss."""

LARGE_STEPS = (8.0, 16.0, 32.0)


def ratio(probe: Probe, u: float) -> float:
    """The error of one evaluation that this probe shows, the rounding of x + t left out, as a multiple of u S."""
    seen = math.sqrt(max((probe.bend / FOURTH_DIFFERENCE) ** 2 - (u * probe.argument) ** 2, 0.0))
    return seen / (u * max(probe.size - probe.argument, 1e-300))


def amplification(ratios: list[float]) -> float:
    """How many times larger than u S the error of an evaluation is; at least 1.

    Three standard deviations, by the upper quartile (that of |Z| is 1.15): a rounding that is the same at h and 2h
    shows in no fourth difference, so some of them are too small.
    """
    return max(1.0, 3 * float(np.quantile(ratios, 0.75)) / 1.15) if ratios else 1.0


def along_line(ladder: list[Probe], u: float) -> float:
    """The amplification along one line, by probes with finer and finer steps.

    A step in one weight may round far more than a step in another. And rounding that is opposite at h and -h shows in
    no fourth difference: it shows where the slopes of two fine steps differ.
    """
    finest = [p for p in ladder if not is_flat(p)][-FINEST:]
    slopes = []
    for coarse, fine in pairwise(finest):
        seen = math.sqrt(2) * abs(fine.value - coarse.value) * fine.step
        rest = math.sqrt(max(seen**2 - (u * fine.argument) ** 2, 0.0))
        slopes.append(rest / (u * max(fine.size - fine.argument, 1e-300)))
    return max(amplification([ratio(p, u) for p in finest]), amplification(slopes))


def is_flat(probe: Probe) -> bool:
    """Whether its steps moved nothing at all.

    The function may be constant there. Or it is a staircase, as one that computes in float32 inside: finer than its
    treads, it is flat as well. The noise of the other entries tells the two apart.
    """
    return probe.value == probe.truncation == probe.bend == 0


def best(ladder: list[Probe], bounds: list[float]) -> tuple[float, float]:
    """Value and bound of the probe that is known best, of those that no finer step contradicts."""
    sound = [
        i
        for i, (p, known) in enumerate(zip(ladder, bounds, strict=True))
        if all(abs(p.value - q.value) <= known + b for q, b in zip(ladder[i:], bounds[i:], strict=True))
    ]
    chosen = min(sound, key=lambda i: bounds[i])
    return ladder[chosen].value, bounds[chosen]


def error(probe: Probe, u: float, amplified: float) -> float:
    """The error of one evaluation along this probe. Its own bend counts, should it be noisier than the others."""
    rounding = u * (amplified * (probe.size - probe.argument) + probe.argument)
    return max(rounding, probe.bend / FOURTH_DIFFERENCE)


def is_suspicious(probe: Probe, u: float) -> bool:
    """Whether the function bends by more than rounding of S and truncation explain."""
    return probe.bend > SUSPICIOUS * u * probe.size + probe.step * probe.truncation


def is_kink(probe: Probe, measure: Callable[[float], Probe], u: float) -> tuple[bool, list[float]]:
    """Whether a suspicious probe bends as a kink does; if not, the noise ratio of its smallest step.

    measure(step) -> the probe along the same line with another step.
    """
    small = [measure(factor * probe.step) for factor in SMALL_STEPS]
    quiet = max(*(p.bend for p in small), u * probe.size)
    near, middle, far = (measure(factor * probe.step).bend for factor in LARGE_STEPS)
    stands_out = near > 8 * quiet and middle > 30 * quiet
    kink = stands_out and 1.3 < middle / near < 6 and 1.3 < far / middle < 6
    return kink, [] if kink else [ratio(small[-1], u)]
