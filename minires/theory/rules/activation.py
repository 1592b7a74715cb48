"""Activations: exact for (leaky) ReLU of a symmetric signal behind a linear layer [EX], mean field otherwise [MF].

What is neither Gaussian nor rectified is taken for a Gaussian of its mean and variance, at the cost of a doubt.

*Behind a Dropout* that keeps a share k, phi meets z/k at the entries that stand and 0 elsewhere: E phi^2 is
k E phi(z/k)^2 + (1 - k) phi(0)^2, and products of two samples likewise. Going back, the energy of the entries that
stand is told apart, since the others do not get through the Dropout.

*Batches of mixed contrast*: moments are averaged over the samples, and two samples' kernel scales with the product of
their deviations. Where correlations scatter with variance s from pair to pair, the kernel gains s a_2^2 (its Hermite
coefficient of order two), and the scatter passes with the square of d/dc E phi(u) phi(v) = E phi'(u) phi'(v) (Price).
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from minires.theory.laws import activations as one_layer
from minires.theory.laws.activations import NODES, WEIGHTS, Activation, Function
from minires.theory.laws.plain_networks import log_slope
from minires.theory.laws.signal import Signal, contrasts
from minires.theory.laws.stream import Stream
from minires.theory.laws.sums import sum_law
from minires.theory.rules import allowances
from minires.theory.rules.functions import mean_and_deviation, through_sum, unit_source, with_moments
from minires.theory.rules.state import Backward, Floats, Gradient, Setting, State, pooled_signal, with_diagonal, worse

LEVELS = np.array([-1.694, -0.921, -0.505, -0.1625, 0.1625, 0.505, 0.921, 1.694])
"""Of a Gaussian, means of eight equal shares, scaled to its variance."""
FEW_ON = 50
"""Expected number of entries that a ReLU lets through, below which a mean square is decided by rare ones."""


def activation(kind: Activation, state: State, setting: Setting) -> tuple[State, Backward]:
    """On a Gaussian, on a function of one, or on what is taken for one."""
    if kind.homogeneous and (state.form == "positive" or state.stream is not None):
        return _of_positive(kind, state)
    if state.form == "function" and state.stream is None:
        return _of_function(kind, state)
    summed = state.form == "sum" and bool(state.summands)
    kept = state.light(not summed and state.positions <= setting.keep)
    law = _of_sum if summed else _of_gaussian
    out, slopes, form, pulled_back = law(kind, state, kept, setting)
    exact = kind.homogeneous and state.symmetric and state.grade == "EX"
    cost, cost_back = allowances.activation(kind, state)
    on = float(state.pooled(slopes).mean()) * state.channels * setting.batch * state.positions
    known = "" if kind.slope == 0 and 0 < on < FEW_ON else "EX"
    after = state.after(
        out,
        **form,
        grade="EX" if exact else worse("MF", state.grade, known),
        doubt=state.doubt if exact else cost,
        relvar=state.relvar * _slope2(kind, float(state.signal.q.mean())) + _odd_relvar(kind, state, setting.batch),
        dead=state.dead,
    )

    def backward(g: Gradient) -> Gradient:
        energy, told = pulled_back(g)
        half = kind.homogeneous and kept.symmetric and not kept.dead  # the gates are open half of the time
        still = half and g.spread_out and g.gamma is None and g.gate is None
        return g.passed(
            energy,
            **told,
            same=_agreement(kind, kept, g.same, kept.pooled(energy)),
            along=_along(kind, kept),
            aligned=_aligned(kind, kept),
            uneven=g.uneven or (not still and kept.signal.each is not None),
            grade=worse(g.grade, "EX" if still else "MF", "EX" if half else kept.grade, known),
            doubt=g.doubt if still else g.doubt + cost_back,
            relvar=g.relvar + _gate_relvar(kind, kept, setting.batch),
        )

    return after, backward


Law = tuple[Signal, Floats, dict[str, Any], Callable[[Gradient], tuple[Floats, dict[str, Any]]]]
"""Of an activation: signal, E phi'^2, the state's form, and from a gradient its energy before and what else changes."""


def _of_gaussian(kind: Activation, state: State, kept: State, setting: Setting) -> Law:
    """phi(z), or phi of what is taken for a Gaussian z; channels may differ."""
    out, slopes, standing = activated(kind, state)
    alone = state.form in ("gaussian", "sum") and not state.groups and state.kept == 1
    form: dict[str, Any] = {"form": "positive" if kind.slope == 0 else "other"}
    if alone:
        form = {"form": "function", "source": state.signal, "through": kind}
    elif state.throughs:
        sets = tuple((share, gain2, compose(kind, inner)) for share, gain2, inner in state.throughs)
        form = {"form": "function", "source": state.source, "throughs": sets, "members": state.members}
    form["scatter"] = _scatter(state, slopes, out)
    through = [_squared(kind, inner) for *_, inner in state.throughs]
    source = state.source.outline() if through else kept.signal

    def pulled_back(g: Gradient) -> tuple[Floats, dict[str, Any]]:
        if g.gamma is not None:
            first = Stream.started(setting.grid, kept.signal, rescale=setting.rescale)
            energy = g.gamma.energy(first, gated=True)
        elif g.on is not None and kind.homogeneous:
            energy = g.energy * (g.on + (1 - g.on) * kind.slope**2)
        elif g.gate is not None and through:
            energy = g.energy * np.stack([_left(source, squared, g.gate) for squared in through])
        elif g.gate is not None:
            energy = g.energy * _left(source, lambda z: kind.derivative(z) ** 2, g.gate)
        else:
            energy = g.energy * slopes
        return energy, {"standing": None if standing is None else g.energy * standing}

    return out, slopes, form, pulled_back


def _of_positive(kind: Activation, state: State) -> tuple[State, Backward]:
    """A (leaky) ReLU changes nothing of what is not negative; where that is 0 it lets slope^2 of the energy through."""

    def backward(g: Gradient) -> Gradient:
        on = state.above if g.on is None else g.on
        share = on + (1 - on) * kind.slope**2
        energy = g.energy * share
        same = None if g.same is None else with_diagonal(g.same * np.mean(share) ** 2, energy)
        on = np.broadcast_to(on / np.maximum(share, 1e-300), energy.shape[-1:])
        return g.passed(energy, same=same, on=on, grade=worse(g.grade, "MF"), doubt=g.doubt + allowances.second_gate())

    return state, backward


def _of_function(kind: Activation, state: State) -> tuple[State, Backward]:
    """phi_2(phi_1(z)): a function of the Gaussian z, like phi_1; the gradient meets both derivatives of one z."""
    inners = state.throughs or ((1.0, 1.0, state.through),)
    shares, gains2 = np.array([inner[:2] for inner in inners]).T
    whole, source = replace(state, signal=state.source, groups=(), form="gaussian"), state.source.outline()
    composed = [compose(kind, inner) for *_, inner in inners]
    out = pooled_signal(tuple((share, activated(each, whole)[0]) for share, each in zip(shares, composed, strict=True)))
    squared = [_squared(kind, inner) for *_, inner in inners]
    slopes = np.stack([_left(source, each) for each in squared])
    scatter = _scatter(whole, shares[:, None] * slopes, out)
    weights = shares * gains2 / max(float(np.mean(shares * gains2 @ slopes)), 1e-300)
    form = {"form": "function", "source": state.source, "through": composed[0]} if len(composed) == 1 else {}
    grouped = bool(state.groups)

    def backward(g: Gradient) -> Gradient:
        above = g.gate or np.ones_like
        energy = g.energy * np.stack([_left(source, each, above) for each in squared])
        pooled = shares @ energy

        def gate(z: Floats) -> Floats:
            return above(z) * np.tensordot(weights, [each(z) for each in squared], 1)

        same = _with_energy(g.same, pooled, 0.5)
        return g.passed(energy if grouped else pooled, same=same, gate=gate, grade=worse(g.grade, "MF"))

    return state.after(out, **form, grade=worse(state.grade, "MF"), scatter=scatter), backward


def _of_sum(kind: Activation, state: State, kept: State, setting: Setting) -> Law:
    """phi(f(z) + g) by quadrature; from position to position as if the sum were Gaussian."""
    law = sum_law(kind, state.summands)
    out, slopes, _ = activated(kind, state)
    slopes = slopes / max(float(state.pooled(slopes).mean()), 1e-300)
    second, variance = law.second, state.signal.q - state.signal.mean**2
    if not kind.homogeneous:  # positions that differ, which the law of the sum does not know
        each = one_layer.activation_moments(kind, np.append(variance, variance.mean()), state.signal.mean).second
        second *= float(each[:-1].mean() / each[-1])
    scaled = with_moments(out, law.mean, max(second, law.mean**2))
    form = {
        "form": "function",
        "source": unit_source(scaled, law.function),
        "through": law.function,
        "scatter": _scatter(state, slopes * law.slope2, out),
    }

    def pulled_back(g: Gradient) -> tuple[Floats, dict[str, Any]]:
        share, told = through_sum(kind, kept, law, g.gate)
        return g.energy * share * slopes, told

    return scaled, slopes * law.slope2, form, pulled_back


def _squared(kind: Activation, inner: Activation) -> Function:
    """phi'^2 at inner(z)."""
    return lambda z: kind.derivative(inner.value(z)) ** 2


def compose(outer: Activation, inner: Activation) -> Activation:
    """z -> outer(inner(z)); two ReLUs, leaky ones too, are one whose slope is the product."""
    if outer.homogeneous and inner.homogeneous and min(outer.slope, inner.slope) >= 0:
        return one_layer.leaky_relu(outer.slope * inner.slope, inner.name)
    return Activation(
        f"{outer.name} of {inner.name}",
        lambda z: outer.value(inner.value(z)),
        lambda z: outer.derivative(inner.value(z)) * inner.derivative(z),
        rectifies=outer.rectifies,
    )


def _left(source: Signal, squared: Function, above: Function = np.ones_like) -> Floats:
    """E phi'^2 at each position, a function of the Gaussian source, weighted with the gates above."""
    return _mean(source, lambda z: above(z) * squared(z)) / np.maximum(_mean(source, above), 1e-300)


def _mean(source: Signal, function: Function) -> Floats:
    """E f(z) at each position, z the Gaussian source."""
    kind = Activation("", function, function)
    q = np.atleast_2d(source.q if source.each is None else contrasts(source.each))
    deviations = np.sqrt(np.maximum(q - source.mean**2, 0.0))
    return np.mean([one_layer.hermite_coefficients(kind, d, 2, source.mean)[:, 0] for d in deviations], axis=0)


def activated(kind: Activation, state: State) -> tuple[Signal, Floats, Floats | None]:
    """The signal behind an activation; E phi'^2 per position, (P,), or (groups, P) where channels differ; behind a
    Dropout the same for the entries that stand."""
    found = [_part(kind, part, state) for _, part in state.parts]
    if not state.groups:
        return found[0]
    signals = tuple((share, signal) for (share, _), (signal, _, _) in zip(state.groups, found, strict=True))
    return pooled_signal(signals), np.stack([slope for _, slope, _ in found]), found[0][2]


def _part(kind: Activation, part: Signal, state: State) -> tuple[Signal, Floats, Floats | None]:
    """`activated`, of one group of channels."""
    keep, mean = state.kept, part.mean / state.kept
    # a Dropout that keeps a share k made q out of k times the second moment of what stands, and k^2 of products
    q = np.maximum(part.q / keep - mean**2, 0.0)
    apart = part.centered.scaled(1 / keep**2)
    levels = q[None]
    if part.each is not None:
        levels = np.maximum(contrasts(part.each) / keep - mean**2, 0.0)
    elif state.isotropic and not kind.homogeneous:
        levels = q * _patch_norms(1 / state.isotropic)[:, None]
    deviation = np.sqrt(levels).mean(axis=0)
    moments = one_layer.ActivationMoments(*(m.mean(axis=0) for m in one_layer.activation_moments(kind, levels, mean)))
    zero, flat = float(kind.value(np.zeros(1))[0]), float(kind.derivative(np.zeros(1))[0]) ** 2

    def products(covariance: Floats, deviation: Floats, first: Floats, scatter: float = 0.0) -> Floats:
        """E phi phi' between two samples, or two positions."""
        found = one_layer.activation_kernel(kind, deviation, covariance, mean)
        if scatter and not mean:
            second = one_layer.hermite_coefficients(kind, deviation, 3)[:, 2].astype(found.dtype)
            found = found + scatter * np.multiply.outer(second, second)
        if keep < 1:
            edge = keep * (1 - keep) * zero * first
            found = keep**2 * found + edge[:, None] + edge + ((1 - keep) * zero) ** 2
        return found

    second = keep * moments.second + (1 - keep) * zero**2
    scatter = state.scatter if state.smooth == 1 else 0.0
    kernel = products(apart.kernel, part.at_kernel(deviation), part.at_kernel(moments.mean), scatter)
    same = None if part.same is None else with_diagonal(products(apart.same, np.sqrt(q), moments.mean), second)
    each = None
    if part.each is not None:
        each = keep * _each(kind, part.each / keep - mean**2, mean) + (1 - keep) * zero**2
    first, standing = keep * moments.mean + (1 - keep) * zero, keep * moments.slope2
    signal = Signal(second, kernel, same, float(first.mean()), each, part.span)
    return signal, standing + (1 - keep) * flat, standing if keep < 1 else None


def _patch_norms(degrees: float) -> Floats:
    """Squared norms of patches of so many numbers of white noise, in a few levels of mean 1 (Wilson and Hilferty)."""
    width = 2 / (9 * degrees)
    found = np.maximum(1 - width + math.sqrt(width) * LEVELS, 0.0) ** 3
    return found / found.mean()


def _each(kind: Activation, q: Floats, mean: float) -> Floats:
    """E phi^2 for each sample and position, read from a table over q."""
    if kind.homogeneous and not mean:
        return one_layer.activation_moments(kind, q).second
    q = np.maximum(q, 0.0)
    table = np.linspace(0.0, math.sqrt(float(q.max()) or 1.0), 200)
    return np.interp(np.sqrt(q), table, one_layer.activation_moments(kind, table**2, mean).second)


def _scatter(state: State, slopes: Floats, out: Signal) -> float:
    """The variance of the correlation over pairs of samples, behind the activation."""
    c = float(np.clip(state.correlation.mean(), -1, 1))
    gate = float(np.mean(slopes))
    both = gate * (math.pi - math.acos(c)) / math.pi if gate <= 1 else gate
    slope = both * float(state.signal.q.mean()) / max(float(out.q.mean()), 1e-300)
    return min(state.scatter * min(slope, 1e3) ** 2, 0.5)


def _agreement(kind: Activation, state: State, same: Floats | None, energy: Floats) -> Floats | None:
    """R behind the gates: two pixels of a sample keep of it what E phi'(z) phi'(z') leaves."""
    signal = state.signal
    if same is None or signal.kernel is None:  # not kept: gates of different pixels are taken for independent
        return _with_energy(same, energy, 1.0 if kind.slope == 0 else 0.5)
    deviation = np.sqrt(np.maximum(signal.q - signal.mean**2, 0.0))
    gates = one_layer.slope_kernel(kind, deviation, signal.whole_same() - signal.mean**2, signal.mean)
    return with_diagonal(same * gates, energy)


def _with_energy(same: Floats | None, energy: Floats, power: float) -> Floats | None:
    """R of another energy; covariances change like (ratio of the energies)^power at both of their positions."""
    if same is None:
        return None
    factor = np.maximum(energy / np.maximum(np.diagonal(same), 1e-300), 0.0) ** power
    return with_diagonal(same * np.multiply.outer(factor, factor), energy)


def _along(kind: Activation, state: State) -> float:
    """E[xh phi'(z)] / E phi'(z), xh = z in units of its deviation: what the gates of a BatchNorm's output share."""
    mean, deviation = mean_and_deviation(state.signal)
    zeroth, first = one_layer.hermite_coefficients(kind.differentiated, np.array([deviation]), 2, mean)[0]
    return float(first / zeroth) if zeroth else 0.0


def _aligned(kind: Activation, state: State) -> float:
    """E[u^2 phi'(z)^2] / E phi'(z)^2, u = z in units of its deviation, where z reads few numbers of white noise."""
    mean, deviation = mean_and_deviation(state.signal)
    if state.form != "gaussian" or state.groups or state.kept < 1 or not (deviation and state.isotropic):
        return 1.0
    deviations = deviation * np.sqrt(_patch_norms(1 / state.isotropic))
    slopes = kind.derivative(mean + np.multiply.outer(deviations, NODES)) ** 2
    return float((slopes @ (WEIGHTS * NODES**2)).sum() / max((slopes @ WEIGHTS).sum(), 1e-300))


def _slope2(kind: Activation, q: float) -> float:
    """By what a relative variance of E z^2 is multiplied."""
    return 1.0 if kind.homogeneous else log_slope(kind, q) ** 2


def _odd_relvar(kind: Activation, state: State, batch: int) -> float:
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
    moments = one_layer.activation_moments(kind, q)
    own = float(moments.fourth / max(moments.second**2, 1e-300)) - 1 - 2 * _slope2(kind, q)
    return max(0.0, own) * _over_pairs(c * c, 1.0, state, batch)


def _gate_relvar(kind: Activation, state: State, batch: int) -> float:
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
