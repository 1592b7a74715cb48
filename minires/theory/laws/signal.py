"""What convolution, BatchNorm and ReLU do to a signal that varies over the image.

Grade [MF]: wide layers, large batch, gains 1 and shifts 0. All samples share the weights. A signal is followed by two
things over positions i: the second moment q(i), and the covariance between *different samples*
K(i, i') = E_c[h(n, i) h(n', i')], n != n', which is the share of a channel's map that all samples have in common.
BatchNorm's average over the batch is an average over pairs of samples, and pairs of a sample with itself weigh only
1/N; so for large N only K is needed.

*Convolution* with k^2 taps and weights of variance gain/fan_in (He: 2, the default; a BN divides any gain out). The
sums of `geometry` run over the taps inside the image:

    z = (gain/k^2) box(q),     C = (gain/k^2) pair(K)

*BatchNorm* subtracts the mean over batch and map, then divides by the batch variance v:

    r(i) = mean_i' C(i, i'),   m = mean C:
    z <- z - 2 r + m,          C(i, i') <- C - r(i) - r(i') + m,          E v = mean_i z(i)

The common map of a channel is Gaussian with covariance C, so v differs from channel to channel:
v = v_d + sum_k lambda_k chi2_k, with lambda_k, u_k the eigenpairs of C/P, P positions, and v_d = E v - sum lambda_k.
With the Laplace transform phi(t) = E e^(-t v) = e^(-t v_d) prod_k (1 + 2 t lambda_k)^(-1/2)

    E[1/v] = int_0^inf phi(t) dt
    e_k = E[lambda_k chi2_k / v] = int_0^inf lambda_k / (1 + 2 t lambda_k) phi(t) dt
    C^ = P sum_k e_k u_k u_k',      q^(i) = (z(i) - C(i, i)) E[1/v] + C^(i, i), whose mean over i is 1

*ReLU* of a centered Gaussian (q^, C^): q^/2, and the arc-cosine kernel of order one for K.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from minires.theory.laws.geometry import ConvGeometry
from minires.theory.laws.reflected_walk import Floats

_ALL_PAIRS = 64  # up to so many positions all eigenpairs, above the leading ones
_LEADING = 32
_DOUBLE = 256  # up to so many positions in double precision; above, single halves the memory and loses 1e-6
_LOG_STEP = 0.1
_LOG_T = np.arange(-23.0, 7.0, _LOG_STEP)  # t = e^s / E v: a trapezoid rule in s


class Signal(NamedTuple):
    """q: second moment per position, (P,). kernel: cross-sample covariance K, (P, P)."""

    q: Floats
    kernel: Floats

    @classmethod
    def white_noise(cls, image: tuple[int, int], variance: float = 1.0) -> Signal:
        """Nothing common to different samples."""
        positions = image[0] * image[1]
        dtype = np.float32 if positions > _DOUBLE else np.float64
        return cls(np.full(positions, variance), np.zeros((positions, positions), dtype))

    @property
    def common(self) -> float:
        """Mean of K over all pairs of positions: the square of a channel's average, averaged over channels."""
        return float(self.kernel.mean(dtype=float))

    @property
    def variance(self) -> float:
        """Batch variance: E v of a BatchNorm here, without a convolution between."""
        return float(self.q.mean()) - self.common

    def outline(self) -> Outline:
        """The signal without K, which weighs 4 MB on a 32x32 map."""
        return Outline(self.q, self.variance)

    def __add__(self, other: Signal) -> Signal:
        """Sum of independent zero-mean signals."""
        return Signal(self.q + other.q, self.kernel + other.kernel)

    def scaled(self, factor: float) -> Signal:
        """The signal times a constant whose square is `factor`."""
        return self if factor == 1 else Signal(self.q * factor, self.kernel * float(factor))

    def subsampled(self, kept: np.ndarray) -> Signal:
        """The signal at the positions `kept` alone."""
        return Signal(self.q[kept], self.kernel[np.ix_(kept, kept)])


class Outline(NamedTuple):
    """What is kept of a signal for later: second moments and batch variance."""

    q: Floats
    variance: float
    kernel: None = None


class Normalized(NamedTuple):
    """What BatchNorm puts out, (q^, C^), and the batch variance v that it divided by: E[1/v] and E v."""

    q: Floats
    kernel: Floats
    inverse_v: float
    v: float

    @property
    def signal(self) -> Signal:
        """The output as a signal."""
        return Signal(self.q, self.kernel)


def conv(signal: Signal, geometry: ConvGeometry) -> Signal:
    """Output of a convolution with weights of variance 2/fan_in."""
    box = geometry.box(signal.q.reshape(geometry.image)).ravel()
    kernel = geometry.pair(signal.kernel)
    kernel *= 2 / geometry.taps
    return Signal(2 / geometry.taps * box, kernel)


def conv_backward(energy: Floats, geometry: ConvGeometry) -> Floats:
    """Gradient energy per input entry from that per output entry, (P_out,) -> (P_in,), but for a factor C_out/C_in."""
    return 2 / geometry.taps * geometry.box_transpose(energy.reshape(geometry.outputs)).ravel()


def batchnorm(signal: Signal) -> Normalized:
    """BatchNorm of channels with Gaussian common maps."""
    row = signal.kernel.mean(axis=1, dtype=float)
    center = float(row.mean())
    z = signal.q - 2 * row + center
    c = signal.kernel - row[:, None].astype(signal.kernel.dtype)
    c += (center - row).astype(c.dtype)
    v = float(z.mean())
    inverse_v, kernel = _random_scale(c, v)
    q = (z - np.diagonal(c)) * inverse_v + np.diagonal(kernel)
    return Normalized(q, kernel, inverse_v, v)


def conv_batchnorm(signal: Signal, geometry: ConvGeometry) -> Normalized:
    """Convolution, then BatchNorm."""
    return batchnorm(conv(signal, geometry))


def relu(normalized: Normalized) -> Signal:
    """ReLU of BatchNorm's output."""
    return Signal(normalized.q / 2, arc_cosine(normalized.q, normalized.kernel))


def arc_cosine(q: Floats, c: Floats) -> Floats:
    """E relu(x) relu(y) for centered Gaussians of variances q and covariances c (Cho and Saul 2009)."""
    scale = np.sqrt(q).astype(c.dtype)
    norm = np.multiply.outer(scale, scale)
    cosine = np.divide(c, norm, out=np.zeros_like(norm), where=norm > 0)
    np.clip(cosine, -1.0, 1.0, out=cosine)
    sine = np.square(cosine)
    np.sqrt(np.subtract(1, sine, out=sine), out=sine)
    angle = np.arccos(cosine)
    np.subtract(math.pi, angle, out=angle)
    angle *= cosine
    angle += sine
    angle *= norm
    angle /= 2 * math.pi
    return angle


def _random_scale(c: Floats, v: float) -> tuple[float, Floats]:
    """E[1/v] and E[(common map)(common map)'/v] for a common map of covariance c and E v = v."""
    if not c.any():
        return 1 / v, c
    eigenvalues, vectors = _eigenpairs(c)
    certain = max(v - float(eigenvalues.sum()), 0.0)
    t = np.exp(_LOG_T) / v
    spread = 1 + 2 * np.outer(t, eigenvalues)
    weight = _LOG_STEP * t * np.exp(-t * certain - 0.5 * np.log(spread).sum(axis=1))
    inverse_v = float(weight.sum())
    shares = eigenvalues * (weight @ (1 / spread)) - eigenvalues * inverse_v  # what C E[1/v] does not have
    kernel = (vectors * (len(c) * shares).astype(c.dtype)) @ vectors.T
    kernel += inverse_v * c
    return inverse_v, kernel


def _eigenpairs(c: Floats) -> tuple[Floats, Floats]:
    """Eigenpairs of c / P: all of them for small maps, the leading ones for large maps.

    c is close to a matrix of rank k^2 (one for each tap: which outputs have it inside the image), so a random
    subspace of a few times that dimension holds what matters (Halko, Martinsson and Tropp 2011); directions
    left out have so small a share of v that it may count as certain.
    """
    positions = len(c)
    if positions <= _ALL_PAIRS:
        eigenvalues, vectors = np.linalg.eigh(c / positions)
    else:
        start = np.random.default_rng(0).standard_normal((positions, _LEADING)).astype(c.dtype)
        basis, _ = np.linalg.qr(c @ start)
        image = c @ basis
        eigenvalues, turn = np.linalg.eigh(basis.T @ image / positions)
        vectors = basis @ turn
    return np.clip(eigenvalues.astype(float), 0.0, None), vectors
