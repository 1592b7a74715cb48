"""`minires.machine` changes how the process keeps memory, and never over the user's head."""

import platform
import subprocess
import sys

import pytest

from minires import machine

SCRIPT = """
import resource, sys
import numpy as np
from minires.machine import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def step():
    arrays = [np.ones(int(sys.argv[2]), np.float32) for _ in range(16)]
    arrays.clear()
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")


def page_faults(how: str, numbers: int) -> int:
    command = [sys.executable, "-c", SCRIPT, how, str(numbers)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(run.stdout)


@glibc
@pytest.mark.parametrize("numbers", [2**19, 9 * 2**20])
def test_kept_memory_is_not_asked_for_again(numbers):
    """16 arrays of 2 MB, or of 36 MB as in a step with a batch of 512: 170 MB or 3 GB in five steps.

    The system gives memory in pages of at most 2 MB: 80 of them at the least, if it had to be asked again. One that
    moves pages between its memories, or is short of memory, may have faults of its own: one of three tries is enough.
    """
    assert any(page_faults("keep", numbers) < 32 for _ in range(3))


@glibc
def test_what_the_environment_says_wins(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "0")
    assert machine.keep_freed_memory() is False


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(machine.sys, "platform", "darwin")
    assert machine.keep_freed_memory() is False
