"""The picture of `minires predict --parallel`: what more ranks will bring, up to 1,024 of them."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minires import nn
from minires.parallel.cost import Work, rounds, step, takes_over, work_of
from minires.parallel.report import MOST, Plan
from minires.parallel.simulation import simulate
from minires.plot.style import COLORS, INK, QUIET, caption, new_figure

RANKS = [2**k for k in range(rounds(MOST) + 1)]
NETWORKS = {"resnet20": "-", "resnet32": (0, (6, 2)), "resnet56": (0, (3, 2)), "resnet110": (0, (1, 1.5))}
"""The networks, each in a dash of its own: the picture is read in gray, too."""

STRONG, WEAK = 1024, 128
"""Images of the batch that all share, so that 1,024 ranks have one each; and images of each rank."""

SIMULATED = (4, 16, 64, 256)
"""Ranks at which the plan's own network is simulated as well, message by message: half a second in all."""

PARTS = {"compute": ("#BBBBBB", ""), "norms": ("#56B4E9", "///"), "gradients": ("#D55E00", "...")}
NAMES = {"compute": "compute", "norms": "BatchNorm's sums", "gradients": "gradients' sums"}


def draw_scaling(plan: Plan) -> Figure:
    """Strong and weak scaling of resnet20 to resnet110, and what a step of `plan` consists of.

    The compute of other networks is the plan's, scaled by layers and multiply-adds.
    """
    fig, axes = new_figure(1, 3, size=(14.5, 4.6), title=_headline(plan))
    strong, weak, parts = axes[0]
    works = [work_of(nn.resnet(int(name.removeprefix("resnet"))), name=name) for name in NETWORKS]
    _strong(strong, plan, works)
    _weak(weak, plan, works)
    _parts(parts, plan)
    return fig


def _headline(plan: Plan) -> str:
    """Where communication takes over, in this plan's numbers."""
    alpha, beta, *_ = plan.network
    line = f"({1e6 * alpha:.3g} µs a message, {1e-9 / beta:.3g} GB/s)"
    found = takes_over(plan.work, plan.compute, STRONG, plan.network, MOST)
    if found is None:
        return f"{plan.work.name} computes longer than it waits on up to {MOST:,} ranks {line}"
    there = step(plan.work, plan.compute, STRONG, found, plan.network)
    what = "BatchNorm's sums" if there.norms > there.gradients else "the gradients"
    return f"On {found:,} ranks a step waits longer than it computes, for {what} {line}"


def _ranks_axis(ax: Axes) -> None:
    ax.set_xscale("log", base=2)
    ticks = [n for n in RANKS if rounds(n) % 2 == 0]
    ax.set_xticks(ticks, [f"{n:,}" for n in ticks])
    ax.minorticks_off()


def _curves(ax: Axes, plan: Plan, works: list[Work], images: int, weak: bool, value: str) -> None:
    for color, work in zip(COLORS, works, strict=False):
        compute = plan.compute.of(work, plan.work)
        for synchronize, width in ((True, 2.2), (False, 0.9)):
            steps = [
                step(work, compute, images * n if weak else images, n, plan.network, synchronize=synchronize)
                for n in RANKS
            ]
            y = [getattr(each, value)(steps[0]) * (100 if value == "efficiency" else 1) for each in steps]
            ax.plot(RANKS, y, color=color, linestyle=NETWORKS[work.name], linewidth=width)
            if synchronize:
                ax.plot([], [], color=color, linestyle=NETWORKS[work.name], linewidth=width, label=work.name)
                found = takes_over(work, compute, images, plan.network, MOST, weak=weak)
                if found:
                    at = RANKS.index(found)
                    ax.plot(found, y[at], "o", color=color, markersize=7, markeredgecolor=INK)
    ax.plot([], [], color=INK, linewidth=0.9, label="thin: each rank its own BatchNorm")
    ax.plot([], [], "o", color="white", markeredgecolor=INK, label="waits more than it computes")
    _ranks_axis(ax)


def _strong(ax: Axes, plan: Plan, works: list[Work]) -> None:
    _curves(ax, plan, works, STRONG, False, "speed_up")
    one = step(plan.work, plan.compute, STRONG, 1, plan.network).seconds
    found = [one / simulate(plan.work, plan.compute, STRONG, n, plan.network) for n in SIMULATED]
    ax.plot(SIMULATED, found, "x", color=INK, markersize=8, label=f"{plan.work.name}, simulated")
    ax.plot(RANKS, RANKS, color=QUIET, linewidth=1)
    ax.annotate("ideal", (RANKS[-1], RANKS[-1]), (-14, -2), textcoords="offset points", ha="right", color=INK)
    ax.set_yscale("log", base=2)
    ticks = [n for n in RANKS if rounds(n) % 2 == 0]
    ax.set_yticks(ticks, [f"{n:,}" for n in ticks])
    ax.legend(frameon=False, fontsize=9)
    caption(ax, f"strong: {STRONG:,} images shared by all", x="ranks", y="times as fast as one rank")


def _weak(ax: Axes, plan: Plan, works: list[Work]) -> None:
    _curves(ax, plan, works, WEAK, True, "efficiency")
    lowest = min(value for line in ax.get_lines() for value in line.get_ydata())
    ax.set_ylim(min(80, 10 * (lowest // 10)), 101)
    ax.yaxis.set_major_formatter("{x:g}")
    caption(ax, f"weak: {WEAK} images for each rank", x="ranks", y="efficiency (%)")


def _parts(ax: Axes, plan: Plan) -> None:
    """Shares of the step's time, stacked."""
    steps = [step(plan.work, plan.compute, STRONG, n, plan.network) for n in RANKS]
    lower = [0.0] * len(RANKS)
    for part, (color, hatch) in PARTS.items():
        upper = [low + 100 * getattr(each, part) / each.seconds for low, each in zip(lower, steps, strict=True)]
        look = {"facecolor": color, "hatch": hatch, "edgecolor": INK, "linewidth": 0.4}
        ax.fill_between(RANKS, lower, upper, label=NAMES[part], **look)
        lower = upper
    ax.set_ylim(0, 100)
    ax.legend(loc="lower left", fontsize=9, framealpha=0.9, reverse=True)
    _ranks_axis(ax)
    caption(ax, f"strong: a step of {plan.work.name}", x="ranks", y="share of the step (%)")
