"""What convolution and pooling share: a window that moves over an image, and how images lie in memory.

**NCHW in shape, channels-last in memory.** A batch of images has the shape (N, C, H, W), as in PyTorch and in the
papers. Its numbers lie in memory in the order (N, H, W, C), all channels of one pixel side by side, so that
`x.transpose(0, 2, 3, 1)` is a free view. Every op returns its images in this order. It accepts any other.

**Taps.** A window of kh x kw taps, dilation d, moves over the padded image with stride s. It stops at H_out x W_out
places, H_out = floor((H + 2p - d*(kh - 1) - 1) / s) + 1 (with `ceil`, rounded up where that adds a window that begins
inside the image; with padding "same", stride 1, as many as there are pixels). At place (i, j), tap (a, b) lies on pixel
(i*s + a*d, j*s + b*d). There are few taps and many places, so all loops run over the taps. For one tap, the pixels
under all places are a single strided slice of the image, in which no pixel occurs twice.
"""

from itertools import product
from operator import index
from types import ModuleType
from typing import Any, NamedTuple

from minires.backend import Array
from minires.checks import check_same_padding, pair

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
    extra: tuple[int, int]
    """Padding at the bottom and at the right alone: for padding "same" with an even kernel, and for `ceil`."""


def place_window(
    size: tuple[int, int],
    kernel_size: Pair | Window,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    ceil: bool = False,
) -> Window:
    """The window on images of `size` (H, W). A window that is placed already is returned as it is.

    padding "same" (stride 1 only): half of what the kernel covers on each side, so that y is as large as x.

    Raises TypeError or ValueError for invalid settings, and for a window larger than the padded image.
    """
    if isinstance(kernel_size, Window):
        return kernel_size
    kernel, stride = pair("kernel_size", kernel_size, 1), pair("stride", stride, 1)
    dilation, extra = pair("dilation", dilation, 1), (0, 0)
    if isinstance(padding, str) and padding == "same":
        check_same_padding(stride)
        around = dilation[0] * (kernel[0] - 1), dilation[1] * (kernel[1] - 1)
        padding, extra = (around[0] // 2, around[1] // 2), (around[0] % 2, around[1] % 2)
    padding = pair("padding", padding, 0)
    h, below = _places("height", index(size[0]), kernel[0], stride[0], padding[0], dilation[0], extra[0], ceil)
    w, right = _places("width", index(size[1]), kernel[1], stride[1], padding[1], dilation[1], extra[1], ceil)
    rows = [slice(a * dilation[0], a * dilation[0] + h * stride[0], stride[0]) for a in range(kernel[0])]
    columns = [slice(b * dilation[1], b * dilation[1] + w * stride[1], stride[1]) for b in range(kernel[1])]
    return Window(kernel, stride, padding, dilation, (h, w), list(product(rows, columns)), (below, right))


def _places(
    axis: str, size: int, kernel: int, stride: int, padding: int, dilation: int, extra: int, ceil: bool
) -> tuple[int, int]:
    """(number of places, extra padding behind) along one axis."""
    room = size + 2 * padding + extra - dilation * (kernel - 1) - 1
    places = room // stride + 1
    if ceil and room % stride and places * stride < size + padding:
        places, extra = places + 1, extra + stride - room % stride
    if places < 1:
        raise ValueError(
            f"kernel_size {kernel} with dilation {dilation} spans {dilation * (kernel - 1) + 1} pixels; expected at "
            f"most the padded {axis} of x, {size} + 2 * {padding} = {size + 2 * padding}"
        )
    return places, extra


def pad_shape(shape: tuple[int, ...], window: Window) -> tuple[int, ...]:
    """The shape of images (N, C, H, W) with the window's padding around them."""
    (n, c, h, w), (ph, pw), (below, right) = shape, window.padding, window.extra
    return n, c, h + 2 * ph + below, w + 2 * pw + right


def inside(xpad: Array, shape: tuple[int, ...], window: Window) -> Array:
    """A view: what lies inside the padding."""
    (ph, pw), (h, w) = window.padding, shape[2:]
    return xpad[:, :, ph : ph + h, pw : pw + w]


def pad(xp: ModuleType, x: Array, window: Window, value: float = 0) -> Array:
    """A copy of x (N, C, H, W) with the window's padding around each image."""
    xpad = filled(xp, pad_shape(x.shape, window), value, x.dtype)
    inside(xpad, x.shape, window)[...] = x
    return xpad


def filled(xp: ModuleType, shape: tuple[int, ...], value: float, dtype: Any) -> Array:
    """New images of `shape` (N, C, H, W), channels-last in memory, every number `value`."""
    n, c, h, w = shape
    return xp.full((n, h, w, c), value, dtype).transpose(0, 3, 1, 2)


def channels_last(xp: ModuleType, x: Array) -> Array:
    """(N, C, H, W) in any memory order -> (N, H, W, C), contiguous. A view where x is channels-last already."""
    return xp.ascontiguousarray(x.transpose(0, 2, 3, 1))


def channels_last_memory(xp: ModuleType, x: Array) -> Array:
    """x (N, C, H, W), copied if its memory is in another order; an array with other axes as it is."""
    return channels_last(xp, x).transpose(0, 3, 1, 2) if x.ndim == 4 else x
