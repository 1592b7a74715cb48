"""Engines take turns, each in a process of its own, and what comes of it.

A round goes through all cases, and in each case every engine has its turn. A machine that others use, too, is slower
at some moments than at others: so such a moment meets all engines of a case, and one round of each case, rather than
all turns of one.
"""

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
    """How many rounds there are, and in how many of them slow engines take part."""

    rounds: int = 9
    slow: int = 3


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
    run, courses = Run(), []
    weighed = [case for case in cases if case.kind == "train" and case.depth == cases[0].depth]
    pieces = len(cases) * (1 + effort.rounds) + len(weighed)
    with ExitStack() as stack:
        workers = {}
        for name in engines_for(device):
            if not any(_takes_part(name, case, cases) for case in cases):
                continue
            with _noted(name, run.notes):
                workers[name] = stack.enter_context(open_worker(name, device, threads))
                run.facts |= workers[name].facts
        for number, case in enumerate(cases):
            report(f"{case}: first steps", number, pieces)
            taking_part = {n: w for n, w in workers.items() if _takes_part(n, case, cases)}
            courses.append(_Course(case, taking_part, effort, run.notes))
        for turn in range(effort.rounds):
            for number, course in enumerate(courses, len(cases) * (1 + turn)):
                report(f"round {turn + 1} of {effort.rounds}: {course.result.case}", number, pieces)
                course.take(turn)
    run.results = [course.result for course in courses]
    for number, case in enumerate(weighed, pieces - len(weighed)):
        report(f"{case}: memory", number, pieces)
        result = next(result for result in run.results if result.case == case)
        result.bytes = _weigh(result, device, threads, run.notes)
    return run


def _takes_part(name: str, case: Case, cases: Sequence[Case]) -> bool:
    engine = ENGINES[name]
    return case.kind in engine.kinds and (not engine.slow or is_headline(case, cases))


class _Course:
    """One case: the engines that do it, and how many repetitions each of them makes in a turn."""

    def __init__(self, case: Case, workers: dict[str, Worker], effort: Effort, notes: list[str]) -> None:
        self.workers, self.notes, self.result = workers, notes, Result(case)
        self.calls: dict[str, int] = {}
        self.turns: dict[str, int] = {}
        for name, worker in workers.items():
            with _noted(name, notes, case):
                seconds = worker.ask("prepare", case=asdict(case))["seconds"]
                self.calls[name] = max(1, math.ceil(TURN / max(seconds, 1e-6)))
                self.turns[name] = min(effort.slow, effort.rounds) if ENGINES[name].slow else effort.rounds
                self.result.seconds[name] = []

    def take(self, turn: int) -> None:
        """One turn of each engine, but for slow ones that have had theirs. One that fails has no more of them."""
        case, seconds = self.result.case, self.result.seconds
        for name in [name for name in seconds if turn < self.turns[name]]:
            time.sleep(PAUSE)
            with _noted(name, self.notes, case):
                taken = self.workers[name].ask("run", case=asdict(case), calls=self.calls[name])["seconds"]
                seconds[name].append(taken / self.calls[name])
                continue
            self.turns[name] = turn
            if turn == 0:
                del seconds[name]


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
