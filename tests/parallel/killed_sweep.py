"""A sweep killed three times ends with the same CSV as an undisturbed one: python -m tests.parallel.killed_sweep

44 cells (eleven initializers, four networks), each of 8 layers and one epoch. The undisturbed sweep runs on two
processes. The other one is killed three times, each time after about a quarter of the cells: its main process by
SIGKILL, then rank 1 of three MPI ranks, then rank 0. It ends on a single process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.parallel.launch import clear_shared_memory, mpiexec
from tests.slowness import PATIENCE

SWEEP = [sys.executable, "-m", "minires", "compare", "--depth", "8", "--epochs", "1"]


def kept(folder: Path) -> int:
    """How many runs are finished there."""
    file = folder / "runs.json"
    return len(json.loads(file.read_text())["runs"]) if file.exists() else 0


def finish(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True)


def kill_after(runs: int, command: list[str], folder: Path, rank: int | None = None) -> bool:
    """Starts the command and kills it with SIGKILL once so many runs are kept: itself, or one rank of it.

    Returns False where that was too late: it was finished.
    """
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and kept(folder) < runs:
        time.sleep(0.01)
    assert kept(folder) >= runs, f"{command} ended with {process.returncode} before it could be killed"
    if process.poll() is None:
        os.kill(process.pid if rank is None else pid_of_rank(process.pid, rank), signal.SIGKILL)
    process.wait(timeout=PATIENCE)
    clear_shared_memory()
    return process.returncode != 0


def pid_of_rank(parent: int, rank: int) -> int:
    """The process with this rank among the descendants of mpiexec."""
    for pid in descendants(parent):
        try:
            if f"PMI_RANK={rank}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes():
                return pid
        except OSError:
            continue
    raise AssertionError(f"no rank {rank} below process {parent}")


def descendants(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [found for child in children for found in descendants(child)]


def main() -> int:
    with tempfile.TemporaryDirectory() as base:
        whole, killed = Path(base) / "whole", Path(base) / "killed"
        undisturbed = finish([*SWEEP, "--jobs", "2", "--out", str(whole)])
        assert undisturbed.returncode == 0, undisturbed.stderr
        total = kept(whole)
        again, quarter = [*SWEEP, "--out", str(killed)], total // 4
        assert kill_after(quarter, [*again, "--jobs", "2"], killed)
        print(f"{kept(killed)} of {total} runs kept when the main process was killed")
        for turn, rank in ((2, 1), (3, 0)):
            if mpiexec():
                assert kill_after(turn * quarter, [mpiexec(), "-n", "3", *again], killed, rank)
                print(f"{kept(killed)} when rank {rank} of 3 was killed")
            else:
                assert kill_after(turn * quarter, [*again, "--jobs", "3"], killed)
                print(f"{kept(killed)} when the main process was killed (no MPI here)")
        last = finish([*again, "--jobs", "1"])
        assert last.returncode == 0, last.stderr
        same = (whole / "compare.csv").read_bytes() == (killed / "compare.csv").read_bytes()
        lines = len((whole / "compare.csv").read_text().splitlines())
        print(f"{lines} lines of CSV, {'the same bytes' if same else 'which differ'}")
        return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
