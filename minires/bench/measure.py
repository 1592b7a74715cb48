"""Engines take turns, each in a process of its own, and what comes of it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from minires.bench.cases import Case, is_headline
from minires.bench.engines import ENGINES, environment

TURN = 0.5
"""Seconds that one turn should take at least: shorter work is repeated within it, as the steps of a training are."""

PAUSE = 0.05
"""Seconds before each turn: the last engine's threads may still be spinning, as OpenMP's do for some milliseconds and
OpenBLAS's for some 30."""


class EngineFailed(Exception):
    """An engine could not do a case; its text says which and why."""


@dataclass(frozen=True)
class Effort:
    """How often each case is repeated: `repeats` times, or as often as an engine manages in `seconds`, but `least`."""

    repeats: int = 9
    seconds: float = 4.0
    least: int = 3

    def turns(self, seconds: float) -> int:
        """Turns of an engine whose turn takes so many seconds."""
        return max(self.least, min(self.repeats, int(self.seconds / seconds)))


@dataclass
class Result:
    """Times of one case: seconds of one repetition, turn by turn, for each engine; and peak memory in bytes."""

    case: Case
    seconds: dict[str, list[float]] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)

    def median(self, engine: str) -> float:
        """Seconds; NaN where the engine did not take part."""
        return float(np.median(self.seconds[engine])) if engine in self.seconds else math.nan

    def ratio(self, engine: str, other: str) -> tuple[float, float, float]:
        """Time of `engine` over that of `other`, paired turn by turn: (quartile, median, quartile), or NaN."""
        pairs = list(zip(self.seconds.get(engine, []), self.seconds.get(other, []), strict=False))
        if not pairs:
            return math.nan, math.nan, math.nan
        low, middle, high = np.percentile([a / b for a, b in pairs], [25, 50, 75])
        return float(low), float(middle), float(high)


@dataclass
class Run:
    """All results of one run, and what is to be known to judge them. `notes`: what could not be measured, and why."""

    results: list[Result] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def engines_for(device: str) -> list[str]:
    """The engines that are installed and work on the device."""
    kind = device.partition(":")[0]
    return [name for name, engine in ENGINES.items() if kind in engine.devices and find_spec(engine.module)]


def measure(
    cases: Sequence[Case], *, device: str, threads: int, effort: Effort, report: Callable[[str, int, int], None]
) -> Run:
    """Times every case with every engine, then memory. `report(what, done, of)` is told before each piece of work.

    Raises EngineFailed if minires itself fails; other engines that do are named in the run's notes.
    """
    run = Run()
    weighed = [case for case in cases if case.kind == "train" and case.depth == cases[0].depth]
    pieces = len(cases) + len(weighed)
    with ExitStack() as stack:
        workers = {}
        for name in engines_for(device):
            if not any(_takes_part(name, case, cases) for case in cases):
                continue
            with _noted(name, run.notes):
                workers[name] = stack.enter_context(open_worker(name, device, threads))
                run.facts |= workers[name].facts
        for number, case in enumerate(cases):
            report(str(case), number, pieces)
            taking_part = {n: w for n, w in workers.items() if _takes_part(n, case, cases)}
            run.results.append(_take_turns(case, taking_part, effort, run.notes))
    for number, case in enumerate(weighed, len(cases)):
        report(f"{case}: memory", number, pieces)
        result = next(result for result in run.results if result.case == case)
        result.bytes = _weigh(result, device, threads, run.notes)
    return run


def _takes_part(name: str, case: Case, cases: Sequence[Case]) -> bool:
    engine = ENGINES[name]
    return case.kind in engine.kinds and (not engine.slow or is_headline(case, cases))


def _take_turns(case: Case, workers: dict[str, Worker], effort: Effort, notes: list[str]) -> Result:
    """A B A B ...: one turn each in every round, until each engine has had its share."""
    calls, turns = {}, {}
    for name, worker in workers.items():
        with _noted(name, notes, case):
            seconds = worker.ask("prepare", case=asdict(case))["seconds"]
            calls[name] = max(1, math.ceil(TURN / max(seconds, 1e-6)))
            turns[name] = effort.turns(seconds * calls[name])
    result = Result(case, {name: [] for name in calls})
    for turn in range(max(turns.values(), default=0)):
        for name in [name for name in result.seconds if turn < turns[name]]:
            time.sleep(PAUSE)
            with _noted(name, notes, case):
                taken = workers[name].ask("run", calls=calls[name])["seconds"]
                result.seconds[name].append(taken / calls[name])
                continue
            del result.seconds[name]
    return result


def _weigh(result: Result, device: str, threads: int, notes: list[str]) -> dict[str, int]:
    """Peak memory of each engine that did the case, in fresh processes."""
    found = {}
    for name in result.seconds:
        if name != "products":
            as_it_comes = name != "minires"  # PyTorch takes half as much again if it keeps what it frees
            with _noted(name, notes, result.case), open_worker(name, device, threads, not as_it_comes) as worker:
                found[name] = worker.ask("memory", case=asdict(result.case))["bytes"]
    return {name: size for name, size in found.items() if size is not None}


@contextmanager
def _noted(name: str, notes: list[str], case: Case | None = None) -> Iterator[None]:
    """An engine's failure becomes a note, and the others go on; without minires there is nothing to go on for."""
    try:
        yield
    except EngineFailed as problem:
        text = f"{ENGINES[name].title}, {case or 'at its start'}: {problem}"
        if name == "minires":
            raise EngineFailed(text) from problem
        notes.append(text)


# --- processes ---------------------------------------------------------------------------------------------------


class Worker:
    """The parent's end of a worker's process."""

    facts: dict[str, str]

    def __init__(self, threads: int) -> None:
        env, root = environment(threads), str(Path(__file__).resolve().parents[2])
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [root, env.get("PYTHONPATH")]))
        command, pipe = [sys.executable, "-W", "ignore", "-m", "minires.bench.worker"], subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=env, text=True)

    def ask(self, what: str, **details: Any) -> dict[str, Any]:
        """Sends a request and waits for its answer. EngineFailed if the engine raises or its process ends."""
        try:
            self.process.stdin.write(json.dumps({"do": what, **details}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise EngineFailed(f"its process ended with exit code {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise EngineFailed(answer["error"])
        return answer


@contextmanager
def open_worker(name: str, device: str, threads: int, keep_memory: bool = True) -> Iterator[Worker]:
    """A worker for the engine `name`; its process ends with the block, whatever it is doing then.

    keep_memory: whether it keeps what it frees, as `python -m minires` does (see `minires.machine`). Times are
    taken so for every engine, since each of them gains by it.
    """
    worker = Worker(threads)
    try:
        settings = {"device": device, "threads": threads, "keep_memory": keep_memory}
        worker.facts = worker.ask("start", engine=name, **settings)["facts"]
        yield worker
    finally:
        worker.process.kill()
        with suppress(BrokenPipeError), worker.process:  # closes its pipes (one may hold a last request), and waits
            pass
