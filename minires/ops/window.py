"""What convolution and pooling share: a window that moves over an image, and how images lie in memory.

**NCHW in shape, channels-last in memory.** A batch of images has the shape (N, C, H, W), as in PyTorch and in the
papers. Its numbers lie in memory in the order (N, H, W, C), all channels of one pixel side by side, so that
`x.transpose(0, 2, 3, 1)` is a free view. Every op returns its images in this order. It accepts any other.

**Taps.** A window of kh x kw taps, dilation d, moves over the padded image with stride s. It stops at H_out x W_out
places, H_out = floor((H + 2p - d*(kh - 1) - 1) / s) + 1. At place (i, j), tap (a, b) lies on pixel
(i*s + a*d, j*s + b*d). There are few taps and many places, so all loops run over the taps. For one tap, the pixels
under all places are a single strided slice of the image, in which no pixel occurs twice.
"""

from itertools import product
from operator import index
from types import ModuleType
from typing import NamedTuple

from minires.backend import Array
from minires.checks import pair

Pair = int | tuple[int, int]


class Window(NamedTuple):
    """A window on images of one size. All pairs are (vertical, horizontal)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    out: tuple[int, int]
    """The number of places: (H_out, W_out)."""
    taps: list[tuple[slice, slice]]
    """For each tap in reading order: rows and columns of the padded image that lie under it, over all places."""


def place_window(
    size: tuple[int, int], kernel_size: Pair | Window, stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1
) -> Window:
    """The window on images of `size` (H, W). A window that is placed already is returned as it is.

    Raises TypeError or ValueError for invalid settings, and for a window larger than the padded image.
    """
    if isinstance(kernel_size, Window):
        return kernel_size
    kernel, stride = pair("kernel_size", kernel_size, 1), pair("stride", stride, 1)
    padding, dilation = pair("padding", padding, 0), pair("dilation", dilation, 1)
    h = _places("height", index(size[0]), kernel[0], stride[0], padding[0], dilation[0])
    w = _places("width", index(size[1]), kernel[1], stride[1], padding[1], dilation[1])
    rows = [slice(a * dilation[0], a * dilation[0] + h * stride[0], stride[0]) for a in range(kernel[0])]
    columns = [slice(b * dilation[1], b * dilation[1] + w * stride[1], stride[1]) for b in range(kernel[1])]
    return Window(kernel, stride, padding, dilation, (h, w), list(product(rows, columns)))


def _places(axis: str, size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    places = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    if places < 1:
        raise ValueError(
            f"kernel_size {kernel} with dilation {dilation} spans {dilation * (kernel - 1) + 1} pixels; expected at "
            f"most the padded {axis} of x, {size} + 2 * {padding} = {size + 2 * padding}"
        )
    return places


def pad(xp: ModuleType, x: Array, padding: tuple[int, int], value: float = 0) -> Array:
    """A copy of x (N, C, H, W) with `value` around each image: (N, C, H + 2ph, W + 2pw), in C order."""
    (ph, pw), (n, c, h, w) = padding, x.shape
    xpad = xp.full((n, c, h + 2 * ph, w + 2 * pw), value, x.dtype)
    xpad[:, :, ph : ph + h, pw : pw + w] = x
    return xpad


def unpad(xp: ModuleType, xpad: Array, padding: tuple[int, int]) -> Array:
    """The images inside the padding, channels-last in memory."""
    (ph, pw), (h, w) = padding, xpad.shape[2:]
    return channels_last(xp, xpad[:, :, ph : h - ph, pw : w - pw]).transpose(0, 3, 1, 2)


def channels_last(xp: ModuleType, x: Array) -> Array:
    """(N, C, H, W) in any memory order -> (N, H, W, C), contiguous. A view where x is channels-last already."""
    return xp.ascontiguousarray(x.transpose(0, 2, 3, 1))
