"""alpha and beta by ping-pong: the fit on known lines, the command on two ranks, and its sentences without them."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

from minires import cli
from minires.parallel.cost import Network, all_reduce
from minires.parallel.network import SIZES, SUM_SIZES, Fit, fit, with_sums
from tests.parallel.launch import needs_mpi, run


@pytest.mark.parametrize("line", [Network(2e-6, 1e-10), Network(1e-3, 1e-7), Network(25e-6, 8e-10)])
def test_the_fit_finds_a_straight_line(line):
    found = fit({size: line.message(size) for size in SIZES})
    assert found == pytest.approx(line, rel=1e-9)


def test_every_size_counts_the_same():
    """Long messages that are 10 % off move beta by at most that, and alpha hardly, though they take far longer."""
    line = Network(2e-6, 1e-10)
    found = fit({size: line.message(size) * (1.1 if size > 1e6 else 1) for size in SIZES})
    assert found.alpha == pytest.approx(line.alpha, rel=0.02)
    assert line.beta < found.beta < 1.1 * line.beta


def test_noise_moves_the_fit_by_as_much():
    """20 % of noise on ten sizes: the deviation of either number is below 20 %; five of them over 20 draws' mean."""
    line, rng = Network(2e-6, 1e-10), np.random.default_rng(0)
    found = [fit({s: line.message(s) * rng.uniform(0.8, 1.2) for s in SIZES}) for _ in range(20)]
    assert np.mean([each.alpha for each in found]) == pytest.approx(line.alpha, rel=5 * 0.2 / np.sqrt(20))
    assert np.mean([each.beta for each in found]) == pytest.approx(line.beta, rel=5 * 0.2 / np.sqrt(20))


@pytest.mark.parametrize("ranks", [2, 4, 6])
def test_what_sums_take_beside_their_messages_is_found(ranks):
    """Overhead exactly; gamma, too, but for the trees of short sums, which add a few bytes more."""
    line = Network(2e-6, 1e-10, overhead=3e-5, gamma=4e-10)
    found = with_sums(Network(*line[:2]), {s: all_reduce(ranks, s, line)[0] for s in SUM_SIZES}, ranks)
    assert found == pytest.approx(line, rel=0.05)
    quick = {size: 0.5 * all_reduce(ranks, size, line)[0] for size in SUM_SIZES}
    assert with_sums(line, quick, ranks)[2:] == (0, 0), "neither is negative"


def test_the_worst_size_is_named():
    assert Fit(Network(1.0, 0.0), {0: 1.0, 8: 2.0, 64: 0.8}, ("a", "b")).worst == (8, -0.5)


def test_with_one_rank_there_is_a_sentence(capsys):
    pytest.importorskip("mpi4py")
    assert cli.main(["bench", "--network"]) == 2
    error = capsys.readouterr().err
    assert "a ping-pong needs two ranks: mpiexec -n 2 python -m minires bench --network" in error


def test_without_mpi4py_there_is_a_sentence():
    program = "import sys; sys.modules['mpi4py'] = None; from minires.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", program, "bench", "--network"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("minires bench: ") and "mpi]" in done.stderr and "Traceback" not in done.stderr


@needs_mpi
def test_what_rank_0_finds_wrong_ends_all_with_a_sentence():
    code, printed, _ = run(2, "minires", "predict", "--parallel", 2, "--compute", "pyproject.toml")
    assert code == 2 and "Traceback" not in printed
    assert printed.count("is not what bench --json writes") == 1


@needs_mpi
def test_the_program_that_measures_steps_runs():
    """What it measures says nothing on a machine that tests keep busy; `evidence.md` has its figures."""
    code, printed, _ = run(3, "tests.parallel.measured_steps", "--asleep")
    assert code == 0, printed
    assert (
        len(re.findall(r"3 ranks asleep for \d+ ms; others \S+ cores: measured .* foretold .* simulated", printed)) == 3
    )


@needs_mpi
def test_two_ranks_play_and_what_they_found_is_taken_by_predict():
    code, printed, _ = run(2, "minires", "bench", "--network")
    assert code == 0, printed
    found = [float(number) for number in re.search(r"predict --parallel 64 --network (\S+)", printed)[1].split(",")]
    assert len(found) in (2, 4) and all(0 <= number < 60 for number in found)  # what they are, other work decides
    assert printed.count("alpha =") == 1, "rank 0 alone prints"
    assert "A sum over 2 ranks" in printed and "4,194,304" in printed
    code, printed, _ = run(2, "minires", "predict", "--parallel", 2, "--compute", 1)
    said = " ".join(printed.split())
    assert code == 0 and said.count("a ping-pong, between two ranks on") == 1 and "and sums over 2)" in said
