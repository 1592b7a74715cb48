"""The curves of training: loss and accuracy over the epochs, of one run or of several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from minires.plot.style import COLORS, QUIET, STYLES, caption, end_labels, new_figure, plain_log
from minires.train import History


def draw_history(history: History, name: str) -> Figure:
    """One run: every looked-at loss and the epochs' means on the left, accuracy on the right (`name` says whose)."""
    fig, axes = _two_panels(name)
    loss, accuracy = axes[0]
    per_epoch = history.epochs[0]["step"] if history.epochs else 1
    at = [row["step"] / per_epoch for row in history.steps]
    loss.plot(at, [row["loss"] for row in history.steps], color=QUIET, linewidth=0.6, alpha=0.6)
    if history.epochs:
        epochs, parts = history.column("epoch"), ("train", "test")
        _curves(accuracy, epochs, {part: [100 * a for a in history.column(f"{part}_accuracy")] for part in parts})
        final = history.epochs[-1]["test_accuracy"]
        caption(accuracy, f"accuracy: {final:.2%} of the test images at the end", x="epoch", y="accuracy (%)")
        loss.set_yscale("log")
        _curves(loss, epochs, {part: history.column(f"{part}_loss") for part in parts})
    plain_log(loss)
    caption(loss, "loss (gray: single steps)", x="epoch", y="cross-entropy (nats)")
    return fig


def draw_comparison(runs: Mapping[str, History], title: str) -> Figure:
    """Several runs, by name: test loss on the left, test accuracy on the right, over the epochs."""
    fig, axes = _two_panels(title)
    loss, accuracy = axes[0]
    epochs = max((history.column("epoch") for history in runs.values()), key=len, default=[])
    loss.set_yscale("log")
    _curves(loss, epochs, {name: history.column("test_loss") for name, history in runs.items()})
    _curves(accuracy, epochs, {n: [100 * a for a in h.column("test_accuracy")] for n, h in runs.items()})
    plain_log(loss)
    caption(loss, "loss on the test images", x="epoch", y="cross-entropy (nats)")
    caption(accuracy, "accuracy on the test images", x="epoch", y="accuracy (%)")
    return fig


def _two_panels(title: str) -> tuple[Figure, np.ndarray]:
    """Side by side, with room between them for the names at the ends of the curves."""
    fig, axes = new_figure(1, 2, size=(11, 4.2), title=title)
    fig.get_layout_engine().set(wspace=0.06)
    return fig, axes


def _curves(ax: Axes, x: Sequence[float], curves: Mapping[str, Sequence[float]]) -> None:
    """Each with a color, a dash and a mark, its name beside its end; a curve that lies on another shows it through."""
    ends = []
    for (name, y), color, (dash, mark) in zip(curves.items(), COLORS, STYLES, strict=False):
        look = {"markersize": 6, "markerfacecolor": "none"} if len(x) < 40 else {"marker": ""}
        ax.plot(x[: len(y)], y, color=color, linestyle=dash, **{"marker": mark, **look})
        ends += [(x[len(y) - 1], y[-1], name, color)] if len(y) else []
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    end_labels(ax, ends)
