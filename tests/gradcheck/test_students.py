"""Functions in students' own style: every fault is detected and named, and what is right is never called wrong."""

from __future__ import annotations

import re

import numpy as np
import pytest

from minires.gradcheck import GradReport, check_layer, check_op, wrap
from tests.gradcheck import student_elementwise, student_images, student_networks, student_routes  # noqa: F401  (they register their functions)
from tests.gradcheck.student_compositions import LAYER_FAULTS, Gate
from tests.gradcheck.student_ops import STUDENTS, Student

FAULTS = [(s, wrong) for s in STUDENTS.values() for wrong in s.faults]


def report_of(student: Student, wrong: str = "", scale: float = 1.0) -> GradReport:
    return check_op(*student.make(wrong), student.inputs(scale), **student.known)


def said(report: GradReport) -> str:
    return " ".join([report.diagnosis or "", *report.offences])


@pytest.mark.parametrize(("student", "wrong"), FAULTS, ids=[f"{s.name}-{wrong}" for s, wrong in FAULTS])
def test_a_fault_is_detected_and_named(student, wrong):
    report = report_of(student, wrong)
    assert report.verdict == "fail", str(report)
    assert re.search(student.faults[wrong], said(report)), said(report)


@pytest.mark.parametrize("wrong", LAYER_FAULTS)
def test_a_fault_of_a_layer_object_is_named(wrong):
    report = check_layer(wrap(Gate(wrong)), np.random.default_rng(1).standard_normal((5, 4)))
    assert report.verdict == "fail"
    assert re.search(LAYER_FAULTS[wrong], said(report)), said(report)


# --- what is right --------------------------------------------------------------------------------------------------

SCALES = (1e-6, 1e-3, 1.0, 1e3, 1e6)
ODD = [(s, scale) for s in STUDENTS.values() for scale in SCALES]


@pytest.mark.parametrize(("student", "scale"), ODD, ids=[f"{s.name}-{scale:g}" for s, scale in ODD])
def test_what_is_right_is_not_called_wrong_at_any_scale(student, scale):
    report = report_of(student, scale=scale)
    assert report.verdict == "pass" if scale == 1 else report.verdict not in ("fail", "kink"), str(report)


@pytest.mark.parametrize("student", STUDENTS.values(), ids=STUDENTS)
def test_what_is_right_is_not_called_wrong_in_float32(student):
    forward, backward = student.make("")

    def single(value):
        return value.astype(np.float32) if isinstance(value, np.ndarray) else np.float32(value)

    def forward32(*arrays):
        y, cache = forward(*map(single, arrays))
        return single(y), cache

    report = check_op(forward32, lambda dy, cache: backward(single(dy), cache), student.inputs(), **student.known)
    assert report.verdict == "roundoff", str(report)


@pytest.mark.parametrize("student", STUDENTS.values(), ids=STUDENTS)
def test_what_is_right_is_not_called_wrong_on_ties(student):
    """Whole and half numbers: equal pixels, inputs of exactly 0."""
    inputs = [np.round(2 * x) / 2 for x in student.inputs()]
    report = check_op(*student.make(""), inputs, **student.known)
    assert report.verdict in (("pass", "kink", "vacuous") if student.name in TIES else ("pass",)), str(report)


TIES = ("max_pool_channels_last", "prelu", "elu", "hinge", "two_layers", "hidden_layer")
"""What bends somewhere."""
