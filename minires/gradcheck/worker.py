"""The process that student code runs in, and the messages that it understands.

    python -P worker.py        the first message on standard input says which file to load; then calls come, answers go

A message is a JSON header and the arrays it mentions, each array in the .npy format without pickle:

    length of the header (4 bytes, little endian), header, and for each of its `lengths` one .npy of so many bytes

    {"number": 7, "call": "conv2d_forward", "arguments": [...], "options": {...}, "keep": true, "release": [3, 4]}
    {"number": 7, "value": ..., "kept": 5, "changed": {...}}   or   {"number": 7, "error": {"kind": "IndexError", ...}}

A call names a function of the file. "driver:NAME" names one of a second file, the driver; its first argument is the
functions of the first file. A network can so use them without leaving this process.

What is neither an array, a number, a string, None nor a tuple, list or dict of these stays in this process; the other
side gets its type's name. With `keep`, only the first value of an answer (y, cache) is sent, and the cache is kept
under a number that stands for it in later calls.

This file needs the standard library and NumPy, nothing else of minires: it also runs where minires is not installed.
"""

from __future__ import annotations

import inspect
import io
import json
import math
import os
import select
import struct
import sys
import threading
import traceback
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

HEADER_LIMIT = 1 << 20
"""A header is never longer, in bytes."""

OPEN_FILES = 256
"""How many files, pipes and sockets may be open: each takes memory of the system that no other limit counts."""

DEPTH = 16
"""How deep tuples, lists and dicts may be nested."""

NUMBERS = "fciub"
"""The kinds of dtypes that travel."""


class ProtocolError(Exception):
    """A message that breaks the rules above."""


# --- messages ------------------------------------------------------------------------------------------------------


def write_message(file: BinaryIO, header: dict, arrays: list[np.ndarray]) -> None:
    """Sends one message and flushes it."""
    blobs = []
    for array in arrays:
        blob = io.BytesIO()
        np.lib.format.write_array(blob, np.asanyarray(array), allow_pickle=False)
        blobs.append(blob.getvalue())
    text = json.dumps(header | {"lengths": [len(b) for b in blobs]}).encode()
    file.write(b"".join([struct.pack("<I", len(text)), text, *blobs]))
    file.flush()


def read_message(file: BinaryIO, limit: int) -> tuple[dict, list[np.ndarray]]:
    """One message of at most `limit` bytes. EOFError at the end of the stream, ProtocolError for a broken rule."""
    (size,) = struct.unpack("<I", _exactly(file, 4))
    if size > HEADER_LIMIT:
        raise ProtocolError(f"a header of {size} bytes")
    try:
        header = json.loads(_exactly(file, size))
        lengths = header["lengths"]
        if not all(type(n) is int and n >= 0 for n in lengths) or sum(lengths) > limit:
            raise ProtocolError(f"more than {limit} bytes of arrays")
        return header, [read_array(_exactly(file, n)) for n in lengths]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ProtocolError(str(error)) from error


def read_array(blob: bytes) -> np.ndarray:
    """The array of one .npy; its header is held against the bytes that are there before memory is taken."""
    file = io.BytesIO(blob)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ProtocolError(f".npy of version {version}")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file, max_header_size=2000)
    if dtype.kind not in NUMBERS or any(type(n) is not int or n < 0 for n in shape):
        raise ProtocolError(f"an array of {dtype} and shape {shape}")
    if math.prod(shape) * dtype.itemsize != len(blob) - file.tell():
        raise ProtocolError(f"shape {shape} does not fit the bytes that came")
    values = np.frombuffer(blob, dtype, offset=file.tell())
    return values.reshape(shape, order="F" if fortran else "C").copy()


def _exactly(file: BinaryIO, size: int) -> bytes:
    parts = []
    while size:
        part = file.read(min(size, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def encode(value: object, arrays: list[np.ndarray], depth: int = 0) -> object:
    """`value` as JSON; its arrays are appended to `arrays`."""
    if depth > DEPTH:
        return {"object": "something nested too deep"}
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int) and not isinstance(value, np.generic):
        return value if abs(value) < 2**63 else {"object": "a huge int"}
    if type(value) is float:
        return value
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.kind not in NUMBERS:
            return {"object": f"an array of {array.dtype}"}
        arrays.append(array)
        return {"array": len(arrays) - 1}
    if isinstance(value, tuple | list) and len(value) <= 1000:
        name = "tuple" if isinstance(value, tuple) else "list"
        return {name: [encode(v, arrays, depth + 1) for v in value]}
    if isinstance(value, dict) and len(value) <= 1000:
        return {"dict": [[encode(k, arrays, depth + 1), encode(v, arrays, depth + 1)] for k, v in value.items()]}
    return {"object": type(value).__name__}


def decode(code: object, arrays: list[np.ndarray], objects: Callable[[str, object], object], depth: int = 0) -> object:
    """What `encode` was given. objects(name, content) makes the rest: {"kept": 5}, {"rng": 0}, {"object": "set"}."""
    if depth > DEPTH + 1:
        raise ProtocolError("nested too deep")
    if code is None or isinstance(code, bool | str | int | float):
        return code
    try:
        ((name, content),) = code.items()
        if name == "array":
            return arrays[content]
        if name in ("tuple", "list"):
            values = [decode(c, arrays, objects, depth + 1) for c in content]
            return tuple(values) if name == "tuple" else values
        if name == "dict":
            return {decode(k, arrays, objects, depth + 1): decode(v, arrays, objects, depth + 1) for k, v in content}
        return objects(name, content)
    except (AttributeError, ValueError, TypeError, IndexError, KeyError) as error:
        raise ProtocolError(f"cannot read {str(code)[:80]}") from error


# --- the process ---------------------------------------------------------------------------------------------------


def main() -> None:
    """Answers until the other side hangs up. Student code prints to standard error and reads nothing."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True)  # or what is printed is lost when the process is ended
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    setup, _ = read_message(requests, 1 << 30)
    if hasattr(select, "poll"):
        threading.Thread(target=_end_with_the_caller, args=(requests,), daemon=True).start()
    _set_limits(setup)
    sys.path[:0] = setup["path"]
    loaded = _Loaded(setup["file"], setup["name"], setup.get("before", []), setup.get("driver"))
    own = os.getpid()
    write_message(answers, loaded.description(), [])
    while True:
        try:
            header, arrays = read_message(requests, 1 << 40)
        except EOFError:
            return
        out: list[np.ndarray] = []
        answer = loaded.answer(header, arrays, out)
        if os.getpid() != own:
            os._exit(1)  # a fork that the student's code left running must not answer as well
        write_message(answers, answer | {"number": header["number"]}, out)


def _end_with_the_caller(requests: BinaryIO) -> None:
    """Ends this process when the other side of the pipe is gone: killed, it cannot stop a loop that never ends."""
    hung_up = select.poll()
    hung_up.register(requests, 0)
    hung_up.poll()
    os._exit(1)


def _set_limits(setup: dict) -> None:
    """Memory and the size of files, where the system can set limits (POSIX)."""
    try:
        import resource
    except ImportError:
        return
    for name in ("AS", "FSIZE", "CPU", "NPROC"):
        if setup.get(name):
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (setup[name], setup[name]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = OPEN_FILES if most == resource.RLIM_INFINITY else min(most, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class _Loaded:
    """The student's file as a module, its functions, and what they left to be kept."""

    def __init__(self, file: str, name: str, before: list[str], driver: str | None) -> None:
        self.file = file
        self.kept: dict[int, tuple[object, list[np.ndarray], list[np.ndarray]]] = {}
        self.count = 0
        self.driver = self._load(driver, "driver")[0] if driver else {}
        earlier = {}
        for other in before:
            earlier |= self._load(other, os.path.splitext(os.path.basename(other))[0])[0]
        self.own, self.error = self._load(file, name)
        self.names = earlier | self.own

    def _load(self, file: str, name: str) -> tuple[dict[str, object], dict | None]:
        """The names that a file defines, and what went wrong."""
        name = "student" if name in sys.modules else name  # a file numpy.py must not stand for NumPy
        module = type(sys)(name)
        module.__file__ = file
        sys.modules[name] = module
        try:
            with open(file, "rb") as source:
                exec(compile(source.read(), file, "exec"), module.__dict__)
        except BaseException as error:
            return {}, self._told(error)
        return module.__dict__, None

    def description(self) -> dict:
        """The functions of the file with their parameters, or why it could not be loaded."""
        if self.error:
            return {"error": self.error}
        functions = {}
        for name, value in list(self.own.items()):
            if inspect.isfunction(value):
                functions[name] = parameters(value)
            if len(functions) == 1000:
                break
        classes = [n for n, v in list(self.own.items()) if inspect.isclass(v)][:1000]
        return {"functions": functions, "classes": classes}

    def answer(self, header: dict, arrays: list[np.ndarray], out: list[np.ndarray]) -> dict:
        """Carries out one call."""
        for number in header["release"]:
            self.kept.pop(number, None)
        objects, given = self._objects, [a.copy() for a in arrays]
        try:
            function = self._named(header["call"])
            arguments = [decode(c, arrays, objects) for c in header["arguments"]]
            options = {k: decode(c, arrays, objects) for k, c in header["options"].items()}
            with np.errstate(all="ignore"):
                result = function(*arguments, **options)
            reply = self._reply(result, header["keep"], arrays, given, out)
        except MemoryError as error:
            return {"error": {"kind": "MemoryError", "text": str(error)[:300], "line": None, "source": None}}
        except BaseException as error:
            return {"error": self._told(error)}
        reply["changed"] = self._changed(arrays, given, out)
        number = next((c["kept"] for c in header["arguments"] if isinstance(c, dict) and "kept" in c), None)
        if number is not None:
            reply["changed_before"] = self._changed(*self.kept[number][1:], out)
        return reply

    def _named(self, name: str) -> Callable:
        if name.startswith("driver:"):
            driver = self.driver[name.removeprefix("driver:")]
            return lambda *arguments, **options: driver(self.names, *arguments, **options)
        if name not in self.names:
            raise NameError(f"the file defines no {name}")
        return self.names[name]

    def _reply(self, result: object, keep: bool, arrays: list, given: list, out: list) -> dict:
        if keep and isinstance(result, tuple | list) and len(result) == 2:
            self.count += 1
            self.kept[self.count] = (result[1], arrays, given)
            return {"value": encode(result[0], out), "kept": self.count, "none": result[1] is None}
        return {"value": encode(result, out)}

    def _objects(self, name: str, content: object) -> object:
        if name == "kept":
            return self.kept[content][0]
        if name == "rng":
            return np.random.default_rng(content)
        raise ProtocolError(f"unknown {name}")

    @staticmethod
    def _changed(arrays: list, given: list, out: list) -> dict:
        """Number of the array -> where its new content is sent, for the arrays that a call wrote into."""
        changed = {}
        for i, (now, before) in enumerate(zip(arrays, given, strict=True)):
            if now.tobytes() != before.tobytes():
                changed[str(i)] = encode(now, out)
        return changed

    def _told(self, error: BaseException) -> dict:
        return told(error, self.file)


def told(error: BaseException, file: str) -> dict:
    """What went wrong, as data: the kind of exception, its text, and the last line of `file` that it passed."""
    line, source = None, None
    if isinstance(error, SyntaxError) and error.filename == file:
        line, source = error.lineno, (error.text or "").strip()
    else:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
        if frames:
            line, source = frames[-1].lineno, frames[-1].line
    try:
        text = error.msg if isinstance(error, SyntaxError) else str(error)
    except Exception:
        text = ""
    return {"kind": type(error).__name__[:60], "text": str(text)[:600], "line": line, "source": (source or "")[:200]}


def parameters(function: Callable) -> list[tuple[str, str, bool]]:
    """(name, kind, whether it may be left out) of the parameters of a function."""
    try:
        found = list(inspect.signature(function).parameters.values())[:100]
    except (TypeError, ValueError):
        return []
    return [(p.name, p.kind.name, p.default is not p.empty) for p in found]


if __name__ == "__main__":
    main()
