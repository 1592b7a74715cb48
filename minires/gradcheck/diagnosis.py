"""Which mistake explains a failing gradient?

Three witnesses are asked, in this order: the rules of conduct (an array changed in place explains itself), the
catalogue (the faults of the op `like`, run on the same inputs: the one with the same outputs is the culprit; then pairs
of faults), and the structural hypotheses (`structure.py`), which know nothing about the function. If none of them
explains every entry, the diagnosis says so, and says where the error sits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from minires.backend import Array
from minires.gradcheck import definitions, structure
from minires.gradcheck.conduct import RULES
from minires.gradcheck.faults import Fault, faults_of
from minires.gradcheck.numerical import is_single
from minires.gradcheck.structure import Comparison


@dataclass
class Case:
    """A failing check, with all that is known about it."""

    names: list[str]
    """Of the inputs."""
    inputs: tuple[Array, ...]
    dy: Array
    y: Array
    gradients: list[Array | None]
    """As they were returned; none at all where y has the wrong shape already."""
    numeric: list[Array | None]
    """The whole numerical gradient of each input, where every entry was measured."""
    bounds: list[Array]
    """How exactly each entry is known: an array of the input's shape, or one number."""
    failing: list[bool]
    """Of each gradient."""
    like: str | None = None
    options: dict = field(default_factory=dict)
    y_bound: float = 0.0
    y_failing: bool = False
    broken: list[str] = field(default_factory=list)
    """Names of the rules of conduct that were broken."""
    rerun: Callable[[tuple[Array, ...]], tuple[Array | None, ...]] | None = None
    """The gradients of the function at other inputs, with the same dy."""

    @property
    def outputs(self) -> list[Array | None]:
        """y and the gradients: what a fault has to reproduce."""
        return [self.y, *self.gradients]

    @property
    def tolerances(self) -> list[Array]:
        return [np.array(self.y_bound), *self.bounds]


@dataclass
class Finding:
    """The diagnosis, and the catalogue's fault behind it, if it is one."""

    sentence: str
    fault: str | None = None
    alike: list[str] = field(default_factory=list)
    hint: str | None = None
    complete: bool = True
    """Whether all that fails is explained."""


def diagnose(case: Case) -> Finding:
    """Names what is wrong with a check that failed."""
    conduct = _by_conduct(case)
    if conduct is not None and not case.y_failing and not any(case.failing):
        return conduct
    by_structure = _by_structure(case)
    numbers = (
        _by_catalogue(case, _whole, _pair)
        or (by_structure if by_structure.complete else None)
        or _by_catalogue(case, _scaled)
        or by_structure
    )
    if conduct is not None:
        numbers.sentence = f"{conduct.sentence.removesuffix('.')}. Besides, {numbers.sentence}"
        numbers.fault = " + ".join(name for name in (conduct.fault, numbers.fault) if name) or None
    return numbers


# --- conduct -------------------------------------------------------------------------------------------------------

_EXPLAINED_BY_GRADIENT = ("not linear in dy", "dy ignored")
"""Rules whose breach shows in the gradient as well; the catalogue knows more precise names for them."""


def _by_conduct(case: Case) -> Finding | None:
    broken = [name for name in case.broken if name not in _EXPLAINED_BY_GRADIENT]
    if not broken:
        return None
    same = [f for f in faults_of(case.like or "") if f.conduct in broken]
    if not same:
        return Finding(RULES[broken[0]])
    if len(same) > 1:
        same.sort(key=lambda fault: not _reproduces_ties(fault, case))
    return Finding(_told(same[0]), same[0].name, [f.name for f in same[1:]], same[0].hint)


def _reproduces_ties(fault: Fault, case: Case) -> bool:
    """Whether a fault that shows only where inputs are equally large gives the same gradient there."""
    tied = np.round(case.inputs[0])
    _, saved = fault.forward(tied, **case.options)
    expected = fault.backward(case.dy.copy(), saved)[0]
    return case.rerun is not None and np.allclose(case.rerun((tied,))[0], expected, rtol=1e-9, atol=1e-12)


# --- the catalogue -------------------------------------------------------------------------------------------------


@dataclass
class _Suspect:
    """A fault of the catalogue and its outputs on the inputs of the case, y first."""

    fault: Fault
    outputs: list[Array]


def _by_catalogue(case: Case, *ways: Callable[[Case, list[Array], list[_Suspect]], Finding | None]) -> Finding | None:
    if case.like not in definitions.DEFINITIONS or not faults_of(case.like):
        return None
    right = _right_outputs(case)[: len(case.outputs)]
    suspects = [s for s in _suspects(case) if not all(map(_same, s.outputs, right))]
    return next((finding for way in ways if (finding := way(case, right, suspects)) is not None), None)


def _clean(case: Case, right: list[Array]) -> list[bool]:
    """Which outputs are as they should be."""
    return [_matches(mine, ours, tol) for mine, ours, tol in zip(case.outputs, right, case.tolerances, strict=True)]


def _whole(case: Case, right: list[Array], suspects: list[_Suspect]) -> Finding | None:
    """A fault that explains everything: the same y and the same gradients."""
    if all(_clean(case, right)):
        return None
    full = [s for s in suspects if all(_matches_all(case, s.outputs, range(len(case.outputs))))]
    if not full and case.y_failing and not any(case.failing):
        full = [s for s in suspects if _matches_all(case, s.outputs, [0])[0] and not _same(s.outputs[0], right[0])]
    if not full:
        return None
    first, *others = (s.fault for s in full)
    return Finding(_told(first), first.name, [f.name for f in others], first.hint)


def _right_outputs(case: Case) -> list[Array]:
    y, cache = definitions.run_forward(case.like, case.inputs, case.options)
    if not case.gradients:
        return [np.asarray(y)]
    return [np.asarray(y), *definitions.run_backward(case.like, case.dy, cache)[: len(case.inputs)]]


def _suspects(case: Case) -> list[_Suspect]:
    """Every fault of the op that runs on these inputs (some need a square weight, or a bias) and shows on them."""
    found = []
    for fault in faults_of(case.like):
        if fault.conduct is not None:
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
    single = [x is not None and is_single(x) for x in case.outputs]
    return [_matches(case.outputs[i], outputs[i], case.tolerances[i], 2.0**-20 if single[i] else 1e-13) for i in which]


def _same(a: Array, b: Array) -> bool:
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-12, atol=0))


def _scaled(case: Case, right: list[Array], suspects: list[_Suspect]) -> Finding | None:
    """A fault of the catalogue, times a constant factor."""
    for suspect in suspects:
        tale = []
        for i, (mine, theirs) in enumerate(zip(case.outputs, suspect.outputs, strict=True)):
            if _matches(mine, theirs, case.tolerances[i]):
                continue
            if i == 0 or mine is None or mine.shape != theirs.shape or _same(theirs, right[i]):
                tale = []
                break
            comparison = _comparison(case, i - 1, theirs)
            sentence = structure.constant_factor(comparison) if np.any(mine) else None
            if sentence is None:
                tale = []
                break
            tale.append(sentence)
        if tale:
            told = f"{_told(suspect.fault)} Measured against that, {'; '.join(tale)}"
            return Finding(told, suspect.fault.name, hint=suspect.fault.hint)
    return None


def _pair(case: Case, right: list[Array], suspects: list[_Suspect]) -> Finding | None:
    """Two faults at once: in different arrays, or both in one, so that their errors add up."""
    clean = _clean(case, right)
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
            told = f"two faults at once: {_told(a.fault)} And {_told(b.fault)}"
            return Finding(told, name, hint=f"{a.fault.hint} {b.fault.hint}")
    return None


def _mixed(right: Array, a: Array, b: Array) -> Array | None:
    """Both errors at once."""
    return a + b - right if right.shape == a.shape == b.shape else None


def _told(fault: Fault) -> str:
    return f"{fault.name}: {fault.sentence}"


# --- structure -----------------------------------------------------------------------------------------------------


def _by_structure(case: Case) -> Finding:
    sentences, complete = [], True
    if case.y_failing:
        expected = _right_outputs(case)[0]
        bound = np.full(expected.shape, case.y_bound)
        comparison = Comparison("y", case.y, expected, bound, _sizes(case))
        sentences.append(f"forward: {structure.explain(comparison) or f'y is wrong {structure.place(comparison)}'}")
    for i, failing in enumerate(case.failing):
        if failing:
            sentence, explained = _gradient_sentence(case, i)
            sentences.append(sentence)
            complete = complete and explained
    rules = [RULES[name] for name in case.broken if name in _EXPLAINED_BY_GRADIENT]
    told = "; ".join([*rules, *sentences]) or "; ".join(RULES[name] for name in case.broken)
    return Finding(told, complete=complete)


def _gradient_sentence(case: Case, i: int) -> tuple[str, bool]:
    """What is wrong with one gradient, and whether that explains all of it."""
    name, mine = f"d{case.names[i]}", case.gradients[i]
    if mine is None:
        return f"{name} is missing: backward returned None for it", True
    expected = _expected(case, i)
    if expected is None:
        return _from_samples(case, i), False
    comparison = _comparison(case, i, expected)
    sentence = structure.explain(comparison)
    if sentence is not None:
        return sentence, True
    known = "neither the catalogue nor a structural hypothesis" if case.like else "no structural hypothesis"
    advice = "" if case.like else " (like= and options=, if it is one of minires' ops, bring in the catalogue)"
    return f"{name} is wrong {structure.place(comparison)}; {known} explains it{advice}", False


def _expected(case: Case, i: int) -> Array | None:
    """The right gradient: by the op, where forward is that op; otherwise the numerical one, if it is complete."""
    if case.like is not None and not case.y_failing:
        right = _right_outputs(case)[1:]
        if i < len(right) and right[i] is not None:
            return right[i]
    return case.numeric[i]


def _comparison(case: Case, i: int, expected: Array) -> Comparison:
    bound = np.broadcast_to(case.bounds[i], expected.shape)
    partners = {"dy": case.dy} | {n: x for n, x in zip(case.names, case.inputs, strict=True) if x is not case.inputs[i]}
    for j, name in enumerate(case.names):
        if j != i and (other := _expected_or_none(case, j)) is not None:
            partners[f"d{name}"] = other
    axes = ("output channel", "input channel", "kernel row", "kernel column")
    is_weight = i > 0 and expected.ndim == 4
    return Comparison(
        f"d{case.names[i]}",
        case.gradients[i],
        expected,
        bound,
        _sizes(case),
        case.inputs[i],
        axes if is_weight else _axes(expected, i),
        partners,
    )


def _axes(expected: Array, i: int) -> tuple[str, ...] | None:
    if expected.ndim == 2:
        return ("sample", "feature") if i == 0 else ("row", "column")
    return ("channel",) if expected.ndim == 1 else None


def _expected_or_none(case: Case, i: int) -> Array | None:
    try:
        return _expected(case, i)
    except (ValueError, TypeError):
        return None


def _from_samples(case: Case, i: int) -> str:
    """For a large tensor without a reference: only sampled entries are known, so only little can be said."""
    mine = case.gradients[i]
    if mine.shape != case.inputs[i].shape:
        return f"d{case.names[i]} has shape {mine.shape} where {case.inputs[i].shape} is needed"
    if not np.any(mine):
        return f"d{case.names[i]} is all zeros: it is never computed, or not returned"
    return (
        f"d{case.names[i]} is wrong; it is too large to be measured entry by entry. Check a smaller input, "
        "or raise max_entries, to be told more"
    )


def _sizes(case: Case) -> dict[str, float]:
    """Numbers that get into gradients as wrong factors, by name."""
    x = case.inputs[0]
    sizes: dict[str, float] = {"2": 2, "3": 3}
    if x.ndim >= 2:
        sizes |= {"the batch size N": x.shape[0]}
        sizes |= {("the number of channels" if x.ndim == 4 else "the number of columns"): x.shape[1]}
        sizes |= {"the number of entries": x.size}
    if x.ndim == 4:
        h, w = x.shape[2:]
        sizes |= {"the number of pixels H*W": h * w, "N*H*W": x.shape[0] * h * w, "H": h, "W": w}
    if case.y.ndim == 4:
        ho, wo = case.y.shape[2:]
        sizes |= {"the number of output pixels": ho * wo, "N times the output pixels": len(case.y) * ho * wo}
    if len(case.inputs) > 1 and case.inputs[1].ndim == 4:
        sizes["the kernel's area"] = case.inputs[1].shape[2] * case.inputs[1].shape[3]
    for name, value in case.options.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            sizes[f"{name} ({value:.4g})"] = value
    if "kernel_size" in case.options:
        sizes["the window's area"] = float(np.prod(np.broadcast_to(case.options["kernel_size"], 2)))
    if "p" in case.options:
        sizes["1 - p"] = 1 - case.options["p"]
    if x.ndim >= 2 and x.shape[1] and (m := x.size // x.shape[1]) > 1:
        sizes["m / (m - 1), biased against unbiased variance"] = m / (m - 1)
    return sizes
