"""The pictures of `minires compare`: what each initializer does to each network.

`draw` has everything. A column a network; below each other activations, gradients and loss. Marks are measured, lines
are the theory's. On the right the end of the story: a row an initializer, its accuracy in each network, framed where
training went otherwise than foreseen. The rows' names, with the colors, dashes and marks of the curves, are the legend.

`slides` has a slide for each network, to be read from the last row of a lecture hall: five initializers, each with a
color, a dash, a mark and its name at the end of the curve.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator

from minires.comparison import CHANCE, NETWORKS, Cell, finite, headline
from minires.comparison.cells import count_learned
from minires.plot.style import COLORS, INK, apart, end_labels, new_figure

BLUE, RED, GREEN, PINK, ORANGE, SKY, GRAY = COLORS
FAMILIES = {
    "zero": (GRAY, "x"),
    "constant": (GRAY, "+"),
    "normal": (SKY, "v"),
    "uniform": (SKY, "<"),
    "xavier": (BLUE, "s"),
    "he": (GREEN, "o"),
    "orthogonal": (PINK, "D"),
    "pretrained": (INK, "*"),
}
"""A color and a mark for each family, an orange triangle for those not named; within a family the dash differs."""

FLOOR, CEILING = 1e-9, 1e9
"""The ends of the rms axes; what lies beyond, exactly 0 or overflow, is drawn on the edge."""

TICKS = {FLOOR: "0", 1e-6: "$10^{-6}$", 1e-3: "$10^{-3}$", 1: "1", 1e3: "$10^3$", 1e6: "$10^6$", CEILING: "∞"}


class Look(NamedTuple):
    """How the curves of an initializer look."""

    color: str
    dash: str | tuple
    mark: str


def draw(cells: Sequence[Cell]) -> Figure:
    """The figure of all cells: the same initializers in each of the four networks."""
    looks = _looks(list(dict.fromkeys(cell.case.name for cell in cells)))
    fig, axes = new_figure(3, 5, size=(17.8, 10), width_ratios=[3.8, 3, 3, 3, 5.9])
    fig.suptitle(headline(cells), fontsize=21, fontweight="bold", color=INK, x=0.01, ha="left")
    for panels, network in zip(axes.T, NETWORKS, strict=False):  # the fifth column holds the accuracies
        here = [cell for cell in cells if cell.case.network == network]
        _signal_panel(panels[0], here, "activations", looks)
        _signal_panel(panels[1], here, "gradients", looks)
        _loss_panel(panels[2], here, looks)
        panels[0].set_title(f"{network}\n", fontsize=15, fontweight="bold", color=INK, loc="left")
        count = f"{count_learned(here)} of {len(here)} {_learn(here)}"
        panels[0].annotate(count, (0, 1), (0, 7), "axes fraction", "offset points", fontsize=13, color=INK)
    for ax in axes[:, 1:4].flat:
        ax.tick_params(labelleft=False)
    for ax, what in zip(axes[:, 0], ("rms of activations", "rms of gradients", "training loss"), strict=True):
        ax.set_ylabel(what, fontsize=14, color=INK)
    _direct_labels(axes[0, 0], [cell for cell in cells if cell.case.network == "plain"], looks)
    axes[2, 0].text(
        0.98, CHANCE + 0.06, "log(10): a guess", transform=axes[2, 0].get_yaxis_transform(), ha="right", fontsize=11
    )
    _accuracies(axes[:, -1], cells, looks)
    return fig


def _learn(cells: Sequence[Cell]) -> str:
    return "learns" if count_learned(cells) == 1 else "learn"


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
    """One color and mark a family (red for a large normal), and a dash of its own for each member."""
    dashes: dict[str, cycle[str]] = {}
    looks = {}
    for name in names:
        color, mark = FAMILIES.get(name.partition(":")[0].partition("_")[0], (ORANGE, ">"))
        if name.startswith("normal:") and float(name.partition(":")[2]) > 0.5:
            color, mark = RED, "^"
        looks[name] = Look(color, next(dashes.setdefault(color, cycle(["-", "--", ":", "-."]))), mark)
    return looks


def _signal_panel(ax: Axes, cells: Sequence[Cell], what: str, looks: Mapping[str, Look], size: float = 1) -> None:
    """rms against the layer, logarithmic: marks as measured, lines as foreseen; no line where there is no law."""
    for cell in cells:
        color, dash, mark = looks[cell.case.name]
        measured = _clipped(finite(getattr(cell.first.signal, what).values()))
        layers = np.arange(1, len(measured) + 1)
        ax.plot(layers, measured, mark, color=color, markersize=4 * size, markerfacecolor=color, linestyle="none")
        foreseen = [rms for _, rms in getattr(cell.first.foreseen, what)]
        ax.plot(layers, _clipped(foreseen or [math.nan] * len(layers)), color=color, linestyle=dash, lw=1.5 * size)
    ax.set_yscale("log")
    ax.set_ylim(FLOOR / 5, CEILING * 5)
    ax.set_yticks(list(TICKS))
    ax.set_yticklabels(list(TICKS.values()))
    ax.minorticks_off()
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.set_xlabel("layer", fontsize=12 * size, color=INK)


def _clipped(values: Iterable[float]) -> np.ndarray:
    return np.clip(list(values), FLOOR, CEILING)


def _loss_panel(ax: Axes, cells: Sequence[Cell], looks: Mapping[str, Look], size: float = 1) -> None:
    """Mean training loss of each epoch; the dotted line is the loss of a guess."""
    epochs = max(len(cell.first.losses) for cell in cells) - 1
    ax.plot([0, epochs], [CHANCE, CHANCE], color=INK, linestyle=":", linewidth=1.4 * size)
    for cell in cells:
        color, dash, mark = looks[cell.case.name]
        style = {"color": color, "linestyle": dash, "marker": mark, "markersize": 4 * size, "linewidth": 1.6 * size}
        ax.plot(np.minimum(cell.first.losses, 9), **style)
    ax.set_ylim(0, 3)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.set_xlabel("epoch", fontsize=12 * size, color=INK)


def _direct_labels(ax: Axes, cells: Sequence[Cell], looks: Mapping[str, Look]) -> None:
    """Names beside the ends of the curves, one for each family, pushed apart where they would overlap."""
    ends: dict[str, tuple[float, str]] = {}
    for cell in cells:
        family = {"he": "He", "xavier": "Xavier"}.get(cell.case.name.partition("_")[0], display(cell.case.name))
        end = _clipped(finite(cell.first.signal.activations.values()))[-1]
        ends.setdefault(family, (end, looks[cell.case.name].color))
    layers = max((len(cell.first.signal.activations) for cell in cells), default=1)
    ax.set_xticks([tick for tick in ax.get_xticks() if 0 < tick <= layers])
    ax.set_xlim(None, layers * 1.55)
    end_labels(ax, [(layers, end, family, color) for family, (end, color) in ends.items()], size=11)


def _accuracies(panels: Sequence[Axes], cells: Sequence[Cell], looks: Mapping[str, Look]) -> None:
    """A row an initializer (its name in its look), a column a network; the greener, the better."""
    grid, fig = panels[0].get_gridspec(), panels[0].figure
    for ax in panels:
        ax.remove()
    ax = fig.add_subplot(grid[:, -1])
    rows = {name: row for row, name in enumerate(looks)}
    columns = {network: column for column, network in enumerate(NETWORKS)}
    for name, look in looks.items():
        style = {"color": look.color, "linestyle": look.dash, "marker": look.mark, "markersize": 8, "linewidth": 2.5}
        ax.plot([-3.4, -2.95], [rows[name]] * 2, **style)
        ax.text(-2.78, rows[name], display(name), color=look.color, va="center", fontsize=13, fontweight="bold")
    for network, column in columns.items():
        short = network.replace(" + BatchNorm", "\n+ BN")
        ax.text(column, -0.6, short, ha="center", va="bottom", fontsize=12, color=INK)
    for cell in cells:
        _accuracy(ax, columns[cell.case.network], rows[cell.case.name], cell)
    ax.set_xlim(-3.5, len(columns) - 0.4)
    note = (
        "upper panels: marks are measured, lines foreseen.\n"
        "small: the range of three seeds.\n"
        "framed: training went otherwise than foreseen;\ndotted frame: nothing was foreseen of it."
    )
    ax.text(-3.4, len(rows) - 0.3, note, va="top", fontsize=12, color=INK)
    ax.set_ylim(max(len(rows), 8) + 0.9, -1.5)
    ax.axis("off")
    ax.set_title("accuracy on held-out digits", fontsize=14, color=INK, loc="right")


def _accuracy(ax: Axes, x: float, y: float, cell: Cell) -> None:
    value = cell.middle.accuracy
    good = 0.0 if math.isnan(value) else max(0.0, (value - 0.1) / 0.9) ** 2
    frame = {True: {"lw": 0}, False: {"lw": 2.5, "edgecolor": RED}, None: {"lw": 1.3, "edgecolor": INK, "ls": ":"}}
    box = FancyBboxPatch((x - 0.38, y - 0.33), 0.76, 0.66, boxstyle="round,pad=0.05", **frame[cell.middle.as_foreseen])
    box.set_facecolor((*[1 - good * (1 - c) - 0.07 * (1 - good) for c in (0.0, 0.62, 0.45)],))
    ax.add_patch(box)
    color = "white" if good > 0.6 else INK
    percent = ["NaN" if math.isnan(a) else f"{100 * a:.0f}" for a in cell.accuracies]
    text = percent[len(percent) // 2] + ("" if math.isnan(value) else "%")
    several = len(percent) > 1
    ax.text(x, y - 0.13 * several, text, ha="center", va="center", fontsize=13, color=color)
    if several:
        ax.text(x, y + 0.21, f"{percent[0]} to {percent[-1]}", ha="center", va="center", fontsize=10.5, color=color)


# ---- slides

ON_A_SLIDE = ("normal:0.01", "xavier_normal", "he_normal", "normal:1", "orthogonal", "pretrained", "zero", "he_uniform")
"""Who is on a slide, as far as it is among the initializers that were run; others follow in their order."""


def slides(cells: Sequence[Cell]) -> dict[str, Callable[[], Figure]]:
    """{file name: what draws it}, a slide for each network."""
    present = list(dict.fromkeys(cell.case.name for cell in cells))
    chosen = sorted(present, key=lambda name: ON_A_SLIDE.index(name) if name in ON_A_SLIDE else len(ON_A_SLIDE))[:5]
    found = {}
    for network in dict.fromkeys(cell.case.network for cell in cells):
        here = [cell for cell in cells if cell.case.network == network and cell.case.name in chosen]
        name = f"compare-{network.replace(' + ', '-').lower()}.png"
        found[name] = partial(slide, sorted(here, key=lambda cell: chosen.index(cell.case.name)))
    return found


def slide(cells: Sequence[Cell]) -> Figure:
    """One network on three panels: activations, gradients, loss with the accuracies at its ends."""
    names = [cell.case.name for cell in cells]
    looks = {name: look._replace(dash=dash) for (name, look), dash in zip(_looks(names).items(), DASHES, strict=False)}
    fig, axes = new_figure(1, 3, size=(16, 6.2))
    case = cells[0].case
    title = f"{case.depth} layers, {case.network}: {count_learned(cells)} of {len(cells)} starts {_learn(cells)}"
    fig.suptitle(title, fontsize=24, fontweight="bold", color=INK, x=0.01, ha="left")
    titles = ("activations going up", "gradients coming down", "training loss, and accuracy")
    for ax, what, heading in zip(axes[0], ("activations", "gradients", None), titles, strict=True):
        _signal_panel(ax, cells, what, looks, 1.7) if what else _loss_panel(ax, cells, looks, 1.7)
        ax.set_title(heading, fontsize=19, color=INK, loc="left")
        ax.tick_params(labelsize=15)
    axes[0, 0].set_ylabel("rms: marks measured, lines foreseen", fontsize=15, color=INK)
    layers = len(cells[0].first.signal.activations)
    ends = [_clipped(finite(cell.first.signal.activations.values()))[-1] for cell in cells]
    _name_curves(axes[0, 0], layers, ends, [display(name) for name in names], [looks[name] for name in names], 2.0)
    axes[0, 2].set_ylabel("cross-entropy (nats)", fontsize=15, color=INK)
    values = [cell.middle.accuracy for cell in cells]
    percents = ["diverges" if math.isnan(value) else f"{value:.0%}" for value in values]
    texts = [f"{display(name)}: {percent}" for name, percent in zip(names, percents, strict=True)]
    last = [TOP if cell.first.diverged else min(cell.first.losses[-1], TOP) for cell in cells]
    _name_curves(axes[0, 2], case.epochs, last, texts, [looks[name] for name in names], 2.2)
    return fig


DASHES = (":", "--", "-", "-.", (0, (8, 2, 2, 2, 2, 2)))
TOP = 2.85
"""Where on the axis of losses a run ends that diverged."""


def _name_curves(
    ax: Axes, x: float, y: Sequence[float], texts: Sequence[str], looks: Sequence[Look], room: float
) -> None:
    """Beside the end of each curve a piece of it and its name: also in grey one sees which name belongs to which."""
    ax.set_xticks([tick for tick in ax.get_xticks() if 0 <= tick <= x])
    ax.set_xlim(None, x * room)
    for place, text, look in zip(apart(ax, y, 15), texts, looks, strict=True):
        style = {"color": look.color, "linestyle": look.dash, "linewidth": 2.5, "clip_on": False}
        ax.plot([1.08 * x, 1.24 * x], [place, place], transform=ax.get_xaxis_transform(), **style)
        ax.plot(1.16 * x, place, look.mark, color=look.color, markersize=8, transform=ax.get_xaxis_transform())
        at = {"xycoords": ax.get_xaxis_transform(), "annotation_clip": False}
        ax.annotate(text, (1.29 * x, place), va="center", color=INK, fontsize=15, **at)
