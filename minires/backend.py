"""Which array library does this array belong to, and how does it get to another device?

minires has no global switch between NumPy and CuPy. Arrays carry their device: every function asks the arrays it was
given, `xp = array_namespace(x)`, and computes with `xp.exp`, `xp.matmul`, ... from then on. The same source therefore
runs on the host and on the GPU, and arrays of two libraries in one call are an error here, at the door. (CuPy would
otherwise compute `cupy.sum(numpy_array)` on the host without a word.)
"""

from __future__ import annotations

import re
import sys
from types import ModuleType
from typing import Any, NoReturn, TypeAlias

import numpy as np

Array: TypeAlias = Any
"""An array of any supported library: `numpy.ndarray`, `cupy.ndarray`."""

FLOATS = ("float32", "float64", "complex128")
"""The dtypes the engine computes in: float32 to train, float64 to check, complex128 for the complex step."""


HOST_ARRAYS = (np.ndarray, np.generic)


def array_namespace(*arrays: Array) -> ModuleType:
    """The one library all `arrays` belong to: the module `numpy`, or `cupy`.

    None stands for an absent argument (a bias, say) and is passed over. Other libraries take part if their arrays
    have `__array_namespace__`, as the array API standard asks.

    Raises TypeError for anything that is not an array, and for arrays of two libraries.
    """
    if {*map(type, arrays)} == {np.ndarray}:  # nearly always
        return np
    found = {namespace.__name__: namespace for namespace in map(_namespace_of, arrays) if namespace}
    if len(found) != 1:
        raise TypeError(
            f"expected arrays of one library, got {' and '.join(sorted(found)) or 'none'}: "
            'move the model and its input to one device, as in model.to("cuda") and to_device(x, "cuda")'
        )
    return next(iter(found.values()))


def _namespace_of(array: Array) -> ModuleType | None:
    if array is None:
        return None
    if isinstance(array, HOST_ARRAYS):
        if type(array) is not np.ndarray and (hasattr(array, "mask") or isinstance(array, getattr(np, "matrix", ()))):
            _refuse_other_arithmetic(array)
        return np
    if type(array).__module__.partition(".")[0] == "cupy":
        return sys.modules["cupy"]
    if hasattr(array, "__array_namespace__") and not isinstance(array, type):
        return array.__array_namespace__()
    raise TypeError(f"expected a NumPy or CuPy array, got {type(array).__name__}: wrap it, as in np.asarray(x)")


def _refuse_other_arithmetic(array: np.ndarray) -> NoReturn:
    """A masked array would lose its mask on the way, silently; `*` of a matrix is another product."""
    kind = type(array).__name__
    advice = "its mask would be lost; x.filled(0) fills it" if hasattr(array, "mask") else "np.asarray(x) makes one"
    raise TypeError(f"expected a plain array, got a {kind}: {advice}")


def device_namespace(device: str | ModuleType) -> ModuleType:
    """The array library of a device: "cpu" is NumPy, "cuda" and "cuda:1" are CuPy, a module stands for itself.

    Raises ValueError for an unknown name, RuntimeError where there is no CuPy or no GPU: nothing falls back silently.
    """
    if isinstance(device, ModuleType):
        return device
    if isinstance(device, str) and device == "cpu":
        return np
    if not isinstance(device, str) or not re.fullmatch(r"cuda(:\d+)?", device):
        raise ValueError(f'device is {device!r}; expected "cpu", "cuda" or "cuda:1"')
    try:
        import cupy
    except ImportError as error:
        raise RuntimeError('device "cuda" needs CuPy, which is not installed: pip install "minires[cuda13]"') from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise RuntimeError(f'device "cuda": CuPy is installed but finds no usable GPU ({error})') from error
    index = int(device.partition(":")[2] or 0)
    if index >= count:
        raise RuntimeError(f"device {device!r}: this machine has {count} GPU(s), numbered from 0")
    cupy.cuda.Device(index).use()
    return cupy


def to_device(x: Array, device: str | ModuleType) -> Array:
    """`x` on `device`, unchanged if it is there already. See `device_namespace` for the names and errors."""
    target = device_namespace(device)
    if _namespace_of(x) is target:
        return x
    return target.asarray(to_numpy(x))


def to_numpy(x: Array) -> np.ndarray:
    """`x` on the host. Copies from a GPU (and waits for it); a NumPy array is returned as it is."""
    if isinstance(x, np.ndarray | np.generic):
        return np.asarray(x)
    if hasattr(x, "get"):  # CuPy's own name for "copy to the host"
        return x.get()
    return np.asarray(x)
