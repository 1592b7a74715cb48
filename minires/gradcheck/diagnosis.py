"""Which mistake explains a failing check?

Three witnesses are heard in this order:

1. the rules (`rules.py`): an array changed in place explains itself;
2. the catalogue (`catalogue_match.py`): the fault of the op `like` that gives the same outputs on the same inputs is
   the culprit; if no single fault does, pairs of faults are tried;
3. the hypotheses (`hypotheses/`), which know nothing about the function.

Where none of them explains every entry, the diagnosis says so, and says where the error lies.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np

from minires.backend import Array
from minires.gradcheck import catalogue_match, definitions, forgotten_options, hypotheses, wrong_forward
from minires.gradcheck.catalogue_match import right_outputs, told
from minires.gradcheck.faults import Fault, faults_of
from minires.gradcheck.findings import Case, Finding
from minires.gradcheck.hypotheses import Comparison, products
from minires.gradcheck.hypotheses.comparison import fitted_factor, listed, numbered
from minires.gradcheck.hypotheses.shapes import shapes_differ
from minires.gradcheck.rules import LINEARITY, RULES
from minires.gradcheck.several_gradients import together


def diagnose(case: Case) -> Finding:
    """Names what is wrong with a check that failed."""
    broken = _by_rules(case)
    if broken is not None and not case.y_failing and not any(case.failing):
        return broken
    numbers = (
        _by_options(case) or catalogue_match.search_one(case) or _by_order(case) or catalogue_match.search_two(case)
    )
    if numbers is None:
        numbers = _by_hypotheses(case)
        if not numbers.complete:
            numbers = catalogue_match.search_scaled(case, _comparison) or numbers
    if broken is not None:
        numbers.sentence = f"{broken.sentence.removesuffix('.')}. Besides, {numbers.sentence}"
        numbers.fault = " + ".join(name for name in (broken.fault, numbers.fault) if name) or None
    return numbers


def _by_options(case: Case) -> Finding | None:
    """Settings under which y is right: options= were forgotten, or forward ignores them."""
    if not case.y_failing or case.like not in definitions.DEFINITIONS:
        return None
    if catalogue_match.forward_faults(case):
        return None
    changed = forgotten_options.find(case.like, case.inputs, case.options, case.y)
    return None if changed is None else Finding(f"forward: {forgotten_options.sentence(case.like, changed)}")


def _by_order(case: Case) -> Finding | None:
    """All gradients are there and right, but in another order."""
    if case.y_failing or sum(case.failing) < 2 or len(case.gradients) > 5:
        return None
    right = [_expected_or_none(case, i) for i in range(len(case.names))]
    if any(g is None or not np.all(np.isfinite(g)) for g in right) or any(g is None for g in case.gradients):
        return None
    for order in list(permutations(range(len(right))))[1:]:
        pairs = [(case.gradients[i], right[j], case.bounds[j]) for i, j in enumerate(order)]
        if all(a.shape == b.shape and np.all(np.abs(a - b) <= np.max(bound) * 4) for a, b, bound in pairs):
            names = [f"d{case.names[j]}" for j in order]
            expected = ", ".join(f"d{name}" for name in case.names)
            return Finding(
                f"the gradients are right, but backward returns them in the wrong order: what is returned is "
                f"{', '.join(names)}, expected is {expected}"
            )
    return None


# --- rules -------------------------------------------------------------------------------------------------------

_EXPLAINED_BY_GRADIENT = LINEARITY
"""Rules whose breach shows in the gradient as well; the catalogue knows more precise names for them."""


def _by_rules(case: Case) -> Finding | None:
    broken = [name for name in case.broken if name not in _EXPLAINED_BY_GRADIENT]
    if not broken:
        return None
    same = [f for f in faults_of(case.like or "") if f.rule in broken]
    if not same:
        return Finding(RULES[broken[0]])
    if len(same) > 1:
        same.sort(key=lambda fault: not _reproduces_ties(fault, case))
    return Finding(told(same[0]), same[0].name, [f.name for f in same[1:]], same[0].hint)


def _reproduces_ties(fault: Fault, case: Case) -> bool:
    """Whether a fault that shows only where inputs are equally large gives the same gradient there."""
    tied = np.round(case.inputs[0])
    _, saved = fault.forward(tied, **case.options)
    expected = fault.backward(case.dy.copy(), saved)[0]
    return case.rerun is not None and np.allclose(case.rerun((tied,))[0], expected, rtol=1e-9, atol=1e-12)


# --- hypotheses -----------------------------------------------------------------------------------------------------


def _by_hypotheses(case: Case) -> Finding:
    sentences, complete, finding = [], True, None
    if case.y_failing and (known := catalogue_match.forward_faults(case)):
        finding = Finding(told(known[0]), known[0].name, [f.name for f in known[1:]], known[0].hint)
        sentences.append(finding.sentence)
    elif case.y_failing:
        sentences.append(f"forward: {wrong_forward.explain(case, right_outputs(case)[0], sizes(case))}")
    of_op = _right_for_the_op(case)
    if of_op:
        told_names = listed([f"d{case.names[i]}" for i in of_op])
        sentences.append(f"{told_names} {'is that' if len(of_op) == 1 else 'are those'} of {case.like} already")
    of_one = {i: _gradient_sentence(case, i) for i, failing in enumerate(case.failing) if failing and i not in of_op}
    complete = all(explained for _, explained in of_one.values())
    of_products = _by_products(case, of_one) if not complete and not case.y_failing else {}
    sentences += together(of_products | {f"d{case.names[i]}": of_one[i] for i in of_one})
    rules = [
        RULES[name] for name in case.broken if name in _EXPLAINED_BY_GRADIENT and _tells_more(name, case, complete)
    ]
    sentence = "; ".join([*rules, *sentences, *_between(case)]) or "; ".join(RULES[name] for name in case.broken)
    if finding is not None:
        finding.sentence, finding.complete = sentence.replace(".; ", ". Besides, ", 1), complete
        return finding
    return Finding(sentence, complete=complete)


def _by_products(case: Case, of_one: dict[int, tuple[str, bool]]) -> dict[str, tuple[str, bool]]:
    """What is wrong in a product of two inputs, or between it and y; what this explains is taken out of `of_one`."""
    right = [_expected_or_none(case, i) for i in range(len(case.names))]
    others = dict(zip(case.names, case.inputs, strict=True)) | {"y": case.y}
    told = {}
    for added in products.find(case.inputs, case.names, right):
        for number, product in enumerate(added):
            found = products.examine(added, number, case.gradients, right, case.failing, case.names, others)
            if found is None or not all(i in of_one and not of_one[i][1] for i in found.about):
                continue
            sentence, explained = found.sentence, True
            if found.gradient is not None:
                sentence = hypotheses.explain(found.gradient)
                if sentence is None and len(found.about) > 1:
                    sentence, explained = hypotheses.located(found.gradient), False
            if sentence is not None:
                told[product.words] = sentence, explained
                for i in found.about:
                    del of_one[i]
    return told


def _tells_more(rule: str, case: Case, complete: bool) -> bool:
    """Whether a rule on linearity adds anything: not where all is explained, or where an array changed in place."""
    in_place = any("changed" in name for name in case.broken)
    return rule in _EXPLAINED_BY_GRADIENT and (rule == "dy ignored" or not (complete or in_place))


def _right_for_the_op(case: Case) -> list[int]:
    """Gradients that disagree with a wrong forward, but are what the op's backward gives."""
    if not case.y_failing or not case.gradients:
        return []
    pairs = zip(case.gradients, right_outputs(case)[1:], case.bounds, strict=False)
    same = [
        g is not None and g.shape == right.shape and np.all(np.abs(g - right) <= np.max(bound) + 1e-9 * np.abs(right))
        for g, right, bound in pairs
    ]
    return [i for i, failing in enumerate(case.failing) if failing and i < len(same) and same[i]]


def _between(case: Case) -> list[str]:
    """Of a function of many tensors: which gradients are right, so that the error lies where they have not been yet."""
    right = [f"d{n}" for n, failing in zip(case.names, case.failing, strict=False) if not failing]
    wrong = [f"d{n}" for n, failing in zip(case.names, case.failing, strict=False) if failing]
    if len(case.names) < 3 or case.like is not None or not right or len(wrong) < 2:
        return []
    verb = "is" if len(right) == 1 else "are"
    return [f"{listed(right)} {verb} right, {listed(wrong)} are wrong: the error lies in a step that only these share"]


def _gradient_sentence(case: Case, i: int) -> tuple[str, bool]:
    """What is wrong with one gradient, and whether that explains all of it."""
    name, mine = f"d{case.names[i]}", case.gradients[i]
    if mine is None:
        return f"{name} is missing: backward returned None for it", True
    expected = _expected(case, i)
    if expected is None:
        return _from_samples(case, i), False
    comparison = _comparison(case, i, expected)
    sentence = catalogue_match.of_gradient(case, i) or hypotheses.explain(comparison)
    return (sentence, True) if sentence is not None else (hypotheses.located(comparison), False)


def _expected(case: Case, i: int) -> Array | None:
    """The right gradient: by the op, where forward is that op; otherwise the numerical one, if it is complete."""
    if case.like is not None and not case.y_failing:
        right = right_outputs(case)[1:]
        if i < len(right) and right[i] is not None:
            return right[i]
    return case.numeric[i]


def _comparison(case: Case, i: int, expected: Array) -> Comparison:
    bound = np.broadcast_to(case.bounds[i], expected.shape)
    known = sizes(case) | (_factors_of_others(case, i) if expected.size == 1 else {})
    partners = {"dy": case.dy} | {n: x for n, x in zip(case.names, case.inputs, strict=True) if x is not case.inputs[i]}
    for j, name in enumerate(case.names):
        if j != i and (other := _expected_or_none(case, j)) is not None:
            partners[f"d{name}"] = other
    return Comparison(
        f"d{case.names[i]}",
        case.gradients[i],
        expected,
        bound,
        known,
        case.inputs[i],
        _axes(case, expected, i),
        partners,
        case.evidence,
        i,
        tuple(case.names),
        case.like is not None,
        tuple(f"d{name}" for j, name in enumerate(case.names) if j != i and case.failing[j]),
        case.rerun,
    )


def _factors_of_others(case: Case, i: int) -> dict[str, float]:
    """Factors that other gradients are off by: what a single number can be compared with."""
    found = {}
    for j, name in enumerate(case.names):
        right = _expected_or_none(case, j) if j != i and case.failing[j] else None
        yours = case.gradients[j]
        if right is not None and right.size > 1 and yours is not None and yours.shape == right.shape:
            factor, _ = fitted_factor(yours, right, np.broadcast_to(case.bounds[j], right.shape))
            if factor and np.allclose(yours, factor * right, rtol=1e-6):
                found[f"the factor of d{name}"] = abs(factor)
    return found


def _axes(case: Case, expected: Array, i: int) -> tuple[str, ...] | None:
    """What an index along each axis of a gradient is called: by its number, unless the op is known."""
    if case.like is None:
        return ("row", "column") if expected.ndim == 2 else numbered(expected.ndim)
    if expected.ndim == 4 and i > 0:
        return ("output channel", "input channel", "kernel row", "kernel column")
    if expected.ndim == 2:
        return ("sample", "feature") if i == 0 else ("row", "column")
    if expected.ndim == 1:
        return ("channel",) if case.like in ("conv2d", "batchnorm") else ("entry",)
    return None


def _expected_or_none(case: Case, i: int) -> Array | None:
    try:
        return _expected(case, i)
    except (ValueError, TypeError):
        return None


def _from_samples(case: Case, i: int) -> str:
    """For a large tensor without a reference: only sampled entries are known, so only little can be said."""
    mine = case.gradients[i]
    if mine.shape != case.inputs[i].shape:
        return shapes_differ(f"d{case.names[i]}", mine.shape, case.inputs[i].shape)
    if not np.any(mine):
        return f"d{case.names[i]} is all zeros: it is never computed, or not returned"
    return (
        f"d{case.names[i]} is wrong; it is too large to be measured entry by entry. Check a smaller input, "
        "or raise max_entries, to be told more"
    )


def sizes(case: Case) -> dict[str, float]:
    """Numbers that get into gradients as wrong factors, by name."""
    x = case.inputs[0]
    sizes: dict[str, float] = {
        f"{name} ({value:.4g})": value
        for name, value in case.options.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    }
    if "kernel_size" in case.options:
        sizes["the window's area"] = float(np.prod(np.broadcast_to(case.options["kernel_size"], 2)))
    sizes |= {"2": 2, "3": 3}
    if case.y.size == 1 and case.y.item() > 0:
        sizes[f"y itself ({case.y.item():.4g})"] = case.y.item()
    of_batch = case.like is not None or (case.y.ndim > 0 and len(case.y) == len(x) if x.ndim else False)
    if x.ndim >= 2:
        sizes |= {"the batch size N" if of_batch else "the length of axis 0": x.shape[0]}
        second = "the number of columns" if x.ndim == 2 else "the length of axis 1"
        sizes |= {"the number of channels" if x.ndim == 4 and case.like else second: x.shape[1]}
        sizes |= {"the number of entries": x.size}
    if x.ndim == 4 and case.like is None:
        sizes |= {"the length of axis 2": x.shape[2], "the length of axis 3": x.shape[3]}
        sizes |= {"the product of the lengths of axes 2 and 3": x.shape[2] * x.shape[3]}
    elif x.ndim == 4:
        h, w = x.shape[2:]
        sizes |= {"the number of pixels H*W": h * w, "N*H*W": x.shape[0] * h * w, "the height H": h, "the width W": w}
    if case.y.ndim == 4 and case.like is not None:
        ho, wo = case.y.shape[2:]
        sizes |= {"the number of output pixels": ho * wo, "N times the output pixels": len(case.y) * ho * wo}
    elif case.y.ndim == 4:
        sizes["the product of the lengths of y's axes 2 and 3"] = case.y.shape[2] * case.y.shape[3]
    for words, ratio in (("x for each of y", x.size / case.y.size), ("y for each of x", case.y.size / x.size)):
        if case.y.ndim > 1 and ratio > 1 and ratio == int(ratio):
            sizes[f"the number of entries of {words}"] = ratio
    if len(case.inputs) > 1 and case.inputs[1].ndim == 4 and case.like is not None:
        sizes["the kernel's area"] = case.inputs[1].shape[2] * case.inputs[1].shape[3]
    for name, array in zip(case.names, case.inputs, strict=True):
        if array.size == 1 and np.abs(array.item()) not in (0, 1):
            sizes[f"{name} ({array.item():.4g})"] = abs(array.item())
    if "p" in case.options:
        sizes["1 - p"] = 1 - case.options["p"]
    if case.like == "softmax_cross_entropy" and x.shape[1]:
        sizes["N / K, the samples over the classes"] = x.shape[0] / x.shape[1]
    if x.ndim >= 2 and x.shape[1] and (m := x.size // x.shape[1]) > 1:
        has_variance = case.like is not None and "norm" in case.like
        means = ", biased against unbiased variance" if has_variance else f" with m = {m}"
        sizes[f"m / (m - 1){means}"] = m / (m - 1)
    return sizes
