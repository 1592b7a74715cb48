"""Max pooling over a handwritten digit: who wins a window, and who gets the gradient."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minires.ops import max_pool2d_backward, max_pool2d_forward
from minires.stepper.lessons.inputs import digit
from minires.stepper.recorder import Record
from minires.stepper.story import Arrow, Move, Panel, Story, number

TITLE = "Max pooling"
ABOUT = (
    "Windows of 3x3 pixels, two apart, on a handwritten digit. Only the largest pixel of each window gets a gradient."
)
MODULES = ("minires.ops",)

KERNEL, STRIDE, PLACES = 3, 2, 4
FORWARD, BACKWARD = "max_pool2d_forward", "max_pool2d_backward"
ALL = (0, 0, PLACES, PLACES)


def run() -> None:
    """The forward and the backward pass that are recorded."""
    dy = np.random.default_rng(1).integers(1, 10, (1, 1, PLACES, PLACES)).astype(np.float64)
    _, cache = max_pool2d_forward(digit(3), KERNEL, stride=STRIDE, padding=1)
    max_pool2d_backward(dy, cache)


def tap_cells(tap: int) -> list[tuple[int, int, int, int]]:
    """The pixels under one tap of the window, over all of its places."""
    a, b = divmod(tap, KERNEL)
    return [(i * STRIDE + a, j * STRIDE + b, 1, 1) for i in range(PLACES) for j in range(PLACES)]


def changed(mask: np.ndarray) -> list[tuple[int, int, int, int]]:
    """The cells of a table (i, j) at which a mask holds."""
    return [(int(i), int(j), 1, 1) for i, j in np.argwhere(mask)]


def padding(story: Story, r: Record) -> Iterator[Move]:
    yield story.move(
        r,
        "An edge that cannot win",
        "A padding of zeros would win against negative pixels. Max pooling pads with minus infinity.",
        [Panel(r, "x", "x, the digit", read=[(0, 0, 8, 8)])],
        [Panel(r, "xpad", write=[(1, 1, 8, 8)])],
        formula="xpad = x with −∞ around it",
        arrows=[Arrow("x", "xpad")],
    )


def larger(story: Story, r: Record) -> Iterator[Move]:
    tap = int(r.after["tap"])
    count = int(r.after["larger"].sum())
    yield story.move(
        r,
        f"Tap {number(r, 'tap')}: which pixels are larger?",
        f"`pixel` holds, for all 16 windows at once, the pixel under tap {number(r, 'tap')}. In {count} of them it is "
        "larger than the best one so far. In the first window: "
        f"{number(r, 'pixel', 0, 0, 0, 0)} against {number(r, 'y', 0, 0, 0, 0)}.",
        [Panel(r, "xpad", read=tap_cells(tap))],
        [Panel(r, "pixel", read=[ALL]), Panel(r, "y", "y so far", read=[ALL])],
        [Panel(r, "larger", write=changed(r.after["larger"][0, 0]) or [ALL])],
        formula="larger = pixel > y",
        arrows=[Arrow("xpad", "pixel"), Arrow("pixel", "larger"), Arrow("y", "larger")],
    )


def best(story: Story, r: Record) -> Iterator[Move]:
    yield story.move(
        r,
        f"Tap {number(r, 'tap')}: the best so far",
        "Where the pixel is larger it takes the place. All others stay. In the first window: from "
        f"{number(r, 'y', 0, 0, 0, 0, before=True)} to {number(r, 'y', 0, 0, 0, 0)}.",
        [
            Panel(r, "pixel", read=changed(r.after["larger"][0, 0])),
            Panel(r, "y", "y before", before=True, key="before"),
        ],
        [Panel(r, "y", write=changed(r.after["larger"][0, 0]))],
        formula="y = pixel where larger, else y",
        arrows=[Arrow("pixel", "y"), Arrow("before", "y")],
    )


def winner(story: Story, r: Record) -> Iterator[Move]:
    yield story.move(
        r,
        f"Tap {number(r, 'tap')}: who holds the record",
        f"The windows that were won just now remember the tap, {number(r, 'tap')}. Backward will need nothing "
        f"else of x. "
        "A pixel that is only as large as the best does not win: the first one in reading order keeps the place.",
        [Panel(r, "larger", read=changed(r.after["larger"][0, 0]))],
        [Panel(r, "winner", write=changed(r.after["larger"][0, 0]))],
        formula="winner = tap where larger, else winner",
        arrows=[Arrow("larger", "winner")],
    )


def windows(story: Story, r: Record) -> Iterator[Move]:
    for k in range(PLACES**2):
        i, j = divmod(k, PLACES)
        tap = int(r.after["winner"][0, 0, i, j])
        row, column = i * STRIDE + tap // KERNEL, j * STRIDE + tap % KERNEL
        yield story.move(
            r,
            f"Window {k + 1} of 16",
            f"The largest of its nine pixels is {number(r, 'xpad', 0, 0, row, column)}, under tap "
            f"{number(r, 'winner', 0, 0, i, j)}. So y is {number(r, 'y', 0, 0, i, j)}.",
            [Panel(r, "xpad", read=[(i * STRIDE, j * STRIDE, KERNEL, KERNEL)], write=[(row, column, 1, 1)])],
            [Panel(r, "y", write=[(i, j, 1, 1)]), Panel(r, "winner", write=[(i, j, 1, 1)])],
            formula="y_{i,j} = max over (a, b) of xpad_{i·s+a, j·s+b}",
            arrows=[Arrow("xpad", "y")],
        )


def send(story: Story, r: Record) -> Iterator[Move]:
    tap = int(r.after["tap"])
    won = r.after["cache.winner"][0, 0] == tap
    cells = changed(won)
    a, b = divmod(tap, KERNEL)
    targets = [(i * STRIDE + a, j * STRIDE + b, 1, 1) for i, j, _, _ in cells]
    if cells:
        (i, j), (row, column) = cells[0][:2], targets[0][:2]
        example = (
            f" The first one: {number(r, 'dxpad', 0, 0, row, column, before=True)} + {number(r, 'dy', 0, 0, i, j)} = "
            f"{number(r, 'dxpad', 0, 0, row, column)}."
        )
    else:
        example = ""
    count, their = ("One window was", "Its") if len(cells) == 1 else (f"{len(cells)} windows were", "Their")
    text = f"{count} won by tap {number(r, 'tap')}. {their} dy is added to the pixel that won: windows overlap."
    yield story.move(
        r,
        f"Tap {number(r, 'tap')}: to its winners",
        text + example if cells else f"No window was won by tap {number(r, 'tap')}: there is nothing to add.",
        [Panel(r, "cache.winner", "winner", read=cells), Panel(r, "dy", read=cells)],
        [Panel(r, "dxpad", write=targets)],
        formula="dxpad_{i·s+a, j·s+b} += dy_{i,j} where winner_{i,j} = (a, b)",
        arrows=[Arrow("dy", "dxpad", style="sum")] if cells else [],
    )


def result(story: Story, r: Record) -> Iterator[Move]:
    name = r.statement.results[0]
    counts = int((r.after[name] != 0).sum())
    yield story.move(
        r,
        "dx",
        f"Of 64 pixels, {counts} won a window and have a gradient. All others get 0: no window took its maximum "
        f"from them. "
        "The edge is cut off.",
        [Panel(r, "dxpad", read=[(1, 1, 8, 8)])],
        [Panel(r, name, "dx", write=[(0, 0, 8, 8)])],
        formula="dx = dxpad without its edge",
        arrows=[Arrow("dxpad", name, style="back")],
    )


TALES = {
    (FORWARD, "xpad"): padding,
    (FORWARD, "larger"): larger,
    (FORWARD, "y", "larger"): best,
    (FORWARD, "winner", "larger"): winner,
    (FORWARD, "return"): windows,
    (BACKWARD, "dxpad", "dy", "tap"): send,
    (BACKWARD, "return"): result,
}
