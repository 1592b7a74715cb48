"""Numerical derivatives for the tests, independent of `minires.gradcheck` and of every backward pass.

A function `f(*arrays) -> y` is differentiated through the scalar <dy, y>, with a random upstream gradient `dy`: an
upstream of ones hides faults (BatchNorm's dx is then 0). Two methods, whose errors have nothing in common:

    central differences   <dy, f(x + h e) - f(x - h e)> / 2h        error about h^2 + eps / h: 1e-7 relative is safe
    complex step          Im <dy, f(x + i h e)> / h, h = 1e-20      no cancellation: rounding only, 1e-12 is safe
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

CENTRAL_TOLERANCE = 1e-7
COMPLEX_TOLERANCE = 1e-12
COMPLEX_STEP = 1e-20
CENTRAL_STEP = 6e-6
"""The cube root of the float64 rounding unit: it balances truncation, h^2, against rounding, eps / h."""


def central_gradient(f: Callable, arrays: Sequence[np.ndarray], index: int, dy: np.ndarray) -> np.ndarray:
    """d<dy, f(*arrays)> / d arrays[index], entry by entry, by central differences in float64."""
    gradient = np.zeros(arrays[index].shape)
    for entry in np.ndindex(gradient.shape):
        high, low = (_moved(arrays, index, entry, step) for step in (CENTRAL_STEP, -CENTRAL_STEP))
        gradient[entry] = np.sum(dy * (f(*high) - f(*low))) / (2 * CENTRAL_STEP)
    return gradient


def complex_gradient(f: Callable, arrays: Sequence[np.ndarray], index: int, dy: np.ndarray) -> np.ndarray:
    """d<dy, f(*arrays)> / d arrays[index], entry by entry, by the complex step. Integer arrays stay as they are."""
    arrays = [array.astype(np.complex128) if array.dtype.kind == "f" else array for array in arrays]
    gradient = np.zeros(arrays[index].shape)
    for entry in np.ndindex(gradient.shape):
        moved = _moved(arrays, index, entry, 1j * COMPLEX_STEP)
        gradient[entry] = np.sum(dy * np.imag(f(*moved))) / COMPLEX_STEP
    return gradient


def _moved(arrays: Sequence[np.ndarray], index: int, entry: tuple[int, ...], step: complex) -> list[np.ndarray]:
    moved = list(arrays)
    moved[index] = arrays[index].copy()
    moved[index][entry] += step
    return moved


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """max |got - expected| / max |expected|. An expected gradient that is 0 everywhere would prove nothing: refused."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape, f"shape {got.shape}, expected {expected.shape}"
    scale = np.max(np.abs(expected), initial=0.0)
    assert scale > 0, "vacuous: the expected gradient is 0 everywhere"
    return float(np.max(np.abs(got - expected)) / scale)


def directional_errors(
    f: Callable[[], np.ndarray | float], array: np.ndarray, gradient: np.ndarray, rng: np.random.Generator
) -> tuple[float, float]:
    """How far `gradient` of the scalar f() with respect to `array` is off along one random direction.

    `array` is float64 and is moved in place; f reads it anew. For whole networks, where a step for every entry is too
    slow: a direction v of independent N(0, 1) entries sees every wrong entry. Returns the error of <gradient, v> from
    central differences and its size |gradient|, as a pair (error, size).
    """
    direction = rng.standard_normal(array.shape)
    step = CENTRAL_STEP / np.linalg.norm(direction)
    start = array.copy()
    array[...] = start + step * direction
    high = f()
    array[...] = start - step * direction
    low = f()
    array[...] = start
    numerical = (high - low) / (2 * step)
    return abs(float(numerical - np.sum(gradient * direction))), float(np.linalg.norm(gradient))


def directional_errors_complex(
    f: Callable[[], complex], array: np.ndarray, gradient: np.ndarray, rng: np.random.Generator
) -> tuple[float, float]:
    """The same by the complex step: `array` is complex128, f() complex, `gradient` real."""
    direction = rng.standard_normal(array.shape)
    start = array.copy()
    array[...] = start + 1j * COMPLEX_STEP * direction
    numerical = np.imag(f()) / COMPLEX_STEP
    array[...] = start
    return abs(float(numerical - np.sum(gradient * direction))), float(np.linalg.norm(gradient))
