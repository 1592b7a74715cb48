"""What every picture shares: few colors, quiet axes, titles that say what to see, labels beside the curves.

    fig, axes = new_figure(1, 2, size=(11, 4), title="Plain networks lose the gradient")
    axes[0, 0].plot(x, y, color=COLORS[0])
    caption(axes[0, 0], "rms of the gradient", x="layer", y="rms")
    end_label(axes[0, 0], x, y, "He", COLORS[0])
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

from minires.files import atomic_write

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
"""Okabe and Ito's colors, which remain distinct for color-blind readers; gray last, for what is not the subject."""

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


def end_label(ax: Axes, x: Sequence[float], y: Sequence[float], text: str, color: str) -> None:
    """Writes `text` beside the last finite point of a curve: no legend to look up."""
    finite = np.flatnonzero(np.isfinite(np.asarray(y, dtype=float)))
    if len(finite):
        at = (x[finite[-1]], y[finite[-1]])
        ax.annotate(text, at, (5, 0), textcoords="offset points", va="center", color=color, fontsize=10)


def save(fig: Figure, path: str | Path) -> None:
    """Writes the figure, whole or not at all, in the format that the name ends in (.pdf, .svg); as PNG otherwise."""
    path = Path(path)
    ending = path.suffix.lower().removeprefix(".")
    picture = {"format": ending if ending in ("pdf", "svg") else "png", "dpi": 150, "facecolor": "white"}
    fig.draw_without_rendering()  # the layout needs one look at the labels before it fits

    def write(file: BinaryIO) -> None:
        fig.savefig(file, **picture)

    atomic_write(path, write)
