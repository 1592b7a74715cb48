"""One layer: what it does to the mean square of a signal, of a gradient, and of its own weight gradient.

*Convolution and linear.* Weights independent with mean 0 and variance s^2; W[o, c, t] meets input pixel j(i, t) at
output i. Squaring y(o, i) = sum_ct W x and taking the expectation over W leaves the diagonal, for ANY fixed x:

    forward    E y(o, i)^2     = s^2 sum_c box(x_c^2)(i)                  any x
    backward   E dx(c, j)^2    = s^2 sum_o boxT(dy_o^2)(j)               any dy independent of W
    weights    E dW[o, c, t]^2 = tau^2 sum_{n, i} x(n, c, j(i, t))^2      any x, dy iid of variance tau^2

The middle line has no cross terms because two outputs never reach one pixel by the same tap. All three are exact at
finite width [EX].

*How far one draw may be off.* With M = X'X the Gram matrix of the unfolded input (rows: outputs, columns: (c, t)), the
C_out filters give independent quadratic forms w'Mw, so the mean of y^2 has the relative variance

    [2 |M|_F^2 + (kappa - 3) sum_j M_jj^2] / ((tr M)^2 C_out)

and the gradient's mean square the same with dy unfolded over the input's pixels, divided by C_in. For dW with
Gaussian dy it is 2 |M|_F^2 / ((tr M)^2 C_out). Haar-orthogonal weights (m x n, m <= n): Var tr(W M W') =
2m(n-m) / (n(n-1)(n+2)) * (tr M^2 - (tr M)^2/n), up to gain^4; none at all for a square one.

*ReLU and leaky ReLU* on a symmetric z: f = (1 + slope^2)/2 times the second moment, and f times the gradient's [EX].

*Other activations* on z ~ N(0, q): E phi^2, E phi'^2 by quadrature; covariances by the Hermite expansion
E phi(u) phi(v) = sum_k a_k(q_u) a_k(q_v) c^k, a_k(q) = E phi(sqrt(q) Z) He_k(Z) / sqrt(k!) (Mehler's formula).

*BatchNorm* (m values a channel, biased variance v, r = v/(v + eps), xh = (x - mean)/sqrt(v + eps)): identities of
every draw are mean y = bias, var y = weight^2 r, sum dx = 0 and sum dx xh = weight eps (v + eps)^(-3/2) dweight.
Backward is a projection: two of m directions are cut, one only up to 1 - r, so for iid dy of variance tau^2 [EX]

    E sum dx^2 = weight^2 tau^2 / (v + eps) * (m - 2 + (1 - r)^2)
    relative variance 2 (m - 2 + (1 - r)^4) / (m - 2 + (1 - r)^2)^2
    weights W before it, input X (m x fan_in):   E dW_j^2 = weight^2 tau^2/(v + eps) * [sum_p (X_pj - mean)^2
                                                        - (1 - (1 - r)^2) (sum_p xh_p X_pj)^2 / (m r)]

*Max-pooling* of n independent N(0, 1): E max^k = int x^k n phi Phi^(n-1). Backward each output sends its dy to one
pixel of its window, each equally likely: E dx(j)^2 = tau^2 sum_{windows i that hold j} 1/n_i, n_i the pixels in
window i. *Average pooling*: dx(j) = sum_i dy(i)/k^2. *Dropout* with probability p of dropping, inverted:
E y^2 = x^2/(1-p), and the same backward. *Residual sum* of a skip path and an independent zero-mean branch: second
moments add.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from minires.ops import im2col
from minires.theory.geometry import ConvGeometry
from minires.theory.stats import normal_cdf


class Moment(NamedTuple):
    """Expectation of a mean square, and the relative variance of it between single draws."""

    mean: float
    relative_variance: float

    def z(self, measured: float) -> float:
        """How many standard deviations a single draw is off."""
        return (measured - self.mean) / (self.mean * math.sqrt(self.relative_variance))


# ---- convolution and linear, per position


def conv_forward_map(x: np.ndarray, variance: float, geometry: ConvGeometry) -> np.ndarray:
    """(N, C, H, W) -> (N, Ho, Wo): E y^2 at each output, the same for every output channel."""
    return variance * geometry.box(np.square(x, dtype=float).sum(axis=1))


def conv_backward_map(dy: np.ndarray, variance: float, geometry: ConvGeometry) -> np.ndarray:
    """(N, C_out, Ho, Wo) -> (N, H, W): E dx^2 at each pixel, the same for every input channel."""
    return variance * geometry.box_transpose(np.square(dy, dtype=float).sum(axis=1))


def conv_weight_map(x: np.ndarray, upstream: float, geometry: ConvGeometry) -> np.ndarray:
    """(N, C, H, W) -> (C, kh, kw): E dW^2 for iid dy of variance ``upstream``, the same for every output channel."""
    ones = np.ones(geometry.outputs)
    squares = np.square(x, dtype=float).sum(axis=0)
    return upstream * np.stack([geometry.per_tap(channel, ones) for channel in squares])


def unfolded(x: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """(N, C, H, W) -> (N Ho Wo, C kh kw), the order of an OIHW weight's flattened filter."""
    vertical, horizontal = geometry.height, geometry.width
    cols = im2col(
        np.asarray(x, dtype=float),
        (vertical.kernel, horizontal.kernel),
        stride=(vertical.stride, horizontal.stride),
        padding=(vertical.padding, horizontal.padding),
        dilation=(vertical.dilation, horizontal.dilation),
    )
    return cols.transpose(0, 2, 1).reshape(-1, x.shape[1] * geometry.taps)


def unfolded_upstream(dy: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """(N, C_out, Ho, Wo) -> (N H W, C_out kh kw): the dy that each input pixel meets through each tap."""
    n, c = dy.shape[:2]
    h, w = geometry.image
    found = np.zeros((n, h, w, c, geometry.height.kernel, geometry.width.kernel))
    for t in range(geometry.height.kernel):
        for u in range(geometry.width.kernel):
            rows, columns = geometry.height.inside[:, t], geometry.width.inside[:, u]
            pixels = np.ix_(geometry.height.source[rows, t], geometry.width.source[columns, u])
            met = found[..., t, u]
            met[:, *pixels] = dy[:, :, rows][:, :, :, columns].transpose(0, 2, 3, 1)
    return found.reshape(n * h * w, -1)


def quadratic_form(rows: np.ndarray, variance: float, filters: int, entries: int, kurtosis: float = 3.0) -> Moment:
    """Law of the mean over ``entries`` values of sum_o |rows w_o|^2 for ``filters`` independent filters.

    rows: (P, fan) unfolded array. variance, kurtosis: of the weights. For a convolution's forward pass entries is
    y.size and filters C_out; backward dx.size and C_in; for a weight gradient dW.size and C_out with dy's variance.
    """
    gram = rows.T @ rows if rows.shape[0] >= rows.shape[1] else None
    norms = np.square(rows).sum(axis=0)
    total = float(norms.sum())
    squared = float(np.sum(np.square(gram if gram is not None else rows @ rows.T)))
    relative = (2 * squared + (kurtosis - 3) * float(norms @ norms)) / (total**2 * filters)
    return Moment(variance * filters * total / entries, relative)


def conv_forward(x: np.ndarray, variance: float, filters: int, geometry: ConvGeometry, kurtosis: float = 3.0) -> Moment:
    """Mean of y^2 over everything, for one draw of the weights; linear layers are images of one pixel."""
    rows = unfolded(x, geometry)
    return quadratic_form(rows, variance, filters, rows.shape[0] * filters, kurtosis)


def conv_backward(
    dy: np.ndarray, variance: float, channels: int, geometry: ConvGeometry, kurtosis: float = 3.0
) -> Moment:
    """Mean of dx^2 over everything, for one draw of the weights."""
    rows = unfolded_upstream(dy, geometry)
    return quadratic_form(rows, variance, channels, rows.shape[0] * channels, kurtosis)


def conv_weight_gradient(x: np.ndarray, upstream: float, filters: int, geometry: ConvGeometry) -> Moment:
    """Mean of dW^2 over its entries, for one draw of a Gaussian iid dy of variance ``upstream``."""
    rows = unfolded(x, geometry).T  # the sum over outputs is now the inner index
    return quadratic_form(rows, upstream, filters, rows.shape[0] * filters)


def orthogonal_forward(rows: np.ndarray, variance: float, filters: int) -> Moment:
    """As `quadratic_form` for ``filters`` <= fan Haar-orthogonal rows, variance = gain^2 / fan per entry."""
    gram = rows.T @ rows
    m, n, trace = filters, gram.shape[0], float(np.trace(gram))
    if m > n:
        raise ValueError(f"{m} filters cannot be orthonormal rows of length {n}")
    squares = float(np.sum(gram**2)) - trace**2 / n
    spread = 2 * m * (n - m) / (n * (n - 1) * (n + 2)) * squares if n > 1 else 0.0
    return Moment(variance * trace / rows.shape[0], spread / (m * trace / n) ** 2)


# ---- activations


class Activation(NamedTuple):
    """An activation phi, its derivative, and its slopes left and right of 0 where it is piecewise linear."""

    name: str
    value: Callable[[np.ndarray], np.ndarray]
    derivative: Callable[[np.ndarray], np.ndarray]
    slope: float | None = None
    """leaky ReLU's slope for z < 0 (ReLU 0, linear 1); None for a smooth activation."""

    @property
    def homogeneous(self) -> bool:
        """phi(c z) = c phi(z) for c > 0."""
        return self.slope is not None


def leaky_relu(slope: float, name: str = "leaky_relu") -> Activation:
    """phi(z) = z for z > 0, slope * z otherwise."""
    return Activation(
        name, lambda z: np.where(z > 0, z, slope * z), lambda z: np.where(z > 0, 1.0, slope), float(slope)
    )


LINEAR = leaky_relu(1.0, "linear")
RELU = leaky_relu(0.0, "relu")
TANH = Activation("tanh", np.tanh, lambda z: 1 - np.tanh(z) ** 2)
SIGMOID = Activation("sigmoid", lambda z: 0.5 * (1 + np.tanh(0.5 * z)), lambda z: 0.25 * (1 - np.tanh(0.5 * z) ** 2))

# E f(Z) for Z ~ N(0, 1): against a Gaussian the trapezoid rule converges as fast as Gauss-Hermite does, and unlike it
# keeps resolving tanh(sqrt(q) z) when q is large. A node lies on 0, where piecewise linear functions have their kink.
_NODES = np.arange(-640, 641) / 64.0
_WEIGHTS = np.exp(-0.5 * _NODES**2) / (64.0 * math.sqrt(2 * math.pi))


class ActivationMoments(NamedTuple):
    """Of phi(z), z ~ N(0, q); arrays of q's shape. slope2: E phi'(z)^2. fourth: E phi^4."""

    mean: np.ndarray
    second: np.ndarray
    slope2: np.ndarray
    fourth: np.ndarray


def activation_moments(activation: Activation, q: np.ndarray | float) -> ActivationMoments:
    """E phi, E phi^2, E phi'^2 and E phi^4 for Gaussian pre-activations of variance q (any shape)."""
    q = np.asarray(q, dtype=float)
    if activation.homogeneous:
        b = activation.slope
        half = np.ones_like(q) * (1 + b * b) / 2
        return ActivationMoments((1 - b) * np.sqrt(q / (2 * math.pi)), half * q, half, 1.5 * (1 + b**4) * q**2)
    z = np.sqrt(q)[..., None] * _NODES
    value, slope = activation.value(z), activation.derivative(z)
    return ActivationMoments(value @ _WEIGHTS, value**2 @ _WEIGHTS, slope**2 @ _WEIGHTS, value**4 @ _WEIGHTS)


def activation_kernel(activation: Activation, q: np.ndarray, covariance: np.ndarray, terms: int = 24) -> np.ndarray:
    """E phi(u_i) phi(v_i') for Gaussians of variances q (P,) and covariances (P, P) between u and v.

    Piecewise linear ones by the arc-cosine kernel, smooth ones by ``terms`` of the Hermite expansion; what is left out
    of the expansion is less than the last term over (1 - c), c the correlation.
    """
    scale = np.sqrt(q).astype(covariance.dtype)
    norm = np.multiply.outer(scale, scale)
    cosine = np.clip(covariance / np.where(norm > 0, norm, 1.0), -1.0, 1.0)  # a signal of zeros stays one
    if activation.homogeneous:
        b = activation.slope
        angle = np.sqrt(1 - cosine**2) + cosine * (math.pi - np.arccos(cosine))
        return b * covariance + (1 - b) ** 2 * np.multiply.outer(scale, scale) * angle / (2 * math.pi)
    coefficients = hermite_coefficients(activation, q, terms)
    total, power = np.zeros_like(cosine), np.ones_like(cosine)
    for a in coefficients.T:
        total += np.multiply.outer(a, a) * power
        power *= cosine
    return total


def hermite_coefficients(activation: Activation, q: np.ndarray, terms: int) -> np.ndarray:
    """(P, terms): a_k = E phi(sqrt(q) Z) He_k(Z) / sqrt(k!)."""
    basis = [np.ones_like(_NODES), _NODES]
    for k in range(1, terms - 1):
        basis.append((_NODES * basis[k] - math.sqrt(k) * basis[k - 1]) / math.sqrt(k + 1))
    values = activation.value(np.sqrt(np.asarray(q, dtype=float))[:, None] * _NODES)
    return values @ (np.stack(basis[:terms]) * _WEIGHTS).T


# ---- BatchNorm


def batchnorm_backward(v: float, m: int, *, eps: float = 1e-5, weight: float = 1.0, upstream: float = 1.0) -> Moment:
    """Mean of dx^2 over the m values of a channel whose batch variance is v, for iid dy of variance ``upstream``."""
    lost = (eps / (v + eps)) ** 2  # (1 - r)^2
    kept = m - 2 + lost
    relative = 2 * (m - 2 + lost**2) / kept**2
    return Moment(weight**2 * upstream / (v + eps) * kept / m, relative)


def batchnorm_weight_map(
    x: np.ndarray, filters: np.ndarray, *, eps: float = 1e-5, gain: np.ndarray | float = 1.0, upstream: float = 1.0
) -> np.ndarray:
    """E dW^2 of weights (C_out, fan_in) between unfolded input x (m, fan_in) and BatchNorm, dy iid at BN's output."""
    z = x @ filters.T
    centered, z = x - x.mean(axis=0), z - z.mean(axis=0)
    m, v = len(x), np.mean(z**2, axis=0)
    r = v / (v + eps)
    seen = np.sum(centered**2, axis=0)[None, :]
    cut = (z.T @ centered) ** 2 / (v + eps)[:, None]
    share = ((1 - (1 - r) ** 2) / (m * r))[:, None]
    scale = np.broadcast_to(gain, r.shape) ** 2 * upstream / (v + eps)
    return scale[:, None] * (seen - share * cut)


def batch_variance(x: np.ndarray, variance: float, geometry: ConvGeometry) -> float:
    """E v over W of a BatchNorm behind a convolution with weights of ``variance``, for any fixed x [EX].

    s^2 times the sum over (c, t) of the batch variance of the shifted channel, padding zeros included.
    """
    return variance * float(unfolded(x, geometry).var(axis=0).sum())


# ---- pooling and dropout


def max_moment(n: int, power: int) -> float:
    """E max^power of n independent standard normals."""
    density = n * _WEIGHTS * _normal_cdf_nodes() ** (n - 1)
    return float(np.sum(_NODES**power * density))


def rectified_max_moment(n: int, power: int) -> float:
    """E max(0, max)^power of n independent standard normals: ReLU before or after the pooling."""
    density = n * _WEIGHTS * _normal_cdf_nodes() ** (n - 1)
    return float(np.sum(np.maximum(_NODES, 0) ** power * density))


@lru_cache(maxsize=1024)
def shared_max_moments(n: int, common: float, *, rectified: bool) -> tuple[float, float]:
    """E M and E M^2 of the maximum M of n N(0, 1) that share a part of variance ``common`` (max(M, 0) if rectified).

    M = sqrt(common) Z + sqrt(1 - common) max of n independent ones.
    """
    z, weights = _NODES[::8], 8 * _WEIGHTS[::8]
    density = 8 * n * _WEIGHTS[::8] * _normal_cdf_nodes()[::8] ** (n - 1)
    m = math.sqrt(common) * z[:, None] + math.sqrt(1 - common) * z
    m = np.maximum(m, 0) if rectified else m
    return float(weights @ m @ density), float(weights @ m**2 @ density)


@lru_cache(maxsize=1)
def _normal_cdf_nodes() -> np.ndarray:
    return normal_cdf(_NODES)


def max_pool_backward_map(geometry: ConvGeometry) -> np.ndarray:
    """(H, W): E dx(j)^2 for iid dy of variance 1 and exchangeable inputs: sum over windows that hold j of 1/n_i."""
    return geometry.box_transpose(1.0 / geometry.forward_counts)


def avg_pool_backward_map(geometry: ConvGeometry) -> np.ndarray:
    """(H, W): E dx(j)^2 for iid dy of variance 1: windows that hold j, over (kh kw)^2."""
    return geometry.backward_counts / geometry.taps**2


def dropout_factor(p: float) -> float:
    """Of E y^2 and of E dx^2, for inverted dropout that drops with probability p."""
    return 1 / (1 - p)


def dropout_variance_ratio(p: float) -> float:
    """Batch variance of the next convolution in training over that in evaluation, for ReLU features of a Gaussian.

    (1/(2k) - 1/(2 pi)) / (1/2 - 1/(2 pi)) with k = 1 - p the share kept: dropout adds to E a^2 but not to (E a)^2.
    """
    common = 1 / (2 * math.pi)
    return (0.5 / (1 - p) - common) / (0.5 - common)
