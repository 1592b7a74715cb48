"""Pooling, dropout, and layers that only change the shape.

An average over a window weighs pixels by M (P_out x P): q' is the diagonal of M S M', and going back R = M' R' M, so
pixels that several windows read receive more than the sum of the windows' energies if those agree. A maximum sends
what a window receives to one pixel. Where two windows i, i' share pixels and their gradients agree, both may send to
the same pixel, with a chance of one in the number of pixels of both together:

    E dx(j)^2 = sum_{i, i' that hold j} R(i, i') / |i u i'|
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from minires import nn
from minires.nn.residual import Subsample
from minires.theory.laws import pooling as windows
from minires.theory.laws.activations import LINEAR, Activation, hermite_coefficients
from minires.theory.laws.geometry import ConvGeometry
from minires.theory.laws.signal import Signal, Span, every, useful
from minires.theory.rules import allowances
from minires.theory.rules.functions import as_function, in_units, mean_and_deviation, unit_source
from minires.theory.rules.state import Backward, Floats, Gradient, Setting, State, with_diagonal, worse

Functions = tuple[tuple[float, Activation], ...]
LARGEST_AGREEMENT = 1024
"""Positions up to which the gradient's covariance behind a pool is followed."""


def max_pool(layer: nn.MaxPool2d, state: State, setting: Setting) -> tuple[State, Backward]:
    """[MF] The maximum of what a window's pixels share plus independent Gaussians; see `laws.pooling`."""
    geometry = ConvGeometry.of(state.image, layer.kernel_size, layer.stride, layer.padding)
    source, functions = _gaussian_behind(state)
    window = _Windows(geometry, source)
    live = (source.q - source.mean**2 > 1e-6 * source.q.max()).astype(float)  # not so where all taps read padding
    counts = np.maximum(_box(geometry, live), 1.0)
    variance = np.maximum(_box(geometry, source.q) / counts - source.mean**2, 1e-300)
    common = np.clip(window.shared / np.maximum(counts * (counts - 1), 1) / variance, 0.0, 1.0)
    first, second, positive = _pooled_moments(counts, common, source.mean, np.sqrt(variance), functions)
    number = windows.independent_count(float(counts.mean()), float(common.mean()))
    each = None if state.signal.each is None else _of_mean(second, _box(geometry, state.signal.each))
    slope = 1.0 if not functions or functions[0][1].slope == 0 else _mean_slope(source, functions)
    kernel, same = window.kernels(first, second, positive * slope)
    known = bool(functions) or state.form in ("gaussian", "sum")
    overlapping = int(geometry.forward_counts.sum()) > state.positions
    cost, cost_back = allowances.maximum(state, known, overlapping)
    signal, form = Signal(second, kernel, same, float(first.mean()), each, window.span), _averaged(state)
    told: dict[str, Any] = {"form": form}
    if form == "gaussian" or (form == "other" and len(functions) == 1):
        through = functions[0][1] if functions else LINEAR
        largest = windows.largest_of(number, source.mean, float(np.sqrt(variance).mean()), through)
        told = {"form": "function", "source": unit_source(signal, largest), "through": largest}
    after = state.after(
        signal,
        shape=(state.channels, *geometry.outputs),
        **told,
        positive=float(positive.mean()),
        pooled_variance=True,
        grade=worse(state.grade, "MF"),
        doubt=state.doubt + cost,
    )

    def backward(g: Gradient) -> Gradient:
        gate = None
        if functions and state.form != "positive":
            gate = windows.gate_of_largest(number, source, None if form == "positive" else g.gate)
        received = live * _box_transpose(geometry, g.energy / counts)
        on = live * _box_transpose(geometry, g.energy * positive / counts) / np.maximum(received, 1e-300)
        standing = received * on if state.kept < 1 else None
        energy, same = received, None
        if g.same is not None and state.positions <= LARGEST_AGREEMENT:
            reads = np.kron(geometry.height.reads, geometry.width.reads)
            energy, taken = received + _both(reads, g.same), reads / counts[:, None]
            same = with_diagonal(taken.T @ g.same @ taken, energy)
        told = {"on": on, "gate": gate, "standing": standing, "centered": g.centered, "grade": worse(g.grade, "MF")}
        return g.passed(energy, same=same, **told, doubt=g.doubt + cost_back)

    return after, backward


def _gaussian_behind(state: State) -> tuple[Signal, Functions]:
    """The Gaussian of which the values are functions, and these; the values themselves where no function is known."""
    if state.form == "gaussian":
        return state.signal, ()
    if state.throughs:
        return state.source, state.functions
    source, through = as_function(state)
    return (state.signal, ()) if source is None else (source, ((1.0, through),))


def _box(geometry: ConvGeometry, q: Floats) -> Floats:
    """(..., P) -> (..., P_out): sum over each window."""
    image = q.reshape(*q.shape[:-1], *geometry.image)
    return geometry.box(image).reshape(*q.shape[:-1], -1)


def _box_transpose(geometry: ConvGeometry, g: Floats) -> Floats:
    return geometry.box_transpose(g.reshape(geometry.outputs)).ravel()


def _of_mean(q: Floats, each: Floats) -> Floats:
    """The samples' second moments, scaled so that q is their mean."""
    return each * (q / np.maximum(each.mean(axis=0), 1e-300))


class _Windows:
    """What the windows of a maximum share, on the map that the kernel is kept on.

    shared: sum of S - mean^2 over the pairs of different pixels of each window, (P_out,).
    """

    def __init__(self, geometry: ConvGeometry, source: Signal) -> None:
        small = geometry if source.span is None else geometry.resized(source.span.smaller)
        self.source, self.reads = source, np.kron(small.height.reads, small.width.reads)
        self.counts = small.forward_counts.ravel()
        self.span = None if source.span is None else useful(Span(geometry.outputs, small.outputs))
        within = source.kernel if source.same is None else source.same
        pairs = np.einsum("ij,jk,ik->i", self.reads, within, self.reads, optimize=True)
        shared = pairs - self.reads @ np.diagonal(within) - source.mean**2 * self.counts * (self.counts - 1)
        self.shared = shared if self.span is None else shared[self.span.index]

    def kernels(self, first: Floats, second: Floats, positive: Floats) -> tuple[Floats, Floats | None]:
        """K, and S where windows share pixels or pixels agree. Two windows that share pixels have the same maximum with
        a chance, those pixels' share of all pixels of both. Else they are as alike as their pixels."""
        member = slice(None) if self.span is None else self.span.member
        first, second, positive = first[member], second[member], positive[member]
        taken = positive[:, None] * self.reads / self.counts[:, None]
        limit, square = np.sqrt(np.multiply.outer(second, second)), self.source.mean**2
        base = np.multiply.outer(first, first)
        kernel = np.minimum(base + taken @ (self.source.kernel - square) @ taken.T, limit)
        same, overlap = None, self.reads @ self.reads.T
        apart = np.count_nonzero(overlap) == len(overlap)
        if self.span is None and not (apart and self.source.same is None):
            share = overlap / (self.counts[:, None] + self.counts - overlap)
            alike = kernel if self.source.same is None else base + taken @ (self.source.same - square) @ taken.T
            same = with_diagonal(np.minimum(share * limit + (1 - share) * alike, limit), second)
        return kernel, same


def _both(reads: Floats, same: Floats) -> Floats:
    """sum over pairs of different windows that hold j of R(i, i')/|i u i'|, (P,)."""
    overlap = reads @ reads.T
    sizes = np.diagonal(overlap)
    weight = np.where(overlap > 0, same / np.maximum(sizes[:, None] + sizes - overlap, 1), 0.0)
    np.fill_diagonal(weight, 0.0)
    return np.einsum("ij,ik,kj->j", reads, weight, reads, optimize=True)


def _pooled_moments(
    counts: Floats, common: Floats, mean: float, deviation: Floats, functions: Functions
) -> tuple[Floats, Floats, Floats]:
    """E max, E max^2 and P(max > 0) of the functions of n = counts Gaussians that share a part `common` of their
    variance, averaged over (share, function); without functions of the Gaussians themselves, and 1 for the last."""
    scaled = not functions or (len(functions) == 1 and functions[0][1].slope == 0)
    unit = deviation if scaled else np.ones_like(deviation)
    keys = [counts, np.round(common, 3), np.round(mean / deviation, 3), np.round(deviation / unit, 3)]
    kinds, index = np.unique(np.stack(keys, axis=1), axis=0, return_inverse=True)
    found = np.zeros((len(kinds), 3))
    for row, (n, share, shift, width) in zip(found, kinds, strict=True):
        if scaled:
            row += windows.shared_max_moments(int(n), share, shift=float(shift), rectified=bool(functions))
        else:
            row += sum(w * np.array(windows.max_of_function(int(n), share, mean, width, f.value)) for w, f in functions)
    first, second, positive = found[index.ravel()].T
    return first * unit, second * unit**2, positive


def _mean_slope(source: Signal, functions: Functions) -> float:
    """rms over channels of E phi', which takes a small covariance of the source to one of the function."""
    _, deviation = mean_and_deviation(source)
    slopes = [hermite_coefficients(f.differentiated, [deviation], 1, source.mean)[0, 0] for _, f in functions]
    return math.sqrt(sum(share * slope**2 for (share, _), slope in zip(functions, slopes, strict=True)))


def avg_pool(layer: nn.AvgPool2d, state: State, setting: Setting) -> tuple[State, Backward]:
    """The mean over windows; zeros of the padding count."""
    geometry = ConvGeometry.of(state.image, layer.kernel_size, layer.stride, layer.padding)
    return _average(state, np.kron(geometry.height.reads, geometry.width.reads) / geometry.taps, geometry.outputs)


def global_avg_pool(layer: nn.GlobalAvgPool2d, state: State, setting: Setting) -> tuple[State, Backward]:
    """The mean over all positions."""
    if state.positions == 1:
        return replace(state, shape=(state.channels,)), lambda g: g
    return _average(state, np.full((1, state.positions), 1 / state.positions), ())


def _average(state: State, mean: Floats, outputs: tuple[int, ...]) -> tuple[State, Backward]:
    """mean: (P_out, P), the weight of each pixel in each output."""
    signal = state.signal
    folded, span = mean, signal.span
    if span is not None:
        folded = np.stack([np.bincount(span.index, row, len(signal.kernel)) for row in mean])
    kernel = folded @ signal.kernel @ folded.T
    if signal.same is None:
        same = kernel + ((signal.q - signal.diagonal) * mean) @ mean.T
    else:
        same = mean @ signal.same @ mean.T
    q = np.maximum(np.diagonal(same), 0.0)
    each = None if signal.each is None else _of_mean(q, signal.each @ mean.T)
    if signal.same is None and ((mean > 0).sum(axis=0) <= 1).all():  # windows that share no pixel
        same = None
    after = state.after(
        Signal(q, kernel, same, signal.mean * float(mean.sum(1).mean()), each),
        shape=(state.channels, *outputs),
        form=_averaged(state),
        grade=worse(state.grade, "MF"),
        pooled_variance=True,
        doubt=state.doubt + allowances.average(state, q, mean**2 @ signal.q),
    )

    def backward(g: Gradient) -> Gradient:
        if state.positions > LARGEST_AGREEMENT:
            return g.passed((mean**2).T @ g.energy, same=None, centered=g.centered, spread_out=False)
        received = np.diag(g.energy) if g.same is None else g.same
        same = mean.T @ received @ mean
        return g.passed(np.diagonal(same).copy(), same=same, centered=g.centered, spread_out=False)

    return after, backward


def _averaged(state: State) -> str:
    """The form behind a layer that averages, moves or drops values: what is Gaussian or never negative stays so."""
    return "gaussian" if state.form == "gaussian" else "positive" if state.never_negative else "other"


def dropout(layer: nn.Dropout, state: State, setting: Setting) -> tuple[State, Backward]:
    """[EX] in training mode: q / (1 - p), what two samples or positions share unchanged.

    A gradient that knows where the output is positive, a share `on` of it, knows what stands, too: k the share kept and
    P that above zero before, a share on + (1 - on) k (1 - P)/(1 - k P) of its energy is where entries stand.
    """
    if layer.p == 0:
        return state, lambda g: g
    factor, old, above = 1 / (1 - layer.p), state.signal, state.above
    same = None if old.same is None else with_diagonal(old.same.copy(), old.q * factor)
    each = None if old.each is None else old.each * factor
    signal = old._replace(q=old.q * factor, same=same, each=each)
    form = "other" if state.form == "gaussian" and state.groups else _averaged(state)
    kept = state.kept / factor if form == "gaussian" else 1.0
    after = state.after(signal, form=form, kept=kept, positive=above / factor)
    rest = (1 - above) / max(factor - above, 1e-300)

    def backward(g: Gradient) -> Gradient:
        energy, on = g.energy * factor, None
        if g.on is not None:
            standing = g.on + (1 - g.on) * rest
            energy, on = g.energy * standing * factor**2, g.on / np.maximum(standing, 1e-300)
        elif g.standing is not None:
            energy = g.standing * factor**2
        return g.passed(energy, same=None if g.same is None else with_diagonal(g.same.copy(), energy), on=on)

    return after, backward


def flatten(layer: nn.Flatten, state: State, setting: Setting) -> tuple[State, Backward]:
    """Features are told apart no longer: one position with the averages."""
    signal = state.signal
    each = None if signal.each is None else signal.each.mean(axis=1, keepdims=True)
    flat = Signal(np.array([signal.q.mean()]), np.array([[signal.diagonal.mean()]]), None, signal.mean, each)
    after = state.after(
        flat,
        shape=(math.prod(state.shape),),
        form=_averaged(state),
        positive=state.above,
        batch=None if state.batch is None else state.batch.reshape(len(state.batch), -1),
    )
    return after, lambda g: g.passed(np.full(state.positions, float(g.energy[0])), same=None)


def subsample(layer: Subsample, state: State, setting: Setting) -> tuple[State, Backward]:
    """Shortcut A: every stride-th pixel; the new channels are zero, a group of their own."""
    source = state.source.outline() if state.form == "function" and state.stream is None else None
    kept, share = every(state.image, layer.stride), layer.in_channels / layer.out_channels
    old = tuple((share * w, part.subsampled(state.image, layer.stride)) for w, part in state.parts)
    pooled = state.signal.subsampled(state.image, layer.stride)
    new = (1 - share, pooled.scaled(0.0))
    after = state.after(
        pooled.scaled(share)._replace(mean=share * pooled.mean),
        shape=layer.output_shape((1, *state.shape))[1:],
        form=_averaged(state),
        groups=(*old, new) if share < 1 else old if state.groups else (),
    )

    def backward(g: Gradient) -> Gradient:
        received = g.energy[: len(old)] if g.energy.ndim == 2 else g.energy
        energy = np.zeros((*received.shape[:-1], state.positions))
        energy[..., kept] = received
        same = None
        if g.same is not None:
            same = np.zeros((state.positions, state.positions), g.same.dtype)
            same[np.ix_(kept, kept)] = g.same
        gate = None if g.gate is None or source is None else in_units(g.gate, source)
        return g.passed(energy if state.groups else energy.reshape(-1), same=same, gate=gate)

    return after, backward
