"""Plain networks layer by layer: the exact maps of bias-free ReLU networks, spreads, and mean field.

Per position, with f = (1 + slope^2)/2 (`minires.theory.laws.plain_networks` has the derivation):

    forward    Q_l(i) = s_l^2 C_{l-1} box(f Q_{l-1})(i)          E z_l^2 per position; box(sum_c x^2) first
    backward   G_{l-1}(j) = s_l^2 C_l boxT(f G_l)(j)            E (dL/da_l)^2 = G_l, E (dL/dz_l)^2 = f G_l
    weights    E dW_l[o, c, t]^2 = N sum_i f G_l(i) E a_{l-1}^2(pixel of i by tap t)

Weights of kurtosis k make a layer's relative variance 5 + 2 (k - 3) sum a^4 / (sum a^2)^2 over n; going back, with a
Gaussian upstream, the squared total is prod (1 + 3/(n_l + 2)) (1 + 2/n_{l-1}). For vectors of squared norms q_p and
cosines c_pp' = cos t that share the weights, the mean of relu(z)^2 has the relative variance

    mean_pp' [q_p q_p' (J2(c_pp') - 1/4)] / ((mean q / 2)^2 C_out)
    J2(c) = (3 sin t cos t + (pi - t)(1 + 2 cos^2 t)) / (2 pi)      (arc-cosine kernel, order two)

which lies below 5 mean(q^2) / (C_out mean(q)^2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from minires.theory.laws.activations import Activation, activation_moments
from minires.theory.laws.geometry import ConvGeometry
from minires.theory.laws.plain_networks import log_slope
from tests.theory.reference.convolution import per_tap

_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. 2017


def _selu(z: np.ndarray) -> np.ndarray:
    return _SELU_SCALE * np.where(z > 0, z, _SELU_ALPHA * np.expm1(np.minimum(z, 0)))


def _selu_derivative(z: np.ndarray) -> np.ndarray:
    """It jumps at 0; the root mean square of both sides there makes a trapezoid rule exact for its square."""
    slope = np.where(z > 0, 1.0, _SELU_ALPHA * np.exp(np.minimum(z, 0)))
    return _SELU_SCALE * np.where(z == 0, math.sqrt((1 + _SELU_ALPHA**2) / 2), slope)


SELU = Activation("selu", _selu, _selu_derivative)


class ReluLayer(NamedTuple):
    """A bias-free convolution (linear layer: an image of one pixel) and its leaky ReLU. variance: of a weight."""

    in_channels: int
    out_channels: int
    variance: float
    geometry: ConvGeometry
    slope: float = 0.0

    @property
    def share(self) -> float:
        """f, what the activation leaves of a second moment and of a gradient's."""
        return (1 + self.slope**2) / 2


def dense(in_features: int, out_features: int, variance: float, slope: float = 0.0) -> ReluLayer:
    """A linear layer as a convolution over one pixel."""
    return ReluLayer(in_features, out_features, variance, ConvGeometry.of((1, 1), 1), slope)


class ReluLaw(NamedTuple):
    """Second moments of every layer, bottom first; maps are (H, W).

    pre: of z_l.  post: of a_l, post[0] the input's.  gradient: of dL/da_l, gradient[0] at the input, in units
    of the upstream's.  weight: (kh, kw), mean over channels of E dW^2 for one sample; N samples give N times
    as much.
    """

    pre: tuple[np.ndarray, ...]
    post: tuple[np.ndarray, ...]
    gradient: tuple[np.ndarray, ...]
    weight: tuple[np.ndarray, ...]


def relu_law(layers: Sequence[ReluLayer], x: np.ndarray) -> ReluLaw:
    """x: (N, C, H, W), the actual input, or (H, W), its second moment per entry."""
    q = np.square(x, dtype=float).mean(axis=(0, 1)) if np.ndim(x) == 4 else np.asarray(x, dtype=float)
    pre, post = [], [q]
    for layer in layers:
        pre.append(layer.variance * layer.in_channels * layer.geometry.box(post[-1]))
        post.append(layer.share * pre[-1])
    gradient, weight = [np.ones_like(post[-1])], []
    for layer, below in zip(layers[::-1], post[-2::-1], strict=True):
        at_z = layer.share * gradient[-1]
        weight.append(per_tap(layer.geometry, below, at_z))
        gradient.append(layer.variance * layer.out_channels * layer.geometry.box_transpose(at_z))
    return ReluLaw(tuple(pre), tuple(post), tuple(gradient[::-1]), tuple(weight[::-1]))


def relu_second_moment(widths: Sequence[int]) -> float:
    """E (|a_L|^2 / E|a_L|^2)^2 = prod (1 + 5/n), Gaussian weights."""
    return math.prod(1 + 5 / n for n in widths)


def relu_backward_second_moment(widths: Sequence[int]) -> float:
    """E (|g_0|^2 / E|g_0|^2)^2 of layers widths[l-1] -> widths[l], Gaussian upstream v, relative to |v|.

    prod_l (1 + 3/(n_l + 2)) (1 + 2/n_{l-1}).
    """
    return math.prod((1 + 3 / (above + 2)) * (1 + 2 / below) for below, above in pairwise(widths))


def layer_relative_variance(width: int, kurtosis: float = 3.0, concentration: float = 0.0) -> float:
    """Relative variance of |relu(W a)|^2 for one vector a: (5 + 2 (kurtosis - 3) concentration) / width.

    concentration: sum a^4 / (sum a^2)^2, which is 0 for a spread-out a; only non-Gaussian weights notice.
    """
    return (5 + 2 * (kurtosis - 3) * concentration) / width


def batch_relative_variance(vectors: np.ndarray, width: int) -> float:
    """Relative variance, over Gaussian weights of `width` filters, of the mean over p of relu(w .
    vectors[p])^2.

    vectors: (P, fan_in), the inputs of all samples and positions (unfolded patches for a convolution).
    """
    gram = vectors @ vectors.T
    q = np.diagonal(gram)
    norm = np.sqrt(np.multiply.outer(q, q))
    c = np.clip(gram / np.where(norm > 0, norm, 1), -1, 1)
    t = np.arccos(c)
    j2 = (3 * np.sin(t) * c + (math.pi - t) * (1 + 2 * c * c)) / (2 * math.pi)
    return float(np.mean(np.multiply.outer(q, q) * (j2 - 0.25)) / (q.mean() / 2) ** 2 / width)


class MeanField(NamedTuple):
    """Layers l = 1..L of a fully connected network, mean field; arrays of length L.

    q: second moment of z_l.  chi: what the gradient's second moment is multiplied by going back through layer
    l's activation and the next square weight matrix.  gradient: of dL/dz_l relative to dL/dz_L, layers of
    equal width.
    spread: relative standard deviation of q between networks of the given width (nan where no width is given).
    """

    q: np.ndarray
    chi: np.ndarray
    gradient: np.ndarray
    spread: np.ndarray


def mean_field(
    activation: Activation,
    weight_gain: float,
    depth: int,
    *,
    bias_variance: float = 0.0,
    q0: float = 1.0,
    width: int | None = None,
) -> MeanField:
    """weight_gain: s_w^2 = Var W * fan_in of every layer.  q0: mean square of the input's entries."""
    q, chi, spread = [weight_gain * q0 + bias_variance], [], [0.0]
    for _ in range(depth):
        moments = activation_moments(activation, q[-1])
        chi.append(weight_gain * float(moments.slope2))
        q.append(weight_gain * float(moments.second) + bias_variance)
        own = float(moments.fourth / moments.second**2) - 1 if moments.second > 0 else 0.0
        relative = weight_gain * float(moments.second) / q[-1] if q[-1] > 0 else 0.0
        z_share = log_slope(activation, q[-2]) ** 2 * spread[-1]
        spread.append(relative**2 * (z_share + own / width) if width else math.nan)
    gradient = np.concatenate([np.cumprod(chi[:-1][::-1])[::-1], [1.0]])
    v = np.array(spread[:-1]) + (2 / width if width else math.nan)
    return MeanField(np.array(q[:-1]), np.array(chi), gradient, np.sqrt(v))


def relu_correlation(depth: int, start: float = 0.0) -> np.ndarray:
    """Correlation of two inputs at the pre-activations of layers 1..depth of a bias-free ReLU network.

    start: at layer 1. c' = (sqrt(1 - c^2) + c (pi - arccos c)) / pi creeps up to 1: all inputs come to look
    alike.
    """
    c = [start]
    for _ in range(depth - 1):
        c.append((math.sqrt(1 - c[-1] ** 2) + c[-1] * (math.pi - math.acos(c[-1]))) / math.pi)
    return np.array(c)
