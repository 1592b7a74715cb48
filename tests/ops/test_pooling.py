"""Pooling on windows small enough to read, and wrong input. (Gradients: test_gradients.py, ties: tests/torch.)"""

import numpy as np
import pytest

from minires import ops
from tests.refusals import refused

X = np.random.default_rng(0).standard_normal((4, 3, 5, 6))
POOLS = ["max", "avg"]


def forward(kind, *arguments, **options):
    return getattr(ops, f"{kind}_pool2d_forward")(*arguments, **options)


def test_max_pool_gives_the_gradient_to_the_first_maximum():
    x = np.array([[1.0, 5.0, 5.0], [5.0, 0.0, 5.0]]).reshape(1, 1, 2, 3)
    y, cache = ops.max_pool2d_forward(x, (2, 2), stride=1)
    assert np.array_equal(y[0, 0], [[5, 5]])
    dx = ops.max_pool2d_backward(np.array([[[[1.0, 10.0]]]]), cache)
    assert np.array_equal(dx[0, 0], [[0, 11, 0], [0, 0, 0]])


def test_max_pool_never_picks_the_padding():
    x = -np.ones((1, 1, 3, 3))
    y, cache = ops.max_pool2d_forward(x, 3, stride=2, padding=1)
    assert np.array_equal(y, -np.ones((1, 1, 2, 2)))
    dx = ops.max_pool2d_backward(np.ones_like(y), cache)
    assert dx.sum() == 4


def test_avg_pool_counts_the_padding():
    y, _ = ops.avg_pool2d_forward(np.ones((1, 1, 3, 3)), 3, stride=2, padding=1)
    assert np.allclose(y[0, 0], 4 / 9, atol=1e-15)


def test_stride_is_the_window_by_default():
    assert forward("max", X, (2, 3))[0].shape == forward("avg", X, (2, 3))[0].shape == (4, 3, 2, 2)


@pytest.mark.parametrize("kind", POOLS)
def test_nan_stays_visible(kind):
    x = X.copy()
    x[1, 2, 3, 4] = np.nan
    y, _ = forward(kind, x, 2)
    assert np.isnan(y[1, 2, 1, 2]) and np.isnan(y).sum() == 1


@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize(
    ("error", "argument", "was", "change"),
    [
        (ValueError, "x", "(3, 5, 6)", {"x": X[0]}),
        (ValueError, "x", "(0, 3, 5, 6)", {"x": X[:0]}),
        (ValueError, "kernel_size", "6", {"kernel_size": 6}),
        (ValueError, "kernel_size", "0", {"kernel_size": 0}),
        (TypeError, "kernel_size", "2.0", {"kernel_size": 2.0}),
        (TypeError, "kernel_size", "(2, 2, 2)", {"kernel_size": (2, 2, 2)}),
        (ValueError, "stride", "0", {"stride": 0}),
        (ValueError, "padding", "-1", {"padding": -1}),
        (ValueError, "padding", "2", {"padding": 2}),
    ],
)
def test_wrong_input_is_refused(kind, error, argument, was, change):
    """Padding beyond half the window (PyTorch's rule): some windows would lie in the padding alone."""
    arguments = {"x": X, "kernel_size": 2} | change
    with refused(error, argument, was):
        forward(kind, arguments.pop("x"), arguments.pop("kernel_size"), **arguments)


def test_global_pooling_wants_images():
    with refused(ValueError, "x", "(4, 3)"):
        ops.global_avg_pool2d_forward(X[:, :, 0, 0])


def test_padding_may_not_be_an_array():
    """What can be compared with a word element by element is no word."""
    for pool in (ops.max_pool2d_forward, ops.avg_pool2d_forward):
        with pytest.raises(TypeError, match="padding is an array"):
            pool(np.ones((2, 3, 4, 4)), 2, padding=np.ones((2, 3)))


def test_with_ceil_mode_a_window_may_be_larger_than_the_image():
    """As in PyTorch: the one window there is holds the whole image, and what sticks out counts nowhere."""
    x = np.random.default_rng(0).standard_normal((2, 3, 3, 2))
    y, cache = ops.max_pool2d_forward(x, 4, ceil_mode=True)
    assert y.shape == (2, 3, 1, 1) and np.array_equal(y[..., 0, 0], x.max(axis=(2, 3)))
    assert np.array_equal(ops.max_pool2d_backward(np.ones_like(y), cache), x == x.max(axis=(2, 3), keepdims=True))
    y, cache = ops.avg_pool2d_forward(x, 4, ceil_mode=True)
    assert np.allclose(y[..., 0, 0], x.mean(axis=(2, 3)))
    assert np.allclose(ops.avg_pool2d_backward(np.ones_like(y), cache), 1 / 6)
    with refused(ValueError, "kernel_size", "4"):
        ops.max_pool2d_forward(x, 4)
