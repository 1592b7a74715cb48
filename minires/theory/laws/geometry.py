"""Which tap of a kernel touches which pixel: exact counts for any kernel, stride, padding and dilation.

Along one axis a convolution (or a pooling window) reads, for output ``i`` and tap ``t``, the input pixel
``j = i*stride + t*dilation - padding``; taps that fall outside ``0 <= j < size`` read padding, a zero. Everything a
convolution does to second moments depends on the incidence ``A[i, t, j] = 1`` where output i reads pixel j by tap t:

    cf(i) = sum_tj A    taps of output i that lie inside the image           (forward: terms in the sum)
    cb(j) = sum_it A    outputs that touch pixel j                          (backward: terms in the gradient)
    cw(t) = sum_ij A    positions that tap t sees                           (weight gradient: terms in its sum)

They share one total ``T``. The two axes of an image are independent, so two-dimensional counts are products.
Because the weights of different taps are independent, a second moment that varies over the image goes through the
*box filter* ``box(q)(i) = sum of q over the pixels that i reads``, a gradient through its transpose, and a
covariance between two positions through ``pair(K)(i, i') = sum_t K(i's pixel by tap t, i''s pixel by tap t)``.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

Pair = int | tuple[int, int]


def as_pair(value: Pair) -> tuple[int, int]:
    """(value, value) for an int, the pair itself otherwise."""
    return (value, value) if np.ndim(value) == 0 else (int(value[0]), int(value[1]))


class Axis:
    """The taps of one axis: ``size`` input pixels, ``kernel`` taps; ValueError if no output fits."""

    def __init__(self, size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> None:
        self.size, self.kernel, self.stride, self.padding, self.dilation = (size, kernel, stride, padding, dilation)
        reach = dilation * (kernel - 1) + 1
        self.outputs = (size + 2 * padding - reach) // stride + 1
        if self.outputs < 1:
            raise ValueError(f"a window that reaches over {reach} pixels does not fit into {size} + 2*{padding}")

    @property
    def settings(self) -> tuple[int, int, int, int]:
        """(kernel, stride, padding, dilation)."""
        return self.kernel, self.stride, self.padding, self.dilation

    @cached_property
    def source(self) -> np.ndarray:
        """(outputs, kernel) integers: the pixel that output i reads by tap t; outside 0..size-1 it is padding."""
        starts = np.arange(self.outputs)[:, None] * self.stride - self.padding
        return starts + np.arange(self.kernel) * self.dilation

    @cached_property
    def inside(self) -> np.ndarray:
        """(outputs, kernel) booleans: is that pixel inside the image."""
        return (self.source >= 0) & (self.source < self.size)

    @cached_property
    def reads(self) -> np.ndarray:
        """(outputs, size) zeros and ones: does output i read pixel j (by at most one tap)."""
        matrix = np.zeros((self.outputs, self.size))
        i, t = np.nonzero(self.inside)
        matrix[i, self.source[i, t]] = 1.0
        return matrix

    @property
    def forward_counts(self) -> np.ndarray:
        """cf: (outputs,) taps inside the image."""
        return self.inside.sum(axis=1)

    @property
    def backward_counts(self) -> np.ndarray:
        """cb: (size,) outputs that touch each pixel."""
        return self.reads.sum(axis=0).astype(int)

    @property
    def tap_counts(self) -> np.ndarray:
        """cw: (kernel,) outputs for which tap t lies inside the image."""
        return self.inside.sum(axis=0)

    @property
    def total(self) -> int:
        """T, the sum of each of the three."""
        return int(self.inside.sum())

    @property
    def coverage(self) -> float:
        """Mean share of the taps that lie inside the image; 1 without padding."""
        return self.total / (self.kernel * self.outputs)


class ConvGeometry(NamedTuple):
    """The two axes of a convolution or pooling window over an image."""

    height: Axis
    width: Axis

    @classmethod
    def of(
        cls, image: tuple[int, int], kernel_size: Pair, stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1
    ) -> ConvGeometry:
        """Geometry of a window over an image of (H, W) pixels; the settings are ints or (vertical, horizontal)."""
        settings = [as_pair(value) for value in (kernel_size, stride, padding, dilation)]
        return cls(*(Axis(image[a], *(s[a] for s in settings)) for a in (0, 1)))

    def resized(self, image: tuple[int, int]) -> ConvGeometry:
        """The same window over an image of another size."""
        return ConvGeometry(*(Axis(n, *a.settings) for n, a in zip(image, (self.height, self.width), strict=True)))

    @property
    def taps(self) -> int:
        """Taps of the kernel, kh * kw."""
        return self.height.kernel * self.width.kernel

    @property
    def image(self) -> tuple[int, int]:
        """(H, W) of the input."""
        return self.height.size, self.width.size

    @property
    def outputs(self) -> tuple[int, int]:
        """(Ho, Wo) of the output."""
        return self.height.outputs, self.width.outputs

    @property
    def coverage(self) -> float:
        """Mean share of the taps inside the image: what a constant second moment loses to the padding."""
        return self.height.coverage * self.width.coverage

    @property
    def forward_counts(self) -> np.ndarray:
        """(Ho, Wo): taps inside the image for each output."""
        return np.multiply.outer(self.height.forward_counts, self.width.forward_counts)

    @property
    def backward_counts(self) -> np.ndarray:
        """(H, W): outputs that touch each pixel; their mean times C_out is the effective fan_out."""
        return np.multiply.outer(self.height.backward_counts, self.width.backward_counts)

    @property
    def tap_counts(self) -> np.ndarray:
        """(kh, kw): outputs for which each tap lies inside the image."""
        return np.multiply.outer(self.height.tap_counts, self.width.tap_counts)

    def box(self, q: np.ndarray) -> np.ndarray:
        """(..., H, W) -> (..., Ho, Wo): sum of q over the pixels each output reads."""
        return self.height.reads @ q @ self.width.reads.T

    def box_transpose(self, g: np.ndarray) -> np.ndarray:
        """(..., Ho, Wo) -> (..., H, W): sum of g over the outputs that touch each pixel; <box q, g> = <q, boxT g>."""
        return self.height.reads.T @ g @ self.width.reads

    def pair(self, kernel: np.ndarray) -> np.ndarray:
        """(H*W, H*W) -> (Ho*Wo, Ho*Wo): sum over taps t of K(pixel of i by t, pixel of i' by t); both inside."""
        (h, w), (ho, wo) = self.image, self.outputs
        k4 = _pair_axis(np.asarray(kernel).reshape(h, w, h, w), self.height, 0)
        return _pair_axis(k4, self.width, 1).reshape(ho * wo, ho * wo)

    def pair_transpose(self, kernel: np.ndarray) -> np.ndarray:
        """(Ho*Wo, Ho*Wo) -> (H*W, H*W): the adjoint of `pair`, which a covariance goes through on its way back."""
        (h, w), (ho, wo) = self.image, self.outputs
        k4 = _pair_axis(np.asarray(kernel).reshape(ho, wo, ho, wo), self.height, 0, back=True)
        return _pair_axis(k4, self.width, 1, back=True).reshape(h * w, h * w)

    def pair_row_sums(self, kernel: np.ndarray) -> np.ndarray:
        """(H*W, H*W) -> (Ho*Wo,): the row sums of `pair(kernel)`, without making it."""
        rows, columns = _taps_as_matrices(self.height), _taps_as_matrices(self.width)
        inside = np.einsum("tih,ujw->tuhw", rows, columns, optimize=True)  # pixels that each tap reads
        sums = np.asarray(kernel) @ inside.reshape(self.taps, -1).T.astype(kernel.dtype)
        by_tap = sums.astype(float).reshape(*self.image, len(rows), len(columns))
        return np.einsum("tih,hwtu,ujw->ij", rows, by_tap, columns, optimize=True).ravel()

    def per_tap(self, q: np.ndarray, g: np.ndarray) -> np.ndarray:
        """(H, W), (Ho, Wo) -> (kh, kw): sum over outputs i of g(i) q(pixel of i by tap t): a weight gradient's law."""
        rows = _taps_as_matrices(self.height)
        columns = _taps_as_matrices(self.width)
        return np.einsum("tih,hw,ujw,ij->tu", rows, q, columns, g, optimize=True)


def _pair_axis(kernel: np.ndarray, axis: Axis, position: int, back: bool = False) -> np.ndarray:
    """Sum over the taps of one axis, on array axes ``position`` and ``position + 2``; each tap's outputs in range."""
    shape = list(kernel.shape)
    shape[position] = shape[position + 2] = axis.size if back else axis.outputs
    total = np.zeros(shape, kernel.dtype)
    for t in range(axis.kernel):
        outputs = np.flatnonzero(axis.inside[:, t])
        if not len(outputs):
            continue
        first, last = int(outputs[0]), int(outputs[-1])
        pixels, windows = [slice(None)] * 4, [slice(None)] * 4
        source = slice(int(axis.source[first, t]), int(axis.source[last, t]) + 1, axis.stride)
        pixels[position] = pixels[position + 2] = source
        windows[position] = windows[position + 2] = slice(first, last + 1)
        if back:
            total[tuple(pixels)] += kernel[tuple(windows)]
        else:
            total[tuple(windows)] += kernel[tuple(pixels)]
    return total


def _taps_as_matrices(axis: Axis) -> np.ndarray:
    """(kernel, outputs, size): A with the tap first."""
    matrices = np.zeros((axis.kernel, axis.outputs, axis.size))
    i, t = np.nonzero(axis.inside)
    matrices[t, i, axis.source[i, t]] = 1.0
    return matrices
