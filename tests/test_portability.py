"""Students run Windows and macOS: what only POSIX or only Linux has is not needed for loading, nor for a short run.

This machine has it all, so it is hidden here. Files written on Windows have other line ends; they are read.
"""

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import minires

ROOT = Path(__file__).resolve().parents[1]

HIDE = """
import os, sys, types

class Hidden:
    names = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "posixpath_only"}

    def find_spec(self, name, path=None, target=None):
        if name in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
for name in Hidden.names:
    sys.modules.pop(name, None)
for name in "fork forkpty sched_getaffinity sched_setaffinity getuid geteuid setsid killpg nice".split():
    if hasattr(os, name):
        delattr(os, name)
import signal
for name in ("SIGKILL", "SIGHUP", "SIGALRM", "SIGUSR1", "alarm", "setitimer", "pthread_sigmask"):
    if hasattr(signal, name):
        delattr(signal, name)
"""

EXTRAS = ("mpi4py", "cupy", "torch", "safetensors", "pooch", "PIL", "selenium", "dezero", "numpy_ml", "jupytext")


def run(code, cwd=None):
    done = subprocess.run(
        [sys.executable, "-c", HIDE + code],
        capture_output=True,
        text=True,
        cwd=cwd or ROOT,
        env={**__import__("os").environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-1500:]
    return done.stdout


def test_every_module_loads_without_posix():
    names = [module.name for module in pkgutil.walk_packages(minires.__path__, "minires.")]
    names = [name for name in names if not name.endswith("__main__") and ".book." not in name]  # that is Sphinx's
    code = f"""
import importlib
Hidden.names |= {{*{EXTRAS!r}}}  # a fresh installation has none of these either
for name in {names!r}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name.partition(".")[0] not in {EXTRAS!r}:
            raise
print("loaded")
"""
    assert run(code).endswith("loaded\n")


def test_the_hiding_hides():
    """The check above can fail."""
    with pytest.raises(AssertionError, match="No module named 'fcntl'"):
        run("import fcntl")


def test_a_run_is_trained_resumed_and_tested_without_posix(tmp_path):
    code = """
from minires.cli import main
small = ["--epochs", "1", "--width", "2", "--batch-size", "256", "--out", "run"]
assert main(["train", *small]) == 0
assert main(["train", "--resume", "run"]) == 0
assert main(["evaluate", "--weights", "run/weights.npz"]) == 0
assert main(["info"]) == 0
"""
    assert "355 test images" in run(code, tmp_path)
    assert {"weights.npz", "history.json", "curves.png"} <= {path.name for path in (tmp_path / "run").iterdir()}


def test_workers_can_be_spawned(tmp_path):
    """Windows and macOS start workers by spawning: what they run has to be found by its name."""
    code = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from minires.recipes import depth_of
if __name__ == "__main__":
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        print(pool.submit(depth_of, "resnet20").result())
"""
    (tmp_path / "program.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "program.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**__import__("os").environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == "20\n", done.stderr


def test_sources_and_json_with_windows_line_ends(tmp_path):
    from minires.commands.train_output import holds_epochs

    (tmp_path / "history.json").write_bytes(b'{\r\n "epochs": [1, 2]\r\n}\r\n')
    assert holds_epochs(tmp_path / "history.json", 2)
    (tmp_path / "student.py").write_bytes(
        b"import numpy as np\r\n\r\n\r\ndef relu_forward(x):\r\n    return np.maximum(x, 0), x\r\n\r\n\r\n"
        b"def relu_backward(dy, cache):\r\n    return dy * (cache > 0)\r\n"
    )
    from minires.gradcheck import check_file

    assert check_file(tmp_path / "student.py", "relu").verdict == "pass"
