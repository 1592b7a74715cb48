"""`minires.machine` changes how the process keeps memory, and never over the user's head."""

import platform
import resource
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
    arrays = [np.ones(2**19, np.float32) for _ in range(16)]
    arrays.clear()
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")


def page_faults(how: str) -> int:
    run = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True)
    return int(run.stdout)


@glibc
def test_kept_memory_is_not_asked_for_again():
    pages = 5 * 16 * 2**21 // resource.getpagesize()
    assert page_faults("keep") < pages / 100, "freed arrays should be reused without new pages"


@glibc
def test_what_the_environment_says_wins(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "0")
    assert machine.keep_freed_memory() is False


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(machine.sys, "platform", "darwin")
    assert machine.keep_freed_memory() is False
