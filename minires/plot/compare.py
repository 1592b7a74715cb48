"""The picture of `minires compare`: one slide that shows what each initializer does to each network.

A column a network; below each other activations, gradients and loss. Dots are measured, lines are the theory's. On
the right the end of the story: a row an initializer, its accuracy in each network. The rows' names, in the colors of
the curves, are the legend.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from minires.comparison import CHANCE, NETWORKS, Run, finite
from minires.plot.style import COLORS, INK, QUIET, new_figure

BLUE, RED, GREEN, PINK, ORANGE, SKY, GRAY = COLORS
FAMILIES = {
    "zero": GRAY,
    "constant": GRAY,
    "normal": SKY,
    "uniform": SKY,
    "xavier": BLUE,
    "he": GREEN,
    "orthogonal": PINK,
    "pretrained": INK,
}
"""One color a family, orange for those not named; within a family the line's style tells them apart."""

FLOOR, CEILING = 1e-9, 1e9
"""The ends of the rms axes; what lies beyond, exactly 0 or overflow, is drawn on the edge."""

Look = tuple[str, str]
"""Color and line style of a curve."""


def draw(runs: Sequence[Run]) -> Figure:
    """The figure of all `runs`: the same initializers in each of the four networks."""
    looks = _looks(list(dict.fromkeys(run.case.name for run in runs)))
    fig, axes = new_figure(3, 5, size=(17.8, 10), width_ratios=[3.8, 3, 3, 3, 5.6])
    fig.suptitle(headline(runs), fontsize=21, fontweight="bold", color=INK, x=0.01, ha="left")
    for panels, network in zip(axes.T, NETWORKS, strict=False):  # the fifth column holds the accuracies
        here = [run for run in runs if run.case.network == network]
        _signal_panel(panels[0], here, "activations", looks)
        _signal_panel(panels[1], here, "gradients", looks)
        _loss_panel(panels[2], here, looks)
        panels[0].set_title(f"{network}\n", fontsize=15, fontweight="bold", color=INK, loc="left")
        count = f"{_count_learned(here)} of {len(here)} learn"
        panels[0].annotate(count, (0, 1), (0, 7), "axes fraction", "offset points", fontsize=13, color=INK)
    for ax in axes[:, 1:4].flat:
        ax.tick_params(labelleft=False)
    for ax, what in zip(axes[:, 0], ("rms of activations", "rms of gradients", "training loss"), strict=True):
        ax.set_ylabel(what, fontsize=14, color=INK)
    _direct_labels(axes[0, 0], [run for run in runs if run.case.network == "plain"], looks)
    axes[2, 0].text(
        0.98, CHANCE + 0.06, "log(10): a guess", transform=axes[2, 0].get_yaxis_transform(), ha="right", fontsize=11
    )
    _accuracies(axes[:, -1], runs, looks)
    return fig


def headline(runs: Sequence[Run]) -> str:
    """What to see, in the numbers of these runs."""
    plain, both = (
        _count_learned([run for run in runs if run.case.network == network])
        for network in ("plain", "residual + BatchNorm")
    )
    starts = f"{runs[0].case.depth} layers, {len(runs) // len(NETWORKS)} ways to start"
    return f"{starts}: {plain} learn in a plain network, {both} with shortcuts and BatchNorm"


def _count_learned(runs: Sequence[Run]) -> int:
    return sum(run.outcome == "learned" for run in runs)


def display(name: str) -> str:
    """What a slide calls an initializer: "normal:0.01" is N(0, 0.01²), "he_normal" is He normal."""
    family, _, parameter = name.partition(":")
    if family == "normal" and parameter:
        return "N(0, 1)" if float(parameter) == 1 else f"N(0, {parameter}²)"
    if family == "uniform" and parameter:
        return f"uniform ±{parameter}"
    persons = {"he": "He", "xavier": "Xavier", "lecun": "LeCun", "dirac": "Dirac"}
    return " ".join(persons.get(word, word) for word in name.replace(":", "_").split("_"))


def _looks(names: Sequence[str]) -> dict[str, Look]:
    """One color a family (red for a large normal), and a line of its own for each member."""
    styles: dict[str, cycle[str]] = {}
    looks = {}
    for name in names:
        color = FAMILIES.get(name.partition(":")[0].partition("_")[0], ORANGE)
        if name.startswith("normal:") and float(name.partition(":")[2]) > 0.5:
            color = RED
        style = styles.setdefault(color, cycle(["-", "--", ":", "-."]))
        looks[name] = (color, next(style))
    return looks


def _signal_panel(ax: Axes, runs: Sequence[Run], what: str, looks: Mapping[str, Look]) -> None:
    """rms against the layer, logarithmic: dots as measured, lines as foreseen; no line where there is no law."""
    for run in runs:
        color, style = looks[run.case.name]
        measured = _clipped(finite(getattr(run.signal, what).values()))
        layers = np.arange(1, len(measured) + 1)
        ax.plot(layers, measured, ".", color=color, markersize=6)
        foreseen = [rms for _, rms in getattr(run.foreseen, what)]
        ax.plot(layers, _clipped(foreseen or [math.nan] * len(layers)), color=color, linestyle=style, linewidth=1.6)
    ax.set_yscale("log")
    ax.set_ylim(FLOOR / 5, CEILING * 5)
    ax.set_yticks([FLOOR, 1e-6, 1e-3, 1, 1e3, 1e6, CEILING])
    ax.set_yticklabels(["0", "$10^{-6}$", "$10^{-3}$", "1", "$10^3$", "$10^6$", "∞"])
    ax.minorticks_off()
    ax.set_xlabel("layer", fontsize=12, color=INK)


def _clipped(values: Iterable[float]) -> np.ndarray:
    return np.clip(list(values), FLOOR, CEILING)


def _loss_panel(ax: Axes, runs: Sequence[Run], looks: Mapping[str, Look]) -> None:
    """Mean training loss of each epoch; the dotted line is the loss of a guess."""
    ax.axhline(CHANCE, color=INK, linestyle=":", linewidth=1.4)
    for run in runs:
        color, style = looks[run.case.name]
        ax.plot(np.minimum(run.losses, 9), color=color, linestyle=style, linewidth=1.8)
    ax.set_ylim(0, 3)
    ax.set_xlabel("epoch", fontsize=12, color=INK)


def _direct_labels(ax: Axes, runs: Sequence[Run], looks: Mapping[str, Look]) -> None:
    """Names beside the ends of the curves, one for each family, pushed apart where they would overlap."""
    ends: dict[str, tuple[float, str]] = {}
    for run in runs:
        family = {"he": "He", "xavier": "Xavier"}.get(run.case.name.partition("_")[0], display(run.case.name))
        ends.setdefault(
            family, (np.log10(_clipped(finite(run.signal.activations.values()))[-1]), looks[run.case.name][0])
        )
    layers = len(runs[0].signal.activations)
    lowest = -np.inf
    for family, (height, color) in sorted(ends.items(), key=lambda item: item[1][0]):
        lowest = max(height, lowest + 1.15)
        ax.annotate(family, (layers + 0.6, 10**lowest), color=color, va="center", fontsize=11, annotation_clip=False)
    ax.set_xticks([tick for tick in ax.get_xticks() if 0 < tick <= layers])
    ax.set_xlim(None, layers * 1.55)


def _accuracies(panels: Sequence[Axes], runs: Sequence[Run], looks: Mapping[str, Look]) -> None:
    """A row an initializer (its name in its color), a column a network; the greener, the better."""
    grid, fig = panels[0].get_gridspec(), panels[0].figure
    for ax in panels:
        ax.remove()
    ax = fig.add_subplot(grid[:, -1])
    rows = {name: row for row, name in enumerate(looks)}
    columns = {network: column for column, network in enumerate(NETWORKS)}
    for name, (color, style) in looks.items():
        ax.plot([-3.4, -2.95], [rows[name]] * 2, color=color, linestyle=style, linewidth=3)
        ax.text(-2.85, rows[name], display(name), color=color, va="center", fontsize=13, fontweight="bold")
    for network, column in columns.items():
        short = network.replace(" + BatchNorm", "\n+ BN")
        ax.text(column, -0.6, short, ha="center", va="bottom", fontsize=12, color=INK)
    for run in runs:
        _accuracy(ax, columns[run.case.network], rows[run.case.name], run)
    ax.set_xlim(-3.5, len(columns) - 0.4)
    note = "in the upper panels:\ndots are measured, lines foreseen by the theory"
    ax.text(-3.4, len(rows) - 0.2, note, va="top", fontsize=12, color=INK)
    ax.set_ylim(max(len(rows), 8) + 0.5, -1.5)
    ax.axis("off")
    ax.set_title("accuracy on held-out digits", fontsize=14, color=INK, loc="right")


def _accuracy(ax: Axes, x: float, y: float, run: Run) -> None:
    good = 0.0 if run.diverged else max(0.0, (run.accuracy - 0.1) / 0.9) ** 2
    box = FancyBboxPatch((x - 0.38, y - 0.33), 0.76, 0.66, boxstyle="round,pad=0.05", linewidth=0)
    box.set_facecolor((*[1 - good * (1 - c) - 0.07 * (1 - good) for c in (0.0, 0.62, 0.45)],))
    ax.add_patch(box)
    text = "NaN" if run.diverged else f"{run.accuracy:.0%}"
    ax.text(x, y, text, ha="center", va="center", fontsize=13, color="white" if good > 0.5 else QUIET)
