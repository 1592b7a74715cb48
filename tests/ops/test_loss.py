"""The losses at extreme logits, their known values, and wrong input."""

import numpy as np
import pytest

from minires import ops
from tests.refusals import refused

LOGITS, LABELS = np.random.default_rng(0).standard_normal((4, 3)), np.array([0, 2, 1, 2])


def cross_entropy(logits, labels):
    loss, cache = ops.softmax_cross_entropy_forward(logits, labels)
    return loss, ops.softmax_cross_entropy_backward(np.ones_like(loss), cache)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equal_logits_cost_the_logarithm_of_the_number_of_classes(dtype):
    loss, dlogits = cross_entropy(np.full((5, 10), 3.0, dtype), np.arange(5))
    assert loss.shape == () and loss.dtype == dtype
    np.testing.assert_allclose(float(loss), np.log(10), rtol=1e-6)
    expected = (np.full((5, 10), 0.1) - np.eye(5, 10)) / 5
    np.testing.assert_allclose(dlogits, expected, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logits_of_ten_thousand(dtype):
    """Two classes 2e4 apart: the right one costs 0, the wrong one 2e4, the gradient is (p - y) / N; no overflow."""
    logits = np.array([[1e4, -1e4], [1e4, -1e4]], dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        right, d_right = cross_entropy(logits, np.array([0, 0]))
        wrong, d_wrong = cross_entropy(logits, np.array([1, 1]))
    assert right == 0 and np.all(d_right == 0)
    assert wrong == 2e4 and np.array_equal(d_wrong, [[0.5, -0.5], [0.5, -0.5]])


def test_adding_a_constant_to_the_logits_changes_nothing():
    loss, dlogits = cross_entropy(LOGITS, LABELS)
    shifted, dshifted = cross_entropy(LOGITS + 64.0, LABELS)
    np.testing.assert_allclose(shifted, loss, rtol=1e-13)
    np.testing.assert_allclose(dshifted, dlogits, atol=1e-14)
    np.testing.assert_allclose(dlogits.sum(axis=1), 0, atol=1e-16)


def test_the_upstream_scales_the_gradient():
    _, cache = ops.softmax_cross_entropy_forward(LOGITS, LABELS)
    one = ops.softmax_cross_entropy_backward(np.asarray(1.0), cache)
    np.testing.assert_allclose(ops.softmax_cross_entropy_backward(np.asarray(-2.5), cache), -2.5 * one, rtol=1e-15)


def test_a_plain_number_is_a_good_upstream():
    """dy = 1.0 in the contract: nobody should have to wrap it."""
    _, cache = ops.softmax_cross_entropy_forward(LOGITS, LABELS)
    expected = ops.softmax_cross_entropy_backward(np.asarray(1.0), cache)
    assert np.array_equal(ops.softmax_cross_entropy_backward(1.0, cache), expected)


def test_a_nan_logit_gives_a_nan_loss():
    logits = LOGITS.copy()
    logits[1, 1] = np.nan
    assert np.isnan(cross_entropy(logits, LABELS)[0])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "uint64"])
def test_labels_of_any_integer_dtype(dtype):
    assert np.array_equal(cross_entropy(LOGITS, LABELS.astype(dtype))[1], cross_entropy(LOGITS, LABELS)[1])


@pytest.mark.parametrize(
    ("error", "argument", "was", "logits", "labels"),
    [
        (ValueError, "logits", "(3,)", LOGITS[0], LABELS),
        (ValueError, "logits", "(0, 3)", LOGITS[:0], LABELS[:0]),
        (ValueError, "logits", "(4, 0)", LOGITS[:, :0], LABELS),
        (ValueError, "labels", "(3,)", LOGITS, LABELS[:3]),
        (ValueError, "labels", "(4, 1)", LOGITS, LABELS[:, None]),
        (ValueError, "labels", "3", LOGITS, np.array([0, 3, 1, 2])),
        (ValueError, "labels", "-1", LOGITS, np.array([0, -1, 1, 2])),
        (TypeError, "labels", "float64", LOGITS, LABELS.astype(float)),
        (TypeError, "labels", "float64", LOGITS, np.array([0, np.nan, 1, 2])),
        (TypeError, "labels", "bool", LOGITS, LABELS > 0),
    ],
)
def test_wrong_input_is_refused(error, argument, was, logits, labels):
    with refused(error, argument, was):
        ops.softmax_cross_entropy_forward(logits, labels)


def test_mean_squared_error_is_a_mean_over_all_entries():
    prediction, target = np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[1.0, 0.0], [3.0, 4.0]])
    loss, cache = ops.mse_forward(prediction, target)
    assert loss == 5 / 4
    assert np.array_equal(ops.mse_backward(1.0, cache), [[0, 1], [0, 0.5]])
    with refused(ValueError, "target", "(2, 1)"):
        ops.mse_forward(prediction, target[:, :1])
    with refused(ValueError, "prediction", "(0, 2)"):
        ops.mse_forward(prediction[:0], target[:0])
    with refused(ValueError, "cache", "(0, 2)"):
        ops.mse_backward(1.0, cache[:0])
