"""A fully connected layer: three products with three small matrices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minires.ops import linear_backward, linear_forward
from minires.stepper.recorder import Record
from minires.stepper.story import Arrow, Move, Panel, Story, number, term

TITLE = "The fully connected layer"
ABOUT = "Three samples of four features become two outputs. Every gradient is a product with dy again."
MODULES = ("minires.ops",)

N, IN, OUT = 3, 4, 2
DX, DWEIGHT, DBIAS = "dy @ weight", "dy.T @ x", "dy.sum(axis=0) if has_bias else None"


def run() -> None:
    """The forward and the backward pass that are recorded."""
    x = np.array([[1.0, 2, 0, -1], [0, 3, 1, 2], [2, -1, 4, 1]])
    weight = np.array([[0.5, 1, -1, 2], [-1, 0.5, 2, 1]])
    bias = np.array([1.0, -2])
    dy = np.array([[1.0, -2], [0.5, 1], [-1, 3]])
    _, cache = linear_forward(x, weight, bias)
    linear_backward(dy, cache)


def dot(factors: list[tuple[str, str]], result: str) -> str:
    """a·b + c·d = e"""
    return " + ".join(f"{a}·{b}" for a, b in factors) + f" = {result}"


def product(story: Story, r: Record) -> Iterator[Move]:
    for n in range(N):
        for o in range(OUT):
            factors = [(term(r, "x", n, i), term(r, "weight", o, i)) for i in range(IN)]
            yield story.move(
                r,
                f"Sample {n}, output {o}",
                f"A row of x meets a row of weight: {dot(factors, number(r, 'y', n, o))}.",
                [Panel(r, "x", read=[(n, 0, 1, IN)]), Panel(r, "weight", read=[(o, 0, 1, IN)])],
                [Panel(r, "y", "y, without bias", write=[(n, o, 1, 1)], known=("cell", n * OUT + o + 1))],
                formula="y_{n,o} = Σ_i x_{n,i} weight_{o,i}",
                arrows=[Arrow("x", "y"), Arrow("weight", "y")],
            )


def add_bias(story: Story, r: Record) -> Iterator[Move]:
    for o in range(OUT):
        sums = "; ".join(
            f"{term(r, 'y', n, o, before=True)} + {term(r, 'bias', o)} = {number(r, 'y', n, o)}" for n in range(N)
        )
        yield story.move(
            r,
            f"The bias of output {o}",
            f"The same number for every sample: {sums}.",
            [Panel(r, "y", "y, without bias", before=True, key="before", read=[(0, o, N, 1)])],
            [Panel(r, "bias", read=[(0, o, 1, 1)])],
            [Panel(r, "y", write=[(0, o, N, 1)], known=("column", o + 1))],
            formula="y_{n,o} = Σ_i x_{n,i} weight_{o,i} + bias_o",
            arrows=[Arrow("before", "y"), Arrow("bias", "y")],
        )


def gradients(story: Story, r: Record) -> Iterator[Move]:
    for n in range(N):
        for i in range(IN):
            factors = [(term(r, "dy", n, o), term(r, "weight", o, i)) for o in range(OUT)]
            yield story.move(
                r,
                f"dx: sample {n}, feature {i}",
                f"Feature {i} went into both outputs, each time with another weight. Its gradient adds up what comes "
                f"back from both: {dot(factors, number(r, DX, n, i))}.",
                [Panel(r, "dy", read=[(n, 0, 1, OUT)]), Panel(r, "weight", read=[(0, i, OUT, 1)])],
                [Panel(r, DX, "dx", write=[(n, i, 1, 1)], known=("cell", n * IN + i + 1))],
                formula="dx_{n,i} = Σ_o dy_{n,o} weight_{o,i}",
                arrows=[Arrow("dy", DX, style="back"), Arrow("weight", DX, style="back")],
            )
    for o in range(OUT):
        for i in range(IN):
            factors = [(term(r, "dy", n, o), term(r, "x", n, i)) for n in range(N)]
            yield story.move(
                r,
                f"dweight: output {o}, feature {i}",
                "Every sample used this weight, so its gradient adds up over the samples: "
                f"{dot(factors, number(r, DWEIGHT, o, i))}.",
                [Panel(r, "dy", read=[(0, o, N, 1)]), Panel(r, "x", read=[(0, i, N, 1)])],
                [Panel(r, DWEIGHT, "dweight", write=[(o, i, 1, 1)], known=("cell", o * IN + i + 1))],
                formula="dweight_{o,i} = Σ_n dy_{n,o} x_{n,i}",
                arrows=[Arrow("dy", DWEIGHT, style="sum"), Arrow("x", DWEIGHT, style="sum")],
            )
    for o in range(OUT):
        terms = " + ".join(term(r, "dy", n, o) for n in range(N))
        yield story.move(
            r,
            f"dbias: output {o}",
            f"The bias was added to every sample. Its gradient is a sum, not a mean: {terms} = {number(r, DBIAS, o)}.",
            [Panel(r, "dy", read=[(0, o, N, 1)])],
            [Panel(r, DBIAS, "dbias", write=[(0, o, 1, 1)], known=("cell", o + 1))],
            formula="dbias_o = Σ_n dy_{n,o}",
            arrows=[Arrow("dy", DBIAS, style="sum")],
        )


TALES = {
    ("linear_forward", "y", "weight"): product,
    ("linear_forward", "y", "bias"): add_bias,
    ("linear_backward", "return"): gradients,
}
