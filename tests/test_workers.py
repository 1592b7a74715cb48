"""Work on several processes: what fails, fails alone; whoever stops, stops them all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minires.workers import Failure, each_result
from tests.slowness import PATIENCE

NEVER = 10.0 * PATIENCE
"""Seconds of a task that nobody waits for."""

TASKS = ["a", "b", "raise", "kill", "c", "exit", "d"]


def work(task):
    """What the processes do in these tests."""
    if task == "raise":
        raise ValueError("no such thing")
    if task == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "exit":
        os._exit(3)
    if isinstance(task, float):
        time.sleep(task)
    return task * 2


def test_what_fails_fails_alone():
    found = dict(each_result(work, TASKS, workers=2))
    assert {task: found[task] for task in "abcd"} == {task: task * 2 for task in "abcd"}
    assert found["raise"] == Failure("ValueError: no such thing")
    assert "SIGKILL" in found["kill"].reason and "memory" in found["kill"].reason
    assert "exit code 3" in found["exit"].reason


def blas_threads(task):
    """A task that is the first to load NumPy in its process."""
    import numpy  # noqa: F401
    from threadpoolctl import threadpool_info

    return [library["num_threads"] for library in threadpool_info()]


def test_a_task_that_loads_numpy_has_one_thread_of_blas():
    assert set(dict(each_result(blas_threads, [0, 1], workers=2))[0]) == {1}


def test_one_worker_is_this_process():
    found = list(each_result(lambda task: os.getpid() if task else work("raise"), [1, 0, 2], workers=1))
    assert found == [(1, os.getpid()), (0, Failure("ValueError: no such thing")), (2, os.getpid())]


def test_whoever_stops_reading_stops_the_work():
    start = time.monotonic()
    for task, result in each_result(work, ["a", NEVER, NEVER], workers=2):
        assert (task, result) == ("a", "aa")
        break
    assert time.monotonic() - start < PATIENCE


PARENT = """
import sys
from minires.workers import each_result
from tests.test_workers import NEVER, work

if __name__ == "__main__":
    for task, result in each_result(work, ["a", NEVER, NEVER], 2):
        print(result, flush=True)
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="the children of a dead process are found in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGHUP])
def test_however_the_parent_ends_its_workers_end_too(number, tmp_path):
    program = tmp_path / "parent.py"
    program.write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, program],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=heed_all_signals,
    )
    assert parent.stdout.readline() == b"aa\n"
    workers = children(parent.pid)
    assert len(workers) >= 2
    parent.send_signal(number)
    parent.wait()
    deadline = time.monotonic() + PATIENCE
    while any(alive(pid) for pid in workers):
        assert time.monotonic() < deadline, "a worker outlives its parent"
        time.sleep(0.05)


def heed_all_signals():
    """A background job ignores Ctrl-C, and whatever `nohup` starts ignores a terminal that closes."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False
