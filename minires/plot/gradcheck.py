"""Pictures of gradient checks: error against step, and kinks against their law."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minires.gradcheck.curves import KinkCurve, StepCurve
from minires.gradcheck.kinks import poisson_quantile
from minires.plot.style import COLORS, QUIET, caption, new_figure


def steps_and_kinks(double: StepCurve, single: StepCurve, kinks: KinkCurve) -> Figure:
    """Three panels: error against step in float64 and in float32, and ReLUs crossed against the step."""
    fig, axes = new_figure(1, 3, size=(15, 4.8), title="A step too large bends, a step too small rounds")
    draw_steps(axes[0, 0], double)
    axes[0, 0].legend(frameon=False, fontsize=9, loc="upper center")
    draw_steps(axes[0, 1], single)
    draw_kinks(axes[0, 2], kinks)
    axes[0, 1].sharey(axes[0, 0])
    return fig


def draw_steps(ax: Axes, curve: StepCurve) -> None:
    """The V of a forward and a central difference, the flat line of the complex step, and the predicted optimum."""
    lines = {
        "forward difference": (curve.forward, COLORS[1]),
        "central difference": (curve.central, COLORS[0]),
        "complex step": (curve.complex_step, COLORS[2]),
    }
    for name, (error, color) in lines.items():
        ax.loglog(curve.steps, error, color=color, label=name, linewidth=1.6)
    ax.plot(
        curve.best_step, curve.floor, "o", color="black", markersize=8, markerfacecolor="none", label="predicted best"
    )
    ax.axvline(curve.best_step, color=QUIET, linewidth=0.8, linestyle=":")
    ax.axhline(curve.floor, color=QUIET, linewidth=0.8, linestyle=":")
    caption(ax, f"{curve.dtype}: best step ~ u^(1/3), floor ~ u^(2/3)", x="step h", y="error of the derivative")


def draw_kinks(ax: Axes, curve: KinkCurve) -> None:
    """Counts as points, the law as a line, and the band that Poisson counts leave once in a thousand."""
    high = [poisson_quantile(n, 5e-4) for n in curve.expected]
    low = [poisson_quantile(n, 1 - 5e-4) for n in curve.expected]
    ax.fill_between(curve.steps, low, high, color=COLORS[0], alpha=0.15, label="99.9 % of Poisson counts")
    ax.plot(curve.steps, curve.expected, color=COLORS[0], label="law")
    ax.plot(curve.steps, curve.counted, "o", color=COLORS[1], label="counted", clip_on=False)
    ax.set_xscale("log")
    ax.set_yscale("symlog", linthresh=1)
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, fontsize=9, loc="upper left")
    caption(ax, "Kinks crossed grow with the step", x="step h of one weight", y="ReLUs switched, 40 weights")
