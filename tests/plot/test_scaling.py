"""The picture of more ranks: three panels with labelled axes, and a title that says where communication takes over."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest

from minires import nn
from minires.parallel.cost import Compute, Network, takes_over, work_of
from minires.parallel.report import Plan
from minires.plot.scaling import MOST, NETWORKS, RANKS, SIMULATED, STRONG, draw_scaling


def drawn(network):
    plan = Plan(work_of(nn.resnet20(), name="resnet20"), Compute(1e-3, 2e-3), network)
    return plan, draw_scaling(plan)


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def test_three_panels_to_1024_ranks():
    plan, fig = drawn(Network(25e-6, 8e-10))
    strong, weak, parts = fig.axes
    assert RANKS[-1] == MOST == 1024
    assert all(ax.get_xlabel() == "ranks" and ax.get_ylabel() for ax in fig.axes)
    labels = [text.get_text() for text in strong.get_legend().get_texts()]
    assert {"resnet20", "resnet32", "resnet56", "resnet110", "resnet20, simulated"} <= {*labels}
    assert len({str(dash) for dash in NETWORKS.values()}) == len(NETWORKS), "each network has a dash of its own"
    found = takes_over(plan.work, plan.compute, STRONG, plan.network, MOST)
    assert fig.get_suptitle().startswith(
        f"On {found:,} ranks a step waits longer than it computes, for BatchNorm's sums"
    )
    assert "weak" in weak.get_title(loc="left") and "resnet20" in parts.get_title(loc="left")


def test_simulated_points_lie_on_their_curve():
    """The simulation's lines get in each other's way: a little slower than the formula, never faster."""
    _, fig = drawn(Network(25e-6, 8e-10))
    (points,) = [line for line in fig.axes[0].get_lines() if line.get_label() == "resnet20, simulated"]
    curve = dict(zip(RANKS, fig.axes[0].get_lines()[0].get_ydata(), strict=True))
    assert tuple(points.get_xdata()) == SIMULATED
    for ranks, speed_up in zip(SIMULATED, points.get_ydata(), strict=True):
        assert 0.8 * curve[ranks] < speed_up <= curve[ranks] * (1 + 1e-9)


def test_a_line_that_costs_nothing_never_takes_over():
    _, fig = drawn(Network(1e-12, 1e-16))
    assert fig.get_suptitle().startswith("resnet20 computes longer than it waits on up to 1,024 ranks")
