"""A sum of a skip path and a branch, f(z) + g, that goes through an activation [MF].

What comes along the skip path is a function f of one Gaussian z of unit variance: an activation after the first block,
a straight line behind a convolution. The branch ends in a convolution or a BatchNorm, so g ~ N(m, s^2), independent of
z. Quadrature over both gives the moments of phi(f(z) + g) and phi' without assuming that the sum is Gaussian.
h' = phi(f(z) + g) is again a function of one Gaussian, F^-1(Phi(z')) with F the distribution function of h', so the
next block starts as this one did: the recursion of `reflected_walk`, for any activation, without positions.

Going back, a gradient whose energy above is G(z'), as a function of h', has the energy E_g[phi'(f(z) + g)^2 G(z')] at
the sum and at h, as a function of z. So it keeps what the gates of successive blocks have in common.
"""

import math
from functools import partial
from typing import NamedTuple, Self

import numpy as np

from minires.theory.laws.activations import Activation, Function
from minires.theory.stats import normal_cdf

# an atom of h meets the gates' steps: fine in g, and no node at 0
_Z, _G = np.linspace(-5.5, 5.5, 111), np.linspace(-4.5, 4.5, 400)
_WEIGHT_Z, _WEIGHT_G = (np.exp(-0.5 * nodes**2) / np.exp(-0.5 * nodes**2).sum() for nodes in (_Z, _G))
_CHANCE = normal_cdf(_Z)


class Summands(NamedTuple):
    """f(z) + g of a share of the channels: g ~ N(mean, variance), z ~ N(0, 1)."""

    share: float
    function: Function
    mean: float = 0.0
    variance: float = 0.0

    def plus(self, mean: float, variance: float) -> Self:
        """One more independent Gaussian."""
        return self._replace(mean=self.mean + mean, variance=self.variance + variance)

    def scaled(self, share: float, factor: float, shift: float) -> Self:
        """factor times the sum, plus shift, in this share of its channels."""
        mean, variance = factor * self.mean + shift, factor**2 * self.variance
        return Summands(share * self.share, lambda z: factor * self.function(z), mean, variance)

    @property
    def moments(self) -> tuple[float, float]:
        """Mean and variance."""
        value = self.function(_Z)
        mean = float(_WEIGHT_Z @ value)
        return mean + self.mean, float(_WEIGHT_Z @ value**2) - mean**2 + self.variance

    @property
    def values(self) -> np.ndarray:
        """The sum at the nodes of z and of g."""
        return self.function(_Z)[:, None] + self.mean + math.sqrt(max(self.variance, 0.0)) * _G


class SumLaw(NamedTuple):
    """Of h' = phi(f(z) + g): E h', E h'^2, E phi'^2, P(h' > 0), and h' as a function of its own z'."""

    mean: float
    second: float
    slope2: float
    above: float
    function: Activation


def function_of_normal(quantile: Function) -> Activation:
    """F^-1(Phi(z)) of z ~ N(0, 1), from F^-1."""
    table = quantile(_CHANCE)
    value, derivative = (partial(np.interp, xp=_Z, fp=heights) for heights in (table, np.gradient(table, _Z)))
    return Activation("of a Gaussian", value, derivative, rectifies=bool(table[0] == 0))


def sum_law(kind: Activation, parts: tuple[Summands, ...]) -> SumLaw:
    """The law of the activation of a sum."""
    values = np.concatenate([kind.value(part.values).ravel() for part in parts])
    slopes = np.concatenate([kind.derivative(part.values).ravel() for part in parts])
    weights = np.concatenate([part.share * np.outer(_WEIGHT_Z, _WEIGHT_G).ravel() for part in parts])
    order = np.argsort(values)
    below = np.cumsum(weights[order]) - 0.5 * weights[order]
    moments = [float(weights @ each) for each in (values, values**2, slopes**2, values > 0)]
    return SumLaw(*moments, function_of_normal(lambda chance: np.interp(chance, below, values[order])))


def gate_of_sum(
    kind: Activation, parts: tuple[Summands, ...], law: SumLaw, above: Function | None
) -> tuple[float, Function]:
    """What the activation leaves of an energy whose gates above are `above` of z' (None: all alike), and the energy at
    the sum as a function of z, in units of its mean."""
    left, total, table = np.zeros(len(_Z)), 0.0, law.function.value(_Z)
    for part in parts:
        values = part.values
        known = np.ones_like(values) if above is None else above(np.interp(kind.value(values), table, _Z))
        left += part.share * (known * kind.derivative(values) ** 2) @ _WEIGHT_G
        total += part.share * float(_WEIGHT_Z @ known @ _WEIGHT_G)
    mean = float(_WEIGHT_Z @ left)
    gate = left / max(mean, 1e-300)
    return mean / max(total, 1e-300), lambda z: np.interp(z, _Z, gate)


def share_on(function: Function, gate: Function) -> float:
    """Share of an energy, `gate` of z, that is where f(z) > 0."""
    weights = _WEIGHT_Z * gate(_Z)
    return float(weights @ (function(_Z) > 0) / max(weights.sum(), 1e-300))
