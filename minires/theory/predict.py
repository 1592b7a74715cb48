"""Predict a network's signal before running it: a walk over the layers that carries laws instead of arrays.

Forward, each layer's rule (`minires.theory.rules`) turns the law of its input into that of its output. On the way back
the rules run in reverse, with the law of the gradient. The walk assumes:

    input      white noise, independent N(0, 1), or an actual batch x, by its second moments and covariances
    upstream   the gradient at the model's output is independent of the network, mean 0, mean square 1, independent
               between samples and entries (a softmax loss is not quite that)
    weights    every weight of two or more axes from one initializer, biases from another (zeros), BatchNorm's gains
               and biases as they are in the model; training mode

Exact laws need no allowance. A mean-field law carries a doubt, to which each approximation on the way adds a cause
(`rules.allowances`). One that may be off by a factor of two gets no grade, and says what it is doubted for.

A layer without a law gets a row that says so. The walk goes on as if the layer left mean squares unchanged, and the
rows behind it carry no grade until a BatchNorm makes the signal known again.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from minires import init, nn
from minires.backend import to_numpy
from minires.checks import check_arrays, check_model, whole_shape
from minires.init.distributions import HeNormal, Initializer, Zeros
from minires.nn.residual import ResidualBlock
from minires.theory import rules
from minires.theory.laws.activations import RELU
from minires.theory.laws.signal import Signal
from minires.theory.laws.stream import Gamma
from minires.theory.report import NOTHING, Quantity, Row, SignalReport
from minires.theory.rules import allowances, blocks
from minires.theory.rules.state import Backward, Gradient, NoLaw, Setting, State, worse
from minires.threads import blas_at_one_thread

KEPT_POSITIONS = 256  # of the largest map whose covariances the way back may use; 1,024 in networks of few layers
FEW_LAYERS = 40
LARGEST_BATCH_MAP = 1100  # positions of an image up to which the covariances of an actual batch are followed

Rule = Callable[[Any, State, Setting], tuple[State, Backward]]


@blas_at_one_thread()  # its matrices are small: a second thread would only wait, and count
def predict(
    model: nn.Layer,
    x: Sequence[int] | np.ndarray,
    *,
    weight: Initializer | None = HeNormal(),
    bias: Initializer | None = Zeros(),
) -> SignalReport:
    """The laws of every layer of ``model``, which is not run.

    Args:
        x: input shape with the batch axis, (N, C, H, W) or (N, features), for white noise; or the batch itself.
        weight, bias: initializers that the weights and biases are taken to be drawn from. weight None: the model's own,
            trained ones say, by their mean squares and their biases' mean and variance.

    Raises ValueError if x does not fit the first layer.
    """
    check_model(model)
    weight = None if weight is None else init.by_name(weight)
    bias = None if weight is None else init.by_name(bias)
    shape, state = _input_state(x)
    model.output_shape(shape)  # complains, before anything is computed, if x does not fit
    grid, rescale = blocks.grid_of(model, weight)
    few = len(list(model.named_layers())) <= FEW_LAYERS
    walk = _Walk(Setting(shape[0], weight, bias, grid, rescale, 1024 if few else KEPT_POSITIONS))
    with np.errstate(all="ignore"):  # a signal that overflows gets a row that says so
        out, backward = walk.layer(model, "", state)
        backward(Gradient(np.ones(out.positions), relvar=2 / (shape[0] * math.prod(out.shape))))
    return SignalReport("predicted", tuple(Row(**record) for record in walk.records), shape)


def _input_state(x: Sequence[int] | np.ndarray) -> tuple[tuple[int, ...], State]:
    """Shape with the batch axis, and the law of the input."""
    if not hasattr(x, "shape"):
        shape = whole_shape(x)
        if len(shape) not in (2, 4) or min(shape) < 1:
            raise ValueError(f"x: expected a shape (N, C, H, W) or (N, features), got {shape}")
        image = shape[2:] or (1, 1)
        noise = 2 / math.prod(shape)
        start = {"symmetric": True, "relvar": noise, "scatter": 1 / shape[1], "smooth": 0.0}
        return shape, State(shape[1:], Signal.white_noise(image), "gaussian", **start)
    check_arrays(x=x)
    if x.ndim not in (2, 4) or x.size == 0:
        raise ValueError(f"x: expected an array (N, C, H, W) or (N, features), none of them 0, got shape {x.shape}")
    batch = to_numpy(x).astype(float)
    if not np.isfinite(batch).all():
        raise ValueError("x holds NaN or infinity; expected a batch of finite numbers")
    return tuple(x.shape), State(tuple(x.shape[1:]), _empirical(batch), batch=batch)


def _empirical(x: np.ndarray) -> Signal:
    """Second moments per sample and position, and covariances within a sample and between samples of a batch."""
    flat = x.reshape(*x.shape[:2], -1)
    n, channels, positions = flat.shape
    each = np.square(flat).mean(axis=1)
    if positions > LARGEST_BATCH_MAP:  # only what all positions share
        noise = Signal.white_noise(x.shape[2:])
        common = float(np.square(flat.sum(axis=(0, 2))).sum() - np.square(flat.sum(axis=2)).sum())
        common /= channels * n * max(n - 1, 1) * positions**2
        return noise._replace(q=each.mean(axis=0), kernel=noise.kernel + common, each=each)
    total = flat.sum(axis=0)
    rows = flat.reshape(n * channels, -1)
    same = rows.T @ rows / (n * channels)
    kernel = (total.T @ total / channels - n * same) / (n * max(n - 1, 1))
    return Signal(each.mean(axis=0), kernel, same, each=each)


class _Walk:
    """Walks the tree once; every method returns the state at the output and the way back.

    records: a row each, in the order of the forward pass; gradients are entered on the way back.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.records: list[dict[str, Any]] = []

    def layer(self, layer: nn.Layer, path: str, state: State) -> tuple[State, Backward]:
        """Any layer: a chain of layers, a residual block, or a leaf with a row of its own."""
        if rules.is_plain(layer, ResidualBlock):
            return self._block(layer, path, state)
        return self._leaf(layer, path, state) if has_row(layer) else self._in_turn(layer.children(), path, state)

    def _in_turn(self, layers: Iterable[tuple[str, nn.Layer]], path: str, state: State) -> tuple[State, Backward]:
        """One layer after the other, and the way back through all of them."""
        backs = []
        for name, child in layers:
            state, back = self.layer(child, f"{path}.{name}".lstrip("."), state)
            backs.append(back)

        def backward(g: Gradient) -> Gradient:
            for back in reversed(backs):
                g = back(g)
            return g

        return state, backward

    def _leaf(self, layer: nn.Layer, path: str, state: State, rule: Rule = rules.apply) -> tuple[State, Backward]:
        note = ""
        try:
            after, back = rule(layer, state, self.setting)
        except NoLaw as reason:
            after, back = _unknown(layer, state, self.setting.batch)
            note = str(reason)
        below, above = state.light(False), after.light(False)
        record = self._record(path, layer, after, note)

        def backward(g: Gradient) -> Gradient:
            before = replace(back(g), grade="") if note else back(g)
            record["gradient_out"] = self._gradient(g, above)
            record["gradient_in"] = self._gradient(before, below)
            record["weight_gradient"] = _weight_quantity(before, g, below)
            return replace(before, weight=math.nan, weight_doubt=allowances.Doubt())

        return after, backward

    def _block(self, block: ResidualBlock, path: str, state: State) -> tuple[State, Backward]:
        """y = after_sum(shortcut(x) + scale * branch(x)); the row of the block itself comes after its layers'."""
        named = [(name, getattr(block, name)) for name in block.branch]
        branch, branch_back = self._in_turn(named, path, state)
        short, short_back = state, None
        if block.shortcut is not None:
            short, short_back = self._in_turn([("shortcut", block.shortcut)], path, state)
        scale2 = block.branch_scale**2
        step = branch.signal.scaled(scale2)
        after = total = blocks.block_sum(block, state, branch, short if short_back else None, step)
        walked, gate_back = None, None
        if block.after_sum is not None:
            rule, walked = rules.apply, blocks.walk_on(block, state, branch, step, self.setting)
            if walked is not None:
                chance = blocks.alignment_relvar(block, state, step, walked.signal)
                total, rule = replace(total, relvar=total.relvar + chance), partial(_gate_of_stream, walked)
            gate = getattr(block, block.after_sum)
            after, gate_back = self._leaf(gate, f"{path}.{block.after_sum}".lstrip("."), total, rule)
        record = self._record(path, block, after)
        above, below, total, short = (each.light(False) for each in (after, state, total, short))

        def backward(g: Gradient) -> Gradient:
            record["gradient_out"] = self._gradient(g, above)
            at_sum = gate_back(g) if gate_back else blocks.gate_behind_sum(total, g)
            same = None if at_sum.same is None else at_sum.same * scale2
            energy = total.pooled(at_sum.energy) * scale2
            through = branch_back(replace(at_sum, energy=energy, same=same, gamma=None))
            if short_back is None:
                before = through
            elif walked is not None:
                by_group = blocks.energy_by_group(at_sum, walked.stream, walked.before, short)
                short_back(replace(at_sum, energy=by_group, gamma=None, same=None))  # for the shortcut's own row
                before = blocks.meet_stream(block, below, at_sum, walked, through)
            else:
                before = blocks.meet(through, short_back(replace(at_sum, gamma=None)), below)
            record["gradient_in"] = self._gradient(before, below)
            return before

        return after, backward

    def _record(self, path: str, layer: nn.Layer, s: State, note: str = "") -> dict[str, Any]:
        """A new row, with what is known on the way forward."""
        batch = self.setting.batch
        q, variance = float(s.signal.q.mean()), s.signal.variance_in(batch)
        forward = _quantity(q, math.sqrt(s.relvar), s.grade, s.doubt + allowances.forward(s))
        # a variance is itself estimated from so many values; a relative error of q costs it the root of q/V
        around = math.sqrt(s.relvar + 2 / (s.channels * batch * s.positions))
        amplified = math.sqrt(max(1.0, q / variance)) if variance > 0 else math.inf if q else 1.0
        doubt = s.doubt.times(amplified) + allowances.batch_variance(s, amplified)
        about = _quantity(variance, around, worse(s.grade, "MF"), doubt)
        row = {"path": path, "kind": type(layer).__name__, "shape": (batch, *s.shape), "note": note}
        self.records.append({**row, "forward": forward, "batch_variance": about})
        return self.records[-1]

    def _gradient(self, g: Gradient, state: State) -> Quantity:
        """Mean square per entry; a gradient along a stream is averaged over the stream's law."""
        stream = None if g.gamma is None else blocks.stream_of(state, self.setting)
        energy = state.pooled(g.energy) if stream is None else g.gamma.energy(stream)
        return _quantity(float(energy.mean()), math.sqrt(g.relvar), g.grade, g.doubt + allowances.gradient(state))


def _gate_of_stream(walked: blocks.Walked, layer: nn.ReLU, total: State, setting: Setting) -> tuple[State, Backward]:
    """The rule of the ReLU after the sum: max(0, h + g), whose law is the stream's."""
    stream, (cost, cost_back) = walked.stream, allowances.stream_gate(total)
    left = min(stream.positive() ** 2 * total.signal.q.mean() / walked.signal.q.mean(), 1)
    after = total.after(
        walked.signal,
        form="function",
        source=total.signal,
        through=RELU,
        stream=stream,
        grade=worse("MF", total.grade),
        doubt=total.doubt + cost,
        scatter=total.scatter * left**2,
    )

    def backward(g: Gradient) -> Gradient:
        share = 1.0 if g.on is None else g.on / max(float(stream.positive()), 1e-300)
        gamma = g.gamma or Gamma.constant(stream.grid, g.energy * share)
        if g.gamma is None and g.on is None and g.gate is not None:
            gamma = Gamma.weighted(stream, g.energy, g.gate)
        energy, same, along = blocks.gated(g, gamma, walked)
        met = {"energy": energy, "gamma": gamma, "same": same, "along": along, "on": None, "gate": None}
        return replace(g, **met, grade=worse(g.grade, "MF"), doubt=g.doubt + cost_back)

    return after, backward


def _quantity(mean: float, spread: float, grade: str, doubt: allowances.Doubt) -> Quantity:
    """A number with its grade; none, but a reason, where it is not finite or too doubtful."""
    certain = mean == 0 and doubt.size < allowances.HUGE  # of a zero that no difference of two numbers left
    allowed = doubt.allowance if grade == "MF" and not certain else 0.0
    if math.isfinite(mean) and math.isfinite(allowed):
        return Quantity(mean, spread, grade, allowed)
    return Quantity(mean, spread, reason=doubt.main if grade and math.isfinite(mean) else "")


def has_row(layer: nn.Layer) -> bool:
    """Everything but a mere chain of layers has a row in the reports."""
    return not rules.is_plain(layer, nn.Sequential)


def _unknown(layer: nn.Layer, state: State, batch: int) -> tuple[State, Backward]:
    """A layer without a law: mean squares pass unchanged, averaged over the image where its size changes."""
    shape = tuple(layer.output_shape((batch, *state.shape)))[1:]
    after = State(shape, state.signal, grade="", doubt=state.doubt, relvar=math.nan)
    if after.image == state.image:
        return after, lambda g: g.passed(g.energy, same=None, relvar=math.nan)
    plain = Signal.white_noise(after.image, float(state.signal.q.mean()))
    after = replace(after, signal=plain._replace(kernel=plain.kernel + state.signal.rows().mean()))
    return after, lambda g: g.passed(np.full(state.positions, g.energy.mean()), same=None, relvar=math.nan)


def _weight_quantity(before: Gradient, g: Gradient, state: State) -> Quantity:
    """Behind an average pooling the gradients of neighbouring pixels agree; where that is not followed, their sum has a
    law only behind a BatchNorm, which takes away what their inputs have in common, but for real images."""
    followed = g.spread_out or g.same is not None or (g.centered and state.signal.each is None)
    if math.isnan(before.weight) or not followed:
        return NOTHING
    grade = worse(g.grade, state.grade, "EX" if g.spread_out else "MF")
    spread = math.sqrt(before.weight_relvar)
    doubt = g.doubt + state.doubt + before.weight_doubt
    return _quantity(before.weight, spread, grade, doubt)
