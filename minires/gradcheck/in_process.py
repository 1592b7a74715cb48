"""Somebody's functions in this process, where no other can be started: in a browser, whose worker limits them.

Everywhere else `runner.Student` runs them, in a process of their own.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minires.gradcheck.runner import Parameter, Seeded, call_error
from minires.gradcheck.worker import parameters, told


def can_start_processes() -> bool:
    """Whether this system has processes: Python as WebAssembly has none."""
    return sys.platform not in ("emscripten", "wasi")


class InProcess:
    """A file of functions as `check_loaded` takes it; `names`, if it has been run already, are what it defines."""

    def __init__(self, file: str | os.PathLike[str], names: dict[str, Any] | None = None) -> None:
        self.file, self.names = Path(file), names
        if names is None and not self.file.is_file():
            raise FileNotFoundError(f"there is no file {self.file}")

    @property
    def functions(self) -> dict[str, tuple[Parameter, ...]]:
        """The functions that the file defines. CallError if it cannot be loaded."""
        if self.names is None:
            names: dict[str, Any] = {"__name__": self.file.stem, "__file__": str(self.file)}
            try:
                exec(compile(self.file.read_bytes(), str(self.file), "exec"), names)
            except Exception as error:
                raise call_error(told(error, str(self.file))) from None
            self.names = names
        found = {name: value for name, value in self.names.items() if inspect.isfunction(value)}
        return {name: tuple(Parameter(*p) for p in parameters(function)) for name, function in found.items()}

    def pair(self, forward: str, backward: str, *settings: object, **options: object) -> tuple[Callable, Callable]:
        """(forward, backward) for `check_op`; settings and options are handed to forward behind its arrays."""

        def run_forward(*inputs: object) -> object:
            return self._call(forward, *inputs, *settings, **options)

        def run_backward(dy: object, cache: object) -> object:
            return self._call(backward, dy, cache)

        run_forward.__name__, run_backward.__name__ = forward, backward
        return run_forward, run_backward

    def _call(self, name: str, *arguments: object, **options: object) -> object:
        try:
            with np.errstate(all="ignore"):
                return self.names[name](*map(_seeded, arguments), **{k: _seeded(v) for k, v in options.items()})
        except Exception as error:
            raise call_error(told(error, str(self.file))) from None


def _seeded(value: object) -> object:
    return np.random.default_rng(value.seed) if isinstance(value, Seeded) else value
