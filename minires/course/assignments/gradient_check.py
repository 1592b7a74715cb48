"""Numerical derivatives: three rules, the best step, and how small the error can get."""

import numpy as np

from minires.course import drivers
from minires.course.checks import CallCheck, HandCheck, difference
from minires.course.declaration import Assignment, Caller, Outcome, Part
from minires.gradcheck import numerical


def _on_polynomial(title: str, function: str, degree: int, h: float, hidden: bool) -> HandCheck:
    """The rule on a random polynomial, held against the reference rule."""

    def judge(caller: Caller, seed: int) -> Outcome | str | None:
        coefficients = np.random.default_rng(seed).standard_normal(degree + 1).tolist()
        yours = caller.call("driver:derivative", function, coefficients, h)
        right = drivers.derivative({}, function, coefficients, h)
        found = difference(f"{function}(f, h)", yours, np.asarray(right), 1e-6)
        return None if found is None else Outcome(0.0, (f"wrong: {title}", *found[:1] * 2), "" if hidden else found[1])

    return HandCheck(title, judge, hidden)


def _rule(function: str, h: float) -> list[HandCheck]:
    return [
        _on_polynomial("a parabola", function, 2, h, False),
        _on_polynomial("a cubic", function, 3, h, False),
        _on_polynomial("degree 5", function, 5, h, True),
        _on_polynomial("another step", function, 4, h / 3, True),
    ]


def _number(function: str) -> list[CallCheck]:
    def arguments(rng: np.random.Generator) -> tuple:
        return (float(rng.uniform(0.5, 50)), float(rng.uniform(0.01, 9)), 2.0**-53), {}

    def straight(rng: np.random.Generator) -> tuple:
        return (float(rng.uniform(0.5, 50)), 0.0, 2.0**-53), {}

    def single(rng: np.random.Generator) -> tuple:
        return (float(rng.uniform(0.5, 50)), float(rng.uniform(0.01, 9)), 2.0**-24), {}

    reference = getattr(numerical, function)
    return [
        CallCheck("float64", function, reference, arguments),
        CallCheck("no curvature", function, reference, straight, hidden=function != "best_central_step"),
        CallCheck("float32", function, reference, single, hidden=True),
    ]


ASSIGNMENT = Assignment(
    "gradient_check",
    "The gradient check",
    "A derivative by hand is held against a numerical one. Write three rules for f'(0) of a function f of one number, "
    "and say how exact a central difference can be: its error is |f'''| h^2 / 6 from the curve and u S / h from "
    "rounding (u the unit roundoff, S the size of what f adds up).",
    parts=(
        Part("minires.gradcheck.numerical:forward_difference", 1, _rule("forward_difference", 0.1)),
        Part("minires.gradcheck.numerical:central_difference", 2, _rule("central_difference", 0.1)),
        Part(
            "minires.gradcheck.numerical:complex_step",
            2,
            _rule("complex_step", 1e-20),
            hint="Expand f(ih) into its Taylor series and look at the imaginary part. Nothing is subtracted.",
        ),
        Part(
            "minires.gradcheck.numerical:best_central_step",
            2,
            _number("best_central_step"),
            hint="Set the derivative of the whole error with respect to h to zero. What if there is no curvature?",
        ),
        Part("minires.gradcheck.numerical:central_floor", 2, _number("central_floor")),
    ),
)
