"""Everything that is to be measured and tested on a GPU: run it by `tests/device/on_gpu.sh`, which ends it in time.

First the times, each engine in a process of its own and nothing beside it: a training step, inference and single
layers, and the memory of a training step. Then an epoch on random images of CIFAR's shape. Then, all at one time, the
checks: the tests that need a GPU, `gradcheck`, `train` and `compare`. Each part has a time at which it ends, so a slow
machine, or an engine that hangs, gives fewer figures, and the table says which are missing.

Exit code: 0 if all that ran has passed, 1 if not, if an engine failed or if a check was cut off.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from minires.backend import device_namespace
from minires.bench.cases import LAYERS, Case
from minires.bench.engines import ENGINES
from minires.bench.measure import EngineFailed, Worker, open_worker
from minires.bench.report import ABSENT, Table, machine, today
from minires.files import atomic_write_text
from minires.threads import num_threads

TIMES_END, EPOCH_END, CHECKS_END = 125, 145, 215
"""Seconds from the start at which each part ends."""

GRACE = 10
"""Seconds that a case may take beyond its engine's share before the engine is taken to hang."""

TURN, TURNS = 0.15, 5
"""Seconds that a turn takes at least, and turns of each case: fewer once an engine's share of the time is used up."""

BATCHES = {"cuda": (128, 512, 32, 2048), "cpu": (8,)}
"""What matters most comes first."""

EXACT = {"NVIDIA_TF32_OVERRIDE": "0"}
TF32 = {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1", "CUPY_TF32": "1"}  # PyTorch's convolutions use it anyway
COLUMNS = {
    "minires compiled": ("minires", EXACT),
    "minires": ("definition", EXACT),
    "PyTorch": ("torch", EXACT),
    "PyTorch channels_last": ("torch-channels-last", EXACT),
    "PyTorch, TF32": ("torch", TF32),
    "PyTorch channels_last, TF32": ("torch-channels-last", TF32),
    "minires compiled, TF32": ("minires", TF32),
}
"""Engine and environment of each column."""


class Findings:
    """All that was found, as it goes into the JSON. `end(s)`: the moment s seconds after the start."""

    def __init__(self, device: str) -> None:
        self.start, self.device, self.kind = time.monotonic(), device, device.partition(":")[0]
        self.facts = {"date": today(), "machine": machine(), "device": device} | card(self.kind)
        self.times: dict[str, dict[Case, dict[str, Any]]] = {}
        self.bytes: dict[str, int] = {}
        self.checks: dict[str, dict[str, Any]] = {}
        self.missing: list[str] = []
        self.failed = False

    def left(self, end: float) -> float:
        """Seconds until `end`, which is told in seconds from the start."""
        return self.start + end - time.monotonic()

    def as_json(self) -> str:
        times = {
            column: [asdict(case) | {"name": str(case)} | figures for case, figures in found.items()]
            for column, found in self.times.items()
        }
        found = {"times": times, "peak_bytes": self.bytes, "checks": self.checks, "missing": self.missing}
        return json.dumps(self.facts | found | {"seconds": -self.left(0)}, indent=1) + "\n"


def card(kind: str) -> dict[str, str]:
    """Name, driver and memory of the cards."""
    if kind == "cpu" or not shutil.which("nvidia-smi"):
        return {}
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    return {"card": subprocess.run(query, capture_output=True, text=True).stdout.strip()}


# --- times -----------------------------------------------------------------------------------------------------------


def all_cases(batches: tuple[int, ...]) -> list[Case]:
    """A step and inference of resnet20 and the three layers, batch by batch."""
    return [
        case
        for batch in batches
        for case in (
            *(Case(kind, batch, 20) for kind in ("train", "infer")),
            *(Case("layers", batch, channels=channels, size=size) for channels, size in LAYERS),
        )
    ]


def take_times(found: Findings) -> None:
    """Every column, each with an equal share of the time that is left."""
    columns = {name: c for name, c in COLUMNS.items() if found.kind != "cpu" or c[1] is EXACT}
    for number, (name, (engine, environment)) in enumerate(columns.items()):
        end = time.monotonic() + found.left(TIMES_END) / (len(columns) - number)
        if not importlib.util.find_spec(ENGINES[engine].module):
            found.missing.append(f"{name}: {ENGINES[engine].package} is not installed")
            continue
        print(f"{-found.left(0):.0f} s: {name}", file=sys.stderr)
        try:
            with patch.dict(os.environ, environment), limited(end):
                take_column(found, name, engine, end)
        except Exception as problem:  # whatever it is, the other engines have their turn
            found.missing.append(f"{name}: {type(problem).__name__}: {problem}")
            found.failed = True


@contextlib.contextmanager
def limited(end: float) -> Iterator[None]:
    """EngineFailed where the block still runs GRACE seconds after the end."""

    def late(*_: object) -> None:
        raise EngineFailed("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, max(0.01, end + GRACE - time.monotonic()))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def take_column(found: Findings, name: str, engine: str, end: float) -> None:
    """Times of all cases, then the memory of a training step in a fresh process."""
    cases, threads = all_cases(BATCHES[found.kind]), num_threads()
    times = found.times[name] = {}
    with open_worker(engine, found.device, threads) as worker:
        found.facts |= worker.facts
        for case in cases:
            if time.monotonic() > end:
                found.missing.append(f"{name}, from {case} on: out of time")
                break
            try:
                times[case] = take_case(worker, case, end)
            except EngineFailed as problem:
                found.missing.append(f"{name}, {case}: {problem}")
                found.failed = True
    if time.monotonic() < end:
        with open_worker(engine, found.device, threads, keep_memory=False) as worker:
            found.bytes[name] = worker.ask("memory", case=asdict(cases[0]))["bytes"]


def take_case(worker: Worker, case: Case, end: float) -> dict[str, Any]:
    """ "first": seconds until the first call was done, with all that it compiles; "seconds": of a call, by turns."""
    ready = worker.ask("prepare", case=asdict(case))
    calls, seconds = max(1, math.ceil(TURN / max(ready["seconds"], 1e-6))), []
    while not seconds or (len(seconds) < TURNS and time.monotonic() < end):
        seconds.append(worker.ask("run", case=asdict(case), calls=calls)["seconds"] / calls)
    return {"first": ready["first"], "seconds": seconds, "median": median(seconds)}


# --- checks ----------------------------------------------------------------------------------------------------------


def run_checks(found: Findings) -> None:
    """The epoch by itself, since it is timed; then everything else at one time."""
    small, device = found.kind == "cpu", ["--device", found.device]
    images = 2560 if small else 12800
    epoch = minires("bench", "--epoch", f"--images={images}", *device)
    run_together(found, EPOCH_END, {f"an epoch of {images:,} images of CIFAR's shape": epoch})
    with tempfile.TemporaryDirectory() as folder:
        compared = ["--init", "zero", "he_normal", "--depth", "8", "--epochs", "1" if small else "3"]
        checks = {
            "pytest -m gpu": [sys.executable, "-m", "pytest", "-q", "-rs", "-m", "gpu", "tests/device/test_gpu.py"],
            "gradcheck": minires("gradcheck", *device),
            "train on the digits": minires("train", "--epochs=2", f"--out={folder}/train", *device),
            "compare on the digits": minires("compare", *compared, f"--out={folder}/compare", *device),
        }
        run_together(found, CHECKS_END, checks)


def minires(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "minires", *arguments]


def run_together(found: Findings, end: float, commands: dict[str, list[str]]) -> None:
    """Runs commands at one time until the end: how each ended, after how many seconds, and the end of what it said."""
    print(f"{-found.left(0):.0f} s: {', '.join(commands)}", file=sys.stderr)
    start, running = time.monotonic(), {}
    with contextlib.ExitStack() as stack:
        for name, command in commands.items():
            said = stack.enter_context(tempfile.TemporaryFile("w+"))
            running[name] = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT), said
            stack.callback(running[name][0].kill)
        while running:
            late = found.left(end) < 0
            for name, (process, said) in list(running.items()):
                if late or process.poll() is not None:
                    found.checks[name] = outcome(process.poll(), said, time.monotonic() - start)
                    del running[name]
            time.sleep(0.1)


def outcome(code: int | None, said: Any, seconds: float) -> dict[str, Any]:
    """code: None if the command was cut off."""
    said.seek(0)
    lines = said.read().strip().splitlines()
    return {"exit_code": code, "seconds": seconds, "said": lines[-60:]}


# --- the table -------------------------------------------------------------------------------------------------------


def table(found: Findings) -> str:
    """One table of times in ms and memory in MB, the checks below it, and what was measured where."""
    names, rows = [*found.times], []
    for case in all_cases(tuple(sorted(BATCHES[found.kind]))):
        taken = {name: found.times[name][case]["median"] for name in names if case in found.times[name]}
        ours, *theirs = (taken.get(name) for name in ("minires compiled", "PyTorch", "PyTorch channels_last"))
        cells = [f"{1000 * taken[name]:.3g}" if name in taken else ABSENT for name in names]
        rows.append([f"{case}, ms", *cells, f"{ours / min(theirs):.2f}" if ours and all(theirs) else ABSENT])
    first = all_cases(BATCHES[found.kind])[0]
    starts = [found.times[name].get(first) for name in names]
    rows.append([f"{first}: until the first is done, s", *(f"{s['first']:.2f}" if s else ABSENT for s in starts), ""])
    sizes = [found.bytes.get(name) for name in names]
    rows.append([f"{first}: memory, MB", *(ABSENT if size is None else f"{size / 1e6:.0f}" for size in sizes), ""])
    for name, check in found.checks.items():
        ended = {0: "passed", None: "cut off"}.get(check["exit_code"], f"failed ({check['exit_code']})")
        if re.match(r"\d+ skipped in", check["said"][-1] if check["said"] else ""):
            ended = "all skipped"
        rows.append([name, f"{ended}, {check['seconds']:.0f} s", *[""] * len(names)])
    facts = [", ".join(f"{name} {value}" for name, value in found.facts.items())]
    said = [f"{name}: {' '.join(check['said'][-2:])}" for name, check in found.checks.items()]
    missing = [f"Missing: {what}" for what in found.missing]
    title = ["", *names, "compiled / best PyTorch without TF32"]
    return "\n".join([Table("", title, rows).markdown(), "", *facts, *said, *missing])


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/device/on_gpu.sh", description="Measure and test everything on a GPU.")
    parser.add_argument("--device", default="cuda", help='"cuda" or "cuda:1"; "cpu": a small set, to try the script')
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        default=Path("runs/on_gpu.json"),
        help="every number (default: %(default)s)",
    )
    args = parser.parse_args()
    try:
        device_namespace(args.device)
    except (RuntimeError, ValueError) as error:
        parser.error(str(error))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was found is still told
    found = Findings(args.device)
    try:
        take_times(found)
        run_checks(found)
    finally:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(args.json, found.as_json())
        print(table(found), f"{-found.left(0):.0f} s in all; every number: {args.json}", sep="\n")
    return 1 if found.failed or any(check["exit_code"] != 0 for check in found.checks.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
