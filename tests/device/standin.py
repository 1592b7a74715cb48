"""A strict stand-in for a GPU: an array class and a namespace that behave as CuPy's would, on NumPy's memory.

What works on CuPy by accident or in silence is an error here, so that it is found on a machine without a GPU:

    - arrays of the host and of the device never mix: not in arithmetic, not as index, not as an argument
    - nothing is converted unasked: `np.asarray(x)`, `np.exp(x)`, `np.sum(x)` raise TypeError
    - there are the functions of the table below and no others, with CuPy's arguments and no others
    - results of reductions stay arrays, without axes
    - whatever waits for the device is counted in `waits`: float(), bool(), int(), .item(), .tolist(), .get(), printing,
      and indexing with a mask, whose size the host has to learn first

Moving is explicit: `namespace.asarray(host_array)` goes there, `x.get()` comes back, as in CuPy.
`test_conformance.py` compares the table with CuPy itself, where that is installed.
"""

from __future__ import annotations

import inspect
import operator
from types import ModuleType

import numpy as np

NAME = "tests.device.standin"


class CuPyFunctions:
    """Functions whose arguments CuPy checks as Python does, with the signatures that CuPy gives them."""

    def asarray(a, dtype=None, order=None, *, copy=None, blocking=False): ...

    def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False): ...

    def ascontiguousarray(a, dtype=None): ...

    def arange(start, stop=None, step=1, dtype=None): ...

    def empty(shape, dtype=float, order="C"): ...

    def empty_like(prototype, dtype=None, order="K", subok=None, shape=None): ...

    def zeros(shape, dtype=float, order="C"): ...

    def zeros_like(a, dtype=None, order="K", subok=None, shape=None): ...

    def ones(shape, dtype=float, order="C"): ...

    def ones_like(a, dtype=None, order="K", subok=None, shape=None): ...

    def full(shape, fill_value, dtype=None, order="C"): ...

    def full_like(a, fill_value, dtype=None, order="K", subok=None, shape=None): ...

    def where(condition, x=None, y=None): ...

    def stack(tup, axis=0, out=None, *, dtype=None, casting="same_kind"): ...

    def concatenate(tup, axis=0, out=None, *, dtype=None, casting="same_kind"): ...

    def tile(A, reps): ...

    def sum(a, axis=None, dtype=None, out=None, keepdims=False): ...

    def mean(a, axis=None, dtype=None, out=None, keepdims=False): ...

    def std(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False): ...

    def var(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False): ...

    def einsum(*operands, **kwargs): ...


FUNCTIONS = {name: stub for name, stub in vars(CuPyFunctions).items() if inspect.isfunction(stub)}
UFUNCS = {
    "add": 2, "subtract": 2, "multiply": 2, "divide": 2, "maximum": 2, "minimum": 2, "power": 2, "matmul": 2,
    "exp": 1, "log": 1, "sqrt": 1, "square": 1, "tanh": 1, "abs": 1, "isfinite": 1, "isnan": 1, "negative": 1,
    "conj": 1,
}  # fmt: skip
"""Functions of every number by itself, and their number of inputs; they take out=, dtype= and casting= besides."""

CONSTANTS = (
    *("nan", "inf", "pi", "newaxis", "float32", "float64", "complex128", "bool_", "int8", "int16", "int32", "int64"),
    *("uint8",),
)
EXPLICIT = ("asarray", "array")
"""These may be given an array of the host: they are how one gets to the device."""


class Waits:
    """How often the host has waited for the device."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


waits = Waits()


class DeviceArray:
    """An array on the stand-in device."""

    __array_ufunc__ = None  # NumPy's functions and operators refuse it
    __hash__ = None

    def __init__(self, host: np.ndarray) -> None:
        self._host = np.asarray(host)

    # --- what NumPy would like to do with it

    def __array__(self, *args, **options):
        raise TypeError("implicit conversion of a device array to a NumPy array; expected to_numpy(x)")

    def __array_function__(self, function, types, args, options):
        raise TypeError(f"numpy.{function.__name__} was given a device array; expected xp.{function.__name__}")

    def __array_namespace__(self, api_version=None):
        return namespace

    # --- what is known without asking the device

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: self._host.flags)

    def __len__(self):
        return len(self._host)

    # --- what waits for the device

    def get(self):
        waits()
        return self._host.copy()

    def item(self):
        waits()
        return self._host.item()

    def tolist(self):
        waits()
        return self._host.tolist()

    def __float__(self):
        waits()
        return float(self._host)

    def __int__(self):
        waits()
        return int(self._host)

    def __complex__(self):
        waits()
        return complex(self._host)

    def __bool__(self):
        waits()
        return bool(self._host)

    def __repr__(self):
        waits()
        return f"DeviceArray({self._host!r})"

    # --- indexing

    def __getitem__(self, key):
        if _is_mask(key):
            waits()
        return DeviceArray(self._host[_index(key)])

    def __setitem__(self, key, value):
        self._host[_index(key)] = _operand(value)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    # --- views and copies

    T = property(lambda self: DeviceArray(self._host.T))
    real = property(lambda self: DeviceArray(self._host.real))
    imag = property(lambda self: DeviceArray(self._host.imag))

    def reshape(self, *shape, order="C"):
        return DeviceArray(self._host.reshape(*shape, order=order))

    def transpose(self, *axes):
        return DeviceArray(self._host.transpose(*axes))

    def ravel(self, order="C"):
        return DeviceArray(self._host.ravel(order))

    def repeat(self, repeats, axis=None):
        return DeviceArray(self._host.repeat(_unwrap("repeat", repeats), axis))

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        return DeviceArray(self._host.astype(dtype, order=order, copy=copy))

    def copy(self, order="C"):
        return DeviceArray(self._host.copy(order))

    def __deepcopy__(self, memo):
        return DeviceArray(self._host.copy("K"))

    def conj(self):
        return DeviceArray(self._host.conj())

    # --- reductions: arrays without axes, not numbers

    def sum(self, axis=None, dtype=None, out=None, keepdims=False):
        return namespace.sum(self, axis, dtype, out, keepdims)

    def mean(self, axis=None, dtype=None, out=None, keepdims=False):
        return namespace.mean(self, axis, dtype, out, keepdims)

    def max(self, axis=None, out=None, keepdims=False):
        return DeviceArray(self._host.max(axis=axis, keepdims=keepdims))

    def min(self, axis=None, out=None, keepdims=False):
        return DeviceArray(self._host.min(axis=axis, keepdims=keepdims))

    def argmax(self, axis=None, out=None, dtype=None, keepdims=False):
        return DeviceArray(self._host.argmax(axis=axis, keepdims=keepdims))

    def any(self, axis=None, out=None, keepdims=False):
        return DeviceArray(self._host.any(axis=axis, keepdims=keepdims))

    def all(self, axis=None, out=None, keepdims=False):
        return DeviceArray(self._host.all(axis=axis, keepdims=keepdims))


def _operand(value):
    """What a device computes with: its own arrays, and single numbers. TypeError for anything of the host's."""
    if isinstance(value, DeviceArray):
        return value._host
    if isinstance(value, bool | int | float | complex | np.generic):
        return value
    raise TypeError(f"the device was given a {type(value).__module__}.{type(value).__name__}; expected its own arrays")


def _index(key):
    if isinstance(key, tuple):
        return tuple(_index(part) for part in key)
    if isinstance(key, DeviceArray):
        return key._host
    if key is None or key is Ellipsis or isinstance(key, slice | int | np.integer):
        return key
    raise TypeError(f"a device array was indexed with a {type(key).__name__}; expected whole numbers or its own arrays")


def _is_mask(key):
    parts = key if isinstance(key, tuple) else (key,)
    return any(isinstance(part, DeviceArray) and part.dtype == bool for part in parts)


def _binary(function):
    def forward(self, other):
        return DeviceArray(function(self._host, _operand(other)))

    def backward(self, other):
        return DeviceArray(function(_operand(other), self._host))

    def in_place(self, other):
        self._host[...] = function(self._host, _operand(other)).astype(self.dtype, casting="same_kind", copy=False)
        return self

    return forward, backward, in_place


def _unary(function):
    return lambda self: DeviceArray(function(self._host))


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
    _symbol = getattr(operator, f"{_name}_" if _name in ("and", "or") else _name)
    _both = _binary(_symbol)
    for _prefix, _method in zip(("", "r", "i"), _both, strict=True):
        if _prefix + _name == "imatmul":  # which CuPy has not
            continue
        setattr(DeviceArray, f"__{_prefix}{_name}__", _method)
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(DeviceArray, f"__{_name}__", _binary(getattr(operator, _name))[0])
for _name in ("neg", "abs", "invert"):
    setattr(DeviceArray, f"__{_name}__", _unary(getattr(operator, _name)))


# --- the namespace ---------------------------------------------------------------------------------------------------


def _unwrap(name, value):
    """An argument as NumPy takes it; arrays of the host are refused, but by the functions that move them."""
    if isinstance(value, DeviceArray):
        return value._host
    if isinstance(value, list | tuple):
        return type(value)(_unwrap(name, part) for part in value)
    if isinstance(value, np.ndarray) and name not in EXPLICIT:
        raise TypeError(f"{name} was given a NumPy array; expected arrays of the device")
    return value


def _wrap(result):
    return DeviceArray(result) if isinstance(result, np.ndarray | np.generic) else result


def _function(name, signature):
    """A function with CuPy's signature that computes with NumPy's function of the same name."""

    def call(*args, **options):
        bound = signature.bind(*args, **options)
        if name == "einsum":
            return _wrap(np.einsum(*(_unwrap(name, a) for a in bound.args), **bound.kwargs))
        given = {key: _unwrap(name, value) for key, value in bound.arguments.items()}
        if name in EXPLICIT:
            return _moved(bound.arguments, given)
        if name == "where":
            return _wrap(np.where(*given.values()))
        (_, first), *rest = given.items()
        result = getattr(np, name)(first, **dict(rest))
        return _wrap(result) if bound.arguments.get("out") is None else bound.arguments["out"]

    call.__name__ = name
    return call


def _moved(asked, given):
    """asarray and array: something of the host's, on the device. An array that is there already stays as it is."""
    (source, *_), dtype = asked.values(), given.get("dtype")
    if isinstance(source, DeviceArray) and dtype in (None, source.dtype):
        return source
    (host, *_) = given.values()
    return DeviceArray(np.array(host, dtype=dtype, order=given.get("order") or "K"))


def _ufunc(name, inputs):
    def call(*args, out=None, dtype=None, casting="same_kind"):
        if len(args) != inputs and not (out is None and len(args) == inputs + 1):
            raise TypeError(f"{name} takes {inputs} arrays, was given {len(args)}")
        if len(args) == inputs + 1:
            *args, out = args
        args = [_operand(a) for a in args]
        if out is None:
            return DeviceArray(getattr(np, name)(*args, dtype=dtype, casting=casting))
        getattr(np, name)(*args, out=_operand(out), dtype=dtype, casting=casting)
        return out

    call.__name__ = name
    return call


def _as_strided(x, shape=None, strides=None):
    return DeviceArray(np.lib.stride_tricks.as_strided(_operand(x), shape, strides))


def _make_namespace():
    module = ModuleType(NAME)
    for name, stub in FUNCTIONS.items():
        setattr(module, name, _function(name, inspect.signature(stub)))
    for name, inputs in UFUNCS.items():
        setattr(module, name, _ufunc(name, inputs))
    for name in CONSTANTS:
        setattr(module, name, getattr(np, name))
    module.ndarray = DeviceArray
    module.lib = ModuleType("lib")
    module.lib.stride_tricks = ModuleType("stride_tricks")
    module.lib.stride_tricks.as_strided = _as_strided
    return module


namespace = _make_namespace()
