"""What gradcheck says about one half of a student's pair, the other half being the reference.

A backward is judged with the reference's output, so that a wrong forward does not spoil the numerical derivative; it
gets the cache of the student's forward, which has run on these inputs before. A forward is judged with the reference's
backward. Numerical derivatives take hundreds of outputs. They come from the reference; the student's forward only runs
where its cache is needed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from typing import NamedTuple

import numpy as np

from minires.backend import Array
from minires.course.callers import Missing
from minires.course.declaration import Caller
from minires.gradcheck import CATALOGUE, GradReport, check_op
from minires.gradcheck.definitions import run_backward, run_forward
from minires.gradcheck.runner import Stopped
from minires.gradcheck.standard_cases import StandardCase

NEAR = 0.05
"""Inputs that differ from the first ones by less than this part are a step of a numerical derivative."""


class GradientWords(NamedTuple):
    """What a report says, as far as feedback needs it."""

    verdict: str
    where: str
    hint: str
    sentence: str
    fault: str | None
    alike: tuple[str, ...] = ()
    """Faults that would look the same here."""
    case: str = ""
    """The inputs that it was said of."""


def diagnose_backward(
    op: str, caller: Caller, functions: tuple[str, str], case: StandardCase, hidden: bool = False
) -> GradientWords:
    """The report on backward alone."""

    def forward(*inputs: Array) -> tuple[Array, object]:
        y, _ = run_forward(op, inputs, case.options)
        if _is_step(inputs, case.inputs):
            return y, None
        return y, caller.call(functions[0], *inputs, keep=True, **deepcopy(case.options))[1]

    def backward(dy: Array, cache: object) -> object:
        return _called(caller, functions[1], dy, cache)

    return _once(caller, functions[1], hidden, case, lambda: _words(forward, backward, op, case))


def diagnose_forward(op: str, caller: Caller, name: str, case: StandardCase, hidden: bool = False) -> GradientWords:
    """The report on forward alone: its output, and the reference's gradients."""

    def forward(*inputs: Array) -> tuple[Array, object]:
        result = caller.call(name, *inputs, keep=True, **deepcopy(case.options))
        y = result[0] if isinstance(result, tuple) else result
        return y, run_forward(op, inputs, case.options)[1]

    def backward(dy: Array, cache: object) -> object:
        return run_backward(op, dy, cache)[: len(case.inputs)]

    return _once(caller, name, hidden, case, lambda: _words(forward, backward, op, case))


def _once(
    caller: Caller, function: str, hidden: bool, case: StandardCase, diagnose: Callable[[], GradientWords]
) -> GradientWords:
    """One diagnosis is enough where it names a fault, and two where none does: the checks of a part fail together.

    A public check never hears what was said about hidden numbers. Numbers of other inputs are told as such.
    """
    own = caller.words.setdefault(f"{function} hidden" if hidden else function, [])
    known = [*caller.words.get(function, []), *own] if hidden else own
    named = [words for words in known if words.fault]
    if named or len([w for w in known if w.verdict == "fail"]) >= 2:
        words = (named or known)[-1]
        of_all = words.fault in CATALOGUE and CATALOGUE[words.fault].sentence == words.sentence
        if words.case == case.name or of_all or not re.search(r"\d", words.sentence):
            return words
        return words._replace(sentence=f'{words.sentence} (in "{words.case or "the gradient check"}")')
    own.append(diagnose()._replace(case=case.name))
    return own[-1]


def _is_step(inputs: tuple[Array, ...], first: tuple[Array, ...]) -> bool:
    """Whether the inputs are the first ones moved a little, not those themselves nor others."""
    if all(np.array_equal(a, b) for a, b in zip(inputs, first, strict=True)):
        return False
    moved = max(float(np.max(np.abs(a - b), initial=0.0)) for a, b in zip(inputs, first, strict=True))
    size = max(float(np.max(np.abs(b), initial=0.0)) for b in first)
    return moved < NEAR * size


def _called(caller: Caller, function: str, *arguments: object) -> object:
    try:
        return caller.call(function, *arguments)
    except (Stopped, Missing) as error:
        raise _Ended(str(error)) from None


class _Ended(BaseException):
    """A call that was stopped or could not be made, on its way past the gradient check, which has nothing to add."""


def _words(forward: object, backward: object, op: str, case: StandardCase) -> GradientWords:
    try:
        report = check_op(forward, backward, case.inputs, like=op, options=case.options, max_entries=250)
    except (ValueError, TypeError, _Ended) as error:
        return GradientWords("fail", str(error), "", str(error), None)
    return words_of(report)


def words_of(report: GradReport) -> GradientWords:
    """The words of a report. Of a fault that is named, the sentence without the catalogue's own name in front."""
    failing = [row for row in report.tensors if row.verdict == "fail"]
    where = "; ".join(f"{row.name}: {row.reason}" for row in failing) or "; ".join(report.offences)
    sentence = report.diagnosis or ""
    if report.fault and sentence.startswith(f"{report.fault}: "):
        sentence = sentence.removeprefix(f"{report.fault}: ")
    return GradientWords(report.verdict, where, report.hint or "", sentence, report.fault, tuple(report.alike))
