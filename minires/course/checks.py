"""The kinds of checks: an op's forward and backward, a plain function, a sampler's law, anything else.

Every check calls the submission's functions through a `Caller` and judges the arrays that come back. Public checks
always use the same numbers; those of hidden checks come from the submission's id. A hidden check never tells its
numbers: of an example there is only the name of the case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np

from minires.course.declaration import Caller, Check, Outcome
from minires.course.diagnosis import GradientWords, diagnose_backward, diagnose_forward
from minires.course.differences import TOLERANCE, Difference, compare_results, difference, returned
from minires.gradcheck import CATALOGUE
from minires.gradcheck.configurations import draw
from minires.gradcheck.definitions import DEFINITIONS, run_backward, run_forward
from minires.gradcheck.standard_cases import StandardCase, standard_cases

PUBLIC_SEED = 0


def _finite(y: object) -> bool:
    return isinstance(y, np.ndarray | np.generic | float) and bool(np.all(np.isfinite(y)))


# --- ops -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OpCheck:
    """forward or backward of an op on one case, held against the reference of minires."""

    op: str
    direction: str
    """"forward" or "backward"."""
    case: str
    """A standard case by its name, or "needs" for a random one with `needs`."""
    functions: tuple[str, str]
    hidden: bool = False
    weight: float = 1.0
    needs: tuple[tuple[str, object], ...] = ()
    shift: float = 0.0
    """Added to the first input: 1000 shows an exp that overflows."""

    @property
    def name(self) -> str:
        return f"{self.direction}:{self.case}"

    @property
    def title(self) -> str:
        return self.case

    def draw(self, seed: int) -> StandardCase:
        """The inputs of this check; public ones are always the same."""
        if self.needs or self.case == "other sizes":
            inputs, options = draw(self.op, np.random.default_rng([seed, 7]), **dict(self.needs))
            case = StandardCase(self.case, inputs, options)
        else:
            free = DEFINITIONS[self.op].required + DEFINITIONS[self.op].optional
            cases = standard_cases(self.op, free, {}, seed if self.hidden else PUBLIC_SEED)
            case = next(c for c in cases if self.case.startswith(c.name))
        if self.shift:
            case = case._replace(inputs=(case.inputs[0] + self.shift, *case.inputs[1:]))
        return case

    def run(self, caller: Caller, seed: int) -> Outcome:
        case = self.draw(seed)
        given = tuple(a.copy() for a in case.inputs)
        settings = deepcopy(case.options)  # labels, say: what a submission makes of them is not what the reference gets
        result = caller.call(self.functions[0], *given, keep=True, **settings)
        if self.direction == "forward":
            before = [*case.inputs, *case.options.values()]
            return self._judge_forward(caller, case, changed([*given, *settings.values()], before), result)
        if lost := _without_cache(self, result):
            return lost
        return _of_a_wrong_forward(self, case, result[0], self._judge_backward(caller, case, result[1]))

    def _judge_forward(self, caller: Caller, case: StandardCase, changes_inputs: bool, result: object) -> Outcome:
        if changes_inputs:
            said = f"{self.functions[0]} changes its inputs in place; others may still need them. Make a new array"
            return Outcome(0.0, (_verdict(self.functions[0]), said, said), fault=f"{self.op}:input-in-place")
        if not _is_pair(result):
            return judged(self.title, returned(self.functions[0], result, "(y, cache)"), self.hidden)
        y, (right, _) = result[0], run_forward(self.op, case.inputs, case.options)
        found = difference("y", y, right)
        if found is None:
            return Outcome(1.0)
        if self.shift and np.all(np.isfinite(right)) and not _finite(y):
            return self._overflow(found.unseen if self.hidden else found.said)
        words = diagnose_forward(self.op, caller, self.functions[0], case, self.hidden)
        return _wrong(self, found, words)

    def _overflow(self, said: str) -> Outcome:
        """An exp of a large number: right as mathematics, infinite in floats."""
        known = next((f for f in CATALOGUE.values() if f.op == self.op and "unstable" in f.name), None)
        told = f"{self.functions[0]} is not finite where its inputs are near 1000: an exp overflows"
        named = known.sentence if known else told
        return Outcome(0.0, (_verdict(self.title), f"{told}. {said}", named), fault=known and known.name)

    def _judge_backward(self, caller: Caller, case: StandardCase, cache: object) -> Outcome:
        y, reference = run_forward(self.op, case.inputs, case.options)
        dy: object = np.random.default_rng(len(case.name)).standard_normal(y.shape) if np.ndim(y) else 1.0
        right = run_backward(self.op, dy, reference)[: len(case.inputs)]
        given = dy.copy() if isinstance(dy, np.ndarray) else dy
        result = caller.call(self.functions[1], given, cache)
        yours = list(result) if isinstance(result, tuple | list) else [result]
        names = [f"d{name}" for name in DEFINITIONS[self.op].inputs]
        if len(yours) < len(right):
            return judged(self.title, returned(self.functions[1], result, ", ".join(names[: len(right)])), self.hidden)
        found = [difference(n, mine, r) for n, mine, r in zip(names, yours, right, strict=False)]
        wrong = [f for f in found if f is not None]
        if not wrong:
            return Outcome(1.0)
        words = diagnose_backward(self.op, caller, self.functions, case, self.hidden)
        told, unseen = ("; ".join(texts) for texts in zip(*((f.said, f.unseen) for f in wrong), strict=True))
        outcome = _wrong(self, Difference(told, wrong[0].example, unseen), words)
        outcome.fraction = 1 - len(wrong) / len(right)
        return outcome


@dataclass(frozen=True)
class GradientCheck:
    """backward under minires' gradient check: numbers, and the rules that a single call cannot show.

    The output comes from the reference, the cache from the student's forward: a wrong forward costs nothing here,
    unless its cache is wrong.
    """

    op: str
    functions: tuple[str, str]
    case: str = ""
    hidden: bool = False
    weight: float = 1.0

    @property
    def name(self) -> str:
        return "gradient check"

    title = name

    def run(self, caller: Caller, seed: int) -> Outcome:
        case = self._case()
        result = caller.call(self.functions[0], *(a.copy() for a in case.inputs), keep=True, **deepcopy(case.options))
        if lost := _without_cache(self, result):
            return lost
        words = diagnose_backward(self.op, caller, self.functions, case)
        if words.verdict != "fail":
            return Outcome(1.0)
        said = f"{self.functions[1]} does not pass the gradient check"
        outcome = _wrong(self, Difference(words.where or said, "", said), words)
        return _of_a_wrong_forward(self, case, result[0], outcome)

    def _case(self) -> StandardCase:
        if self.op not in STANDARD:
            return StandardCase("", *draw(self.op, np.random.default_rng(PUBLIC_SEED)))
        free = DEFINITIONS[self.op].required + DEFINITIONS[self.op].optional
        cases = standard_cases(self.op, free, {}, PUBLIC_SEED)
        return next((c for c in cases if c.name == self.case), cases[0])


def _is_pair(result: object) -> bool:
    return isinstance(result, tuple | list) and len(result) == 2


def _without_cache(check: OpCheck | GradientCheck, result: object) -> Outcome | None:
    """Why a backward cannot be asked: its forward returned no cache. None where it did."""
    if _is_pair(result):
        return None
    forward, backward = check.functions
    return judged(check.title, returned(forward, result, f"(y, cache): {backward} needs the cache"), check.hidden)


def _of_a_wrong_forward(check: OpCheck | GradientCheck, case: StandardCase, y: object, outcome: Outcome) -> Outcome:
    """Says of a backward that fails, why is not known, that its forward fails on the same inputs: the cache is its."""
    if (
        outcome.passed
        or outcome.fault
        or difference("y", y, run_forward(check.op, case.inputs, case.options)[0]) is None
    ):
        return outcome
    verdict, *told = outcome.told
    first = f"{check.functions[0]}, whose cache it gets, is wrong here, too: mend that first"
    outcome.told = (verdict, *(f"{text}. {first}" for text in told))
    return outcome


def _wrong(check: OpCheck | GradientCheck, found: Difference, words: GradientWords) -> Outcome:
    """Zero points, and the words for each level. Of a hidden check only the catalogue's text is told, no numbers."""
    said, example, unseen = found
    where = words.hint or said
    if check.hidden:
        fault = CATALOGUE.get(words.fault or "")
        named = fault.sentence if fault else unseen
        return Outcome(
            0.0,
            (_verdict(check.title), f"{unseen}. {fault.hint if fault else ''}".strip(), named),
            "",
            words.fault,
            words.alike,
        )
    named = words.sentence or said
    return Outcome(
        0.0,
        (_verdict(check.title), f"{said}. {where if where != said else ''}".strip(), named),
        example,
        words.fault,
        words.alike,
    )


def _verdict(title: str) -> str:
    return f"wrong: {title}"


def _functions(op: str, name: str) -> tuple[str, str]:
    return f"{name or op}_forward", f"{name or op}_backward"


PUBLIC_CASES = 3
"""Of the standard cases, the first so many are public; the others are drawn anew for each submission."""


def _op_checks(op: str, direction: str, name: str) -> list[OpCheck]:
    """Standard cases, public and hidden, and hidden ones for all settings without which a fault stays unseen."""
    functions = _functions(op, name)
    free = DEFINITIONS[op].required + DEFINITIONS[op].optional
    made = []
    if op in STANDARD:
        for number, case in enumerate(standard_cases(op, free, {}, PUBLIC_SEED)):
            made.append(OpCheck(op, direction, case.name, functions, hidden=number >= PUBLIC_CASES))
    needs = {tuple(sorted(f.needs.items())) for f in CATALOGUE.values() if f.op == op and f.needs}
    for one in sorted(needs, key=str):
        told = ", ".join(f"{k.replace('_', ' ')}{'' if v is True else f' {v}'}" for k, v in one)
        made.append(OpCheck(op, direction, f"other sizes, {told}", functions, True, 1.0, one))
    made.append(OpCheck(op, direction, "other sizes", functions, True))
    return made


STANDARD = frozenset(DEFINITIONS) - {"residual", "shared_linear"}
"""Ops that have standard cases."""


def forward_checks(op: str, name: str = "") -> list[Check]:
    """For `NAME_forward`, written as minires' own `OP_forward` is: it returns (y, cache)."""
    checks: list[Check] = list(_op_checks(op, "forward", name))
    if op in ("softmax_cross_entropy", "tanh", "sigmoid"):
        case = standard_cases(op, DEFINITIONS[op].required, {}, PUBLIC_SEED)[0].name
        checks.append(OpCheck(op, "forward", f"{case}, plus 1000", _functions(op, name), shift=1000.0))
    return checks


def backward_checks(op: str, name: str = "") -> list[Check]:
    """For `NAME_backward(dy, cache)`, with the cache of the student's own `NAME_forward`."""
    first: list[Check] = [GradientCheck(op, _functions(op, name), _gradient_case(op), weight=2.0)]
    return [*first, *_op_checks(op, "backward", name)]


def _gradient_case(op: str) -> str:
    return "ties" if op == "max_pool2d" else ""


# --- everything else -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HandCheck:
    """A check written by hand: judge(caller, seed) returns None, a sentence, or an Outcome."""

    title: str
    judge: Callable[[Caller, int], Outcome | str | None]
    hidden: bool = False
    weight: float = 1.0

    @property
    def name(self) -> str:
        return self.title

    def run(self, caller: Caller, seed: int) -> Outcome:
        found = self.judge(caller, seed if self.hidden else PUBLIC_SEED)
        if found is None:
            return Outcome(1.0)
        if isinstance(found, str):
            return Outcome(0.0, (_verdict(self.title), found, found))
        return found


@dataclass(frozen=True)
class CallCheck:
    """A plain function, held against the reference for the same arguments.

    arguments(rng) -> (positional arguments, options). Every array in the result is compared.
    """

    title: str
    function: str
    reference: Callable
    arguments: Callable[[np.random.Generator], tuple[Sequence[object], dict]]
    hidden: bool = False
    weight: float = 1.0
    tolerance: float = TOLERANCE

    @property
    def name(self) -> str:
        return self.title

    def run(self, caller: Caller, seed: int) -> Outcome:
        arguments, options = self.arguments(np.random.default_rng(seed if self.hidden else PUBLIC_SEED))
        given, settings = deepcopy(list(arguments)), deepcopy(options)
        yours = caller.call(self.function, *given, **settings)
        right = self.reference(*arguments, **options)
        if changed([*given, *settings.values()], [*arguments, *options.values()]):
            said = f"{self.function} changes its inputs in place; make a new array"
            return Outcome(0.0, (_verdict(self.title), said, said))
        found = compare_results(yours, right, self.function, self.tolerance)
        return judged(self.title, found, self.hidden) or Outcome(1.0)


def changed(given: Sequence[object], before: Sequence[object]) -> bool:
    """Whether any array is no longer what it was."""
    both = zip(given, before, strict=True)
    return any(a.tobytes() != b.tobytes() for a, b in both if isinstance(a, np.ndarray))


def judged(title: str, found: Difference | None, hidden: bool) -> Outcome | None:
    """What `compare_results` found, as an outcome; of a hidden check without what a submission may have written."""
    if found is None:
        return None
    said = found.unseen if hidden else found.said
    return Outcome(0.0, (_verdict(title), said, said), "" if hidden else found.example)
