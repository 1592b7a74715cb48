"""Which tap of a kernel touches which pixel: exact for any kernel, stride, padding and dilation.

Along each axis output i of a convolution or pooling window reads by tap t the pixel j = i*stride + t*dilation -
padding; outside 0 <= j < size that is padding, a zero.

The weights of different taps are independent. So a second moment that varies over the image goes through the *box
filter*, box(q)(i) = sum of q over the pixels that i reads, a gradient through its transpose, and a covariance between
two positions through pair(K)(i, i') = sum_t K(i's pixel by tap t, i''s pixel by tap t).
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np

Pair = int | tuple[int, int]


@dataclass(frozen=True)
class Axis:
    """The taps of one axis of `size` pixels; ValueError if no output fits."""

    size: int
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    def __post_init__(self) -> None:
        if self.outputs < 1:
            reach = self.dilation * (self.kernel - 1) + 1
            raise ValueError(f"a window over {reach} pixels does not fit into {self.size} + 2*{self.padding}")

    @property
    def outputs(self) -> int:
        return (self.size + 2 * self.padding - self.dilation * (self.kernel - 1) - 1) // self.stride + 1

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
        return (self.source[:, :, None] == np.arange(self.size)).any(axis=1).astype(float)


class ConvGeometry(NamedTuple):
    """The two axes of a window of kh*kw taps, a convolution's or a pool's, over an image (H, W); outputs (Ho, Wo)."""

    height: Axis
    width: Axis

    @classmethod
    def of(
        cls, image: tuple[int, int], kernel_size: Pair, stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1
    ) -> Self:
        """Geometry of a window over an image of (H, W) pixels; the settings are ints or (vertical, horizontal)."""
        settings = [np.broadcast_to(value, 2).tolist() for value in (kernel_size, stride, padding, dilation)]
        return cls(*(Axis(size, *own) for size, *own in zip(image, *settings, strict=True)))

    def resized(self, image: tuple[int, int]) -> Self:
        """The same window over an image of another size."""
        return self._replace(height=replace(self.height, size=image[0]), width=replace(self.width, size=image[1]))

    @property
    def taps(self) -> int:
        return self.height.kernel * self.width.kernel

    @property
    def image(self) -> tuple[int, int]:
        return self.height.size, self.width.size

    @property
    def outputs(self) -> tuple[int, int]:
        return self.height.outputs, self.width.outputs

    @property
    def forward_counts(self) -> np.ndarray:
        """(Ho, Wo): taps inside the image for each output."""
        return self.box(np.ones(self.image))

    def box(self, q: np.ndarray) -> np.ndarray:
        """(..., H, W) -> (..., Ho, Wo): sum of q over the pixels each output reads."""
        return self.height.reads @ q @ self.width.reads.T

    def box_transpose(self, g: np.ndarray) -> np.ndarray:
        """(..., Ho, Wo) -> (..., H, W): sum of g over the outputs that touch each pixel; <box q, g> = <q, boxT g>."""
        return self.height.reads.T @ g @ self.width.reads

    def pair(self, kernel: np.ndarray) -> np.ndarray:
        """(H*W, H*W) -> (Ho*Wo, Ho*Wo): sum over taps t of K(pixel of i by t, pixel of i' by t); both inside."""
        by_rows = _along(kernel.reshape(2 * self.image), self.height, 0)
        return _along(by_rows, self.width, 1).reshape(2 * [math.prod(self.outputs)])

    def pair_transpose(self, kernel: np.ndarray) -> np.ndarray:
        """(Ho*Wo, Ho*Wo) -> (H*W, H*W): the adjoint of `pair`, for a covariance on its way back."""
        by_rows = _along(kernel.reshape(2 * self.outputs), self.height, 0, back=True)
        return _along(by_rows, self.width, 1, back=True).reshape(2 * [math.prod(self.image)])


def _along(kernel: np.ndarray, axis: Axis, position: int, back: bool = False) -> np.ndarray:
    """`pair` along one axis of the image, array axes ``position`` and ``position + 2``; back: its adjoint."""
    shape = list(kernel.shape)
    shape[position] = shape[position + 2] = axis.size if back else axis.outputs
    total = np.zeros(shape, kernel.dtype)
    into, out_of = (np.moveaxis(array, (position, position + 2), (0, 1)) for array in (total, kernel))
    for t in range(axis.kernel):
        if not axis.inside[:, t].any():
            continue
        first, last = np.flatnonzero(axis.inside[:, t])[[0, -1]]
        windows, pixels = slice(first, last + 1), slice(axis.source[first, t], axis.source[last, t] + 1, axis.stride)
        if back:
            into[pixels, pixels] += out_of[windows, windows]
        else:
            into[windows, windows] += out_of[pixels, pixels]
    return total
