"""How many threads there are, and BLAS at one of them."""

import os
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from minires.threads import blas_at_one_thread, num_threads
from tests.slowness import PATIENCE


def test_the_number_of_threads_is_the_environments_or_that_of_the_cores(monkeypatch):
    monkeypatch.setenv("MINIRES_NUM_THREADS", "3")
    assert num_threads() == 3
    monkeypatch.delenv("MINIRES_NUM_THREADS")
    assert 1 <= num_threads() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("wrong", ["0", "-1", "two", "", "1.5", "²"])
def test_a_number_of_threads_that_is_none_is_refused(monkeypatch, wrong):
    monkeypatch.setenv("MINIRES_NUM_THREADS", wrong)
    with pytest.raises(ValueError, match="MINIRES_NUM_THREADS"):
        num_threads()


def blas_threads():
    """Of NumPy's own library: another test may have loaded PyTorch's or SciPy's."""
    from threadpoolctl import threadpool_info

    return [
        library["num_threads"]
        for library in threadpool_info()
        if library["user_api"] == "blas" and "numpy" in library["filepath"]
    ]


def test_the_blas_of_numpys_wheels_is_one_that_threadpoolctl_knows():
    """Versions before 3.5 do not: with them, no limit on its threads held, and nothing said so."""
    if np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"] != "scipy-openblas":
        pytest.skip("NumPy has another BLAS here")
    assert blas_threads()


@threadpool_limits.wrap(3, user_api="blas")
def test_blas_has_its_threads_back_once_the_last_one_is_out():
    before = blas_threads()
    if set(before) != {3}:
        pytest.skip("NumPy's BLAS is not a library that threadpoolctl knows as NumPy's")
    inside, leave = threading.Event(), threading.Event()

    def other():
        with blas_at_one_thread():
            inside.set()
            leave.wait(PATIENCE)

    thread = threading.Thread(target=other)
    with blas_at_one_thread():
        thread.start()
        inside.wait(PATIENCE)
    assert set(blas_threads()) == {1}
    leave.set()
    thread.join()
    with blas_at_one_thread():  # threadpoolctl may listen to this thread alone
        pass
    assert blas_threads() == before
