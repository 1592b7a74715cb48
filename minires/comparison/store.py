"""Finished runs in a folder: whatever interrupts a comparison, the next one takes them over.

A run depends on its case and on the code alone, so a run found in the folder is taken over exactly where both are the
same: settings by their text, code by a checksum over the rooms that a run passes through. Edit an operation, and all
cases run anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import minires
from minires.comparison.experiment import Case, Run, Signal
from minires.files import atomic_write_text
from minires.theory.forecast import Forecast
from minires.theory.outlook import Outlook

FILE = "runs.json"

ROOMS = ("backend.py", "ops", "nn", "fast", "init", "optim.py", "data", "train", "theory", "comparison")
"""What decides the result of a run, in the package's folder."""


class Store:
    """The runs that `folder` holds, for this code. `add` writes at once, whole or not at all. taken: how many were."""

    def __init__(self, folder: Path) -> None:
        self.path, self.code = folder / FILE, checksum_of_code()
        self.records: dict[str, Any] = {}
        self.taken = 0
        with suppress(OSError, ValueError, KeyError, TypeError):  # no file, or none of ours: nothing is there
            content = json.loads(self.path.read_text(encoding="utf-8"))
            if content["code"] == self.code:
                self.records = dict(content["runs"])

    def get(self, case: Case) -> Run | None:
        """The finished run of a case, if it is there."""
        record = self.records.get(repr(case))
        if record is None:
            return None
        self.taken += 1
        return _run(case, record)

    def add(self, run: Run) -> None:
        """Keep a run. Raises OSError where the file cannot be written; the runs are still in memory then."""
        record = asdict(run)
        del record["case"]
        self.records[repr(run.case)] = {**record, "foreseen": run.foreseen._asdict(), "outlook": run.outlook._asdict()}
        atomic_write_text(self.path, json.dumps({"code": self.code, "runs": self.records}))


def _run(case: Case, record: dict[str, Any]) -> Run:
    foreseen = record["foreseen"]
    pairs = {name: [tuple(pair) for pair in foreseen[name]] for name in ("activations", "gradients")}
    parts = {
        "signal": Signal(**record["signal"]),
        "foreseen": Forecast(**{**foreseen, **pairs}),
        "outlook": Outlook(**record["outlook"]),
        "losses": tuple(record["losses"]),
    }
    return Run(case, **{**record, **parts})


def checksum_of_code() -> str:
    """Of NumPy's version and of every line that a run passes through."""
    found = hashlib.sha256(np.__version__.encode())
    for path in _sources(Path(minires.__file__).parent):
        found.update(path.read_bytes())
    return found.hexdigest()


def _sources(package: Path) -> Iterator[Path]:
    for room in ROOMS:
        path = package / room
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]
