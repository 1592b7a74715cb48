"""`check_op`: a pair of plain functions, held against numerical derivatives and, with `like`, the op's definition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from minires.backend import Array
from minires.gradcheck import definitions, identities, kinks, rules
from minires.gradcheck.diagnosis import Case, diagnose
from minires.gradcheck.kinks import Reach, Switch
from minires.gradcheck.numerical import ROUNDOFF, is_single
from minires.gradcheck.report import GradReport, TensorReport
from minires.gradcheck.rules import RULES
from minires.gradcheck.tensor_check import Examination, Measured, Plan
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
    method: str = "central",
    max_entries: int = MAX_ENTRIES,
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

    Raises TypeError or ValueError, each with a sentence, for what cannot be checked at all.
    """
    check_method(method)
    slots, notes = prepare_inputs(inputs)
    known = definitions.DEFINITIONS[like].inputs if like in definitions.DEFINITIONS else ()
    names = input_names(forward, len(slots), known)
    call = Call(Subject(forward, backward, slots), slots, names, like, dict(options or {}), notes=notes)
    call.title = f"gradient check: {_name_of(forward)}" + (f" as {like}" if like else "")
    return run(call, dy, method, max_entries, DIRECTIONS, seed)


def _name_of(forward: Callable) -> str:
    name = getattr(forward, "__name__", "forward")
    return "forward" if name == "<lambda>" else name


def check_method(method: str) -> None:
    if method not in METHODS:
        raise ValueError(f'method is {method!r}; expected "central" or "complex"')


@dataclass
class Call:
    """One check: the functions, the arrays they get, and the upstream."""

    subject: Subject
    slots: list[Array | None]
    slot_names: list[str]
    like: str | None = None
    options: dict = field(default_factory=dict)
    title: str = "gradient check"
    notes: list[str] = field(default_factory=list)
    keeps_cache: bool = False
    """Whether the functions are a layer's, which keeps its cache inside and hands it out once."""
    see: Callable[[], list[Switch] | None] | None = None
    """The switches of the last forward call, where the functions are a layer's."""

    def __post_init__(self) -> None:
        self.arrays = tuple(a for a in self.slots if a is not None)
        self.names = [n for n, a in zip(self.slot_names, self.slots, strict=True) if a is not None]
        self.dy = np.ones(())

    def copies(self) -> tuple[Array, ...]:
        return tuple(a.copy() for a in self.arrays)

    def infer_mask(self, y: Array) -> None:
        """Dropout draws its mask inside; which numbers were dropped shows in y."""
        if self.like == "dropout" and "mask" not in self.options and y.shape == self.arrays[0].shape:
            self.options["mask"] = y != 0
        self.options.pop("rng", None)

    def set_upstream(self, y: Array, dy: Array | float | None, seed: int) -> None:
        """Random numbers, so that nothing cancels by symmetry; 1 for a loss, which is the end of the chain.

        Their seed is made longer than any that inputs are drawn with: default_rng([0, 0]) repeats default_rng(0), and
        a dy that equals x hides a gate taken from the wrong one of the two.
        """
        if dy is None:
            dy = np.random.default_rng([*b"upstream", seed]).standard_normal(y.shape) if y.ndim else 1.0
        self.dy = np.asarray(dy, dtype=np.float64)
        if self.dy.shape != y.shape:
            raise ValueError(f"dy has shape {self.dy.shape}; expected {y.shape}, the shape of forward's y")

    def evaluator(self, number: int) -> Callable[[Array], tuple[Array, list[Switch] | None]]:
        """Input `number` -> y and the switches, everything else as it is."""

        def evaluate(value: Array) -> tuple[Array, list[Switch] | None]:
            arrays = [a.astype(value.dtype) for a in self.arrays]
            arrays[number] = value.copy()
            y, _ = self.subject.forward(tuple(arrays))
            if value.dtype.kind == "c" and y.dtype.kind != "c":
                raise ValueError(
                    f'method="complex" needs a forward that computes in complex numbers; this one returned {y.dtype} '
                    '(an array made without dtype=x.dtype drops the imaginary part). Use method="central"'
                )
            return y, self.see() if self.see else kinks.switches_of_op(self.like, arrays[0], self.options)

        return evaluate


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
        broken += rules.of_op(like, *pair, call.arrays, call.options, call.dy)
        call.notes += _upstream_of_number(call) if y.ndim == 0 else []
    u = ROUNDOFF["float32" if is_single(y) else "float64"]
    plan = Plan(method, max_entries, directions, u, np.random.default_rng([seed, 1]))
    return _report(call, y, list(gradients), broken, plan)


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
    report = GradReport(call.title, rows, notes=call.notes, offences=[RULES[b] for b in broken])
    if call.like is not None and rows[0].verdict == "pass":
        report.identities = identities.adjoint(call.like, call.arrays, call.options, y, call.dy, gradients)
    if reach is not None:
        _count_kinks(report, reach)
    _weaken(report, _blind_spots(call, y))
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


def _blind_spots(call: Call, y: Array) -> dict[str, str]:
    """Tensor -> why a wrong gradient could have passed here."""
    x = call.arrays[0]
    if y.size > 1 and np.all(call.dy == call.dy.flat[0]):
        return {
            "*": "dy is the same everywhere, so errors that add up to zero cannot show (BatchNorm's dx is 0); "
            "use a random dy"
        }
    if call.like is None or x.ndim == 0 or len(x) > 1:
        return {}
    if call.like in ("softmax_cross_entropy", "mse"):
        return {"*": "a batch of 1: a factor 1/N that is missing or too much cannot show; use 4 samples or more"}
    if call.like in ("conv2d", "linear", "batchnorm", "residual", "shared_linear"):
        reason = "a batch of 1: a sum over the batch that is missing cannot show; use 4 samples or more"
        return {f"d{name}": reason for name in call.names[1:]}
    return {}


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
    if report.fault is None:
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
    )
