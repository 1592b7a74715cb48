"""Starts a program on several ranks, as a user does: `mpiexec -n SIZE python -m MODULE ...`."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.slowness import PATIENCE

ROOT = Path(__file__).resolve().parents[2]


def mpiexec():
    """The mpiexec of this environment, or the first on the path; None where there is none."""
    return shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")


needs_mpi = pytest.mark.skipif(
    importlib.util.find_spec("mpi4py") is None or mpiexec() is None,
    reason='there is no mpi4py, or no mpiexec: pip install -e ".[mpi]"',
)


def start(size, *arguments, threads=1, **options):
    """A `Popen` of mpiexec; what all ranks print comes together in its stdout."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MINIRES_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"}
    command = [mpiexec(), "-n", str(size), sys.executable, "-m", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **{"cwd": ROOT, "env": env, **options}
    )


def run(size, *arguments, **options):
    """(exit code, what was printed, seconds). TimeoutExpired where it hangs."""
    began = time.perf_counter()
    process = start(size, *arguments, **options)
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.terminate()  # mpiexec takes its ranks with it
        raise
    finally:
        clear_shared_memory()
    return process.returncode, output, time.perf_counter() - began


def clear_shared_memory(folder=Path("/dev/shm")):
    """Of each job that is aborted MPICH leaves a file of 1 to 2 MB: removes those that no process has mapped. (One that
    was made this second may be about to be.)"""
    mapped = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):  # that process has ended
            mapped.update(re.findall(r"/\S+/mpich_shm_\w+", maps.read_text()))
    for file in folder.glob("mpich_shm_*"):
        with suppress(OSError):
            if str(file) not in mapped and time.time() - file.stat().st_ctime > 1:
                file.unlink()
