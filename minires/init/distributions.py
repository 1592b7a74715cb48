"""Initializers: small objects that say how to sample, and what law the samples obey.

An initializer has

    sample(shape, rng, dtype)   an array of weights; the numbers are always drawn by NumPy on the host
    variance(shape)             the variance of one weight
    kurtosis(shape)             E(w - mean)^4 / variance^2 of one weight: 3 for a normal, 1.8 for a uniform
                                (nan where the variance is 0)

The two numbers are the whole law as far as signals go: `theory` predicts from them what a network will do. Shapes are
PyTorch's: (out, in) for linear, (out, in, kh, kw) for convolution. With `fan_in = in * kh * kw` the number of products
in one output, a sum of fan_in independent terms has the variance fan_in * variance * E x^2: that is why every law
below has a fan in its denominator. The stride plays no part in the customary definition of a fan.

    LeCun    variance = 1 / fan_in                    keeps the signal of a linear layer
    Xavier   variance = gain^2 * 2 / (fan_in + fan_out)    (Xavier and Glorot are one person: Xavier Glorot)
    He       variance = gain^2 / fan,  gain^2 = 2 / (1 + slope^2): a (leaky) relu keeps (1 + slope^2) / 2 of it
                                                      (and so are He and Kaiming: Kaiming He)

A uniform law on [-b, b] has variance b^2 / 3. A normal truncated at +-2 standard deviations s has only
v = 0.7737 s^2; here s is enlarged by 1/sqrt(v), so that the law's variance holds.

Sources: LeCun et al. 1998, Efficient BackProp, 4.6; Glorot, Bengio 2010; He et al. 2015, arXiv:1502.01852.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minires.checks import Rng, check_dtype, check_number, check_scale, choice, generator, whole_shape

Shape = Sequence[int]


def fans(shape: Shape, groups: int = 1) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight: (in, out) times the number of taps. ValueError for fewer than two axes.

    A grouped convolution (out, in / groups, kh, kw) has fan_in = in / groups * taps: the products in one output; and
    fan_out = out / groups * taps: the outputs that one input takes part in. (The shape alone does not tell the second.)
    """
    shape = whole_shape(shape)
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(
            f"shape is {tuple(shape)}; expected (out, in) or (out, in, kernel_h, kernel_w), none of them 0"
        )
    taps = math.prod(shape[2:])
    return shape[1] * taps, shape[0] // groups * taps


class Initializer:
    """What all initializers have in common. A subclass writes `_draw`, `variance` and `kurtosis`."""

    def sample(self, shape: Shape, rng: Rng = 0, dtype: np.dtype | type = np.float32) -> np.ndarray:
        """An array of `shape`, drawn in float64 and rounded to `dtype`."""
        return np.asarray(self._draw(whole_shape(shape), generator(rng)), dtype=check_dtype(dtype), order="C")

    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        raise NotImplementedError

    def variance(self, shape: Shape) -> float:
        """Variance of one weight of an array of `shape`."""
        raise NotImplementedError

    def kurtosis(self, shape: Shape) -> float:
        """Fourth central moment of one weight over its squared variance."""
        raise NotImplementedError


def sample_groups(law: Initializer, shape: Shape, rng: Rng, dtype: Any = np.float32, groups: int = 1) -> np.ndarray:
    """A weight of `groups` convolutions side by side. Each is drawn by itself, and so has its own fans, not those of
    the whole."""
    rng, block = generator(rng), (shape[0] // groups, *shape[1:])
    return np.concatenate([law.sample(block, rng, dtype) for _ in range(groups)])


class Fixed(Initializer):
    """Nothing is random."""

    def variance(self, shape: Shape) -> float:
        return 0.0

    def kurtosis(self, shape: Shape) -> float:
        return math.nan


# --- laws that do not look at the shape --------------------------------------------------------------------------


@dataclass(frozen=True)
class Constant(Fixed):
    """Every weight is c: all units of a layer compute the same, and receive the same gradient, for ever."""

    c: float

    def __post_init__(self) -> None:
        check_number("c", self.c, -math.inf)

    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        return np.full(shape, self.c)


@dataclass(frozen=True)
class Zeros(Constant):
    """Every weight is 0. Right for biases; a network of zeros passes on no signal and no gradient."""

    c: float = 0.0


@dataclass(frozen=True)
class Normal(Initializer):
    """N(0, std^2), whatever the shape."""

    std: float = 0.01

    def __post_init__(self) -> None:
        check_scale("std", self.std)

    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        return self.std * rng.standard_normal(shape)

    def variance(self, shape: Shape) -> float:
        return self.std**2

    def kurtosis(self, shape: Shape) -> float:
        return 3.0


@dataclass(frozen=True)
class Uniform(Initializer):
    """Uniform on [-bound, bound], whatever the shape."""

    bound: float = 0.05

    def __post_init__(self) -> None:
        check_scale("bound", self.bound)

    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(-self.bound, self.bound, shape)

    def variance(self, shape: Shape) -> float:
        return self.bound**2 / 3

    def kurtosis(self, shape: Shape) -> float:
        return 1.8


CUT = 2.0
"""Where normals are truncated, in standard deviations of the normal before the cut."""


def truncated_moments(cut: float = CUT) -> tuple[float, float]:
    """(variance, kurtosis) of a standard normal cut off at +-`cut`.

    Integrating by parts, with phi the density and P = P(|z| < cut): v = 1 - 2 cut phi(cut) / P and
    E z^4 = 3 - 2 (cut^3 + 3 cut) phi(cut) / P.
    """
    inside = math.erf(cut / math.sqrt(2))
    density = math.exp(-cut * cut / 2) / math.sqrt(2 * math.pi)
    variance = 1 - 2 * cut * density / inside
    fourth = 3 - 2 * (cut**3 + 3 * cut) * density / inside
    return variance, fourth / variance**2


@dataclass(frozen=True)
class TruncatedNormal(Normal):
    """A normal cut off at two of its standard deviations, scaled so that `std` is what the samples have."""

    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        z = rng.standard_normal(shape)
        while (outside := np.abs(z) > CUT).any():
            z[outside] = rng.standard_normal(outside.sum())
        return self.std / math.sqrt(truncated_moments()[0]) * z

    def kurtosis(self, shape: Shape) -> float:
        return truncated_moments()[1]


# --- laws with a fan in the denominator --------------------------------------------------------------------------


class _Scaled(Initializer):
    """variance = scale / fan: the one law behind all names below. Each has a `scale`, a `mode`, a `distribution`."""

    def __post_init__(self) -> None:
        check_scale("scale", self.scale)
        choice("mode", self.mode, ("fan_in", "fan_out", "fan_avg"))
        choice("distribution", self.distribution, ("normal", "truncated_normal", "uniform"))

    def variance(self, shape: Shape) -> float:
        fan_in, fan_out = fans(shape)
        return self.scale / {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]

    def at(self, shape: Shape) -> Initializer:
        """The law at one shape, as an initializer that no longer looks at it."""
        std = math.sqrt(self.variance(shape))
        if self.distribution == "uniform":
            return Uniform(math.sqrt(3) * std)
        return Normal(std) if self.distribution == "normal" else TruncatedNormal(std)

    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        return self.at(shape)._draw(shape, rng)

    def kurtosis(self, shape: Shape) -> float:
        return self.at(shape).kurtosis(shape)


@dataclass(frozen=True)
class VarianceScaling(_Scaled):
    """variance = scale / fan. mode: fan_in | fan_out | fan_avg; distribution: normal | truncated_normal | uniform."""

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: str = "normal"


@dataclass(frozen=True)
class _LeCun(_Scaled):
    scale, mode = 1.0, "fan_in"


class LeCunNormal(_LeCun):
    """variance = 1 / fan_in."""

    distribution = "normal"


class LeCunUniform(_LeCun):
    """variance = 1 / fan_in, uniform: bound = sqrt(3 / fan_in)."""

    distribution = "uniform"


@dataclass(frozen=True)
class _Xavier(_Scaled):
    gain: float = 1.0
    mode = "fan_avg"

    def __post_init__(self) -> None:
        check_scale("gain", self.gain)

    scale = property(lambda self: check_number("gain", self.gain, 0) ** 2)


class XavierNormal(_Xavier):
    """variance = gain^2 * 2 / (fan_in + fan_out)."""

    distribution = "normal"


class XavierUniform(_Xavier):
    """variance = gain^2 * 2 / (fan_in + fan_out), uniform: bound = gain * sqrt(6 / (fan_in + fan_out))."""

    distribution = "uniform"


@dataclass(frozen=True)
class _He(_Scaled):
    slope: float = 0.0
    mode: str = "fan_in"

    scale = property(lambda self: 2 / (1 + check_number("slope", self.slope, -math.inf) ** 2))


class HeNormal(_He):
    """variance = 2 / (1 + slope^2) / fan; slope is the leaky relu's, mode fan_in or fan_out."""

    distribution = "normal"


class HeUniform(_He):
    """variance = 2 / (1 + slope^2) / fan, uniform. (PyTorch's layers use slope sqrt(5): variance 1 / (3 fan_in).)"""

    distribution = "uniform"


GlorotNormal, GlorotUniform = XavierNormal, XavierUniform
KaimingNormal, KaimingUniform = HeNormal, HeUniform
