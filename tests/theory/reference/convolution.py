"""One convolution or linear layer: the mean square of a signal, of a gradient, and of the weight gradient.

The weights are independent with mean 0 and variance s^2; W[o, c, t] meets input pixel j(i, t) at output i. Squaring
y(o, i) = sum_ct W x and taking the expectation over W leaves the diagonal, for ANY fixed x:

    forward    E y(o, i)^2     = s^2 sum_c box(x_c^2)(i)                  any x
    backward   E dx(c, j)^2    = s^2 sum_o boxT(dy_o^2)(j)               any dy independent of W
    weights    E dW[o, c, t]^2 = tau^2 sum_{n, i} x(n, c, j(i, t))^2      any x, dy iid of variance tau^2

The middle line has no cross terms because two outputs never reach one pixel by the same tap. All three are exact at
finite width [EX].

*How far one draw may be off.* Let M = X'X be the Gram matrix of the unfolded input (rows: outputs, columns: (c, t)).
The C_out filters give independent quadratic forms w'Mw, so the mean of y^2 has the relative variance

    [2 |M|_F^2 + (kappa - 3) sum_j M_jj^2] / ((tr M)^2 C_out)

and the gradient's mean square has the same with dy unfolded over the input's pixels, divided by C_in. For dW with
Gaussian dy it is 2 |M|_F^2 / ((tr M)^2 C_out). Haar-orthogonal weights (m x n, m <= n): Var tr(W M W') =
2m(n-m) / (n(n-1)(n+2)) * (tr M^2 - (tr M)^2/n), up to gain^4; a square one has no variance at all.

*In front of a BatchNorm*, the batch variance of a channel is v = w'Mw with M the centered covariance of the patches:
E v = s^2 tr M for any input [EX].
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from minires.theory.laws.geometry import ConvGeometry
from minires.theory.laws.patches import Patches


class Moment(NamedTuple):
    """Expectation of a mean square, and the relative variance of it between single draws."""

    mean: float
    relative_variance: float

    def z(self, measured: float) -> float:
        """How many standard deviations a single draw is off."""
        return (measured - self.mean) / (self.mean * math.sqrt(self.relative_variance))


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
    return upstream * np.stack([per_tap(geometry, channel, ones) for channel in squares])


def per_tap(geometry: ConvGeometry, q: np.ndarray, g: np.ndarray) -> np.ndarray:
    """(H, W), (Ho, Wo) -> (kh, kw): sum over outputs i of g(i) q(pixel of i by tap t): a weight gradient's law."""
    rows, columns = (axis.source[:, :, None] == np.arange(axis.size) for axis in geometry)
    return np.einsum("ith,hw,juw,ij->tu", rows.astype(float), q, columns.astype(float), g, optimize=True)


def unfolded(x: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """(N, C, H, W) -> (N Ho Wo, C kh kw): the patches that the outputs read."""
    return Patches(x, geometry).rows


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


def batch_variance(x: np.ndarray, variance: float, geometry: ConvGeometry) -> float:
    """E v over W of a BatchNorm behind a convolution with weights of ``variance``, for any fixed x [EX].

    s^2 times the sum over (c, t) of the batch variance of the shifted channel, padding zeros included.
    """
    return variance * float(unfolded(x, geometry).var(axis=0).sum())
