"""A signal as a function of one Gaussian, entry by entry [MF].

An activation of a convolution is one by itself. What is never negative, an average, a maximum or a residual stream,
passes for the ReLU of the Gaussian that gives its mean and second moment; a stream's own law h = F^-1(Phi(z)) is exact
for each entry. Covariances go over to the Gaussian to first order (Price's theorem).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from minires.theory.laws.activations import (
    LINEAR,
    RELU,
    Activation,
    activation_moments,
    hermite_coefficients,
    rectified_match,
)
from minires.theory.laws.signal import Signal
from minires.theory.laws.sums import function_of_normal, sum_law
from minires.theory.rules.state import Floats, Gate, State, with_diagonal


def as_function(state: State) -> tuple[Signal | None, Activation | None]:
    """(source, function); (None, None) where there is none, or channels differ."""
    if state.stream is not None:
        function = function_of_normal(state.stream.quantile)
        return unit_source(state.signal, function), function
    if state.form == "function" and not state.throughs:
        return state.source, state.through
    if state.form == "sum" and state.summands:
        function = sum_law(LINEAR, state.summands).function
        return unit_source(state.signal, function), function
    if state.form == "positive":
        source = rectified_source(state.signal)
        return source, None if source is None else RELU
    return None, None


def rectified_source(signal: Signal) -> Signal | None:
    """The Gaussian whose ReLU has the signal's mean and second moment, for what is never negative but no such ReLU:
    an average or a maximum of some, or channels with biases of their own."""
    q = float(signal.q.mean())
    if not 0 < signal.mean**2 < q:
        return None
    mean, variance = rectified_match(signal.mean, q)
    root = np.sqrt(signal.q / q)
    second = mean**2 + variance * root**2
    if signal.kernel is None:
        return Signal(second, np.zeros((1, 1)), mean=mean)
    slope2 = float(activation_moments(RELU, variance, mean).slope2) ** 2
    return _recast(
        signal,
        (second, mean),
        root,
        lambda k, both: np.clip((k - signal.mean**2 * both) / slope2, -variance * both, variance * both) + mean**2,
    )


def unit_source(signal: Signal, function: Activation) -> Signal:
    """The Gaussian of unit variance that the signal is a function of."""
    first, slope = map(float, hermite_coefficients(function, np.ones(1), 2)[0])
    root = np.sqrt(signal.q / max(float(signal.q.mean()), 1e-300))
    slope2 = max(slope**2, 1e-300)
    one = np.ones_like(signal.q)
    return _recast(signal, (one, 0.0), root, lambda k, both: np.clip((k - first**2 * both) / slope2, -1.0, 1.0))


def with_moments(signal: Signal, mean: float, second: float) -> Signal:
    """The signal with another mean and second moment: what samples share beyond the mean goes with the variance."""
    q = float(signal.q.mean())
    root = np.sqrt(signal.q / q) if q else signal.q
    scale = max(second - mean**2, 0.0) / max(q - signal.mean**2, 1e-300)
    each = None if signal.each is None else signal.each * (second / max(q, 1e-300))

    def change(k: Floats, both: Floats) -> Floats:
        return np.clip(mean**2 * both + (k - signal.mean**2 * both) * scale, -second * both, second * both)

    return _recast(signal, (root**2 * second, mean), root, change)._replace(each=each)


def _recast(
    signal: Signal, moments: tuple[Floats, float], root: Floats, change: Callable[[Floats, Floats], Floats]
) -> Signal:
    """A signal of these second moments and mean; its covariances are change(k, r r'), r the root at their positions."""

    def changed(k: Floats, root: Floats) -> Floats:
        return change(k, np.multiply.outer(root, root).astype(k.dtype))

    q, mean = moments
    same = None if signal.same is None else with_diagonal(changed(signal.same, root), q)
    return Signal(q, changed(signal.kernel, signal.at_kernel(root)), same, mean, span=signal.span)


def in_units(gate: Gate, source: Signal) -> Gate:
    """A function of a unit Gaussian, as one of the source."""
    mean, deviation = source.mean, math.sqrt(max(float(source.q.mean()) - source.mean**2, 1e-300))
    return lambda z: gate(np.ravel((z - mean) / deviation)).reshape(np.shape(z))
