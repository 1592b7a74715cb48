"""A strict fake GPU on NumPy's memory: `model.to(fake_gpu.device)` finds what would go wrong on a real one.

What works on CuPy by accident or in silence is an error here, so that it is found on a machine without a GPU:

    - arrays of the host and of the device never mix: not in arithmetic, not as an index, not as an argument
    - nothing is converted unasked: `np.asarray(x)`, `np.exp(x)` and `np.sum(x)` raise TypeError
    - there are the functions of the tables below and no others, with CuPy's arguments and no others
    - results of reductions stay arrays, without axes
    - whatever waits for the device is counted in `waits`: float(), bool(), int(), .item(), .tolist(), .get(), printing,
      and indexing with a mask, whose size the host has to learn first

Moving is explicit, as in CuPy: `device.asarray(host_array)` goes there, `x.get()` comes back (`backend.to_device` and
`to_numpy` do both). The tests compare the tables with CuPy itself, where it is installed.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np


class Waits:
    """How often the host has waited for the device: `waits.count`."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


waits = Waits()


def _waiting(function: Callable) -> Callable:
    """A method for which the host waits: the function of the array's numbers."""

    def method(self: DeviceArray) -> Any:
        waits()
        return function(self._host)

    return method


class DeviceArray:
    """An array on the fake GPU. Its methods and attributes are those of `cupy.ndarray` that the engine uses."""

    __array_ufunc__ = None  # NumPy's functions and operators refuse it
    __hash__ = None

    def __init__(self, host: np.ndarray) -> None:
        self._host = np.asarray(host)

    # --- what NumPy would like to do with it

    def __array__(self, *args: object, **options: object) -> np.ndarray:
        raise TypeError("implicit conversion of a device array to a NumPy array; expected to_numpy(x)")

    def __array_function__(self, function: Callable, types: object, args: object, options: object) -> None:
        raise TypeError(f"numpy.{function.__name__} was given a device array; expected xp.{function.__name__}")

    def __array_namespace__(self, api_version: str | None = None) -> ModuleType:
        return device

    # --- what is known without asking the device

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: self._host.flags)

    def __len__(self) -> int:
        return len(self._host)

    # --- what waits for the device

    get = _waiting(np.ndarray.copy)
    item = _waiting(np.ndarray.item)
    tolist = _waiting(np.ndarray.tolist)
    __float__, __int__, __complex__, __bool__ = map(_waiting, (float, int, complex, bool))
    __repr__ = _waiting(lambda host: f"DeviceArray({host!r})")

    # --- indexing

    def __getitem__(self, key: Any) -> DeviceArray:
        if _is_mask(key):
            waits()
        return DeviceArray(self._host[_index(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._host[_index(key)] = _operand(value)

    def __iter__(self) -> Iterator[DeviceArray]:
        return (self[i] for i in range(len(self)))

    # --- views and copies

    T = property(lambda self: DeviceArray(self._host.T))
    real = property(lambda self: DeviceArray(self._host.real))
    imag = property(lambda self: DeviceArray(self._host.imag))

    def reshape(self, *shape: Any, order: str = "C") -> DeviceArray:
        return DeviceArray(self._host.reshape(*shape, order=order))

    def transpose(self, *axes: Any) -> DeviceArray:
        return DeviceArray(self._host.transpose(*axes))

    def swapaxes(self, axis1: int, axis2: int) -> DeviceArray:
        return DeviceArray(self._host.swapaxes(axis1, axis2))

    def clip(self, min: Any = None, max: Any = None, out: None = None) -> DeviceArray:
        return DeviceArray(self._host.clip(min, max))

    def fill(self, value: complex) -> None:
        self._host.fill(value)

    def ravel(self, order: str = "C") -> DeviceArray:
        return DeviceArray(self._host.ravel(order))

    def repeat(self, repeats: int, axis: int | None = None) -> DeviceArray:
        return DeviceArray(self._host.repeat(_operand(repeats), axis))

    def astype(
        self, dtype: Any, order: str = "K", casting: str | None = None, subok: bool | None = None, copy: bool = True
    ) -> DeviceArray:
        return DeviceArray(self._host.astype(dtype, order=order, copy=copy))

    def copy(self, order: str = "C") -> DeviceArray:
        return DeviceArray(self._host.copy(order))

    def __deepcopy__(self, memo: dict) -> DeviceArray:
        return DeviceArray(self._host.copy("K"))

    def conj(self) -> DeviceArray:
        return DeviceArray(self._host.conj())

    # --- reductions: arrays without axes, not numbers

    def sum(self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> DeviceArray:
        return device.sum(self, axis, dtype, out, keepdims)

    def mean(self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> DeviceArray:
        return device.mean(self, axis, dtype, out, keepdims)

    def max(self, axis: Any = None, out: None = None, keepdims: bool = False) -> DeviceArray:
        return DeviceArray(self._host.max(axis=axis, keepdims=keepdims))

    def min(self, axis: Any = None, out: None = None, keepdims: bool = False) -> DeviceArray:
        return DeviceArray(self._host.min(axis=axis, keepdims=keepdims))

    def argmax(self, axis: Any = None, out: None = None, dtype: None = None, keepdims: bool = False) -> DeviceArray:
        return DeviceArray(self._host.argmax(axis=axis, keepdims=keepdims))

    def any(self, axis: Any = None, out: None = None, keepdims: bool = False) -> DeviceArray:
        return DeviceArray(self._host.any(axis=axis, keepdims=keepdims))

    def all(self, axis: Any = None, out: None = None, keepdims: bool = False) -> DeviceArray:
        return DeviceArray(self._host.all(axis=axis, keepdims=keepdims))


def _operand(value: Any) -> Any:
    """What a device computes with: its own arrays, and single numbers. TypeError for anything of the host's."""
    if isinstance(value, DeviceArray):
        return value._host
    if isinstance(value, bool | int | float | complex | np.generic):
        return value
    raise TypeError(f"the device was given a {type(value).__module__}.{type(value).__name__}; expected its own arrays")


def _index(key: Any) -> Any:
    if isinstance(key, tuple):
        return tuple(_index(part) for part in key)
    if isinstance(key, DeviceArray):
        return key._host
    if key is None or key is Ellipsis or isinstance(key, slice | int | np.integer):
        return key
    raise TypeError(f"a device array was indexed with a {type(key).__name__}; expected whole numbers or its own arrays")


def _is_mask(key: Any) -> bool:
    parts = key if isinstance(key, tuple) else (key,)
    return any(isinstance(part, DeviceArray) and part.dtype == bool for part in parts)


# --- operators -------------------------------------------------------------------------------------------------------


def _unary(function: Callable) -> Callable:
    return lambda self: DeviceArray(function(self._host))


def _binary(function: Callable) -> tuple[Callable, Callable, Callable]:
    """a + b, b + a and a += b, for one operator."""

    def forward(self: DeviceArray, other: Any) -> DeviceArray:
        return DeviceArray(function(self._host, _operand(other)))

    def backward(self: DeviceArray, other: Any) -> DeviceArray:
        return DeviceArray(function(_operand(other), self._host))

    def in_place(self: DeviceArray, other: Any) -> DeviceArray:
        self._host[...] = function(self._host, _operand(other)).astype(self.dtype, casting="same_kind", copy=False)
        return self

    return forward, backward, in_place


def _add_operators() -> None:
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
        symbol = getattr(operator, f"{name}_" if name in ("and", "or") else name)
        for prefix, method in zip(("", "r", "i"), _binary(symbol), strict=True):
            if prefix + name != "imatmul":  # which CuPy has not
                setattr(DeviceArray, f"__{prefix}{name}__", method)
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        setattr(DeviceArray, f"__{name}__", _binary(getattr(operator, name))[0])
    for name in ("neg", "abs", "invert"):
        setattr(DeviceArray, f"__{name}__", _unary(getattr(operator, name)))


_add_operators()

# --- functions -------------------------------------------------------------------------------------------------------


# fmt: off
FUNCTIONS: dict[str, Callable] = {
    "asarray": lambda a, dtype=None, order=None, *, copy=None, blocking=False: None,
    "array": lambda obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False: None,
    "ascontiguousarray": lambda a, dtype=None: None,
    "arange": lambda start, stop=None, step=1, dtype=None: None,
    "empty": lambda shape, dtype=float, order="C": None,
    "empty_like": lambda prototype, dtype=None, order="K", subok=None, shape=None: None,
    "zeros": lambda shape, dtype=float, order="C": None,
    "zeros_like": lambda a, dtype=None, order="K", subok=None, shape=None: None,
    "ones": lambda shape, dtype=float, order="C": None,
    "ones_like": lambda a, dtype=None, order="K", subok=None, shape=None: None,
    "full": lambda shape, fill_value, dtype=None, order="C": None,
    "full_like": lambda a, fill_value, dtype=None, order="K", subok=None, shape=None: None,
    "where": lambda condition, x=None, y=None: None,
    "stack": lambda tup, axis=0, out=None, *, dtype=None, casting="same_kind": None,
    "concatenate": lambda tup, axis=0, out=None, *, dtype=None, casting="same_kind": None,
    "copyto": lambda dst, src, casting="same_kind", where=None: None,
    "split": lambda ary, indices_or_sections, axis=0: None,
    "tile": lambda A, reps: None,
    "clip": lambda a, a_min, a_max, out=None: None,
    "sum": lambda a, axis=None, dtype=None, out=None, keepdims=False: None,
    "mean": lambda a, axis=None, dtype=None, out=None, keepdims=False: None,
    "std": lambda a, axis=None, dtype=None, out=None, ddof=0, keepdims=False: None,
    "var": lambda a, axis=None, dtype=None, out=None, ddof=0, keepdims=False: None,
    "tensordot": lambda a, b, axes=2: None,
    "einsum": lambda *operands, **kwargs: None,
}
# fmt: on
"""Functions whose arguments CuPy checks as Python does, with the signatures that CuPy gives them."""

UFUNCS = {
    **dict.fromkeys(("add", "subtract", "multiply", "divide", "power", "maximum", "minimum", "matmul", "not_equal"), 2),
    **dict.fromkeys(("exp", "log", "sqrt", "square", "tanh", "abs", "negative", "conj", "isfinite", "isnan"), 1),
}
"""Functions of every number by itself, and their number of inputs; they take out=, dtype= and casting= besides."""

CONSTANTS = (
    *("nan", "inf", "pi", "newaxis", "float32", "float64", "complex128"),
    *("bool_", "int8", "int16", "int32", "int64", "uint8"),
)
EXPLICIT = ("asarray", "array")
"""These may be given an array of the host: they are how one gets to the device."""


def _unwrap(name: str, value: Any) -> Any:
    """An argument as NumPy takes it; arrays of the host are refused, but by the functions that move them."""
    if isinstance(value, DeviceArray):
        return value._host
    if isinstance(value, list | tuple):
        return type(value)(_unwrap(name, part) for part in value)
    if isinstance(value, np.ndarray) and name not in EXPLICIT:
        raise TypeError(f"{name} was given a NumPy array; expected arrays of the device")
    return value


def _function(name: str, signature: inspect.Signature) -> Callable:
    """A function with CuPy's signature that computes with NumPy's function of the same name."""

    def call(*args: Any, **options: Any) -> DeviceArray:
        bound = signature.bind(*args, **options)
        if name == "einsum":
            return DeviceArray(np.einsum(*(_unwrap(name, a) for a in bound.args), **bound.kwargs))
        given = {key: _unwrap(name, value) for key, value in bound.arguments.items()}
        if name in EXPLICIT:
            return _moved(bound.arguments, given)
        if name == "where":
            return DeviceArray(np.where(*given.values()))
        (_, first), *rest = given.items()
        result = getattr(np, name)(first, **dict(rest))
        if result is None:  # copyto, which writes into its first argument
            return None
        if isinstance(result, list):
            return [DeviceArray(part) for part in result]
        return DeviceArray(result) if bound.arguments.get("out") is None else bound.arguments["out"]

    return call


def _moved(asked: dict[str, Any], given: dict[str, Any]) -> DeviceArray:
    """asarray and array: something of the host's, on the device. An array that is there already stays as it is."""
    (source, *_), (host, *_) = asked.values(), given.values()
    if isinstance(source, DeviceArray) and given.get("dtype") in (None, source.dtype):
        return source
    return DeviceArray(np.array(host, dtype=given.get("dtype"), order=given.get("order") or "K"))


def _ufunc(name: str, inputs: int) -> Callable:
    def call(*args: Any, out: Any = None, dtype: Any = None, casting: str = "same_kind") -> DeviceArray:
        if len(args) == inputs + 1 and out is None:
            *args, out = args
        if len(args) != inputs:
            raise TypeError(f"{name} takes {inputs} arrays, was given {len(args)}")
        operands = [_operand(a) for a in args]
        if out is None:
            return DeviceArray(getattr(np, name)(*operands, dtype=dtype, casting=casting))
        getattr(np, name)(*operands, out=_operand(out), dtype=dtype, casting=casting)
        return out

    return call


def _as_strided(x: DeviceArray, shape: Any = None, strides: Any = None) -> DeviceArray:
    return DeviceArray(np.lib.stride_tricks.as_strided(_operand(x), shape, strides))


def _make_device() -> ModuleType:
    module = ModuleType("minires.fake_gpu.device")
    for name, stub in FUNCTIONS.items():
        setattr(module, name, _function(name, inspect.signature(stub)))
    for name, inputs in UFUNCS.items():
        setattr(module, name, _ufunc(name, inputs))
    for name in CONSTANTS:
        setattr(module, name, getattr(np, name))
    module.ndarray = DeviceArray
    module.lib = SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=_as_strided))
    return module


device = _make_device()
"""The array library of the fake GPU, as `cupy` is a GPU's: what `model.to` and `to_device` take."""
