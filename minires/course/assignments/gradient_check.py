"""Numerical derivatives: three rules, the best step, and how small the error can get."""

import numpy as np

from minires.course import drivers
from minires.course.checks import CallCheck, HandCheck, judged
from minires.course.declaration import Assignment, Caller, Mistake, Outcome, Part
from minires.course.differences import difference
from minires.gradcheck import numerical

TYPICAL = {
    "forward_difference": (
        (lambda f, h: f(h) - f(0.0), "It is not divided by h: a difference is not yet a slope."),
        (lambda f, h: (f(h) - f(-h)) / h, "It goes from -h to h, a distance of 2h; this rule starts at 0."),
        (lambda f, h: (f(h) - f(-h)) / (2 * h), "This is the central difference; the forward one starts at 0."),
        (lambda f, h: (f(0.0) - f(h)) / h, "The sign is turned: the slope is what f gains as its argument grows."),
    ),
    "central_difference": (
        (lambda f, h: (f(h) - f(-h)) / h, "It is twice too large: from -h to h is a distance of 2h."),
        (lambda f, h: (f(h) - f(-h)) / 2 * h, "Division and product go from left to right: a / 2 * h is a * h / 2."),
        (lambda f, h: (f(h) - f(0.0)) / h, "This is the forward difference; a central one looks at both sides."),
        (lambda f, h: (f(-h) - f(h)) / (2 * h), "The sign is turned: the slope is what f gains as its argument grows."),
    ),
    "complex_step": (
        (lambda f, h: f(1j * h).imag, "It is not divided by h: the imaginary part is h times the slope."),
        (lambda f, h: f(1j * h).real / h, "The real part is f(0); the slope is in the imaginary part."),
        (
            lambda f, h: (f(h) - f(0.0)) / h,
            "A small real step is lost in rounding; step along the imaginary axis: f(ih).",
        ),
    ),
}
"""What a rule often is instead, and the sentence for who wrote it."""


def _named(function: str, yours: object, coefficients: list[float], h: float) -> str:
    """The sentence of the typical mistake that gives this number; empty if none does."""
    for mistake, sentence in TYPICAL[function]:
        found = drivers.derivative({function: mistake}, function, coefficients, h)
        if difference("", yours, np.asarray(found), 1e-9) is None:
            return sentence
    return ""


def _on_polynomial(title: str, function: str, degree: int, h: float, hidden: bool) -> HandCheck:
    """The rule on a random polynomial, held against the reference rule."""

    def judge(caller: Caller, seed: int) -> Outcome | str | None:
        coefficients = np.random.default_rng(seed).standard_normal(degree + 1).tolist()
        yours = caller.call("driver:derivative", function, coefficients, h)
        right = drivers.derivative({}, function, coefficients, h)
        found = difference(f"{function}(f, h)", yours, np.asarray(right), 1e-6)
        if found is None:
            return None
        outcome = judged(title, found, hidden)
        verdict, said, _ = outcome.told
        outcome.told = verdict, said, f"{said}. {_named(function, yours, coefficients, h)}".rstrip(". ")
        return outcome

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
    mistakes=(
        Mistake("from -h to h", "forward_difference", "f(0.0)", "f(-h)"),
        Mistake("not divided", "forward_difference", "(f(h) - f(0.0)) / h", "f(h) - f(0.0)"),
        Mistake("sign turned", "forward_difference", "f(h) - f(0.0)", "f(0.0) - f(h)"),
        Mistake("divided by h", "central_difference", "(2 * h)", "h"),
        Mistake("brackets forgotten", "central_difference", "(2 * h)", "2 * h"),
        Mistake("one side", "central_difference", "f(-h)", "f(0.0)"),
        Mistake("sign turned, both sides", "central_difference", "f(h) - f(-h)", "f(-h) - f(h)"),
        Mistake("the real part", "complex_step", ".imag", ".real"),
        Mistake("not divided by h", "complex_step", ".imag / h", ".imag"),
        Mistake("a real step", "complex_step", "f(1j * h).imag", "(f(h) - f(0.0))"),
        Mistake("a square root", "best_central_step", "(1 / 3)", "(1 / 2)"),
        Mistake("the 3 forgotten", "best_central_step", "3 * u", "u"),
        Mistake("curvature taken for granted", "best_central_step", "math.inf if third == 0 else ", ""),
        Mistake("size forgotten", "best_central_step", "u * size", "u"),
        Mistake("truncation alone", "central_floor", " + u * size / h", ""),
        Mistake("the 6 forgotten", "central_floor", "h * h / 6", "h * h"),
        Mistake("infinity forgotten", "central_floor", "0.0 if math.isinf(h) else ", ""),
    ),
)
