"""Initializers whose weights depend on each other: orthogonal matrices and the identity.

Orthogonal. The weight, as a matrix (out, in*kh*kw), has orthonormal rows (or columns, if it is tall) times a gain. For
a linear layer every singular value is then the gain: no direction grows and none dies, at any depth.
Q of a QR decomposition of a normal matrix is uniform on the orthogonal group (Haar) only if the diagonal of R is made
positive; LAPACK leaves its sign to the algorithm, and Q[0, 0] would never be positive (Mezzadri 2007).

Delta-orthogonal. A convolution with an orthogonal matrix at its center tap and zeros elsewhere keeps the norm of every
pixel; an orthogonal matrix spread over all taps does not.

Sources: Saxe, McClelland, Ganguli 2013, arXiv:1312.6120; Xiao et al. 2018, arXiv:1806.05393.
"""

from dataclasses import dataclass

import numpy as np

from minires.checks import check_scale
from minires.init.distributions import Fixed, Initializer, Shape, fans


def haar(rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    """A uniformly distributed (rows, columns) matrix with orthonormal columns (rows, where they are the fewer)."""
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q *= np.sign(np.diag(r))
    return q if rows >= columns else q.T


@dataclass(frozen=True)
class Orthogonal(Initializer):
    """gain times a Haar orthogonal matrix (out, in*kh*kw)."""

    gain: float = 1.0

    def __post_init__(self) -> None:
        check_scale("gain", self.gain)

    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        fan_in, _ = fans(shape)
        return self.gain * haar(shape[0], fan_in, rng).reshape(shape)

    def variance(self, shape: Shape) -> float:
        return self.gain**2 / max(fans(shape)[0], shape[0])

    def kurtosis(self, shape: Shape) -> float:
        return 3 / (1 + 2 / max(fans(shape)[0], shape[0]))


@dataclass(frozen=True)
class DeltaOrthogonal(Initializer):
    """An orthogonal matrix at the center tap, zeros elsewhere. Convolutions with out_channels >= in_channels only.

    Its variance and kurtosis are averages over all taps.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        check_scale("gain", self.gain)

    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        weight = np.zeros(shape)
        center = center_tap(weight, "DeltaOrthogonal")
        center[...] = self.gain * haar(*center.shape, rng)
        return weight

    def variance(self, shape: Shape) -> float:
        return self.gain**2 / fans(shape)[1]

    def kurtosis(self, shape: Shape) -> float:
        return 3 / (1 + 2 / shape[0]) * fans(shape)[1] / shape[0]


@dataclass(frozen=True)
class Dirac(Fixed):
    """The identity: channel i is copied to channel i, at the center tap. Nothing is random, so the variance is 0."""

    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        weight = np.zeros(shape)
        np.fill_diagonal(center_tap(weight, "Dirac", tall=False), 1)
        return weight


def center_tap(weight: np.ndarray, name: str, *, tall: bool = True) -> np.ndarray:
    """The (out, in) matrix at the middle of a kernel, as a view. ValueError for a shape that has none."""
    fans(weight.shape)
    if tall and weight.shape[0] < weight.shape[1]:
        raise ValueError(f"{name}: shape is {weight.shape}; expected out_channels >= in_channels")
    return weight[(slice(None), slice(None), *(k // 2 for k in weight.shape[2:]))]
