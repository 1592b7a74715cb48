"""matplotlib's backend in the playground: a picture goes to the page when it is shown, and again when it has changed.

`plt.show()` sends every open figure and closes it. `plt.pause(s)`, matplotlib's own way to draw while something runs,
sends the figure as it is now; the page replaces what it showed before. It never waits.
"""

from __future__ import annotations

import io
import time

from matplotlib import pyplot as plt
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from minires.site.playground import Session

DPI, PASSING_DPI = 150, 75
"""Dots per inch of a figure, and of one that will soon be replaced."""

SHARE = 0.3
"""Of the time, at most this share goes into drawing a figure that changes all the time."""


def send_all() -> None:
    """Sends all open figures and closes them."""
    for number in plt.get_fignums():
        send_figure(plt.figure(number))
    plt.close("all")


def send_figure(figure: Figure, dpi: int = DPI) -> None:
    """Sends one figure, as it is now."""
    file, begun = io.BytesIO(), time.monotonic()
    figure.savefig(file, format="png", dpi=dpi, facecolor="white")
    if Session.current is not None:
        Session.current.send_figure(getattr(figure, "number", 0), file.getvalue(), text_of(figure))
    FigureManager.next_passing = time.monotonic() + (time.monotonic() - begun) * (1 / SHARE - 1)


def text_of(figure: Figure) -> str:
    """What a figure shows, in the words of its titles."""
    titles = [figure.get_suptitle() if hasattr(figure, "get_suptitle") else "", *_titles(figure)]
    return "; ".join(title for title in titles if title) or "a figure without a title"


def _titles(figure: Figure) -> list[str]:
    return [ax.get_title(loc=place) for ax in figure.axes for place in ("left", "center", "right")]


class FigureManager(FigureManagerBase):
    next_passing = 0.0
    """When a figure that changes may be drawn again."""

    @classmethod
    def pyplot_show(cls, *, block: bool | None = None) -> None:
        """`plt.show()`; with block=False, as `plt.pause` calls it, the figures stay open."""
        if block is not False:
            send_all()
        elif time.monotonic() >= cls.next_passing:
            send_figure(plt.gcf(), PASSING_DPI)


class FigureCanvas(FigureCanvasAgg):
    manager_class = FigureManager
    required_interactive_framework = None

    def draw_idle(self) -> None:
        """`plt.pause` asks for a drawing each time; it is drawn when it is sent."""

    def start_event_loop(self, timeout: float = 0) -> None:
        """There are no events to wait for."""
