"""Which fault of the catalogue, run on the same inputs, gives the same outputs as a failing check?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from minires.backend import Array
from minires.gradcheck import definitions, hypotheses
from minires.gradcheck.faults import Fault, faults_of
from minires.gradcheck.findings import Case, Finding
from minires.gradcheck.hypotheses import Comparison
from minires.gradcheck.precision import looks_single


@dataclass
class _Suspect:
    """A fault of the catalogue and its outputs on the inputs of the case, y first."""

    fault: Fault
    outputs: list[Array]


def search_one(case: Case) -> Finding | None:
    """A fault that gives all the outputs of the case."""
    right, suspects = _right_and_suspects(case)
    return _whole(case, right, suspects)


def search_two(case: Case) -> Finding | None:
    """Two faults that give all the outputs of the case together."""
    return _pair(case, *_right_and_suspects(case))


def of_gradient(case: Case, i: int) -> str | None:
    """The sentence of a fault that explains gradient i, and changes nothing that it does not explain."""
    if case.y_failing:
        return None
    right, suspects = _right_and_suspects(case)
    for s in suspects:
        changed = [k for k, (a, b) in enumerate(zip(s.outputs, right, strict=True)) if not _same(a, b)]
        if i + 1 in changed and all(_matches_all(case, s.outputs, changed)):
            return told(s.fault).removesuffix(".")
    return None


def search_scaled(case: Case, comparison: Callable[[Case, int, Array], Comparison]) -> Finding | None:
    """A fault that gives the outputs of the case up to constant factors."""
    return _scaled(case, *_right_and_suspects(case), comparison)


def forward_faults(case: Case) -> list[Fault]:
    """Faults of forward that give exactly this y, whatever the gradients are."""
    right, suspects = _right_and_suspects(case)
    return [
        s.fault for s in suspects if not _same(s.outputs[0], right[0]) and _matches_all(case, [s.outputs[0]], [0])[0]
    ]


def _right_and_suspects(case: Case) -> tuple[list[Array], list[_Suspect]]:
    if case.like not in definitions.DEFINITIONS or not faults_of(case.like):
        return [], []
    right = right_outputs(case)[: len(case.outputs)]
    return right, [s for s in _suspects(case) if not all(map(_same, s.outputs, right))]


def _clean(case: Case, right: list[Array]) -> list[bool]:
    """Which outputs are as they should be."""
    return [_matches(mine, ours, tol) for mine, ours, tol in zip(case.outputs, right, case.tolerances, strict=True)]


def _whole(case: Case, right: list[Array], suspects: list[_Suspect]) -> Finding | None:
    """A fault that explains everything: the same y and the same gradients."""
    if not suspects or all(_clean(case, right)):
        return None
    full = [s for s in suspects if all(_matches_all(case, s.outputs, range(len(case.outputs))))]
    if not full and case.y_failing and not any(case.failing):
        full = [s for s in suspects if _matches_all(case, s.outputs, [0])[0] and not _same(s.outputs[0], right[0])]
    if not full:
        return None
    first, *others = (s.fault for s in full)
    return Finding(told(first), first.name, [f.name for f in others], first.hint)


def right_outputs(case: Case) -> list[Array]:
    y, cache = definitions.run_forward(case.like, case.inputs, case.options)
    if not case.gradients:
        return [np.asarray(y)]
    return [np.asarray(y), *definitions.run_backward(case.like, case.dy, cache)[: len(case.inputs)]]


def _suspects(case: Case) -> list[_Suspect]:
    """Every fault of the op that runs on these inputs (some need a square weight, or a bias) and shows on them."""
    found = []
    for fault in faults_of(case.like):
        if fault.rule is not None:
            continue
        try:
            with np.errstate(all="ignore"):
                y, saved = fault.forward(*(x.copy() for x in case.inputs), **_settings(case))
                gradients = fault.backward(case.dy.copy(), saved) if case.gradients else ()
        except (ValueError, IndexError, KeyError, TypeError):
            continue
        if len(gradients) == len(case.gradients):  # not so for a fault of the bias where there is none
            found.append(_Suspect(fault, [np.asarray(y), *(np.asarray(g) for g in gradients)]))
    return found


def _settings(case: Case) -> dict:
    """The options, with the defaults that faults of the catalogue look up written out."""
    defaults = {"batchnorm": {"eps": 1e-5}, "leaky_relu": {"slope": 0.01}}.get(case.like, {})
    return defaults | case.options


def _matches(mine: Array | None, theirs: Array, tolerance: Array, rounding: float = 1e-13) -> bool:
    """Whether two outputs are one: to within the bounds, and to `rounding` of the largest entry."""
    if mine is None or mine.shape != theirs.shape:
        return False
    if tolerance.shape != mine.shape:
        tolerance = np.max(tolerance)
    slack = np.broadcast_to(tolerance + rounding * float(np.max(np.abs(theirs), initial=0.0)), mine.shape)
    both = np.isfinite(theirs)
    return bool(np.array_equal(both, np.isfinite(mine)) and np.all((np.abs(mine - theirs) <= slack)[both]))


def _matches_all(case: Case, outputs: list[Array], which: Sequence[int]) -> list[bool]:
    single = [x is not None and looks_single(x) for x in case.outputs]
    return [_matches(case.outputs[i], outputs[i], case.tolerances[i], 2.0**-20 if single[i] else 1e-13) for i in which]


def _same(a: Array, b: Array) -> bool:
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-12, atol=0))


def _scaled(
    case: Case, right: list[Array], suspects: list[_Suspect], comparison: Callable[[Case, int, Array], Comparison]
) -> Finding | None:
    """A fault of the catalogue, times a constant factor."""
    for suspect in suspects:
        tale = []
        for i, (mine, theirs) in enumerate(zip(case.outputs, suspect.outputs, strict=True)):
            if _matches(mine, theirs, case.tolerances[i]):
                continue
            if i == 0 or mine is None or mine.shape != theirs.shape or _same(theirs, right[i]):
                tale = []
                break
            sentence = hypotheses.constant_factor(comparison(case, i - 1, theirs)) if np.any(mine) else None
            if sentence is None:
                tale = []
                break
            tale.append(sentence)
        if tale:
            sentence = f"{told(suspect.fault)} Measured against that, {'; '.join(tale)}"
            return Finding(sentence, suspect.fault.name, hint=suspect.fault.hint)
    return None


def _pair(case: Case, right: list[Array], suspects: list[_Suspect]) -> Finding | None:
    """Two faults at once: in different arrays, or both in one, so that their errors add up."""
    clean = _clean(case, right) if suspects else []
    for a, b in combinations(suspects, 2):
        active = [False, False]
        for i, mine in enumerate(case.outputs):
            if clean[i]:
                continue
            mixed = _mixed(right[i], a.outputs[i], b.outputs[i])
            for which, theirs in ((0, a.outputs[i]), (1, b.outputs[i]), (2, mixed)):
                if theirs is not None and _matches(mine, theirs, case.tolerances[i]):
                    active = [active[0] or which != 1, active[1] or which != 0]
                    break
            else:
                active = [False, False]
                break
        if all(active):
            name = f"{a.fault.name} + {b.fault.name}"
            sentence = f"two faults at once: {told(a.fault)} And {told(b.fault)}"
            return Finding(sentence, name, hint=f"{a.fault.hint} {b.fault.hint}")
    return None


def _mixed(right: Array, a: Array, b: Array) -> Array | None:
    """Both errors at once."""
    return a + b - right if right.shape == a.shape == b.shape else None


def told(fault: Fault) -> str:
    return f"{fault.name}: {fault.sentence}"
