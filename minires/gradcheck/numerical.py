"""Numerical derivatives, and how far each can be trusted.

f is the loss along a line: f(t) = loss(x + t * direction), and f'(0) = <gradient, direction>. u is the unit roundoff
(2^-53 in float64), S the sum of the absolute values of the terms f adds up, so that f carries an error of about u S
(and more, where it is the small difference of large numbers: `noise.py` measures how much).

    forward difference   (f(h) - f(0)) / h        error  |f''| h / 2    + 2 u S / h   best h ~ u^(1/2), error ~ u^(1/2)
    central difference   (f(h) - f(-h)) / (2 h)   error  |f'''| h^2 / 6 +   u S / h   best h ~ u^(1/3), error ~ u^(2/3)
    complex step         Im f(i h) / h            error  |f'''| h^2 / 6, no subtraction: h = 1e-30 leaves only u

The central difference at its best: h* = (3 u S / |f'''|)^(1/3), and the error there 1.04 (u S)^(2/3) |f'''|^(1/3).

Nobody knows f''' beforehand, but two steps measure it. With D(h) = f' + f''' h^2 / 6 + ..., the difference
D(2h) - D(h) is f''' h^2 / 2, three times the truncation error of D(h). It is counted twice, for the terms in h^4 that
the estimate leaves out. Hence the bound that every verdict rests on,

    |D(h) - f'|  <=  2 |D(2h) - D(h)| / 3  +  4 u S / h

measured, not set by hand. A kink at the point (ReLU at 0) escapes it: D is then half of each side at every h. It shows
in the fourth difference f(-2h) - 4 f(-h) + 6 f(0) - 4 f(h) + f(2h), which is h^4 f'''' for a smooth f (nothing beside
rounding) and of the order of h for a kink: `Probe.bend`.

Sources: Press et al., Numerical Recipes, 5.7 (steps); Squire, Trapp 1998, SIAM Review 40 (complex step).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from minires.backend import Array

ROUNDOFF = {"float32": 2.0**-24, "float64": 2.0**-53}
"""Unit roundoff u of each precision: half the gap between 1 and the next number."""

ROUNDING_FACTOR = 4
"""The bound's multiple of u S / h. The rounding error of D(h) has a standard deviation of at most u S / (sqrt(2) h) if
that of f is at most u S, so 4 of them are 5.6 standard deviations."""


def forward_difference(f: Callable[[float], float], h: float) -> float:
    """f'(0) from one side."""
    return (f(h) - f(0.0)) / h


def central_difference(f: Callable[[float], float], h: float) -> float:
    """f'(0) from both sides."""
    return (f(h) - f(-h)) / (2 * h)


def complex_step(f: Callable[[complex], complex], h: float = 1e-30) -> float:
    """f'(0) from the imaginary part of f(ih). f has to compute in complex numbers all the way, and be analytic."""
    return f(1j * h).imag / h


def best_central_step(size: float, third: float, u: float) -> float:
    """h* = (3 u S / |f'''|)^(1/3); infinite for a function without curvature."""
    return math.inf if third == 0 else (3 * u * size / third) ** (1 / 3)


def central_floor(size: float, third: float, u: float) -> float:
    """The smallest error a central difference can reach, truncation and rounding at h* together."""
    h = best_central_step(size, third, u)
    return 0.0 if math.isinf(h) else third * h * h / 6 + u * size / h


@dataclass(frozen=True)
class Probe:
    """What four evaluations around a point say about the derivative along one line."""

    value: float
    """The estimate of f'(0): the central difference with step h, or the complex step."""
    truncation: float
    """|D(2h) - D(h)| / 3; 0 for the complex step."""
    size: float
    """S: sum of |dy y| over the outputs that moved, plus `argument`."""
    bend: float
    """|fourth difference|: rounding for a smooth f, of the order of h across a kink."""
    step: float
    argument: float = 0.0
    """The part of S that stands for the rounding of x + t: |f'| times the size of x along the line."""

    def bound(self, noise: float) -> float:
        """How far `value` may be from the derivative, `noise` being the error of one evaluation of f."""
        return 2 * self.truncation + ROUNDING_FACTOR * noise / self.step


def probe_central(at: Callable[[float], Array], dy: Array, y0: Array, h: float, reach: float) -> Probe:
    """Central differences with steps h and 2h of the loss sum(dy * y).

    at(t) is the output y at x + t * direction, y0 = at(0). Outputs are subtracted before they are summed, so the ones
    that do not move contribute no rounding. `reach` is the size of x along the line: x + t is itself rounded.
    """
    plus, minus, plus2, minus2 = at(h), at(-h), at(2 * h), at(-2 * h)
    near, far = _weigh(dy, plus - minus) / (2 * h), _weigh(dy, plus2 - minus2) / (4 * h)
    moved = (plus != minus) | (plus2 != minus2) | (y0.size == 1)  # a loss that stays put was rounded back
    level = math.sqrt(np.mean(np.square(y0))) if y0.size else 0.0
    magnitude = np.maximum(np.maximum(np.abs(plus), np.abs(minus)), level)
    argument = abs(near) * reach
    size = _weigh(np.abs(dy), magnitude * moved) + argument
    bend = abs(_weigh(dy, (plus2 + minus2 - 2 * y0) - 4 * (plus + minus - 2 * y0)))
    return Probe(near, abs(far - near) / 3, size, bend, h, argument)


def widened(probe: Probe, at: Callable[[float], Array], dy: Array, y0: Array) -> Probe:
    """The probe with S taken over all outputs that move for a step a thousand times larger; over all, if none does.

    An output that did not move may have been rounded back to where it was, a small change of a large number.
    """
    far = 1000 * probe.step
    moved = (at(far) != y0) | (at(-far) != y0)
    size = _weigh(np.abs(dy), np.maximum(np.abs(y0), math.sqrt(np.mean(np.square(y0)))) * (moved | ~moved.any()))
    return replace(probe, size=max(probe.size, size + probe.argument))


def probe_complex(at: Callable[[complex], Array], dy: Array, scale: float, h: float = 1e-30) -> Probe:
    """The complex step on sum(dy * y). Its only error is rounding.

    `scale` is the size of x: a derivative is good to u times the size of y over that of x, and no better.
    """
    y = at(1j * h)
    slope = y.imag / h
    terms = 16 * np.maximum(np.abs(slope), math.sqrt(np.mean(np.square(slope)))) + np.abs(y.real) / scale
    return Probe(_weigh(dy, slope), 0.0, _weigh(np.abs(dy), terms), 0.0, 1.0)


def _weigh(dy: Array, y: Array) -> float:
    return float(np.sum(dy * y))


def choose_step(pilots: list[Probe], scale: float, u: float) -> float:
    """h for one tensor: the best step by theory for the steepest pilot, but never more than u^(1/3) * scale.

    `pilots` are probes with a coarse step (`pilot_step`), whose truncation error measures |f'''|. The cap keeps the
    number of kinks crossed small, which grows in proportion to h.
    """
    cap = largest_step(scale, u)
    steps = [best_central_step(p.size, 6 * p.truncation / p.step**2, u) for p in pilots]
    return max(min([cap, *(h for h in steps if h > 0)]), 1e-5 * cap)


def power_of_two(step: float) -> float:
    """The next power of two below a step: x + h is then exact, but where h carries x over a power of two itself."""
    return 2.0 ** math.floor(math.log2(step))


def largest_step(scale: float, u: float) -> float:
    """u^(1/3) * scale: the best step of a function whose third derivative is of the size of itself."""
    return u ** (1 / 3) * scale


def pilot_step(scale: float, u: float) -> float:
    """A step large enough for truncation to outweigh rounding: u^(1/5), the best for a third derivative."""
    return u ** (1 / 5) * scale


def typical_size(x: Array) -> float:
    """The scale on which a step is small: rms of x, but at least 1e-3 (and 1 for zeros: they say nothing)."""
    rms = math.sqrt(np.mean(np.square(np.abs(x)))) if x.size else 0.0
    return max(rms, 1e-3) if rms > 0 else 1.0
