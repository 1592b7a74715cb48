"""What every op shares: the memory order of images, and the checks at the door.

**NCHW in shape, channels-last in memory.** A batch of images has the shape (N, C, H, W), as in PyTorch and in the
papers. Its numbers, however, lie in memory in the order of (N, H, W, C): all channels of one pixel side by side.
`x.transpose(0, 2, 3, 1)` is then a free view with long contiguous rows, which is what a matrix product, a sum over
pixels and a plain copy all want. Every op returns its images so. An array that arrives in another order, straight
from a file say, is accepted and costs one copy.
"""

from __future__ import annotations

import math
import numbers
from types import ModuleType

from minires.backend import FLOATS, Array, array_namespace


def channels_last(xp: ModuleType, x: Array) -> Array:
    """(N, C, H, W) in any memory order -> (N, H, W, C), contiguous; a view where x is channels-last already."""
    return xp.ascontiguousarray(x.transpose(0, 2, 3, 1))


def channels_first(rows: Array) -> Array:
    """(N, H, W, C) -> (N, C, H, W): a view, so the memory stays channels-last."""
    return rows.transpose(0, 3, 1, 2)


def image_batch(rows: Array, shape: tuple[int, ...]) -> Array:
    """Rows of any width, channels-last, back in the shape (N, C, H, W) or (N, C) of the array they came from."""
    if len(shape) == 2:
        return rows.reshape(shape)
    n, c, h, w = shape
    return channels_first(rows.reshape(n, h, w, c))


def column_sums(xp: ModuleType, rows: Array) -> Array:
    """(M, K) -> (K,): the sum over rows, as a product with ones (BLAS is faster at it than `sum(0)`)."""
    return xp.ones(len(rows), rows.dtype) @ rows


# --- checks --------------------------------------------------------------------------------------------------------


def check_arrays(optional: dict[str, Array | None] | None = None, **arrays: Array) -> ModuleType:
    """The library of the named arrays; TypeError unless they share it and share a dtype the engine computes in.

    Those in `optional` may be None.
    """
    present = arrays | {name: array for name, array in (optional or {}).items() if array is not None}
    for name, array in present.items():
        if not hasattr(array, "dtype"):
            raise TypeError(f"{name} is {_in_short(array)}; expected an array, as from np.asarray")
    xp = array_namespace(*present.values())
    first, leader = next(iter(present.items()))
    for name, array in present.items():
        if array.dtype.name not in FLOATS:
            raise TypeError(
                f"{name} has dtype {array.dtype}; expected {', '.join(FLOATS)}: "
                f"convert it, as in {name}.astype(np.float32)"
            )
        if array.dtype != leader.dtype:
            raise TypeError(
                f"{name} has dtype {array.dtype} but {first} has {leader.dtype}; expected one dtype for both"
            )
    return xp


def _in_short(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def check_number(name: str, value: float, minimum: float, below: float = math.inf) -> float:
    """`value` as a plain number; TypeError unless it is a real one, ValueError unless minimum <= value < below.

    (NaN never is. A np.float64 is made plain, since it would turn float32 arrays into float64.)
    """
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; expected a number")
    if not minimum <= value < below:
        limit = "" if below == math.inf else f" and below {below}"
        raise ValueError(f"{name} is {value}; expected a number of at least {minimum}{limit}")
    return float(value)


def check_ndim(name: str, array: Array, axes: str) -> None:
    """ValueError unless `array` has the axes named in `axes`, such as "N, C, H, W", none of them empty."""
    if array.ndim != len(axes.split(",")):
        raise ValueError(f"{name} has shape {array.shape}; expected {array_axes(axes)}")
    if 0 in array.shape:
        raise ValueError(f"{name} has shape {array.shape}; expected {array_axes(axes)} without an empty axis")


def array_axes(axes: str) -> str:
    return f"{axes.count(',') + 1} axes ({axes})"


def check_shape(name: str, array: Array, shape: tuple[int, ...], why: str) -> None:
    """ValueError unless `array` has exactly `shape`; `why` says where that shape comes from."""
    if array.shape != tuple(shape):
        raise ValueError(f"{name} has shape {array.shape}; expected {tuple(shape)}, {why}")


def check_upstream(dy: Array, shape: tuple[int, ...], like: Array) -> ModuleType:
    """The door of every backward: dy must look like the output y of the forward pass whose cache is used."""
    xp = check_arrays(dy=dy, **{"the forward's input": like})
    check_shape("dy", dy, shape, "the shape of the forward's output")
    return xp


def loss_upstream(dy: Array | float, like: Array) -> Array | float:
    """The dy of a loss: a plain number, or an array without axes in the dtype of the forward's input.

    A np.float64 counts as a plain number, and is made one: as an array it would turn float32 gradients into float64.
    """
    if isinstance(dy, int | float):
        return float(dy)
    check_upstream(dy, (), like)
    return dy


def whole(name: str, value: int) -> int:
    """A size: TypeError unless `value` is a whole number, ValueError unless it is at least 1."""
    if not hasattr(value, "__index__") or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; expected a whole number")
    if value < 1:
        raise ValueError(f"{name} is {value}; expected at least 1")
    return int(value)


def pair(name: str, value: int | tuple[int, int], minimum: int) -> tuple[int, int]:
    """An int or a pair of them -> (vertical, horizontal), each at least `minimum`."""
    both = (value, value) if not isinstance(value, tuple | list) else tuple(value)
    if len(both) != 2 or not all(hasattr(v, "__index__") and not isinstance(v, bool) for v in both):
        raise TypeError(f"{name} is {value!r}; expected a whole number or a pair of them")
    if min(both) < minimum:
        raise ValueError(f"{name} is {value!r}; expected at least {minimum}")
    return int(both[0]), int(both[1])


def output_size(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> tuple[int, int]:
    """How many places the window has, (H_out, W_out): floor((H + 2p - d(k - 1) - 1) / s) + 1 for each axis."""
    result = []
    for axis, n, k, s, p, d in zip(("height", "width"), size, kernel, stride, padding, dilation, strict=True):
        extent = d * (k - 1) + 1
        if extent > n + 2 * p:
            raise ValueError(
                f"kernel_size {k} with dilation {d} spans {extent} pixels; expected at most the padded {axis} "
                f"of x, {n} + 2 * {p} = {n + 2 * p}"
            )
        result.append((n + 2 * p - extent) // s + 1)
    return result[0], result[1]
