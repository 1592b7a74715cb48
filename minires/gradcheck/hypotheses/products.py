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
    right_a: Array
    """dA."""


def find(inputs: tuple[Array, ...], names: list[str], right: list[Array | None]) -> list[list[Product]]:
    """The products of two inputs that the right gradients show; those that are added up (they share D) together."""
    sums: list[list[Product]] = []
    for product in _each(inputs, names, right):
        same = [s for s in sums if _equal(product.gradient, s[0].gradient)]
        if not same:
            sums.append([product])
        elif all({p.first, p.second} != {product.first, product.second} for p in same[0]):
            same[0].append(product)
    return sums


def _each(inputs: tuple[Array, ...], names: list[str], right: list[Array | None]) -> Iterator[Product]:
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
                        yield Product(words, flat, b, i, j, turned, *found, da)


def _solve(a: Array, b: Array, da: Array, db: Array) -> tuple[Array, bool, bool] | None:
    """D, whether it comes from dB, and whether dA = D B^T; None where there is no such product."""
    (n, k), m = a.shape, b.shape[1]
    if n <= k and _well(a):
        db = without_penalty(a, b, da, db, True)
        gradient = np.linalg.pinv(a.T) @ db
        both = _equal(gradient @ b.T, da)
        if _equal(a.T @ gradient, db) and (both or (k - n) * m >= 4):
            return gradient, True, both
    if m <= k and _well(b):
        db = without_penalty(a, b, da, db, False)
        gradient = da @ np.linalg.pinv(b.T)
        if _equal(gradient @ b.T, da) and _equal(a.T @ gradient, db):
            return gradient, False, True
    return None


def without_penalty(a: Array, b: Array, da: Array, db: Array, by_second: bool) -> Array:
    """dB without the multiple of B (the gradient of a penalty) that leaves as little as can be beside A^T D."""
    if by_second:
        rest = np.eye(a.shape[1]) - a.T @ np.linalg.pinv(a.T)  # onto what A^T D cannot reach
        left, along = rest @ db, rest @ b
    else:
        left, along = db - a.T @ (da @ np.linalg.pinv(b.T)), b
    square = float(np.sum(along * along))
    if square <= 1e-9 * float(np.sum(b * b)):
        return db
    return db - float(np.sum(left * along)) / square * b


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
    added: list[Product],
    number: int,
    yours: list[Array | None],
    right: list[Array | None],
    failing: list[bool],
    names: list[str],
    others: dict[str, Array],
) -> Examined | None:
    """What is wrong with one of the products that are added up, or with their D. others: arrays by name, such as y."""
    p = added[number]
    ga, gb = yours[p.first], yours[p.second]
    if ga is None or gb is None or ga.size != p.a.size or gb.size != p.b.size:
        return None
    ga, gb = ga.reshape(p.a.shape), (gb.reshape(p.b.T.shape).T if p.b_transposed else gb.reshape(p.b.shape))
    wrong_a, wrong_b = failing[p.first] and p.a_is_exclusive, failing[p.second]
    if failing[p.first] and not failing[p.second] and not p.a_is_exclusive:
        sentence = _path(p, ga, names[p.first])
        return None if sentence is None else Examined((p.first,), sentence)
    if (sentence := _wrong_factor(p, ga, gb, wrong_a, wrong_b, names, others)) is not None:
        return Examined((p.first if wrong_a else p.second,), sentence)
    gb = without_penalty(p.a, p.b, ga, gb, p.by_second)
    theirs = np.linalg.pinv(p.a.T) @ gb if p.by_second else ga @ np.linalg.pinv(p.b.T)
    fits_a, fits_b = _equal(theirs @ p.b.T, ga), _equal(p.a.T @ theirs, gb)
    overdetermined = p.by_second and (p.a.shape[1] - len(p.a)) * p.b.shape[1] >= 4
    if wrong_a and wrong_b and fits_a and fits_b:
        about = (p.first, p.second)
    elif wrong_b and fits_b and overdetermined:
        about = (p.second,)
    else:
        return None
    z, bias = sum(q.a @ q.b for q in added), _bias(p, right)
    words = f"z = {' + '.join(q.words for q in added)}"
    about = tuple(dict.fromkeys([*about, *(k for q in added for k in _fitting(q, theirs, yours) if failing[k])]))
    if bias is not None:
        words, z = f"{words} + {names[bias]}", z + others[names[bias]]
        gb = yours[bias]
        if failing[bias] and gb is not None and gb.shape == z.shape[1:] and _equal(theirs.sum(axis=0), gb):
            about = (*about, bias)
    follow = listed([f"d{names[k]}" for k in about]) + (" follow" if len(about) > 1 else " follows")
    bound = np.full(z.shape, EXACT * np.max(np.abs(p.gradient)) / 10)
    name = f"the gradient of {words} ({follow} from it)"
    compared = Comparison(name, theirs, p.gradient, bound, partners={"z": z}, axes=("row", "column"))
    return Examined(about, gradient=compared)


def _fitting(p: Product, d: Array, yours: list[Array | None]) -> Iterator[int]:
    """Which of the gradients of a product follow from D."""
    for k, expected in ((p.first, d @ p.b.T), (p.second, p.a.T @ d)):
        found = yours[k]
        turned = expected.T if k == p.second and p.b_transposed else expected
        if found is not None and found.size == turned.size and _equal(turned, found.reshape(turned.shape)):
            yield k


def _bias(p: Product, right: list[Array | None]) -> int | None:
    """The number of the input that gets the sum of D over the rows: the b of A @ B + b."""
    for k, gradient in enumerate(right):
        if gradient is not None and _equal(p.gradient.sum(axis=0), gradient):
            return k
    return None


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


def _path(p: Product, ga: Array, name: str) -> str | None:
    """A is used elsewhere, too: the part of dA that comes through this product is missing, or has a factor."""
    through = p.gradient @ p.b.T
    error = ga - p.right_a
    factor = 1 + float(np.sum(error * through)) / float(np.sum(through * through))
    if not _equal(error, (factor - 1) * through):
        return None
    if abs(factor) < EXACT:
        return f"d{name} lacks what comes through {p.words}: that path is missing in the sum"
    if abs(factor + 1) < EXACT:
        return f"in d{name}, what comes through {p.words} has the wrong sign"
    return f"in d{name}, what comes through {p.words} is {factor:.6g} times what it should be"


def _right_way(p: Product, b: str) -> str:
    return f"it has to be {b}" if p.b_transposed else f"it has to be {b}.T"


def _well(matrix: Array) -> bool:
    """Whether a matrix has full rank, far from losing it."""
    values = np.linalg.svd(matrix, compute_uv=False)
    return bool(len(values) and values[-1] > 1e-4 * values[0])


def _equal(found: Array, target: Array) -> bool:
    size = float(np.max(np.abs(target), initial=0.0))
    return (
        found.shape == target.shape and size > 0 and bool(np.max(np.abs(found - target), initial=0.0) <= EXACT * size)
    )
