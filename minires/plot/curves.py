"""The curves of training: loss and accuracy over the epochs, of one run or of several side by side."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from minires.plot.style import COLORS, QUIET, caption, end_label, new_figure
from minires.train import History


def draw_history(history: History, name: str) -> Figure:
    """One run: every looked-at loss and the epochs' means on the left, accuracy on the right (`name` says whose)."""
    fig, axes = new_figure(1, 2, size=(11, 4.2), title=name)
    loss, accuracy = axes[0]
    per_epoch = history.epochs[0]["step"] if history.epochs else 1
    at = [row["step"] / per_epoch for row in history.steps]
    loss.plot(at, [row["loss"] for row in history.steps], color=QUIET, linewidth=0.6, alpha=0.6)
    if history.epochs:
        epochs = history.column("epoch")
        for i, part in enumerate(("train", "test")):
            _curve(loss, epochs, history.column(f"{part}_loss"), part, COLORS[i])
            _curve(accuracy, epochs, [100 * a for a in history.column(f"{part}_accuracy")], part, COLORS[i])
        final = history.epochs[-1]["test_accuracy"]
        caption(accuracy, f"accuracy: {final:.2%} of the test images at the end", x="epoch", y="accuracy (%)")
    _log_loss(loss)
    caption(loss, "loss (gray: single steps)", x="epoch", y="cross-entropy (nats)")
    return fig


def draw_comparison(runs: Mapping[str, History], title: str) -> Figure:
    """Several runs, by name: test loss on the left, test accuracy on the right, over the epochs."""
    fig, axes = new_figure(1, 2, size=(11, 4.2), title=title)
    loss, accuracy = axes[0]
    for (name, history), color in zip(runs.items(), COLORS, strict=False):
        epochs = history.column("epoch")
        _curve(loss, epochs, history.column("test_loss"), name, color)
        _curve(accuracy, epochs, [100 * a for a in history.column("test_accuracy")], name, color)
    _log_loss(loss)
    caption(loss, "loss on the test images", x="epoch", y="cross-entropy (nats)")
    caption(accuracy, "accuracy on the test images", x="epoch", y="accuracy (%)")
    return fig


def _log_loss(ax: Axes) -> None:
    """A logarithmic axis with plain numbers: 0.3 and not 3 x 10^-1."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


def _curve(ax: Axes, x: list[float], y: list[float], name: str, color: str) -> None:
    ax.plot(x, y, color=color, marker="o" if len(x) < 40 else "", markersize=3)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    end_label(ax, x, y, name, color)
