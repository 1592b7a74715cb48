"""The group over MPI: sums, broadcasts, and ranks that fail."""

import mmap
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from minires import fake_gpu
from minires.backend import to_numpy
from minires.parallel import MPIGroup
from minires.parallel.group import PendingSum
from tests.slowness import slowness

from .group_programs import rows_of
from .launch import clear_shared_memory, needs_mpi, run

PROGRAMS = "tests.parallel.group_programs"


@needs_mpi
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_every_rank_has_the_same_sums_and_what_rank_0_sent(size, tmp_path):
    code, output, _ = run(size, PROGRAMS, "sums", tmp_path)
    assert code == 0, output
    found = [np.load(tmp_path / f"{rank}.npz") for rank in range(size)]
    expected = np.concatenate([rows_of(rank) for rank in range(size)]).sum(axis=0)
    ranks = np.arange(size)
    for rank, each in enumerate(found):
        np.testing.assert_allclose(each["total"], expected, rtol=1e-14, atol=1e-14)
        assert each["total"].tobytes() == found[0]["total"].tobytes()
        np.testing.assert_array_equal(each["later"], [[(k + ranks).sum()] * 3 for k in range(4)])
        assert each["later"].dtype == np.float32
        np.testing.assert_array_equal(each["imaginary"], [1j * (ranks + 1).sum()] * 2)
        np.testing.assert_array_equal(each["weight"], np.zeros((2, 3)))
        assert tuple(each["empty"]) == (0, 4) and each["source"] == 0 and each["here"] == size
        assert each["share"][0] == (found[rank - 1]["share"][1] if rank else 0)
    assert found[-1]["share"][1] == 10
    assert {int(each["share"][1] - each["share"][0]) for each in found} <= {10 // size, -(-10 // size)}


@needs_mpi
def test_a_rank_that_fails_says_why_and_ends_the_others():
    code, output, _ = run(3, PROGRAMS, "stop", ".")
    assert code != 0
    assert "rank 1 of 3: Traceback" in output and "ValueError: the disk of this machine is full" in output


@needs_mpi
def test_what_all_ranks_find_wrong_is_said_once():
    code, output, _ = run(2, PROGRAMS, "all_stop", ".")
    assert code != 0
    assert output.count("ValueError: no such data set") == 1 and "rank 0 of 2" in output, output


@needs_mpi
def test_a_rank_that_is_killed_ends_the_others():
    code, output, _ = run(3, PROGRAMS, "killed", ".")
    assert code != 0
    assert "KILLED" in output.upper(), output


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="this system keeps shared memory elsewhere")
def test_of_shared_memory_only_what_a_dead_job_left_is_removed():
    used, left = (Path(f"/dev/shm/mpich_shm_{os.getpid()}_{name}") for name in ("used", "left"))
    left.write_bytes(b"x")
    used.write_bytes(bytes(mmap.PAGESIZE))
    with used.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        time.sleep(1.1)
        clear_shared_memory()
        assert used.exists() and not left.exists()
    clear_shared_memory()
    assert not used.exists()


@needs_mpi
def test_a_waiting_rank_leaves_the_core_to_others(tmp_path):
    """Of two seconds of waiting less than a tenth is work, on a machine like ours."""
    code, output, _ = run(2, PROGRAMS, "late", tmp_path)
    assert code == 0, output
    wall, cpu = map(float, output.split())
    print(f"{cpu:.2f} s of {wall:.1f} s are work")
    assert wall > 2 and cpu < wall / 10 * slowness()


def test_without_mpi_there_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(RuntimeError, match=r'pip install -e "\.\[mpi\]"'):
        MPIGroup()


@needs_mpi
def test_arrays_of_a_gpu_come_back_as_such_by_way_of_the_host():
    rows = fake_gpu.device.asarray(np.arange(6.0).reshape(2, 3))
    total = MPIGroup().sum(rows)
    assert isinstance(total, fake_gpu.DeviceArray)
    np.testing.assert_array_equal(to_numpy(total), [3, 5, 7])


class GpuLibrary:
    """What `PendingSum` asks of MPI and of CuPy where MPI reads a GPU's memory; notes the order of the calls."""

    def __init__(self, monkeypatch):
        self.calls, self.size, self.rank, self.IN_PLACE = [], 1, 0, "in place"
        self._mpi = self.comm = self
        stream = SimpleNamespace(synchronize=lambda: self.calls.append("synchronize"))
        cuda = SimpleNamespace(get_current_stream=lambda: stream)
        monkeypatch.setattr(fake_gpu.device, "cuda", cuda, raising=False)

    def reads_gpu_memory(self):
        return True

    def Iallreduce(self, source, buffer):
        self.calls.append((source, type(buffer)))
        return SimpleNamespace(Test=lambda: True)


def test_an_mpi_that_reads_a_gpus_memory_is_given_it(monkeypatch):
    """The array goes to MPI as it is, after the GPU has written it. (Without a GPU, CuPy and MPI are stand-ins.)"""
    library, array = GpuLibrary(monkeypatch), fake_gpu.device.asarray(np.arange(3.0))
    total = PendingSum(library, array).wait()
    assert library.calls == ["synchronize", ("in place", fake_gpu.DeviceArray)]
    assert isinstance(total, fake_gpu.DeviceArray) and total is not array
