"""What an activation adds to the spread between networks: the relative variance of a mean square, by chance."""

import math

import numpy as np

from minires.theory.laws.activations import Activation, activation_moments
from minires.theory.laws.plain_networks import log_slope
from minires.theory.rules.state import State


def slope2(kind: Activation, q: float) -> float:
    """By what a relative variance of E z^2 is multiplied."""
    return 1.0 if kind.homogeneous else log_slope(kind, q) ** 2


def odd_relvar(kind: Activation, state: State, batch: int) -> float:
    """What an activation adds beyond what z's second moment explains.

    ReLU: relu(z)^2 = z^2/2 + z|z|/2; the odd half gives (4/C) mean of J2(c) - 1/4 - c^2/2, J2 the arc-cosine kernel of
    order two. Leaky: times ((1 - slope^2)/(1 + slope^2))^2. Smooth ones: the even part, with c^2.
    """
    c = state.correlation
    if kind.homogeneous:
        angle = np.arccos(c)
        j2 = (3 * np.sin(angle) * c + (math.pi - angle) * (1 + 2 * c * c)) / (2 * math.pi)
        return _odd(kind) * _over_pairs(4 * (j2 - 0.25 - c * c / 2), 3.0, state, batch)
    q = float(state.signal.q.mean())
    moments = activation_moments(kind, q)
    own = float(moments.fourth / max(moments.second**2, 1e-300)) - 1 - 2 * slope2(kind, q)
    return max(0.0, own) * _over_pairs(c * c, 1.0, state, batch)


def gate_relvar(kind: Activation, state: State, batch: int) -> float:
    """(4 P(both on) - 1)/C over pairs of samples; leaky: times the same factor as forward."""
    if not kind.homogeneous:
        return 0.0
    return _odd(kind) * _over_pairs(1 - 2 * np.arccos(state.correlation) / math.pi, 3.0, state, batch)


def _odd(kind: Activation) -> float:
    return ((1 - kind.slope**2) / (1 + kind.slope**2)) ** 2


def _over_pairs(different: np.ndarray, itself: float, state: State, batch: int) -> float:
    """Mean over pairs of samples and positions, one of which is a sample with itself, over the channels."""
    pairs = batch * state.positions
    return max(0.0, ((1 - 1 / pairs) * float(different.mean()) + itself / pairs) / state.channels)
