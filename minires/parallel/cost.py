"""What a data-parallel step costs on P ranks, before anybody has P machines.

**A message.** n bytes from one rank to another take

    t(n) = alpha + beta n                    alpha: seconds until the first byte is there; beta: seconds a byte

(Hockney 1994). A rank sends one message and receives one at a time. `network.py` measures both numbers.

**A sum over P ranks** (all-reduce) of n bytes, each rank having n bytes of its own and wanting the sum:

    ring      The vector is cut into P parts. In P - 1 rounds each rank sends one part to its neighbor and adds the one
              that it receives; then every rank holds one part of the sum, and P - 1 rounds more carry the parts round.
                  2 (P - 1) (alpha + beta n / P) + (P - 1)/P gamma n
    tree      In round k each rank swaps its whole vector with the rank whose number differs in bit k, and adds.
                  log2(P) (alpha + beta n + gamma n)
    halving   As the tree, but half of the vector in the first round, a quarter in the second, ... until each rank
              holds the sum of one part; then the rounds in reverse put the parts together.
                  2 log2(P) alpha + 2 (P - 1)/P beta n + (P - 1)/P gamma n

gamma: seconds of adding and copying a byte. And a sum takes time beside its messages and additions, however short it
is: Python and MPI have to be called, and where ranks share a core each waits for its turn. That is `overhead`, once a
sum. Both are small between machines (0 unless given); among ranks of one machine they are most of a sum. So they are
measured with the ranks that are to be foretold: `network.py` times sums over all of them.

No algorithm sends fewer than 2 (P - 1)/P n bytes from the busiest rank (Patarasuk & Yuan 2009, who show that the ring
attains it and never has two messages on one link). The tree has the fewest rounds and wins for short vectors; halving
is Rabenseifner's. Tree and halving want P = 2^k: of other numbers the ranks in excess hand their vector to another rank
first and get the sum back at the end, 2 (alpha + beta n) more (Thakur, Rabenseifner & Gropp 2005, sections 4.4 and
4.5). An MPI library takes the quickest, and so does `all_reduce`.

**A step** of c(m) = fixed + m per_image seconds of compute for the m = ceil(B / P) images of the largest share:

  - Each BatchNorm adds up 1 + 2C numbers of 8 bytes forward (count, sums of x and x^2) and as many backward (count,
    sums of dy and dy x). Nothing can go on before they are there: 2 alpha log2(P) or so for every BatchNorm, whatever
    its size. This is the price of synchronization, `norms` below. (So does a compiled model. The definition's
    `SyncBatchNorm2d` has two sums forward, one after the other.)
  - The gradients go into buckets in the order in which backward finds them. A bucket starts as soon as it is full and
    the one before it is through, while backward goes on. What is left to wait for after backward is `gradients`.

    t_step = c(m) + norms + gradients
    speed-up = images a second, over those of one rank;  efficiency = speed-up / P

Strong scaling divides one batch among more ranks, so that c shrinks and the sums do not. Weak scaling gives each rank
its B images. Compute is divided among the layers by their multiply-adds, backward twice forward. Shares of unequal
speed, and messages that get in each other's way, are left to `simulation.py`.

R. W. Hockney, The communication challenge for MPP: Intel Paragon and Meiko CS-2, Parallel Computing 20 (1994) 389-398.
R. Thakur, R. Rabenseifner, W. Gropp, Optimization of collective communication operations in MPICH, International
Journal of High Performance Computing Applications 19 (2005) 49-66.
P. Patarasuk, X. Yuan, Bandwidth optimal all-reduce algorithms for clusters of workstations, Journal of Parallel and
Distributed Computing 69 (2009) 117-124.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from minires import nn
from minires.parallel.gradients import BUCKET_BYTES

SUM_BYTES = 8
"""BatchNorm's sums travel in float64."""


class Network(NamedTuple):
    """alpha: seconds of a message of no bytes. beta: seconds of each byte. overhead: seconds of a sum beside its
    messages. gamma: seconds of adding a byte to another."""

    alpha: float
    beta: float
    overhead: float = 0.0
    gamma: float = 0.0

    def __str__(self) -> str:
        """As `predict --network` takes it."""
        return ",".join(f"{value:.3g}" for value in (self if self.overhead or self.gamma else self[:2]))

    def message(self, size: float) -> float:
        """Seconds of a message of `size` bytes."""
        return self.alpha + self.beta * size


def ring(ranks: int, size: float, network: Network) -> float:
    """Seconds of a sum of `size` bytes over the ranks, each talking to its neighbors alone."""
    return 2 * (ranks - 1) * network.message(size / ranks) + (ranks - 1) / ranks * size * network.gamma


def tree(ranks: int, size: float, network: Network) -> float:
    """Seconds of a sum by recursive doubling: whole vectors, log2(ranks) rounds."""
    added = size * network.gamma
    return rounds(ranks) * (network.message(size) + added) + _excess(ranks, size, network)


def halving(ranks: int, size: float, network: Network) -> float:
    """Seconds of a sum by recursive halving, then doubling (Rabenseifner)."""
    k = rounds(ranks)
    added = (1 - 2.0**-k) * size
    return 2 * k * network.alpha + added * (2 * network.beta + network.gamma) + _excess(ranks, size, network)


def rounds(ranks: int) -> int:
    """How often the largest power of two among `ranks` can be halved."""
    return ranks.bit_length() - 1


def _excess(ranks: int, size: float, network: Network) -> float:
    """Ranks in excess of a power of two, if any: their vector goes to others, is added, and the sum comes back."""
    return 2 * network.message(size) + size * network.gamma if ranks & (ranks - 1) else 0.0


ALGORITHMS = {"tree": tree, "halving": halving, "ring": ring}


def all_reduce(ranks: int, size: float, network: Network) -> tuple[float, str]:
    """(seconds, name) of the quickest algorithm for a sum of `size` bytes, with the overhead of a sum."""
    quickest, name = min((seconds(ranks, size, network), name) for name, seconds in ALGORITHMS.items())
    return quickest + (network.overhead if ranks > 1 else 0.0), name


class Compute(NamedTuple):
    """Seconds of one rank's step of m images: fixed + m * per_image."""

    fixed: float
    per_image: float

    def seconds(self, images: float) -> float:
        """Of a step of so many images; a rank without images computes nothing."""
        return self.fixed + images * self.per_image if images else 0.0

    def of(self, other: Work, known: Work) -> Compute:
        """The same machine on another network: `fixed` grows with the layers, `per_image` with the multiply-adds."""
        layers, products = len(other.layers) / len(known.layers), other.products / known.products
        return Compute(self.fixed * layers, self.per_image * products)


class LayerWork(NamedTuple):
    """What a layer adds to a step: multiply-adds of an image forward, bytes of gradients, bytes of BatchNorm's sums."""

    products: int
    gradients: int
    sums: int


@dataclass(frozen=True)
class Work:
    """A network as the cost of its step sees it: the layers in the order of the forward pass."""

    name: str
    layers: tuple[LayerWork, ...]

    @property
    def products(self) -> int:
        """Multiply-adds of one image forward."""
        return sum(layer.products for layer in self.layers)

    @property
    def gradients(self) -> int:
        """Bytes of all gradients."""
        return sum(layer.gradients for layer in self.layers)

    @property
    def norms(self) -> int:
        """How many BatchNorms there are."""
        return sum(layer.sums > 0 for layer in self.layers)

    def events(self, compute: float, bucket: int = BUCKET_BYTES) -> Iterator[tuple[str, float]]:
        """What a rank does in a step of `compute` seconds, in order.

        ("compute", seconds); ("norm", bytes): a sum to wait for; ("bucket", bytes): a sum that may go on meanwhile.
        """
        second, full = compute / (3 * self.products), 0
        for layer in self.layers:
            yield "compute", layer.products * second
            if layer.sums:
                yield "norm", layer.sums
        for layer in reversed(self.layers):
            if layer.sums:
                yield "norm", layer.sums
            yield "compute", 2 * layer.products * second
            full += layer.gradients
            if full >= bucket:
                yield "bucket", full
                full = 0
        if full:
            yield "bucket", full


def work_of(model: nn.Layer, input_shape: Sequence[int] = (3, 32, 32), name: str = "") -> Work:
    """What a step of `model` on images (C, H, W) consists of. Gradients are float32."""
    layers: list[LayerWork] = []

    def look(layer: nn.Layer, path: str, direction: str, x: np.ndarray, y: np.ndarray) -> None:
        own = [p for p in vars(layer).values() if isinstance(p, nn.Parameter)]
        if own:
            weight = layer.weight.value
            is_norm = isinstance(layer, nn.BatchNorm2d)
            products = 0 if is_norm else weight.size * math.prod(y.shape[2:])
            sums = SUM_BYTES * (1 + 2 * weight.size) if is_norm else 0
            layers.append(LayerWork(products, 4 * sum(p.value.size for p in own), sums))

    with model.observe(look):
        model.infer(np.zeros((1, *input_shape), np.float32))
    return Work(name or repr(model), tuple(layers))


@dataclass(frozen=True)
class Step:
    """Seconds of one step. images: those of the largest share, and of all ranks."""

    ranks: int
    share: int
    images: int
    compute: float
    norms: float
    gradients: float

    @property
    def seconds(self) -> float:
        return self.compute + self.norms + self.gradients

    def speed_up(self, one: Step) -> float:
        """How many times as many images a second as `one`, a step of one rank."""
        return self.images / self.seconds * one.seconds / one.images

    def efficiency(self, one: Step) -> float:
        """The speed-up as a share of the ranks."""
        return self.speed_up(one) / self.ranks


def step(
    work: Work,
    compute: Compute,
    images: int,
    ranks: int,
    network: Network,
    *,
    overlap: bool = True,
    synchronize: bool = True,
    bucket: int = BUCKET_BYTES,
) -> Step:
    """The step of `ranks` ranks that share `images` images.

    overlap: gradients travel while backward goes on. synchronize: BatchNorm takes its statistics from all ranks.
    """
    share = -(-images // ranks)
    now = line_free = norms = 0.0
    for what, amount in work.events(compute.seconds(share), bucket):
        if what == "compute":
            now += amount
        elif what == "norm":
            taken = all_reduce(ranks, amount, network)[0] if synchronize else 0.0
            now, norms = now + taken, norms + taken
        else:
            line_free = max(line_free, now if overlap else 0.0) + all_reduce(ranks, amount, network)[0]
    gradients = max(0.0, line_free - now) if overlap else line_free
    return Step(ranks, share, images, compute.seconds(share), norms, gradients)


def takes_over(
    work: Work, compute: Compute, images: int, network: Network, most: int, *, weak: bool = False
) -> int | None:
    """The smallest power of two of ranks at which a step waits longer than it computes; None: not up to `most`.

    weak: `images` for each rank, else for all of them.
    """
    for k in range(1, rounds(most) + 1):
        found = step(work, compute, images * 2**k if weak else images, 2**k, network)
        if found.norms + found.gradients > found.compute:
            return 2**k
    return None
