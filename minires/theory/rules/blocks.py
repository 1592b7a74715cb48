"""The sum at the end of a residual block, and the stream behind a ReLU after it.

Second moments of the skip path and of a zero-mean branch add, and so do the gradients' energies that come back through
both. Where a ReLU follows the sum, the stream h' = relu(h + g) is a walk reflected at zero, followed with its whole law
at every position, and the gradient as a function of h (`minires.theory.laws.stream`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from minires import init, nn
from minires.nn.residual import ResidualBlock, Subsample
from minires.theory.laws.reflected_walk import Grid, grid_for
from minires.theory.laws.rescaled_stream import Scaled, stretched
from minires.theory.laws.signal import Signal
from minires.theory.laws.stream import Gamma, Stream
from minires.theory.rules.batchnorm import mean_square
from minires.theory.rules.state import Gradient, Setting, State, kept_positions, worse

LARGEST_GRID = 4096


def grid_of(model: nn.Layer, weight: init.Initializer) -> tuple[Grid | None, bool]:
    """Cells for the streams of the model's blocks, and whether the stream has to be rescaled to stay within them.

    A block with BatchNorm adds its last gain's variance, one without multiplies E h^2 by 1 + c at most.
    """
    variance, smallest, gains = 1.0, 1.0, [1.0]
    for _, layer in model.named_layers():
        if isinstance(layer, ResidualBlock):
            step = gain = layer.branch_scale**2 * _branch_gain(layer, weight)
            if not layer.last_norm():
                step *= variance
                gains.append(max(gain, 1e-3))
            variance += step
            smallest = min(smallest, max(step, 1e-3))
    fixed = [(grid_for(variance, smallest, cells), False) for cells in (12, 6)]
    edges = 0.4  # a 3x3 kernel at a corner sees 4 of its 9 taps
    moving = [(grid_for(4 * (1 + max(gains)), edges * min(gains), cells), True) for cells in (12, 6)]
    choices = fixed if len(gains) == 1 else fixed + moving
    return next((choice for choice in choices if choice[0].n <= LARGEST_GRID), (None, False))


def _branch_gain(block: ResidualBlock, weight: init.Initializer) -> float:
    """What the branch puts out: the last BatchNorm's gain, or E F(h)^2 / E h^2 of convolutions with ReLUs between."""
    norm = block.last_norm()
    if norm is not None:
        return mean_square(norm.weight.value)
    shapes = [conv.weight.value.shape for conv in block.branch_convolutions()]
    gains = [weight.variance(shape) * init.fans(shape)[0] for shape in shapes]
    return math.prod(gains) / 2 ** (len(gains) - 1)


NEGLIGIBLE_SKIP = 1e-3
"""Share of the second moment of a sum below which the skip path does not show in its shape."""


def block_sum(branch: State, short: State | None, step: Signal) -> State:
    """Second moments add: the branch ends in a zero-mean convolution or BatchNorm, independent of the skip path.

    Weights far too large make the skip path negligible: the sum is then as Gaussian as the branch. With h the skip path
    and s the branch's deviation, a ReLU's second moment is off by 2 sqrt(2/pi) E h / s of itself, at most.
    """
    if short is None:
        return replace(branch, signal=step)  # the plain twin: nothing is added
    total = step + short.signal
    share = step.q.mean() / max(total.q.mean(), 1e-300)
    gaussian = short.form == branch.form == "gaussian"
    drowned = not gaussian and branch.form == "gaussian" and share > 1 - NEGLIGIBLE_SKIP
    grade = worse(branch.grade, short.grade)
    return branch.after(
        total,
        form="gaussian" if gaussian or drowned else "other",
        groups=tuple((w, part + step) for w, part in short.groups),
        grade=worse("MF", grade) if drowned else grade,
        allowance=max(branch.allowance, short.allowance) + drowned * 2 * math.sqrt(1 - share),
        relvar=_common_relvar(share, branch.relvar, short.relvar),
    )


def _common_relvar(share: float, a: float, b: float) -> float:
    """Of a sum whose terms both come from the same signal: their deviations go together."""
    return (share * math.sqrt(a) + (1 - share) * math.sqrt(b)) ** 2


class Walked(NamedTuple):
    """A stream after a block, its signal in true units; ratio of its units to those before, the step's variance in
    those."""

    stream: Scaled
    signal: Signal | None
    ratio: float
    variance: np.ndarray


def walk_on(block: ResidualBlock, state: State, branch: State, step: Signal, setting: Setting) -> Walked | None:
    """The stream after the block, where the sum of the skip path and a Gaussian step goes through a ReLU."""
    gate = getattr(block, block.after_sum)
    walks = isinstance(block.shortcut, nn.Identity | Subsample) and type(gate) is nn.ReLU
    before = stream_of(state, setting) if walks and branch.form == "gaussian" else None
    if before is None:
        return None
    stride, share = 1, 1.0
    if isinstance(block.shortcut, Subsample):
        stride, share = block.shortcut.stride, block.shortcut.in_channels / block.shortcut.out_channels
    after = before.stepped(step, kept_positions(state.image, stride), share)
    if after is None:
        return None
    stream = after.rescaled() if setting.rescale else after
    return Walked(stream, after.signal, stream.scale / after.scale, step.q / before.scale**2)


def stream_of(state: State, setting: Setting) -> Scaled | None:
    """The stream at a state: that of the blocks before, or a first one that starts at a ReLU."""
    if state.stream is not None or setting.grid is None or state.form != "rectified":
        return state.stream
    return Scaled.started(setting.grid, state.source, rescale=setting.rescale)


def alignment_relvar(block: ResidualBlock, state: State, step: Signal, after: Signal) -> float:
    """Spread of E h'^2 between networks, because a channel's branch and its own h correlate by chance.

    Their correlation over the batch has mean 0 and variance 1/fan_in, and changes h'^2 by 2 E h g.
    """
    shape = block.branch_convolutions()[-1].weight.value.shape
    square = max(float(after.q.mean()) ** 2, 1e-300)
    size = 4 * state.signal.variance * float(step.q.mean()) / square
    return size / (init.fans(shape)[0] * shape[0])


def energy_by_group(at_sum: Gradient, stream: Stream, before: Scaled, short: State) -> np.ndarray:
    """Energy at the sum, (P,); (2, P) behind shortcut A: of the channels with a past, and of those it started."""
    old = stream.populations[: len(before.stream.populations)]
    share = sum(p.weight for p in old)
    if not short.groups:
        return at_sum.energy
    kept = Stream(stream.grid, [replace(p, weight=p.weight / share) for p in old], stream.kernels)
    first = at_sum.gamma.energy(kept, gated=True)
    return np.stack([first, (at_sum.energy - share * first) / (1 - share)])


def meet_stream(block: ResidualBlock, state: State, at_sum: Gradient, walked: Walked, through: Gradient) -> Gradient:
    """Gradient at the input of a block on a stream: pulled back through the gate, plus what the branch brings."""
    stride = block.shortcut.stride if isinstance(block.shortcut, Subsample) else 1
    kept = kept_positions(state.image, stride)
    grid, field = walked.stream.stream.grid, at_sum.gamma.field
    if walked.ratio != 1:
        field = field._replace(values=stretched(grid, field.values, walked.ratio))
    field = field.pulled_back(grid.pull_back, walked.variance).scattered(kept, through.energy)
    received = replace(at_sum, energy=np.zeros_like(through.energy), relvar=through.relvar)
    return replace(meet(through, received), gamma=Gamma(field, field, 0.0))


def meet(a: Gradient, b: Gradient) -> Gradient:
    """Two gradients that are added and do not correlate: energies add."""
    energy = a.energy + b.energy
    share = float(a.energy.mean()) / max(float(energy.mean()), 1e-300)
    return Gradient(
        energy,
        centered=share * a.centered + (1 - share) * b.centered,
        spread_out=a.spread_out and b.spread_out,
        grade=worse(a.grade, b.grade),
        allowance=max(a.allowance, b.allowance),
        relvar=_common_relvar(share, a.relvar, b.relvar),
    )
