"""Sweeps: the same results from one process, from several, and from the ranks of an MPI job; and what is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from minires import cli
from minires.course import classroom, load
from minires.course.grading import SubmissionReport, failed_part
from minires.parallel import sweep
from minires.workers import Failure, each_result
from tests.parallel.killed_sweep import SWEEP, finish, kept, kill_after
from tests.parallel.launch import mpiexec, needs_mpi

SMALL = ["--init", "zero", "he_normal"]


@pytest.fixture
def ranks(monkeypatch):
    """As if mpiexec had started so many."""
    for name in sweep.SIZES:
        monkeypatch.delenv(name, raising=False)
    return lambda number: monkeypatch.setenv("PMI_SIZE", str(number))


def test_without_mpiexec_this_process_leads_and_no_mpi_is_loaded(ranks, monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)  # an import of it would fail
    assert sweep.lead_all_ranks(lambda executor: 7 if executor is None else 0, 4) == 7
    ranks(1)
    assert sweep.lead_all_ranks(lambda executor: 7 if executor is None else 0, None) == 7


def test_what_is_refused(ranks, monkeypatch, capsys):
    ranks(3)
    assert cli.main(["compare", "--jobs", "2"]) == 2
    assert "mpiexec has started 3 ranks" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    assert cli.main(["course", "grade", "tests/course/class_of_five", "-a", "conv"]) == 2
    assert "there is no mpi4py to join them" in capsys.readouterr().err


@needs_mpi
def test_killed_once_and_finished_by_mpi_ranks(tmp_path):
    """The long one, three kills of 44 cells, is `python -m tests.parallel.killed_sweep`."""
    command = [*SWEEP, *SMALL, "--out"]
    assert finish([*command, str(tmp_path / "whole"), "--jobs", "1"]).returncode == 0
    while not kill_after(2, [*command, str(tmp_path / "killed"), "--jobs", "2"], tmp_path / "killed"):
        shutil.rmtree(tmp_path / "killed")
    before = kept(tmp_path / "killed")
    done = finish([mpiexec(), "-n", "3", *command, str(tmp_path / "killed")])
    assert done.returncode == 0, done.stderr
    assert f"{before} of " in done.stderr and "were finished before" in done.stderr
    assert done.stdout.count("numbers:") == 1, "rank 0 alone prints"
    assert (tmp_path / "whole" / "compare.csv").read_bytes() == (tmp_path / "killed" / "compare.csv").read_bytes()


PROGRAM = """
import os, sys
from minires.parallel.sweep import lead_all_ranks
from minires.workers import each_result

def work(task):
    if task == 3:
        raise ValueError("no such thing")
    return os.environ["MINIRES_NUM_THREADS"], os.environ["PMI_RANK"]

def lead(executor):
    found = dict(each_result(work, range(8), 1, executor))
    threads, ranks = zip(*(result for task, result in found.items() if task != 3))
    print(found[3].reason, {*threads}, {*ranks} - {"1", "2"})
    return 5

if __name__ == "__main__":
    sys.exit(lead_all_ranks(lead, None))
"""


@needs_mpi
def test_ranks_work_on_one_thread_and_what_fails_fails_alone(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [mpiexec(), "-n", "3", sys.executable, tmp_path / "program.py"], capture_output=True, text=True
    )
    assert done.stdout.strip() == "ValueError: no such thing {'1'} set()", done.stdout + done.stderr
    assert done.returncode == 5


def threads(task):
    from minires.threads import num_threads

    return num_threads()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_has_one_thread_however_many_workers_there_are(workers, monkeypatch):
    monkeypatch.setenv("MINIRES_NUM_THREADS", "5")
    assert dict(each_result(threads, [0, 1], workers)) == {0: 1, 1: 1}
    assert threads(None) == 5


def test_a_grader_that_fails_is_asked_again(tmp_path, monkeypatch):
    """What a submission lost by the grader's own failure is not kept as its grade."""
    assignment = load("conv")
    (tmp_path / "ada.py").write_text("x = 1\n")
    monkeypatch.setattr(classroom.isolation, "choose", lambda rung, trust: "none")
    good = SubmissionReport("conv", "t", "ada", "none", [failed_part(part, "wrong") for part in assignment.parts])
    answers = iter([Failure("its process was stopped by SIGKILL"), good])
    monkeypatch.setattr(classroom, "each_result", lambda f, tasks, *_: [(task, next(answers)) for task in tasks])
    found, out = {"ada": tmp_path / "ada.py"}, tmp_path / "grades"
    first = classroom.grade_class(replace(assignment), found, out)
    assert "SIGKILL" in first[0].problem and "grade it again" in first[0].problem
    assert classroom.grade_class(assignment, found, out)[0].problem is None
    assert classroom.grade_class(assignment, found, out)[0].problem is None  # kept now: there is no third answer
