"""A residual block on a patch of a digit: forward two ways to a sum, backward the gradient splits and meets again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minires import nn
from minires.stepper.lessons.inputs import digit
from minires.stepper.recorder import Record
from minires.stepper.story import Arrow, Move, Panel, Story, number, term

TITLE = "A residual block"
ABOUT = (
    "y = relu(branch(x) + x) on a patch of 4x4 pixels. The branch is conv, BatchNorm, relu, conv, BatchNorm. "
    "Watch the sum "
    "on the way there, and on the way back the place where two gradients meet."
)
MODULES = ("minires.ops", "minires.nn")

SIZE = 4
ALL = (0, 0, SIZE, SIZE)
CELLS = ((0, 0), (1, 2), (2, 1), (3, 3))
"""The cells whose sums are spelled out."""

BRANCH = nn.BasicBlock.branch
FORWARD_TEXT = {
    "conv1": "The branch begins: a 3x3 convolution.",
    "bn1": "BatchNorm brings the channel to mean 0 and variance 1, times its gain.",
    "relu1": "relu lets what is above 0 pass.",
    "conv2": "A second 3x3 convolution.",
    "bn2": "And its BatchNorm. Here the branch ends: no relu before the sum, so the branch can add and take away.",
}
BACKWARD_TEXT = {
    "bn2": "Back through BatchNorm: the gradient loses its mean, and what is in it of xhat.",
    "conv2": "Back through the second convolution: every pixel adds up what its windows send.",
    "relu1": "The gates that were closed stop the gradient.",
    "bn1": "Back through the first BatchNorm.",
    "conv1": "Back through the first convolution. This is what the branch has to say about x.",
}


def run() -> None:
    """The forward and the backward pass that are recorded."""
    block = nn.BasicBlock(1, 1, shortcut="A").astype(np.float64)
    values = {
        "conv1.weight": [[0.5, 0, -0.5], [1, 0, -1], [0.5, 0, -0.5]],
        "conv2.weight": [[0, 0.5, 0], [0.5, -2, 0.5], [0, 0.5, 0]],
        "bn1.weight": 1.0,
        "bn2.weight": 0.5,
    }
    for parameter in block.parameters():
        if parameter.name in values:
            parameter.value = np.reshape(np.asarray(values[parameter.name], np.float64), parameter.value.shape)
    x = digit(3)[:, :, 1 : 1 + SIZE, 2 : 2 + SIZE] / 8
    dy = np.random.default_rng(4).integers(-3, 4, x.shape).astype(np.float64)
    block.forward(x)
    block.backward(dy)


def branch(story: Story, r: Record) -> Iterator[Move]:
    name = str(r.after["name"])
    yield story.move(
        r,
        f"Branch, {name}",
        FORWARD_TEXT[name],
        [Panel(r, "x", "x")],
        [Panel(r, "y", f"before {name}", before=True, key="in", read=[ALL])],
        [Panel(r, "y", f"after {name}", write=[ALL], key="out")],
        formula="y = branch(x)",
        arrows=[Arrow("in", "out")],
        zoom=f"{name}, forward",
    )


def shortcut(story: Story, r: Record) -> Iterator[Move]:
    yield story.move(
        r,
        "The shortcut",
        "The other way from x to the sum has nothing on it: the identity. It has no parameters and loses nothing.",
        [Panel(r, "x", read=[ALL])],
        [Panel(r, "y", "the branch"), Panel(r, "shortcut", write=[ALL])],
        formula="shortcut = x",
        arrows=[Arrow("x", "shortcut")],
    )


def add(story: Story, r: Record) -> Iterator[Move]:
    for i, j in CELLS:
        at = 0, 0, i, j
        yield story.move(
            r,
            f"The sum at ({i}, {j})",
            f"Branch and shortcut are added, number by number: {term(r, 'y', *at, before=True)} + "
            f"{term(r, 'shortcut', *at)} = {number(r, 'y', *at)}. The branch only has to learn what to change "
            f"about x.",
            [
                Panel(r, "y", "the branch", before=True, key="branch", read=[(i, j, 1, 1)]),
                Panel(r, "shortcut", "the shortcut", read=[(i, j, 1, 1)]),
            ],
            [Panel(r, "y", "the sum", write=[(i, j, 1, 1)])],
            formula="y = branch(x) + x",
            arrows=[
                Arrow("branch", "y", number(r, "y", *at, before=True)),
                Arrow("shortcut", "y", number(r, "shortcut", *at)),
            ],
        )


def after_sum(story: Story, r: Record) -> Iterator[Move]:
    yield story.move(
        r,
        "relu after the sum",
        "What is below 0 is cut off; the block is done.",
        [Panel(r, "y", "the sum", before=True, key="sum", read=[ALL])],
        [Panel(r, "y", write=[ALL])],
        formula="y = relu(branch(x) + x)",
        arrows=[Arrow("sum", "y")],
        zoom="relu2, forward",
    )


def gate(story: Story, r: Record) -> Iterator[Move]:
    yield story.move(
        r,
        "The way back: relu",
        "dy comes from the layers above. The closed gates of the last relu stop it, and what passes is the gradient at "
        "the sum.",
        [Panel(r, "dy", "dy, from above", before=True, key="above", read=[ALL])],
        [Panel(r, "dy", "dy at the sum", write=[ALL])],
        formula="dsum = dy where y ≠ 0, else 0",
        arrows=[Arrow("above", "dy", style="back")],
        zoom="relu2, backward",
    )


def split(story: Story, r: Record) -> Iterator[Move]:
    yield story.move(
        r,
        "A sum hands its gradient to both",
        "Each of the two terms of a sum moves it just as much as it moves itself. So both ways get the whole "
        "gradient, not "
        "one half each.",
        [Panel(r, "dy", "dy at the sum", read=[ALL])],
        [
            Panel(r, "dx", "into the branch", write=[ALL]),
            Panel(r, "dy", "into the shortcut", write=[ALL], key="shortcut"),
        ],
        formula="dbranch = dsum        dshortcut = dsum",
        arrows=[Arrow("dy", "dx", style="back"), Arrow("dy", "shortcut", style="back")],
    )


def back(story: Story, r: Record) -> Iterator[Move]:
    name = str(r.after["name"])
    yield story.move(
        r,
        f"Back through {name}",
        f"{BACKWARD_TEXT[name]} The shortcut's gradient waits, unchanged.",
        [Panel(r, "dx", f"before {name}", before=True, key="in", read=[ALL])],
        [Panel(r, "dx", f"after {name}", write=[ALL], key="out")],
        [Panel(r, "dy", "on the shortcut")],
        formula="dx = branch backward of dsum",
        arrows=[Arrow("in", "out", style="back")],
        zoom=f"{name}, backward",
    )


def meet(story: Story, r: Record) -> Iterator[Move]:
    for i, j in CELLS:
        at = 0, 0, i, j
        yield story.move(
            r,
            f"Two gradients meet at ({i}, {j})",
            "x was used twice, so its gradient is the sum of what comes back along both ways: "
            f"{number(r, 'dx', *at, before=True)} from the branch + {number(r, 'dy', *at)} from the shortcut = "
            f"{number(r, 'dx', *at)}.",
            *together(r, (i, j, 1, 1)),
            formula="dx = dbranch + dshortcut",
            arrows=[
                Arrow("branch", "dx", number(r, "dx", *at, before=True), "sum"),
                Arrow("dy", "dx", number(r, "dy", *at), "sum"),
            ],
        )
    yield story.move(
        r,
        "Why deep networks can be trained",
        "Whatever the branch did to its gradient, the shortcut's arrives whole: dx = dsum + (something). In a "
        "chain of a "
        "hundred blocks the gradient is never only a product of a hundred factors.",
        *together(r, ALL),
        formula="∂y/∂x = ∂branch/∂x + 1",
        arrows=[Arrow("branch", "dx", style="sum"), Arrow("dy", "dx", style="sum")],
    )


def together(r: Record, cells: tuple[int, int, int, int]) -> list[list[Panel]]:
    """The picture of the two gradients at x, and their sum."""
    return [
        [
            Panel(r, "dx", "from the branch", before=True, key="branch", read=[cells]),
            Panel(r, "dy", "from the shortcut", read=[cells]),
        ],
        [Panel(r, "dx", "dx", write=[cells])],
    ]


TALES = {
    ("_forward", "y", "name"): branch,
    ("_forward", "shortcut"): shortcut,
    ("_forward", "y", "shortcut"): add,
    ("_forward", "y", "self.after_sum"): after_sum,
    ("_backward", "dy", "self.after_sum"): gate,
    ("_backward", "dx", "self.branch_scale"): split,
    ("_backward", "dx", "name"): back,
    ("_backward", "dx", "self.shortcut"): meet,
}
