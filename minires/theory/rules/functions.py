"""A signal as a function of one Gaussian, entry by entry [MF].

An activation of a convolution is one by itself. What is never negative, an average, a maximum or a residual stream,
passes for the ReLU of the Gaussian that gives its mean and second moment; a stream's own law h = F^-1(Phi(z)) is exact
for each entry. Covariances go over to the Gaussian to first order (Price's theorem).
"""

from __future__ import annotations

import math

import numpy as np

from minires.theory.laws.activations import (
    LINEAR,
    RELU,
    Activation,
    activation_moments,
    hermite_coefficients,
    rectified_match,
)
from minires.theory.laws.signal import Outline, Signal
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


def rectified_source(signal: Signal | Outline) -> Signal | None:
    """The Gaussian whose ReLU has the signal's mean and second moment, for what is never negative but no such ReLU:
    an average or a maximum of some, or channels with biases of their own. Covariances to first order (Price)."""
    q = float(signal.q.mean())
    if not 0 < signal.mean**2 < q:
        return None
    mean, variance = rectified_match(signal.mean, q)
    profile = signal.q / q
    source = Signal(mean**2 + variance * profile, np.zeros((1, 1)), mean=mean)
    if signal.kernel is None:
        return source
    slope = float(activation_moments(RELU, variance, mean).slope2)

    def covariance(of: np.ndarray, share: np.ndarray) -> np.ndarray:
        first = signal.mean * np.sqrt(share).astype(of.dtype)
        limit = variance * np.sqrt(np.multiply.outer(share, share)).astype(of.dtype)
        return np.clip((of - np.multiply.outer(first, first)) / slope**2, -limit, limit) + mean**2

    member = profile if signal.span is None else profile[signal.span.member]
    same = None if signal.same is None else covariance(signal.same, profile)
    return source._replace(
        kernel=covariance(signal.kernel, member), same=with_diagonal(same, source.q), span=signal.span
    )


def unit_source(signal: Signal, function: Activation) -> Signal:
    """The Gaussian of unit variance that the signal is a function of; covariances to first order (Price's theorem)."""
    coefficients = hermite_coefficients(function, np.ones(1), 2)[0]
    slope2, first2 = max(float(coefficients[1]) ** 2, 1e-300), float(coefficients[0]) ** 2
    root = np.sqrt(signal.q / max(float(signal.q.mean()), 1e-300))

    def covariance(kernel: Floats, root: Floats) -> Floats:
        both = np.multiply.outer(root, root).astype(kernel.dtype)
        return np.clip((kernel - first2 * both) / slope2, -1.0, 1.0)

    member = root if signal.span is None else root[signal.span.member]
    same = None if signal.same is None else with_diagonal(covariance(signal.same, root), np.ones_like(root))
    return Signal(np.ones_like(signal.q), covariance(signal.kernel, member), same, span=signal.span)


def in_units(gate: Gate, source: Signal | Outline) -> Gate:
    """A function of a unit Gaussian, as one of the source."""
    mean, deviation = source.mean, math.sqrt(max(float(source.q.mean()) - source.mean**2, 1e-300))
    return lambda z: gate(np.ravel((z - mean) / deviation)).reshape(np.shape(z))


def with_moments(signal: Signal, mean: float, second: float) -> Signal:
    """The signal with another mean and second moment: what samples share beyond the mean goes with the variance."""
    q = float(signal.q.mean())
    root = np.sqrt(signal.q / q) if q else signal.q
    scale = max(second - mean**2, 0.0) / max(q - signal.mean**2, 1e-300)

    def moved(kernel: Floats, root: Floats) -> Floats:
        both = np.multiply.outer(root, root).astype(kernel.dtype)
        return np.clip(mean**2 * both + (kernel - signal.mean**2 * both) * scale, -second * both, second * both)

    member = root if signal.span is None else root[signal.span.member]
    found = root**2 * second
    same = None if signal.same is None else with_diagonal(moved(signal.same, root), found)
    each = None if signal.each is None else signal.each * (second / max(q, 1e-300))
    return Signal(found, moved(signal.kernel, member), same, mean, each, signal.span)
