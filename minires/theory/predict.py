"""Predict a network's signal before running it: a walk over the layers that carries laws instead of arrays.

Forward, each layer's rule (`minires.theory.rules`) turns the law of its input into that of its output; on the way back
the rules run in reverse with the law of the gradient. The default assumptions, chosen so that the laws are sharpest:

    input      white noise, independent N(0, 1), or the mean squares and covariances of an actual batch x
    upstream   the gradient at the model's output is independent of the network, mean 0, mean square 1, independent
               between samples and entries (a softmax loss is not quite that; see `minires.theory.conditional`)
    weights    every weight of two or more axes from one initializer, biases from another (zeros), BatchNorm's gains
               and biases as they are in the model; training mode

Residual blocks. Second moments of the skip path and of a zero-mean branch add, and so do the gradients' energies that
come back through both. Where a ReLU follows the sum (BasicBlock, Bottleneck), the stream h' = relu(h + g) is a random
walk reflected at zero, followed with its whole law at every position, and the gradient as a function of h (`position`).

Behind an average pooling all pixels of a sample receive the same gradient. Signals and gradients keep their laws, the
latter with a wider allowance; a weight gradient sums over pixels, so it keeps its law only where a BatchNorm takes away
what their inputs have in common, and has none elsewhere.

A layer without a law gets a row that says so; the walk goes on as if it left mean squares unchanged, and the rows
behind it carry no grade until a BatchNorm makes the signal known again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from minires import init, nn
from minires.backend import to_numpy
from minires.init.distributions import HeNormal, Initializer, Zeros
from minires.nn.residual import ResidualBlock, Subsample
from minires.parallel import blas_at_one_thread
from minires.theory import rules
from minires.theory.growth import Scaled, stretched
from minires.theory.maps import Signal
from minires.theory.position import Gamma, Stream
from minires.theory.report import NOTHING, Quantity, Row, SignalReport
from minires.theory.rules import Backward, Gradient, NoLaw, Setting, State
from minires.theory.walk import Grid, grid_for

WHITE_FLOOR = 0.03
"""Bias that mean field is allowed in any case (3x3 convolutions with BatchNorm: 0 to 2.5 % were measured)."""
BATCH_FLOOR = 0.15  # for an actual batch: images, whose pixels agree with their neighbours, were off by 7 to 14 %
SMALL_MAP_FLOOR = 0.04  # from where a map has fewer than 16 positions
WEIGHT_FLOOR = 0.06  # of weight gradients
AGREEING_WEIGHT_FLOOR = 0.18  # behind global average pooling: 0.83 to 0.97 of the law were measured in the last stage
LARGEST_GRID = 4096


@blas_at_one_thread()  # its matrices are small: a second thread would only wait, and count
def predict(
    model: nn.Layer, x: Sequence[int] | np.ndarray, *, weight: Initializer = HeNormal(), bias: Initializer = Zeros()
) -> SignalReport:
    """The laws of every layer of ``model``, which is not run.

    Args:
        x: input shape with the batch axis, (N, C, H, W) or (N, features), for white noise; or the batch itself.
        weight, bias: initializers that the weights and biases are taken to be drawn from.

    Raises ValueError if x does not fit the first layer.
    """
    shape, state = _input_state(x)
    model.output_shape(shape)  # complains, before anything is computed, if x does not fit
    floor = BATCH_FLOOR if hasattr(x, "shape") else WHITE_FLOOR
    grid, rescale = _grid(model, weight)
    walk = _Walk(Setting(shape[0], weight, bias, grid, rescale, floor))
    out, backward = walk.layer(model, "", state)
    backward(Gradient(np.ones(out.positions), relvar=2 / (shape[0] * math.prod(out.shape))))
    return SignalReport("predicted", tuple(record.row() for record in walk.records), shape)


def _input_state(x: Sequence[int] | np.ndarray) -> tuple[tuple[int, ...], State]:
    """Shape with the batch axis, and the law of the input."""
    if not hasattr(x, "shape"):
        shape = tuple(int(n) for n in x)
        if len(shape) not in (2, 4) or min(shape) < 1:
            raise ValueError(f"x: expected a shape (N, C, H, W) or (N, features), got {shape}")
        image = shape[2:] or (1, 1)
        noise = 2 / math.prod(shape)
        return shape, State(shape[1:], Signal.white_noise(image), form="gaussian", grade="EX", relvar=noise)
    if x.ndim not in (2, 4):
        raise ValueError(f"x: expected an array (N, C, H, W) or (N, features), got shape {x.shape}")
    return tuple(x.shape), State(tuple(x.shape[1:]), _empirical(x), form="other", grade="EX")


def _empirical(x: np.ndarray) -> Signal:
    """Second moment per position and covariance between different samples of an actual batch."""
    flat = to_numpy(x).astype(float).reshape(*x.shape[:2], -1)
    n, channels, _ = flat.shape
    total = flat.sum(axis=0)
    same = flat.reshape(n * channels, -1)
    kernel = (total.T @ total - same.T @ same) / (channels * n * max(n - 1, 1))
    return Signal(np.square(flat).mean(axis=(0, 1)), kernel)


def _grid(model: nn.Layer, weight: Initializer) -> tuple[Grid | None, bool]:
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


def _branch_gain(block: ResidualBlock, weight: Initializer) -> float:
    """What the branch puts out: the last BatchNorm's gain, or E F(h)^2 / E h^2 of convolutions with ReLUs between."""
    norm = block.last_norm()
    if norm is not None:
        return rules.mean_square(norm.weight.value)
    shapes = [conv.weight.value.shape for conv in block.branch_convolutions()]
    gains = [weight.variance(shape) * init.fans(shape)[0] for shape in shapes]
    return math.prod(gains) / 2 ** (len(gains) - 1)


def _below(path: str, name: str) -> str:
    """The path of a child, as `Layer.named_layers` writes it."""
    return f"{path}.{name}" if path else name


@dataclass
class _Record:
    """A row being written: forward when the walk passes, backward when the gradient returns."""

    path: str
    kind: str
    state: State
    setting: Setting
    note: str = ""
    gradient_out: Quantity = NOTHING
    gradient_in: Quantity = NOTHING
    weight_gradient: Quantity = NOTHING

    def row(self) -> Row:
        s, batch, floor = self.state, self.setting.batch, self.setting.floor
        spread, pairs = math.sqrt(s.relvar), s.channels * batch * s.positions
        allowed = _allowed(s.grade, s.allowance, s.positions, floor)
        forward = Quantity(float(s.signal.q.mean()), spread, s.grade, allowed)
        grade = rules.worse(s.grade, "MF")
        around = math.sqrt(s.relvar + 2 / pairs)  # a variance is itself estimated from so many values
        allowed = _allowed(grade, s.allowance, s.positions, floor) * _amplified(s)
        variance = Quantity(s.batch_variance(batch), around, grade, allowed)
        quantities = forward, variance, self.gradient_in, self.gradient_out, self.weight_gradient
        return Row(self.path, self.kind, (batch, *s.shape), *quantities, note=self.note)


def _allowed(grade: str, allowance: float, positions: int, floor: float) -> float:
    if grade != "MF":
        return 0.0
    return allowance + (max(floor, SMALL_MAP_FLOOR) if positions < 16 else floor)


def _amplified(state: State) -> float:
    """q/V: a relative error of the second moment costs the batch variance, a difference, so many times as much."""
    variance = state.signal.variance
    return max(1.0, float(state.signal.q.mean()) / variance) if variance > 0 else 1.0


class _Walk:
    """Walks the tree once; every method returns the state at the output and the way back."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.records: list[_Record] = []

    def layer(self, layer: nn.Layer, path: str, state: State) -> tuple[State, Backward]:
        """Any layer: a chain of layers, a residual block, or a leaf with a row of its own."""
        if isinstance(layer, ResidualBlock) and type(layer)._forward is ResidualBlock._forward:
            return self._block(layer, path, state)
        chain = _chain(layer)
        if chain is None:
            return self._leaf(layer, path, state)
        return self._in_turn(chain, path, state)

    def _in_turn(self, layers: Iterable[tuple[str, nn.Layer]], path: str, state: State) -> tuple[State, Backward]:
        """One layer after the other, and the way back through all of them."""
        backs = []
        for name, child in layers:
            state, back = self.layer(child, _below(path, name), state)
            backs.append(back)

        def backward(g: Gradient) -> Gradient:
            for back in reversed(backs):
                g = back(g)
            return g

        return state, backward

    def _gradient(self, g: Gradient, state: State) -> Quantity:
        allowed = _allowed(g.grade, g.allowance, state.positions, self.setting.floor)
        return Quantity(_energy(g, state, self.setting), math.sqrt(g.relvar), g.grade, allowed)

    def _leaf(self, layer: nn.Layer, path: str, state: State) -> tuple[State, Backward]:
        note = ""
        try:
            after, back = rules.apply(layer, state, self.setting)
        except NoLaw as reason:
            after, back = _unknown(layer, state, self.setting.batch)
            note = str(reason)
        below, above = state.light, after.light
        record = _Record(path, type(layer).__name__, above, self.setting, note)
        self.records.append(record)

        def backward(g: Gradient) -> Gradient:
            before = replace(back(g), grade="") if note else back(g)
            record.gradient_out = self._gradient(g, above)
            record.gradient_in = self._gradient(before, below)
            record.weight_gradient = _weight_quantity(before, g, below, self.setting.floor)
            return replace(before, weight=math.nan)

        return after, backward

    def _block(self, block: ResidualBlock, path: str, state: State) -> tuple[State, Backward]:
        """y = after_sum(shortcut(x) + scale * branch(x)); the row of the block itself comes after its layers'."""
        named = [(name, getattr(block, name)) for name in block.branch]
        branch, branch_back = self._in_turn(named, path, state)
        short, short_back = state, None
        if block.shortcut is not None:
            short, short_back = self.layer(block.shortcut, _below(path, "shortcut"), state)
        scale2 = block.branch_scale**2
        step = branch.signal.scaled(scale2)
        total = _sum(branch, short if short_back else None, step)
        gate, gate_path = None, _below(path, str(block.after_sum))
        if block.after_sum is not None:
            gate = getattr(block, block.after_sum)
        walked = _walk_on(block, state, branch, step, self.setting) if gate is not None else None
        if walked is not None:
            chance = _alignment_relvar(block, state, step, walked.signal)
            total = replace(total, relvar=total.relvar + chance)
            after, gate_back = self._gate_of_stream(gate, gate_path, total, walked)
            walked = walked._replace(signal=None)
        elif gate is not None:
            after, gate_back = self._leaf(gate, gate_path, total)
        else:
            after, gate_back = total, lambda g: g
        above = after.light
        state, total, short = state.light, total.light, short.light
        record = _Record(path, type(block).__name__, above, self.setting)
        self.records.append(record)

        def backward(g: Gradient) -> Gradient:
            record.gradient_out = self._gradient(g, above)
            at_sum = gate_back(g)
            through = branch_back(replace(at_sum, energy=total.pooled(at_sum.energy) * scale2, gamma=None))
            if short_back is None:
                before = through
            elif walked is not None:
                by_group = _energy_by_group(at_sum, walked.stream.stream, stream_of(state, self.setting), short)
                short_back(replace(at_sum, energy=by_group, gamma=None))  # for the shortcut's own row
                before = _meet_stream(block, state, at_sum, walked, through)
            else:
                before = _meet(through, short_back(replace(at_sum, gamma=None)))
            record.gradient_in = self._gradient(before, state)
            return before

        return after, backward

    def _gate_of_stream(self, gate: nn.ReLU, path: str, total: State, walked: _Walked) -> tuple[State, Backward]:
        """The ReLU after the sum: max(0, h + g), whose law is the stream's."""
        stream = walked.stream.stream
        after = total.after(
            walked.signal,
            stream=walked.stream,
            grade=rules.worse("MF", total.grade),
            allowance=total.allowance + rules.mean_field_cost(total, self.setting.batch),
        )
        above, total = after.light, total.light
        record = _Record(path, type(gate).__name__, above, self.setting)
        self.records.append(record)

        def backward(g: Gradient) -> Gradient:
            gamma = g.gamma or Gamma.constant(stream.grid, g.energy)
            energy = gamma.energy(stream, gated=True)
            record.gradient_out = self._gradient(g, above)
            cost = rules.mean_field_cost(total, self.setting.batch)
            before = replace(
                g, energy=energy, gamma=gamma, grade=rules.worse(g.grade, "MF"), allowance=g.allowance + cost
            )
            record.gradient_in = self._gradient(replace(before, gamma=None), above)
            return before

        return after, backward


def has_row(layer: nn.Layer) -> bool:
    """Everything but a mere chain of layers has a row in the reports."""
    return _chain(layer) is None


def _chain(layer: nn.Layer) -> list[tuple[str, nn.Layer]] | None:
    """(name, layer) in the order of the forward pass, for containers whose order is known."""
    if isinstance(layer, nn.Sequential) and type(layer)._forward is nn.Sequential._forward:
        return layer.children()
    if isinstance(layer, nn.ResNet) and type(layer)._forward is nn.ResNet._forward:
        return [(name, getattr(layer, name)) for name in layer.path]
    return None


def _unknown(layer: nn.Layer, state: State, batch: int) -> tuple[State, Backward]:
    """A layer without a law: mean squares pass unchanged, averaged over the image where its size changes."""
    shape = tuple(layer.output_shape((batch, *state.shape)))[1:]
    image = shape[1:] if len(shape) == 3 else (1, 1)
    positions = math.prod(image)
    same = positions == state.positions
    signal = state.signal
    if not same:
        constant = float(signal.kernel.mean())
        signal = Signal(np.full(positions, float(signal.q.mean())), np.full((positions, positions), constant))
    after = State(shape, signal, grade="", allowance=state.allowance, relvar=math.nan)
    return after, lambda g: replace(
        g,
        energy=g.energy if same else np.full(state.positions, float(g.energy.mean())),
        on=None,
        relvar=math.nan,
        **rules.PASSED,
    )


def _energy(g: Gradient, state: State, setting: Setting) -> float:
    """Mean square per entry; a gradient along a stream is averaged over the stream's law."""
    stream = None if g.gamma is None else stream_of(state, setting)
    return float((state.pooled(g.energy) if stream is None else g.gamma.energy(stream.stream)).mean())


def _weight_quantity(before: Gradient, g: Gradient, state: State, floor: float) -> Quantity:
    """Behind an average pooling the gradients of neighbouring pixels agree; where no BatchNorm takes away what their
    inputs have in common, their sum has no law here."""
    if math.isnan(before.weight) or not (g.spread_out or g.centered):
        return NOTHING
    grade = rules.worse(g.grade, state.grade)
    floor = max(floor, WEIGHT_FLOOR if g.spread_out else AGREEING_WEIGHT_FLOOR)
    allowed = _allowed(grade, g.allowance + state.allowance, state.positions, floor)
    return Quantity(before.weight, math.sqrt(before.weight_relvar), grade, allowed)


# ---- residual sums

NEGLIGIBLE_SKIP = 1e-3
"""Share of the second moment of a sum below which the skip path does not show in its shape."""


def _sum(branch: State, short: State | None, step: Signal) -> State:
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
    grade = rules.worse(branch.grade, short.grade)
    return branch.after(
        total,
        form="gaussian" if gaussian or drowned else "other",
        groups=tuple((w, part + step) for w, part in short.groups),
        grade=rules.worse("MF", grade) if drowned else grade,
        allowance=max(branch.allowance, short.allowance) + drowned * 2 * math.sqrt(1 - share),
        relvar=_common_relvar(share, branch.relvar, short.relvar),
    )


def _common_relvar(share: float, a: float, b: float) -> float:
    """Of a sum whose terms both come from the same signal: their deviations go together."""
    return (share * math.sqrt(a) + (1 - share) * math.sqrt(b)) ** 2


class _Walked(NamedTuple):
    """A stream after a block, its signal in true units; ratio of its units to those before, the step's variance in
    those."""

    stream: Scaled
    signal: Signal | None
    ratio: float
    variance: np.ndarray


def _walk_on(block: ResidualBlock, state: State, branch: State, step: Signal, setting: Setting) -> _Walked | None:
    """The stream after the block, where the sum of the skip path and a Gaussian step goes through a ReLU."""
    gate = getattr(block, block.after_sum)
    walks = isinstance(block.shortcut, nn.Identity | Subsample) and type(gate) is nn.ReLU
    before = stream_of(state, setting) if walks and branch.form == "gaussian" else None
    if before is None:
        return None
    stride, share = 1, 1.0
    if isinstance(block.shortcut, Subsample):
        stride, share = block.shortcut.stride, block.shortcut.in_channels / block.shortcut.out_channels
    after = before.stepped(step, rules.kept_positions(state.image, stride), share)
    if after is None:
        return None
    stream = after.rescaled() if setting.rescale else after
    return _Walked(stream, after.signal, stream.scale / after.scale, step.q / before.scale**2)


def stream_of(state: State, setting: Setting) -> Scaled | None:
    """The stream at a state: that of the blocks before, or a first one that starts at a ReLU."""
    if state.stream is not None or setting.grid is None or state.form != "rectified":
        return state.stream
    return Scaled.started(setting.grid, state.source, rescale=setting.rescale)


def _alignment_relvar(block: ResidualBlock, state: State, step: Signal, after: Signal) -> float:
    """Spread of E h'^2 between networks, because a channel's branch and its own h correlate by chance.

    Their correlation over the batch has mean 0 and variance 1/fan_in, and changes h'^2 by 2 E h g.
    """
    shape = block.branch_convolutions()[-1].weight.value.shape
    square = max(float(after.q.mean()) ** 2, 1e-300)
    size = 4 * state.signal.variance * float(step.q.mean()) / square
    return size / (init.fans(shape)[0] * shape[0])


def _energy_by_group(at_sum: Gradient, stream: Stream, before: Scaled, short: State) -> np.ndarray:
    """Energy at the sum, (P,); (2, P) behind shortcut A: of the channels with a past, and of those it started."""
    old = stream.populations[: len(before.stream.populations)]
    share = sum(p.weight for p in old)
    if not short.groups:
        return at_sum.energy
    kept = Stream(stream.grid, [replace(p, weight=p.weight / share) for p in old], stream.kernels)
    first = at_sum.gamma.energy(kept, gated=True)
    return np.stack([first, (at_sum.energy - share * first) / (1 - share)])


def _meet_stream(block: ResidualBlock, state: State, at_sum: Gradient, walked: _Walked, through: Gradient) -> Gradient:
    """Gradient at the input of a block on a stream: pulled back through the gate, plus what the branch brings."""
    stride = block.shortcut.stride if isinstance(block.shortcut, Subsample) else 1
    kept = rules.kept_positions(state.image, stride)
    grid, field = walked.stream.stream.grid, at_sum.gamma.field
    if walked.ratio != 1:
        field = field._replace(values=stretched(grid, field.values, walked.ratio))
    field = field.pulled_back(grid.pull_back, walked.variance).scattered(kept, through.energy)
    received = replace(at_sum, energy=np.zeros_like(through.energy), relvar=through.relvar)
    return replace(_meet(through, received), gamma=Gamma(field, field, 0.0))


def _meet(a: Gradient, b: Gradient) -> Gradient:
    """Two gradients that are added and do not correlate: energies add."""
    energy = a.energy + b.energy
    share = float(a.energy.mean()) / max(float(energy.mean()), 1e-300)
    return Gradient(
        energy,
        centered=share * a.centered + (1 - share) * b.centered,
        spread_out=a.spread_out and b.spread_out,
        grade=rules.worse(a.grade, b.grade),
        allowance=max(a.allowance, b.allowance),
        relvar=_common_relvar(share, a.relvar, b.relvar),
    )
