"""What an activation does to a Gaussian pre-activation z ~ N(0, q).

*ReLU and leaky ReLU*, for any symmetric z: E phi^2 = f E z^2 and E phi'^2 = f with f = (1 + slope^2)/2 [EX]. For two
centered Gaussians u, v of deviations s, t and covariance st cos a, the arc-cosine kernel of order one (Cho and Saul
2009) gives E relu(u) relu(v) = st (sin a + (pi - a) cos a) / (2 pi).

*Other activations*: moments by quadrature, covariances by the Hermite expansion (Mehler's formula)

    E phi(u) phi(v) = sum_k a_k(q_u) a_k(q_v) c^k,      a_k(q) = E phi(sqrt(q) Z) He_k(Z) / sqrt(k!)

for u, v of variances q_u, q_v and correlation c. A bias that is the same for all channels shifts z to N(b, q).
"""

import math
from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np

from minires.theory.laws.reflected_walk import Floats
from minires.theory.stats import normal_cdf

Function = Callable[[Floats], Floats]


class Activation(NamedTuple):
    """An activation phi and its derivative. slope: leaky ReLU's for z < 0 (ReLU 0, linear 1), None for a smooth one.
    rectifies: a ReLU has the last word."""

    name: str
    value: Function
    derivative: Function
    slope: float | None = None
    rectifies: bool = False

    @property
    def homogeneous(self) -> bool:
        """phi(c z) = c phi(z) for c > 0."""
        return self.slope is not None

    @property
    def differentiated(self) -> Self:
        """phi' as a function of its own, for the laws that need no more than values."""
        return self._replace(value=self.derivative, slope=None)


def leaky_relu(slope: float, name: str = "leaky_relu") -> Activation:
    """phi(z) = z for z > 0, slope * z otherwise."""
    value, derivative = lambda z: np.where(z > 0, z, slope * z), lambda z: np.where(z > 0, 1.0, slope)
    return Activation(name, value, derivative, float(slope), rectifies=slope == 0)


LINEAR = leaky_relu(1.0, "linear")
RELU = leaky_relu(0.0, "relu")
TANH = Activation("tanh", np.tanh, lambda z: 1 - np.tanh(z) ** 2)
SIGMOID = Activation("sigmoid", lambda z: 0.5 * (1 + np.tanh(0.5 * z)), lambda z: 0.25 * (1 - np.tanh(0.5 * z) ** 2))

# E f(Z) for Z ~ N(0, 1): against a Gaussian the trapezoid rule converges as fast as Gauss-Hermite does, and unlike it
# keeps resolving tanh(sqrt(q) z) when q is large. A node lies on 0, where piecewise linear functions have their kink.
NODES = np.arange(-640, 641) / 64.0
WEIGHTS = np.exp(-0.5 * NODES**2) / (64.0 * math.sqrt(2 * math.pi))

_SEVERAL, _LEVELS = 300, 100


class ActivationMoments(NamedTuple):
    """Of phi(z), z ~ N(0, q); arrays of q's shape. slope2: E phi'(z)^2. fourth: E phi^4."""

    mean: Floats
    second: Floats
    slope2: Floats
    fourth: Floats


def activation_moments(activation: Activation, q: Floats | float, mean: float = 0.0) -> ActivationMoments:
    """E phi, E phi^2, E phi'^2 and E phi^4 for pre-activations N(mean, q) (q of any shape)."""
    q = np.asarray(q, dtype=float)
    if activation.homogeneous and mean:
        return _shifted_moments(activation.slope, q, mean)
    if activation.homogeneous:
        b = activation.slope
        half = np.where(q > 0, (1 + b * b) / 2, b * b)  # where nothing comes in, z is 0
        return ActivationMoments((1 - b) * np.sqrt(q / (2 * math.pi)), half * q, half, 1.5 * (1 + b**4) * q**2)
    if q.size > _SEVERAL:
        return _tabulated(activation, q, mean)
    z = mean + np.sqrt(q)[..., None] * NODES
    value, slope = activation.value(z), activation.derivative(z)
    return ActivationMoments(value @ WEIGHTS, value**2 @ WEIGHTS, slope**2 @ WEIGHTS, value**4 @ WEIGHTS)


def _tabulated(activation: Activation, q: Floats, mean: float) -> ActivationMoments:
    """Many variances: those that mirror images share once, or else a table over the deviation."""
    values, index = np.unique(np.round(q / max(float(q.max()), 1e-300), 7), return_inverse=True)
    values = values * float(q.max())
    if len(values) <= _SEVERAL:
        found = activation_moments(activation, values, mean)
        return ActivationMoments(*(moment[index].reshape(q.shape) for moment in found))
    table = np.linspace(math.sqrt(float(values[0])), math.sqrt(float(values[-1])), _SEVERAL)
    found = activation_moments(activation, table**2, mean)
    return ActivationMoments(*(np.interp(np.sqrt(q), table, moment) for moment in found))


def rectified_match(mean: float, second: float) -> tuple[float, float]:
    """Mean and variance of the Gaussian z with E relu(z) = mean and E relu(z)^2 = second, second > mean^2 > 0. Their
    ratio E relu^2 / (E relu)^2 falls from infinity to 1 as that of z's mean to its deviation grows: bisection."""
    low, high = -8.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        found = _shifted_moments(0.0, np.array(1.0), middle)
        low, high = (middle, high) if found.second > second / mean**2 * found.mean**2 else (low, middle)
    scale = mean / max(float(_shifted_moments(0.0, np.array(1.0), low).mean), 1e-300)
    return low * scale, scale**2


def _shifted_moments(b: float, q: Floats, mean: float) -> ActivationMoments:
    """Leaky ReLU of slope b on N(mean, q): E z^k over z > 0 by parts, and the same of -z times b^k."""
    s = np.sqrt(q)
    u = mean / np.maximum(s, 1e-30)
    above, density = normal_cdf(np.clip(u, -40, 40)), np.exp(-0.5 * np.minimum(u * u, 700)) / math.sqrt(2 * math.pi)
    square, fourth = mean**2 + q, mean**4 + 6 * mean**2 * q + 3 * q**2
    one = np.maximum(mean * above + s * density, 0.0)
    two = np.maximum(square * above + mean * s * density, 0.0)
    four = fourth * above + (mean**3 * s + 5 * mean * s**3) * density
    second, slope2 = two + b**2 * (square - two), above + b**2 * (1 - above)
    return ActivationMoments((1 - b) * one + b * mean, second, slope2, four + b**4 * (fourth - four))


def activation_kernel(
    activation: Activation, deviation: Floats, covariance: Floats, mean: float = 0.0, terms: int = 24
) -> Floats:
    """E phi(u_i) phi(v_i') for Gaussians of that mean, standard deviations (P,) and covariances (P, P) between u and v.
    What ``terms`` of the Hermite expansion leave out is less than the last of them over (1 - c), c the correlation."""
    if activation.homogeneous and not mean:
        return arc_cosine(deviation, covariance, activation.slope)
    coefficients = hermite_coefficients(activation, deviation, terms, mean)
    first = coefficients[:, 0].astype(covariance.dtype)
    total = np.multiply.outer(first, first)
    if not covariance.any():
        return total
    cosine = _cosine(deviation, covariance)
    size = np.max(np.abs(coefficients), axis=0) ** 2 * float(np.abs(cosine).max()) ** np.arange(terms)
    needed, power = np.flatnonzero(size > np.finfo(cosine.dtype).eps * size.sum()), cosine.copy()
    for k in range(1, max(needed, default=0) + 1):  # none if nothing gets through, or what comes in is not finite
        if k in needed:
            a = coefficients[:, k].astype(total.dtype)
            total += a[:, None] * power * a
        power *= cosine
    return total


def _cosine(deviation: Floats, covariance: Floats) -> Floats:
    scale = deviation.astype(covariance.dtype)
    norm = np.multiply.outer(scale, scale)
    return np.clip(covariance / np.where(norm > 0, norm, 1.0), -1.0, 1.0)  # a signal of zeros stays one


def arc_cosine(deviation: Floats, covariance: Floats, slope: float = 0.0) -> Floats:
    """`activation_kernel` of (leaky) ReLUs and centered Gaussians."""
    cosine, scale = _cosine(deviation, covariance), deviation.astype(covariance.dtype)
    kernel = np.sqrt(1 - np.square(cosine)) + (math.pi - np.arccos(cosine)) * cosine
    kernel = kernel * np.multiply.outer(scale, scale) / (2 * math.pi)
    return kernel if slope == 0 else (1 - slope) ** 2 * kernel + slope * covariance


def slope_kernel(activation: Activation, deviation: Floats, covariance: Floats, mean: float = 0.0) -> Floats:
    """E phi'(u) phi'(v): what a gradient that two pixels share keeps of its covariance."""
    if activation.homogeneous and not mean:
        b = activation.slope
        return b + (1 - b) ** 2 * (math.pi - np.arccos(_cosine(deviation, covariance))) / (2 * math.pi)
    return activation_kernel(activation.differentiated, deviation, covariance, mean, terms=12)


def hermite_coefficients(activation: Activation, deviation: Floats, terms: int, mean: float = 0.0) -> Floats:
    """(P, terms): a_k = E phi(mean + deviation Z) He_k(Z) / sqrt(k!)."""
    deviation = np.asarray(deviation, dtype=float)
    if len(deviation) > _SEVERAL:
        levels = np.linspace(float(deviation.min()), float(deviation.max()), _LEVELS)
        found = hermite_coefficients(activation, levels, terms, mean)
        return np.stack([np.interp(deviation, levels, column) for column in found.T], axis=1)
    root = np.sqrt(np.cumprod(np.maximum(np.arange(terms), 1.0)))
    basis = np.polynomial.hermite_e.hermevander(NODES, terms - 1) / root
    return activation.value(mean + deviation[:, None] * NODES) @ (WEIGHTS[:, None] * basis)
