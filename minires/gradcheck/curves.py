"""The numbers behind two pictures: how the error of a difference depends on its step, and how many kinks it crosses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from minires import ops
from minires.backend import Array
from minires.gradcheck import kinks, numerical
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
    half_a_rounding = u * abs(exact) / 2  # an error below it is luck
    return StepCurve(dtype, steps, *(np.maximum(e, half_a_rounding) for e in errors), best, floor)


@dataclass
class KinkCurve:
    """ReLUs that switch when one weight of a convolution moves by +-h: counted, and expected by the law."""

    steps: Array
    counted: Array
    expected: Array


def kink_curve(seed: int = 0, weights: int = 40) -> KinkCurve:
    """y = relu(conv(x)): one weight of each of `weights` filters moves by +-h, and switches are compared on both sides.

    One weight a filter, since weights of one filter move the same ReLUs and would be counted in clusters.
    """
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((8, 3, 12, 11))
    weight = rng.standard_normal((weights, 3, 3, 3)) * math.sqrt(2 / 27)
    line = np.zeros((weights, 27))
    line[np.arange(weights), rng.integers(0, 27, weights)] = 1.0
    z, slope = _preactivation(x, weight), _preactivation(x, line.reshape(weight.shape))  # z is linear in the weight
    steps = np.logspace(-5, -1, 9)
    reaches = [kinks.Reach([kinks.relu_switch(z)]) for _ in steps]
    for h, reach in zip(steps, reaches, strict=True):
        reach.add([kinks.relu_switch(z + h * slope)], [kinks.relu_switch(z - h * slope)])
    return KinkCurve(steps, np.array([r.crossed for r in reaches]), np.array([r.expected for r in reaches]))


def _preactivation(x: Array, weight: Array) -> Array:
    return ops.conv2d_forward(x, weight)[0]
