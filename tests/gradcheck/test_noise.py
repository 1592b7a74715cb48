"""The bound is honest: right functions whose losses hardly move, or are small differences of large ones, never fail."""

from __future__ import annotations

import numpy as np
import pytest

from minires import ops
from minires.gradcheck import check_op, noise, numerical
from minires.gradcheck.numerical import ROUNDOFF, Probe
from tests.gradcheck.right_cases import KINDS

LABELS = np.array([0, 2, 1, 1, 3])


@pytest.mark.parametrize("seed", range(5))
def test_a_saturated_softmax_is_not_called_wrong(seed):
    logits = 20 * np.random.default_rng(seed).standard_normal((5, 4))
    settings = {"like": "softmax_cross_entropy", "options": {"labels": LABELS}}
    pair = (lambda z: ops.softmax_cross_entropy_forward(z, LABELS), ops.softmax_cross_entropy_backward)
    assert check_op(*pair, logits, **settings).verdict != "fail"
    wrong = check_op(pair[0], lambda dy, cache: 1.001 * pair[1](dy, cache), logits, **settings)
    assert wrong.verdict == "fail", "and a thousandth of it is still seen"


@pytest.mark.parametrize("kind", KINDS)
def test_right_functions_under_hard_conditions(kind):
    for seed in range(2 if kind == "deep" else 8):
        report = KINDS[kind][0](np.random.default_rng([seed, 11]))
        assert report.verdict != "fail", str(report)


def test_a_polynomial_has_no_kink():
    """Two parameters only, so that no median over many entries helps."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal(30)
        y = 3 * x + 2 + 0.1 * rng.standard_normal(30)

        def forward(w, b, x=x, y=y):
            e = w * x + b - y
            return (e * e).mean(), (e, x)

        def backward(dy, cache):
            e, x = cache
            return dy * 2 * (e * x).mean(), dy * 2 * e.mean()

        assert check_op(forward, backward, [np.array(1.3), np.array(0.2)]).verdict == "pass"


def test_a_kink_grows_with_the_step_and_noise_does_not():
    u, rng = ROUNDOFF["float64"], np.random.default_rng(0)
    dy = np.ones(())

    def along(f):
        return lambda step: numerical.probe_central(lambda t: np.array(f(t)), dy, np.array(f(0.0)), step, 0.0)

    def noisy(t):
        return 1.0 + t + 1e-12 * rng.standard_normal()

    h = 2.0**-18
    for f, kink in ((lambda t: 1 + abs(t), True), (lambda t: 1 + max(t - 1.5 * h, 0.0), True), (noisy, False)):
        probe = along(f)(h)
        assert noise.is_suspicious(probe, u)
        assert noise.is_kink(probe, along(f), u)[0] is kink
    assert not noise.is_suspicious(along(np.sin)(h), u)


def test_the_noise_of_a_small_difference_of_large_numbers_is_measured():
    """y = (1e6 + x) - 1e6 carries rounding of 1e-10, a million times u."""
    u, rng = ROUNDOFF["float64"], np.random.default_rng(1)
    ratios = []
    for _ in range(40):
        x = rng.uniform(0.5, 1.5)
        at = lambda t, x=x: np.array((1e6 * 1.1 + (x + t) * 0.7) - 1e6 * 1.1)  # noqa: E731
        ratios.append(noise.ratio(numerical.probe_central(at, np.ones(()), at(0.0), 2.0**-18, 0.0), u))
    assert 1e5 < noise.amplification(ratios) < 1e8
    assert noise.amplification([0.1] * 40) == 1


def test_the_error_of_a_probe_is_never_zero():
    flat = Probe(0.0, truncation=0.0, size=2.0, bend=0.0, step=1e-6)
    assert noise.error(flat, ROUNDOFF["float64"], 1.0) == 2.0 * ROUNDOFF["float64"]
    bent = Probe(0.0, truncation=0.0, size=2.0, bend=1e-9, step=1e-6)
    assert noise.error(bent, ROUNDOFF["float64"], 1.0) == pytest.approx(1e-9 / np.sqrt(70))


def test_white_noise_is_no_kink_in_20000_draws():
    """With the median of three small steps as the noise, about 19 of them were called kinks."""
    u, rng = ROUNDOFF["float64"], np.random.default_rng(2)

    def measure(step):
        return Probe(0.0, truncation=0.0, size=1.0, bend=1e-11 * abs(rng.standard_normal()), step=step)

    assert not any(noise.is_kink(measure(1e-6), measure, u)[0] for _ in range(20_000))


def test_the_noise_of_a_line_is_measured_along_that_line():
    """Five evaluations can agree by chance; other steps along the same line do not."""
    u = ROUNDOFF["float64"]
    calm = Probe(0.0, truncation=0.0, size=1.0, bend=2 * u, step=1e-6)
    noisy = Probe(0.0, truncation=0.0, size=1.0, bend=800 * u, step=1e-6)
    assert noise.along_line([calm] * 9, u) == 1
    assert noise.along_line([calm, calm, calm, *[noisy] * 6], u) > 80
    opposite = [Probe(s * 1e-9 / 4.0**-k, 0.0, 1.0, 2 * u, 4.0**-k) for k, s in enumerate((1, -1, 1, 1, -1, 1, -1))]
    assert noise.along_line(opposite, u) > 1e6, "the slopes of fine steps differ, though no fourth difference does"


MIXED = np.random.default_rng(3).standard_normal((4, 3)) * 10.0 ** np.linspace(-8, 2, 12).reshape(4, 3)
HARD = {
    "a pole near small entries": (lambda x: 1 / x, lambda x: -1 / x**2, MIXED),
    "a logarithm of small entries": (np.log, lambda x: 1 / x, np.abs(MIXED)),
    "a power of small entries": (lambda x: np.abs(x) ** 3.5, lambda x: 3.5 * np.abs(x) ** 2.5 * np.sign(x), MIXED),
    "waves shorter than a step": (lambda x: np.sin(1e4 * x), lambda x: 1e4 * np.cos(1e4 * x), 1000 + MIXED[1:3]),
    "rounding that is opposite at h and -h": (
        lambda x: (x + 1e6) ** 2 - 1e12,
        lambda x: 2 * (x + 1e6),
        np.round(2 * np.random.default_rng(0).standard_normal((4, 3))) / 2,
    ),
}


@pytest.mark.parametrize("name", HARD)
def test_a_derivative_that_one_step_cannot_tell(name):
    f, slope, x = HARD[name]
    assert check_op(lambda x: (f(x), x), lambda dy, x: dy * slope(x), x).verdict in ("pass", "roundoff")
    wrong = check_op(lambda x: (f(x), x), lambda dy, x: 1.01 * dy * slope(x), x)
    unresolved = name.startswith("waves")
    assert wrong.verdict == ("roundoff" if unresolved else "fail"), "a hundredth of it is seen, or said not to be"


def test_a_gradient_may_round_as_often_as_a_long_sum_does():
    """The determinant of a singular matrix: exactly 0 here, and its gradient is off by a hundred roundings."""
    x = np.diag([0.8, 0.0, 0.5])

    def backward(dy, x):
        return dy * 0.4 * (1 + 100 * ROUNDOFF["float64"]) * np.diag([0.0, 1.0, 0.0])

    assert check_op(lambda x: (np.linalg.det(x), x), backward, x).verdict == "pass"
