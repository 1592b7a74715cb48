"""im2col against its formula, written as loops over single pixels; col2im as its adjoint."""

import numpy as np
import pytest
from hypothesis import given, settings

from minires import ops
from tests.ops.geometry import as_pair, convolutions
from tests.refusals import refused

IMAGES = np.random.default_rng(0).standard_normal((4, 3, 5, 6))


def columns_by_the_formula(x, kernel, stride, padding, dilation):
    """cols[n, (c, a, b), (i, j)] = xpad[n, c, i*s + a*d, j*s + b*d], one number at a time."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = map(as_pair, (kernel, stride, padding, dilation))
    n, c, h, w = x.shape
    ho, wo = (h + 2 * ph - dh * (kh - 1) - 1) // sh + 1, (w + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    cols = np.zeros((n, c, kh, kw, ho, wo))
    for a, b, i, j in np.ndindex(kh, kw, ho, wo):
        row, column = i * sh + a * dh - ph, j * sw + b * dw - pw
        if 0 <= row < h and 0 <= column < w:
            cols[:, :, a, b, i, j] = x[:, :, row, column]
    return cols.reshape(n, c * kh * kw, ho * wo)


@settings(max_examples=100)
@given(convolutions())
def test_columns_are_the_formula_and_col2im_is_their_adjoint(convolution):
    x_shape, weight_shape, options = convolution
    rng = np.random.default_rng(1)
    x, kernel = rng.standard_normal(x_shape), weight_shape[2:]
    cols = ops.im2col(x, kernel, **options)
    assert np.array_equal(cols, columns_by_the_formula(x, kernel, **options))
    by_taps = cols.reshape(len(x), x_shape[1], -1, cols.shape[2]).transpose(0, 2, 1, 3).reshape(cols.shape)
    assert np.array_equal(ops.im2col(x, kernel, **options, order="abc"), by_taps)

    v = rng.standard_normal(cols.shape)
    mirrored = ops.col2im(v, x_shape, kernel, **options)
    terms = np.abs(cols * v).sum()
    assert abs(np.sum(cols * v) - np.sum(x * mirrored)) <= 16 * np.finfo(float).eps * max(terms, 1e-300)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_dtype_follows_the_input(dtype):
    cols = ops.im2col(IMAGES.astype(dtype), 3, padding=1)
    assert cols.dtype == dtype
    assert ops.col2im(cols, IMAGES.shape, 3, padding=1).dtype == dtype


def test_channels_and_taps_may_have_axes_of_their_own():
    v = np.random.default_rng(2).standard_normal((4, 3 * 4, 20))
    dx = ops.col2im(v, IMAGES.shape, 2)
    assert np.array_equal(ops.col2im(v.reshape(4, 3, 4, 20), IMAGES.shape, 2), dx)
    taps_first = np.ascontiguousarray(v.reshape(4, 3, 4, 20).transpose(2, 0, 3, 1)).transpose(1, 3, 0, 2)
    assert np.array_equal(ops.col2im(taps_first, IMAGES.shape, 2), dx)


def test_wrong_input_is_refused():
    with refused(ValueError, "x", "(3, 5, 6)"):
        ops.im2col(IMAGES[0], 3)
    with refused(TypeError, "x", "int64"):
        ops.im2col(np.ones((4, 3, 5, 6), int), 3)
    with refused(ValueError, "kernel_size", "7"):
        ops.im2col(IMAGES, 7)
    with refused(TypeError, "stride", "1.5"):
        ops.im2col(IMAGES, 3, stride=1.5)
    with refused(ValueError, "stride", "0"):
        ops.im2col(IMAGES, 3, stride=0)
    with refused(ValueError, "order", "bac"):
        ops.im2col(IMAGES, 3, order="bac")
    with refused(ValueError, "cols", "(4, 27, 11)"):
        ops.col2im(np.ones((4, 27, 11)), (4, 3, 5, 6), 3)
    with refused(ValueError, "cols", "(4, 4, 3, 20)"):
        ops.col2im(np.ones((4, 4, 3, 20)), IMAGES.shape, 2)
    with refused(ValueError, "x_shape", "(3, 5, 6)"):
        ops.col2im(np.ones((4, 27, 12)), (3, 5, 6), 3)
