"""BatchNorm's identities, its accuracy far from zero, and wrong input. Laws: section 6 of the theory."""

import numpy as np
import pytest

from minires import ops
from tests.numeric import relative_error
from tests.refusals import refused

RNG = np.random.default_rng(5)
X = 3 + 2 * RNG.standard_normal((4, 3, 5, 6))
WEIGHT, BIAS, DY = 1 + RNG.random(3), RNG.standard_normal(3), RNG.standard_normal(X.shape)
AXES = (0, 2, 3)
EPSILON = np.finfo(float).eps


def test_the_output_has_mean_bias_and_the_stated_variance():
    """mean y = bias, var y = weight^2 var / (var + eps), var being the biased variance of x."""
    y, cache = ops.batchnorm_forward(X, WEIGHT, BIAS, eps=0.3)
    var = X.var(AXES)
    assert relative_error(y.mean(AXES), BIAS) <= 1e-13
    assert relative_error(y.var(AXES), WEIGHT**2 * var / (var + 0.3)) <= 1e-13
    assert relative_error(cache.mean, X.mean(AXES)) <= 1e-14
    assert relative_error(cache.var, var) <= 1e-14


def test_backward_identities():
    """sum dx = 0, and sum dx * xhat = weight eps (var + eps)^(-3/2) dweight: it is 0 if and only if eps is."""
    eps = 0.3
    _, cache = ops.batchnorm_forward(X, WEIGHT, BIAS, eps=eps)
    dx, dweight, dbias = ops.batchnorm_backward(DY, cache)
    var = X.var(AXES)
    xhat = (X - X.mean(AXES)[:, None, None]) / np.sqrt(var + eps)[:, None, None]
    assert np.all(np.abs(dx.sum(AXES)) <= 16 * EPSILON * np.abs(dx).sum(AXES))
    expected = WEIGHT * eps * (var + eps) ** -1.5 * dweight
    assert np.all(np.abs((dx * xhat).sum(AXES) - expected) <= 16 * EPSILON * np.abs(dx * xhat).sum(AXES))
    assert relative_error(dbias, DY.sum(AXES)) <= 1e-14
    assert relative_error(dweight, (DY * xhat).sum(AXES)) <= 1e-13


def test_a_large_mean_does_not_cancel():
    """float32 data at 1000 +- 1: E x^2 - (E x)^2 would lose every digit of the variance (1e6 * 6e-8 = 0.06)."""
    x = (1000 + np.random.default_rng(6).standard_normal((16, 3, 9, 9))).astype("float32")
    y, cache = ops.batchnorm_forward(x, np.ones(3, "float32"), np.zeros(3, "float32"))
    exact = x.astype("float64").var(AXES)
    assert relative_error(cache.var, exact) <= 1e-4
    assert abs(float(y.std()) - 1) <= 1e-4


@pytest.mark.parametrize("value", [178.5, 1000.1, 4321.0, -0.1])
@pytest.mark.parametrize("shape", [(1, 3, 500, 500), (2, 5, 224, 224), (32, 4, 16, 16), (900, 7)], ids=str)
def test_a_constant_channel_has_a_variance_of_zero(shape, value):
    x = np.full(shape, value, "float32")
    y, cache = ops.batchnorm_forward(x, np.ones(shape[1], "float32"), np.zeros(shape[1], "float32"))
    assert (cache.var == 0).all() and (cache.mean == x.flat[0]).all()
    assert abs(y).max() <= 1e-2 * max(1, abs(value) / 100)  # eps alone is left to divide rounding errors by


@pytest.mark.parametrize("which", ["first image", "first line", "first pixel", "last image"])
@pytest.mark.parametrize("k", [10, 100, 10000])
def test_an_outlier_costs_no_digits(which, k):
    """float32 with values of N(0, 1) and some k above: var against float64.

    A sum of the 4096 numbers in a column makes at most as many roundings of 6e-8 each, relative to itself.
    """
    x = np.random.default_rng(7).standard_normal((512, 2, 8, 8)).astype("float32")
    part = {"first image": x[:1], "first line": x[:, :, :1], "first pixel": x[:1, :, :1, :1], "last image": x[-1:]}
    part[which] += k
    _, cache = ops.batchnorm_forward(x, np.ones(2, "float32"), np.zeros(2, "float32"))
    assert relative_error(cache.var, x.astype("float64").var(AXES)) <= 4096 * 6e-8


@pytest.mark.parametrize("shape", [(10_000, 3), (4096, 2, 8, 8)], ids=str)
def test_the_mean_behind_an_outlying_first_image(shape):
    """Deviations from a first mean are summed again: N roundings of 6e-8, relative to a deviation's usual size."""
    x = np.random.default_rng(7).standard_normal(shape).astype("float32")
    x[0] += 1e4
    _, cache = ops.batchnorm_forward(x, np.ones(shape[1], "float32"), np.zeros(shape[1], "float32"))
    axes, exact = tuple({0, *range(2, len(shape))}), x.astype("float64")
    assert (abs(cache.mean - exact.mean(axes)) <= len(x) * 6e-8 * exact.std(axes)).all()


@pytest.mark.parametrize("brighter", [1.0, 100.0, 1e4])
def test_a_tall_image_with_a_bright_line_in_the_middle(brighter):
    """The rounding errors of a sum over M = 16,000 numbers, 48 times at worst."""
    x = (1e-3 * np.random.default_rng(9).standard_normal((1, 1, 4000, 4))).astype("float32")
    x[:, :, 2000] += brighter
    _, cache = ops.batchnorm_forward(x, np.ones(1, "float32"), np.zeros(1, "float32"))
    assert relative_error(cache.var, x.astype("float64").var(AXES)) <= 48 * 16_000 * 6e-8


def test_given_statistics_are_used_and_left_alone():
    mean, var = np.array([1.0, -2.0, 0.5]), np.array([0.5, 2.0, 1.0])
    kept = mean.copy(), var.copy()
    y, cache = ops.batchnorm_forward(X, WEIGHT, BIAS, mean=mean, var=var)
    column = (slice(None), None, None)
    expected = WEIGHT[column] * (X - mean[column]) / np.sqrt(var[column] + 1e-5) + BIAS[column]
    assert relative_error(y, expected) <= 1e-14
    dx, _, _ = ops.batchnorm_backward(DY, cache)
    assert relative_error(dx, DY * (WEIGHT / np.sqrt(var + 1e-5))[column]) <= 1e-14
    assert np.array_equal(mean, kept[0]) and np.array_equal(var, kept[1])


@pytest.mark.parametrize(
    ("argument", "was", "change"),
    [
        ("x", "(3, 5, 6)", {"x": X[0]}),
        ("x", "(0, 3, 5, 6)", {"x": X[:0]}),
        ("x", "(1, 3)", {"x": X[:1, :, 0, 0]}),
        ("x", "(1, 3, 1, 1)", {"x": X[:1, :, :1, :1]}),
        ("weight", "(4,)", {"weight": np.ones(4)}),
        ("weight", "(3, 1)", {"weight": np.ones((3, 1))}),
        ("bias", "(1,)", {"bias": np.ones(1)}),
        ("mean", "(4,)", {"mean": np.ones(4), "var": np.ones(3)}),
        ("var", "()", {"mean": np.ones(3), "var": np.ones(())}),
        ("var", "None", {"mean": np.ones(3)}),
        ("mean", "None", {"var": np.ones(3)}),
        ("eps", "-0.1", {"eps": -0.1}),
    ],
)
def test_wrong_input_is_refused(argument, was, change):
    with refused(ValueError, argument, was):
        ops.batchnorm_forward(**({"x": X, "weight": WEIGHT, "bias": BIAS} | change))


def test_missing_gain_or_offset_is_refused():
    with refused(TypeError, "weight", "None"):
        ops.batchnorm_forward(X, None, BIAS)
    with refused(TypeError, "bias", "None"):
        ops.batchnorm_forward(X, WEIGHT, None)


def test_statistics_on_one_value_are_fine_at_inference():
    y, _ = ops.batchnorm_forward(X[:1, :, :1, :1], WEIGHT, BIAS, mean=np.zeros(3), var=np.ones(3))
    assert y.shape == (1, 3, 1, 1)
