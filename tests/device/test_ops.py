"""Every op on the fake GPU: the host's numbers, on the device, without waiting for it once."""

import numpy as np
import pytest

from minires.backend import to_device, to_numpy
from minires.fake_gpu import DeviceArray, device, waits
from tests.ops.cases import CASES

TOLERANCE = 1e-13


def on_device(arrays):
    return [to_device(array, device) for array in arrays]


def assert_same(got, expected):
    """On the device, and the host's numbers: to rounding, for the sums are put together in another order."""
    assert isinstance(got, DeviceArray)
    assert got.shape == np.shape(expected) and got.dtype == expected.dtype
    scale = np.max(np.abs(expected), initial=0.0)
    assert np.max(np.abs(to_numpy(got) - expected), initial=0.0) <= TOLERANCE * scale


def check(case, dtype="float64"):
    inputs = [a.astype(dtype) if a.dtype.kind == "f" else a for a in case.inputs()]
    y, cache = case.forward(*inputs)
    dy = np.asarray(np.random.default_rng(1).standard_normal(np.shape(y))).astype(dtype)
    expected = case.gradients(dy, cache)

    moved, moved_dy = on_device(inputs), to_device(dy, device)
    before = waits.count
    y_there, cache = case.forward(*moved)
    gradients = case.gradients(moved_dy, cache)
    assert waits.count == before, f"{waits.count - before} waits for the device"

    if dtype == "float64":
        assert_same(y_there, y)
        for got, wanted in zip(gradients, expected, strict=True):
            assert (got is None and wanted is None) or assert_same(got, wanted) is None
    assert all(isinstance(g, DeviceArray) and g.dtype == dtype for g in (y_there, *gradients) if g is not None)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_device_has_the_hosts_numbers_and_is_not_waited_for(case, dtype):
    check(case, dtype)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_arrays_of_host_and_device_do_not_mix(case):
    inputs = case.inputs()
    for index in range(1, case.differentiable):
        mixed = [*inputs[:index], to_device(inputs[index], device), *inputs[index + 1 :]]
        with pytest.raises(TypeError, match="one library"):
            case.forward(*mixed)
    y, cache = case.forward(*on_device(inputs))
    if y.ndim:
        with pytest.raises(TypeError, match="one library"):
            case.backward(np.ones(y.shape), cache)
