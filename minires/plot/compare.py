"""The picture of `minires compare`: a slide that shows what each initializer does to each network.

Twelve panels, a column a network: activations, gradients, loss. Dots are measured, lines are the theory's. On the
right, one row an initializer, the end of the story: its accuracy in each network. The rows' names, in the color of
the curves, are the legend.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minires.comparison import CHANCE, Run
from minires.plot.style import COLORS, INK, QUIET, new_figure

BLUE, RED, GREEN, PINK, ORANGE, SKY, GRAY = COLORS
LOOKS = {
    "zero": (GRAY, "-"),
    "constant:0.01": (GRAY, "--"),
    "normal:0.01": (SKY, "-"),
    "normal:1": (RED, "-"),
    "uniform:0.05": (SKY, "--"),
    "xavier_normal": (BLUE, "-"),
    "xavier_uniform": (BLUE, "--"),
    "he_normal": (GREEN, "-"),
    "he_uniform": (GREEN, "--"),
    "orthogonal": (PINK, "-"),
    "pretrained": (INK, "-"),
}
"""Color and line of each initializer: one color a family, dashes for its second member."""

FLOOR, CEILING = 1e-9, 1e9
"""The ends of the rms axes; what lies beyond (exactly 0, or overflow) is drawn on the edge."""


def draw(runs: Sequence[Run]) -> Figure:
    """The figure of all `runs`: as many columns of panels as there are networks among them."""
    networks = list(dict.fromkeys(run.case.network for run in runs))
    initializers = list(dict.fromkeys(run.case.name for run in runs))
    fig, axes = new_figure(
        3,
        len(networks) + 1,
        size=(3.1 * len(networks) + 4.2, 9),
        title=headline(runs),
        width_ratios=[3] * len(networks) + [0.95 * len(networks) + 0.3],
    )
    for column, network in enumerate(networks):
        here = [run for run in runs if run.case.network == network]
        learned = sum(run.outcome == "learned" for run in here)
        _signal_panel(axes[0, column], here, "activations")
        _signal_panel(axes[1, column], here, "gradients")
        _loss_panel(axes[2, column], here)
        axes[0, column].set_title(f"{network}\n", fontsize=14, fontweight="bold", color=INK, loc="left")
        axes[0, column].text(
            0,
            1.03,
            f"{learned} of {len(here)} learn",
            transform=axes[0, column].transAxes,
            fontsize=12,
            color=INK,
        )
        if column:
            for row in range(3):
                axes[row, column].tick_params(labelleft=False)
    for row, label in enumerate(("rms of activations", "rms of gradients", "training loss")):
        axes[row, 0].set_ylabel(label, fontsize=13, color=INK)
    _matrix(fig, axes[:, -1], runs, networks, initializers)
    return fig


def headline(runs: Sequence[Run]) -> str:
    """What to see, with the numbers of these runs."""
    networks = list(dict.fromkeys(run.case.network for run in runs))
    share = {
        n: (
            sum(r.outcome == "learned" for r in runs if r.case.network == n),
            sum(r.case.network == n for r in runs),
        )
        for n in networks
    }
    first, last = networks[0], networks[-1]
    depth = runs[0].case.depth
    if first == last:
        return f"{depth} layers, {first}: {share[first][0]} of {share[first][1]} starts learn"
    return (
        f"The same {depth} layers, {share[first][1]} starts: {share[first][0]} learn in a {first} network, "
        f"{share[last][0]} in a {last} one"
    )


def _signal_panel(ax: Axes, runs: Sequence[Run], what: str) -> None:
    """rms against the layer, logarithmic: dots as measured, lines as foreseen."""
    for run in runs:
        color, line = LOOKS[run.case.name]
        values = np.array(list(getattr(run.signal, what).values()))
        depth = np.arange(1, len(values) + 1)
        foreseen = getattr(run, f"foreseen_{what}", None)
        if foreseen is None:
            ax.plot(depth, _clipped(values), color=color, linestyle=line, linewidth=1.6)
        else:
            ax.plot(depth, _clipped(foreseen), color=color, linestyle=line, linewidth=1.4)
        ax.plot(depth, _clipped(values), ".", color=color, markersize=4.5)
    ax.set_yscale("log")
    ax.set_ylim(FLOOR / 4, CEILING * 4)
    ax.set_yticks([FLOOR, 1e-6, 1e-3, 1, 1e3, 1e6, CEILING])
    ax.set_yticklabels(["0", "$10^{-6}$", "$10^{-3}$", "1", "$10^3$", "$10^6$", "beyond"])
    ax.minorticks_off()
    ax.set_xlabel("layer", fontsize=11, color=INK)


def _clipped(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(np.clip(values, FLOOR, CEILING), nan=CEILING)


def _loss_panel(ax: Axes, runs: Sequence[Run]) -> None:
    """Mean training loss of each epoch; the dotted line is the loss of a guess."""
    ax.axhline(CHANCE, color=QUIET, linestyle=":", linewidth=1.4)
    for run in runs:
        color, line = LOOKS[run.case.name]
        ax.plot(range(len(run.losses)), np.minimum(run.losses, 4), color=color, linestyle=line, linewidth=1.6)
    ax.set_ylim(0, 3)
    ax.set_xlabel("epoch", fontsize=11, color=INK)
    ax.annotate(
        "log(10): a guess",
        (1, CHANCE),
        (0, 4),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        fontsize=10,
        color=INK,
    )


def _matrix(
    fig: Figure, cells: Sequence[Axes], runs: Sequence[Run], networks: list[str], initializers: list[str]
) -> None:
    """Accuracies: a row an initializer (its name in its color), a column a network."""
    grid = cells[0].get_gridspec()
    for ax in cells:
        ax.remove()
    ax = fig.add_subplot(grid[:, -1])
    by_case = {(run.case.network, run.case.name): run for run in runs}
    for row, initializer in enumerate(initializers):
        color, line = LOOKS[initializer]
        ax.plot([-1.95, -1.6], [row, row], color=color, linestyle=line, linewidth=2.5)
        ax.text(-1.5, row, initializer, color=color, va="center", fontsize=13, fontweight="bold")
        for column, network in enumerate(networks):
            run = by_case.get((network, initializer))
            if run is not None:
                _cell(ax, column, row, run)
    for column, network in enumerate(networks):
        ax.text(
            column + 0.3,
            -0.75,
            network.replace(" + ", "\n+ "),
            ha="center",
            va="bottom",
            fontsize=11,
            color=INK,
        )
    ax.set_xlim(-2.1, len(networks) - 0.1)
    ax.set_ylim(len(initializers) - 0.4, -1.2)
    ax.axis("off")
    ax.set_title("accuracy after training", loc="right", fontsize=13)


def _cell(ax: Axes, column: float, row: float, run: Run) -> None:
    from matplotlib.patches import FancyBboxPatch

    if run.outcome == "learned":
        text, face, ink = (
            f"{run.accuracy:.0%}",
            (0, 0.62, 0.45, 0.15 + 0.85 * run.accuracy**3),
            "white" if run.accuracy > 0.6 else INK,
        )
    else:
        text, face, ink = {"diverged": "NaN", "never left log(10)": "guess"}[run.outcome], "#EEEEEE", QUIET
    ax.add_patch(
        FancyBboxPatch(
            (column - 0.08, row - 0.36),
            0.76,
            0.72,
            boxstyle="round,pad=0.06",
            facecolor=face,
            edgecolor="none",
        )
    )
    ax.text(column + 0.3, row, text, ha="center", va="center", color=ink, fontsize=12)
