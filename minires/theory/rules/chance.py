"""What an activation adds to the spread between networks: the relative variance of a mean square, by chance."""

from __future__ import annotations

import math

import numpy as np

from minires.theory.laws.activations import Activation, activation_moments
from minires.theory.laws.plain_networks import log_slope
from minires.theory.rules.state import State


def slope2(kind: Activation, q: float) -> float:
    """By what a relative variance of E z^2 is multiplied."""
    return 1.0 if kind.homogeneous else log_slope(kind, q) ** 2


def odd_relvar(kind: Activation, state: State, batch: int) -> float:
    """What an activation adds to the relative variance between networks, beyond what z's second moment explains.

    ReLU: relu(z)^2 = z^2/2 + z|z|/2; the odd half gives (4/C) mean of J2(c) - 1/4 - c^2/2, J2 the arc-cosine kernel of
    order two. Leaky: times ((1 - slope^2)/(1 + slope^2))^2. Smooth ones: the even part, with c^2.
    """
    c, pairs = state.correlation, batch * state.positions
    if kind.homogeneous:
        angle = np.arccos(c)
        j2 = (3 * np.sin(angle) * c + (math.pi - angle) * (1 + 2 * c * c)) / (2 * math.pi)
        shared = float(np.mean(j2 - 0.25 - c * c / 2))
        half = ((1 - kind.slope**2) / (1 + kind.slope**2)) ** 2
        return max(0.0, 4 * half * ((1 - 1 / pairs) * shared + 0.75 / pairs) / state.channels)
    q = float(state.signal.q.mean())
    moments = activation_moments(kind, q)
    if moments.second == 0:
        return 0.0
    own = float(moments.fourth / moments.second**2) - 1 - 2 * slope2(kind, q)
    shared = (1 - 1 / pairs) * float(np.mean(c * c)) + 1 / pairs
    return max(0.0, own) * shared / state.channels


def gate_relvar(kind: Activation, state: State, batch: int) -> float:
    """(4 P(both on) - 1)/C over pairs of samples, 3/C of a sample with itself at every position apart."""
    if kind.slope is None:
        return 0.0
    pairs = batch * state.positions
    both = 2 * (math.pi - np.arccos(state.correlation)) / math.pi - 1
    depth = ((1 - kind.slope**2) / (1 + kind.slope**2)) ** 2
    return max(0.0, depth * ((1 - 1 / pairs) * float(both.mean()) + 3 / pairs) / state.channels)
