"""Is what a check says without the catalogue true? Asked of the catalogue's faults without `like`, and of students'.

Part of `evidence.py`: each first sentence that a rule of `sentences.py` knows is held against the arrays.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minires.gradcheck import CATALOGUE, GradReport, check_op
from minires.gradcheck.call import Call
from minires.gradcheck.configurations import draw
from minires.gradcheck.definitions import run_backward, run_forward
from minires.gradcheck.user_functions import Subject
from tests.gradcheck import student_compositions, student_elementwise, student_images, student_networks, student_routes  # noqa: F401  (they register)
from tests.gradcheck.sentences import Facts, check, first_sentence
from tests.gradcheck.student_ops import STUDENTS

Told = tuple[str, bool | None, str]
"""What was planted, whether the first sentence is true (None where no rule knows it), and the sentence."""

SEED = 2026


def of_catalogue(item: tuple[str, int]) -> Told | None:
    """A fault of the catalogue whose op is not told; None for faults of forward, which are right as they are then."""
    name, i = item
    fault = CATALOGUE[name]
    inputs, options = draw(fault.op, np.random.default_rng([SEED, 6, i]), **fault.needs)

    def forward(*arrays: np.ndarray) -> tuple:
        return fault.forward(*arrays, **options)

    y, cache = run_forward(fault.op, inputs, options)
    theirs = forward(*inputs)[0]
    if fault.rule is not None or np.shape(theirs) != np.shape(y) or not np.allclose(theirs, y, rtol=1e-12):
        return None
    report = check_op(forward, fault.backward, inputs)
    if report.verdict != "fail":
        return name, False, f"verdict {report.verdict}"
    right = lambda dy: run_backward(fault.op, dy, cache)[: len(inputs)]  # noqa: E731
    return _told(name, report, forward, fault.backward, list(inputs), right)


def of_student(item: tuple[str, str]) -> Told | None:
    """A student's fault; None where the check turned the arrays into another layout."""
    name, wrong = item
    student = STUDENTS[name]
    if "layout" in student.known:
        return None
    inputs, pair, right_pair = student.inputs(), student.make(wrong), student.make("")
    report = check_op(*pair, student.inputs(), **student.known)
    right = lambda dy: _as_tuple(right_pair[1](dy, right_pair[0](*student.inputs())[1]))  # noqa: E731
    return _told(f"{name}, {wrong}", report, *pair, inputs, right)


def _told(name: str, report: GradReport, forward: Callable, backward: Callable, inputs: list, right: Callable) -> Told:
    names = [row.name for row in report.tensors if row.name != "y"]
    call = Call(Subject(forward, backward, inputs), inputs, [n.removeprefix("d") for n in names])
    y, cache = call.subject.forward(call.copies())
    call.set_upstream(y, None, 0)
    mine = call.subject.backward(call.dy.copy(), cache)
    dy = float(call.dy) if call.dy.ndim == 0 else call.dy
    pairs = {n: g for n, g in zip(names, mine, strict=True) if g is not None}
    rights = {n: np.asarray(g) for n, g in zip(names, right(dy), strict=True) if n in pairs}
    arrays = dict(zip([n.removeprefix("d") for n in names], inputs, strict=True))
    facts = Facts(pairs, rights, arrays, (report.fault,) if report.fault else ())
    return name, check(report.diagnosis or "", facts), first_sentence(report.diagnosis or "")


def _as_tuple(gradients: object) -> tuple:
    return tuple(gradients) if isinstance(gradients, tuple | list) else (gradients,)


def words(mapped: Callable[[Callable, list], list], configurations: int = 3) -> list[str]:
    """How many first sentences are true."""
    catalogue = [(name, i) for name in CATALOGUE for i in range(configurations)]
    students = [(s.name, wrong) for s in STUDENTS.values() for wrong in s.faults]
    lines, false = [], []
    for title, work, items in (
        (f"the catalogue without `like`, {configurations} configurations", of_catalogue, catalogue),
        ("faults in students' style", of_student, students),
    ):
        told = [t for t in mapped(work, items) if t is not None]
        checked = [t for t in told if t[1] is not None]
        wrong = [t for t in checked if not t[1]]
        lines.append(f"{title}: {len(told)} diagnoses, {len(checked)} checked by a rule, of them false: {len(wrong)}")
        false += [f"false: {name}: {sentence}" for name, _, sentence in wrong]
    return lines + false
