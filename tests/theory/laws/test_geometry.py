"""Tap counts against brute force, and box, its transpose and pair against their definitions."""

import numpy as np
import pytest

from minires.theory.laws.geometry import Axis, ConvGeometry
from tests.theory.reference.convolution import per_tap

AXES = [
    (size, kernel, stride, padding, dilation)
    for size in (4, 7, 8, 11)
    for kernel in (1, 2, 3, 7)
    for stride in (1, 2, 3)
    for padding in (0, 1, 3)
    for dilation in (1, 2)
    if dilation * (kernel - 1) + 1 <= size + 2 * padding
]


def incidence(size, kernel, stride, padding, dilation):
    """A[i, t, j] by three loops."""
    outputs = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    a = np.zeros((outputs, kernel, size))
    for i in range(outputs):
        for t in range(kernel):
            for j in range(size):
                a[i, t, j] = i * stride + t * dilation - padding == j
    return a


@pytest.mark.parametrize("setting", AXES)
def test_what_an_axis_reads_equals_brute_force(setting):
    a, axis = incidence(*setting), Axis(*setting)
    assert axis.outputs == len(a)
    np.testing.assert_array_equal(axis.inside, a.any(axis=2))
    np.testing.assert_array_equal(axis.reads, a.sum(axis=1))


@pytest.mark.parametrize("size", [3, 4, 8, 31])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_taps_of_a_same_convolution_have_a_closed_form(size, kernel):
    reach = (kernel - 1) // 2
    if size < reach:
        pytest.skip("the closed form needs an image at least as wide as the padding")
    assert Axis(size, kernel, padding=reach).inside.sum() == kernel * size - reach * (reach + 1)


@pytest.mark.parametrize(("size", "published"), [(4, 0.6944), (8, 0.8403), (16, 0.9184), (32, 0.9588), (224, 0.9941)])
def test_coverage_of_a_padded_3x3(size, published):
    coverage = ConvGeometry.of((size, size), 3, padding=1).forward_counts.mean() / 9
    assert coverage == pytest.approx((1 - 2 / (3 * size)) ** 2, rel=1e-14)
    assert round(coverage, 4) == published


def test_strided_1x1_leaves_three_quarters_of_the_pixels_without_gradient():
    counts = ConvGeometry.of((8, 8), 1, stride=2).box_transpose(np.ones((4, 4)))
    assert (counts == 0).mean() == 0.75


SETTINGS = [
    ((6, 9), (3, 3), (1, 1), (1, 1), (1, 1)),
    ((9, 7), (3, 5), (2, 1), (1, 2), (1, 1)),
    ((8, 11), (3, 2), (3, 2), (0, 1), (2, 2)),
    ((9, 9), (7, 7), (2, 2), (3, 3), (1, 1)),
    ((5, 4), (1, 1), (2, 2), (0, 0), (1, 1)),
]


@pytest.mark.parametrize("setting", SETTINGS)
def test_box_and_its_transpose_are_adjoint_and_sum_the_right_pixels(setting):
    image, kernel, stride, padding, dilation = setting
    geometry = ConvGeometry.of(*setting)
    rng = np.random.default_rng(0)
    q, g = rng.random(image), rng.random(geometry.outputs)
    a = incidence(image[0], kernel[0], stride[0], padding[0], dilation[0])
    b = incidence(image[1], kernel[1], stride[1], padding[1], dilation[1])
    np.testing.assert_allclose(geometry.box(q), np.einsum("itj,kul,jl->ik", a, b, q), rtol=1e-13)
    np.testing.assert_allclose((geometry.box(q) * g).sum(), (q * geometry.box_transpose(g)).sum(), rtol=1e-13)
    np.testing.assert_allclose(per_tap(geometry, q, g), np.einsum("itj,kul,jl,ik->tu", a, b, q, g), rtol=1e-13)
    np.testing.assert_allclose(geometry.forward_counts, a.sum((1, 2))[:, None] * b.sum((1, 2)), rtol=1e-13)


@pytest.mark.parametrize("setting", SETTINGS)
def test_pair_shifts_both_positions_by_the_same_tap(setting):
    image, kernel, stride, padding, dilation = setting
    geometry = ConvGeometry.of(*setting)
    pixels = image[0] * image[1]
    covariance = np.random.default_rng(1).random((pixels, pixels))
    a = incidence(image[0], kernel[0], stride[0], padding[0], dilation[0])
    b = incidence(image[1], kernel[1], stride[1], padding[1], dilation[1])
    taps = np.einsum("itj,kul->tuikjl", a, b).reshape(geometry.taps, -1, pixels)  # one selection matrix a tap
    expected = sum(tap @ covariance @ tap.T for tap in taps)
    np.testing.assert_allclose(geometry.pair(covariance), expected, rtol=1e-13)
    upstream = np.random.default_rng(2).random(expected.shape)
    back = sum(tap.T @ upstream @ tap for tap in taps)
    np.testing.assert_allclose(geometry.pair_transpose(upstream), back, rtol=1e-13)


def test_pair_of_a_diagonal_is_the_box_filter():
    geometry = ConvGeometry.of((5, 6), 3, padding=1)
    q = np.random.default_rng(2).random((5, 6))
    np.testing.assert_allclose(np.diag(geometry.pair(np.diag(q.ravel()))), geometry.box(q).ravel(), rtol=1e-14)


def test_a_window_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="over 13 pixels does not fit into 8"):
        Axis(8, 7, dilation=2)
