"""Somebody's file in a process of its own: calls go in, arrays come out, and nothing else does.

    with Student("student.py") as student:
        student.functions                          # {"conv2d_forward": (Parameter("x", ...), ...), ...}
        y, cache = student.call("conv2d_forward", x, weight, bias, keep=True, stride=2)
        dx, dweight, dbias = student.call("conv2d_backward", dy, cache)

`forward, backward = student.pair(...)` gives two functions as `check_op` takes them. The cache stays in the other
process; here a `Kept` stands for it. No object, class or exception of the file is ever rebuilt here: `worker.py` says
what can travel. A call that lasts too long, takes too much memory or ends its process raises `Stopped`; an exception
inside it raises `CallError`. The next call starts a fresh process.

The process is limited, not locked in: it can still read files. A grader wraps its command (`wrap`) to isolate it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minires.gradcheck import worker
from minires.gradcheck.process import CLOCK, Limits, Process, printable
from minires.gradcheck.worker import ProtocolError, decode, encode


class Parameter(NamedTuple):
    """One parameter of a function of the file."""

    name: str
    kind: str
    """POSITIONAL_ONLY, POSITIONAL_OR_KEYWORD, VAR_POSITIONAL, KEYWORD_ONLY or VAR_KEYWORD."""
    optional: bool


class CallError(Exception):
    """The student's code raised something; the class has the name of what it raised."""

    line: int | None = None
    source: str = ""


class Stopped(Exception):
    """The process is gone: its time was up, or it ended by itself. detail: what it may have written itself."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail[:200]})" if detail else reason)
        self.reason = reason


class Opaque(NamedTuple):
    """Stands for a value that did not travel."""

    kind: str


class Kept:
    """Stands for a cache that stays in the student's process."""

    def __init__(self, process: Process, number: int, arrays: list[np.ndarray]) -> None:
        self._process, self._number = process, number
        self._arrays = arrays
        """What the forward call was given."""

    def __del__(self) -> None:
        self._process.released.append(self._number)


@dataclass
class Student:
    """One file of student code, and the process that runs it. `wrap` may put a command in front of the process's own.

    Raises FileNotFoundError if there is no such file.
    """

    file: str | os.PathLike[str]
    limits: Limits = field(default_factory=Limits)
    path: Sequence[str] = ()
    """Folders in which its imports are looked up first."""
    wrap: Callable[[list[str]], list[str]] | None = None
    environment: Mapping[str, str] | None = None
    """Environment variables of the process; those of this one by default."""
    seen_as: str | None = None
    """The file's path inside the process, where `wrap` gives it another."""
    worker: str = worker.__file__
    """The path of worker.py inside the process."""
    driver: str | None = None
    """A second file; call("driver:NAME", ...) calls NAME(functions of the first file, ...) in it."""
    before: Sequence[str] = ()
    """Files whose functions the driver sees as well, unless the first file has them itself."""

    def __post_init__(self) -> None:
        self.file = Path(self.file).resolve()
        if not self.file.is_file():
            raise FileNotFoundError(f"there is no file {self.file}")
        self._process: Process | None = None
        self._functions: dict[str, tuple[Parameter, ...]] | None = None
        self._spent, self.printed, self.starts = 0.0, "", 0

    def __enter__(self) -> Student:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def functions(self) -> dict[str, tuple[Parameter, ...]]:
        """The functions that the file defines. CallError if it cannot be loaded, Stopped if loading never ends."""
        if self._functions is None:
            self._running()
        return self._functions

    def call(self, function: str, *arguments: object, keep: bool = False, **options: object) -> object:
        """Calls `function` of the file. keep: it returns (y, cache); the cache stays there and a Kept comes back.

        Arrays that the call changes in place are changed here, too.
        """
        process = self._running()
        arrays: list[np.ndarray] = []
        try:
            header = {
                "number": process.next_number(),
                "call": function,
                "arguments": [_sent(a, arrays, process) for a in arguments],
                "options": {k: _sent(v, arrays, process) for k, v in options.items()},
                "keep": keep,
                "release": process.take_released(),
            }
            reply, received = self._exchange(process, header, arrays, self.limits.call, f"{function} ran")
            if reply.get("number") != header["number"]:
                raise ProtocolError("an answer to another call")
            kept = next((a for a in arguments if isinstance(a, Kept)), None)
            return _result(process, reply, received, arrays, kept)
        except (ProtocolError, KeyError, AttributeError) as error:
            self.close()
            raise Stopped(f"{function} spoiled the channel its results travel through", str(error)) from None

    def pair(self, forward: str, backward: str, *settings: object, **options: object) -> tuple[Callable, Callable]:
        """(forward, backward) for `check_op`; settings and options are handed to forward behind its arrays."""

        def run_forward(*inputs: object) -> object:
            return self.call(forward, *inputs, *settings, keep=True, **options)

        def run_backward(dy: object, cache: object) -> object:
            return self.call(backward, dy, cache)

        run_forward.__name__, run_backward.__name__ = forward, backward
        return run_forward, run_backward

    def close(self) -> None:
        """Ends the process, and all that it started in its group."""
        if self._process is not None:
            self._process.end()
            self.printed = self.printed or self._process.printed()
            self._process = None

    def _running(self) -> Process:
        if self._process is not None and not self._process.is_quiet():
            self.close()  # it answers what nobody asked; the next call shall not suffer
        if self._process is None:
            if self._spent > self.limits.total:
                raise Stopped(f"the {self.limits.total:g} s that all calls have together are used up")
            self.starts += 1
            process = Process(self._command(), self.environment, self.limits)
            self._process = process
            header, _ = self._exchange(process, self._setup(), [], self.limits.start, "loading the file took")
            if "error" in header:
                self.close()
                raise call_error(header["error"])
            try:
                self._functions = {
                    str(name): tuple(Parameter(str(p), str(kind), bool(optional)) for p, kind, optional in parameters)
                    for name, parameters in header["functions"].items()
                }
            except (KeyError, AttributeError, ValueError, TypeError):
                self.close()
                raise Stopped("loading the file spoiled the channel its results travel through") from None
        return self._process

    def _command(self) -> list[str]:
        command = [sys.executable, "-P", "-B", self.worker]
        return self.wrap(command) if self.wrap else command

    def _setup(self) -> dict:
        seen = self.seen_as or str(self.file)
        limits = self.limits
        return {
            "file": seen,
            "name": Path(seen).stem,
            "path": [*self.path, str(Path(seen).parent)],
            "driver": self.driver,
            "before": list(self.before),
            "AS": limits.memory,
            "FSIZE": limits.files,
            "NPROC": limits.processes,
        }

    def _exchange(
        self, process: Process, header: dict, arrays: list[np.ndarray], seconds: float, doing: str
    ) -> tuple[dict, list[np.ndarray]]:
        begun = CLOCK.now()
        seconds = min(seconds, max(self.limits.total - self._spent, 0.05))
        try:
            return process.exchange(header, arrays, seconds)
        except TimeoutError:
            self.close()
            raise Stopped(f"{doing} more than {seconds:.3g} s and was stopped: does a loop never end?") from None
        except (EOFError, OSError):
            ended = process.ending()
            self.close()
            raise Stopped(ended) from None
        except ProtocolError as error:
            self.close()
            raise Stopped("the process sent something that is no result", str(error)) from None
        finally:
            self._spent += CLOCK.now() - begun


def _sent(value: object, arrays: list[np.ndarray], process: Process) -> object:
    if isinstance(value, Kept):
        if value._process is not process:
            raise Stopped("the cache is gone: its process was stopped")
        return {"kept": value._number}
    if isinstance(value, np.random.Generator):
        raise TypeError("a generator cannot be sent; send Seeded(seed)")
    return {"rng": value.seed} if isinstance(value, Seeded) else encode(value, arrays)


class Seeded(NamedTuple):
    """Becomes numpy.random.default_rng(seed) in the student's process."""

    seed: int


def _result(
    process: Process, reply: dict, received: list[np.ndarray], sent: list[np.ndarray], kept: Kept | None
) -> object:
    """The value of a call, with the changes it made to the arrays it was given."""
    if "error" in reply:
        raise call_error(reply["error"])
    _write_back(reply["changed"], received, sent)
    if kept is not None:
        _write_back(reply.get("changed_before", {}), received, kept._arrays)
    value = decode(reply["value"], received, lambda name, content: Opaque(str(content)[:60]))
    if "kept" not in reply:
        return value
    number = reply["kept"]
    if type(number) is not int:
        raise ProtocolError("a number was expected")
    return value, None if reply["none"] else Kept(process, number, sent)


def _write_back(changed: dict, received: list[np.ndarray], arrays: list[np.ndarray]) -> None:
    for number, code in changed.items():
        new = decode(code, received, lambda name, content: None)
        target = arrays[int(number)] if int(number) < len(arrays) else None
        if isinstance(new, np.ndarray) and target is not None and new.shape == target.shape and target.flags.writeable:
            target[...] = new


def call_error(told: object) -> Exception:
    """A CallError whose class bears the name of what the student's code raised."""
    if not isinstance(told, dict):
        return Stopped("the process sent something that is no result")
    kind, text, line = str(told.get("kind", ""))[:60], printable(told.get("text", ""))[:600], told.get("line")
    source = printable(told.get("source") or "")[:200]
    where = f" (line {line}: {source})" if isinstance(line, int) and source else ""
    error = type(kind if kind.isidentifier() else "Exception", (CallError,), {})(f"{text}{where}")
    error.line, error.source = line if isinstance(line, int) else None, source
    return error
