"""BatchNorm in training mode, with the layer's own gains and biases [MF].

Channel o puts out gain_o xh + bias_o: channels of equal gain and bias make a group, whose mean is the bias. What is
behind it, a ReLU say, treats each group by its own law, and the gradient comes back group by group, so that a gain
meets the gates of its own bias.

Going back, the gradient is divided by v and loses its mean and its component along xh. Of an upstream without
covariances each takes a share 1/m, m values a channel. Behind an average pooling a sample's positions agree: with R
the gradient's covariance within a sample and N samples, the mean takes

    mean_ii' R(i, i') / (N mean_i R(i, i))

and the component along xh as much times `Gradient.along` squared, for the gates above know xh. With N = 4 samples and
one gradient for all positions of each, that is a quarter and two thirds of it.
"""

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from minires import nn
from minires.backend import to_numpy
from minires.theory.laws import batchnorm as normalization
from minires.theory.laws.activations import LINEAR, NODES, WEIGHTS, Activation, Function
from minires.theory.laws.patches import StemLaw
from minires.theory.laws.signal import Signal
from minires.theory.laws.sums import Summands
from minires.theory.rules import allowances
from minires.theory.rules.activation import activated
from minires.theory.rules.functions import as_function, rectified_source
from minires.theory.rules.state import Backward, Floats, Gradient, Setting, State, pooled_signal, with_diagonal, worse

MOST_GROUPS = 8
COMMON_MAP = 0.2
"""Of what the variance may be off, this much reaches the normalized channels, by the map that all samples share."""
LARGEST_NOISE = 1.99
"""Of v = sum of so few squared weights that E[1/v] is infinite."""
LARGEST_CONCENTRATION = 0.4
"""Of a channel over few directions."""


def batchnorm(layer: nn.BatchNorm2d, state: State, setting: Setting) -> tuple[State, Backward]:
    """Each group of channels is normalized by itself."""
    state = _within_channels(state, setting.batch)
    stem = None if state.patches is None else state.patches.law
    given = state.parts if state.groups or not state.throughs else _parts_of(state)
    parts = [_Part(layer, part, state, setting.batch, stem) for _, part in given]
    shares = [share for share, _ in given]
    # channels keep their gains: where a BatchNorm above made groups of them, each group has its own here
    members = state.members if len(state.members) == len(parts) else (None,) * len(parts)
    pairs = [(i, own) for i, member in enumerate(members) for own in gains_and_biases(layer, member)]
    groups = tuple((shares[i] * own.share, parts[i].put_out(own.gain2, own.bias)) for i, own in pairs)
    vanished = any(part.r == 0 and part.normal.q.any() for part in parts)
    cost, cost_back = allowances.batchnorm(state, setting.batch, vanished)
    # it divides by v = q - common, so what q may be off counts more; most of it is in what is common, too
    uncertain = state.doubt.times(max(part.amplified for part in parts))
    known = state.grade or ("MF" if state.form == "gaussian" else "")  # a random convolution mixes the unknown away
    after = state.after(
        pooled_signal(groups),
        **_form(state, pairs, parts),
        members=tuple(own.member for _, own in pairs),
        symmetric=state.symmetric and not any(own.bias for _, own in pairs),
        grade=worse("MF", known),
        doubt=cost + uncertain.times(COMMON_MAP),
        relvar=0.0,
        pooled_variance=False,
        groups=groups if len(groups) > 1 else (),
        scatter=max(part.scatter for part in parts),
    )
    weights = np.zeros((len(parts), len(pairs)))
    for column, (i, own) in enumerate(pairs):
        weights[i, column] = own.share * own.gain2
    kept = state.light(False)
    # what passes for a ReLU of it knows where it is on, but nothing below knows this Gaussian
    source = rectified_source(state.signal) if state.form == "positive" else None
    enough = "MF" if setting.batch * kept.positions >= allowances.FEWEST_VALUES else ""
    known_scale = enough if kept.scale_noise < LARGEST_NOISE else ""

    def backward(g: Gradient) -> Gradient:
        lost = _lost(g, after, setting.batch)
        factors = [part.factor * max(1 - (lost if part.r else lost / 2), 0.0) for part in parts]
        energies = np.array(factors)[:, None] * (weights @ np.broadcast_to(g.energy, (len(pairs), g.energy.shape[-1])))
        pooled = np.array(shares) @ energies
        gate, on = g.gate, None
        if source is not None and gate is not None:
            gate, on = None, np.full(pooled.shape, _share_on(source, gate))
        scale = pooled.sum() / max(float(after.pooled(g.energy).sum()), 1e-300)
        return g.passed(
            energies if kept.groups or kept.throughs else pooled,
            same=_centered(g.same, pooled, scale, setting.batch),
            centered=1.0,
            scale_noise=kept.scale_noise if stem is None else stem.inverse / stem.through,
            unseen=parts[0].unseen,
            grade=worse(g.grade, "MF", kept.grade, known_scale),  # it divides by v, which must be known
            beyond=worse(g.grade, "MF", kept.grade, enough),
            doubt=g.doubt + cost_back + uncertain + allowances.projections(lost, after.pooled(g.energy)),
            relvar=g.relvar + (kept.scale_noise - 1) / kept.channels,
            on=on,
            gate=gate,
        )

    return after, backward


def _within_channels(state: State, batch: int) -> State:
    """What is taken for a rectified Gaussian has the variance v within a channel. Means that differ between channels,
    as those of biases of their own do, are no part of it."""
    signal = state.signal
    common = float(signal.q.mean()) - signal.variance_in(batch)
    if state.form != "positive" or common <= signal.mean**2:
        return state
    return replace(state, signal=signal._replace(mean=math.sqrt(common)))


def _share_on(source: Signal, gate: Function) -> float:
    """Share of an energy, `gate` of the source, that is where the source is positive."""
    z = source.mean + math.sqrt(max(float(source.q.mean()) - source.mean**2, 0.0)) * NODES
    weights = WEIGHTS * gate(z)
    return float(weights @ (z > 0) / max(float(weights.sum()), 1e-300))


def _parts_of(state: State) -> list[tuple[float, Signal]]:
    """Groups of channels that are different functions of one Gaussian: each with its own signal."""
    whole = replace(state, signal=state.source, groups=(), form="gaussian")
    return [(share, activated(function, whole)[0]) for share, _, function in state.throughs]


class _Part:
    """BatchNorm of one group of channels before gain and bias.

    normal: signal of xh. mean, v: mean and batch variance before it, r: v/(v + eps), 0 of a constant channel. factor:
    what the gradient's energy is multiplied by, but for gain and projections. amplified: by how much the relative
    error of the second moment is larger in v. scatter: see `State`. unseen: see `Gradient`.
    """

    def __init__(self, layer: nn.BatchNorm2d, part: Signal, state: State, batch: int, stem: StemLaw | None) -> None:
        q, v = float(part.q.mean()), part.variance_in(batch)
        self.normal, self.mean, self.v, self.factor = part, float(part.mean), v, 1 / layer.eps
        self.amplified = math.sqrt(max(q / v, 1.0)) if v > 0 else 1.0
        self.r = self.scatter = self.unseen = 0.0
        if not v > 1e-12 * max(q, 1e-30):
            return
        scatter = state.scatter * (q / v) ** 2
        spread = scatter if state.smooth == 1 else 0.0  # of white noise it is in the doubt only
        found = normalization.batchnorm(part, batch, spread, state.directions)
        self.r, each = v / (v + layer.eps), found.signal.each
        if stem is None:
            few = 1 - 1 / state.scale_noise  # 2 over the number of weights, for Gaussian ones
            self.factor = self.r * found.inverse_v * state.scale_noise
            self.unseen = min(found.second / found.inverse_v + few / 2, 0.9)
        else:
            self.factor, self.unseen, scatter = self.r * stem.inverse / v, stem.unseen, stem.scatter
            each = stem.each * (found.signal.q / np.maximum(stem.each.mean(axis=0), 1e-30))
        self.normal = found.signal._replace(each=None if each is None else _within_channel(each, scatter))
        self.scatter = min(scatter, LARGEST_CONCENTRATION)

    def put_out(self, gain2: float, bias: float) -> Signal:
        """gain xh + bias."""
        signal = self.normal.scaled(gain2 * self.r)
        return signal.shifted(bias) if bias else signal


class Gains(NamedTuple):
    """Channels of about one gain and bias: their share, the mean square of the gain, the mean bias, their numbers."""

    share: float
    gain2: float
    bias: float
    member: Floats


def gains_and_biases(layer: nn.BatchNorm2d, member: Floats | None = None) -> list[Gains]:
    """The channels, or those in `member`, in a few groups."""
    member = np.arange(layer.weight.value.size) if member is None else member
    gain, bias = (to_numpy(each.value).astype(float)[member] for each in (layer.weight, layer.bias))
    kinds, index = np.unique(np.stack([bias, gain**2], axis=1), axis=0, return_inverse=True)
    chunks = [np.flatnonzero(index.ravel() == kind) for kind in range(min(len(kinds), MOST_GROUPS + 1))]
    if len(kinds) > MOST_GROUPS:
        chunks = np.array_split(np.lexsort((gain**2, bias)), MOST_GROUPS)
    total = len(member)
    return [Gains(len(c) / total, np.mean(gain[c] ** 2) + np.var(bias[c]), bias[c].mean(), member[c]) for c in chunks]


def _form(state: State, pairs: list[tuple[int, Gains]], parts: list[_Part]) -> dict[str, Any]:
    """Gaussian, unless what comes in is a function of a Gaussian: then so is gain (phi(z) - mean)/sqrt(v) + bias."""
    if state.form == "gaussian" and state.kept == 1:
        part = parts[0]
        if len(pairs) == 1 or len(parts) > 1 or not part.r:
            return {"form": "gaussian"}
        scaled = tuple(
            (g.share, g.gain2, _normalized(LINEAR, math.sqrt(g.gain2 * part.r), 0.0, g.bias)) for _, g in pairs
        )
        return {"form": "gaussian", "source": part.normal, "throughs": scaled}
    if state.form == "sum":
        return {"form": "sum", "source": state.source, "summands": _normalized_sum(state, pairs, parts)}
    source, through = (state.source, None) if state.throughs else as_function(state)
    if source is None or state.groups or not all(part.r for part in parts):
        return {"form": "other"}
    given = [(share, inner) for share, _, inner in state.throughs] or [(1.0, through)]
    throughs = []
    for i, own in pairs:
        (share, inner), part = given[i], parts[i]
        scale = math.sqrt(own.gain2 * part.r / part.v)
        throughs.append((share * own.share, own.gain2, _normalized(inner, scale, part.mean, own.bias)))
    found = {"form": "function", "source": source, "through": throughs[0][2]}
    return found | {"throughs": tuple(throughs) if len(throughs) > 1 else ()}


def _normalized_sum(state: State, pairs: list[tuple[int, Gains]], parts: list[_Part]) -> tuple[Summands, ...]:
    """The summands of gain (sum - mean)/sqrt(v) + bias, one group of channels after the other."""
    part = parts[0]
    if len(parts) > 1 or not part.r or not state.summands:
        return ()
    moments = [each.moments for each in state.summands]
    common = part.v / max(sum(e.share * v for e, (_, v) in zip(state.summands, moments, strict=True)), 1e-300)
    found = []
    for _, (share, gain2, bias, _) in pairs:
        for each, (mean, variance) in zip(state.summands, moments, strict=True):
            scale = math.sqrt(gain2 * part.r / (variance * common)) if variance else 0.0
            found.append(each.scaled(share, scale, bias - scale * mean))
    return tuple(found)


def _normalized(inner: Activation, scale: float, mean: float, bias: float) -> Activation:
    """scale (inner(z) - mean) + bias."""
    return Activation(
        f"normalized {inner.name}",
        lambda z: scale * (inner.value(z) - mean) + bias,
        lambda z: scale * inner.derivative(z),
    )


def _within_channel(each: Floats, scatter: float) -> Floats:
    """The samples' second moments as one channel has them.

    Over all channels z has the kurtosis 3 (1 + c^2), c^2 the relative variance of `each`. Where they differ along few
    directions, a factor 1 + 2 scatter of it is the variance of v from channel to channel, which is divided away.
    """
    mean = each.mean(axis=0)
    contrast = float(np.mean((each - mean) ** 2)) / max(float(np.mean(mean**2)), 1e-300)
    left = max((1 + contrast) / (1 + 2 * scatter) - 1, 0.0) / max(contrast, 1e-300)
    return mean + math.sqrt(min(left, 1.0)) * (each - mean)


def _lost(g: Gradient, state: State, batch: int) -> float:
    """Share of the energy that the two projections take."""
    least = 1 / (batch * state.positions)
    share = 0.0
    if g.same is not None:
        share = float(g.same.mean()) / max(float(np.diagonal(g.same).mean()), 1e-300) / batch
    return min(max(share, least) + max(share * g.along**2, least), 1.0)


def _centered(same: Floats | None, energy: Floats, scale: float, batch: int) -> Floats | None:
    """R behind the projections and the division: of one sample its mean is gone, of N a part 1/N."""
    if same is None:
        return None
    row = same.mean(axis=1)
    return with_diagonal((same - (row[:, None] + row - row.mean()) / batch) * scale, energy)
