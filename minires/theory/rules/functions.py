"""A signal as a function of one Gaussian, entry by entry [MF].

An activation of a convolution is one by itself. What is never negative, an average, a maximum or a residual stream,
passes for the ReLU of the Gaussian that gives its mean and second moment; a stream's own law h = F^-1(Phi(z)) is exact
for each entry. Covariances go over to the Gaussian to first order (Price's theorem).
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minires.theory.laws import activations as one_layer
from minires.theory.laws.activations import LINEAR, RELU, Activation
from minires.theory.laws.signal import Signal
from minires.theory.laws.sums import SumLaw, function_of_normal, gate_of_sum, share_on, sum_law
from minires.theory.rules.state import Floats, Gate, State, with_diagonal


def as_function(state: State) -> tuple[Signal | None, Activation | None]:
    """(source, function); (None, None) where there is none, or channels differ."""
    if state.form == "function" and state.stream is None:
        return (None, None) if state.throughs else (state.source, state.through)
    if state.form == "positive":
        source = rectified_source(state.signal)
        return source, None if source is None else RELU
    if state.stream is not None:
        function = function_of_normal(state.stream.quantile)
    elif state.summands:
        function = sum_law(LINEAR, state.summands).function
    else:
        return None, None
    return unit_source(state.signal, function), function


def rectified_source(signal: Signal) -> Signal | None:
    """The Gaussian whose ReLU has the signal's mean and second moment, for what is never negative but no such ReLU:
    an average or a maximum of some, or channels with biases of their own."""
    q = float(signal.q.mean())
    if not 0 < signal.mean**2 < q:
        return None
    mean, variance = one_layer.rectified_match(signal.mean, q)
    slope2 = float(one_layer.activation_moments(RELU, variance, mean).slope2) ** 2

    def change(k: Floats, both: Floats) -> Floats:
        return np.clip((k - signal.mean**2 * both) / slope2, -variance * both, variance * both) + mean**2

    return _recast(signal, mean**2 + variance * (signal.q / q), mean, change)


def unit_source(signal: Signal, function: Activation) -> Signal:
    """The Gaussian of unit variance that the signal is a function of."""
    first, slope = map(float, one_layer.hermite_coefficients(function, np.ones(1), 2)[0])

    def change(k: Floats, both: Floats) -> Floats:
        return np.clip((k - first**2 * both) / max(slope**2, 1e-300), -1.0, 1.0)

    return _recast(signal, np.ones_like(signal.q), 0.0, change)


def with_moments(signal: Signal, mean: float, second: float) -> Signal:
    """The signal with another mean and second moment: what samples share beyond the mean goes with the variance."""
    q = max(float(signal.q.mean()), 1e-300)
    scale = max(second - mean**2, 0.0) / max(q - signal.mean**2, 1e-300)
    each = None if signal.each is None else signal.each * (second / q)

    def change(k: Floats, both: Floats) -> Floats:
        return np.clip(mean**2 * both + (k - signal.mean**2 * both) * scale, -second * both, second * both)

    return _recast(signal, signal.q / q * second, mean, change)._replace(each=each)


def _recast(signal: Signal, q: Floats, mean: float, change: Callable[[Floats, Floats], Floats]) -> Signal:
    """A signal of these second moments and mean; its covariances are change(k, r r'), r^2 a position's share of q."""
    root = np.sqrt(signal.q / max(float(signal.q.mean()), 1e-300))

    def changed(k: Floats | None, root: Floats) -> Floats | None:
        return None if k is None else change(k, np.multiply.outer(root, root).astype(k.dtype))

    same = with_diagonal(changed(signal.same, root), q)
    return Signal(q, changed(signal.kernel, signal.at_kernel(root)), same, mean, span=signal.span)


def mean_and_deviation(source: Signal) -> tuple[float, float]:
    """Of a Gaussian, over all positions."""
    return source.mean, math.sqrt(max(float(source.q.mean()) - source.mean**2, 0.0))


def in_units(gate: Gate, source: Signal) -> Gate:
    """A function of a unit Gaussian, as one of the source."""
    mean, deviation = mean_and_deviation(source)
    return lambda z: gate(np.ravel((z - mean) / max(deviation, 1e-150))).reshape(np.shape(z))


def through_sum(kind: Activation, total: State, law: SumLaw, above: Gate | None) -> tuple[float, dict[str, Any]]:
    """What an activation of f(z) + g leaves of an energy that came through the gates above; gates of z, and the share
    of the energy where f(z) > 0."""
    parts = total.summands
    share, gate = gate_of_sum(kind, parts, law, above)
    if total.source is not None:
        return share, {"gate": in_units(gate, total.source)}
    if total.groups:  # behind shortcut A: of the channels with a past
        gate = gate_of_sum(kind, parts[:-1], law, above)[1]
    on = np.full(total.positions, share_on(parts[0].function, gate)) if len(parts) == 1 else None
    return share, {"gate": gate, "on": on}
