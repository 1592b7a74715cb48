"""How a tutorial is run in a process of its own, and which of them are too slow for the README's test command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from minires.commands.tutorial import summary
from minires.tutorial import folder
from tests.slowness import ONE_THREAD, Spent, measured

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = sorted(folder().glob("[0-9][0-9]_*.py"))
QUICK = 10
"""Seconds. A tutorial that says it takes longer runs in a step of its own in .ci/run: `tests/tutorials/slow.py`."""


def stated_seconds(path: Path) -> float:
    """What the tutorial says it takes."""
    return float(summary(path.read_text(encoding="utf-8"))[2].split()[0])


SLOW = {path.stem[:2] for path in TUTORIALS if stated_seconds(path) > QUICK}
"""Their numbers, as in "09"."""


def number_of(question: str) -> str:
    """ "9.1" -> "09": which tutorial a question or an exercise belongs to."""
    return f"{int(question.partition('.')[0]):02d}"


def run_headless(path: Path, place: Path) -> Spent:
    """Runs a tutorial in the folder `place`, on two threads however many cores there are: what it took of them."""
    environment = {**os.environ, **ONE_THREAD, "MINIRES_NUM_THREADS": "2", "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)}
    with measured() as spent:
        done = subprocess.run([sys.executable, path], cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    print(f"{path.stem}: {spent.seconds:.1f} s of processor, the machine {spent.slowness:.1f} times as slow as ours")
    return spent
