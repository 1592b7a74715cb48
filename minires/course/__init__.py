"""Assignments cut from the engine, and their grading.

    from minires import course

    course.build(course.load("conv"), Path("conv"))      what students get, and what stays with the instructor
    report = course.grade("conv", "submissions/ada.py")  in an isolated process, with a reason for every point lost
    course.check(course.load("conv"))                    reference 100 %, stub 0, every typical fault costs its part

The engine is the reference solution; nothing is written twice. Start reading at `declaration.py`.
"""

from minires.course.building import build
from minires.course.checks import CallCheck, HandCheck, backward_checks, forward_checks
from minires.course.declaration import ORDER, Assignment, Mistake, Outcome, Part, load
from minires.course.grading import SubmissionReport, grade
from minires.course.isolation import NoIsolation
from minires.course.selfcheck import SelfCheck, check

__all__ = [
    "ORDER",
    "Assignment",
    "CallCheck",
    "HandCheck",
    "Mistake",
    "NoIsolation",
    "Outcome",
    "Part",
    "SelfCheck",
    "SubmissionReport",
    "backward_checks",
    "build",
    "check",
    "forward_checks",
    "grade",
    "load",
]
