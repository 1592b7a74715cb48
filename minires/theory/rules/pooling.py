"""Pooling, dropout, and layers that only change the shape."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from minires import nn
from minires.nn.residual import Subsample
from minires.theory.laws import pooling as windows
from minires.theory.laws.geometry import ConvGeometry
from minires.theory.laws.signal import Signal
from minires.theory.rules.state import PASSED, Backward, Floats, Gradient, NoLaw, Setting, State, kept_positions, worse


def max_pool(layer: nn.MaxPool2d, state: State, setting: Setting) -> tuple[State, Backward]:
    """[MF] maximum of what a window's pixels share (K) plus independent Gaussians; see `laws.pooling`."""
    geometry = ConvGeometry.of(state.image, layer.kernel_size, layer.stride, layer.padding)
    if state.form not in ("gaussian", "rectified"):
        raise NoLaw("the maximum of a signal that is neither Gaussian nor the ReLU of one")
    rectified = state.form == "rectified"
    source = state.source if rectified else state.signal
    counts = geometry.forward_counts.ravel()
    reads = np.kron(geometry.height.reads, geometry.width.reads)
    q = reads @ source.q / counts
    common = np.clip(_within_windows(reads, source) / q, 0.0, 1.0)
    first, second = _pooled_moments(counts, common, rectified)
    mean = first * np.sqrt(q)
    positive = (1 - 0.5**counts) if rectified else np.ones(len(counts))
    taken = positive[:, None] * reads / counts[:, None]
    kernel = np.multiply.outer(mean, mean) + taken @ source.kernel @ taken.T
    after = state.after(
        Signal(second * q, np.minimum(kernel, np.sqrt(np.multiply.outer(second * q, second * q)))),
        shape=(state.channels, *geometry.outputs),
        grade=worse(state.grade, "MF"),
        allowance=state.allowance + 0.02,
    )

    def backward(g: Gradient) -> Gradient:
        shares = (g.energy / counts).reshape(geometry.outputs)
        energy = geometry.box_transpose(shares).ravel()
        on = geometry.box_transpose((g.energy * (1 - 0.5**counts) / counts).reshape(geometry.outputs)).ravel()
        on = on / np.where(energy > 0, energy, 1)
        return replace(g, energy=energy, on=on, grade=worse(g.grade, "MF"), **PASSED)

    return after, backward


def _within_windows(reads: Floats, source: Signal) -> Floats:
    """Mean of K over the pairs of different pixels of each window, (P_out,); 0 for a single pixel."""
    pairs = np.einsum("ij,jk,ik->i", reads, source.kernel, reads, optimize=True) - reads @ np.diag(source.kernel)
    count = reads.sum(axis=1)
    return pairs / np.maximum(count * (count - 1), 1)


def _pooled_moments(counts: Floats, common: Floats, rectified: bool) -> tuple[Floats, Floats]:
    """E max and E max^2 for unit variance, n = counts pixels, a share `common` of the variance shared by all."""
    first, second = np.empty(len(counts)), np.empty(len(counts))
    for key in {(int(n), round(float(c), 3)) for n, c in zip(counts, common, strict=True)}:
        where = (counts == key[0]) & (np.round(common, 3) == key[1])
        first[where], second[where] = windows.shared_max_moments(*key, rectified=rectified)
    return first, second


def avg_pool(layer: nn.AvgPool2d, state: State, setting: Setting) -> tuple[State, Backward]:
    """Forward [MF]: pixels share K and are independent beyond it. Backward [EX]."""
    geometry = ConvGeometry.of(state.image, layer.kernel_size, layer.stride, layer.padding)
    return _average(state, np.kron(geometry.height.reads, geometry.width.reads) / geometry.taps, geometry.outputs)


def global_avg_pool(layer: nn.GlobalAvgPool2d, state: State, setting: Setting) -> tuple[State, Backward]:
    """The mean over all positions."""
    return _average(state, np.full((1, state.positions), 1 / state.positions), ())


def _average(state: State, mean: Floats, outputs: tuple[int, ...]) -> tuple[State, Backward]:
    """mean: (P_out, P), the weight of each pixel in each output."""
    kernel = mean @ state.signal.kernel @ mean.T
    own = state.signal.q - np.diag(state.signal.kernel)
    after = state.after(
        Signal(np.diag(kernel) + mean**2 @ own, kernel),
        shape=(state.channels, *outputs),
        form="gaussian" if state.form == "gaussian" else "other",
        grade=worse(state.grade, "MF") if state.positions > 1 else state.grade,
    )

    def backward(g: Gradient) -> Gradient:
        alone = state.positions == 1
        energy = (mean**2).T @ g.energy
        return replace(g, energy=energy, on=None, spread_out=g.spread_out and alone, **PASSED)

    return after, backward


def dropout(layer: nn.Dropout, state: State, setting: Setting) -> tuple[State, Backward]:
    """[EX] in training mode: q / (1 - p), the covariance between samples unchanged."""
    factor = windows.dropout_factor(layer.p)
    signal = Signal(state.signal.q * factor, state.signal.kernel)
    if layer.p == 0:
        return state, lambda g: g
    return state.after(signal), lambda g: replace(g, energy=g.energy * factor, **PASSED)


def flatten(layer: nn.Flatten, state: State, setting: Setting) -> tuple[State, Backward]:
    """Features are told apart no longer: one position with the averages."""
    q, own = state.signal.q.mean(), np.diag(state.signal.kernel).mean()
    after = state.after(
        Signal(np.array([q]), np.array([[own]])),
        shape=(math.prod(state.shape),),
        form="gaussian" if state.form == "gaussian" else "other",
    )
    return after, lambda g: replace(g, energy=np.full(state.positions, float(g.energy[0])), on=None, **PASSED)


def identity(layer: nn.Identity, state: State, setting: Setting) -> tuple[State, Backward]:
    """[ID]."""
    return state, lambda g: g


def subsample(layer: Subsample, state: State, setting: Setting) -> tuple[State, Backward]:
    """Shortcut A: every stride-th pixel; the new channels are zero, a group of their own."""
    kept, share = kept_positions(state.image, layer.stride), layer.in_channels / layer.out_channels
    size = tuple(-(-n // layer.stride) for n in state.image)
    old = tuple((share * w, part.subsampled(kept)) for w, part in state.parts)
    nothing = Signal(np.zeros(len(kept)), np.zeros((len(kept), len(kept))))
    after = state.after(
        state.signal.subsampled(kept).scaled(share),
        shape=(layer.out_channels, *size),
        form="gaussian" if state.form == "gaussian" else "other",
        groups=(*old, (1 - share, nothing)) if share < 1 else state.groups,
    )

    def backward(g: Gradient) -> Gradient:
        received = g.energy[: len(old)] if g.energy.ndim == 2 else g.energy
        energy = np.zeros((*received.shape[:-1], state.positions))
        energy[..., kept] = received
        return replace(g, energy=energy if state.groups else energy.reshape(-1), on=None, **PASSED)

    return after, backward
