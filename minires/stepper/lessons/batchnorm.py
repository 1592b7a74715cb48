"""Batch normalization of one channel of six values, and the three paths of its backward pass."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minires.ops import batchnorm_backward, batchnorm_forward
from minires.stepper.recorder import Record
from minires.stepper.story import Arrow, Move, Panel, Story, number, term

TITLE = "Batch normalization"
ABOUT = (
    "One channel, a batch of six values, chosen so that you can check every number by head (eps is 0 here). Backward, "
    "each x acts along three paths: directly, through the mean and through the variance."
)
MODULES = ("minires.ops",)

M = 6
ROW = "c,0,0"
"""(N, pixels, C) with one pixel and one channel, shown as a row."""
FORWARD, BACKWARD = "batchnorm_forward", "batchnorm_backward"
DX = "as_images((dy - through_mean - through_var) * (weight * inv), x_shape)"


def run() -> None:
    """One forward pass, and backward for three upstream gradients: any, the same everywhere, and along xhat."""
    x = np.array([[3.0], [7], [1], [4], [6], [3]])
    _, cache = batchnorm_forward(x, np.array([4.0]), np.array([1.0]), eps=0.0)
    batchnorm_backward(np.array([[2.0], [3], [-1], [1], [1], [0]]), cache)
    batchnorm_backward(np.ones_like(x), cache)
    batchnorm_backward((x - x.mean()) / x.std(), cache)


def cell(i: int) -> tuple[int, int, int, int]:
    """Value i of a row."""
    return 0, i, 1, 1


WHOLE = (0, 0, 1, M)


def mean(story: Story, r: Record) -> Iterator[Move]:
    terms = " + ".join(term(r, "values", i, 0, 0) for i in range(M))
    title, formula = "The mean", "mean = Σ_i x_i / m"
    text = f"({terms}) / {number(r, 'm')} = {number(r, 'mean', 0)}. Every x moves it a little: this is the second path."
    if r.before["mean"] is not None:
        title, formula = "What rounding has left over", "mean ← mean + Σ_i (x_i − mean) / m"
        text = (
            "A long sum loses digits, and the mean is off by a little. Once it is taken off every value, the mean of "
            f"what is left is that error: it is added. Six small numbers leave none, and the mean stays "
            f"{number(r, 'mean', 0)}."
        )
    yield story.move(
        r,
        title,
        text,
        [Panel(r, "values", "x", ROW, read=[WHOLE])],
        [Panel(r, "mean", write=[cell(0)])],
        formula=formula,
        arrows=[Arrow("values", "mean", style="sum")],
    )


def variance(story: Story, r: Record) -> Iterator[Move]:
    terms = " + ".join(f"{term(r, 'centered', i, 0, 0)}²" for i in range(M))
    yield story.move(
        r,
        "The variance",
        f"({terms}) / {number(r, 'm')} = {number(r, 'var', 0)}. It divides by m, not by m − 1. Every x moves it, "
        "too: the third path.",
        [Panel(r, "centered", view=ROW, read=[WHOLE])],
        [Panel(r, "var", write=[cell(0)])],
        formula="var = Σ_i (x_i − mean)^2 / m",
        arrows=[Arrow("centered", "var", style="sum")],
    )


def inverse(story: Story, r: Record) -> Iterator[Move]:
    yield story.move(
        r,
        "One over the standard deviation",
        f"1 / √({number(r, 'var', 0)} + {number(r, 'eps')}) = {number(r, 'inv', 0)}. eps keeps this finite when all "
        "values of a channel are equal; here it is 0, for round numbers.",
        [Panel(r, "var", read=[cell(0)])],
        [Panel(r, "inv", write=[cell(0)])],
        formula="inv = (var + eps)^{−1/2}",
        arrows=[Arrow("var", "inv")],
    )


def center(story: Story, r: Record) -> Iterator[Move]:
    yield story.move(
        r,
        "Away from the mean",
        f"The mean is taken off every value. The first one: {number(r, 'values', 0, 0, 0)} − {term(r, 'mean', 0)} = "
        f"{number(r, 'centered', 0, 0, 0)}.",
        [Panel(r, "values", "x", ROW, read=[WHOLE]), Panel(r, "mean", read=[cell(0)])],
        [Panel(r, "centered", view=ROW, write=[WHOLE])],
        formula="centered_i = x_i − mean",
        arrows=[Arrow("values", "centered"), Arrow("mean", "centered")],
    )


def normalize(story: Story, r: Record) -> Iterator[Move]:
    for i in range(M):
        yield story.move(
            r,
            f"Normalize value {i}",
            f"{term(r, 'centered', i, 0, 0)}·{number(r, 'inv', 0)} = {number(r, 'xhat', i, 0, 0)}. Along each channel "
            "xhat has mean 0 and variance 1.",
            [Panel(r, "centered", view=ROW, read=[cell(i)]), Panel(r, "inv", read=[cell(0)])],
            [Panel(r, "xhat", view=ROW, write=[cell(i)], known=("column", i + 1))],
            formula="xhat_i = (x_i − mean)·inv",
            arrows=[Arrow("centered", "xhat"), Arrow("inv", "xhat")],
        )


def scale(story: Story, r: Record) -> Iterator[Move]:
    for i in range(M):
        yield story.move(
            r,
            f"Gain and offset, value {i}",
            f"{number(r, 'xhat', i, 0, 0)}·{number(r, 'weight', 0)} + {number(r, 'bias', 0)} = "
            f"{number(r, 'y', i, 0, 0)}. The network may undo the normalization if it wants to.",
            [Panel(r, "xhat", view=ROW, read=[cell(i)])],
            [Panel(r, "weight", "weight (gain)", read=[cell(0)]), Panel(r, "bias", "bias (offset)", read=[cell(0)])],
            [Panel(r, "y", view=ROW, write=[cell(i)], known=("column", i + 1))],
            formula="y_i = weight·xhat_i + bias",
            arrows=[Arrow("xhat", "y"), Arrow("weight", "y"), Arrow("bias", "y")],
        )


def sums(story: Story, r: Record) -> Iterator[Move]:
    if r.visit:
        return
    terms = " + ".join(term(r, "dy", i, 0, 0) for i in range(M))
    yield story.move(
        r,
        "dbias",
        f"The offset was added to every value: {terms} = {number(r, 'dbias', 0)}.",
        [Panel(r, "dy", view=ROW, read=[WHOLE])],
        [Panel(r, "dbias", write=[cell(0)])],
        formula="dbias = Σ_i dy_i",
        arrows=[Arrow("dy", "dbias", style="sum")],
    )
    terms = " + ".join(f"{term(r, 'dy', i, 0, 0)}·{term(r, 'xhat', i, 0, 0)}" for i in range(M))
    yield story.move(
        r,
        "dweight",
        f"The gain multiplied every xhat: {terms} = {number(r, 'dweight', 0)}.",
        [Panel(r, "dy", view=ROW, read=[WHOLE]), Panel(r, "xhat", view=ROW, read=[WHOLE])],
        [Panel(r, "dweight", write=[cell(0)])],
        formula="dweight = Σ_i dy_i·xhat_i",
        arrows=[Arrow("dy", "dweight", style="sum"), Arrow("xhat", "dweight", style="sum")],
    )


def paths(story: Story, r: Record) -> Iterator[Move]:
    if r.visit:
        return
    yield story.move(
        r,
        "The path through the mean",
        f"If one x grows by a little, the mean grows by 1/{number(r, 'm')} of it and pulls every value down. All "
        f"dy together send back dbias/m: {number(r, 'dbias', 0)}/{number(r, 'm')} = "
        f"{number(r, 'through_mean', 0)}, the "
        "same for every x.",
        [Panel(r, "dy", view=ROW), Panel(r, "dbias", read=[cell(0)])],
        [Panel(r, "through_mean", "through the mean", write=[cell(0)])],
        formula="through_mean = dbias / m",
        arrows=[Arrow("dbias", "through_mean", style="back")],
    )
    yield story.move(
        r,
        "The path through the variance",
        "An x that lies far out widens the channel, and every value shrinks. So this path is in proportion to xhat: "
        f"xhat times dweight/m, {number(r, 'dweight', 0)}/{number(r, 'm')}. For value 1 that is "
        f"{number(r, 'through_var', 1, 0, 0)}, for the value at the mean {number(r, 'through_var', 3, 0, 0)}.",
        [Panel(r, "xhat", view=ROW, read=[WHOLE]), Panel(r, "dweight", read=[cell(0)])],
        [Panel(r, "through_var", "through the variance", ROW, write=[WHOLE])],
        formula="through_var_i = xhat_i · dweight / m",
        arrows=[Arrow("xhat", "through_var", style="back"), Arrow("dweight", "through_var", style="back")],
    )


def three(r: Record, i: int, **marks: object) -> list[list[Panel]]:
    """The picture of the three paths to dx_i."""
    return [
        [
            Panel(r, "dy", "directly: dy", ROW, read=[cell(i)]),
            Panel(r, "through_mean", "through the mean", read=[cell(0)]),
            Panel(r, "through_var", "through the variance", ROW, read=[cell(i)]),
        ],
        [Panel(r, DX, "dx", "c,0", write=[cell(i)], **marks)],
    ]


def three_arrows(r: Record, i: int) -> list[Arrow]:
    """Each with the number that it carries."""
    return [
        Arrow("dy", DX, f"+ {term(r, 'dy', i, 0, 0)}", "sum"),
        Arrow("through_mean", DX, f"− {term(r, 'through_mean', 0)}", "sum"),
        Arrow("through_var", DX, f"− {term(r, 'through_var', i, 0, 0)}", "sum"),
    ]


def meet(story: Story, r: Record) -> Iterator[Move]:
    formula = "dx_i = weight·inv·(dy_i − dbias/m − xhat_i·dweight/m)"
    if r.visit:
        yield from cancel(story, r, formula)
        return
    for i in range(M):
        yield story.move(
            r,
            f"Three paths meet: dx of value {i}",
            "What comes directly, less what the mean takes, less what the variance takes; all times weight·inv. "
            f"({number(r, 'dy', i, 0, 0)} − {term(r, 'through_mean', 0)} − {term(r, 'through_var', i, 0, 0)})·"
            f"{number(r, 'weight', 0)}·{number(r, 'inv', 0)} = {number(r, DX, i, 0)}.",
            *three(r, i, known=("column", i + 1)),
            formula=formula,
            arrows=three_arrows(r, i),
        )
    yield story.move(
        r,
        "What is left",
        f"dx adds up to 0: {' + '.join(term(r, DX, i, 0) for i in range(M))}. It must: the same amount added to "
        "every x changes no y. And along xhat it adds up to 0 as well: all x stretched about their mean change no y "
        "either. What remains of dy is what BatchNorm cannot undo.",
        [Panel(r, "xhat", view=ROW), Panel(r, DX, "dx", "c,0", read=[WHOLE])],
        formula="Σ_i dx_i = 0        Σ_i dx_i·xhat_i = 0",
    )


def cancel(story: Story, r: Record, formula: str) -> Iterator[Move]:
    """The two upstream gradients of which nothing is left."""
    if r.visit == 1:
        title = "A dy that is the same everywhere"
        text = (
            "Now run backward again, with dy = 1 for all six values: 'make all y larger'. The path through the "
            "mean takes "
            f"all of it, {number(r, 'dy', 1, 0, 0)} − {number(r, 'through_mean', 0)}; that through the variance "
            f"carries "
            f"{number(r, 'through_var', 1, 0, 0)}. dx is {number(r, DX, 1, 0)}: no change of x can do what "
            f"was asked."
        )
    else:
        title = "A dy along xhat"
        text = (
            "And once more, with dy = xhat: 'stretch all y'. Now the mean's path carries "
            f"{number(r, 'through_mean', 0)} and that through the variance takes all, {number(r, 'dy', 1, 0, 0)} − "
            f"{number(r, 'through_var', 1, 0, 0)}. Again dx is {number(r, DX, 1, 0)}. A backward pass that "
            f"forgets a "
            "path gets these two wrong first."
        )
    yield story.move(r, title, text, *three(r, 1), formula=formula, arrows=three_arrows(r, 1))


TALES = {
    (FORWARD, "mean"): mean,
    (FORWARD, "centered"): center,
    (FORWARD, "var"): variance,
    (FORWARD, "inv"): inverse,
    (FORWARD, "xhat"): normalize,
    (FORWARD, "y"): scale,
    (BACKWARD, "dweight"): sums,
    (BACKWARD, "through_var"): paths,
    (BACKWARD, "return", "through_var"): meet,
}
