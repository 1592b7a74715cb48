"""The process of a worker and what it may use: limits, the pipes to it, and the threads that listen."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from minires.gradcheck.worker import ProtocolError, read_message, write_message

POSIX = os.name == "posix"
MB = 1 << 20


class _Clock:
    """Seconds that pass while somebody looks at it again and again, as everybody does who waits here.

    A longer gap between two looks counts as `GAP`: this process stood still, and so, most likely, did the one it waits
    for, because the machine paused or others had it.
    """

    def __init__(self) -> None:
        self._seconds, self._seen, self._lock = 0.0, time.perf_counter(), threading.Lock()

    def now(self) -> float:
        with self._lock:
            here = time.perf_counter()
            self._seconds, self._seen = self._seconds + min(here - self._seen, GAP), here
            return self._seconds


CLOCK = _Clock()
"""Of all limits of time: nobody loses points because the machine stood still."""

LOOK, GAP = 0.05, 0.25
"""Seconds between two looks at it, and what a gap counts at most."""


@dataclass(frozen=True)
class Limits:
    """What one process may use."""

    start: float = 20.0
    """Seconds until the file is loaded."""
    call: float = 10.0
    """Seconds of one call."""
    total: float = 120.0
    """Seconds of all calls together, restarts included."""
    memory: int = 2048 * MB
    """Bytes of address space (where the system can limit it)."""
    files: int = 64 * MB
    """Bytes of any file it writes."""
    answer: int = 64 * MB
    """Bytes of the arrays of one answer."""
    processes: int = 0
    """How many processes and threads its user may have; 0: not limited. Only sensible for a user of its own."""
    printed: int = 64 * MB
    """Bytes it may print before it is stopped; the first 20,000 are kept."""


def printable(text: object) -> str:
    """Somebody's text without control characters, terminal escapes and halves of characters."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in str(text))


class Process:
    """The running worker and the threads that listen to it."""

    def __init__(self, command: list[str], environment: Mapping[str, str] | None, limits: Limits) -> None:
        self.limits = limits
        self.released: list[int] = []
        env = dict(os.environ if environment is None else environment)
        env |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
        pipe = subprocess.PIPE
        self.popen = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, env=env, start_new_session=POSIX, close_fds=True
        )
        self._answers: queue.Queue = queue.Queue(maxsize=2)
        self._kept, self._count, self._flooded = bytearray(), 0, False
        self._deadline, self._late = math.inf, False
        self._number = secrets.randbits(48)
        for work in (self._listen, self._drain, self._watch):
            threading.Thread(target=work, daemon=True).start()

    def exchange(self, header: dict, arrays: list[np.ndarray], seconds: float) -> tuple[dict, list[np.ndarray]]:
        """Sends a message and waits for its answer. TimeoutError, EOFError, OSError or ProtocolError if none comes."""
        self._deadline = CLOCK.now() + seconds
        try:
            write_message(self.popen.stdin, header, arrays)
            got = self._answer(self._deadline + 1)
            if isinstance(got, Exception):
                raise got
            return got
        except (OSError, EOFError, ValueError) as error:
            if self._late:
                raise TimeoutError from None
            if isinstance(error, ValueError) and self.popen.stdin.closed:  # by `end`, in the midst of the writing
                raise EOFError from None
            raise
        finally:
            self._deadline = math.inf

    def _answer(self, deadline: float) -> Exception | tuple[dict, list[np.ndarray]]:
        while CLOCK.now() < deadline:
            with contextlib.suppress(queue.Empty):
                return self._answers.get(timeout=LOOK)
        raise TimeoutError

    def _watch(self) -> None:
        """Ends the process when a call is late, even while the message of that call waits to be read."""
        while self.popen.poll() is None:
            if CLOCK.now() > self._deadline:
                self._late = True
                self.end()
                return
            time.sleep(LOOK)

    def is_quiet(self) -> bool:
        """Whether no answer waits that nobody asked for."""
        return self._answers.empty()

    def next_number(self) -> int:
        """The number of the next call, which its answer has to bear."""
        self._number += 1
        return self._number

    def take_released(self) -> list[int]:
        """Numbers of the caches that nobody needs any more."""
        taken = self.released[:]
        del self.released[: len(taken)]
        return taken

    def ending(self) -> str:
        """Why the process is gone, in words."""
        if self._flooded:
            return f"it printed more than {self.limits.printed // MB} MB and was stopped"
        try:
            code = self.popen.wait(timeout=2)
        except subprocess.TimeoutExpired:
            return "it closed the channel that its results travel through"
        if code < 0:
            name = signal.Signals(-code).name if -code in list(signal.Signals) else str(-code)
            return f"its process was ended by the system ({name}): too much memory, or a crash inside a library"
        if code == 0:
            return "it ended its process: look for exit(), quit() or os._exit()"
        return f"its process ended with code {code}: look for exit() or os._exit(), or for memory that ran out"

    def printed(self) -> str:
        """The beginning of what the file printed."""
        return printable(self._kept.decode("utf-8", "replace"))

    def end(self) -> None:
        """Kills the process and its group."""
        with contextlib.suppress(OSError):
            if POSIX:
                os.killpg(self.popen.pid, signal.SIGKILL)
            else:
                self.popen.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(timeout=5)
        with contextlib.suppress(OSError, ValueError):
            self.popen.stdin.close()

    def _listen(self) -> None:
        while True:
            try:
                self._answers.put(read_message(self.popen.stdout, self.limits.answer))
            except Exception as error:
                self._answers.put(error if isinstance(error, ProtocolError) else EOFError())
                return

    def _drain(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while part := self.popen.stderr.read1(1 << 16):
                self._kept += part[: max(20_000 - len(self._kept), 0)]
                self._count += len(part)
                if self._count > self.limits.printed:
                    self._flooded = True
                    self.end()
                    return
