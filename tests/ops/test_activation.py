"""Activations at their edges: at 0, far out, at NaN, for complex numbers. (Gradients: test_gradients.py.)"""

import numpy as np
import pytest

from minires import ops
from tests.refusals import refused

NAMES = ["relu", "leaky_relu", "tanh", "sigmoid"]


def run(name, x, dy=None, **options):
    y, cache = getattr(ops, f"{name}_forward")(x, **options)
    return y, getattr(ops, f"{name}_backward")(np.ones_like(x) if dy is None else dy, cache)


def test_the_slope_at_zero_is_the_left_one():
    """As PyTorch: relu'(0) = 0, leaky_relu'(0) = slope; minus zero likewise."""
    zeros = np.array([0.0, -0.0])
    assert np.array_equal(run("relu", zeros)[1], [0, 0])
    assert np.array_equal(run("leaky_relu", zeros, slope=0.2)[1], [0.2, 0.2])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_far_out_nothing_overflows(dtype):
    """sigmoid(-1e4) is 0 and its slope 0, without a warning (errors in this block)."""
    x = np.array([-1e4, -200, 200, 1e4], dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for name, low, high in (("sigmoid", 0, 1), ("tanh", -1, 1)):
            y, dx = run(name, x)
            np.testing.assert_allclose(y, [low, low, high, high], atol=1e-80)
            np.testing.assert_allclose(dx, 0, atol=1e-80)


@pytest.mark.parametrize("name", NAMES)
def test_nan_and_infinity_stay_visible(name):
    """A NaN must not be turned into a number on its way: training has to see it."""
    y, _ = run(name, np.array([np.nan, 1.0]))
    assert np.isnan(y[0]) and np.isfinite(y[1])
    expected = {"relu": (0, np.inf), "leaky_relu": (-np.inf, np.inf), "tanh": (-1, 1), "sigmoid": (0, 1)}[name]
    assert tuple(run(name, np.array([-np.inf, np.inf]))[0]) == expected


@pytest.mark.parametrize("slope", [0.0, 1.0, 0.3])
def test_leaky_relu_of_any_allowed_slope(slope):
    x = np.array([-2.0, -0.5, 0.5, 2.0])
    y, dx = run("leaky_relu", x, slope=slope)
    assert np.array_equal(y, np.where(x > 0, x, slope * x))
    assert np.array_equal(dx, np.where(x > 0, 1, slope))


@pytest.mark.parametrize("name", NAMES)
def test_complex_numbers_take_the_branch_of_their_real_part(name):
    x = np.array([-1.5, -0.2, 0.3, 2.0])
    y, _ = run(name, x + 1e-20j)
    expected, slope = run(name, x)
    np.testing.assert_allclose(y.real, expected, rtol=1e-15)
    np.testing.assert_allclose(y.imag / 1e-20, slope, rtol=1e-14)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 4)])
def test_any_shape_goes(name, shape):
    y, dx = run(name, np.full(shape, 0.5))
    assert y.shape == dx.shape == shape


def test_a_negative_or_nonsense_slope_is_refused():
    """A slope below 0 would make the derivative unrecoverable from the output."""
    with refused(ValueError, "slope", "-0.1"):
        ops.leaky_relu_forward(np.ones(3), -0.1)
    with refused(TypeError, "slope", "'0.1'"):
        ops.leaky_relu_forward(np.ones(3), "0.1")
    with refused(ValueError, "slope", "nan"):
        ops.leaky_relu_forward(np.ones(3), float("nan"))
