"""Orthogonal and delta-orthogonal samplers: an identity of every draw, and Haar's measure over many.

An orthogonal weight has W W^T = gain^2 I in every draw (`weights.orthogonality`), so its mean square has no z-score. A
delta-orthogonal kernel is orthogonal at its center tap and 0 elsewhere. What is random is the rotation. By Haar's
measure a row of W / gain is a uniform unit vector of n entries, n the longer side, so W_00^2 is Beta(1/2, (n-1)/2):

    E W_00 = 0,    E W_00^2k = (2k-1)!! / (n (n+2) ... (n+2k-2))

QR alone gives Q_00 <= 0 always; the signs of R's diagonal must be moved into Q (Mezzadri 2007, math-ph/0609050).
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from minires import init
from minires.theory.samplers import weights
from minires.theory.samplers.mistakes import factor_sentence
from minires.theory.samplers.weights import Check, Draws, Sampler, Shape
from minires.theory.stats import z_threshold

HAAR_DRAWS = 400  # of an 8x8 matrix: a missing sign moves the mean corner by 16 standard deviations


def check_orthogonal(
    sampler: Sampler, draws: Draws, law: Any, rng: np.random.Generator
) -> tuple[str | None, list[Check]]:
    """What is wrong, or None, and the checks: orthogonality in every draw, then the rotations' distribution."""
    delta = isinstance(law, init.DeltaOrthogonal)
    checks, fault = [], None
    for _, drawn in draws[:1] if delta else draws:
        checks.append(max((identity(w, law.gain, delta) for w in drawn[:4]), key=lambda check: check.measured))
        if not checks[-1].ok:
            fault = fault or _not_orthogonal(drawn[0], law.gain, delta)
    if fault is not None:
        return fault, checks
    shape, drawn = draws[0]
    checks += _rotation_checks(sampler, law, shape, rng)
    if _one_signed(drawn):
        fault = (
            "orthogonal, but not uniform over rotations (Haar): a row or column has one sign, as if the matrix "
            "before QR had been drawn with a mean that is not 0; draw normal numbers"
        )
    elif not checks[-2].ok:
        fault = "Q's sign not fixed: not uniform over rotations, multiply Q by the sign of R's diagonal"
    elif not checks[-1].ok:
        fault = "orthogonal, but not uniform over rotations (Haar)"
    return fault, checks


def identity(w: np.ndarray, gain: float, delta: bool = False) -> Check:
    """W W^T = gain^2 I, of the center tap where the rest is to be 0."""
    single = w.astype(np.float32)  # somebody else's weights may have been float32: judge by that rounding
    part = (..., *(k // 2 for k in w.shape[2:])) if delta else ...
    found = weights.orthogonality(single[part], gain)
    single[part] = 0
    error = max(found.measured, float(np.abs(single).max()))
    return found._replace(shape=w.shape, measured=error, ok=error <= found.expected)


def is_orthogonal(matrix: np.ndarray) -> bool:
    """Orthogonal with any gain."""
    return identity(matrix, _own_gain(matrix)).ok


def _own_gain(matrix: np.ndarray) -> float:
    return math.sqrt(weights.mean_square(matrix) * max(matrix.shape))


def _not_orthogonal(w: np.ndarray, gain: float, delta: bool) -> str:
    """What the matrix is instead: orthogonal with another gain, along other axes, or plain random numbers."""
    if delta:
        center = np.abs(w[(..., *(k // 2 for k in w.shape[2:]))]).sum()
        outside = np.abs(w).sum() > center * (1 + 1e-6)
        return "weights away from the kernel's center" if outside else "the center tap is not orthogonal"
    matrix = w.reshape(len(w), -1)
    if is_orthogonal(matrix):
        return factor_sentence((_own_gain(matrix) / gain) ** 2, "orthogonal, with another gain")
    for sentence, other in _other_matrices(w):
        if is_orthogonal(other):
            return sentence
    if abs(weights.kurtosis_z(w, weights.NORMAL)) < 5 and w.size > 100:
        return "independent normal weights where orthogonal ones were meant"
    return "not orthogonal"


def _other_matrices(w: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """What a kernel (C_out, C_in, kh, kw) may have been flattened to by mistake."""
    if w.ndim == 4:
        c_out, c_in, kh, _ = w.shape
        yield "each kernel tap orthogonal on its own, not the whole filter", w[..., 0, 0]
        yield "orthogonal over the wrong axes, (C_out C_in, kh kw)", w.reshape(c_out * c_in, -1)
        yield "orthogonal over the wrong axes, (C_out kh, C_in kw)", w.swapaxes(1, 2).reshape(c_out * kh, -1)
        yield "orthogonal with the axes in another order, (C_in, C_out kh kw)", w.swapaxes(0, 1).reshape(c_in, -1)


def _one_signed(draws: np.ndarray) -> bool:
    """Whether the first row or column has one sign in every draw: QR keeps the direction of a mean."""
    flat = draws.reshape(len(draws), draws.shape[1], -1)
    lines = [line for line in (flat[:, :, 0], flat[:, 0, :]) if line.shape[1] >= 8]
    return any((np.abs(np.sign(line).sum(axis=1)) == line.shape[1]).all() for line in lines)


def _rotation_checks(sampler: Sampler, law: Any, shape: Shape, rng: np.random.Generator) -> list[Check]:
    """Haar's law of a corner over many draws of an 8x8 matrix (of ``shape`` if the sampler refuses that)."""
    small = (8, 8, *(1 for _ in shape[2:]))
    try:
        weights.draw(sampler, small, rng)
    except Exception:
        small = shape
    corner = (0, 0, *(k // 2 for k in small[2:]))
    drawn = np.array([weights.draw(sampler, small, rng)[corner] for _ in range(HAAR_DRAWS)]) / law.gain
    n = max(small[:2] if isinstance(law, init.DeltaOrthogonal) else (small[0], math.prod(small[1:])))
    return haar_checks(drawn, n, small)


def haar_checks(corner: np.ndarray, n: int, shape: Shape) -> list[Check]:
    """Mean and fourth moment of W_00 / gain over many draws of a matrix whose longer side is n."""
    m2, m4, m8 = 1 / n, 3 / (n * (n + 2)), 105 / (n * (n + 2) * (n + 4) * (n + 6))
    sd, sd4 = math.sqrt(m2 / corner.size), math.sqrt((m8 - m4**2) / corner.size)
    return [
        Check.by_z("mean of W[0, 0]", shape, float(corner.mean()), 0.0, sd, z_threshold(2)),
        Check.by_z("mean of W[0, 0]⁴", shape, float(np.mean(corner**4)), m4, sd4, z_threshold(2)),
    ]
