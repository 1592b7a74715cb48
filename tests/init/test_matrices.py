"""Orthogonal matrices are orthogonal and uniformly distributed; delta kernels keep norms; Dirac copies."""

import math

import numpy as np
import pytest

from minires import init, ops
from minires.init.matrices import haar
from tests.init.laws import assert_z
from tests.refusals import refused

EPSILON = np.finfo(float).eps
CHECKS = 6


@pytest.mark.parametrize("shape", [(8, 8), (5, 12), (12, 5), (4, 3, 3, 3), (40, 3, 3, 3)])
@pytest.mark.parametrize("gain", [1.0, math.sqrt(2)])
def test_orthogonal_for_every_draw(shape, gain):
    """W W^T = gain^2 I (or W^T W, if W is tall), so mean W^2 is the stated variance with no scatter at all."""
    weight = init.Orthogonal(gain).sample(shape, 2, np.float64)
    matrix = weight.reshape(shape[0], -1)
    matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    np.testing.assert_allclose(matrix @ matrix.T, gain**2 * np.eye(len(matrix)), atol=64 * EPSILON)
    assert (weight**2).mean() == pytest.approx(init.Orthogonal(gain).variance(shape), rel=1e-13)


def first_entry_scores(draw, n, repeats):
    """z-scores of E w = 0, E w^2 = 1/n and E w^4 = 3 / (n (n + 2)), for w the first entry of a Haar matrix.

    By symmetry w^2 ~ Beta(1/2, (n-1)/2), whose moments give the standard errors:
    E w^8 = 105 / (n (n + 2) (n + 4) (n + 6)).
    """
    rng = np.random.default_rng(0)
    w = np.array([draw(rng)[0, 0] for _ in range(repeats)])
    second, fourth = 1 / n, 3 / (n * (n + 2))
    eighth = 105 / (n * (n + 2) * (n + 4) * (n + 6))
    return (
        w.mean() * math.sqrt(repeats / second),
        ((w**2).mean() - second) * math.sqrt(repeats / (fourth - second**2)),
        ((w**4).mean() - fourth) * math.sqrt(repeats / (eighth - fourth**2)),
    )


@pytest.mark.parametrize("shape", [(6, 6), (8, 3)])
def test_the_distribution_is_haar(shape):
    for z in first_entry_scores(lambda rng: haar(*shape, rng), max(shape), 4000):
        assert_z(z, CHECKS)


def test_a_bare_qr_is_not_haar():
    """LAPACK's sign makes the first entry never positive: the check must see it."""
    z, _, _ = first_entry_scores(lambda rng: np.linalg.qr(rng.standard_normal((6, 6)))[0], 6, 4000)
    with pytest.raises(AssertionError):
        assert_z(z, CHECKS)


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 3, 2, 2), (4, 4, 3, 3)])
@pytest.mark.parametrize("kind", [init.Orthogonal, init.DeltaOrthogonal])
def test_kurtosis_is_that_of_many_draws(kind, shape):
    """Fourth moment over squared variance, pooled over draws; between draws the pooled moments are independent.

    t-test with 199 degrees of freedom at 1e-6: 5.0.
    """
    initializer = kind(1.3)
    rng = np.random.default_rng(4)
    fourth = [(initializer.sample(shape, rng, np.float64) ** 4).mean() for _ in range(200)]
    expected = initializer.kurtosis(shape) * initializer.variance(shape) ** 2
    t = (np.mean(fourth) - expected) / (np.std(fourth, ddof=1) / math.sqrt(len(fourth)))
    assert abs(t) <= 5.0


def test_delta_orthogonal_is_an_isometry_of_every_pixel():
    """Sum over channels of y^2 = gain^2 times that of x, for a 'same' convolution of stride 1."""
    weight = init.DeltaOrthogonal(gain=1.5).sample((7, 4, 3, 5), 0, np.float64)
    x = np.random.default_rng(1).standard_normal((4, 4, 5, 6))
    y, cache = ops.conv2d_forward(x, weight, padding=(1, 2))
    np.testing.assert_allclose((y**2).sum(1), 1.5**2 * (x**2).sum(1), rtol=1e-13)
    dx, _, _ = ops.conv2d_backward(y, cache)
    np.testing.assert_allclose(dx, 1.5**2 * x, rtol=0, atol=1e-13)


def test_a_spread_orthogonal_kernel_is_none():
    weight = init.Orthogonal().sample((36, 4, 3, 3), 0, np.float64)
    x = np.random.default_rng(1).standard_normal((4, 4, 5, 6))
    y, _ = ops.conv2d_forward(x, weight, padding=1)
    assert np.abs((y**2).sum(1) / (x**2).sum(1) - 1).max() > 0.1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", [(3, 3), (1, 1), (5, 3)])
def test_dirac_copies_bit_for_bit(kernel, dtype):
    weight = init.Dirac().sample((4, 4, *kernel), 0, dtype)
    x = np.random.default_rng(1).standard_normal((4, 4, 5, 6)).astype(dtype)
    y, _ = ops.conv2d_forward(x, weight, padding=(kernel[0] // 2, kernel[1] // 2))
    assert np.array_equal(y, x)


@pytest.mark.parametrize("shape", [(6, 4, 3, 3), (4, 6, 3, 3)])
def test_dirac_between_unequal_channels(shape):
    """The shared channels are copied, further ones are 0."""
    weight = init.Dirac().sample(shape, 0, np.float64)
    x = np.random.default_rng(1).standard_normal((4, shape[1], 5, 6))
    y, _ = ops.conv2d_forward(x, weight, padding=1)
    assert np.array_equal(y[:, :4], x[:, :4]) and not y[:, 4:].any()


def test_wrong_shapes_are_refused():
    with refused(ValueError, "shape", "(3, 4, 3, 3)"):
        init.DeltaOrthogonal().sample((3, 4, 3, 3), 0)
    for initializer in (init.Orthogonal(), init.DeltaOrthogonal(), init.Dirac()):
        with refused(ValueError, "shape", "(3,)"):
            initializer.sample((3,), 0)
