"""What training will do, foreseen from the tangent kernel: will it move, is the rate too small, or too large?

Once its memory of 1/(1 - m) steps is full, SGD with momentum m and rate lr moves the weights as plain gradient descent
at lr/(1 - m) does. The gradient of the cross-entropy with respect to the K outputs of a sample has a norm of about 1
until the sample is learned. With T_l and |W_l| from `tangent_kernel`, that makes three numbers:

    S = sum_t lr_t/(1 - m) T_head / K                e-foldings that the head alone can take off the loss
    R = sum_t lr_t/(1 - m) mean_l sqrt(T_l)/|W_l|    relative change of a typical layer, start to end (geometric mean)
    c = max_t lr_t/(1 - m) sum_l sqrt(T_l)/|W_l|     relative change of the whole network within the momentum's memory

**Too small.** *With BatchNorm* the features under the head keep their scale and differ between samples, so the head
learns whatever the layers below do: training moves if S > 0.6. The kernel of those layers says nothing here: they are
scale-invariant, so their part of T grows as 1/|W|^2 without any use to the loss. *Without BatchNorm* the samples'
features nearly coincide in a deep network, so the layers must change as well: training moves if R > 0.13.

**Too large.** In linear theory gradient descent with momentum is unstable where the largest eigenvalue of the loss's
curvature exceeds 2(1 + m)/lr. Cross-entropy with small logits curves by 1/K in each output; the kernel's blocks, one an
output, have trace N T over a batch, and a largest eigenvalue between r N T and N T, r the mean correlation of two
samples' gradients, close to 1 in deep networks without BatchNorm. That makes lr T/K < 3.8 for m = 0.9. As a bound it is
refuted: the loss is not quadratic, its gradient is bounded, and a network beyond that edge is thrown to where it is
flatter (Lewkowycz et al. 2020, arXiv:2003.02218; Cohen et al. 2021, arXiv:2103.00065). What ends training is that the
outputs, a product of layers, change by more than the product can bear: c > 20. *With BatchNorm* a layer that is thrown
far only grows, which lowers its own effective rate (van Laarhoven 2017, arXiv:1706.05350): the limit is c > 1600.

Each limit is blurred, and between networks T is log-normal without BatchNorm. `Outlook` has the probabilities, and
"undecided" for a word where none reaches 0.9. Weights in which nothing is random (Dirac's) have no T: undecided, unless
one channel alone lives (`forecast.one_channel_lives`); ten digits do not come apart along one number.

Domain. The limits were fitted to 198 runs on 8x8 digits (plain and residual networks, 8 to 56 layers, width 8 and 16,
batches of 32, momentum 0.9, a tenth of warm-up and a cosine, 46 to 184 steps). On 240 others, declared before they
were run, the law decided 203 and was right of 193, 95 %; `tests/theory/evidence/outcome.md` says where it fails.
Elsewhere it is an order of magnitude to start from.
"""

import math
from statistics import NormalDist
from typing import NamedTuple

from minires.checks import check_number
from minires.theory.laws.tangent_kernel import TangentKernel

MOVES, TOO_SMALL, TOO_LARGE, UNDECIDED = "will move", "too small to move", "too large to be stable", "undecided"
DECIDED = 0.9  # the probability from which on a word is said: it is to be right nine times of ten
LIMITS = {True: (NormalDist(-0.2, 0.3), NormalDist(3.2, 0.2)), False: (NormalDist(-0.9, 0.3), NormalDist(1.3, 0.15))}
"""With BatchNorm, and without: log10 of the limits, blurred. Too small below the first, too large above the second."""


class Outlook(NamedTuple):
    """word: what is foreseen. moves, small, large: probabilities. reach: S, or R without BatchNorm. change: c."""

    word: str
    moves: float = math.nan
    small: float = math.nan
    large: float = math.nan
    reach: float = math.nan
    change: float = math.nan


UNKNOWN = Outlook(UNDECIDED)


def outlook(kernel: TangentKernel | None, rate: float, total: float, momentum: float = 0.9) -> Outlook:
    """What training will do at a schedule whose highest learning rate is `rate` and whose rates sum up to `total`.

    kernel: of the network at its start; None where there is no law, which leaves it undecided.
    """
    rate, total = check_number("rate", rate, 0), check_number("total", total, 0)
    momentum = check_number("momentum", momentum, 0, below=1)
    if kernel is None:
        return UNKNOWN
    if not isinstance(kernel, TangentKernel):
        raise TypeError(f"kernel is {kernel!r:.60}; expected None or one from tangent_kernel(model, predicted)")
    memory = 1 / (1 - momentum)
    reach = total * memory * (kernel.head / kernel.outputs if kernel.normalized else kernel.typical_change)
    change = rate * memory * kernel.change
    low, high = LIMITS[kernel.normalized]
    small = 1 - _beyond(reach, low, kernel.log_variance)
    large = _beyond(change, high, kernel.log_variance)
    chances = {MOVES: (1 - small) * (1 - large), TOO_SMALL: small, TOO_LARGE: large}
    likeliest = max(chances, key=chances.get)
    word = likeliest if chances[likeliest] >= DECIDED else UNDECIDED
    return Outlook(word, chances[MOVES], small, large, reach, change)


def _beyond(value: float, limit: NormalDist, log_variance: float) -> float:
    """Probability that a network's value is above the limit. Both go as sqrt(T), so log10 has these moments."""
    if not value > 0:
        return 0.0
    if math.isinf(value):
        return 1.0
    median = math.log10(value) - log_variance / 4 / math.log(10)
    spread = math.sqrt(log_variance) / 2 / math.log(10)
    return NormalDist(limit.mean, math.hypot(limit.stdev, spread)).cdf(median)


def learning_rates(
    kernel: TangentKernel | None, mean_steps: float, momentum: float = 0.9
) -> tuple[float, float] | None:
    """The highest rates of a schedule, from and to, at which training will move; None if there are none, or no law.

    Only rates from 1e-5 to 1 are looked at: the limits were tested on no others.
    mean_steps: sum of the schedule's rates over its highest one: steps for a constant rate, half of them for a cosine.
    """
    rates = [10 ** (i / 40) for i in range(-200, 1)]  # six percent apart
    moving = [rate for rate in rates if outlook(kernel, rate, rate * mean_steps, momentum).word == MOVES]
    return (moving[0], moving[-1]) if moving else None
