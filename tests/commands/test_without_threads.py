"""Where no thread and no process can be started, as in a browser, the commands do their work all the same."""

import os
import subprocess
import sys
import threading

import pytest

from minires.commands import live_display

AS_IN_A_BROWSER = """
import sys, threading

def refuse(self):
    raise RuntimeError("can't start new thread")

threading.Thread.start = refuse
sys.modules["_multiprocessing"] = None
from minires import cli
sys.exit(cli.main(sys.argv[1:]))
"""

COMMANDS = {
    "compare": ["compare", "--init", "he_normal", "--depth", "8", "--epochs", "1", "--out", "run"],
    "train": ["train", "--epochs", "1", "--out", "run"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_needs_neither_threads_nor_processes(name, tmp_path):
    environment = {**os.environ, "MINIRES_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", AS_IN_A_BROWSER, *COMMANDS[name]]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_live_line_starts_no_thread_where_nobody_sees_it():
    before = {*threading.enumerate()}
    with live_display() as display:
        display.add_task("work")
        assert {*threading.enumerate()} <= before  # those of other tests may end meanwhile
