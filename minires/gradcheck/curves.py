"""The numbers behind two pictures: how the error of a difference depends on its step, and how many kinks it crosses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from minires import ops
from minires.backend import Array
from minires.gradcheck import gates, numerical
from minires.gradcheck.numerical import ROUNDOFF


@dataclass
class StepCurve:
    """Error of f'(0) against the step, by three methods in one precision, and what theory says about them."""

    dtype: str
    steps: Array
    forward: Array
    central: Array
    complex_step: Array
    best_step: float
    """h* of the central difference."""
    floor: float
    """Its error there."""


def step_curve(dtype: str = "float64", seed: int = 0) -> StepCurve:
    """The loss log sum_k exp(z_k + t d_k) at t = 0: every derivative of it is a moment of d under the softmax of z.

    f' is the mean of d, f''' its third central moment, both computed exactly (in float64): so h* and the floor are
    predictions, not fits.
    """
    rng = np.random.default_rng(seed)
    z, d = rng.standard_normal((2, 10)).astype(dtype)
    p = np.exp(z.astype(float)) / np.exp(z.astype(float)).sum()
    exact = float(p @ d)
    third = abs(float(p @ (d - exact) ** 3))
    size = abs(math.log(float(np.exp(z.astype(float)).sum())))

    complex_dtype = {"float32": np.complex64, "float64": np.complex128}[dtype]

    def f(t: complex) -> complex:
        step = np.asarray(t, dtype=complex_dtype if isinstance(t, complex) else dtype)
        return np.log(np.exp(z + step * d).sum())[()]

    steps = np.logspace(-14, 0, 113) if dtype == "float64" else np.logspace(-7, 0, 57)
    u = ROUNDOFF[dtype]
    errors = [
        [abs(method(f, float(h)) - exact) for h in steps]
        for method in (numerical.forward_difference, numerical.central_difference, numerical.complex_step)
    ]
    best, floor = numerical.best_central_step(size, third, u), numerical.central_floor(size, third, u)
    return StepCurve(dtype, steps, *(np.maximum(e, 1e-18) for e in errors), best, floor)


@dataclass
class KinkCurve:
    """ReLUs that switch when one weight of a convolution moves by +-h: counted, and expected by the law."""

    steps: Array
    counted: Array
    expected: Array


def kink_curve(seed: int = 0, weights: int = 40) -> KinkCurve:
    """y = relu(conv(x)); each of `weights` weights is moved by +-h, and switches are compared on both sides."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((8, 3, 12, 11))
    weight = rng.standard_normal((8, 3, 3, 3)) * math.sqrt(2 / 27)
    chosen = rng.choice(weight.size, weights, replace=False)
    steps = np.logspace(-5, -1, 9)
    counted, expected = np.zeros(len(steps)), np.zeros(len(steps))
    base = _preactivation(x, weight)
    for index in chosen:
        line = np.zeros(weight.size)
        line[index] = 1.0
        slope = _preactivation(x, line.reshape(weight.shape))  # z is linear in the weight
        for k, h in enumerate(steps):
            plus, minus = gates.relu_switch(base + h * slope), gates.relu_switch(base - h * slope)
            counted[k] += np.sum(plus.gate != minus.gate)
            expected[k] += gates.expected_crossings([plus], [minus])
    return KinkCurve(steps, counted, expected)


def _preactivation(x: Array, weight: Array) -> Array:
    return ops.conv2d_forward(x, weight, padding=1)[0]
