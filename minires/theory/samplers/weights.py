"""One weight matrix: what a finite sample of an initializer's weights must look like.

An initializer says its own variance s^2 and kurtosis (`minires.init`). Here is what follows for the numbers that a test
can compute from N drawn weights w with E w = 0, m_k = E w^k / s^k (kappa = m_4):

    mean              E = 0,     sd = s / sqrt(N)
    S = mean w^2      E = s^2,   relative variance (kappa - 1) / N
    mean w^4 / S^2    E = kappa, variance (m_8 - m_4^2 - 4 m_4 (m_6 - m_4) + 4 m_4^2 (m_4 - 1)) / N      (delta method)
    max |w|           <= bound, exactly

The kurtosis is free of scale, so that a wrong variance and a wrong distribution are told apart.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from minires import init
from minires.backend import Array, to_numpy

Shape = tuple[int, ...]
Sampler = Callable[[Shape, np.random.Generator], Any]
Draws = list[tuple[Shape, np.ndarray]]  # by shape: several draws along the array's first axis, in float64
NODES, WEIGHTS = np.polynomial.legendre.leggauss(40)  # for integrals over [-1, 1]


def draw(sampler: Sampler, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """One array of the sampler's, in float64. ValueError if it has another shape."""
    drawn = np.asarray(sampler(shape, rng), dtype=float)
    if drawn.shape != shape:
        raise ValueError(f"asked for shape {shape}, the sampler gave {drawn.shape}")
    return drawn


class Check(NamedTuple):
    """One question: a z-score where the answer is random, nan where it is an identity."""

    name: str
    shape: Shape
    measured: float
    expected: float
    ok: bool
    z: float = math.nan

    @classmethod
    def by_z(cls, name: str, shape: Shape, measured: float, expected: float, sd: float, threshold: float) -> Self:
        z = (measured - expected) / sd
        return cls(name, shape, measured, expected, abs(z) <= threshold, z)


class Family(NamedTuple):
    """A distribution of weights up to scale: moments m_4, m_6, m_8, and the bound in standard deviations.

    whole: standard deviation of the normal that was cut off at the bound.
    """

    name: str
    m4: float
    m6: float
    m8: float
    bound: float = math.inf
    whole: float = 1.0

    def second_moment_sd(self, n: int) -> float:
        """Relative standard deviation of the mean square of n entries."""
        return math.sqrt((self.m4 - 1) / n)

    def kurtosis_sd(self, n: int) -> float:
        """Standard deviation of the empirical kurtosis mean w^4 / (mean w^2)^2 of n entries."""
        m4, m6, m8 = self.m4, self.m6, self.m8
        return math.sqrt((m8 - m4**2 - 4 * m4 * (m6 - m4) + 4 * m4**2 * (m4 - 1)) / n)

    def density(self, x: np.ndarray, sd: float) -> np.ndarray:
        """Probability density at x of this family with standard deviation sd."""
        u = np.abs(np.asarray(x, dtype=float)) / sd
        if self is UNIFORM:
            return np.where(u <= self.bound, 1 / (2 * self.bound * sd), 0.0)
        mass = math.erf(self.bound / self.whole / math.sqrt(2)) * self.whole * sd * math.sqrt(2 * math.pi)
        return np.where(u <= self.bound, np.exp(-0.5 * (u / self.whole) ** 2) / mass, 0.0)


def truncated(a: float) -> Family:
    """The normal truncated at +-a of its own standard deviations, rescaled to unit variance."""
    z, density = a * NODES, WEIGHTS * np.exp(-0.5 * (a * NODES) ** 2)
    m2, m4, m6, m8 = (float(density @ z**k / density.sum()) for k in (2, 4, 6, 8))
    whole = 1 / math.sqrt(m2)
    return Family(f"normal truncated at {a:g}", m4 / m2**2, m6 / m2**3, m8 / m2**4, a * whole, whole)


NORMAL = Family("normal", 3.0, 15.0, 105.0)
UNIFORM = Family("uniform", 9 / 5, 27 / 7, 9.0, math.sqrt(3))
FAMILIES = (NORMAL, UNIFORM, truncated(2.0), truncated(3.0), truncated(1.0))


def family(law: init.Initializer, shape: Sequence[int]) -> Family | None:
    """The family of a law's entries, recognized by its kurtosis; None where entries are not independent and random."""
    if isinstance(law, init.Orthogonal | init.DeltaOrthogonal) or law.variance(shape) == 0:
        return None
    kurtosis = law.kurtosis(shape)
    for known in FAMILIES:
        if math.isclose(known.m4, kurtosis, rel_tol=1e-6):
            return known
    raise ValueError(f"no family with kurtosis {kurtosis:.6g} is known; {law} is none of normal, uniform, truncated")


def second_moment_z(w: np.ndarray, law: init.Initializer, shape: Sequence[int]) -> float:
    """z-score of the mean square of weights drawn for ``shape`` (any number of draws together)."""
    return (mean_square(w) / law.variance(shape) - 1) / family(law, shape).second_moment_sd(w.size)


def kurtosis_z(w: np.ndarray, candidate: Family) -> float:
    """z-score of the sample's kurtosis under a family, whatever its variance."""
    return (empirical_kurtosis(w) - candidate.m4) / candidate.kurtosis_sd(w.size)


def mean_square(w: Array) -> float:
    """Mean of w^2 in float64, wherever the weights live."""
    return float(np.mean(np.square(to_numpy(w), dtype=float)))


def empirical_kurtosis(w: np.ndarray) -> float:
    """mean w^4 / (mean w^2)^2 in float64."""
    squares = np.square(w, dtype=float)
    return float(np.mean(squares**2) / np.mean(squares) ** 2)


def orthogonality(w: np.ndarray, gain: float = 1.0) -> Check:
    """[ID] W W^T = gain^2 I for W flattened to (C_out, fan_in), or W^T W where that is smaller.

    The tolerance is 16 eps gain^2 sqrt(longer side): QR and rounding to the array's dtype leave a few eps each.
    """
    matrix = np.asarray(w).reshape(w.shape[0], -1)
    matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = matrix.astype(float)
    error = float(np.abs(wide @ wide.T - gain**2 * np.eye(len(wide))).max())
    tolerance = 16 * float(np.finfo(matrix.dtype).eps) * gain**2 * math.sqrt(matrix.shape[1])
    return Check("W Wᵀ = gain² I", w.shape, error, tolerance, error <= tolerance)
