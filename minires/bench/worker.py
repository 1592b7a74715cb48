"""One engine in a process of its own: `python -m minires.bench.worker`, spoken to in lines of JSON.

    {"do": "start", "engine": "torch", "device": "cpu", "threads": 2, "keep_memory": true}    -> {"facts": {...}}
    {"do": "prepare", "case": {...}}        -> {"first": 2.1, "seconds": 0.3}   all up to the first call's end, which
                                               compiles what has to be, and the warm-up's last call
    {"do": "run", "case": {...}, "calls": 3} -> {"seconds": 0.9}  after one more that is not timed
    {"do": "memory", "case": {...}}         -> {"bytes": 3e8}     or null
    anything that goes wrong                -> {"error": "..."}

The process ends when its input does. Ctrl-C is left to the parent.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

from minires import machine
from minires.bench.cases import Case
from minires.bench.engines import ENGINES, Engine, Step

WARM = 0.5
"""Seconds: a first call that took less is followed by a second one, with all code and memory in place."""


def main() -> None:
    """Answers until the input ends. What libraries print goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    worker = _Worker()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except Exception as error:  # an engine may fail in any way; the others go on
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


class _Worker:
    engine: Engine

    def __init__(self) -> None:
        self.steps: dict[Case, Step] = {}

    def start(self, engine: str, device: str, threads: int, keep_memory: bool) -> dict[str, Any]:
        if keep_memory:
            machine.keep_freed_memory()
        self.engine = ENGINES[engine](device, threads)
        return {"facts": self.engine.facts()}

    def prepare(self, case: dict[str, Any]) -> dict[str, Any]:
        start = time.perf_counter()
        step = self.steps[Case(**case)] = self.engine.prepare(Case(**case))
        seconds = self.engine.seconds(step, 1)
        first = time.perf_counter() - start
        if seconds < WARM:
            seconds = self.engine.seconds(step, 1)
        return {"first": first, "seconds": seconds}

    def run(self, case: dict[str, Any], calls: int) -> dict[str, Any]:
        """Times calls as they follow each other in a training: caches and threads come back in one before them."""
        step = self.steps[Case(**case)]
        self.engine.seconds(step, 1)
        return {"seconds": self.engine.seconds(step, calls)}

    def memory(self, case: dict[str, Any]) -> dict[str, Any]:
        """What three steps take at most beyond what engine, model and data take before the first.

        A step of eight images comes before: code that is loaded when it is first needed is no memory of a step.
        """
        self.engine.seconds(self.engine.prepare(Case(**case | {"batch": 8})), 1)
        step = self.engine.prepare(Case(**case))
        before = _resident(restart=True)
        self.engine.seconds(step, 3)
        on_device = self.engine.device_bytes()
        after = _resident()
        if on_device is not None:
            return {"bytes": on_device}
        return {"bytes": None if before is None or after is None else after - before}


def _resident(restart: bool = False) -> int | None:
    """The process's largest resident memory so far in bytes, or since the last restart; None if unknown."""
    try:
        if restart:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
        with open("/proc/self/status") as file:
            sizes = dict(line.split(":", 1) for line in file)
        return int(sizes["VmHWM"].split()[0]) * 1024
    except OSError:
        return _largest_resident()


def _largest_resident() -> int | None:
    """Where there is no /proc: the largest since the process began."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
