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

*Any batch.* Three things are special to white noise and many samples; an actual batch, a shift of all channels or a
pooling window needs more, and it goes through the same formulas:

    same     S(i, i') = E[h(n, i) h(n, i')] within a sample: neighboring pixels of a photograph agree
    mean     E h, where it is not 0: a constant bias, BatchNorm's own; q, K and S include its square
    each     q of each sample: a batch of mixed contrasts is a mixture, and what is not linear in q is averaged over it

With N samples a pair of a sample with itself weighs 1/N, so r(i) = mean_i' [(1 - 1/N) K + S/N]. And v fluctuates from
channel to channel even without a common map, because the batch spans few directions: for v = w'Mw of Gaussian w

    E[1/v] E v = 1/(1 - 2 rho) to the order that rho^2 may be neglected,     rho = tr M^2 / (tr M)^2

where rho is the mean of the squared centered kernel over all pairs of samples and positions, over v^2: 1/(N P) for
white noise, more where pixels agree. (1/(1 - 2 rho) is exact for v ~ chi-square of 1/rho degrees.)

*Large maps.* Inside a map of white noise K is constant, whatever the distance. A kernel of more than 32 pixels an axis
is kept on a smaller map with the same edges (`span`).
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
_LOG_T_FORM = np.arange(-23.0, 26.0, _LOG_STEP)  # farther, for forms whose smallest eigenvalues matter
_LARGEST_AXIS = 32
_CONTRASTS = 8


class Signal(NamedTuple):
    """q: second moment per position, (P,). kernel: cross-sample covariance K, (P, P).

    same: S, (P, P) with q on its diagonal; None: different pixels of a sample share no more than K.
    mean: E h, the same for all channels.  each: (N, P), second moment of each sample; None: all alike.
    span: (image, smaller image) where the kernel is kept on a smaller map.
    """

    q: Floats
    kernel: Floats
    same: Floats | None = None
    mean: float = 0.0
    each: Floats | None = None
    span: Span | None = None

    @classmethod
    def white_noise(cls, image: tuple[int, int], variance: float = 1.0) -> Signal:
        """Nothing common to different samples."""
        smaller = tuple(min(n, _LARGEST_AXIS) for n in image)
        size = math.prod(smaller)
        kernel = np.zeros((size, size), np.float32 if size > _DOUBLE else np.float64)
        return cls(np.full(math.prod(image), variance), kernel, span=Span(image, smaller) if smaller != image else None)

    @property
    def centered(self) -> Signal:
        """Without its mean."""
        if not self.mean:
            return self
        square = self.mean**2
        same = None if self.same is None else self.same - square
        each = None if self.each is None else self.each - square
        return self._replace(q=self.q - square, kernel=self.kernel - square, same=same, mean=0.0, each=each)

    def shifted(self, mean: float) -> Signal:
        """A centered signal plus a constant."""
        square = mean**2
        same = None if self.same is None else self.same + square
        each = None if self.each is None else self.each + square
        return self._replace(q=self.q + square, kernel=self.kernel + square, same=same, mean=mean, each=each)

    def rows(self, batch: float = math.inf) -> Floats:
        """r(i), (P,): mean over the pairs of i with all positions of all N samples."""
        across = self.full(_rows(self.kernel, None if self.span is None else self.span.weights))
        if math.isinf(batch):
            return across
        own = (self.q - self.diagonal) / len(self.q) if self.same is None else _rows(self.same) - across
        return across + own / batch

    def full(self, values: Floats) -> Floats:
        """Values at the kernel's positions, at all positions."""
        return values if self.span is None else values[self.span.index]

    @property
    def diagonal(self) -> Floats:
        """K(i, i), (P,)."""
        return self.full(np.diagonal(self.kernel).astype(float))

    @property
    def contrast(self) -> Floats:
        """E_n sqrt(q_n(i)), (P,): the mean deviation, which is less than sqrt(q) in a batch of mixed contrasts."""
        return np.sqrt(self.q) if self.each is None else np.sqrt(self.each).mean(axis=0)

    def whole_same(self) -> Floats:
        """S as a matrix."""
        if self.same is not None:
            return self.same
        same = self.whole_kernel().copy()
        np.fill_diagonal(same, self.q)
        return same

    def whole_kernel(self) -> Floats:
        """K on the whole map."""
        return self.kernel if self.span is None else self.kernel[np.ix_(self.span.index, self.span.index)]

    def variance_in(self, batch: float = math.inf) -> float:
        """Batch variance: E v of a BatchNorm here, without a convolution between."""
        return float(self.q.mean() - self.rows(batch).mean())

    @property
    def variance(self) -> float:
        """The same for many samples."""
        return self.variance_in()

    def outline(self, keep: bool = False) -> Signal | Outline:
        """The signal without K, which weighs 4 MB on a 32x32 map, unless it is to be kept."""
        if keep:
            return self
        each = None if self.each is None else contrasts(self.each)
        return Outline(self.q, self.variance, mean=self.mean, each=each)

    def __add__(self, other: Signal) -> Signal:
        """Sum of independent signals, at most one of which has a mean that is not 0 in the mean of its channels."""
        if self.kernel.shape != other.kernel.shape:
            whole = [each._replace(kernel=each.whole_kernel(), span=None) for each in (self, other)]
            return whole[0] + whole[1]
        q, kernel = self.q + other.q, self.kernel + other.kernel
        cross = 2 * self.mean * other.mean
        same, each = _sum_of(self, other)
        summed = Signal(q, kernel, same, 0.0, each, self.span)
        if not (self.mean or other.mean):
            return summed
        both = self.mean + other.mean
        same = None if same is None else same + cross
        return Signal(q + cross, kernel + cross, same, both, None if each is None else each + cross, self.span)

    def scaled(self, factor: float) -> Signal:
        """The signal times a constant whose square is `factor`."""
        if factor == 1:
            return self
        same = None if self.same is None else self.same * float(factor)
        each = None if self.each is None else self.each * factor
        mean = self.mean * math.sqrt(factor)
        return Signal(self.q * factor, self.kernel * float(factor), same, mean, each, self.span)

    def subsampled(self, image: tuple[int, int], stride: int) -> Signal:
        """The signal at every stride-th pixel of the image."""
        kept = every(image, stride)
        span = None if self.span is None else Span(_sizes(image, stride), _sizes(self.span.smaller, stride))
        rows = kept if self.span is None else every(self.span.smaller, stride)
        same = None if self.same is None else self.same[np.ix_(kept, kept)]
        each = None if self.each is None else self.each[:, kept]
        return Signal(self.q[kept], self.kernel[np.ix_(rows, rows)], same, self.mean, each, useful(span))


def _rows(kernel: Floats, weights: Floats | None = None) -> Floats:
    """Weighted means of the rows; a product with a vector is faster than a mean."""
    if weights is None:
        weights = np.full(len(kernel), 1 / len(kernel))
    return (kernel @ weights.astype(kernel.dtype)).astype(float)


def _sum_of(a: Signal, b: Signal) -> tuple[Floats | None, Floats | None]:
    """S and the second moments of each sample of a sum."""
    same = each = None
    if a.same is not None or b.same is not None:
        same = a.whole_same() + b.whole_same()
    if a.each is not None or b.each is not None:
        each = (a.q if a.each is None else a.each) + (b.q if b.each is None else b.each)
    return same, each


class Span(NamedTuple):
    """A map and the smaller one, with the same edges, on which a kernel is kept."""

    image: tuple[int, int]
    smaller: tuple[int, int]

    @property
    def index(self) -> np.ndarray:
        """(P,): where each position of the map is found on the smaller one."""
        rows, columns = (_axis_index(n, m) for n, m in zip(self.image, self.smaller, strict=True))
        return (rows[:, None] * self.smaller[1] + columns).ravel()

    @property
    def member(self) -> np.ndarray:
        """A position of the map for each one of the smaller map."""
        rows, columns = (
            np.where(np.arange(m) < m - m // 2, np.arange(m), np.arange(m) + n - m)
            for n, m in zip(self.image, self.smaller, strict=True)
        )
        return (rows[:, None] * self.image[1] + columns).ravel()

    @property
    def weights(self) -> Floats:
        """Share of the map's positions that each position of the smaller map stands for."""
        index = self.index
        return np.bincount(index, minlength=math.prod(self.smaller)) / len(index)


def _axis_index(size: int, smaller: int) -> np.ndarray:
    """The first half from the left edge, the second half from the right, what is between to the middle."""
    i, half = np.arange(size), smaller - smaller // 2
    return np.where(i < size - smaller // 2, np.minimum(i, half - 1), i - (size - smaller))


def every(image: tuple[int, int], stride: int) -> np.ndarray:
    """Flat indices of every stride-th pixel."""
    return np.arange(image[0] * image[1]).reshape(image)[::stride, ::stride].ravel()


def _sizes(image: tuple[int, int], stride: int) -> tuple[int, int]:
    return -(-image[0] // stride), -(-image[1] // stride)


def useful(span: Span | None) -> Span | None:
    """None where the smaller map is the map itself."""
    return None if span is None or span.image == span.smaller else span


class Outline(NamedTuple):
    """What is kept of a signal for later: second moments and batch variance."""

    q: Floats
    variance: float
    kernel: None = None
    same: None = None
    mean: float = 0.0
    each: Floats | None = None


def contrasts(each: Floats) -> Floats:
    """(k, P): the samples' second moments in a few levels."""
    ordered = np.sort(each, axis=0)
    return np.stack([part.mean(axis=0) for part in np.array_split(ordered, min(_CONTRASTS, len(ordered)))])


class Normalized(NamedTuple):
    """What BatchNorm puts out, as `Signal`, and the batch variance v that it divided by: E[1/v] and E v.

    concentration: rho of what v has besides the common map (see above); shared: that of the common map.
    """

    q: Floats
    kernel: Floats
    inverse_v: float
    v: float
    same: Floats | None = None
    each: Floats | None = None
    span: Span | None = None
    concentration: float = 0.0
    shared: float = 0.0

    @property
    def signal(self) -> Signal:
        """The output as a signal."""
        return Signal(self.q, self.kernel, self.same, 0.0, self.each, self.span)


def conv(signal: Signal, geometry: ConvGeometry) -> Signal:
    """Output of a convolution with weights of variance 2/fan_in."""
    factor, span = 2 / geometry.taps, signal.span
    box = geometry.box(signal.q.reshape(geometry.image)).ravel()
    small = geometry if span is None else geometry.resized(span.smaller)
    kernel = small.pair(signal.kernel)
    kernel *= factor
    same = each = None
    if signal.same is not None:
        same = factor * geometry.pair(signal.same)
    if signal.each is not None:
        each = factor * geometry.box(signal.each.reshape(-1, *geometry.image)).reshape(len(signal.each), -1)
    span = useful(None if span is None else Span(geometry.outputs, small.outputs))
    return Signal(factor * box, kernel, same, 0.0, each, span)


def conv_backward(energy: Floats, geometry: ConvGeometry) -> Floats:
    """Gradient energy per input entry from that per output entry, (P_out,) -> (P_in,), but for a factor C_out/C_in."""
    return 2 / geometry.taps * geometry.box_transpose(energy.reshape(geometry.outputs)).ravel()


def batchnorm(signal: Signal, batch: float = math.inf) -> Normalized:
    """BatchNorm of channels with Gaussian common maps, over `batch` samples."""
    row = signal.rows(batch)
    center = float(row.mean())
    z = signal.q - 2 * row + center
    at = row if signal.span is None else row[signal.span.member]
    c = signal.kernel - at[:, None].astype(signal.kernel.dtype)
    c += (center - at).astype(c.dtype)
    v = float(z.mean())
    same = None if signal.same is None else signal.same - row[:, None] - row + center
    each = None
    if signal.each is not None:  # what a sample shares with the others goes with its own deviation
        shared = row * np.sqrt(signal.each / np.maximum(signal.q, 1e-300))
        each = np.maximum(signal.each - 2 * shared + center, 1e-3 * signal.each)
    weights = None if signal.span is None else signal.span.weights
    concentration = _concentration(z, c, same, v, batch)
    inverse_v, kernel = _random_scale(c, v, weights)
    own = np.maximum(z - signal.full(np.diagonal(c)), 0.0)
    q = own * inverse_v + signal.full(np.diagonal(kernel))
    if same is not None:
        same = same * inverse_v
        np.fill_diagonal(same, q)
    if each is not None:
        each *= q / np.maximum(each.mean(axis=0), 1e-30)
    shared = min(float(np.vdot(c, c)) / c.size / v**2, 1.0)
    return Normalized(q, kernel, inverse_v, v, same, each, signal.span, concentration, shared)


def _concentration(z: Floats, c: Floats, same: Floats | None, v: float, batch: float) -> float:
    """rho of what a sample shares with itself, beyond what it shares with the others."""
    if math.isinf(batch):
        return 0.0
    squares = float(np.vdot(c, c)) / c.size
    own = squares + float(np.mean(z**2)) / len(z) if same is None else float(np.vdot(same, same)) / same.size
    return max(own - squares, 0.0) / (batch * v**2)


def conv_batchnorm(signal: Signal, geometry: ConvGeometry) -> Normalized:
    """Convolution, then BatchNorm."""
    return batchnorm(conv(signal, geometry))


def relu(normalized: Normalized) -> Signal:
    """ReLU of BatchNorm's output."""
    return Signal(normalized.q / 2, arc_cosine(normalized.q, normalized.kernel), span=normalized.span)


def arc_cosine(q: Floats, c: Floats) -> Floats:
    """E relu(x) relu(y) for centered Gaussians of variances q and covariances c (Cho and Saul 2009)."""
    return arc_cosine_of(np.sqrt(q), c)


def arc_cosine_of(deviation: Floats, c: Floats) -> Floats:
    """The same from the standard deviations."""
    scale = deviation.astype(c.dtype)
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


def _random_scale(c: Floats, v: float, weights: Floats | None = None) -> tuple[float, Floats]:
    """E[1/v] and E[(common map)(common map)'/v] for a common map of covariance c and E v = v.

    weights: share of the map that each position of c stands for; None: all the same.
    """
    if not c.any() or not math.isfinite(v):
        return 1 / v, c
    root = np.full(len(c), 1 / math.sqrt(len(c))) if weights is None else np.sqrt(weights)
    root = root.astype(c.dtype)
    eigenvalues, vectors = _eigenpairs(c * root[:, None] * root)
    certain = max(v - float(eigenvalues.sum()), 0.0)
    t = np.exp(_LOG_T) / v
    spread = 1 + 2 * np.outer(t, eigenvalues)
    weight = _LOG_STEP * t * np.exp(-t * certain - 0.5 * np.log(spread).sum(axis=1))
    inverse_v = float(weight.sum())
    shares = eigenvalues * (weight @ (1 / spread)) - eigenvalues * inverse_v  # what C E[1/v] does not have
    vectors = vectors / root[:, None]
    kernel = (vectors * shares.astype(c.dtype)) @ vectors.T
    kernel += inverse_v * c
    return inverse_v, kernel


def _eigenpairs(c: Floats) -> tuple[Floats, Floats]:
    """Eigenpairs of c: all of them for small maps, the leading ones for large maps.

    c is close to a matrix of rank k^2 (one for each tap: which outputs have it inside the image), so a random subspace
    of a few times that dimension holds what matters (Halko, Martinsson and Tropp 2011); directions left out have so
    small a share of v that it may count as certain.
    """
    positions = len(c)
    if positions <= _ALL_PAIRS:
        eigenvalues, vectors = np.linalg.eigh(c)
    else:
        start = np.random.default_rng(0).standard_normal((positions, _LEADING)).astype(c.dtype)
        basis, _ = np.linalg.qr(c @ start)
        eigenvalues, turn = np.linalg.eigh(basis.T @ (c @ basis))
        vectors = basis @ turn
    return np.clip(eigenvalues.astype(float), 0.0, None), vectors


def inverse_of_quadratic_form(eigenvalues: Floats) -> tuple[float, float, Floats, float]:
    """For v = sum lambda_j chi2_j with E v = 1 (lambda is rescaled to that), chi2_j of one degree:

    E[1/v];  E[|w|^2/v]/n, n the number of lambdas, w'Mw = v;  e_j = E[lambda_j chi2_j/v];  E[(w'M^2w)/v^2].
    """
    lam = np.clip(eigenvalues, 0.0, None)
    lam = lam / lam.sum()
    t = np.exp(_LOG_T_FORM)
    spread = 1 + 2 * np.outer(t, lam)
    weight = _LOG_STEP * t * np.exp(-0.5 * np.log(spread).sum(axis=1))
    inside = weight @ (1 / spread)
    second = float((weight * t) @ (1 / spread) @ lam**2)
    return float(weight.sum()), float(inside.mean()), lam * inside, second
