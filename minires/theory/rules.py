"""How each layer of minires changes the law of a signal going forward and of a gradient coming back.

A rule takes a layer and the `State` at its input and gives the `State` at its output and a function that takes the
`Gradient` at the output to that at the input. Forward it follows, over positions i of the image,

    q(i)      the second moment, averaged over channels
    K(i, i')  the covariance between two different samples of the batch (`minires.theory.maps`)

the second because BatchNorm takes away what all samples share. Backward it follows the energy g(i), the mean square of
dL/dy per entry, in units of an upstream gradient that is independent of the network. The laws are those of
`minires.theory.layer` (one layer), `deep` (without normalization), `maps` and `position` (with BatchNorm and residual
streams). A residual sum that ends in a ReLU keeps more: the law of the stream h at each position, and the gradient as
a function of h (`minires.theory.walk`), because a unit that is on tends to stay on.

What is neglected, and what it costs [MF]: channels are many (1/C) and values per channel are many (1/m); neighbouring
pixels of one sample are correlated only by what all samples share, which is right for white-noise input.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from minires import init, nn
from minires.backend import to_numpy
from minires.nn.residual import Subsample
from minires.theory import layer as one_layer
from minires.theory import maps
from minires.theory.deep import log_slope
from minires.theory.geometry import Axis, ConvGeometry
from minires.theory.growth import Scaled
from minires.theory.maps import Signal
from minires.theory.position import Gamma
from minires.theory.walk import Grid

Floats = np.ndarray
_PAIRS = 64  # positions that stand for all where only a spread is wanted


@dataclass(frozen=True)
class State:
    """The signal at one place of the network.

    shape: without the batch axis, (C, H, W) or (features,).  signal: (q, K).
    form: "gaussian" (mean zero), "rectified" (the ReLU of `source`) or "other".  stream: h of residual blocks.
    grade: "EX", "MF" or "" behind a layer without a law.  allowance: relative bias the mean field is allowed so far.
    relvar: relative variance of the mean of q between networks.
    pointwise: the last convolution had a single tap, so that 1/C and 1/m corrections do not average out.
    groups: (share, signal) of channels that differ, since shortcut A gives some of them no past; () if all are alike.
    scale_noise: E[s/v] of a channel's scale v, random since it has few weights, s = E v; 1 but behind a convolution.
    normalized: out of a BatchNorm (and an activation), so that the batch variance is not short of the law's by 1/m.
    """

    shape: tuple[int, ...]
    signal: Signal
    form: str = "other"
    source: Signal | None = None
    stream: Scaled | None = None
    grade: str = "EX"
    allowance: float = 0.0
    relvar: float = 0.0
    pointwise: bool = True
    groups: tuple[tuple[float, Signal], ...] = ()
    scale_noise: float = 1.0
    normalized: bool = False

    def after(self, signal: Signal, **changes: Any) -> State:
        """The state behind a layer: what was special about the signal's form is over unless `changes` says so."""
        plain = {"form": "other", "source": None, "stream": None, "groups": (), "scale_noise": 1.0, "normalized": False}
        return replace(self, signal=signal, **{**plain, **changes})

    @property
    def parts(self) -> tuple[tuple[float, Signal], ...]:
        """Its groups of channels, all of them in one if they are alike."""
        return self.groups or ((1.0, self.signal),)

    def pooled(self, energy: Floats) -> Floats:
        """Mean over the groups of channels, (P,), of a gradient's energy that may be (groups, P)."""
        return energy if energy.ndim == 1 else np.array([share for share, _ in self.parts]) @ energy

    @property
    def image(self) -> tuple[int, int]:
        return self.shape[1:] if len(self.shape) == 3 else (1, 1)

    @property
    def channels(self) -> int:
        return self.shape[0]

    @property
    def positions(self) -> int:
        return math.prod(self.image)

    def batch_variance(self, batch: int) -> float:
        """Biased variance over (N, H, W) within a channel, N samples; same-sample pairs weigh 1/(N P)."""
        return self.signal.variance * (1 if self.normalized else 1 - 1 / (batch * self.positions))

    @cached_property
    def light(self) -> State:
        """Without covariances, as the way back keeps it: those of a 32x32 map weigh 4 MB a layer."""
        source = None if self.source is None else self.source.outline()
        groups = tuple((share, part.outline()) for share, part in self.groups)
        kept = replace(self, signal=self.signal.outline(), source=source, groups=groups)
        kept.__dict__["correlation"] = self.correlation
        return kept

    @cached_property
    def correlation(self) -> Floats:
        """Correlation between samples for some positions, (p, p)."""
        picked = np.unique(np.linspace(0, self.positions - 1, min(_PAIRS, self.positions)).astype(int))
        q = self.signal.q[picked]
        norm = np.sqrt(np.multiply.outer(q, q))
        return np.clip(self.signal.kernel[np.ix_(picked, picked)] / np.where(norm > 0, norm, 1), -1, 1)


@dataclass(frozen=True)
class Gradient:
    """The gradient at one place of the network.

    energy: mean square per entry at each position, (P,), or (groups, P).  gamma: the same as a function of h.
    on: share of the energy that sits where the activation is positive, where that is not one half.
    centered: share of the energy that came out of a BatchNorm, whose sum over each channel is zero.
    scale_noise: that of the State behind the convolution it is about to enter, where a BatchNorm divided by v.
    spread_out: not correlated between positions (average pooling makes it so), which the exact laws need.
    """

    energy: Floats
    gamma: Gamma | None = None
    on: Floats | None = None
    centered: float = 0.0
    scale_noise: float = 1.0
    spread_out: bool = True
    grade: str = "EX"
    allowance: float = 0.0
    relvar: float = 0.0
    weight: float = math.nan
    """Mean square of dL/dweight of the layer just passed, and its relative variance between networks."""
    weight_relvar: float = math.nan


class Setting(NamedTuple):
    """What the rules need besides the layer.

    batch: N. weight, bias: initializers. grid: for streams, or None; rescale: keep them within it. floor: relative bias
    that mean field is allowed in any case.
    """

    batch: int
    weight: Any
    bias: Any
    grid: Grid | None
    rescale: bool
    floor: float


class NoLaw(Exception):
    """The layer has no law here; the text says why."""


Backward = Callable[[Gradient], Gradient]
PASSED = {"gamma": None, "centered": 0.0, "scale_noise": 1.0}
"""What a gradient loses on its way through a layer that is neither convolution nor BatchNorm nor activation."""


def worse(*grades: str) -> str:
    """The weakest of the grades."""
    return min(grades, key=("", "MF", "EX", "ID").index)


# ---- convolution and linear


def conv(layer: nn.Conv2d, state: State, setting: Setting) -> tuple[State, Backward]:
    """[EX] over the weights; see `layer.py`."""
    options = layer.kernel_size, layer.stride, layer.padding, layer.dilation
    geometry = ConvGeometry.of(state.image, *options)
    variance, used = _weight_law(layer, setting.weight, geometry)
    return _affine(layer, state, setting, variance, used, geometry, (layer.out_channels, *geometry.outputs))


def linear(layer: nn.Linear, state: State, setting: Setting) -> tuple[State, Backward]:
    """A convolution over one pixel."""
    geometry = ConvGeometry.of((1, 1), 1)
    variance, used = _weight_law(layer, setting.weight, geometry)
    return _affine(layer, state, setting, variance, used, geometry, (layer.out_features,))


def _weight_law(layer: Any, law: Any, geometry: ConvGeometry) -> tuple[float, ConvGeometry]:
    """Variance of a weight, and the taps that carry weights: delta-orthogonal ones have the center tap alone."""
    shape = layer.weight.value.shape
    if isinstance(law, init.Dirac) or (isinstance(law, init.Constant) and law.c != 0):
        raise NoLaw(f"{type(law).__name__} weights are not random")
    variance = law.variance(shape)
    if not isinstance(law, init.DeltaOrthogonal) or geometry.taps == 1:
        return variance, geometry
    axes = [
        Axis(a.size, 1, a.stride, a.padding - a.kernel // 2 * a.dilation) for a in (geometry.height, geometry.width)
    ]
    if any(a.padding < 0 for a in axes) or (axes[0].outputs, axes[1].outputs) != geometry.outputs:
        raise NoLaw("a delta-orthogonal kernel that reads beyond the image")
    return variance * geometry.taps, ConvGeometry(*axes)


def _affine(
    layer: Any,
    state: State,
    setting: Setting,
    variance: float,
    used: ConvGeometry,
    full: ConvGeometry,
    shape: tuple[int, ...],
) -> tuple[State, Backward]:
    fan_in, fan_out = state.channels * used.taps, shape[0] * used.taps
    z = maps.conv(state.signal, used).scaled(variance * fan_in / 2)
    if layer.bias is not None:
        shift = setting.bias.variance(layer.bias.value.shape)
        z = Signal(z.q + shift, z.kernel + shift)
    noise = _scale_noise(setting.weight, layer.weight.value.shape, fan_in)
    out = state.after(z, shape=shape, form="gaussian", pointwise=used.taps == 1, scale_noise=noise)
    own = _affine_relvar(out, setting, layer.weight.value.shape, fan_in)
    out = replace(out, relvar=state.relvar + own)
    common = full.pair_row_sums(state.signal.kernel) / out.positions
    below, above = state.light, out.light

    def backward(g: Gradient) -> Gradient:
        energy = maps.conv_backward(g.energy, used) * (variance * fan_out / 2 / g.scale_noise)
        own = 2 / below.channels * (1 / fan_out + 1 / (setting.batch * above.positions))
        return Gradient(
            energy,
            spread_out=g.spread_out,
            grade=g.grade,
            allowance=g.allowance + _agreement_cost(g, below, used),
            relvar=g.relvar + own,
            weight=_weight_gradient(g, below, common, setting.batch, full),
            weight_relvar=g.relvar + below.relvar + _weight_relvar(g, below, above, fan_in),
        )

    return out, backward


def _agreement_cost(g: Gradient, below: State, geometry: ConvGeometry) -> float:
    """What a convolution adds to the bias where neighbouring pixels receive the same gradient: 0.6/C_in.

    The gates above depend on the weights that the gradient now goes through; between two pixels that receive the same
    gradient such terms do not cancel. A BatchNorm between takes them away. (Measured behind global average pooling
    without BatchNorm: 20 % at C_in = 3, 6 % at 12, 4 % at 24.)
    """
    apart = g.spread_out or g.centered > 0 or geometry.taps == 1
    return 0.0 if apart else 0.6 / below.channels


def _affine_relvar(out: State, setting: Setting, shape: tuple[int, ...], fan_in: int) -> float:
    """2 |M|^2 / ((tr M)^2 C_out): pairs of samples share what K says, a sample shares everything with itself."""
    squares, pairs = float((out.correlation**2).mean()), setting.batch * out.positions
    by_chance = 1 / fan_in + 1 / pairs  # what the squared cosine of two unrelated patches is
    shared = squares + (1 - squares) * by_chance
    if isinstance(setting.weight, init.Orthogonal | init.DeltaOrthogonal):
        return 2 * shared / shape[0] * max(0.0, 1 - shape[0] / fan_in)
    kurtosis = setting.weight.kurtosis(shape)
    excess = 0.0 if math.isnan(kurtosis) else (kurtosis - 3) / fan_in
    return max(0.0, (2 * shared + excess) / shape[0])


def _scale_noise(law: Any, shape: tuple[int, ...], fan_in: int) -> float:
    """E[s/v] = 1 / (1 - (kappa - 1)/fan_in) of v = sum of fan_in squared weights, s = E v (exact for normal ones).

    A BatchNorm that follows divides by such a v. Going on through the convolution it cancels: sum W^2/v is constant.
    """
    kurtosis = law.kurtosis(shape)
    if isinstance(law, init.Orthogonal | init.DeltaOrthogonal) or math.isnan(kurtosis):
        return 1.0
    return 1 / (1 - min((kurtosis - 1) / fan_in, 0.5))


def _weight_relvar(g: Gradient, state: State, out: State, fan_in: int) -> float:
    """2 |M|^2/((tr M)^2 C_out), M of the inputs, which have a direction in common unless a BatchNorm follows."""
    squares = float((state.correlation**2).mean()) * (1 - g.centered)
    return 2 * (squares + (1 - squares) / fan_in) / out.channels


def _weight_gradient(g: Gradient, state: State, common: Floats, batch: int, geometry: ConvGeometry) -> float:
    """N sum_i g(i) q(pixels of i), mean over taps; a gradient that sums to zero sees the centered input only.

    common: (P_out,), mean over the outputs i' of pair(K)(i, i'), the input that all samples share.
    """
    seen = geometry.box(state.signal.q.reshape(state.image)).ravel()
    if g.centered:
        seen = seen + g.centered * (float(common.mean()) - 2 * common)
    return batch * float(g.energy @ seen) / geometry.taps


# ---- activations


def activation(kind: one_layer.Activation, state: State, setting: Setting) -> tuple[State, Backward]:
    """On a Gaussian: [EX] for (leaky) ReLU behind a linear layer, [MF] otherwise."""
    if state.form == "rectified" and kind.homogeneous:
        return state, lambda g: g  # max(x, 0) of x >= 0
    if state.form != "gaussian":
        raise NoLaw(f"{kind.name} of a signal that is not Gaussian")
    q = state.signal.q
    out, slopes = _activated(kind, state)
    exact = kind.homogeneous and state.grade == "EX"
    cost = 0.0 if exact else mean_field_cost(state, setting.batch)
    odd = _odd_relvar(kind, state, setting.batch)
    after = state.after(
        out,
        form="rectified" if kind.slope == 0 else "other",
        source=state.signal if kind.slope == 0 else None,
        normalized=state.normalized,
        grade="EX" if exact else worse("MF", state.grade),
        allowance=state.allowance + cost,
        relvar=state.relvar * _slope2(kind, float(q.mean())) + odd,
    )

    kept = state.light

    def backward(g: Gradient) -> Gradient:
        if g.gamma is not None:
            first = Scaled.started(setting.grid, kept.signal, rescale=setting.rescale)
            energy = g.gamma.energy(first.stream, gated=True)
        elif g.on is not None and kind.slope == 0:
            energy = g.energy * g.on
        else:
            energy = g.energy * slopes
        still = kind.homogeneous and g.spread_out and g.gamma is None
        return replace(
            g,
            energy=energy,
            gamma=None,
            on=None,
            centered=0.0,
            grade=worse(g.grade, "EX" if still else "MF", "EX" if kind.homogeneous else kept.grade),
            allowance=g.allowance + (0.0 if still and exact else cost),
            relvar=g.relvar + _gate_relvar(kind, kept, setting.batch),
        )

    return after, backward


def _activated(kind: one_layer.Activation, state: State) -> tuple[Signal, Floats]:
    """The signal behind an activation, and E phi'^2 per position, (P,), or (groups, P) where channels differ."""
    moments = [one_layer.activation_moments(kind, part.q) for _, part in state.parts]
    kernels = [one_layer.activation_kernel(kind, part.q, part.kernel) for _, part in state.parts]
    shares = [share for share, _ in state.parts]
    q = sum(share * m.second for share, m in zip(shares, moments, strict=True))
    kernel = sum(share * k for share, k in zip(shares, kernels, strict=True)) if state.groups else kernels[0]
    slopes = np.stack([m.slope2 for m in moments]) if state.groups else moments[0].slope2
    return Signal(q, kernel), slopes


def mean_field_cost(state: State, batch: int) -> float:
    """Relative bias that one mean-field layer may add: 0.6/C + 0.75/m, m values per channel.

    Only behind convolutions of a single tap; over the taps of a larger kernel these corrections cancel and what stays
    is the floor of `floor`.
    """
    return 0.6 / state.channels + 0.75 / (batch * state.positions) if state.pointwise else 0.0


def _slope2(kind: one_layer.Activation, q: float) -> float:
    return 1.0 if kind.homogeneous else log_slope(kind, q) ** 2


def _odd_relvar(kind: one_layer.Activation, state: State, batch: int) -> float:
    """What an activation adds to the relative variance between networks, beyond what z's second moment explains.

    ReLU: relu(z)^2 = z^2/2 + z|z|/2; the odd half gives (4/C) mean of J2(c) - 1/4 - c^2/2, J2 the arc-cosine kernel of
    order two. Leaky: times ((1 - slope^2)/(1 + slope^2))^2. Smooth ones: the even part, with c^2.
    """
    c, pairs = state.correlation, batch * state.positions
    if kind.homogeneous:
        angle = np.arccos(c)
        j2 = (3 * np.sin(angle) * c + (math.pi - angle) * (1 + 2 * c * c)) / (2 * math.pi)
        shared = float(np.mean(j2 - 0.25 - c * c / 2))
        half = ((1 - kind.slope**2) / (1 + kind.slope**2)) ** 2
        return 4 * half * ((1 - 1 / pairs) * shared + 0.75 / pairs) / state.channels
    q = float(state.signal.q.mean())
    moments = one_layer.activation_moments(kind, q)
    if moments.second == 0:
        return 0.0
    own = float(moments.fourth / moments.second**2) - 1 - 2 * _slope2(kind, q)
    shared = (1 - 1 / pairs) * float(np.mean(c * c)) + 1 / pairs
    return max(0.0, own) * shared / state.channels


def _gate_relvar(kind: one_layer.Activation, state: State, batch: int) -> float:
    """(4 P(both on) - 1)/C over pairs of samples, 3/C of a sample with itself at every position apart."""
    if kind.slope is None:
        return 0.0
    pairs = batch * state.positions
    both = 2 * (math.pi - np.arccos(state.correlation)) / math.pi - 1
    depth = ((1 - kind.slope**2) / (1 + kind.slope**2)) ** 2
    return depth * ((1 - 1 / pairs) * float(both.mean()) + 3 / pairs) / state.channels


# ---- BatchNorm


def batchnorm(layer: nn.BatchNorm2d, state: State, setting: Setting) -> tuple[State, Backward]:
    """[MF] but for the second moment, in training mode; gain and bias are the layer's own values.

    Each group of channels is normalized by itself. The gradient's factor (m - 2)/(m - 3) is that of m Gaussian values.
    """
    m = setting.batch * state.positions
    gain2, shift = mean_square(layer.weight.value), mean_square(layer.bias.value)
    kernel = np.full_like(state.signal.kernel, shift)
    q, factors = np.full(state.positions, shift), []
    for share, part in state.parts:
        v = part.variance
        if v <= 0:  # a constant channel: BN puts out its bias and multiplies the gradient by 1/sqrt(eps)
            factors.append(gain2 / layer.eps)
            continue
        normal, r = maps.batchnorm(part), v / (v + layer.eps)
        q, kernel = q + share * gain2 * r * normal.q, kernel + share * gain2 * r * normal.kernel
        factors.append(gain2 * r * normal.inverse_v * state.scale_noise * max(m - 2, 0) / max(m - 3, 1))
    cost = mean_field_cost(state, setting.batch)
    known = state.grade or ("MF" if state.form == "gaussian" else "")  # a random convolution mixes the unknown away
    after = state.after(
        Signal(q, kernel), form="gaussian", grade=worse("MF", known), allowance=cost, relvar=0.0, normalized=True
    )

    kept = state.light

    def backward(g: Gradient) -> Gradient:
        return replace(
            g,
            energy=np.multiply.outer(factors, g.energy) if kept.groups else g.energy * factors[0],
            centered=1.0,
            scale_noise=kept.scale_noise,
            grade=worse(g.grade, "MF", kept.grade),  # it divides by v, which must be known
            allowance=g.allowance + cost,
            relvar=g.relvar + (kept.scale_noise - 1) / kept.channels,
            on=None,
        )

    return after, backward


def mean_square(value: Any) -> float:
    """Mean square of a parameter, wherever it lives."""
    return float(np.mean(to_numpy(value).astype(float) ** 2))


# ---- pooling, dropout, and layers that only change the shape


def max_pool(layer: nn.MaxPool2d, state: State, setting: Setting) -> tuple[State, Backward]:
    """[MF] maximum of what a window's pixels share (K) plus independent Gaussians; see `layer.py`."""
    geometry = ConvGeometry.of(state.image, layer.kernel_size, layer.stride, layer.padding)
    if state.form not in ("gaussian", "rectified"):
        raise NoLaw("the maximum of a signal that is neither Gaussian nor the ReLU of one")
    rectified = state.form == "rectified"
    source = state.source if rectified else state.signal
    counts = geometry.forward_counts.ravel()
    reads = np.kron(geometry.height.reads, geometry.width.reads)
    q = reads @ source.q / counts
    common = np.clip(_within_windows(reads, source) / q, 0.0, 1.0)
    first, second = _pooled_moments(counts, common, rectified)
    mean = first * np.sqrt(q)
    positive = (1 - 0.5**counts) if rectified else np.ones(len(counts))
    taken = positive[:, None] * reads / counts[:, None]
    kernel = np.multiply.outer(mean, mean) + taken @ source.kernel @ taken.T
    after = state.after(
        Signal(second * q, np.minimum(kernel, np.sqrt(np.multiply.outer(second * q, second * q)))),
        shape=(state.channels, *geometry.outputs),
        grade=worse(state.grade, "MF"),
        allowance=state.allowance + 0.02,
    )

    def backward(g: Gradient) -> Gradient:
        shares = (g.energy / counts).reshape(geometry.outputs)
        energy = geometry.box_transpose(shares).ravel()
        on = geometry.box_transpose((g.energy * (1 - 0.5**counts) / counts).reshape(geometry.outputs)).ravel()
        on = on / np.where(energy > 0, energy, 1)
        return replace(g, energy=energy, on=on, grade=worse(g.grade, "MF"), **PASSED)

    return after, backward


def _within_windows(reads: Floats, source: Signal) -> Floats:
    """Mean of K over the pairs of different pixels of each window, (P_out,); 0 for a single pixel."""
    pairs = np.einsum("ij,jk,ik->i", reads, source.kernel, reads, optimize=True) - reads @ np.diag(source.kernel)
    count = reads.sum(axis=1)
    return pairs / np.maximum(count * (count - 1), 1)


def _pooled_moments(counts: Floats, common: Floats, rectified: bool) -> tuple[Floats, Floats]:
    """E max and E max^2 for unit variance, n = counts pixels, a share `common` of the variance shared by all."""
    first, second = np.empty(len(counts)), np.empty(len(counts))
    for key in {(int(n), round(float(c), 3)) for n, c in zip(counts, common, strict=True)}:
        where = (counts == key[0]) & (np.round(common, 3) == key[1])
        first[where], second[where] = one_layer.shared_max_moments(*key, rectified=rectified)
    return first, second


def avg_pool(layer: nn.AvgPool2d, state: State, setting: Setting) -> tuple[State, Backward]:
    """Forward [MF]: pixels share K and are independent beyond it. Backward [EX]."""
    geometry = ConvGeometry.of(state.image, layer.kernel_size, layer.stride, layer.padding)
    return _average(state, np.kron(geometry.height.reads, geometry.width.reads) / geometry.taps, geometry.outputs)


def global_avg_pool(layer: nn.GlobalAvgPool2d, state: State, setting: Setting) -> tuple[State, Backward]:
    """The mean over all positions."""
    return _average(state, np.full((1, state.positions), 1 / state.positions), ())


def _average(state: State, mean: Floats, outputs: tuple[int, ...]) -> tuple[State, Backward]:
    """mean: (P_out, P), the weight of each pixel in each output."""
    kernel = mean @ state.signal.kernel @ mean.T
    own = state.signal.q - np.diag(state.signal.kernel)
    after = state.after(
        Signal(np.diag(kernel) + mean**2 @ own, kernel),
        shape=(state.channels, *outputs),
        form="gaussian" if state.form == "gaussian" else "other",
        grade=worse(state.grade, "MF") if state.positions > 1 else state.grade,
    )

    def backward(g: Gradient) -> Gradient:
        alone = state.positions == 1
        energy = (mean**2).T @ g.energy
        return replace(g, energy=energy, on=None, spread_out=g.spread_out and alone, **PASSED)

    return after, backward


def dropout(layer: nn.Dropout, state: State, setting: Setting) -> tuple[State, Backward]:
    """[EX] in training mode: q / (1 - p), the covariance between samples unchanged."""
    factor = one_layer.dropout_factor(layer.p)
    signal = Signal(state.signal.q * factor, state.signal.kernel)
    if layer.p == 0:
        return state, lambda g: g
    return state.after(signal), lambda g: replace(g, energy=g.energy * factor, **PASSED)


def flatten(layer: nn.Flatten, state: State, setting: Setting) -> tuple[State, Backward]:
    """Features are told apart no longer: one position with the averages."""
    q, own = state.signal.q.mean(), np.diag(state.signal.kernel).mean()
    after = state.after(
        Signal(np.array([q]), np.array([[own]])),
        shape=(math.prod(state.shape),),
        form="gaussian" if state.form == "gaussian" else "other",
    )
    return after, lambda g: replace(g, energy=np.full(state.positions, float(g.energy[0])), on=None, **PASSED)


def identity(layer: nn.Identity, state: State, setting: Setting) -> tuple[State, Backward]:
    """[ID]."""
    return state, lambda g: g


def subsample(layer: Subsample, state: State, setting: Setting) -> tuple[State, Backward]:
    """Shortcut A: every stride-th pixel; the new channels are zero, a group of their own."""
    kept, share = kept_positions(state.image, layer.stride), layer.in_channels / layer.out_channels
    size = tuple(-(-n // layer.stride) for n in state.image)
    old = tuple((share * w, part.subsampled(kept)) for w, part in state.parts)
    nothing = Signal(np.zeros(len(kept)), np.zeros((len(kept), len(kept))))
    after = state.after(
        state.signal.subsampled(kept).scaled(share),
        shape=(layer.out_channels, *size),
        form="gaussian" if state.form == "gaussian" else "other",
        groups=(*old, (1 - share, nothing)) if share < 1 else state.groups,
    )

    def backward(g: Gradient) -> Gradient:
        received = g.energy[: len(old)] if g.energy.ndim == 2 else g.energy
        energy = np.zeros((*received.shape[:-1], state.positions))
        energy[..., kept] = received
        return replace(g, energy=energy if state.groups else energy.reshape(-1), on=None, **PASSED)

    return after, backward


def kept_positions(image: tuple[int, int], stride: int) -> np.ndarray:
    """Flat indices of every stride-th pixel."""
    return np.arange(image[0] * image[1]).reshape(image)[::stride, ::stride].ravel()


ACTIVATIONS: dict[type, Callable[[Any], one_layer.Activation]] = {
    nn.ReLU: lambda layer: one_layer.RELU,
    nn.LeakyReLU: lambda layer: one_layer.leaky_relu(layer.slope),
    nn.Tanh: lambda layer: one_layer.TANH,
    nn.Sigmoid: lambda layer: one_layer.SIGMOID,
}

RULES: dict[type, Callable[[Any, State, Setting], tuple[State, Backward]]] = {
    nn.Conv2d: conv,
    nn.Linear: linear,
    nn.BatchNorm2d: batchnorm,
    nn.MaxPool2d: max_pool,
    nn.AvgPool2d: avg_pool,
    nn.GlobalAvgPool2d: global_avg_pool,
    nn.Dropout: dropout,
    nn.Flatten: flatten,
    nn.Identity: identity,
    Subsample: subsample,
}


def apply(layer: Any, state: State, setting: Setting) -> tuple[State, Backward]:
    """The rule of a layer. Raises NoLaw for a layer of another kind, a subclass with its own forward included."""
    for known, kind in ACTIVATIONS.items():
        if isinstance(layer, known) and type(layer)._forward is known._forward:
            return activation(kind(layer), state, setting)
    for known, rule in RULES.items():
        if isinstance(layer, known) and type(layer)._forward is known._forward:
            return rule(layer, state, setting)
    raise NoLaw(f"no law for {type(layer).__name__}")
