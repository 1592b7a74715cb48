"""Numerical derivatives: their errors follow the theory, and the measured bound holds."""

from __future__ import annotations

import numpy as np
import pytest

from minires import ops
from minires.gradcheck import numerical, precision
from minires.gradcheck.curves import kink_curve, step_curve
from minires.gradcheck.kinks import Reach, poisson_quantile, relu_switch
from minires.gradcheck.numerical import ROUNDOFF, Probe


def slope(steps, errors, low, high):
    """Exponent of the error's growth with the step, between two steps."""
    part = (steps >= low) & (steps <= high)
    return np.polyfit(np.log(steps[part]), np.log(errors[part]), 1)[0]


def test_truncation_grows_with_the_step_as_theory_says():
    curve = step_curve()
    assert slope(curve.steps, curve.forward, 1e-5, 1e-2) == pytest.approx(1, abs=0.02)
    assert slope(curve.steps, curve.central, 1e-3, 1e-1) == pytest.approx(2, abs=0.02)
    assert slope(curve.steps, curve.complex_step, 1e-3, 1e-1) == pytest.approx(2, abs=0.02)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_rounding_grows_with_one_over_the_step(dtype):
    """A straight line of slope -1; 5 standard errors of the fit allow for the scatter of rounding."""
    curve = step_curve(dtype)
    part = curve.steps < 0.03 * curve.best_step
    x, y = np.log(curve.steps[part]), np.log(np.maximum(curve.central[part], 1e-17))
    (fitted, _), covariance = np.polyfit(x, y, 1, cov=True)
    assert abs(fitted + 1) < 5 * np.sqrt(covariance[0, 0])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_no_step_beats_the_prediction_by_much_and_the_predicted_one_reaches_it(dtype, seed):
    """At h* the error is truncation |f'''| h^2 / 6, a third of the floor, plus rounding of at most u S / h."""
    curve = step_curve(dtype, seed)
    at_best = curve.central[np.argmin(np.abs(np.log(curve.steps / curve.best_step)))]
    assert at_best <= 2 * curve.floor
    assert curve.forward.min() > curve.central.min()


def test_complex_step_has_no_rounding_floor():
    curve = step_curve()
    assert np.max(curve.complex_step[curve.steps < 1e-9]) <= 8 * np.finfo(float).eps


def test_step_and_floor_scale_with_the_roundoff():
    u, size, third = ROUNDOFF["float64"], 3.0, 0.7
    ratio = ROUNDOFF["float32"] / u
    h = numerical.best_central_step(size, third, u)
    assert numerical.best_central_step(size, third, u * ratio) == pytest.approx(h * ratio ** (1 / 3))
    assert numerical.central_floor(size, third, u) == pytest.approx(
        1.04 * (u * size) ** (2 / 3) * third ** (1 / 3), rel=1e-3
    )
    assert numerical.central_floor(size, 0.0, u) == 0.0


def network(w, x):
    """Smooth and curved: tanh of a batch-normalized convolution."""
    y, _ = ops.conv2d_forward(x, w, padding=1)
    y, _ = ops.batchnorm_forward(y, np.full(4, 1.3, w.dtype), np.full(4, 0.2, w.dtype))
    return np.tanh(y)


def test_the_measured_bound_holds_along_200_directions():
    """Against the complex step, which is exact to rounding. Without the truncation term it would not hold."""
    rng = np.random.default_rng(0)
    w, x = rng.standard_normal((4, 3, 3, 3)), rng.standard_normal((4, 3, 6, 5))
    dy = rng.standard_normal((4, 4, 6, 5))
    y0, without_truncation = network(w, x), 0
    for _ in range(200):
        d = rng.standard_normal(w.shape)
        exact = float(np.sum(dy * network(w + 1e-30j * d, x.astype(complex)).imag)) / 1e-30
        probe = numerical.probe_central(lambda t, d=d: network(w + t * d, x), dy, y0, 3e-5, 10.0)
        noise = ROUNDOFF["float64"] * probe.size
        assert abs(probe.value - exact) <= probe.bound(noise)
        without_truncation += abs(probe.value - exact) > probe.bound(noise) - 2 * probe.truncation
    assert without_truncation > 0


def test_a_kink_at_the_point_bends_and_a_smooth_function_does_not():
    dy, h = np.ones(1), 1e-5
    kink = numerical.probe_central(lambda t: np.array([abs(t)]), dy, np.zeros(1), h, 0.0)
    smooth = numerical.probe_central(lambda t: np.array([np.sin(t)]), dy, np.zeros(1), h, 0.0)
    assert kink.value == 0 and kink.truncation == 0, "central differences see nothing of it"
    assert kink.bend == pytest.approx(4 * h)
    assert smooth.bend < 1e-20


def test_a_steep_function_gets_a_smaller_step():
    u = ROUNDOFF["float64"]
    steep = Probe(0.0, truncation=1.0, size=1.0, bend=0.0, step=1e-3)
    flat = Probe(0.0, truncation=0.0, size=1.0, bend=0.0, step=1e-3)
    assert numerical.choose_step([flat], 1.0, u) == pytest.approx(u ** (1 / 3))
    assert numerical.choose_step([flat, steep], 1.0, u) == pytest.approx((3 * u * 1e-6 / 6) ** (1 / 3))


@pytest.mark.parametrize(
    ("y", "single"),
    [
        (np.array([0.1, 0.2], np.float32), True),
        (np.array([0.1, 0.2], np.float32).astype(float), True),
        (np.array([0.1, 0.2]), False),
        (np.array([1.0, 2.0, 0.5]), False),
    ],
    ids=["float32", "float32 in disguise", "float64", "exact in both"],
)
def test_float32_is_recognized_in_any_dtype(y, single):
    assert precision.looks_single(y) is single


def test_kinks_follow_their_law():
    """Counts at each step against Poisson, false alarm 1e-6 in all; the counts of all steps share their network."""
    curve = kink_curve(seed=1)
    small = curve.steps <= 1e-2
    for counted, expected in zip(curve.counted[small], curve.expected[small], strict=True):
        assert counted <= poisson_quantile(expected, 5e-7 / small.sum())
        assert counted >= poisson_quantile(expected, 1 - 5e-7 / small.sum())
    assert curve.expected[small][-1] > 100, "enough of them to tell"


def test_expected_crossings_of_a_layer_of_normals():
    """4 h phi(0) / s for each ReLU when every input moves by 2h both ways, s estimated from 10^5 numbers."""
    z = 3 * np.random.default_rng(0).standard_normal(100_000)
    h = 1e-4
    reach = Reach([relu_switch(z)])
    assert reach.add([relu_switch(z + 2 * h)], [relu_switch(z - 2 * h)])
    law = len(z) * 4 * h / np.sqrt(2 * np.pi) / 3
    assert reach.expected == pytest.approx(law, rel=5 / np.sqrt(len(z)))
    assert poisson_quantile(law, 1 - 5e-7) <= reach.crossed <= poisson_quantile(law, 5e-7)


def test_a_switch_that_many_steps_cross_is_counted_once():
    z = np.array([1.0, 1e-9, -2.0])
    reach = Reach([relu_switch(z)])
    assert [reach.add([relu_switch(z - h)]) for h in (1e-8, 1e-7, 1e-6, 1e-10)] == [True, True, True, False]
    other = Reach([relu_switch(z)])
    other.add([relu_switch(z - 2)])
    assert (reach.crossed, other.crossed) == (1, 2)
    reach.join(other)
    assert reach.crossed == 2


@pytest.mark.parametrize("mean", [0.01, 1.0, 20.0, 3000.0])
def test_poisson_quantile_against_counting(mean):
    draws = np.random.default_rng(0).poisson(mean, 200_000)
    k = poisson_quantile(mean, 0.01)
    assert np.mean(draws > k) <= 0.01 + 5 * np.sqrt(0.01 / len(draws))
    assert np.mean(draws > k - 1) >= 0.01 - 5 * np.sqrt(0.01 / len(draws)) or k == 0
