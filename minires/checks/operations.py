"""What an operation is called with: its arrays, their shapes and dtypes, and its sizes.

A forward or backward pass of a network runs through these checks alone.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from operator import attrgetter, index
from types import ModuleType
from typing import Any, NoReturn

import numpy as np

from minires.backend import FLOATS, Array, array_namespace
from minires.checks.wording import in_short, shown


def check_arrays(optional: dict[str, Array | None] | None = None, **arrays: Array) -> ModuleType:
    """The library of the named arrays; TypeError unless they share it and share a dtype the engine computes in.

    Those in `optional` may be None.
    """
    if optional:
        arrays |= {name: array for name, array in optional.items() if array is not None}
    try:
        dtypes = {*map(attrgetter("dtype"), arrays.values())}
    except AttributeError:
        _refuse_other_objects(arrays)
    xp = array_namespace(*arrays.values())
    if len(dtypes) > 1 or not dtypes <= COMPUTED:
        _refuse_dtypes(arrays)
    return xp


COMPUTED = {np.dtype(name) for name in FLOATS}


def _refuse_other_objects(objects: dict[str, object]) -> NoReturn:
    name, value = next((name, value) for name, value in objects.items() if not hasattr(value, "dtype"))
    raise TypeError(f"{name} is {in_short(value)}; expected an array, as from np.asarray") from None


def _refuse_dtypes(arrays: dict[str, Array]) -> NoReturn:
    """Says which array has the wrong dtype, and how to convert it."""
    for name, array in arrays.items():
        if array.dtype == np.uint8:
            raise TypeError(f"{name} has dtype uint8; expected {', '.join(FLOATS)}: {name}.astype(np.float32) / 255")
        if array.dtype not in COMPUTED:
            raise TypeError(
                f"{name} has dtype {array.dtype}; expected {', '.join(FLOATS)}: "
                f"convert it, as in {name}.astype(np.float32)"
            )
    (first, leader), *others = arrays.items()
    name, array = next((name, array) for name, array in others if array.dtype != leader.dtype)
    hint = ": convert x, as in x.astype(np.float32)" if (first, leader.dtype, array.dtype) == _DOUBLE_IMAGES else ""
    raise TypeError(f"{name} has dtype {array.dtype} but {first} has {leader.dtype}; expected one dtype for both{hint}")


_DOUBLE_IMAGES = "x", np.dtype("float64"), np.dtype("float32")
"""The most usual mistake: NumPy makes float64 of everything, and weights are float32."""


def check_axes(name: str, array: Array, axes: str) -> None:
    """ValueError unless `array` has the axes named in `axes`, such as "N, C, H, W", none of them empty."""
    if array.ndim != axes.count(",") + 1 or 0 in array.shape:
        empty = ", none of them empty" if 0 in array.shape else ""
        raise ValueError(f"{name} has shape {array.shape}; expected {axes.count(',') + 1} axes ({axes}){empty}")


def check_shape(name: str, array: Array, shape: tuple[int, ...], why: str) -> None:
    """ValueError unless `array` has exactly `shape`; `why` says where that shape comes from."""
    if array.shape != tuple(shape):
        raise ValueError(f"{name} has shape {array.shape}; expected {tuple(shape)}, {why}")


def cache_of(cache: Any, kind: type | None = None, size: int | None = None) -> Any:
    """The cache of a forward pass, of this kind (None: an array); TypeError for anything else, such as (y, cache)."""
    right = hasattr(cache, "shape") and not isinstance(cache, type) if kind is None else type(cache) is kind
    if not right or (size is not None and (len(cache) != size or not hasattr(cache[0], "shape"))):
        raise TypeError(f"cache is {in_short(cache)}; expected what the forward pass returned beside y: y, cache = ...")
    return cache


def check_upstream(dy: Array, shape: tuple[int, ...], like: Array) -> ModuleType:
    """The door of every backward: dy must look like the output y of the forward pass whose cache is used."""
    xp = check_arrays(dy=dy, **{"the forward's input": like})
    check_shape("dy", dy, shape, "the shape of the forward's output")
    return xp


def check_elementwise(dy: Array, cache: Array) -> ModuleType:
    """`check_upstream` for an op whose cache is one array of y's shape."""
    return check_upstream(dy, cache_of(cache).shape, cache)


def check_loss_upstream(dy: Array | float, like: Array) -> Array | float:
    """The dy of a loss: a plain number, or an array without axes in the dtype of the forward's input.

    A np.float64 becomes a plain float: it would turn float32 gradients into float64.
    """
    if 0 in getattr(like, "shape", ()):
        raise ValueError(f"cache is of a loss of nothing, {tuple(like.shape)}; expected that of a forward pass")
    if isinstance(dy, int | float):
        check_arrays(**{"the forward's input": like})
        return float(dy)
    check_upstream(dy, (), like)
    return dy


def check_labels(labels: Array | Sequence[int], logits: Array) -> Array:
    """The labels (N,) of logits (N, K) as an array; TypeError or ValueError unless they are whole numbers in 0..K-1."""
    n, k = logits.shape
    if isinstance(labels, list | tuple) and all(plain_index(label) is not None for label in labels):
        labels = np.asarray(labels)
    if hasattr(labels, "dtype"):
        array_namespace(labels)
    if getattr(labels, "shape", None) == (n, k) and k > 1:
        raise ValueError(f"labels has shape {(n, k)}, one-hot perhaps; expected {(n,)}, as from labels.argmax(axis=1)")
    if getattr(getattr(labels, "dtype", None), "kind", "O") not in "iu":
        raise TypeError(f"labels are {getattr(labels, 'dtype', in_short(labels))}; expected whole numbers")
    check_shape("labels", labels, (n,), f"one for each row of logits {logits.shape}")
    if isinstance(labels, np.ndarray):
        check_classes(labels, k)
    return labels


def check_classes(labels: Array, k: int) -> None:
    """ValueError unless all labels are in 0..K-1, the columns of the logits."""
    least, most = int(labels.min()), int(labels.max())
    if least < 0 or most >= k:
        worst = least if least < 0 else most
        raise ValueError(f"labels hold {worst}; expected 0..{k - 1}, since logits have {k} columns")


def check_channels(x_shape: tuple[int, ...], weight_shape: tuple[int, ...], groups: int = 1) -> None:
    """ValueError unless weight (out, in / groups, kh, kw) and x (N, in, H, W) fit."""
    channels, expected = x_shape[1], weight_shape[1] * whole("groups", groups)
    if channels == expected:
        check_groups(groups, channels, weight_shape[0])
    elif groups != 1:
        raise ValueError(
            f"x has shape {x_shape} and weight has shape {weight_shape}, groups is {groups}; expected weight "
            f"(out, {channels} / {groups}, kh, kw), since x has {channels} channels"
        )
    else:
        turned = x_shape[3] == expected  # (N, H, W, C), as matplotlib and TensorFlow have it
        hint = "; its last axis looks like the channels: x.transpose(0, 3, 1, 2) puts them in place" if turned else ""
        raise ValueError(
            f"x has shape {x_shape} and weight has shape {weight_shape}; expected weight "
            f"(out, {channels}, kh, kw), since x has {channels} channels{hint}"
        )


def check_groups(groups: int, in_channels: int, out_channels: int, name: str = "groups") -> int:
    """The number of groups; ValueError unless it divides both numbers of channels."""
    if in_channels % whole(name, groups) or out_channels % groups:
        channels = f"{in_channels} input channels and the {out_channels} output channels"
        channels = f"{in_channels} channels" if in_channels == out_channels else channels
        raise ValueError(f"{name} is {groups}; expected a number that divides the {channels}")
    return int(groups)


def check_same_padding(stride: tuple[int, int]) -> None:
    """ValueError for padding "same" with a stride: y could not be as large as x."""
    if stride != (1, 1):
        raise ValueError(f'padding is "same" and stride is {stride}; expected stride 1, or padding in pixels')


def check_half(padding: tuple[int, int], kernel: tuple[int, int]) -> None:
    """ValueError for a pool's padding of more than half its kernel: a window could lie on padding alone."""
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise ValueError(f"padding is {padding}; expected at most half of kernel_size {kernel}")


def check_batchnorm(x: Array, weight: Array, bias: Array, mean: Array | None, var: Array | None) -> ModuleType:
    """The library of the arguments; TypeError or ValueError if they do not fit."""
    xp = check_arrays({"mean": mean, "var": var}, x=x, weight=weight, bias=bias)
    if x.ndim not in (2, 4) or 0 in x.shape:
        raise ValueError(f"x has shape {x.shape}; expected (N, C) or (N, C, H, W), no axis empty")
    if (mean is None) != (var is None):
        raise ValueError("mean and var: one of them is None; expected both (inference) or neither (training)")
    given = (
        {"weight": weight, "bias": bias} if mean is None else {"weight": weight, "bias": bias, "mean": mean, "var": var}
    )
    for name, array in given.items():
        check_shape(name, array, x.shape[1:2], f"since x has {x.shape[1]} channels")
    if mean is None and x.size == x.shape[1]:
        raise ValueError(f"x has shape {x.shape}: one value per channel; expected at least 2 to take a variance of")
    return xp


def check_normalized_shape(x: Array, weight: Array, bias: Array) -> None:
    """ValueError unless weight and bias have the shape of the last axes of x, which then hold more than one value."""
    if not 0 < weight.ndim < x.ndim or weight.shape != x.shape[-weight.ndim :] or 0 in x.shape:
        raise ValueError(
            f"weight has shape {weight.shape} and x has shape {x.shape}; expected the shape of x's last axes, "
            f"(features,) = {x.shape[-1:]} or all but the first, {x.shape[1:]}, none of them empty"
        )
    check_shape("bias", bias, weight.shape, "the shape of weight")


def check_number(name: str, value: float, minimum: float, below: float = math.inf, most: float = math.inf) -> float:
    """`value` as a plain number; TypeError unless it is a real one, ValueError unless it is within the limits.

    It is finite, at least `minimum`, below `below` and at most `most`. A np.float64 becomes a plain
    float: it would turn float32 arrays into float64.
    """
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name} is {in_short(value)}; expected a number")
    if not (minimum <= value < below and value <= most):
        limit = "" if below == math.inf else f" and below {below}"
        limit += "" if most == math.inf else f" and at most {most}"
        raise ValueError(f"{name} is {value}; expected a number of at least {minimum}{limit}")
    return float(value)


def whole(name: str, value: int) -> int:
    """A size: TypeError unless `value` is a whole number, ValueError unless it is at least 1."""
    number = plain_index(value)
    if number is None:
        raise TypeError(f"{name} is {in_short(value)}; expected a whole number")
    if not 1 <= number <= MOST:
        raise ValueError(f"{name} is {number}; expected at least 1{' and a size that fits' if number > 1 else ''}")
    return number


def pair(name: str, value: int | tuple[int, int], minimum: int) -> tuple[int, int]:
    """An int or a pair of them -> (vertical, horizontal), each at least `minimum`."""
    both = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(both) != 2 or {*map(type, both)} != {int}:
        both = _plain_pair(name, value, both)
    if not minimum <= min(both) <= max(both) <= MOST:
        raise ValueError(f"{name} is {shown(value)}; expected at least {minimum}, and sizes that fit")
    return both


def _plain_pair(name: str, value: object, both: tuple) -> tuple[int, int]:
    plain = tuple(plain_index(v) for v in both)
    if len(both) != 2 or None in plain:
        raise TypeError(f"{name} is {shown(value)}; expected a whole number or a pair of them")
    return plain


def whole_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """`shape` as a tuple of plain integers; TypeError unless it is a shape, ValueError for a negative size."""
    sizes = tuple(shape) if isinstance(shape, tuple | list | range) else (None,)
    if {*map(type, sizes)} != {int}:
        sizes = tuple(map(plain_index, sizes))
    if None in sizes:
        raise TypeError(f"shape is {shown(shape)}; expected whole numbers, as in (64, 3, 3, 3)")
    if not 0 <= min(sizes, default=0) <= max(sizes, default=0) <= MOST:
        raise ValueError(f"shape is {shown(shape)}; expected sizes of at least 0, and no larger than fit")
    return sizes


def plain_index(value: object) -> int | None:
    """`value` as a plain whole number; None where it is none."""
    if isinstance(value, bool | np.bool_ | type):
        return None
    try:
        return index(value)
    except Exception:
        return None


MOST = 2**40
"""No size is larger: NumPy could not even count the bytes."""
