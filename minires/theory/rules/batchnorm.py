"""BatchNorm in training mode, with the layer's own gain and bias [MF]."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from minires import nn
from minires.backend import to_numpy
from minires.theory.laws import signal as maps
from minires.theory.laws.signal import Signal
from minires.theory.rules.state import Backward, Gradient, Setting, State, mean_field_cost, worse


def batchnorm(layer: nn.BatchNorm2d, state: State, setting: Setting) -> tuple[State, Backward]:
    """[MF] but for the second moment, in training mode; gain and bias are the layer's own values.

    Each group of channels is normalized by itself. The gradient's factor (m - 2)/(m - 3) is that of m Gaussian values.
    """
    m = setting.batch * state.positions
    gain2, shift = mean_square(layer.weight.value), mean_square(layer.bias.value)
    kernel = np.full_like(state.signal.kernel, shift)
    q, factors = np.full(state.positions, shift), []
    for share, part in state.parts:
        v = part.variance
        if v <= 0:  # a constant channel: BN puts out its bias and multiplies the gradient by 1/sqrt(eps)
            factors.append(gain2 / layer.eps)
            continue
        normal, r = maps.batchnorm(part), v / (v + layer.eps)
        q, kernel = q + share * gain2 * r * normal.q, kernel + share * gain2 * r * normal.kernel
        factors.append(gain2 * r * normal.inverse_v * state.scale_noise * max(m - 2, 0) / max(m - 3, 1))
    cost = mean_field_cost(state, setting.batch)
    known = state.grade or ("MF" if state.form == "gaussian" else "")  # a random convolution mixes the unknown away
    after = state.after(
        Signal(q, kernel), form="gaussian", grade=worse("MF", known), allowance=cost, relvar=0.0, normalized=True
    )

    kept = state.light

    def backward(g: Gradient) -> Gradient:
        return replace(
            g,
            energy=np.multiply.outer(factors, g.energy) if kept.groups else g.energy * factors[0],
            centered=1.0,
            scale_noise=kept.scale_noise,
            grade=worse(g.grade, "MF", kept.grade),  # it divides by v, which must be known
            allowance=g.allowance + cost,
            relvar=g.relvar + (kept.scale_noise - 1) / kept.channels,
            on=None,
        )

    return after, backward


def mean_square(value: Any) -> float:
    """Mean square of a parameter, wherever it lives."""
    return float(np.mean(to_numpy(value).astype(float) ** 2))
