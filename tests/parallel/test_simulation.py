"""The simulated step: equal to the formulas where these leave nothing out, and beside known laws where they do."""

from __future__ import annotations

import math

import numpy as np
import pytest

from minires import nn
from minires.parallel.cost import ALGORITHMS, Compute, LayerWork, Network, Work, all_reduce, step, work_of
from minires.parallel.simulation import Simulator, all_reduce_on, simulate

LINES = {"latency": Network(1e-3, 1e-12), "bandwidth": Network(1e-9, 1e-6), "both": Network(2e-5, 1e-9)}
LINES["adding"] = Network(2e-5, 1e-9, overhead=3e-5, gamma=2e-9)


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 31, 32, 33])
@pytest.mark.parametrize("size", [0, 264, 1_000_000])
def test_a_sum_takes_what_the_formula_says(line, ranks, size):
    sim = Simulator(LINES[line])
    for rank in range(ranks):
        sim.start(all_reduce_on(sim, rank, ranks, size, "sum"))
    assert sim.run() == pytest.approx(all_reduce(ranks, size, LINES[line])[0], rel=1e-9, abs=1e-15)


def test_all_three_algorithms_were_met():
    cases = [(ranks, size) for ranks in (2, 3, 4, 5, 12, 16) for size in (0, 264, 1_000_000)]
    assert {all_reduce(*case, line)[1] for case in cases for line in LINES.values()} == set(ALGORITHMS)


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_a_step_without_overlap_takes_what_the_formula_says(ranks):
    work, compute = work_of(nn.resnet(8)), Compute(1e-3, 2e-3)
    for synchronize in (True, False):
        how = {"overlap": False, "synchronize": synchronize}
        expected = step(work, compute, 16, ranks, LINES["both"], **how).seconds
        assert simulate(work, compute, 16, ranks, LINES["both"], **how) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("line", LINES)
def test_overlap_lies_between_its_bounds(line):
    """Never slower than the sums after backward, never faster than the formula, whose messages never meet."""
    work, compute = work_of(nn.resnet(8)), Compute(0.0, 2e-3)
    found = simulate(work, compute, 16, 8, LINES[line])
    least, late = (step(work, compute, 16, 8, LINES[line], overlap=o).seconds for o in (True, False))
    assert least * (1 - 1e-12) <= found <= late * (1 + 1e-12)


def test_a_line_carries_one_message_at_a_time():
    """Two messages of 1 s from one rank arrive after 1 and 2 s; one from another rank is not held up."""
    sim, arrived = Simulator(Network(1.0, 0.0)), {}

    def wait(source, tag):
        yield sim.mail(source, 1, tag)
        arrived[tag] = sim.now

    for source, tag in ((0, "a"), (0, "b"), (2, "c")):
        sim.start(wait(source, tag))
        sim.send(source, 1, tag, 0)
    sim.run()
    assert arrived == {"a": 1.0, "b": 2.0, "c": 1.0}


def test_the_largest_share_is_waited_for():
    """Three images on two ranks: the sum begins when the rank with two of them is there."""
    work = Work("one", (LayerWork(1, 8, 0),))
    assert simulate(work, Compute(0.0, 1.0), 3, 2, Network(0.5, 0.0)) == pytest.approx(2.5)


@pytest.mark.parametrize(("ranks", "mean"), [(2, 1 / math.sqrt(math.pi)), (3, 1.5 / math.sqrt(math.pi))])
def test_all_wait_for_the_slowest(ranks, mean):
    """E of the largest of 2 and of 3 standard normals: 1/sqrt(pi), 3/(2 sqrt(pi)).

    Of 400 steps the mean's standard deviation is below 0.05 (that of the largest is below 1): five of them.
    """
    work = Work("one", (LayerWork(1, 8, 0),))
    found = [
        simulate(work, Compute(1.0, 0.0), ranks, ranks, Network(0.0, 0.0), scatter=0.1, seed=seed)
        for seed in range(400)
    ]
    assert (np.mean(found) - 1) / 0.1 == pytest.approx(mean, abs=5 * 0.05)
    assert simulate(work, Compute(1.0, 0.0), 1, 1, Network(0.0, 0.0)) == 1
