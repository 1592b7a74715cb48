"""A team of threads: results in order, errors and Ctrl-C raised once nobody is at work, nothing left behind."""

import gc
import os
import signal
import threading
import time
import weakref

import numpy as np
import pytest

from minires.threads import Team
from tests.slowness import PATIENCE


def test_every_rank_works_and_results_come_in_order():
    team = Team(3)
    together = threading.Barrier(3, timeout=PATIENCE)
    assert team.run(3, lambda group: (together.wait(), group.rank)[1]) == [0, 1, 2]
    assert team.run(2, lambda group: group.size) == [2, 2]
    assert team.run(1, lambda group: threading.get_ident()) == [threading.get_ident()]


def test_collect_and_sum_know_all_ranks():
    team = Team(3)
    assert team.run(3, lambda group: group.collect(group.rank * 10)) == [[0, 10, 20]] * 3
    rows = np.random.default_rng(0).standard_normal((11, 4)).astype(np.float32)
    parts = [rows[:2], rows[2:9], rows[9:]]
    for total in team.run(3, lambda group: group.sum(parts[group.rank])):
        assert np.array_equal(total, rows.sum(axis=0))  # the same bits as undivided


def test_the_outer_group_is_asked_once():
    class Outer:
        rank, size = 1, 2

        def sum(self, rows):
            asked.append(rows.shape)
            return rows.sum(axis=0) * 2

    asked = []
    totals = Team(2, Outer()).run(2, lambda group: group.sum(np.ones((3, 2))))
    assert asked == [(6, 2)]
    assert all(np.array_equal(total, [12, 12]) for total in totals)


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_an_error_of_any_rank_is_raised_after_all_have_ended(bad):
    team, running = Team(3), []

    def work(group):
        running.append(group.rank)
        try:
            time.sleep(0.01)
            if group.rank == bad:
                raise ValueError(f"rank {bad}")
            group.collect(None)  # waits for the one that fails
        finally:
            running.remove(group.rank)

    with pytest.raises(ValueError, match=f"rank {bad}"):
        team.run(3, work)
    assert not running
    assert team.run(3, lambda group: group.rank) == [0, 1, 2]  # and the next work is done as ever


@pytest.mark.parametrize("where", ["at work", "waiting for another rank", "waiting for the end"])
def test_ctrl_c_waits_for_the_other_threads(where):
    running, caller = [], threading.get_ident()

    def work(group):
        if group.rank == 0:
            while not running:
                time.sleep(0.001)
            if where == "at work":
                time.sleep(5)
            if where == "waiting for another rank":
                group.collect(None)
            return
        assert threading.get_ident() != caller
        running.append(1)
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        running.clear()

    with pytest.raises(KeyboardInterrupt):
        Team(2).run(2, work)
    assert not running


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_has_helpers_of_its_own():
    team = Team(3)
    team.run(3, lambda group: None)
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if team.run(3, lambda group: group.collect(1)) == [[1] * 3] * 3 else 1)
        except BaseException:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert team.run(3, lambda group: group.rank) == [0, 1, 2]


def test_several_teams_and_user_threads_do_not_wait_for_each_other():
    teams, results = [Team(3) for _ in range(4)], []

    def use(team):
        for _ in range(20):
            results.append(team.run(3, lambda group: group.collect(group.rank)))

    threads = [threading.Thread(target=use, args=(team,)) for team in teams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(results) == 80


def test_helpers_go_when_their_team_goes():
    """Only the helpers of this team are watched: those of earlier tests may be on their way out."""
    before = set(threading.enumerate())
    team = Team(4)
    team.run(4, lambda group: None)
    helpers = [t for t in threading.enumerate() if t.name == "minires helper" and t not in before]
    assert len(helpers) == 3
    del team
    gc.collect()
    for helper in helpers:
        helper.join(PATIENCE)
        assert not helper.is_alive()


def test_a_failed_call_keeps_no_arrays():
    """Out of memory, say: the arrays are gone with the exception, without waiting for the garbage collector."""
    team, kept = Team(2), []

    def call():
        array = np.ones(10)
        kept.append(weakref.ref(array))
        team.run(2, lambda group: array.fail)

    gc.disable()
    try:
        for _ in range(3):
            with pytest.raises(AttributeError):
                call()
        until = time.monotonic() + PATIENCE  # a helper may be at its last step, for as long as others use the machine
        while any(reference() is not None for reference in kept) and time.monotonic() < until:
            time.sleep(0.01)
        assert [reference() for reference in kept] == [None] * 3
    finally:
        gc.enable()


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="NumPy 1 keeps errstate for each thread")
def test_the_callers_errstate_holds_on_all_threads():
    with np.errstate(over="raise"):
        assert Team(3).run(3, lambda group: np.geterr()["over"]) == ["raise"] * 3


def test_where_no_thread_can_be_started_fewer_are_offered(monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert Team(3).at_most(3) == 1
