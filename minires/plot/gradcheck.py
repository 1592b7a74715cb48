"""Pictures of gradient checks: error against step, and kinks against their law."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minires.gradcheck.curves import KinkCurve, StepCurve
from minires.gradcheck.kinks import poisson_quantile
from minires.plot.style import COLORS, QUIET, caption, new_figure

NONE = 0.05
"""Where a count of 0 is drawn on the logarithmic axis: at its lower end."""


def steps_and_kinks(double: StepCurve, single: StepCurve, kinks: KinkCurve) -> Figure:
    """Three panels: error against step in float64 and in float32, and ReLUs crossed against the step."""
    fig, axes = new_figure(1, 3, size=(15, 4.8), title="Too large a step bends away, too small a step rounds")
    draw_steps(axes[0, 0], double)
    axes[0, 0].legend(frameon=False, fontsize=9, loc="upper center")
    draw_steps(axes[0, 1], single)
    draw_kinks(axes[0, 2], kinks)
    axes[0, 1].sharey(axes[0, 0])
    return fig


def draw_steps(ax: Axes, curve: StepCurve) -> None:
    """The V of a forward and a central difference, the flat line of the complex step, and the predicted optimum."""
    lines = {
        "forward difference": (curve.forward, COLORS[1], ":", "^"),
        "central difference": (curve.central, COLORS[0], "-", "o"),
        "complex step": (curve.complex_step, COLORS[2], "--", "s"),
    }
    for name, (error, color, dash, mark) in lines.items():
        look = {"linewidth": 1.6, "markevery": len(error) // 14, "markersize": 5, "markerfacecolor": "white"}
        ax.loglog(curve.steps, error, color=color, linestyle=dash, marker=mark, label=name, **look)
    ax.plot(curve.best_step, curve.floor, "*", color="black", markersize=15, label="best step by the law", zorder=5)
    ax.axvline(curve.best_step, color=QUIET, linewidth=0.8, linestyle=":")
    ax.axhline(curve.floor, color=QUIET, linewidth=0.8, linestyle=":")
    digits = {"float64": 16, "float32": 7}[curve.dtype]
    title = rf"{curve.dtype}, {digits} digits: best step $\approx u^{{1/3}}$, its error $\approx u^{{2/3}}$"
    caption(ax, title, x="step $h$", y="error of the derivative")


def draw_kinks(ax: Axes, curve: KinkCurve) -> None:
    """Counts as points, the law as a line, and the band that Poisson counts leave once in a thousand."""
    high = [poisson_quantile(n, 5e-4) for n in curve.expected]
    low = [poisson_quantile(n, 1 - 5e-4) for n in curve.expected]
    ax.fill_between(curve.steps, np.maximum(low, NONE), high, color=COLORS[0], alpha=0.15, label="99.9 % of counts")
    ax.loglog(curve.steps, curve.expected, color=COLORS[0], label="law")
    ax.plot(curve.steps, np.maximum(curve.counted, NONE), "o", color=COLORS[1], label="counted", clip_on=False)
    ax.set_ylim(bottom=NONE)
    powers = [10**power for power in range(math.ceil(math.log10(max(high))) + 1)]
    ax.set_yticks([NONE, *powers], ["0", *map("{:g}".format, powers)])
    ax.minorticks_off()
    ax.legend(frameon=False, fontsize=9, loc="upper left")
    caption(ax, "Kinks crossed: a tenth of the step, a tenth of them", x="step $h$ of one weight", y="ReLUs switched")
