"""Pieces of a batch on several threads: every piece once, in order, and nobody at work once `map_pieces` has ended."""

import gc
import os
import signal
import threading
import time
import weakref

import numpy as np
import pytest

from minires import parallel
from minires.parallel import map_pieces

ITEM = parallel.PIECE_BYTES // 2  # two items fill a piece


@pytest.fixture(autouse=True)
def three_threads(monkeypatch):
    monkeypatch.setenv("MINIRES_NUM_THREADS", "3")


def test_every_item_is_taken_once_and_results_come_in_order():
    pieces = map_pieces(np, 41, ITEM, lambda part: list(range(41))[part])
    assert [item for piece in pieces for item in piece] == list(range(41))


@pytest.mark.parametrize(
    ("threads", "count", "pieces"),
    [("1", 41, 21), ("2", 41, 21), ("3", 41, 21), ("3", 7, 4), ("2", 7, 4), ("3", 2, 2), ("7", 3, 3)],
)
def test_a_piece_fits_the_cache_and_there_are_equally_many_for_each_thread(monkeypatch, threads, count, pieces):
    """41 items of half a piece are 20.5 pieces: 21 on 1 or 3 threads, 22 on 2, of which 41 items leave 21."""
    monkeypatch.setenv("MINIRES_NUM_THREADS", threads)
    found = map_pieces(np, count, ITEM, lambda part: part)
    assert [found[0].start, found[-1].stop, len(found)] == [0, count, pieces]
    assert max(part.stop - part.start for part in found) <= 2


def test_work_runs_on_several_threads_at_once():
    """Each of three pieces waits for the two others: alone, the first would wait in vain."""
    together = threading.Barrier(3, timeout=20)
    seen = map_pieces(np, 3, ITEM * 2, lambda part: (together.wait(), threading.get_ident())[1])
    assert len(set(seen)) == 3


def test_small_work_stays_with_the_caller():
    seen = map_pieces(np, 100, parallel.SMALL_BYTES // 200, lambda part: threading.get_ident())
    assert set(seen) == {threading.get_ident()}


def test_a_caller_is_not_kept_waiting_by_helpers_that_are_busy(monkeypatch):
    """Helpers held up elsewhere: the caller takes all pieces itself."""
    monkeypatch.setenv("MINIRES_NUM_THREADS", "2")
    map_pieces(np, 8, ITEM, lambda part: None)  # from now on there is a helper
    monkeypatch.setattr(parallel, "_hand_over", lambda job, number: None)
    seen = map_pieces(np, 8, ITEM, lambda part: threading.get_ident())
    assert set(seen) == {threading.get_ident()}


def test_work_within_work_is_done():
    def outer(part):
        return sum(map_pieces(np, 10, ITEM, lambda inner: len(range(10)[inner])))

    assert map_pieces(np, 6, ITEM * 2, outer) == [10] * 6


@pytest.mark.parametrize("bad", [0, 5, 9])
def test_an_error_in_any_piece_is_raised_after_all_have_ended(bad):
    running = []

    def work(part):
        running.append(part)
        time.sleep(0.01)
        running.remove(part)
        if part.start == bad:
            raise ValueError(f"piece {bad}")

    with pytest.raises(ValueError, match=f"piece {bad}"):
        map_pieces(np, 10, ITEM * 2, work)
    assert not running
    assert map_pieces(np, 4, ITEM * 2, lambda part: part.start) == [0, 1, 2, 3]  # and the next work is done as ever


def test_ctrl_c_waits_for_the_other_threads():
    """The caller is interrupted while it waits for a piece that a helper is still at."""
    caller, running = threading.get_ident(), []

    def work(part):
        if threading.get_ident() == caller:
            while not running:  # until a helper has begun
                time.sleep(0.001)
            return
        running.append(part)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        running.clear()

    with pytest.raises(KeyboardInterrupt):
        map_pieces(np, 2, parallel.PIECE_BYTES, work)
    assert not running


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_has_helpers_of_its_own():
    map_pieces(np, 8, ITEM, lambda part: None)  # the parent's helpers, which the child does not inherit
    child = os.fork()
    if child == 0:
        together = threading.Barrier(3, timeout=20)
        try:
            map_pieces(np, 3, ITEM * 2, lambda part: together.wait())
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def test_blas_has_its_threads_back():
    from threadpoolctl import threadpool_info

    def threads():
        """Of NumPy's own library: another test may have loaded PyTorch's or SciPy's."""
        libraries = [library for library in threadpool_info() if "numpy" in library["filepath"]]
        return [library["num_threads"] for library in libraries if library["user_api"] == "blas"]

    before = threads()
    if not before:
        pytest.skip("NumPy's BLAS is not a library that threadpoolctl knows as NumPy's")
    within = map_pieces(np, 8, ITEM, lambda part: threads())
    assert all(number == 1 for numbers in within for number in numbers)
    assert threads() == before


def test_after_an_error_no_further_piece_is_begun():
    begun = []

    def work(part):
        begun.append(part.start)
        raise ValueError("at once")

    with pytest.raises(ValueError, match="at once"):
        map_pieces(np, 200, ITEM * 2, work)
    assert len(begun) <= 3  # one for each thread


def test_of_several_errors_that_of_the_first_piece_is_raised():
    def work(part):
        time.sleep(0.02)
        raise ValueError(str(part.start))

    with pytest.raises(ValueError, match="0"):
        map_pieces(np, 3, ITEM * 2, work)


def test_a_failed_call_keeps_no_arrays():
    """Out of memory, say: the traceback is gone with the exception, without waiting for the garbage collector."""

    def call():
        array = np.ones(10)
        kept.append(weakref.ref(array))
        map_pieces(np, 8, ITEM, lambda part: array.fail)

    kept = []
    gc.disable()
    try:
        for _ in range(3):
            with pytest.raises(AttributeError):
                call()
        time.sleep(0.05)  # a helper may be at its last step
        assert [reference() for reference in kept] == [None] * 3
    finally:
        gc.enable()


def test_a_job_that_no_helper_came_to_keeps_no_arrays(monkeypatch):
    """Other callers' work keeps the helper busy, and jobs pile up."""
    monkeypatch.setenv("MINIRES_NUM_THREADS", "2")
    jobs = []
    monkeypatch.setattr(parallel, "_hand_over", lambda job, number: jobs.append(job))
    for _ in range(5):
        map_pieces(np, 8, ITEM, lambda part: None)
    assert jobs == [[]] * 5


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="NumPy 1 keeps errstate for each thread")
def test_the_callers_errstate_holds_on_all_threads():
    together = threading.Barrier(3, timeout=20)

    def work(part):
        together.wait()
        return np.geterr()["over"]

    with np.errstate(over="raise"):
        assert map_pieces(np, 3, ITEM * 2, work) == ["raise"] * 3


def test_where_no_thread_can_be_started_the_caller_does_the_work(monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(parallel, "_state", parallel._State())
    monkeypatch.setattr(threading.Thread, "start", start)
    assert map_pieces(np, 4, ITEM * 2, lambda part: part.start) == [0, 1, 2, 3]


def test_nothing_to_do():
    assert map_pieces(np, 0, 100, lambda part: part) == []
