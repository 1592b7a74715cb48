"""Names of devices, and how arrays get there and back: a sentence where a device cannot be had, never a fall-back."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from minires.backend import array_namespace, device_namespace, to_device, to_numpy
from minires.fake_gpu import DeviceArray, device
from tests.refusals import refused

X = np.arange(6.0).reshape(2, 3)


def test_arrays_know_their_library():
    there = to_device(X, device)
    assert array_namespace(X, None, X[0, 0]) is np
    assert array_namespace(there, there) is device
    with pytest.raises(TypeError, match="one library"):
        array_namespace(X, there)
    with pytest.raises(TypeError, match="list"):
        array_namespace([1.0])


def test_there_and_back():
    there = to_device(X, device)
    assert isinstance(there, DeviceArray) and np.array_equal(to_numpy(there), X)
    assert to_device(there, device) is there and to_device(X, "cpu") is X and to_numpy(X) is X
    assert np.array_equal(to_device(there, "cpu"), X)


@pytest.mark.parametrize("name", ["gpu", "", "CUDA", "cuda:x", "cuda:-1", "cuda:", None])
def test_unknown_names_are_refused(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", pretended_cupy(devices=1))
    with refused(ValueError, "device", repr(name)):
        device_namespace(name)


def pretended_cupy(devices):
    """As much of CuPy as is asked for a device."""

    class CUDARuntimeError(RuntimeError):
        pass

    def count():
        if devices is None:
            raise CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")
        return devices

    used = []
    runtime = SimpleNamespace(getDeviceCount=count, CUDARuntimeError=CUDARuntimeError)
    device = lambda index: SimpleNamespace(use=lambda: used.append(index))  # noqa: E731
    return SimpleNamespace(cuda=SimpleNamespace(runtime=runtime, Device=device), used=used)


def test_without_cupy_the_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(RuntimeError, match=r'not installed: pip install "minires\[cuda13\]"'):
        device_namespace("cuda")


def test_without_a_driver_the_sentence_says_why(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", pretended_cupy(devices=None))
    with pytest.raises(RuntimeError, match=r"no usable GPU .*driver version is insufficient"):
        device_namespace("cuda")


def test_without_that_many_devices_the_sentence_counts_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", pretended_cupy(devices=2))
    with pytest.raises(RuntimeError, match=r"'cuda:2'.* has 2 GPU\(s\), numbered from 0"):
        device_namespace("cuda:2")


def test_a_device_that_is_there_is_used(monkeypatch):
    cupy = pretended_cupy(devices=2)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert device_namespace("cuda:1") is cupy and cupy.used == [1]
