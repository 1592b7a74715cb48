"""relu: a gate that the forward pass sets and the backward pass obeys."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minires.ops import relu_backward, relu_forward
from minires.stepper.recorder import Record
from minires.stepper.story import Arrow, Move, Panel, Story, number

TITLE = "ReLU"
ABOUT = "Eight numbers pass a gate. On the way back, the gates that are closed let no gradient through."
MODULES = ("minires.ops",)

ROWS, COLUMNS = 2, 4
DX = "dy * (cache != 0)"


def run() -> None:
    """The forward and the backward pass that are recorded."""
    x = np.array([[1.5, -2, 0, 3], [-0.5, 2.5, -1, 0.5]])
    dy = np.array([[2.0, 5, -3, -1], [4, 0.5, -2, 1]])
    _, cache = relu_forward(x)
    relu_backward(dy, cache)


def gate(story: Story, r: Record) -> Iterator[Move]:
    for k in range(ROWS * COLUMNS):
        i, j = divmod(k, COLUMNS)
        x = float(r.after["x"][i, j])
        passes = (
            "is positive, and passes as it is"
            if x > 0
            else "is negative, and becomes"
            if x < 0
            else "stands at the kink. It becomes"
        )
        yield story.move(
            r,
            f"Number {k + 1} of {ROWS * COLUMNS}",
            f"{number(r, 'x', i, j)} {passes}: {number(r, 'y', i, j)}.",
            [Panel(r, "x", read=[(i, j, 1, 1)])],
            [Panel(r, "y", write=[(i, j, 1, 1)], known=("cell", k + 1))],
            formula="y = max(x, 0)",
            arrows=[Arrow("x", "y")],
        )


def remembered(story: Story, r: Record) -> Iterator[Move]:
    yield story.move(
        r,
        "What backward will need",
        "y itself is the memory of the gates: it is above zero exactly where x is. The cache is y, and x can be "
        "forgotten.",
        [Panel(r, "x")],
        [Panel(r, "y", "y, the result and the cache", write=[(0, 0, ROWS, COLUMNS)])],
        formula="y > 0 ⇔ x > 0",
    )


def back(story: Story, r: Record) -> Iterator[Move]:
    for k in range(ROWS * COLUMNS):
        i, j = divmod(k, COLUMNS)
        y, before = number(r, "cache", i, j), float(story.last("relu_forward", "x").after["x"][i, j])
        if r.after["cache"][i, j] != 0:
            what = f"The gate was open (y is {y}), so the slope is 1 and the gradient passes:"
        elif before < 0:
            what = f"The gate was closed (y is {y}): when x moves a little, y stays. So the gradient is"
        else:
            what = f"x stood at the kink (y is {y}), where the slope is 0 on one side and 1 on the other. We take 0:"
        yield story.move(
            r,
            f"The gradient of number {k + 1}",
            f"From above comes {number(r, 'dy', i, j)}. {what} {number(r, DX, i, j)}.",
            [Panel(r, "cache", "cache (y)", read=[(i, j, 1, 1)]), Panel(r, "dy", read=[(i, j, 1, 1)])],
            [Panel(r, DX, "dx", write=[(i, j, 1, 1)], known=("cell", k + 1))],
            formula="dx = dy where y ≠ 0, else 0        (at x = 0 we take 0)",
            arrows=[Arrow("dy", DX, style="back"), Arrow("cache", DX)],
        )


TALES = {("relu_forward", "y"): gate, ("relu_forward", "return"): remembered, ("relu_backward", "return"): back}
