"""Activations: exact for (leaky) ReLU behind a linear layer [EX], mean field otherwise [MF]."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from minires.theory.laws import activations as one_layer
from minires.theory.laws.plain_networks import log_slope
from minires.theory.laws.rescaled_stream import Scaled
from minires.theory.laws.signal import Signal
from minires.theory.rules.state import Backward, Floats, Gradient, NoLaw, Setting, State, mean_field_cost, worse


def activation(kind: one_layer.Activation, state: State, setting: Setting) -> tuple[State, Backward]:
    """On a Gaussian: [EX] for (leaky) ReLU behind a linear layer, [MF] otherwise."""
    if state.form == "rectified" and kind.homogeneous:
        return state, lambda g: g  # max(x, 0) of x >= 0
    if state.form != "gaussian":
        raise NoLaw(f"{kind.name} of a signal that is not Gaussian")
    q = state.signal.q
    out, slopes = _activated(kind, state)
    exact = kind.homogeneous and state.grade == "EX"
    cost = 0.0 if exact else mean_field_cost(state, setting.batch)
    odd = _odd_relvar(kind, state, setting.batch)
    after = state.after(
        out,
        form="rectified" if kind.slope == 0 else "other",
        source=state.signal if kind.slope == 0 else None,
        normalized=state.normalized,
        grade="EX" if exact else worse("MF", state.grade),
        allowance=state.allowance + cost,
        relvar=state.relvar * _slope2(kind, float(q.mean())) + odd,
    )

    kept = state.light

    def backward(g: Gradient) -> Gradient:
        if g.gamma is not None:
            first = Scaled.started(setting.grid, kept.signal, rescale=setting.rescale)
            energy = g.gamma.energy(first.stream, gated=True)
        elif g.on is not None and kind.slope == 0:
            energy = g.energy * g.on
        else:
            energy = g.energy * slopes
        still = kind.homogeneous and g.spread_out and g.gamma is None
        return replace(
            g,
            energy=energy,
            gamma=None,
            on=None,
            centered=0.0,
            grade=worse(g.grade, "EX" if still else "MF", "EX" if kind.homogeneous else kept.grade),
            allowance=g.allowance + (0.0 if still and exact else cost),
            relvar=g.relvar + _gate_relvar(kind, kept, setting.batch),
        )

    return after, backward


def _activated(kind: one_layer.Activation, state: State) -> tuple[Signal, Floats]:
    """The signal behind an activation, and E phi'^2 per position, (P,), or (groups, P) where channels differ."""
    moments = [one_layer.activation_moments(kind, part.q) for _, part in state.parts]
    kernels = [one_layer.activation_kernel(kind, part.q, part.kernel) for _, part in state.parts]
    shares = [share for share, _ in state.parts]
    q = sum(share * m.second for share, m in zip(shares, moments, strict=True))
    kernel = sum(share * k for share, k in zip(shares, kernels, strict=True)) if state.groups else kernels[0]
    slopes = np.stack([m.slope2 for m in moments]) if state.groups else moments[0].slope2
    return Signal(q, kernel), slopes


def _slope2(kind: one_layer.Activation, q: float) -> float:
    return 1.0 if kind.homogeneous else log_slope(kind, q) ** 2


def _odd_relvar(kind: one_layer.Activation, state: State, batch: int) -> float:
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
        return 4 * half * ((1 - 1 / pairs) * shared + 0.75 / pairs) / state.channels
    q = float(state.signal.q.mean())
    moments = one_layer.activation_moments(kind, q)
    if moments.second == 0:
        return 0.0
    own = float(moments.fourth / moments.second**2) - 1 - 2 * _slope2(kind, q)
    shared = (1 - 1 / pairs) * float(np.mean(c * c)) + 1 / pairs
    return max(0.0, own) * shared / state.channels


def _gate_relvar(kind: one_layer.Activation, state: State, batch: int) -> float:
    """(4 P(both on) - 1)/C over pairs of samples, 3/C of a sample with itself at every position apart."""
    if kind.slope is None:
        return 0.0
    pairs = batch * state.positions
    both = 2 * (math.pi - np.arccos(state.correlation)) / math.pi - 1
    depth = ((1 - kind.slope**2) / (1 + kind.slope**2)) ** 2
    return depth * ((1 - 1 / pairs) * float(both.mean()) + 3 / pairs) / state.channels
