"""The sum at the end of a residual block, and the stream behind a ReLU after it.

Second moments of the skip path and of a zero-mean branch add, and so do the gradients' energies that come back through
both. Where a ReLU follows the sum, the stream h' = relu(h + g) is a walk reflected at zero, followed with its whole law
at every position, and the gradient as a function of h (`minires.theory.laws.stream`).
"""

import math
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from minires import init, nn
from minires.backend import to_numpy
from minires.nn.residual import ResidualBlock, Subsample
from minires.theory.laws.activations import LINEAR, RELU
from minires.theory.laws.reflected_walk import Grid, grid_for
from minires.theory.laws.signal import Signal, every
from minires.theory.laws.stream import Field, Gamma, Stream
from minires.theory.laws.sums import Summands, sum_law
from minires.theory.rules import allowances
from minires.theory.rules.functions import mean_and_deviation, rectified_source, through_sum
from minires.theory.rules.state import Gradient, Setting, State, with_diagonal, worse
from minires.theory.samplers.weights import mean_square

LARGEST_GRID = 4096


def grid_of(model: nn.Layer, weight: init.Initializer | None) -> tuple[Grid | None, bool]:
    """Cells for the streams of the model's blocks, and whether the stream has to be rescaled to stay within them.

    A block with BatchNorm adds its last gain's variance and its bias, one without multiplies E h^2 by 1 + c at most.
    """
    variance, smallest, gains, drift = 1.0, 1.0, [1.0], 0.0
    for _, layer in model.named_layers():
        if isinstance(layer, ResidualBlock):
            step = min(layer.branch_scale**2 * _branch_gain(layer, weight), 1e12)
            if (norm := layer.last_norm()) is None:
                gains.append(max(step, 1e-3))
                step *= variance
            else:
                drift += max(0.0, layer.branch_scale * float(np.mean(to_numpy(norm.bias.value))))
            variance = min(variance + step, 1e12)
            smallest = min(smallest, max(step, 1e-3))
    choices = [(grid_for(variance, smallest, cells, drift), False) for cells in (12, 6)]
    if len(gains) > 1:
        edges = 0.4  # a 3x3 kernel at a corner sees 4 of its 9 taps
        choices += [(grid_for(4 * (1 + max(gains)), edges * min(gains), cells), True) for cells in (12, 6)]
    return next((choice for choice in choices if choice[0].n <= LARGEST_GRID), (None, False))


def _branch_gain(block: ResidualBlock, weight: init.Initializer | None) -> float:
    """What the branch puts out: the last BatchNorm's gain, or E F(h)^2 / E h^2 of convolutions with ReLUs between."""
    norm = block.last_norm()
    if norm is not None:
        return mean_square(norm.weight.value)
    values = [conv.weight.value for conv in block.branch_convolutions()]
    gains = [(mean_square(w) if weight is None else weight.variance(w.shape)) * init.fans(w.shape)[0] for w in values]
    return math.prod(gains) / 2 ** (len(gains) - 1)


NEGLIGIBLE_SKIP = 1e-3
"""Share of the second moment of a sum below which the skip path does not show in its shape."""


def block_sum(block: ResidualBlock, state: State, branch: State, short: State | None, step: Signal) -> State:
    """Second moments add: the branch ends in a zero-mean convolution or BatchNorm, independent of the skip path.

    Where weights far too large drown the skip path h, the sum is as Gaussian as the branch, of deviation s: a ReLU's
    second moment is off by 2 sqrt(2/pi) E h / s of itself, at most. Where nothing follows the sum (PreActBlock), the
    next branch meets h and the gates that h itself opened in the last one: flipping the signs of a stem's filter flips
    h but not relu(h), so E relu(h')^2 is E h'^2 / 2 but for terms of order 1/C.
    """
    if short is None:
        groups = tuple((w, part.scaled(block.branch_scale**2)) for w, part in branch.groups)
        symmetric = branch.symmetric and not step.mean
        return replace(branch, signal=step, groups=groups, source=None, throughs=(), symmetric=symmetric)
    total = step + short.signal
    share = min(step.q.mean() / max(total.q.mean(), 1e-300), 1.0)  # means of opposite signs may cancel
    gaussian = short.form == branch.form == "gaussian" and short.kept == branch.kept == 1
    drowned = not gaussian and branch.form == "gaussian" and share > 1 - NEGLIGIBLE_SKIP
    known = branch.form == "gaussian" and not (gaussian or drowned)
    summands = summands_of(block, state, short, step) if known else ()
    last, inner = block.after_sum is None, block.branch_convolutions()[-1].weight.value.shape[1]
    mean, deviation = mean_and_deviation(step)
    own = allowances.block_sum(branch.channels, share, last=last, drowned=drowned)
    return branch.after(
        total._replace(mean=0.0) if drowned else total,
        form="gaussian" if gaussian or drowned else "sum",
        summands=summands,
        source=short.source if summands and isinstance(block.shortcut, nn.Identity) and not short.stream else None,
        symmetric=gaussian and not last and branch.symmetric and short.symmetric,
        groups=tuple((w, part + step) for w, part in short.groups),
        branch=(0.0, 0.0) if gaussian else (1 / inner, min(abs(mean) / max(deviation, 1e-150), 3.0)),
        grade=worse(branch.grade, short.grade, "MF" if last or drowned else "EX"),
        doubt=branch.doubt.larger(short.doubt) + own,
        relvar=_common_relvar(share, branch.relvar, short.relvar),
        scatter=share * branch.scatter + (1 - share) * short.scatter,
    )


def summands_of(block: ResidualBlock, state: State, short: State, step: Signal) -> tuple[Summands, ...]:
    """The sum as f(z) + g, or () where the skip path is not known as a function of a Gaussian."""
    parts = skip_functions(state if isinstance(block.shortcut, Subsample) else short)
    share = subsampling(block)[1]
    if parts and isinstance(block.shortcut, Subsample):  # new channels start from zero
        kept = short.signal.q.mean() / max(share * state.signal.q.mean(), 1e-300)  # every stride-th position
        old = (part.scaled(share, math.sqrt(kept), 0.0) for part in parts)
        parts = (*old, Summands(1 - share, np.zeros_like)) if share < 1 else old
    mean, deviation = mean_and_deviation(step)
    return tuple(part.plus(mean, deviation**2) for part in parts)


def subsampling(block: ResidualBlock) -> tuple[int, float]:
    """Of the shortcut: its stride, and the share of channels that have a past, which others than A all have."""
    short = block.shortcut
    return (short.stride, short.in_channels / short.out_channels) if isinstance(short, Subsample) else (1, 1.0)


def gate_behind_sum(total: State, g: Gradient) -> Gradient:
    """At a sum that no activation follows: the gates above, as a function of the skip path's Gaussian."""
    if g.gate is None or not total.summands:
        return g
    law, all_alike = sum_law(LINEAR, total.summands), replace(total, groups=())
    return replace(g, **through_sum(LINEAR, all_alike, law, g.gate)[1])


def skip_functions(state: State) -> tuple[Summands, ...]:
    """What a state is as a function of one Gaussian of unit variance; () if unknown."""
    if state.form == "sum":
        return state.summands
    source, functions = state.signal, ((1.0, LINEAR),)
    if state.form == "function" and state.stream is None:
        source, functions = state.source, state.functions
    elif state.never_negative:
        source, functions = rectified_source(state.signal.outline()), ((1.0, RELU),)  # covariances are not needed
    elif state.form != "gaussian" or state.groups:
        return ()
    elif state.kept < 1:  # behind a Dropout: the entries that stand, and zeros
        deviation = math.sqrt(float(source.q.mean()) / state.kept)
        return Summands(state.kept, lambda z: deviation * z), Summands(1 - state.kept, np.zeros_like)
    if source is None:
        return ()
    mean, deviation = mean_and_deviation(source)
    return tuple(Summands(share, lambda z, f=function: f.value(mean + deviation * z)) for share, function in functions)


def _common_relvar(share: float, a: float, b: float) -> float:
    """Of a sum whose terms both come from the same signal: their deviations go together."""
    return (share * math.sqrt(a) + (1 - share) * math.sqrt(b)) ** 2


class Walked(NamedTuple):
    """A stream after a block, its signal in true units; `before`: the stream before it. ratio of its units to those
    before, the step's variance and mean in those."""

    stream: Stream
    signal: Signal | None
    before: Stream
    ratio: float
    variance: np.ndarray
    drift: float


def walk_on(block: ResidualBlock, state: State, branch: State, step: Signal, setting: Setting) -> Walked | None:
    """The stream after the block, where the sum of the skip path and a Gaussian step goes through a ReLU."""
    gate = getattr(block, block.after_sum)
    walks = isinstance(block.shortcut, nn.Identity | Subsample) and type(gate) is nn.ReLU
    before = stream_of(state, setting) if walks and branch.form == "gaussian" else None
    after = None if before is None else before.stepped(step, state.image, *subsampling(block))
    if after is None:
        return None
    stream = after.rescaled() if setting.rescale else after
    variance = (step.q - step.mean**2) / before.scale**2
    return Walked(stream, after.signal, before, stream.scale / after.scale, variance, step.mean / before.scale)


def stream_of(state: State, setting: Setting) -> Stream | None:
    """The stream at a state: that of the blocks before, or a first one that starts at a ReLU, or at what passes for
    the ReLU of a Gaussian."""
    if state.stream is not None or setting.grid is None or not state.never_negative:
        return state.stream
    source = state.source if state.one_relu else rectified_source(state.signal)
    return None if source is None else Stream.started(setting.grid, source, rescale=setting.rescale)


def alignment_relvar(block: ResidualBlock, state: State, step: Signal, after: Signal) -> float:
    """Spread of E h'^2 between networks, because a channel's branch and its own h correlate by chance.

    Their correlation over the batch has mean 0 and variance 1/fan_in, and changes h'^2 by 2 E h g.
    """
    shape = block.branch_convolutions()[-1].weight.value.shape
    size = 4 * state.signal.variance * float(step.q.mean()) / max(float(after.q.mean()) ** 2, 1e-300)
    return size / (init.fans(shape)[0] * shape[0])


def energy_by_group(at_sum: Gradient, stream: Stream, before: Stream, short: State) -> np.ndarray:
    """Energy at the sum, (P,); (2, P) behind shortcut A: of the channels with a past, and of those it started."""
    if not short.groups:
        return at_sum.energy
    old = stream.populations[: len(before.populations)]
    share = sum(p.weight for p in old)
    kept = Stream(stream.grid, [replace(p, weight=p.weight / share) for p in old], stream.steps)
    first = at_sum.gamma.energy(kept, gated=True)
    return np.stack([first, (at_sum.energy - share * first) / (1 - share)])


def gated(g: Gradient, gamma: Gamma, walked: Walked) -> tuple[np.ndarray, np.ndarray | None, float]:
    """Energy, R and `along` (see `Gradient`) at the sum, behind the gate of the stream.

    Two positions of a sample have independent gates, but a gate that is on was likely on before: the share of R that
    is left is E[1{h > 0} Y] / E Y at each of them, Y the chance that the gates above let the gradient through.
    """
    stream = walked.stream
    energy = gamma.energy(stream, gated=True)
    if g.same is None:
        return energy, None, 0.0
    through = gamma.common.expect(*stream.law, gated=True)
    before = gamma.common.expect(*stream.law, gated=False)
    ratio = np.where(before > 0, through / np.maximum(before, 1e-300), 1.0)
    slope = float(np.mean(walked.variance)) / walked.ratio**2
    along = math.sqrt(slope) * float(np.mean(stream.density_at_zero())) / max(float(stream.positive()), 1e-300)
    return energy, with_diagonal(g.same * np.multiply.outer(ratio, ratio), energy), along


def meet_stream(block: ResidualBlock, state: State, at_sum: Gradient, walked: Walked, through: Gradient) -> Gradient:
    """Gradient at the input of a block on a stream: pulled back through the gate, plus what the branch brings."""
    kept = every(state.image, subsampling(block)[0])
    same, zero = None, np.zeros_like(through.energy)
    common = field = _pulled(at_sum.gamma.field, walked).scattered(kept, through.energy)
    if at_sum.same is not None:
        common = _pulled(at_sum.gamma.common, walked).scattered(kept, zero)
        same = np.zeros((state.positions, state.positions))
        same[np.ix_(kept, kept)] = at_sum.same
    gamma = Gamma(field, common)
    met = meet(through, replace(at_sum, energy=zero, relvar=through.relvar, same=same), state)
    if state.stream is not None or state.one_relu:
        with_diagonal(met.same, through.energy + (0 if same is None else np.diagonal(same)))
        return replace(met, gamma=gamma)
    energy = gamma.energy(walked.before)  # nothing below knows the stream
    on = gamma.energy(walked.before, gated=True) / np.maximum(energy, 1e-300)
    return replace(met, energy=energy, same=with_diagonal(met.same, energy), on=on)


def _pulled(field: Field, walked: Walked) -> Field:
    """A function of the stream behind the block, as one of the stream before it."""
    grid = walked.stream.grid
    if walked.ratio != 1:
        field = field._replace(values=grid.stretched(field.values, walked.ratio))
    return field.pulled_back(partial(grid.pull_back, drift=walked.drift), walked.variance)


def meet(a: Gradient, b: Gradient, state: State) -> Gradient:
    """Two gradients that are added and do not correlate, at a state: energies add."""
    energy = a.energy + b.energy
    share = float(a.energy.mean()) / max(float(energy.mean()), 1e-300)
    on = standing = None
    first, second = (each.gate or np.ones_like for each in (a, b))

    def gate(z: np.ndarray) -> np.ndarray:
        return share * first(z) + (1 - share) * second(z)

    if a.on is not None or b.on is not None:
        parts = (each.energy * (state.above if each.on is None else each.on) for each in (a, b))
        on = sum(parts) / np.maximum(energy, 1e-300)
    if a.standing is not None or b.standing is not None:
        standing = sum(each.energy * state.kept if each.standing is None else each.standing for each in (a, b))
    known = [each.same for each in (a, b) if each.same is not None]
    return Gradient(
        energy,
        same=with_diagonal(sum(known), energy) if known else None,
        gate=None if a.gate is b.gate is None else gate,
        on=on,
        standing=standing,
        centered=share * a.centered + (1 - share) * b.centered,
        spread_out=a.spread_out and b.spread_out,
        uneven=a.uneven or b.uneven,
        grade=worse(a.grade, b.grade),
        doubt=a.doubt.larger(b.doubt),
        relvar=_common_relvar(share, a.relvar, b.relvar),
    )
