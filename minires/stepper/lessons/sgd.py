"""Stochastic gradient descent with momentum and weight decay, four steps down a long valley."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minires.nn.layer import Parameter
from minires.optim import SGD
from minires.stepper.recorder import Record
from minires.stepper.story import Arrow, Move, Panel, Story, number, term

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


def so_far(story: Story, r: Record) -> list[tuple[float, float]]:
    """Where the weight has been, up to this line."""
    values = [record.before["p.value"] for record in story.records[:1] if "p.value" in record.before]
    for record in story.records[: r.index + 1]:
        value = record.after.get("p.value")
        if value is not None and (not values or not np.array_equal(values[-1], value)):
            values.append(value)
    return [(float(x), float(y)) for x, y in values]


def seen_from_above(story: Story, r: Record) -> dict:
    """The valley, and the way that the weight has come."""
    return {"path": so_far(story, r), "bowl": tuple(STEEPNESS)}


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
        **seen_from_above(story, r),
        arrows=[Arrow("p.value", "grad")],
    )


def decay(story: Story, r: Record) -> Iterator[Move]:
    sums = "; ".join(
        f"{term(r, 'grad', i, before=True)} + {term(r, 'self.weight_decay')}·{term(r, 'p.value', i)} = "
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
        **seen_from_above(story, r),
        arrows=[Arrow("before", "grad", style="sum"), Arrow("p.value", "grad", style="sum")],
    )


def momentum(story: Story, r: Record) -> Iterator[Move]:
    old = "self.velocities[0]"
    sums = "; ".join(
        f"{term(r, 'self.momentum')}·{term(r, old, i, before=True)} + {term(r, 'grad', i)} = {number(r, 'velocity', i)}"
        for i in range(2)
    )
    first = " It was 0 at the start, so the first step is the gradient's alone." if r.visit == 0 else ""
    yield story.move(
        r,
        f"Step {r.visit + 1}: the velocity",
        f"A part of the old velocity goes on, and the gradient is added: {sums}.{first}",
        [Panel(r, old, "velocity before", before=True, key="before", read=[BOTH]), Panel(r, "grad", read=[BOTH])],
        [Panel(r, "velocity", write=[BOTH])],
        formula="v = momentum·v + g",
        part=step_of(r),
        **seen_from_above(story, r),
        arrows=[Arrow("before", "velocity", style="sum"), Arrow("grad", "velocity", style="sum")],
    )


def update(story: Story, r: Record) -> Iterator[Move]:
    sums = "; ".join(
        f"{term(r, 'p.value', i, before=True)} − {term(r, 'lr')}·{term(r, 'velocity', i)} = {number(r, 'p.value', i)}"
        for i in range(2)
    )
    end = (
        " Along the valley it has come down step by step; across it, it has swung over the bottom. The "
        "velocity adds up what the steps have in common, and swings cancel in it."
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
        **seen_from_above(story, r),
        arrows=[Arrow("before", "p.value"), Arrow("velocity", "p.value")],
    )


TALES = {
    ("step", "grad"): gradient,
    ("step", "grad", "self.weight_decay"): decay,
    ("step", "velocity"): momentum,
    ("step", "p.value"): update,
}
