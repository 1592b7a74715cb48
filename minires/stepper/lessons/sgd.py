"""Stochastic gradient descent with momentum and weight decay, four steps down a long valley."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minires.nn.layer import Parameter
from minires.optim import SGD
from minires.stepper.recorder import Record
from minires.stepper.story import Arrow, Move, Panel, Story, number

TITLE = "SGD with momentum"
ABOUT = "A weight of two numbers in a valley four times as steep across as along: loss = (w0² + 4·w1²)/2. Four steps."
MODULES = ("minires.optim",)

STEEPNESS = np.array([1.0, 4.0])
STEPS = 4


def run() -> None:
    """The steps that are recorded; the gradient of each is that of the loss, where the weight then stands."""
    weight = Parameter(np.array([4.0, 2.0]))
    optimizer = SGD([weight], lr=0.2, momentum=0.5, weight_decay=0.1)
    for _ in range(STEPS):
        weight.grad = STEEPNESS * weight.value
        optimizer.step()


def cell(i: int) -> tuple[int, int, int, int]:
    """Number i of the weight."""
    return 0, i, 1, 1


BOTH = (0, 0, 1, 2)


def step_of(r: Record) -> str:
    """Which step of the optimizer a line belongs to: every line of it runs once a step."""
    return f"step {r.visit + 1}"


def gradient(story: Story, r: Record) -> Iterator[Move]:
    yield story.move(
        r,
        f"Step {r.visit + 1}: the gradient",
        f"Backward has left the gradient in `p.grad`: here (w0, 4·w1) = ({number(r, 'p.grad', 0)}, "
        f"{number(r, 'p.grad', 1)}). It points uphill.",
        [Panel(r, "p.value", "weight", read=[BOTH])],
        [Panel(r, "grad", write=[BOTH])],
        formula="g = ∂loss/∂w",
        part=step_of(r),
        arrows=[Arrow("p.value", "grad")],
    )


def decay(story: Story, r: Record) -> Iterator[Move]:
    sums = "; ".join(
        f"{number(r, 'grad', i, before=True)} + {number(r, 'self.weight_decay')}·{number(r, 'p.value', i)} = "
        f"{number(r, 'grad', i)}"
        for i in range(2)
    )
    yield story.move(
        r,
        f"Step {r.visit + 1}: weight decay",
        f"It pulls every weight towards 0, as if the loss had d/2·|w|² added: {sums}.",
        [
            Panel(r, "grad", "grad before", before=True, key="before", read=[BOTH]),
            Panel(r, "p.value", "weight", read=[BOTH]),
        ],
        [Panel(r, "grad", write=[BOTH])],
        formula="g = g + d·w",
        part=step_of(r),
        arrows=[Arrow("before", "grad", style="sum"), Arrow("p.value", "grad", style="sum")],
    )


def momentum(story: Story, r: Record) -> Iterator[Move]:
    old = "self.velocities[0]"
    sums = "; ".join(
        f"{number(r, 'self.momentum')}·{number(r, old, i, before=True)} + {number(r, 'grad', i)} = "
        f"{number(r, 'velocity', i)}"
        for i in range(2)
    )
    first = " It was 0 at the start, so the first step is the gradient's alone." if r.visit == 0 else ""
    yield story.move(
        r,
        f"Step {r.visit + 1}: the velocity",
        f"A part of the old velocity goes on, and the gradient is added: {sums}.{first}",
        [Panel(r, old, "velocity before", before=True, key="before", read=[BOTH]), Panel(r, "grad", read=[BOTH])],
        [Panel(r, "velocity", write=[BOTH])],
        formula="v = mu·v + g",
        part=step_of(r),
        arrows=[Arrow("before", "velocity", style="sum"), Arrow("grad", "velocity", style="sum")],
    )


def update(story: Story, r: Record) -> Iterator[Move]:
    sums = "; ".join(
        f"{number(r, 'p.value', i, before=True)} − {number(r, 'lr')}·{number(r, 'velocity', i)} = "
        f"{number(r, 'p.value', i)}"
        for i in range(2)
    )
    end = (
        " Across the valley the weight has swung over 0 and back, along it it has come down steadily: momentum "
        "averages "
        "the swings and keeps the direction that they share."
        if r.visit == STEPS - 1
        else ""
    )
    yield story.move(
        r,
        f"Step {r.visit + 1}: the weight moves",
        f"Downhill, by the learning rate times the velocity: {sums}.{end}",
        [
            Panel(r, "p.value", "weight before", before=True, key="before", read=[BOTH]),
            Panel(r, "velocity", read=[BOTH]),
        ],
        [Panel(r, "p.value", "weight", write=[BOTH])],
        formula="w = w − lr·v",
        part=step_of(r),
        arrows=[Arrow("before", "p.value"), Arrow("velocity", "p.value")],
    )


TALES = {
    ("step", "grad"): gradient,
    ("step", "grad", "self.weight_decay"): decay,
    ("step", "velocity"): momentum,
    ("step", "p.value"): update,
}
