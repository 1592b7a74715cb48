"""BatchNorm, sum and relu in one pass against the three ops in turn: the same bits, in every result."""

import numpy as np
import pytest

from minires import ops, parallel
from tests.refusals import refused


def bits(*arrays):
    return [np.ascontiguousarray(array).tobytes() for array in arrays]


def in_turn(x, weight, bias, shortcut, dy, **options):
    z, batchnorm = ops.batchnorm_forward(x, weight, bias, **options)
    y, relu = ops.relu_forward(z if shortcut is None else z + shortcut)
    g = ops.relu_backward(dy, relu)
    return y, *ops.batchnorm_backward(g, batchnorm), g, batchnorm.mean, batchnorm.var


def at_once(x, weight, bias, shortcut, dy, **options):
    y, caches = ops.batchnorm_relu_forward(x, weight, bias, shortcut, **options)
    return y, *ops.batchnorm_relu_backward(dy, caches), caches[0].mean, caches[0].var


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("has_shortcut", [False, True])
@pytest.mark.parametrize("shape", [(20, 8, 25, 26), (5, 3, 4, 7), (900, 9)], ids=str)
def test_the_bits_are_those_of_the_ops_in_turn(monkeypatch, shape, has_shortcut, frozen, dtype):
    monkeypatch.setenv("MINIRES_NUM_THREADS", "3")
    monkeypatch.setattr(parallel, "SMALL_BYTES", 0)  # small work is shared too
    rng = np.random.default_rng(5)
    x, shortcut, dy = (rng.standard_normal((3, *shape)) * (1 + (1j if dtype == "complex128" else 0))).astype(dtype)
    weight, bias, mean = rng.standard_normal((3, shape[1])).astype(dtype)
    options = {"mean": mean, "var": (np.abs(weight) + 1).astype(dtype)} if frozen else {}
    arguments = x, weight, bias, shortcut if has_shortcut else None, dy
    assert bits(*at_once(*arguments, **options)) == bits(*in_turn(*arguments, **options))


def test_a_nan_is_not_cut_off():
    x = np.ones((4, 2, 3, 3))
    x[1, 0, 2, 2] = np.nan
    y, caches = ops.batchnorm_relu_forward(x, np.ones(2), np.zeros(2))
    assert np.isnan(y[:, 0]).all() and not np.isnan(y[:, 1]).any()
    assert np.isnan(ops.batchnorm_relu_backward(np.ones_like(x), caches)[0][:, 0]).all()


def test_a_shortcut_of_another_shape_or_dtype_is_refused():
    x, ones = np.ones((4, 2, 3, 3)), np.ones(2)
    with refused(ValueError, "shortcut", "(4, 2, 3, 1)"):
        ops.batchnorm_relu_forward(x, ones, ones, x[..., :1])
    with refused(TypeError, "shortcut", "float32"):
        ops.batchnorm_relu_forward(x, ones, ones, x.astype("float32"))
