"""The picture of `minires bench`: time of an image against the batch, and of an image and layer against the depth."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minires.bench.engines import ENGINES
from minires.bench.measure import Result, Run
from minires.plot.style import COLORS, STYLES, caption, end_labels, new_figure

KINDS = {"train": "training step", "infer": "inference"}
CURVES = [name for name, engine in ENGINES.items() if not engine.slow]


def draw_times(run: Run) -> Figure:
    """A row a kind of work, training and inference; batches on the left, depths on the right.

    A line is flat where an image costs the same in any batch, and a layer the same in any network. Raises ValueError
    for a run without networks: there is nothing to draw a line of.
    """
    kinds = [kind for kind in KINDS if any(result.case.kind == kind for result in run.results)]
    if not kinds:
        raise ValueError("a picture of times shows networks, and only layers were measured")
    fig, axes = new_figure(len(kinds), 2, size=(11.5, 3.9 * len(kinds)), title=_headline(run))
    for (by_batch, by_depth), kind in zip(axes, kinds, strict=True):
        results = [result for result in run.results if result.case.kind == kind]
        first, batch = results[0].case.depth, results[-1].case.batch
        _panel(by_batch, [result for result in results if result.case.depth == first], "batch")
        caption(by_batch, f"{KINDS[kind]}, resnet{first}", x="batch", y="ms per image")
        _panel(by_depth, [result for result in results if result.case.batch == batch], "depth")
        caption(by_depth, f"{KINDS[kind]}, batch {batch}", x="layers", y="µs per image and layer")
    return fig


def _headline(run: Run) -> str:
    """The ratio to PyTorch of the first network at the batch nearest to 128, as a sentence."""
    networks = [result for result in run.results if result.case.kind in KINDS]
    result = min(networks, key=lambda result: abs(math.log(result.case.batch / 128)))
    ratio = result.ratio("minires", "torch")[1]
    if math.isnan(ratio):
        return f"{result.case}: {1000 * result.median('minires'):.0f} ms"
    return f"{result.case}: {ratio:.2f} of PyTorch's time"


def _panel(ax: Axes, results: list[Result], against: str) -> None:
    """A line an engine, through its medians."""
    results = sorted(results, key=lambda result: getattr(result.case, against))
    ends = []
    for color, (dash, mark), name in zip(COLORS, STYLES, CURVES, strict=False):
        present = [result for result in results if result.seconds.get(name)]
        if present:
            x = [getattr(result.case, against) for result in present]
            y = [result.median(name) * _unit(result, against) for result in present]
            ax.plot(x, y, color=color, linestyle=dash, marker=mark, markersize=4)
            ends.append((x[-1], y[-1], ENGINES[name].title, color))
    ax.set_xscale("log")
    ticks = [getattr(result.case, against) for result in results]
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    ax.set_ylim(0, 1.06 * max(value for line in ax.get_lines() for value in line.get_ydata()))
    end_labels(ax, ends)


def _unit(result: Result, against: str) -> float:
    """Seconds -> ms per image, or µs per image and layer."""
    if against == "batch":
        return 1e3 / result.case.batch
    return 1e6 / (result.case.batch * result.case.depth)
