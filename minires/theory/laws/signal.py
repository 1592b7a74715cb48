"""What a convolution does to a signal that varies over the image, and what is kept of a signal [MF].

All samples share the weights. So two things are followed over positions i: the second moment q(i), and the covariance
between *different samples* K(i, i') = E_c[h(n, i) h(n', i')], n != n', the part of a channel's map that all samples
share. BatchNorm averages over pairs of samples, among which a sample with itself weighs only 1/N: for large N, and
white noise, it needs no more than K. A convolution with k^2 taps and weights of variance gain/fan_in puts out (see
`geometry`)

    z = (gain/k^2) box(q),     C = (gain/k^2) pair(K)

An actual batch, a shift of all channels or a pooling window needs more (`Signal`), which goes through the same
formulas. Inside a large map of white noise K is constant: where it has more than 32 pixels an axis, K is kept on a
smaller map with the same edges (`Span`).
"""

import math
from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np

from minires.theory.laws.geometry import ConvGeometry
from minires.theory.laws.reflected_walk import Floats

_DOUBLE = 256  # up to so many positions in double precision; above, single halves the memory and loses 1e-6
_LARGEST_AXIS = 32
_CONTRASTS = 8


class Span(NamedTuple):
    """A map, and the smaller one with the same edges on which a kernel is kept."""

    image: tuple[int, int]
    smaller: tuple[int, int]

    @property
    def index(self) -> np.ndarray:
        """(P,): where each position is found on the smaller map."""
        index = np.zeros(1, int)
        for size, smaller in zip(self.image, self.smaller, strict=True):
            i, half = np.arange(size), smaller // 2  # the last half from the right edge, the others from the left
            along = np.where(i < size - half, np.minimum(i, smaller - half - 1), i - (size - smaller))
            index = (index[:, None] * smaller + along).ravel()
        return index

    @property
    def member(self) -> np.ndarray:
        """A position of the map for each one of the smaller map."""
        return np.unique(self.index, return_index=True)[1]

    @property
    def weights(self) -> Floats:
        """Share of the map's positions that each position of the smaller map stands for."""
        return np.bincount(self.index, minlength=math.prod(self.smaller)) / math.prod(self.image)

    def subsampled(self, stride: int) -> Self | None:
        """Both maps at every stride-th pixel."""
        image, smaller = (tuple(-(-n // stride) for n in size) for size in self)
        return useful(Span(image, smaller))


class Signal(NamedTuple):
    """Of P positions and N samples:

    q        second moment of each position, (P,)
    kernel   K, (P, P), on a smaller map if there is a span; None: not kept
    same     S(i, i') = E[h(n, i) h(n, i')] within a sample, (P, P), for neighboring pixels of a photograph agree; q on
             its diagonal; None: different pixels share no more than K
    mean     E h, the same for all channels: a constant bias, BatchNorm's own; q, K and S include its square
    each     q of each sample, (N, P): what is not linear in q is averaged over mixed contrasts; None: all alike
    """

    q: Floats
    kernel: Floats | None
    same: Floats | None = None
    mean: float = 0.0
    each: Floats | None = None
    span: Span | None = None

    @classmethod
    def white_noise(cls, image: tuple[int, int], variance: float = 1.0) -> Self:
        """Nothing common to different samples."""
        smaller = tuple(min(n, _LARGEST_AXIS) for n in image)
        size = math.prod(smaller)
        kernel = np.zeros((size, size), np.float32 if size > _DOUBLE else np.float64)
        return cls(np.full(math.prod(image), variance), kernel, span=useful(Span(image, smaller)))

    def changed(self, change: Callable[[Floats], Floats], mean: float) -> Self:
        """The signal with all of its second moments and covariances changed alike."""
        moments = (self.q, self.kernel, self.same, self.each)
        q, kernel, same, each = (None if known is None else change(known) for known in moments)
        return Signal(q, kernel, same, mean, each, self.span)

    @property
    def centered(self) -> Self:
        """Without its mean."""
        return self.changed(lambda moments: moments - self.mean**2, 0.0) if self.mean else self

    def shifted(self, mean: float) -> Self:
        """A centered signal plus a constant."""
        return self.changed(lambda moments: moments + mean**2, mean)

    def scaled(self, factor: float) -> Self:
        """The signal times a constant whose square is `factor`."""
        mean = self.mean * math.sqrt(factor)
        return self if factor == 1 else self.changed(lambda moments: moments * float(factor), mean)

    def rows(self, batch: float = math.inf) -> Floats:
        """r(i), (P,): mean over the pairs of i with all positions of all N samples."""
        across = self.full(_means(self.kernel, self.span))
        if math.isinf(batch):
            return across
        own = (self.q - self.diagonal) / len(self.q) if self.same is None else _means(self.same) - across
        return across + own / batch

    def full(self, values: Floats) -> Floats:
        """From values at the kernel's positions, those at all positions."""
        return values if self.span is None else values[self.span.index]

    def at_kernel(self, values: Floats) -> Floats:
        """From values at all positions, those at the kernel's."""
        return values if self.span is None else values[self.span.member]

    @property
    def diagonal(self) -> Floats:
        """K(i, i), (P,)."""
        return self.full(np.diagonal(self.kernel).astype(float))

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
        """Batch variance: E v of a BatchNorm here."""
        return float(self.q.mean() - self.rows(batch).mean())

    variance = property(variance_in, doc="The same for many samples.")

    def outline(self, keep: bool = False) -> Self:
        """The signal without K, which weighs 4 MB on a 32x32 map, unless it is to be kept."""
        each = None if self.each is None else contrasts(self.each)
        return self if keep else Signal(self.q, None, mean=self.mean, each=each)

    def __add__(self, other: Self) -> Self:
        """Sum of independent signals, at most one of which has a mean that is not 0 in the mean of its channels."""
        if self.kernel.shape != other.kernel.shape:
            mine, others = (signal._replace(kernel=signal.whole_kernel(), span=None) for signal in (self, other))
            return mine + others
        same = each = None
        if self.same is not None or other.same is not None:
            same = self.whole_same() + other.whole_same()
        if self.each is not None or other.each is not None:
            each = sum(signal.q if signal.each is None else signal.each for signal in (self, other))
        summed = Signal(self.q + other.q, self.kernel + other.kernel, same, self.mean + other.mean, each, self.span)
        cross = 2 * self.mean * other.mean
        return summed.changed(lambda moments: moments + cross, summed.mean) if cross else summed

    def subsampled(self, image: tuple[int, int], stride: int) -> Self:
        """The signal at every stride-th pixel of the image."""
        kept, span = every(image, stride), self.span
        rows = kept if span is None else every(span.smaller, stride)
        same = None if self.same is None else self.same[np.ix_(kept, kept)]
        each = None if self.each is None else self.each[:, kept]
        span = None if span is None else span.subsampled(stride)
        return Signal(self.q[kept], self.kernel[np.ix_(rows, rows)], same, self.mean, each, span)


def _means(kernel: Floats, span: Span | None = None) -> Floats:
    """Means of the rows over the whole map; a product with a vector is faster than a mean."""
    weights = np.full(len(kernel), 1 / len(kernel)) if span is None else span.weights
    return (kernel @ weights.astype(kernel.dtype)).astype(float)


def every(image: tuple[int, int], stride: int) -> np.ndarray:
    """Flat indices of every stride-th pixel."""
    return np.arange(image[0] * image[1]).reshape(image)[::stride, ::stride].ravel()


def useful(span: Span) -> Span | None:
    """None where the smaller map is the map itself."""
    return None if span.image == span.smaller else span


def contrasts(each: Floats) -> Floats:
    """(k, P): the samples' second moments in a few levels."""
    ordered = np.sort(each, axis=0)
    return np.stack([part.mean(axis=0) for part in np.array_split(ordered, min(_CONTRASTS, len(ordered)))])


def conv(signal: Signal, geometry: ConvGeometry) -> Signal:
    """Output of a convolution with weights of variance 2/fan_in."""
    span, same, each = signal.span, None, None
    small = geometry if span is None else geometry.resized(span.smaller)
    q, kernel = geometry.box(signal.q.reshape(geometry.image)).ravel(), small.pair(signal.kernel)
    if signal.same is not None:
        same = geometry.pair(signal.same)
    if signal.each is not None:
        each = geometry.box(signal.each.reshape(-1, *geometry.image)).reshape(len(signal.each), -1)
    span = None if span is None else useful(Span(geometry.outputs, small.outputs))
    return Signal(q, kernel, same, 0.0, each, span).scaled(2 / geometry.taps)


def conv_backward(energy: Floats, geometry: ConvGeometry) -> Floats:
    """Gradient energy per input entry from that per output entry, (P_out,) -> (P_in,), but for a factor C_out/C_in."""
    return 2 / geometry.taps * geometry.box_transpose(energy.reshape(geometry.outputs)).ravel()
