"""Functions of many tensors: the gradient D of a matrix product A @ B inside them, right and as backward has it.

Where forward uses Z = A @ B of two inputs, dB = A^T D, and dA = D B^T if A is used nowhere else. Either of them gives D
if A, or B, has enough columns, and the other one (or what is left over) shows whether the product is there at all.
With D known, an error is either in the product (dA or dB is made of the wrong array) or in D itself: then what is said
of D says what is wrong between Z and y, such as a gate that is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from minires.backend import Array
from minires.gradcheck.hypotheses.comparison import Comparison, listed

EXACT = 1e-6
"""How exactly the right gradients have to fit a product, relative to their largest entry."""

MOST_ENTRIES = 2000
"""Of A and B."""


@dataclass
class Product:
    """Z = A @ B inside a function."""

    words: str
    a: Array
    b: Array
    first: int
    second: int
    """Numbers of the inputs."""
    b_transposed: bool
    gradient: Array
    """D, the right gradient of Z."""
    by_second: bool
    """Whether D is found from dB (else from dA)."""
    a_is_exclusive: bool
    """Whether dA = D B^T, so that A is used nowhere else."""


def find(inputs: tuple[Array, ...], names: list[str], right: list[Array | None]) -> Iterator[Product]:
    """The products of two inputs that the right gradients show."""
    for i, a in enumerate(inputs):
        for j, given in enumerate(inputs):
            if i == j or right[i] is None or right[j] is None or given.ndim != 2 or a.ndim < 2:
                continue
            if max(a.size, given.size) > MOST_ENTRIES or not all(np.all(np.isfinite(right[k])) for k in (i, j)):
                continue
            for turned in (False, True):
                b, db = (given.T, right[j].T) if turned else (given, right[j])
                for rows in {len(a), a.size // a.shape[-1]}:
                    flat, da = a.reshape(rows, -1), right[i].reshape(rows, -1)
                    if flat.shape[1] == len(b) and (found := _solve(flat, b, da, db)) is not None:
                        words = f"{names[i]} @ {names[j]}" + (".T" if turned else "")
                        yield Product(words, flat, b, i, j, turned, *found)


def _solve(a: Array, b: Array, da: Array, db: Array) -> tuple[Array, bool, bool] | None:
    """D, whether it comes from dB, and whether dA = D B^T; None where there is no such product."""
    (n, k), m = a.shape, b.shape[1]
    if n <= k and _well(a):
        gradient = np.linalg.pinv(a.T) @ db
        both = _equal(gradient @ b.T, da)
        if _equal(a.T @ gradient, db) and (both or (k - n) * m >= 4):
            return gradient, True, both
    if m <= k and _well(b):
        gradient = da @ np.linalg.pinv(b.T)
        if _equal(gradient @ b.T, da) and _equal(a.T @ gradient, db):
            return gradient, False, True
    return None


@dataclass
class Examined:
    """What was found out about a product."""

    about: tuple[int, ...]
    """Numbers of the gradients that are explained by it."""
    sentence: str | None = None
    """What is wrong with the product."""
    gradient: Comparison | None = None
    """Or D as backward has it, beside the right one."""


def examine(
    p: Product, yours: list[Array | None], failing: list[bool], names: list[str], others: dict[str, Array]
) -> Examined | None:
    """What is wrong with one product, or with D. yours: as returned; others: further arrays by name, such as y."""
    ga, gb = yours[p.first], yours[p.second]
    if ga is None or gb is None or ga.size != p.a.size or gb.size != p.b.size:
        return None
    ga, gb = ga.reshape(p.a.shape), (gb.reshape(p.b.T.shape).T if p.b_transposed else gb.reshape(p.b.shape))
    wrong_a, wrong_b = failing[p.first] and p.a_is_exclusive, failing[p.second]
    if (sentence := _wrong_factor(p, ga, gb, wrong_a, wrong_b, names, others)) is not None:
        return Examined((p.first if wrong_a else p.second,), sentence)
    theirs = np.linalg.pinv(p.a.T) @ gb if p.by_second else ga @ np.linalg.pinv(p.b.T)
    fits_a, fits_b = _equal(theirs @ p.b.T, ga), _equal(p.a.T @ theirs, gb)
    overdetermined = p.by_second and (p.a.shape[1] - len(p.a)) * p.b.shape[1] >= 4
    if wrong_a and wrong_b and fits_a and fits_b:
        about = (p.first, p.second)
    elif wrong_b and fits_b and overdetermined:
        about = (p.second,)
    else:
        return None
    follow = listed([f"d{names[k]}" for k in about]) + (" follow" if len(about) > 1 else " follows")
    z = p.a @ p.b
    bound = np.full(z.shape, EXACT * np.max(np.abs(p.gradient)) / 10)
    name = f"the gradient of {p.words} ({follow} from it)"
    compared = Comparison(name, theirs, p.gradient, bound, partners={p.words: z}, axes=("row", "column"))
    return Examined(about, gradient=compared)


def _wrong_factor(
    p: Product, ga: Array, gb: Array, wrong_a: bool, wrong_b: bool, names: list[str], others: dict[str, Array]
) -> str | None:
    """One of the two gradients is D times the wrong array."""
    d, words = p.gradient, p.words
    a, b = names[p.first], names[p.second]
    if wrong_a and not wrong_b:
        if p.b.shape[0] == p.b.shape[1] and _equal(d @ p.b, ga):
            return f"d{a} multiplies the gradient of {words} by {b} transposed the wrong way round: {_right_way(p, b)}"
        for name, array in others.items():
            if name != b and array.shape == p.b.shape and _equal(d @ array.T, ga):
                return f"d{a} multiplies the gradient of {words} by {name}, where {b} belongs"
    if wrong_b and not wrong_a:
        for name, array in others.items():
            if name != a and array.size == p.a.size and _equal(array.reshape(p.a.shape).T @ d, gb):
                return f"d{b} multiplies {name} by the gradient of {words}, where {a} belongs"
    return None


def _right_way(p: Product, b: str) -> str:
    return f"it has to be {b}" if p.b_transposed else f"it has to be {b}.T"


def _well(matrix: Array) -> bool:
    """Whether a matrix has full rank, far from losing it."""
    values = np.linalg.svd(matrix, compute_uv=False)
    return bool(len(values) and values[-1] > 1e-4 * values[0])


def _equal(found: Array, target: Array) -> bool:
    size = float(np.max(np.abs(target), initial=0.0))
    return size > 0 and bool(np.max(np.abs(found - target), initial=0.0) <= EXACT * size)
