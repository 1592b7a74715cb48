"""What an activation does to a Gaussian pre-activation z ~ N(0, q).

*ReLU and leaky ReLU*, for any symmetric z: E phi^2 = f E z^2 and E phi'^2 = f with f = (1 + slope^2)/2 [EX].

*Other activations*: E phi^2 and E phi'^2 by quadrature, covariances by the Hermite expansion (Mehler's formula)

    E phi(u) phi(v) = sum_k a_k(q_u) a_k(q_v) c^k,      a_k(q) = E phi(sqrt(q) Z) He_k(Z) / sqrt(k!)

for u, v of variances q_u, q_v and correlation c. A bias that is the same for all channels shifts z to N(b, q).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Activation(NamedTuple):
    """An activation phi, its derivative, and its slopes left and right of 0 where it is piecewise linear."""

    name: str
    value: Callable[[np.ndarray], np.ndarray]
    derivative: Callable[[np.ndarray], np.ndarray]
    slope: float | None = None
    """leaky ReLU's slope for z < 0 (ReLU 0, linear 1); None for a smooth activation."""

    @property
    def homogeneous(self) -> bool:
        """phi(c z) = c phi(z) for c > 0."""
        return self.slope is not None


def leaky_relu(slope: float, name: str = "leaky_relu") -> Activation:
    """phi(z) = z for z > 0, slope * z otherwise."""
    return Activation(
        name, lambda z: np.where(z > 0, z, slope * z), lambda z: np.where(z > 0, 1.0, slope), float(slope)
    )


LINEAR = leaky_relu(1.0, "linear")
RELU = leaky_relu(0.0, "relu")
TANH = Activation("tanh", np.tanh, lambda z: 1 - np.tanh(z) ** 2)
SIGMOID = Activation("sigmoid", lambda z: 0.5 * (1 + np.tanh(0.5 * z)), lambda z: 0.25 * (1 - np.tanh(0.5 * z) ** 2))

# E f(Z) for Z ~ N(0, 1): against a Gaussian the trapezoid rule converges as fast as Gauss-Hermite does, and unlike it
# keeps resolving tanh(sqrt(q) z) when q is large. A node lies on 0, where piecewise linear functions have their kink.
NODES = np.arange(-640, 641) / 64.0
WEIGHTS = np.exp(-0.5 * NODES**2) / (64.0 * math.sqrt(2 * math.pi))


class ActivationMoments(NamedTuple):
    """Of phi(z), z ~ N(0, q); arrays of q's shape. slope2: E phi'(z)^2. fourth: E phi^4."""

    mean: np.ndarray
    second: np.ndarray
    slope2: np.ndarray
    fourth: np.ndarray


def activation_moments(activation: Activation, q: np.ndarray | float) -> ActivationMoments:
    """E phi, E phi^2, E phi'^2 and E phi^4 for Gaussian pre-activations of variance q (any shape)."""
    q = np.asarray(q, dtype=float)
    if activation.homogeneous:
        b = activation.slope
        half = np.ones_like(q) * (1 + b * b) / 2
        return ActivationMoments((1 - b) * np.sqrt(q / (2 * math.pi)), half * q, half, 1.5 * (1 + b**4) * q**2)
    z = np.sqrt(q)[..., None] * NODES
    value, slope = activation.value(z), activation.derivative(z)
    return ActivationMoments(value @ WEIGHTS, value**2 @ WEIGHTS, slope**2 @ WEIGHTS, value**4 @ WEIGHTS)


def activation_kernel(activation: Activation, q: np.ndarray, covariance: np.ndarray, terms: int = 24) -> np.ndarray:
    """E phi(u_i) phi(v_i') for Gaussians of variances q (P,) and covariances (P, P) between u and v.

    Piecewise linear ones by the arc-cosine kernel, smooth ones by ``terms`` of the Hermite expansion; what is left out
    of the expansion is less than the last term over (1 - c), c the correlation.
    """
    scale = np.sqrt(q).astype(covariance.dtype)
    norm = np.multiply.outer(scale, scale)
    cosine = np.clip(covariance / np.where(norm > 0, norm, 1.0), -1.0, 1.0)  # a signal of zeros stays one
    if activation.homogeneous:
        b = activation.slope
        angle = np.sqrt(1 - cosine**2) + cosine * (math.pi - np.arccos(cosine))
        return b * covariance + (1 - b) ** 2 * np.multiply.outer(scale, scale) * angle / (2 * math.pi)
    coefficients = hermite_coefficients(activation, q, terms)
    total, power = np.zeros_like(cosine), np.ones_like(cosine)
    for a in coefficients.T:
        total += np.multiply.outer(a, a) * power
        power *= cosine
    return total


def hermite_coefficients(activation: Activation, q: np.ndarray, terms: int) -> np.ndarray:
    """(P, terms): a_k = E phi(sqrt(q) Z) He_k(Z) / sqrt(k!)."""
    basis = [np.ones_like(NODES), NODES]
    for k in range(1, terms - 1):
        basis.append((NODES * basis[k] - math.sqrt(k) * basis[k - 1]) / math.sqrt(k + 1))
    values = activation.value(np.sqrt(np.asarray(q, dtype=float))[:, None] * NODES)
    return values @ (np.stack(basis[:terms]) * WEIGHTS).T
