"""Convolution and linear layers: exact over the weights [EX] (`minires.theory.laws.convolution`)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from minires import init, nn
from minires.theory.laws import signal as maps
from minires.theory.laws.geometry import Axis, ConvGeometry
from minires.theory.laws.signal import Signal
from minires.theory.rules.state import Backward, Floats, Gradient, NoLaw, Setting, State


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
