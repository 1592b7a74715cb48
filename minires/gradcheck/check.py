"""`check_op`: a pair of plain functions, held against numerical derivatives and, with `like`, the op's definition."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from minires.backend import Array
from minires.checks import check_whole
from minires.gradcheck import blind_spots, definitions, identities, layouts, precision, rules
from minires.gradcheck import ties as ties_of_pool
from minires.gradcheck.call import Call
from minires.gradcheck.diagnosis import diagnose
from minires.gradcheck.findings import Case
from minires.gradcheck.hypotheses.shapes import shapes_differ
from minires.gradcheck.jacobians import Jacobians
from minires.gradcheck.kinks import Reach
from minires.gradcheck.numerical import ROUNDOFF
from minires.gradcheck.probing import Measured, Plan
from minires.gradcheck.report import GradReport, TensorReport
from minires.gradcheck.rules import RULES
from minires.gradcheck.tensor_check import Examination
from minires.gradcheck.ties import check_convention
from minires.gradcheck.user_functions import Subject, check_repeatable, input_names, prepare_inputs

METHODS = ("central", "complex")
MAX_ENTRIES = 1000
"""Tensors of `check_op` up to this size are checked entry by entry."""

DIRECTIONS = 4
"""Random directions through a tensor that is too large for that."""


def check_op(
    forward: Callable,
    backward: Callable,
    inputs: Array | Sequence[Array | None],
    *,
    like: str | None = None,
    options: dict | None = None,
    dy: Array | float | None = None,
    layout: str | None = None,
    ties: str | None = None,
    method: str = "central",
    max_entries: int = MAX_ENTRIES,
    hints: int = 2,
    seed: int = 0,
) -> GradReport:
    """Checks `backward` against numerical derivatives of `forward`.

    forward(*inputs) -> (y, cache), y an array or a number; backward(dy, cache) -> one gradient for each input (a
    single array where there is one input). inputs: float arrays; None stands for an absent bias.

    like: the op that this should be ("conv2d", "batchnorm", ...): forward is then compared with its definition, and a
    failing gradient with the catalogue of faults. options: the settings it was written or called with, as in
    {"stride": 2, "padding": 1}, and what is not differentiated: labels, target, kernel_size, slope, p, eps, mean, var.

    dy: the upstream gradient; random by default (1 where y is one number). method: "central" differences or the
    "complex" step, which forward has to be written for. Tensors with more than `max_entries` numbers are sampled.

    layout: "in_out" for weights (in, out), "columns" for samples as columns, "channels_last" for images (N, H, W, C);
    where shapes do not fit, the check says which. ties: who gets dy where several pixels of a max-pooling window are
    equally large: "first", "last", "shared", "all"; by default any one of them will do. hints: 2 names the fault, 1
    says where to look, 0 gives the verdict only.

    Raises TypeError or ValueError, each with a sentence, for what cannot be checked at all.
    """
    check_method(method)
    check_whole("seed", seed, 0)
    if not isinstance(like, str | None):
        raise TypeError(f"like is a {type(like).__name__}; expected the name of an op, such as 'conv2d'")
    check_hints(hints)
    check_convention(ties, like)
    slots, notes = prepare_inputs(inputs)
    title = f"gradient check: {_name_of(forward)}" + (f" as {like}" if like else "")
    known = definitions.DEFINITIONS[like].inputs if like in definitions.DEFINITIONS else ()
    names = input_names(forward, len(slots), known)
    options, theirs = dict(options or {}), (forward, slots)
    if layout is not None:
        forward, backward, slots = layouts.adapt(forward, backward, slots, like, layout)
    call = Call(Subject(forward, backward, slots), slots, names, like, options, title, notes, ties)
    try:
        report = run(call, dy, method, max_entries, DIRECTIONS, seed)
    except layouts.OtherShape as found:
        report = _other_shape(call, f"d{names[found.number]}", found.given, found.needed)
    except ValueError as error:
        if layout is None and "do not fit like=" in str(error) and (other := layouts.propose(*theirs, like, options)):
            raise ValueError(f"{error}. But {layouts.proposal(other, like)}") from error
        raise
    if layout is None and like is not None and report.tensors[0].name == "y" and report.tensors[0].verdict == "fail":
        _say_layout(report, layouts.propose(*theirs, like, options), like)
    return report.limited(hints)


def _say_layout(report: GradReport, layout: str | None, like: str) -> None:
    """A forward that is right in another layout may be meant so."""
    if layout is not None:
        report.diagnosis = f"{report.diagnosis} If that is your convention: {layouts.proposal(layout, like)}"


def _other_shape(call: Call, name: str, given: tuple[int, ...], needed: tuple[int, ...]) -> GradReport:
    """In another layout, a gradient without the shape of its input ends the check: its axes cannot be told."""
    sentence = shapes_differ(name, given, needed)
    return GradReport(call.title, [TensorReport(name, given, "fail", sentence)], notes=call.notes, diagnosis=sentence)


def check_hints(hints: int) -> None:
    if hints not in (0, 1, 2):
        raise ValueError(f"hints is {hints!r}; expected 0 (verdict only), 1 (where to look) or 2 (the fault named)")


def _name_of(forward: Callable) -> str:
    name = getattr(forward, "__name__", "forward")
    return "forward" if name == "<lambda>" else name


def check_method(method: str) -> None:
    if method not in METHODS:
        raise ValueError(f'method is {method!r}; expected "central" or "complex"')


def run(call: Call, dy: Array | float | None, method: str, max_entries: int, directions: int, seed: int) -> GradReport:
    """The check itself, for the functions of `check_op` and for those of a layer."""
    like = call.like
    if like is not None:
        definitions.check_options(like, call.arrays, call.options)
        if like == "batchnorm" and (few := _too_few_for_batchnorm(call)):
            return few
        definitions.check_fit(like, call.arrays, call.options)
    y, _ = call.subject.forward(call.copies())
    if not np.all(np.isfinite(y)):
        return _not_finite(call, y)
    check_repeatable(call.subject, call.arrays, y)
    call.infer_mask(y)
    call.set_upstream(y, dy, seed)
    if like is not None and y.shape != definitions.DEFINITIONS[like].shape(call.arrays, call.options):
        return _wrong_output_shape(call, y)
    pair = (call.subject.forward, call.subject.backward)
    gradients, broken = rules.examine(*pair, call.arrays, call.dy, call.keeps_cache)
    if like is not None:
        broken += rules.of_large_inputs(like, *pair, call.arrays[0], call.options, call.dy)
        broken += _ties(call, pair)
        call.notes += _upstream_of_number(call) if y.ndim == 0 else []
    u = precision.unit_roundoff(lambda arrays: call.subject.forward(arrays)[0], call.arrays, y)
    plan = Plan(method, max_entries, directions, u, np.random.default_rng([seed, 1]))
    return _report(call, y, list(gradients), broken, plan)


def _ties(call: Call, pair: tuple[Callable, Callable]) -> list[str]:
    """Whether a max-pool treats ties as it is meant to; the last as the only winner is noted."""
    if call.like != "max_pool2d":
        return []
    found = ties_of_pool.convention(*pair, call.arrays[0], call.options, call.dy)
    if found is None or found == (call.ties or "first"):
        return []
    if call.ties is None and found == "last":
        call.notes.append(
            "where several pixels are equally large, the last of them gets dy; minires and PyTorch give it to the "
            'first (ties="last" says that it is meant)'
        )
        return []
    return ["ties"]


def _report(call: Call, y: Array, gradients: list[Array | None], broken: list[str], plan: Plan) -> GradReport:
    """The numbers are measured, the verdicts given, and what fails is explained."""
    rows: list[TensorReport] = []
    if call.like is not None:
        rows.append(definitions.compare(call.like, y, call.arrays, call.options, plan.rng))
    measured, reach = [], None
    for i, name in enumerate(call.names):
        examination = Examination(call.arrays[i], call.evaluator(i), call.dy, plan)
        row, numbers = _examine_gradient(f"d{name}", gradients[i], examination)
        row.yours, row.right = gradients[i], numbers.complete(call.arrays[i].shape)
        rows.append(row)
        measured.append(numbers)
        if examination.reach is not None:
            reach = reach or examination.reach
            reach.join(examination.reach)
    if any(row.verdict == "fail" for row in rows):
        broken = [b for b in broken if b not in rules.OF_RIGHT_GRADIENTS]
    elif call.dy.ndim == 0:  # the end of the chain: dy is 1, and a loss may say so itself
        broken = [b for b in broken if b not in rules.LINEARITY]
    report = GradReport(call.title, rows, notes=call.notes, offences=[RULES[b] for b in broken])
    if call.like is not None and rows[0].verdict == "pass":
        report.identities = identities.adjoint(call.like, call.arrays, call.options, y, call.dy, gradients, plan.u)
    if reach is not None:
        _count_kinks(report, reach)
    _weaken(report, _blind_spots(call, report, y))
    if plan.u > ROUNDOFF["float64"] and report.verdict != "fail":
        report.diagnosis = (
            f"forward computes in float32 although its inputs are {call.arrays[0].dtype}: look for astype, np.float32 "
            "and arrays made without dtype=x.dtype"
        )
    if report.verdict == "fail":
        _explain(report, _case(call, y, gradients, measured, report, broken))
    return report


def _count_kinks(report: GradReport, reach: Reach) -> None:
    """What the steps of all tensors together crossed, against the law."""
    report.switches_crossed, report.switches_expected = reach.crossed, reach.expected
    left_out = sum(row.left_out for row in report.tensors)
    if left_out or reach.expected >= 0.5:
        report.notes.append(
            f"{left_out} steps left out at kinks: together they crossed {reach.crossed} different switches, the law "
            f"expects {reach.expected:.2g}"
        )


def _examine_gradient(name: str, gradient: Array | None, examination: Examination) -> tuple[TensorReport, Measured]:
    """One row of the table: a gradient of the right kind goes into the examination, the others fail at once."""
    shape = examination.value.shape
    fit = gradient is not None and gradient.shape == shape and np.all(np.isfinite(gradient))
    claim = gradient.astype(np.float64) if fit else np.zeros(shape)
    row, measured = examination.run(name, claim)
    if fit:
        return row, measured
    if gradient is None:
        reason = "backward returned None for it"
    elif gradient.shape != shape:
        reason = f"has shape {gradient.shape}; expected {shape}, the shape of the input"
    else:
        reason = f"holds {int(np.sum(~np.isfinite(gradient)))} NaN or infinite numbers"
    given = () if gradient is None else gradient.shape
    return TensorReport(name, given, "fail", reason, row.coverage), measured


def _weaken(report: GradReport, blind: dict[str, str]) -> None:
    """Turns `pass` into `vacuous` for tensors whose check could not have seen certain errors; "*" means all."""
    for row in report.tensors:
        reason = blind.get(row.name, blind.get("*")) if row.name != "y" else None
        if reason and row.verdict in ("pass", "roundoff", "vacuous"):
            row.verdict, row.reason = "vacuous", reason


def _blind_spots(call: Call, report: GradReport, y: Array) -> dict[str, str]:
    """Tensor -> why a wrong gradient could have passed here."""
    settings = blind_spots.of_settings(call.like, call.arrays, y, call.dy, call.names)
    if report.verdict != "pass" or "*" in settings:
        return settings
    if call.like is None:
        seen = blind_spots.of_numbers(lambda a: call.subject.forward(a)[0], call.arrays, call.dy, call.names)
        return seen | settings
    hidden, impossible = blind_spots.of_catalogue(call.like, call.arrays, call.options, call.dy)
    report.impossible = [fault.name for fault in impossible]
    report.alike = [fault.name for fault in hidden]
    if not hidden:
        return settings
    listed = "; ".join(f"{fault.name}: {fault.sentence.removesuffix('.')}" for fault in hidden[:3])
    more = f"; and {len(hidden) - 3} more" if len(hidden) > 3 else ""
    return {
        "*": f"these inputs cannot tell it from a typical mistake ({listed}{more}); use random numbers of size 1"
    } | settings


def _too_few_for_batchnorm(call: Call) -> GradReport | None:
    x = call.arrays[0]
    m = x.size // x.shape[1] if x.ndim > 1 else x.size
    if m > 2 or call.options.get("mean") is not None:
        return None
    return all_vacuous(call, few_values(m))


def few_values(m: int) -> str:
    """Why a batch normalization over m values, 1 or 2, cannot be checked."""
    what = "1 value per channel: xhat is 0" if m == 1 else "2 values per channel: xhat is +1 and -1, up to eps,"
    return f"{what} whatever x is, so dx is zero and a backward that returns 0 would pass; use 4 or more"


def all_vacuous(call: Call, reason: str) -> GradReport:
    """The report of a check that need not even be run."""
    pairs = zip(call.names, call.arrays, strict=True)
    return GradReport(call.title, [TensorReport(f"d{n}", a.shape, "vacuous", reason, "none") for n, a in pairs])


def _not_finite(call: Call, y: Array) -> GradReport:
    bad = ~np.isfinite(y)
    where = tuple(int(i) for i in np.argwhere(bad)[0]) if y.ndim else "the loss"
    sentence = (
        f"forward returns {int(bad.sum())} NaN or infinite numbers for finite inputs, the first at {where}: look for a "
        "division by 0, a log of 0, an exp of a large number, or memory that was never filled (np.empty)"
    )
    row = TensorReport("y", y.shape, "fail", "not finite", f"all {y.size}", str(where))
    return GradReport(call.title, [row], notes=call.notes, diagnosis=sentence)


def _wrong_output_shape(call: Call, y: Array) -> GradReport:
    """A forward whose y has the wrong shape is explained by y alone: no gradient of it is worth a look."""
    row = definitions.compare(call.like, y, call.arrays, call.options, np.random.default_rng(0))
    report = GradReport(call.title, [row], notes=call.notes)
    case = Case(call.names, call.arrays, call.dy, y, [], [], [], [], call.like, call.options, y_failing=True)
    _explain(report, case)
    if report.fault is None and "options=" not in (report.diagnosis or ""):
        report.diagnosis = f"forward: {row.reason}"
    return report


def _explain(report: GradReport, case: Case) -> None:
    finding = diagnose(case)
    report.diagnosis, report.fault = finding.sentence, finding.fault
    report.alike, report.hint = finding.alike, finding.hint


def _upstream_of_number(call: Call) -> list[str]:
    """A loss is the end of the chain, so ignoring its dy does no harm there: worth a note."""
    _, cache = call.subject.forward(call.copies())
    once, twice = (call.subject.backward(np.asarray(d), cache) for d in (1.0, 2.0))
    if all(a is not None and b is not None and np.array_equal(a, b) for a, b in zip(once, twice, strict=True)):
        return ["backward ignores dy: fine for the last function of a network, wrong if its loss is scaled or added to"]
    return []


def _case(
    call: Call, y: Array, gradients: list[Array | None], measured: list[Measured], report: GradReport, broken: list[str]
) -> Case:
    bounds = [
        m.bounds.reshape(a.shape) if len(m.bounds) == a.size else np.array(float(np.max(m.bounds, initial=0.0)))
        for m, a in zip(measured, call.arrays, strict=True)
    ]

    def rerun(inputs: tuple[Array, ...]) -> tuple[Array | None, ...]:
        return call.subject.backward(call.dy.copy(), call.subject.forward(inputs)[1])

    y_row = report.tensors[0] if call.like is not None else None
    return Case(
        call.names,
        call.arrays,
        call.dy,
        y,
        gradients,
        [m.complete(a.shape) for m, a in zip(measured, call.arrays, strict=True)],
        bounds,
        [row.verdict == "fail" for row in report.tensors if row.name != "y"],
        call.like,
        call.options,
        0.0 if y_row is None or y_row.bound is None else y_row.bound,
        y_row is not None and y_row.verdict == "fail",
        broken,
        rerun,
        _evidence(call, y),
    )


def _evidence(call: Call, y: Array) -> Jacobians:
    """The functions of the call, each time with a cache of their own."""

    def forward(inputs: tuple[Array, ...]) -> Array:
        return call.subject.forward(inputs)[0].astype(np.float64)

    def backward(dy: Array) -> tuple[Array | None, ...]:
        return call.subject.backward(dy.copy(), call.subject.forward(call.copies())[1])

    return Jacobians(forward, backward, call.arrays, y, call.dy)
