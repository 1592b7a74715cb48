"""Signals by layer: what the laws foretell as a line with a band, what was measured as points on top of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from minires.init import Initializer
from minires.plot.style import COLORS, INK, QUIET, caption, new_figure, plain_log
from minires.theory.forecast import STATIONS
from minires.theory.report import Quantity, Row, SignalReport
from minires.theory.samplers.weights import family

LAW, POINT = COLORS[0], COLORS[1]


class Signal(NamedTuple):
    """A prediction, a measurement, or both, of one model and start."""

    predicted: SignalReport | None
    measured: SignalReport | None = None


WAYS = {"forward": ("activations", "from first to last"), "gradient_out": ("gradients", "towards the input")}


def draw_signals(signals: Mapping[str, Signal], title: str, stations: Sequence[str] = STATIONS) -> Figure:
    """rms of the activations and of the gradients by layer, logarithmic: a column for each named signal, gradients
    below; a single signal has its two panels side by side.

    stations: kinds of layers that are drawn; where they are blocks, so is what the first block gets. The band is where
    one network may lie: the law's own allowance and two standard deviations. Small dots are single networks, large ones
    their mean (the root of the mean square).
    """
    alone, width = len(signals) == 1, min(4.2 + 3.8 * len(signals), 16)
    grid = {"size": (12, 4)} if alone else {"size": (width, 6.4), "sharex": "col", "sharey": "row"}
    fig, axes = new_figure(1 if alone else 2, 2 if alone else len(signals), title=title, **grid)
    for panels, (name, signal) in zip(axes if alone else axes.T, signals.items(), strict=True):
        report = signal.predicted or signal.measured
        paths = _paths(report, stations)
        for ax, (quantity, (what, way)) in zip(panels, WAYS.items(), strict=True):
            if signal.predicted is not None:
                _line(ax, _rows(signal.predicted, paths), quantity)
            if signal.measured is not None:
                _points(ax, signal.measured, paths, quantity)
            ax.set_yscale("log")
            caption(ax, name if ax is panels[0] else "", y=f"rms of the {what}" if alone or ax in axes[:, 0] else "")
            ax.set_title(_end_to_end(report, paths, quantity, way), fontsize=10, color=LAW, loc="right")
            if alone or ax is panels[1]:
                _name_layers(ax, report, paths, stations)
    for ax in axes[0] if alone else axes[:, 0]:
        _at_least(ax)
        plain_log(ax)
    _legend(axes[0, -1], list(signals.values()))
    return fig


def _paths(report: SignalReport, stations: Sequence[str]) -> list[str]:
    """The layers of these kinds, in order; what the first block gets stands before the blocks."""
    rows = list(report)
    chosen = [row.path for row in rows if row.kind in stations]
    if chosen and stations is not STATIONS:
        first = next(i for i, row in enumerate(rows) if row.path == chosen[0] or row.path.startswith(f"{chosen[0]}."))
        chosen[:0] = [rows[first - 1].path] if first and rows[first].path != chosen[0] else []
    return chosen


def _name_layers(ax: Axes, report: SignalReport, paths: Sequence[str], stations: Sequence[str]) -> None:
    """Numbers below the layers; below blocks their names, which say where the stages begin."""
    ax.set_xlabel("layer", fontsize=11, color=INK)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(paths) > 1 and report[paths[0]].kind not in stations:
        names = ["stem", *(path.removeprefix("layer") for path in paths[1:])]
        step = math.ceil(len(names) / 10)
        ax.set_xticks(range(1, len(names) + 1, step), names[::step])
        ax.set_xlabel("block (stage.number)", fontsize=11, color=INK)


def _end_to_end(report: SignalReport, paths: Sequence[str], quantity: str, way: str) -> str:
    """ "x 12 towards the input": by which factor the signal grows, or the gradient on its way back."""
    ends = [getattr(report[path], quantity).mean for path in (paths[0], paths[-1])] if paths else [0.0, 0.0]
    if quantity != "forward":
        ends.reverse()
    if not (ends[0] > 0 and 0 < ends[1] < math.inf):
        return ""
    factor = math.sqrt(ends[1] / ends[0])
    if 0.95 < factor < 1.05:
        return f"steady {way}"
    return f"× {_short(factor)} {way}" if factor > 1 else f"÷ {_short(1 / factor)} {way}"


def _short(factor: float) -> str:
    power = math.floor(math.log10(factor))
    return f"{float(f'{factor:.2g}'):g}" if power < 3 else rf"${factor / 10**power:.2g}\cdot 10^{{{power}}}$"


def _rows(report: SignalReport, paths: Sequence[str]) -> list[Row]:
    wanted = set(paths)
    return [row for row in report if row.path in wanted]


def _line(ax: Axes, rows: Sequence[Row], quantity: str) -> None:
    values: list[Quantity] = [getattr(row, quantity) for row in rows]
    x = np.arange(1, len(rows) + 1)
    mean = np.array([v.mean for v in values])
    spread = np.nan_to_num([v.allowance + 2 * v.spread for v in values])
    low, high = mean / (1 + spread), mean * (1 + spread)
    ax.fill_between(x, _root(low), _root(high), color=LAW, alpha=0.18, linewidth=0)
    ax.plot(x, _root(mean), color=LAW, linewidth=1.8)


def _points(ax: Axes, report: SignalReport, paths: Sequence[str], quantity: str) -> None:
    for number, path in enumerate(paths, 1):
        each = _root(report.samples[path, quantity])
        ax.plot(np.full(len(each), number), each, ".", color=POINT, markersize=2.5, alpha=0.35)
    mean = [np.mean(report.samples[path, quantity]) for path in paths]
    ax.plot(np.arange(1, len(paths) + 1), _root(mean), "o", color=POINT, markersize=4.5)


def _root(mean_square: Any) -> np.ndarray:
    """rms; what is 0 cannot be drawn on a logarithmic axis and is left out."""
    values = np.asarray(mean_square, dtype=float)
    return np.sqrt(np.where(values > 0, values, np.nan))


def _at_least(ax: Axes, span: float = 10.0) -> None:
    """Steady signals look steady, and a growth of a few times still shows: the axis spans a factor of 10 at least."""
    low, high = ax.get_ylim()
    middle = math.sqrt(low * high)
    if high < span * low:
        ax.set_ylim(middle / math.sqrt(span), middle * math.sqrt(span))


def _legend(ax: Axes, signals: Sequence[Signal]) -> None:
    """Two words above the right end, in the colors of what they name; line and dots tell them apart in grey."""
    words = [("line: theory", LAW)] if any(s.predicted for s in signals) else []
    measured = [s.measured for s in signals if s.measured]
    if measured:
        count = measured[0].networks
        words.append(("dots: measured" + f" on {count} networks" * (count > 1), POINT))
    for line, (word, color) in enumerate(reversed(words)):
        place = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "right", "va": "bottom"}
        ax.annotate(word, (1, 1), (0, 20 + 15 * line), color=color, fontsize=11, **place)


def draw_weights(laws: Mapping[str, tuple[Initializer, np.ndarray]], title: str) -> Figure:
    """Histograms of samples against the density of the law they should come from; {name: (initializer, sample)}.

    Laws whose entries are not independent (orthogonal) or not random show the histogram alone.
    """
    fig, axes = new_figure(1, len(laws), size=(min(1.5 + 3.2 * len(laws), 16), 3.6), title=title)
    for ax, (name, (law, sample)) in zip(axes[0], laws.items(), strict=True):
        values = np.asarray(sample, dtype=float).ravel()
        ax.hist(values, bins=60, density=True, color=POINT, alpha=0.35, linewidth=0)
        known = family(law, sample.shape)
        sd = math.sqrt(law.variance(sample.shape))
        if known is not None:
            end = min(known.bound * sd, np.abs(values).max())
            x = np.concatenate([[-1.001 * end], np.linspace(-end, end, 400), [1.001 * end]])
            ax.plot(x, known.density(x, sd), color=LAW, linewidth=1.8)
        caption(ax, name, x="weight")
        ax.set_yticks([])
        ax.axvline(0, color=QUIET, linewidth=0.8)
    axes[0, 0].set_ylabel("density", fontsize=11, color=INK)
    return fig
