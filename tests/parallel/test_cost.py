"""The cost of a step on P ranks, by hand: messages, sums, a step of few layers, and what resnet20 consists of."""

from __future__ import annotations

import math

import pytest

from minires import nn
from minires.parallel.cost import (
    ALGORITHMS,
    Compute,
    LayerWork,
    Network,
    Work,
    all_reduce,
    halving,
    ring,
    step,
    takes_over,
    tree,
    work_of,
)

LINE = Network(alpha=1.0, beta=0.01)


@pytest.mark.parametrize(
    ("algorithm", "ranks", "size", "seconds"),
    [
        (ring, 4, 400, 6 * (1 + 1)),  # six rounds of 100 bytes
        (ring, 3, 300, 4 * (1 + 1)),
        (tree, 4, 400, 2 * (1 + 4)),  # two rounds of all bytes
        (tree, 8, 400, 3 * (1 + 4)),
        (tree, 6, 400, 4 * (1 + 4)),  # two in excess of four: in, two rounds, out
        (halving, 4, 400, 4 * 1 + 2 * (2 + 1)),  # 200 and 100 bytes, then the same back
        (halving, 5, 400, 4 * 1 + 2 * (2 + 1) + 2 * (1 + 4)),
        (tree, 2, 400, 1 + 4),
        (halving, 2, 400, 2 * (1 + 2)),
    ],
)
def test_sums_by_hand(algorithm, ranks, size, seconds):
    assert algorithm(ranks, size, LINE) == pytest.approx(seconds, rel=1e-12)


ADDS = Network(alpha=1.0, beta=0.01, overhead=5.0, gamma=0.02)
"""400 bytes are added in 8 s, and every sum takes 5 s besides."""


@pytest.mark.parametrize(
    ("algorithm", "ranks", "size", "seconds"),
    [
        (ring, 4, 400, 12 + 3 * 2),  # three of the six rounds add 100 bytes
        (tree, 4, 400, 10 + 2 * 8),
        (tree, 6, 400, 20 + 3 * 8),  # those in excess bring theirs first
        (halving, 4, 400, 10 + 4 + 2),  # 200 and 100 bytes are added on the way in
        (halving, 5, 400, 20 + 4 + 2 + 8),
    ],
)
def test_additions_by_hand(algorithm, ranks, size, seconds):
    assert algorithm(ranks, size, ADDS) == pytest.approx(seconds, rel=1e-12)


def test_a_sum_has_its_overhead_once_and_one_rank_has_none():
    assert all_reduce(4, 400, ADDS) == (pytest.approx(halving(4, 400, ADDS) + 5), "halving")
    assert all_reduce(1, 400, ADDS)[0] == 0
    found = step(SMALL, Compute(0.0, 3.0), 8, 2, Network(0.0, 0.0, overhead=5.0))
    assert (found.norms, found.gradients) == (pytest.approx(2 * 5), pytest.approx(5))  # two sums of BatchNorm, a bucket


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
def test_one_rank_has_nothing_to_say(algorithm):
    assert algorithm(1, 1e9, LINE) == 0


@pytest.mark.parametrize("ranks", range(2, 40))
def test_nobody_beats_the_bound(ranks):
    """Patarasuk and Yuan's: 2 (P - 1)/P n bytes from the busiest rank; and log2 P rounds of latency (Thakur et al.)."""
    for algorithm in ALGORITHMS.values():
        bytes_sent = algorithm(ranks, 1e6, Network(0.0, 1.0))
        rounds = algorithm(ranks, 1e6, Network(1.0, 0.0))
        assert bytes_sent >= 2 * (ranks - 1) / ranks * 1e6 * (1 - 1e-12)
        assert rounds >= math.log2(ranks) - 1e-12
    assert ring(ranks, 1e6, Network(0.0, 1.0)) == pytest.approx(2 * (ranks - 1) / ranks * 1e6)


def test_the_quickest_depends_on_the_size():
    """Whole vectors for few bytes, parts for many; the ring where the ranks are no power of two."""
    assert all_reduce(16, 8, LINE) == (tree(16, 8, LINE), "tree")
    assert all_reduce(16, 1e6, LINE)[1] == "halving"
    assert all_reduce(12, 1e6, LINE)[1] == "ring"


# Two layers: a convolution of 100 multiply-adds and 400 bytes of gradients, and a BatchNorm with 40 bytes of sums.
SMALL = Work("small", (LayerWork(100, 400, 0), LayerWork(0, 16, 40)))


def test_a_step_by_hand():
    """Two ranks, 8 images of 3 s each. Forward 4 s, 40 bytes in 1.4 s; back the same sum, 8 s, then 416 bytes."""
    found = step(SMALL, Compute(0.0, 3.0), 8, 2, LINE)
    assert (found.share, found.compute) == (4, 12.0)
    assert found.norms == pytest.approx(2 * 1.4)
    assert found.gradients == pytest.approx(1 + 4.16)
    assert found.seconds == pytest.approx(12 + 2.8 + 5.16)


def test_buckets_travel_under_backward():
    """Of 24 s each layer takes 4 forward and 8 back. The last layer's bucket travels for 5 s under the first layer's 8;

    the first layer's own, 5 s, has nothing left to hide under. Both in one bucket: 1 + 8 s as a tree.
    """
    work = Work("two", (LayerWork(100, 400, 0), LayerWork(100, 400, 0)))
    late = step(work, Compute(0.0, 6.0), 8, 2, LINE, bucket=400, overlap=False)
    assert late.gradients == pytest.approx(10) and late.seconds == pytest.approx(34)
    assert step(work, Compute(0.0, 6.0), 8, 2, LINE, bucket=400).gradients == pytest.approx(5)
    assert step(work, Compute(0.0, 6.0), 8, 2, LINE, bucket=10_000).gradients == pytest.approx(9)


def test_without_synchronization_the_sums_of_batchnorm_cost_nothing():
    assert step(SMALL, Compute(0.0, 3.0), 8, 2, LINE, synchronize=False).norms == 0


def test_speed_up_and_efficiency():
    one, four = (step(SMALL, Compute(2.0, 3.0), 8, n, Network(0.0, 0.0)) for n in (1, 4))
    assert four.seconds == 8 and one.seconds == 26
    assert four.speed_up(one) == pytest.approx(26 / 8) and four.efficiency(one) == pytest.approx(26 / 32)
    weak = step(SMALL, Compute(2.0, 3.0), 32, 4, Network(0.0, 0.0))
    assert weak.efficiency(one) == pytest.approx(1)


def test_an_uneven_share_counts_as_the_largest():
    assert step(SMALL, Compute(0.0, 3.0), 10, 4, LINE).share == 3


def test_where_communication_takes_over():
    """Compute 24/P, sums 2 (1 + 0.4) log2 P + 5.16 log2 P or so: at P = 4, 6 against 15; at P = 2, 12 against 8."""
    assert takes_over(SMALL, Compute(0.0, 3.0), 8, LINE, 64) == 4
    assert takes_over(SMALL, Compute(0.0, 6.0), 8, LINE, 2) is None
    assert takes_over(SMALL, Compute(0.0, 1e6), 8, LINE, 64, weak=True) is None


def test_resnet20_in_numbers():
    """269,722 parameters (the published count), 19 BatchNorms; multiply-adds stage by stage, by hand."""
    work = work_of(nn.resnet20())
    assert work.gradients == 4 * 269_722 and work.norms == 19 and len(work.layers) == 39
    stem = 3 * 16 * 9 * 32 * 32
    first = 6 * 16 * 16 * 9 * 32 * 32
    second = (16 * 32 + 5 * 32 * 32) * 9 * 16 * 16
    third = (32 * 64 + 5 * 64 * 64) * 9 * 8 * 8
    assert work.products == stem + first + second + third + 640
    assert sorted({layer.sums for layer in work.layers}) == [0, 8 * 33, 8 * 65, 8 * 129]
    spent = sum(amount for what, amount in work.events(1.0) if what == "compute")
    assert spent == pytest.approx(1)
    assert sum(amount for what, amount in work.events(1.0) if what == "bucket") == work.gradients
    assert sum(what == "norm" for what, _ in work.events(1.0)) == 38


def test_a_network_without_batchnorm_has_no_sums_to_wait_for():
    assert work_of(nn.resnet(8, batchnorm=False)).norms == 0


def test_another_network_on_the_same_machine():
    deep, flat = work_of(nn.resnet(110)), work_of(nn.resnet20())
    found = Compute(1.0, 2.0).of(deep, flat)
    assert found.fixed == pytest.approx(219 / 39) and found.per_image == pytest.approx(
        2 * deep.products / flat.products
    )
