"""What every picture shares: few colors, quiet axes, titles that say what to see, labels beside the curves.

    fig, axes = new_figure(1, 2, size=(11, 4), title="Plain networks lose the gradient")
    axes[0, 0].plot(x, y, color=COLORS[0])
    caption(axes[0, 0], "rms of the gradient", x="layer", y="rms")
    end_labels(axes[0, 0], [(x[-1], y[-1], "He", COLORS[0])])
    save(fig, "picture.png")

Nothing here changes matplotlib's global settings: the look is set on the figure and axes at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from minires.files import atomic_write

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
"""Okabe and Ito's colors, which remain distinct for color-blind readers; gray last, for what is not the subject."""

STYLES = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"), ((0, (8, 2, 2, 2, 2, 2)), "v"))
"""A dash and a mark for each curve: what tells curves apart in grey, and on each other."""

INK = "#222222"
QUIET = "#8A8A8A"


def new_figure(
    rows: int = 1, cols: int = 1, *, size: tuple[float, float] = (8, 4.5), title: str | None = None, **grid: object
) -> tuple[Figure, np.ndarray]:
    """A figure of `size` inches with rows x cols quiet axes: (figure, array of axes of shape (rows, cols)).

    `grid` goes to `plt.subplots` (sharex, sharey, width_ratios, ...). The figure belongs to pyplot, so that a tutorial
    in a notebook shows it; whoever makes many closes them with `plt.close`.
    """
    fig, axes = plt.subplots(rows, cols, figsize=size, squeeze=False, layout="constrained", **grid)
    for ax in axes.flat:
        ax.set_prop_cycle(color=COLORS)
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(QUIET)
        ax.tick_params(colors=INK, labelsize=10, color=QUIET)
        ax.grid(axis="y", color="#E6E6E6", linewidth=0.8)
        ax.set_axisbelow(True)
    if title:
        fig.suptitle(title, fontsize=15, fontweight="bold", color=INK, x=0.01, ha="left")
    return fig, axes


def caption(ax: Axes, title: str = "", *, x: str = "", y: str = "") -> None:
    """Title (flush left; say what to see) and axis labels with their units."""
    ax.set_title(title, fontsize=12, color=INK, loc="left")
    ax.set_xlabel(x, fontsize=11, color=INK)
    ax.set_ylabel(y, fontsize=11, color=INK)


def end_labels(ax: Axes, ends: Sequence[tuple[float, float, str, str]], size: float = 10) -> None:
    """Writes a name beside the end of each curve: no legend to look up. ends: (x, y, name, color) of each.

    Names that would lie on each other are moved apart, so call it last: the axes' scales and limits must be final.
    What has no place on the axis, a loss of exactly 0 on a logarithmic one, gets no name.
    """
    ends = [end for end in ends if np.isfinite(end[1]) and (end[1] > 0 or ax.get_yscale() != "log")]
    for (x, _, text, color), place in zip(ends, apart(ax, [end[1] for end in ends], size), strict=True):
        at = {"xycoords": ax.get_xaxis_transform(), "xytext": (7, 0), "textcoords": "offset points"}
        ax.annotate(text, (x, place), va="center", color=color, fontsize=size, annotation_clip=False, **at)


def apart(ax: Axes, y: Sequence[float], size: float) -> np.ndarray:
    """Heights for labels of `size` points at these y, in fractions of the axes' height, none on another."""
    ax.autoscale_view()  # matplotlib puts off the limits until somebody asks
    wanted = (ax.transScale + ax.transLimits).transform([(1, each) for each in y] or np.empty((0, 2)))[:, 1]
    gap = 1.25 * size / (72 * ax.figure.get_figheight() * ax.get_position().height)
    order = np.argsort(wanted, kind="stable")
    places = wanted[order]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    for i in reversed(range(len(places))):  # and back down from the upper edge
        places[i] = min(places[i], 1 - (len(places) - 1 - i) * gap)
    return places[np.argsort(order)]


def plain_log(ax: Axes) -> None:
    """A logarithmic y axis with plain numbers, 0.1 and 1, where they are short; 0.2 and 0.5 as well on a short axis."""
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    if low > 1e-4 and high < 1e5:
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,)))
        ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


def save(fig: Figure, path: str | Path) -> None:
    """Writes the figure, whole or not at all, in the format that the name ends in (.pdf, .svg); as PNG otherwise."""
    path = Path(path)
    ending = path.suffix.lower().removeprefix(".")
    picture = {"format": ending if ending in ("pdf", "svg") else "png", "dpi": 150, "facecolor": "white"}
    fig.draw_without_rendering()  # the layout needs one look at the labels before it fits

    def write(file: BinaryIO) -> None:
        fig.savefig(file, **picture)

    atomic_write(path, write)
