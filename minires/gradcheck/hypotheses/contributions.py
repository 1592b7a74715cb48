"""What each output adds to each entry: contributions overwritten, summed over the wrong axis, on a path left out.

C[j, e] = dy_j J[j, e] is what output j adds to the gradient of entry e; the right gradient adds up all of it.
"""

from __future__ import annotations

import numpy as np

from minires.backend import Array
from minires.gradcheck.hypotheses.comparison import AXES, Comparison, along, position, subsets

TINY = 1e-9
"""Entries of a Jacobian below this part of the largest are 0."""


def _contributions(c: Comparison) -> Array | None:
    if c.evidence is None or not c.is_far or c.yours.shape != c.expected.shape:
        return None
    jacobian = c.evidence.numeric(c.index)
    return None if jacobian is None else c.evidence.dy.reshape(-1, 1) * jacobian


def one_of_several(c: Comparison) -> str | None:
    """Every entry holds one contribution where it should hold the sum of several: overlaps are overwritten."""
    sent = _contributions(c)
    if sent is None or c.evidence.dy.ndim == 0:
        return None
    y_shape = c.evidence.dy.shape
    nothing = TINY * float(np.max(np.abs(sent), initial=0.0))
    for together in ((), *subsets(len(y_shape))):
        groups = sent.reshape(*y_shape, -1).sum(axis=together).reshape(-1, sent.shape[1])
        present = np.abs(groups) > nothing
        several = present.sum(axis=0) > 1
        wrong = c.wrong().ravel()
        if len(groups) < 2 or wrong.sum() < 3 or not np.all(several[wrong]):
            continue
        slack = np.max(c.bound) * 4 + 1e-7 * np.max(np.abs(groups))
        hit = (np.abs(groups - c.yours.ravel()) <= slack).any(axis=0)
        if not hit.all() or np.sum(wrong & (np.abs(c.yours.ravel()) > slack)) < 3:
            continue
        which = [name for a, name in enumerate(c.nouns(y_shape)) if a not in together] if together else ["entry"]
        first = int(np.flatnonzero(wrong)[0])
        count = int(present[:, first].sum())
        return (
            f"every entry of {c.name} holds the contribution of a single {' and '.join(which)} of y, where several "
            f"have to be added up ({position(first, c.yours.shape)} gets {count}): where they overlap, one overwrites "
            "the other (= where += is needed)"
        )
    return None


def wrong_sum(c: Comparison) -> str | None:
    """The products that the gradient adds up are the right ones, added up over the wrong axes."""
    sent = _contributions(c)
    if sent is None or c.evidence.dy.ndim == 0:
        return None
    nothing = TINY * float(np.max(np.abs(sent), initial=0.0))
    if np.any((np.abs(sent) > nothing).sum(axis=1) > 1):
        return None  # an output that depends on several entries is no single product
    product = sent.sum(axis=1).reshape(c.evidence.dy.shape)
    names = c.nouns(product.shape)
    for axes in subsets(product.ndim):
        total = product.sum(axis=axes)
        if total.size != c.yours.size or total.size == product.size:
            continue
        over, right = along(names[a] for a in axes), _right_axes(c, product, names)
        if c.near(total.reshape(c.yours.shape)):
            return f"{c.name} is summed over {over}{right}: the axis of the sum is wrong"
        count = product.size // total.size
        if c.near(total.reshape(c.yours.shape) / count):
            return f"{c.name} is averaged over {over}{right}: the axis of the sum is wrong"
    return None


def _right_axes(c: Comparison, product: Array, names: tuple[str, ...]) -> str:
    for axes in subsets(product.ndim):
        total = product.sum(axis=axes)
        if total.size == c.expected.size:
            error = np.abs(total.reshape(c.expected.shape) - c.expected)
            if np.max(error) <= 1e-7 * np.max(np.abs(total)):
                return f" where the sum runs over {along(names[a] for a in axes)}"
    return ""


def sum_of_another(c: Comparison) -> str | None:
    """The sum (or mean) of another array over some axes: of dy where a product is needed, or of another gradient."""
    if c.evidence is None or not c.is_far:
        return None
    arrays = {"dy": c.evidence.dy, "dy * y": c.evidence.dy * c.evidence.y}
    arrays |= {f"dy * {n}": c.evidence.dy * a for n, a in _inputs(c) if a.shape == c.evidence.dy.shape}
    arrays |= {name: a for name, a in c.partners.items() if name.startswith("d") and name != "dy"}
    for name, array in arrays.items():
        for axes in subsets(array.ndim):
            total = array.sum(axis=axes)
            if total.size != c.yours.size or total.size in (1, array.size):
                continue
            nouns = c.nouns(array.shape) if name.startswith("dy") else AXES.get(array.ndim, ())
            over = along(nouns[a] if nouns else f"axis-{a} index" for a in axes)
            count = array.size // total.size
            for words, value in (("sum", total), ("mean", total / count)):
                if c.near(value.reshape(c.yours.shape)):
                    return f"{c.name} is the {words} of {name} over {over}: the wrong array is summed"
    return None


def dy_alone(c: Comparison) -> str | None:
    """A sum of dy that does not change along some axes of the gradient: what dy is multiplied by is missing."""
    if c.evidence is None or not c.is_far or c.yours.ndim < 2 or c.yours.shape != c.expected.shape:
        return None
    dy, names = c.evidence.dy, c.nouns(c.evidence.dy.shape)
    for flat in subsets(c.yours.ndim):
        level = c.yours.mean(axis=flat, keepdims=True)
        if level.size in (1, c.yours.size) or not c.near(np.broadcast_to(level, c.yours.shape)):
            continue
        for axes in subsets(dy.ndim):
            total = dy.sum(axis=axes)
            if not total.size == level.size < dy.size:
                continue
            if c.near(np.broadcast_to(total.reshape(level.shape), c.yours.shape)):
                over, same = along(names[a] for a in axes), along(c.axis_names[a] for a in flat)
                return (
                    f"{c.name} is the sum of dy over {over}, the same along {same}: what dy has to be multiplied by is "
                    "missing"
                )
    return None


def sum_repeated(c: Comparison) -> str | None:
    """The same along some axes: the sum (or mean) of the right gradient over them, which have to be kept apart."""
    if c.yours.ndim < 2 or not c.is_far or not np.all(c.known):
        return None
    for axes in subsets(c.yours.ndim):
        count = int(np.prod([c.yours.shape[a] for a in axes]))
        if count < 2 or (count == c.yours.size and np.ptp(c.expected) == 0):
            continue
        for words, total in (
            ("sum", c.expected.sum(axis=axes, keepdims=True)),
            ("mean", c.expected.mean(axis=axes, keepdims=True)),
        ):
            if c.near(np.broadcast_to(total, c.yours.shape)):
                over = along(c.axis_names[a] for a in axes)
                return (
                    f"{c.name} is the same along {over}: it is the {words} over {over} of what it should be. Does a "
                    f"{words} run over them that should not, or is a mask missing that tells them apart?"
                )
    return None


def matrix_transposed(c: Comparison) -> str | None:
    """yours = A @ q, right is A.T @ q, with q another input of the same number of rows (or q @ A, for columns)."""
    if c.evidence is None or c.yours.ndim != 2 or not c.is_far or not np.all(c.known):
        return None
    for k, q in enumerate(c.evidence.inputs):
        if k == c.index or q.ndim != 2:
            continue
        for turned, side in ((False, "@ {}"), (True, "{} @")):
            a, right, yours = (m.T if turned else m for m in (q, c.expected, c.yours))
            if a.shape != right.shape or not 1 < a.shape[0] <= a.shape[1]:
                continue
            inverse = np.linalg.pinv(a)
            theirs, needed = yours @ inverse, right @ inverse
            fits = np.allclose(theirs @ a, yours, rtol=1e-7, atol=1e-9 * np.max(np.abs(yours)))
            if not fits or np.max(np.abs(theirs - needed)) <= 1e-5 * np.max(np.abs(needed)):
                continue
            if np.max(np.abs(theirs.T - needed)) <= 1e-6 * np.max(np.abs(needed)):
                name = c.names[k]
                told = side.format(name)
                return (
                    f"{c.name} is {'a matrix A ' + told if not turned else told + ' a matrix A'}, and would be right "
                    f"with A.T in place of A: that matrix has to be transposed before it is multiplied with {name}"
                )
    return None


def map_transposed(c: Comparison) -> str | None:
    """J dy where J^T dy is needed: dy goes through the matrix of forward, not through its transpose."""
    if c.evidence is None or not c.is_far or c.evidence.dy.shape != c.yours.shape or c.yours.size < 3:
        return None
    jacobian = c.evidence.numeric(c.index)
    if jacobian is None or not c.near((jacobian @ c.evidence.dy.ravel()).reshape(c.yours.shape)):
        return None
    name = c.own
    return (
        f"{c.name} multiplies dy by the same matrix that forward multiplies {name} by: it has to be the transposed one"
    )


def later_steps(c: Comparison) -> str | None:
    """Right at the last index along an axis (or the first) and wrong at all others: what steps hand back is wrong."""
    if c.evidence is None or c.yours.ndim < 2 or not c.is_far or c.evidence.dy.ndim == 0:
        return None
    jacobian, dy = c.evidence.numeric(c.index), c.evidence.dy
    if jacobian is None:
        return None
    wrong = c.wrong()
    for axis in range(min(dy.ndim, wrong.ndim)):
        count = wrong.shape[axis]
        if count < 3 or dy.shape[axis] != count:
            continue
        share = np.moveaxis(wrong, axis, 0).reshape(count, -1).mean(axis=1)
        for end, rest, words in ((-1, slice(None, -1), ("last", "later")), (0, slice(1, None), ("first", "earlier"))):
            if share[end] or np.any(share[rest] < 0.5) or not passes_on(jacobian, dy.shape, wrong.shape, axis, end):
                continue
            return (
                f"{c.name} is right for the {words[0]} {c.axis_names[axis]} and wrong for all others: what they get "
                f"from the {words[1]} ones (the gradient that each step hands on to the next) is missing or wrong"
            )
    return None


def passes_on(jacobian: Array, y_shape: tuple[int, ...], shape: tuple[int, ...], axis: int, end: int) -> bool:
    """Whether entries reach outputs with a higher index along the axis (for end = -1) or a lower one, and no others."""
    out, into = (np.indices(s).reshape(len(s), -1)[axis] for s in (y_shape, shape))
    present = np.abs(jacobian) > TINY * np.max(np.abs(jacobian))
    later, earlier = (np.any(present & hit) for hit in (out[:, None] > into[None], out[:, None] < into[None]))
    return bool(later and not earlier if end == -1 else earlier and not later)


def dy_itself(c: Comparison) -> str | None:
    """The upstream handed on as it is."""
    dy = c.partners.get("dy")
    if dy is None or not c.is_far or not c.near(dy):
        return None
    return f"{c.name} is dy itself: what dy has to be multiplied by, or to be added to, is missing"


def _inputs(c: Comparison) -> list[tuple[str, Array]]:
    return list(zip(c.names, c.evidence.inputs, strict=True))


def path_missing(c: Comparison) -> str | None:
    """Only the outputs at the entry's own index along an axis count (or only the others): a path is missing."""
    sent = _contributions(c)
    if sent is None or c.evidence.dy.ndim == 0:
        return None
    y_shape, x_shape = c.evidence.dy.shape, c.yours.shape
    out, into = np.indices(y_shape).reshape(len(y_shape), -1), np.indices(x_shape).reshape(len(x_shape), -1)
    for a, names_a in enumerate(c.nouns(y_shape)):
        for b in range(len(x_shape)):
            if y_shape[a] != x_shape[b] or y_shape[a] < 2:
                continue
            k, e = out[a][:, None], into[b][None, :]
            for words, kept in (
                (f"the {names_a} of y with the same index", k == e),
                (f"other {names_a}s of y, not that with the same index", k != e),
                (f"y at the next {names_a}", k == e + 1),
                (f"y at the same and the next {names_a}", (k == e) | (k == e + 1)),
            ):
                if c.near((sent * kept).sum(axis=0).reshape(x_shape)):
                    return (
                        f"{c.name} counts only what reaches {words} along axis {b}: "
                        "the other paths from it to y are missing"
                    )
    return None
