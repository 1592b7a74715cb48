"""The pickles that CIFAR's Python version is made of, read without running anything.

A pickle is a program for a small stack machine, and two of its instructions fetch and call whatever function they
name: that is how a pickle can do harm. The machine below knows the few instructions that lists, dictionaries, numbers,
text and arrays need. It looks nothing up and calls nothing; a name other than NumPy's three for arrays ends it.

Format: https://docs.python.org/3/library/pickletools.html
"""

from __future__ import annotations

import math
import pickletools
from dataclasses import dataclass
from typing import Any

import numpy as np

RECONSTRUCT = frozenset({"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"})
FROM_BUFFER = frozenset({"numpy.core.numeric _frombuffer", "numpy._core.numeric _frombuffer"})
NDARRAY, DTYPE, ENCODE = "numpy ndarray", "numpy dtype", "_codecs encode"
NAMES = RECONSTRUCT | FROM_BUFFER | {NDARRAY, DTYPE, ENCODE}
"""What a pickle of arrays of bytes names. None of it is ever imported or called."""

TEXT = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"}
BYTES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
VALUES = TEXT | BYTES | {"INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"}
"""Instructions that push their argument."""

CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
IGNORED = frozenset({"PROTO", "FRAME", "STOP"})


class PickleRefused(ValueError):
    """A pickle that holds more than plain values and arrays of bytes. The text says what, and at which offset."""


@dataclass
class _Name:
    """A function or class that the pickle names; it stands for itself and is never looked up."""

    text: str


@dataclass
class _Array:
    """An array in the making: `value` is set by the BUILD instruction that follows."""

    value: np.ndarray | None = None


def read_pickle(content: bytes) -> Any:
    """The lists, dictionaries, numbers, text and arrays of uint8 in `content`; text of Python 2 as str.

    Raises PickleRefused for any other content, and for what is no pickle.
    """
    machine, at = _Machine(), 0
    try:
        for instruction, argument, position in pickletools.genops(content):
            at = position or 0
            machine.run(instruction.name, argument)
        (result,) = machine.stack
    except PickleRefused as error:
        raise PickleRefused(f"offset {at}: {error}") from None
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, UnicodeError) as error:
        raise PickleRefused(f"offset {at}: damaged ({error})") from None
    return _finished(result)


def _finished(value: Any) -> Any:
    """`value`, or a dictionary's values, with arrays in place of `_Array`s."""
    if isinstance(value, dict):
        return {key: item.value if isinstance(item, _Array) else item for key, item in value.items()}
    return value.value if isinstance(value, _Array) else value


class _Machine:
    """A stack, the places of its marks, and the memo."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, name: str, argument: Any) -> None:
        """One instruction. Raises PickleRefused for one that plain data does not need."""
        push = self.stack.append
        if name in VALUES:
            push(argument)
        elif name in CONSTANTS:
            push(CONSTANTS[name])
        elif name in ("EMPTY_LIST", "EMPTY_DICT"):
            push([] if name == "EMPTY_LIST" else {})
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name in ("TUPLE", "LIST"):
            push((tuple if name == "TUPLE" else list)(self.since_mark()))
        elif name == "DICT":
            push(dict(zip(*[iter(self.since_mark())] * 2, strict=True)))
        elif name in TUPLES:
            push(tuple(self.pop(TUPLES[name])))
        elif name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS"):
            self.fill(name)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            push(self.memo[argument])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            push(self.name(argument))
        elif name in ("REDUCE", "BUILD"):
            self.stack.append((self.reduced if name == "REDUCE" else self.built)(*self.pop(2)))
        elif name not in IGNORED:
            raise PickleRefused(f"the instruction {name}, which plain data does not need")

    def pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise PickleRefused("damaged (nothing on the stack)")
        found = self.stack[-count:]
        del self.stack[-count:]
        return found

    def since_mark(self) -> list[Any]:
        return self.pop(len(self.stack) - start) if len(self.stack) > (start := self.marks.pop()) else []

    def fill(self, name: str) -> None:
        """Into the list or dictionary below them go the values on top."""
        many, pairs = name.endswith("S"), name.startswith("SET")
        values = self.since_mark() if many else self.pop(2 if pairs else 1)
        if pairs:
            self.stack[-1].update(zip(values[::2], values[1::2], strict=True))
        else:
            self.stack[-1].extend(values)

    def name(self, argument: str | None) -> _Name:
        text = argument if argument is not None else " ".join(self.pop(2))
        if text not in NAMES:
            raise PickleRefused(f"it names {text.replace(' ', '.')}, which could be any code")
        return _Name(text)

    def reduced(self, function: Any, arguments: Any) -> Any:
        """What a call would have given, for the calls that make arrays."""
        text = function.text
        if text in RECONSTRUCT:
            return _Array()
        if text in FROM_BUFFER:
            data, dtype, shape, order = arguments
            return _Array(_array(shape, dtype, order == "F", data))
        if text == DTYPE:
            return _Name(f"dtype {arguments[0]}")
        if text == ENCODE:
            return arguments[0].encode("latin-1")
        raise PickleRefused(f"a call of {text.replace(' ', '.')}")

    def built(self, target: Any, state: Any) -> Any:
        """An array gets its shape and its bytes; the state of a dtype says nothing new."""
        if isinstance(target, _Array):
            _, shape, dtype, fortran, data = state
            target.value = _array(shape, dtype, fortran, data)
        elif not (isinstance(target, _Name) and target.text.startswith("dtype ")):
            raise PickleRefused("an object with a state of its own")
        return target


def _array(shape: tuple[int, ...], dtype: _Name, fortran: bool, data: str | bytes) -> np.ndarray:
    if dtype.text not in ("dtype u1", "dtype |u1"):
        raise PickleRefused(f"an array of {dtype.text.removeprefix('dtype ')}; expected bytes, u1")
    content = data.encode("latin-1") if isinstance(data, str) else data  # Python 2 has one type for both
    if any(not isinstance(n, int) or n < 0 for n in shape) or math.prod(shape) != len(content):
        raise PickleRefused(f"an array of shape {shape} with {len(content)} bytes")
    return np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")
