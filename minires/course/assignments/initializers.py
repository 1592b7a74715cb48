"""Samplers of weights, judged by the laws that their samples have to obey."""

import math

import numpy as np

from minires import init
from minires.course.checks import CallCheck, HandCheck
from minires.course.declaration import Assignment, Caller, Mistake, Outcome, Part
from minires.course.differences import difference
from minires.gradcheck.runner import Seeded
from minires.init.distributions import fans


def he_normal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A weight (out, in) or (out, in, kh, kw) for a layer before a relu: normal, variance 2 / fan_in.

    Source: He et al. 2015, arXiv:1502.01852.
    """
    fan_in, _ = fans(shape)
    return math.sqrt(2 / fan_in) * rng.standard_normal(shape)


def xavier_uniform(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A weight (out, in) or (out, in, kh, kw): uniform around 0, variance 2 / (fan_in + fan_out).

    Source: Glorot, Bengio 2010, AISTATS.
    """
    fan_in, fan_out = fans(shape)
    bound = math.sqrt(6 / (fan_in + fan_out))
    return rng.uniform(-bound, bound, shape)


def _law(name: str, law: object, shape: tuple[int, ...], hidden: bool) -> HandCheck:
    """The samples against the law. Chance departs once in many checks, so a departure has to show twice."""
    from minires.theory import check_initializer

    title = f"law of {' x '.join(map(str, shape))}"

    def judge(caller: Caller, seed: int) -> Outcome | str | None:
        def sampler(wanted: tuple[int, ...], rng: np.random.Generator) -> object:
            return caller.call(name, tuple(int(s) for s in wanted), Seeded(int(rng.integers(2**31))))

        for attempt in range(2):
            report = check_initializer(sampler, shape, law, rng=seed % 2**31 + attempt)
            if report.ok:
                return None
        where = next((f"its {c.name} departs from the law" for c in report.checks if not c.ok), report.verdict)
        return Outcome(0.0, (f"wrong: {title}", where, report.verdict))

    return HandCheck(title, judge, hidden)


def _repeats(name: str, arguments: tuple) -> HandCheck:
    def judge(caller: Caller, seed: int) -> str | None:
        one, two = (caller.call(name, *arguments, Seeded(seed)) for _ in range(2))
        if difference("", one, np.asarray(two)) is not None:
            return f"{name} gives another array for the same generator: all random numbers have to come from rng"
        return None

    return HandCheck("the same generator, the same weights", judge)


def _sampler(name: str, law: object) -> list[HandCheck]:
    checks = [_law(name, law, (64, 48), False), _law(name, law, (32, 16, 3, 3), False)]
    return [*checks, _law(name, law, (24, 40, 5, 3), True), _repeats(name, ((4, 3),))]


def _orthogonal() -> list[HandCheck]:
    def orthonormal(caller: Caller, seed: int) -> str | None:
        rng = np.random.default_rng(seed)
        for rows, columns in ((5, 5), (int(rng.integers(6, 9)), 4), (3, int(rng.integers(5, 9)))):
            q = np.asarray(caller.call("orthogonal", rows, columns, Seeded(int(rng.integers(2**31)))))
            if q.shape != (rows, columns):
                return "the matrix has not as many rows and columns as were asked for"
            product = q.T @ q if rows >= columns else q @ q.T
            if not np.allclose(product, np.eye(min(rows, columns)), atol=1e-9):
                return "the columns (the rows, where there are fewer of them) are not orthonormal"
        return None

    def uniform(caller: Caller, seed: int) -> str | None:
        rng = np.random.default_rng(seed)
        drawn = np.array([caller.call("orthogonal", 3, 3, Seeded(int(rng.integers(2**31)))) for _ in range(400)])
        # The mean of an entry of a Haar matrix is 0, its variance 1/3: 6 standard errors are one in 5e8.
        worst = np.abs(drawn.mean(axis=0)).max() / math.sqrt(1 / 3 / len(drawn))
        if worst > 6:
            return "not uniform: some entries have a sign of their own. What does QR leave to the algorithm?"
        if not np.all(np.abs(np.square(drawn).mean(axis=0) - 1 / 3) < 0.1):
            return "not uniform: some directions come more often than others. Is the matrix normal that is decomposed?"
        return None

    checks = [HandCheck("orthonormal", orthonormal), HandCheck("orthonormal, other sizes", orthonormal, True)]
    return [*checks, HandCheck("uniform", uniform, False, 2.0), _repeats("orthogonal", (4, 3))]


def _shapes(title: str, kind: str, hidden: bool) -> CallCheck:
    def arguments(rng: np.random.Generator) -> tuple:
        axes = 2 if kind == "matrix" else 4
        return (tuple(int(s) for s in rng.permutation([3, 5, 7, 2])[:axes]),), {}

    return CallCheck(title, "fans", fans, arguments, hidden)


ASSIGNMENT = Assignment(
    "initializers",
    "Initializers that obey their laws",
    "Write functions that draw the weights of a layer. Nobody can say of one array whether it is right. A sampler is "
    "judged by its law: mean, variance and kurtosis of many draws, and that weights do not hang together.",
    parts=(
        Part(
            "minires.init.distributions:fans",
            2,
            [
                _shapes("a matrix", "matrix", False),
                _shapes("a convolution", "kernel", False),
                _shapes("another", "kernel", True),
            ],
            hint="How many inputs does one output of a convolution look at?",
        ),
        Part("minires.course.assignments.initializers:he_normal", 3, _sampler("he_normal", init.HeNormal())),
        Part(
            "minires.course.assignments.initializers:xavier_uniform",
            3,
            _sampler("xavier_uniform", init.XavierUniform()),
        ),
        Part(
            "minires.init.matrices:haar",
            4,
            _orthogonal(),
            "orthogonal",
            "QR of a normal matrix gives an orthogonal Q. Compare the signs of Q[0, 0] over many draws.",
        ),
    ),
    mistakes=(
        Mistake("kernel area forgotten", "he_normal", "math.sqrt(2 / fan_in)", "math.sqrt(2 / shape[1])"),
        Mistake("square root forgotten", "he_normal", "math.sqrt(2 / fan_in)", "2 / fan_in"),
        Mistake("variance 1 / fan_in", "he_normal", "math.sqrt(2 / fan_in)", "math.sqrt(1 / fan_in)"),
        Mistake("bound taken for the standard deviation", "xavier_uniform", "math.sqrt(6 /", "math.sqrt(2 /"),
        Mistake("fan_in only", "xavier_uniform", "math.sqrt(6 / (fan_in + fan_out))", "math.sqrt(3 / fan_in)"),
        Mistake("taps forgotten", "fans", "math.prod(shape[2:])", "1"),
        Mistake(
            "fans swapped",
            "fans",
            "shape[1] * taps, shape[0] // groups * taps",
            "shape[0] // groups * taps, shape[1] * taps",
        ),
        Mistake("signs left to the algorithm", "orthogonal", "q *= np.sign(np.diag(r))", "pass"),
        Mistake("QR of uniform numbers", "orthogonal", "rng.standard_normal(", "rng.random("),
    ),
    replaces=False,
    blanks=("minires.init.distributions:Initializer.sample", "minires.init.distributions:Normal._draw"),
)
