"""Convolution and linear layers: exact over the weights [EX] (`tests.theory.reference.convolution`).

The weight gradient sums over samples and positions. Gradients of different samples do not correlate, so with R the
covariance of the gradient within a sample and S that of the input

    E dW[o, c, t]^2 = N sum_{i, i'} R(i, i') S(pixel of i by t, pixel of i' by t)

which for a gradient without covariances is N sum_i g(i) q(pixel of i). A gradient that came out of a BatchNorm sums to
zero, so it sees the centered input: S(i, i') - r(i) - r(i') + m with r, m the means of K that BatchNorm takes.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from minires import init, nn
from minires.backend import to_numpy
from minires.theory.laws import signal as maps
from minires.theory.laws.geometry import Axis, ConvGeometry
from minires.theory.laws.patches import Patches
from minires.theory.laws.signal import Signal
from minires.theory.rules import allowances
from minires.theory.rules.state import Backward, Floats, Gradient, NoLaw, Setting, State, with_diagonal, worse
from minires.theory.samplers.weights import mean_square

LARGEST_INVERSE = 0.5
"""Of 1 - 1/E[s/v]: beyond it E[s/v] is decided by rare channels, and may be infinite."""
OVERLAP = 0.55
"""Correlations of 3x3 patches of white noise: of their variance, patches one tap apart share 1 - 0.55 on average."""
LARGEST_CENTERED = 256
"""Positions up to which a gradient's covariance is followed once a BatchNorm has taken most of it."""


def conv(layer: nn.Conv2d, state: State, setting: Setting) -> tuple[State, Backward]:
    """A convolution, of one or several groups."""
    geometry = ConvGeometry.of(state.image, layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    return _affine(layer, state, setting, geometry, (layer.out_channels, *geometry.outputs))


def linear(layer: nn.Linear, state: State, setting: Setting) -> tuple[State, Backward]:
    """A convolution over one pixel."""
    return _affine(layer, state, setting, ConvGeometry.of((1, 1), 1), (layer.out_features,))


def _weight_law(layer: Any, law: Any, geometry: ConvGeometry) -> tuple[float, ConvGeometry]:
    """Variance of a weight, and the taps that carry weights: delta-orthogonal ones have the center tap alone."""
    value = layer.weight.value
    if law is None:
        return mean_square(value), geometry
    if isinstance(law, init.Dirac) or (isinstance(law, init.Constant) and law.c != 0):
        raise NoLaw(f"{type(law).__name__} weights are not random")
    variance = law.variance((value.shape[0] // getattr(layer, "groups", 1), *value.shape[1:]))  # drawn group by group
    if not isinstance(law, init.DeltaOrthogonal) or geometry.taps == 1:
        return variance, geometry
    center = ConvGeometry(*(Axis(a.size, 1, a.stride, a.padding - a.kernel // 2 * a.dilation) for a in geometry))
    if any(axis.padding < 0 for axis in center) or center.outputs != geometry.outputs:
        raise NoLaw("a delta-orthogonal kernel that reads beyond the image")
    return variance * geometry.taps, center


def _affine(
    layer: Any, state: State, setting: Setting, full: ConvGeometry, shape: tuple[int, ...]
) -> tuple[State, Backward]:
    variance, used = _weight_law(layer, setting.weight, full)
    known = "MF" if setting.weight is None else "EX"  # of given weights the mean square alone is known
    groups = getattr(layer, "groups", 1)  # an output reads one group of channels, an input is read by one
    fan_in, fan_out = state.channels // groups * used.taps, shape[0] // groups * used.taps
    reading = maps.conv(state.signal, used)
    plain = reading.scaled(variance * fan_in / 2)
    z = _biased(layer, setting.bias, plain)
    seen = max(float(used.forward_counts.mean()), 1.0)
    patches = None if state.batch is None else Patches(state.batch, used)
    scatter = state.scatter * (state.smooth + (1 - state.smooth) / seen) if patches is None else patches.scatter
    smooth = state.smooth if used.taps == 1 else 1 - OVERLAP * (1 - state.smooth)
    may_die = state.never_negative and z is plain and (used.taps == 1 or state.channels <= 4)
    out = state.after(
        z,
        shape=shape,
        form="gaussian",
        symmetric=not z.mean,
        scale_noise=_scale_noise(setting.weight, layer.weight.value.shape, state.channels // groups * seen),
        patches=None if groups > 1 else patches,
        scatter=scatter,
        smooth=smooth,
        isotropic=scatter if state.smooth == 0 else 0.0,
        directions=_directions(state, patches, scatter),
        dead=0.5**state.channels if may_die else 0.0,
        grade=worse(state.grade, known),
    )
    out = replace(out, relvar=state.relvar + _affine_relvar(out, setting, layer.weight.value.shape, fan_in))
    common = (reading if used is full else maps.conv(state.signal, full)).rows() * full.taps / 2
    contrast = allowances.contrast(state.signal.each)
    below, above = state.light(state.positions <= setting.keep), out.light(False)

    def backward(g: Gradient) -> Gradient:
        # of the few weights that make z, those along the input decide the gates: E[w^2 phi'^2] by that direction
        aligned = 1 + (g.aligned - 1) * used.taps / (fan_in * seen)
        factor = variance * fan_out / 2 / g.scale_noise * aligned
        energy = maps.conv_backward(g.energy, used) * factor
        same = None
        if g.same is not None and below.positions <= (LARGEST_CENTERED if g.centered else setting.keep):
            same = with_diagonal(used.pair_transpose(g.same) * (2 / used.taps * factor), energy)
        own = 2 / below.channels * (1 / fan_out + 1 / (setting.batch * above.positions))
        weight, agreed = _weight_gradient(g, below, common, setting.batch, full, fan_in)
        # the inputs have a direction in common, unless a BatchNorm follows
        squares = float((below.correlation**2).mean()) * (1 - g.centered)
        return g.passed(
            energy,
            same=same,
            centered=g.centered * seen / used.taps,
            grade=worse(g.beyond or g.grade, known),
            doubt=g.doubt + allowances.convolution(g, setting.batch),
            relvar=g.relvar + own,
            weight=weight * aligned,
            weight_doubt=allowances.weight_gradient(g, below, agreed, contrast),
            weight_relvar=g.relvar + below.relvar + 2 * (squares + (1 - squares) / fan_in) / above.channels,
        )

    return out, backward


def _directions(state: State, patches: Patches | None, scatter: float) -> Floats | None:
    """Those of the batch; of white noise as many equal ones as a patch has numbers."""
    if patches is not None:
        return patches.directions
    if state.directions is not None or not scatter > 0:
        return state.directions
    count = max(round(1 / scatter), 1)
    return np.full(count, 1 / count)


def _biased(layer: Any, law: Any, z: Signal) -> Signal:
    """A random bias adds to what all samples share; a constant one shifts all channels."""
    if layer.bias is None:
        return z
    if law is None:
        value = to_numpy(layer.bias.value).astype(float)
        mean, shift = float(value.mean()), float(value.var())
    else:
        mean = float(law.c) if isinstance(law, init.Constant) else 0.0
        shift = law.variance(layer.bias.value.shape)
    if shift:
        z = z.changed(lambda moments: moments + shift, z.mean)
    return z.shifted(mean) if mean else z


def _affine_relvar(out: State, setting: Setting, shape: tuple[int, ...], fan_in: int) -> float:
    """2 |M|^2 / ((tr M)^2 C_out): pairs of samples share what K says, a sample shares everything with itself."""
    squares, pairs = float((out.correlation**2).mean()) + out.smooth * out.scatter, setting.batch * out.positions
    by_chance = 1 / fan_in + 1 / pairs  # what the squared cosine of two unrelated patches is
    shared = squares + (1 - squares) * by_chance
    if isinstance(setting.weight, init.Orthogonal | init.DeltaOrthogonal):
        return 2 * shared / shape[0] * max(0.0, 1 - shape[0] / fan_in)
    kurtosis = 3.0 if setting.weight is None else setting.weight.kurtosis(shape)
    excess = 0.0 if math.isnan(kurtosis) else (kurtosis - 3) / fan_in
    return max(0.0, (2 * shared + excess) / shape[0])


def _scale_noise(law: Any, shape: tuple[int, ...], fan_in: float) -> float:
    """E[s/v] = 1 / (1 - (kappa - 1)/fan_in) of v = sum of fan_in squared weights, s = E v (exact for normal ones).

    More rows than columns cannot be orthogonal. Then the columns are, and s/v of a row is that of a point on a sphere,
    v ~ Beta(fan_in/2, (C_out - fan_in)/2): E[s/v] = (1 - 2/C_out) / (1 - 2/fan_in). A BatchNorm that follows divides by
    such a v. Going on through the convolution it cancels: sum W^2/v is constant.
    """
    if isinstance(law, init.Orthogonal | init.DeltaOrthogonal):
        few = max(fan_in, 2 / LARGEST_INVERSE)
        return max((1 - 2 / shape[0]) / (1 - 2 / few), 1.0) if few < shape[0] else 1.0
    kurtosis = 3.0 if law is None else law.kurtosis(shape)
    return 1.0 if math.isnan(kurtosis) else 1 / (1 - min((kurtosis - 1) / fan_in, LARGEST_INVERSE))


def _weight_gradient(
    g: Gradient, state: State, common: Floats, batch: int, geometry: ConvGeometry, fan_in: int
) -> tuple[float, float]:
    """N sum_ii' R(i, i') S(pixels of i and i'), mean over taps, and how much of it comes from different positions.
    Where S was not kept: nan, or without R behind a BatchNorm, which takes away what neighbors have in common."""
    seen = geometry.box(state.signal.q.reshape(state.image)).ravel()
    if g.centered:
        seen = np.maximum(seen + g.centered * (float(common.mean()) - 2 * common), 0.0)
    alone = total = float(g.energy @ seen)
    apart = 0.0
    if g.same is not None and geometry.outputs != (1, 1) and not (g.centered and state.signal.kernel is None):
        if state.signal.kernel is None:
            return math.nan, 0.0
        shared = geometry.pair(state.signal.whole_same())
        if g.centered:
            shared = shared + g.centered * (float(common.mean()) - common[:, None] - common)
        if g.along and not g.centered:
            root = np.sqrt(np.maximum(seen, 0.0)) * (g.along / math.sqrt(fan_in))
            shared = shared + np.multiply.outer(root, root)
        agreed = shared * g.same
        np.fill_diagonal(agreed, 0.0)
        total, apart = alone + float(agreed.sum()), float(np.abs(agreed).sum())
    if not total > 0:
        return (math.nan if alone > 0 else 0.0), 0.0
    return batch * total * (1 - g.unseen) / geometry.taps, apart / total
