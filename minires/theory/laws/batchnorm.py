"""What BatchNorm does to a signal that varies over the image [MF], but for gains and biases.

It subtracts the mean over batch and map, then divides by the batch variance v. Pairs of a sample with itself weigh 1/N,
so with r(i) = mean_i' [(1 - 1/N) K(i, i') + S(i, i')/N] and m = mean r

    z <- z - 2 r + m,          C(i, i') <- K(i, i') - r(i) - r(i') + m,          E v = mean_i z(i)

v differs from channel to channel. It is w'Mw of Gaussian weights w, a sum of squares along the directions in which the
batch extends, v = sum_j lambda_j chi2_j, in three families:

    common map     lambda_k, u_k the eigenpairs of C/P, P positions: what all samples share. One degree each.
    batch          what samples differ in along few directions, as photographs do in brightness: the eigenvalues p_j of
                   the batch's patches, sum p_j = 1. Deeper in the network the kernel's slope leaves of them a share a,
                   so that the correlation of two samples varies by a^2 sum p_j^2, the `spread`. One degree each.
    samples        the rest, N independent samples of covariance S - C: N degrees for each of its eigenvalues over N,
                   but one in all for the mean.

With the Laplace transform phi(t) = E e^(-t v) = prod_j (1 + 2 t lambda_j)^(-1/2)

    E[1/v] = int_0^inf phi(t) dt
    e_k = E[lambda_k chi2_k / v] = int_0^inf lambda_k / (1 + 2 t lambda_k) phi(t) dt
    E[w'M^2w / v^2] = sum_j lambda_j^2 int_0^inf t / (1 + 2 t lambda_j) phi(t) dt
    C^ = P sum_k e_k u_k u_k',      q^(i) = (z(i) - C(i, i)) (1 - sum e_k)/(E v - sum lambda_k) + C^(i, i)

and the mean of q^ is 1. For a batch of photographs E[1/v] E v is 2 at the stem, for white noise hardly more than 1.
"""

import math
from typing import NamedTuple, Self

import numpy as np

from minires.theory.laws.reflected_walk import Floats
from minires.theory.laws.signal import Signal, Span

_ALL_PAIRS = 64  # up to so many positions all eigenpairs, above the leading ones
_LEADING = 32
_SOME = 144  # positions that stand for all where only the eigenvalues of a sample's covariance are wanted
_LOG_STEP = 0.1
_LOG_T = np.arange(-16.0, 9.0, _LOG_STEP)  # t = e^s / E v: a trapezoid rule in s
WIDE_LOG_T = np.arange(-23.0, 26.0, _LOG_STEP)  # where the smallest eigenvalues matter


class Normalized(NamedTuple):
    """What BatchNorm puts out, and the batch variance v that it divided by: E[1/v], E v, E[w'M^2w/v^2]."""

    signal: Signal
    inverse_v: float
    v: float
    second: float


def batchnorm(
    signal: Signal, batch: float = math.inf, spread: float = 0.0, directions: Floats | None = None
) -> Normalized:
    """BatchNorm over `batch` samples. spread: variance of the correlation of two samples, over pairs, in units of v^2;
    directions: p_j, None: very many."""
    row = signal.rows(batch)
    center = float(row.mean())
    z = signal.q - 2 * row + center
    v = float(z.mean())
    at, dtype = signal.at_kernel(row), signal.kernel.dtype
    c = signal.kernel - at[:, None].astype(dtype) + (center - at).astype(dtype)
    alone = np.maximum(z - signal.full(np.diagonal(c)), 0.0)
    same = None if signal.same is None else signal.same - row[:, None] - row + center
    eigenvalues, vectors = _eigenpairs(c, signal.span, v)
    rest = max(v - float(eigenvalues.sum()), 0.0)
    few = np.zeros(0)
    if directions is not None and spread > 0:  # a p_j v; no more than v has besides the common map
        few = min(math.sqrt(spread / float(directions @ directions)) * v, rest) * directions
    own, degrees = _own_eigenvalues(alone, c, same, rest - float(few.sum()), batch)
    single = np.concatenate([eigenvalues, few])
    certain = max(v - float(single.sum()) - degrees * float(own.sum()), 0.0)
    found = Inverse.of(np.exp(_LOG_T) / v, certain, single, own, degrees)
    # E[(common map)(common map)'/v]: C E[1/v], and what the leading directions have less
    shares = eigenvalues * (found.at(eigenvalues) - found.inverse)
    kernel = (vectors * shares.astype(dtype)) @ vectors.T + found.inverse * c
    common = signal.full(np.diagonal(kernel)).astype(float)
    q = alone * (max(1 - float(common.mean()), 0.0) / max(float(alone.mean()), 1e-300)) + common
    if same is not None:
        same = same * (float(q.mean()) / v)
        np.fill_diagonal(same, q)
    each = None
    if signal.each is not None:  # what a sample shares with the others goes with its own deviation
        shared = row * np.sqrt(signal.each / np.maximum(signal.q, 1e-300))
        each = np.maximum(signal.each - 2 * shared + center, 1e-3 * signal.each)
        each *= q / np.maximum(each.mean(axis=0), 1e-30)
    return Normalized(Signal(q, kernel, same, 0.0, each, signal.span), found.inverse, v, found.second)


class Inverse(NamedTuple):
    """E[1/v], E[w'M^2w/v^2], and the trapezoid rule: t, and its weights times phi(t)."""

    inverse: float
    second: float
    t: Floats
    weight: Floats

    @classmethod
    def of(cls, t: Floats, certain: float, single: Floats, own: Floats, degrees: float = 1.0) -> Self:
        """v = `certain` plus sums of `single` times chi2 of one degree each and of `own`, of `degrees` each."""
        one, many = 1 + 2 * np.outer(t, single), 1 + 2 * np.outer(t, own)
        exponent = -t * certain - 0.5 * np.log(one).sum(axis=1) - 0.5 * degrees * np.log(many).sum(axis=1)
        weight = _LOG_STEP * t * np.exp(exponent)
        second = (weight * t) @ ((1 / one) @ single**2 + degrees * (1 / many) @ own**2)
        return cls(float(weight.sum()), float(second), t, weight)

    def at(self, eigenvalues: Floats) -> Floats:
        """E[chi2_j/v] for each."""
        return self.weight @ (1 / (1 + 2 * np.outer(self.t, eigenvalues)))


def _own_eigenvalues(alone: Floats, c: Floats, same: Floats | None, rest: float, batch: float) -> tuple[Floats, float]:
    """Eigenvalues of one sample's covariance over N, of sum rest/N, and N, their degrees."""
    if math.isinf(batch) or not rest > 0:
        return np.zeros(0), 1.0
    if same is None:  # white noise: so many equal ones
        degrees = max(float(batch * alone.sum() ** 2 / max(alone @ alone, 1e-300)) - 1, 1.0)
        return np.array([rest / degrees]), degrees
    some = np.random.default_rng(0).permutation(len(same))[:_SOME]
    eigenvalues = np.clip(np.linalg.eigvalsh((same - c)[np.ix_(some, some)].astype(float)), 0.0, None)
    total = float(eigenvalues.sum())
    if not total > 0:
        return np.zeros(0), 1.0
    shares = eigenvalues / total
    degrees = max(batch - float(shares @ shares), 1.0)  # the mean over all samples takes one
    return shares * (rest / degrees), degrees


def _eigenpairs(c: Floats, span: Span | None, v: float) -> tuple[Floats, Floats]:
    """Eigenvalues of C/P and P u_k, positions of a smaller map weighed by what they stand for: all for small maps, the
    leading ones for large maps. C is close to a matrix of rank k^2 (one for each tap: which outputs have it inside the
    image), so a random subspace of a few times that dimension holds what matters (Halko, Martinsson and Tropp 2011);
    what is left out has so small a share of v that it may count as certain."""
    if not c.any() or not math.isfinite(v):
        return np.zeros(0), np.zeros((len(c), 0), c.dtype)
    root = np.full(len(c), 1 / math.sqrt(len(c))) if span is None else np.sqrt(span.weights)
    root = root.astype(c.dtype)
    weighted = c * root[:, None] * root
    if len(c) <= _ALL_PAIRS:
        eigenvalues, vectors = np.linalg.eigh(weighted)
    else:
        start = np.random.default_rng(0).standard_normal((len(c), _LEADING)).astype(c.dtype)
        basis, _ = np.linalg.qr(weighted @ start)
        eigenvalues, turn = np.linalg.eigh(basis.T @ (weighted @ basis))
        vectors = basis @ turn
    return np.clip(eigenvalues.astype(float), 0.0, None), vectors / root[:, None]
