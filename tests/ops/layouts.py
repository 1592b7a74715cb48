"""The same numbers in many memory layouts: an op must not care which one it gets."""

import numpy as np


def padded_view(x):
    """x inside a larger array: gaps between rows, an offset at the start."""
    room = np.full([size + 2 for size in x.shape], np.nan if x.dtype.kind in "fc" else -1).astype(x.dtype)
    view = room[tuple(slice(1, -1) for _ in x.shape)]
    view[...] = x
    return view


def every_second(x):
    """x as every second entry, along each axis, of a larger array."""
    room = np.full([2 * size for size in x.shape], np.nan if x.dtype.kind in "fc" else -1).astype(x.dtype)
    view = room[tuple(slice(None, None, 2) for _ in x.shape)]
    view[...] = x
    return view


def reversed_view(x):
    """x with negative strides along each axis."""
    flip = tuple(slice(None, None, -1) for _ in x.shape)
    return np.ascontiguousarray(x[flip])[flip]


def channels_last(x):
    """(N, C, H, W) in shape, (N, H, W, C) in memory; other arrays as they are."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) if x.ndim == 4 else x


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


LAYOUTS = {
    "C order": np.ascontiguousarray,
    "Fortran order": np.asfortranarray,
    "channels last": channels_last,
    "inside a larger array": padded_view,
    "every second entry": every_second,
    "negative strides": reversed_view,
    "read-only": read_only,
}
