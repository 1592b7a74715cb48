"""A convolution on an actual batch: its output, and the BatchNorm behind it, from the patches it reads.

Let X (m x n) be the m = N P_out patches of the batch, n = fan_in. A filter w of Gaussian weights puts out X w, and a
BatchNorm behind it divides by v = w'Mw, M the centered covariance of the patches. With lambda_j the eigenvalues of M in
units of E v, v is sum lambda_j chi2_j. In photographs one of them, brightness, has most of the sum, so v scatters far
more from filter to filter than for white noise. In the basis of the eigenvectors [EX; integrals: `batchnorm`]

    E[1/v]                                  what a gradient is multiplied by
    E[|w|^2/v]/n                            what it is multiplied by on its way through the convolution as well
    q^(p) = sum_j e_j y_pj^2 / lambda_j     E (X w)_p^2 / v at patch p with coordinates y, e_j = E[lambda_j chi2_j/v]
    1 - E[w'M^2w/v^2] / E[1/v]              what BatchNorm's second projection leaves of the weight gradient

Deeper in the network the variance of the patches' correlation over pairs of them is enough, the `scatter`.
"""

from functools import cached_property
from typing import NamedTuple

import numpy as np

from minires.ops import im2col
from minires.theory.laws.batchnorm import WIDE_LOG_T, Inverse
from minires.theory.laws.geometry import ConvGeometry

_SOME = 400  # patches that stand for all where a variance over pairs is wanted
_LARGEST_FAN = 800


class StemLaw(NamedTuple):
    """inverse: E[1/v] E v.  through: E[|w|^2/v] E v / n.  each: q^ of each sample, (N, P).  unseen: what the projection
    takes.  scatter: that of the normalized channels, sum of e_j^2."""

    inverse: float
    through: float
    each: np.ndarray
    unseen: float
    scatter: float


class Patches:
    """The patches of a batch (N, C, H, W), or its rows (N, features)."""

    def __init__(self, batch: np.ndarray, geometry: ConvGeometry) -> None:
        self.batch = batch if batch.ndim == 4 else batch[..., None, None]
        self.geometry = geometry

    @cached_property
    def rows(self) -> np.ndarray:
        """(N Ho Wo, C kh kw), in the order of an OIHW weight's flattened filter."""
        names = ("kernel", "stride", "padding", "dilation")
        kernel, stride, padding, dilation = (tuple(getattr(axis, name) for axis in self.geometry) for name in names)
        cols = im2col(self.batch.astype(float), kernel, stride=stride, padding=padding, dilation=dilation)
        return cols.transpose(0, 2, 1).reshape(-1, cols.shape[1])

    @cached_property
    def scatter(self) -> float:
        """Variance of the correlation of two patches of different samples, over pairs of them."""
        picked = np.random.default_rng(0).choice(len(self.rows), min(_SOME, len(self.rows)), replace=False)
        rows, samples = self.rows[picked], picked // (len(self.rows) // len(self.batch))
        norms = np.linalg.norm(rows, axis=1)
        rows, samples = rows[norms > 0] / norms[norms > 0, None], samples[norms > 0]
        pairs = samples[:, None] != samples
        return float(np.var((rows @ rows.T)[pairs])) if pairs.any() else 0.0

    @cached_property
    def eigenpairs(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Of their covariance, in ascending order; None where all patches are alike, or too large."""
        m, n = self.rows.shape
        if n > _LARGEST_FAN:
            return None
        centered = self.rows - self.rows.mean(axis=0)
        eigenvalues, basis = np.linalg.eigh(centered.T @ centered / m)
        known = eigenvalues[-1] > 1e-12 * max(1.0, float(np.mean(self.rows**2)))
        return (np.clip(eigenvalues, 0.0, None), basis) if known else None

    @property
    def directions(self) -> np.ndarray | None:
        """Shares of the patches' variance along its principal directions."""
        return None if self.eigenpairs is None else self.eigenpairs[0] / self.eigenpairs[0].sum()

    @cached_property
    def law(self) -> StemLaw | None:
        """Of a BatchNorm behind the convolution."""
        if self.eigenpairs is None:
            return None
        (eigenvalues, basis), centered = self.eigenpairs, self.rows - self.rows.mean(axis=0)
        found = Inverse.of(np.exp(WIDE_LOG_T), 0.0, self.directions, np.zeros(0))
        inside = found.at(self.directions)
        shares = self.directions * inside
        each = np.square(centered @ basis) @ (shares / np.maximum(eigenvalues, 1e-12 * eigenvalues[-1]))
        unseen, scatter = found.second / found.inverse, float(shares @ shares)
        return StemLaw(found.inverse, float(inside.mean()), each.reshape(len(self.batch), -1), unseen, scatter)
