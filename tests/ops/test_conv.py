"""Convolution against its defining sum, one output at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import ops
from tests.ops.geometry import convolutions
from tests.refusals import refused

TOLERANCE = 1e-12


def draw(*shapes, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def assert_close(got, expected):
    """To 1e-12 of the largest entry; a window that never meets x gives zeros, here as there."""
    assert got.shape == expected.shape
    assert np.max(np.abs(got - expected)) <= TOLERANCE * np.max(np.abs(expected))


def by_definition(x, weight, bias, dy, stride, padding, dilation):
    """y, dx, dweight, dbias: each output is a sum over its patch, and sends dy back to what it was made of."""
    (sh, sw), (ph, pw), (dh, dw) = (v if isinstance(v, tuple) else (v, v) for v in (stride, padding, dilation))
    xpad = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    kh, kw = weight.shape[2:]
    y, dxpad, dweight = np.zeros(dy.shape), np.zeros(xpad.shape), np.zeros(weight.shape)
    for i, j in np.ndindex(dy.shape[2:]):
        rows, columns = i * sh + dh * np.arange(kh), j * sw + dw * np.arange(kw)
        patch = np.s_[:, :, rows[:, None], columns]
        y[:, :, i, j] = np.einsum("ncab,ocab->no", xpad[patch], weight)
        dweight += np.einsum("no,ncab->ocab", dy[:, :, i, j], xpad[patch])
        dxpad[patch] += np.einsum("no,ocab->ncab", dy[:, :, i, j], weight)
    y = y if bias is None else y + bias[:, None, None]
    return y, dxpad[:, :, ph : ph + x.shape[2], pw : pw + x.shape[3]], dweight, dy.sum((0, 2, 3))


def assert_same_convolution(x, weight, bias, options):
    y, cache = ops.conv2d_forward(x, weight, bias, **options)
    (dy,) = draw(y.shape, seed=1)
    dx, dweight, dbias = ops.conv2d_backward(dy, cache)
    expected, expected_dx, expected_dweight, expected_dbias = by_definition(x, weight, bias, dy, **options)
    assert_close(y, expected)
    assert_close(dx, expected_dx)
    assert_close(dweight, expected_dweight)
    assert (dbias is None) == (bias is None)
    if bias is not None:
        assert_close(dbias, expected_dbias)


@settings(max_examples=300)
@given(convolutions(), st.booleans())
def test_equals_the_defining_sum_for_any_geometry(convolution, has_bias):
    x_shape, weight_shape, options = convolution
    x, weight, bias = draw(x_shape, weight_shape, weight_shape[:1])
    assert_same_convolution(x, weight, bias if has_bias else None, options)


def test_the_result_does_not_share_memory_with_inputs():
    """A second call must not change what the first one returned."""
    x, weight = draw((4, 3, 6, 5), (4, 3, 3, 3))
    y, _ = ops.conv2d_forward(x, weight)
    kept = y.copy()
    ops.conv2d_forward(-x, weight)
    assert np.array_equal(y, kept)


X, WEIGHT, BIAS = draw((4, 3, 5, 6), (2, 3, 3, 3), (2,))


@pytest.mark.parametrize(
    ("error", "argument", "was", "change"),
    [
        (ValueError, "x", "(3, 5, 6)", {"x": X[0]}),
        (ValueError, "x", "(0, 3, 5, 6)", {"x": X[:0]}),
        (ValueError, "weight", "(2, 3, 3)", {"weight": WEIGHT[..., 0]}),
        (ValueError, "weight", "(2, 2, 3, 3)", {"weight": WEIGHT[:, :2]}),
        (ValueError, "weight", "(0, 3, 3, 3)", {"weight": WEIGHT[:0], "bias": None}),
        (ValueError, "bias", "(3,)", {"bias": np.zeros(3)}),
        (ValueError, "bias", "(2, 1)", {"bias": np.zeros((2, 1))}),
        (ValueError, "bias", "()", {"bias": np.zeros(())}),
        (ValueError, "kernel_size", "3", {"x": X[:, :, :2]}),
        (ValueError, "kernel_size", "dilation 3", {"dilation": 3}),
        (ValueError, "stride", "0", {"stride": 0}),
        (ValueError, "stride", "(1, -1)", {"stride": (1, -1)}),
        (ValueError, "padding", "-1", {"padding": -1}),
        (ValueError, "dilation", "0", {"dilation": 0}),
        (TypeError, "stride", "1.0", {"stride": 1.0}),
        (TypeError, "stride", "None", {"stride": None}),
        (TypeError, "stride", "True", {"stride": True}),
        (TypeError, "padding", "(1, 1, 1)", {"padding": (1, 1, 1)}),
        (TypeError, "padding", "'valid'", {"padding": "valid"}),
        (ValueError, "padding", "same", {"padding": "same", "stride": 2}),
        (ValueError, "groups", "2", {"groups": 2}),
        (TypeError, "dilation", "(1, 1.5)", {"dilation": (1, 1.5)}),
    ],
    ids=lambda value: None if isinstance(value, type | dict) else value,
)
def test_wrong_input_is_refused(error, argument, was, change):
    arguments = {"x": X, "weight": WEIGHT, "bias": BIAS} | change
    with refused(error, argument, was):
        ops.conv2d_forward(arguments.pop("x"), arguments.pop("weight"), arguments.pop("bias"), **arguments)
