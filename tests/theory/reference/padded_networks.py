"""Networks with BatchNorm as people build them: 3x3 kernels, zero padding, stride 2, shortcuts A and B.

Grade [MF]: wide layers, large batch, white-noise input, an upstream gradient of equal variance everywhere and without
correlation. Zero padding takes a quarter (ResNet-20) to a half off the gradient's growth of the edge-free law
(`batchnorm_networks`), by three mechanisms:

1. *Lost taps.* Going back, the transposed box filter loses energy at the edges. Going forward it loses some too, but
   BatchNorm renormalizes that away, so the two do not cancel.
2. *Incomplete centering.* ReLU features have a positive mean. Inside the map it adds a constant to every output of a
   channel, which BN subtracts. Where taps are missing the constant becomes a map, the same for all samples; BN
   subtracts only its average, and what stays makes the batch variance v larger, and gradients smaller.
3. *A random scale.* That common map, hence v, differs from channel to channel, and E[1/v] > 1/E v.

`signal` follows a signal through convolution, BN and ReLU with all three, `stream` follows the sums. Here they are put
together. *Gradient energy* per entry, from the top: BN multiplies by E[1/v], a ReLU on a Gaussian by 1/2, a
convolution by (2/k^2) boxT and the ratio of channels:

    G+(i) = E[1{h' > 0} Gamma'(h', i)]                         at the sum
    D1(i) = 1/2 (2/k^2) boxT_2(E[1/v2] G+)                    at the first BN's output
    br(j) = (C_out/C_in) (2/k^2) boxT_1(E[1/v1] D1)           at the block's input
    Gamma(h, i) = E_g[1{h + g > 0} Gamma'(h + g, i)] + br(i)

If a share f of the upstream energy is common to all samples (`given_forward.coherence`), that part Y travels down the
skip path through the gates, and BN in the branches removes its mean and its component along x^: there
G+ <- G+ (1 - f [(E Y)^2 + (E Y g)^2] / E G+).

A weight gradient sees the centered input, so v cancels: per unit of upstream energy per entry, with N samples,
mean dW2^2 = (N/2) sum_i G+(i) q2^(i), mean dW1^2 = (N/2) sum_i D1(i) q1^(i), and for a projection
(N/2) sum_i G+(i) qs^(i).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from minires.theory.laws import signal as maps
from minires.theory.laws.activations import arc_cosine
from minires.theory.laws.batchnorm import Normalized, batchnorm
from minires.theory.laws.geometry import ConvGeometry
from minires.theory.laws.reflected_walk import Floats, Grid, grid_for
from minires.theory.laws.signal import Signal
from minires.theory.laws.stream import Field, Gamma, Stream
from tests.theory.reference.batchnorm_networks import pull_back_times_step
from tests.theory.reference.blocks import Block


def conv_batchnorm(signal: Signal, geometry: ConvGeometry) -> Normalized:
    """Convolution, then BatchNorm."""
    return batchnorm(maps.conv(signal, geometry))


def relu(normalized: Normalized) -> Signal:
    """ReLU of BatchNorm's output."""
    signal = normalized.signal
    return Signal(signal.q / 2, arc_cosine(np.sqrt(signal.q), signal.kernel), span=signal.span)


class BlockForward(NamedTuple):
    """A block's two BatchNorms, and the shortcut's where there is a projection."""

    first: Normalized
    second: Normalized
    projection: Normalized | None


class BlockBackward(NamedTuple):
    """Gradient energies inside a block per entry, upstream 1 per entry: (P,) over positions.

    at_sum: at the sum, behind the last ReLU's gate.  at_hidden: at the first ReLU's output.  at_bn1: at the first BN's.
    weight1, weight2, projection: mean square of dL/dW, divided by the number of samples (0: no such weight).
    """

    at_sum: Floats
    at_hidden: Floats
    at_bn1: Floats
    weight1: float
    weight2: float
    projection: float


@dataclass(frozen=True)
class PositionLaw:
    """The streams h_0..h_L and the blocks between them.

    shapes: (C, H, W) of h_l.  q: second moments, (H, W) each.  variance: batch variance.  positive: share above zero.
    gradient_maps: energy per entry, (H, W), when the upstream has 1 per entry.
    gradient: |dL/dh_l|^2 in total, relative to the top; gradient[0] is the growth through the network.
    backward: inside the blocks.
    """

    shapes: tuple[tuple[int, int, int], ...]
    q: tuple[Floats, ...]
    variance: Floats
    positive: Floats
    gradient_maps: tuple[Floats, ...]
    gradient: Floats
    backward: tuple[BlockBackward, ...]

    @property
    def second_moment(self) -> Floats:
        """Mean of q over the map, for each stream."""
        return np.array([q.mean() for q in self.q])


def basic_block_law(
    layout: Sequence[Block],
    image: tuple[int, int],
    *,
    stem: tuple[int, int] = (3, 1),
    coherence: float = 0.0,
    grid: Grid | None = None,
) -> PositionLaw:
    """v1 (BasicBlock) network behind a stem conv-BN-ReLU on white noise.

    layout: blocks from the bottom.  image: (H, W) of the input.  stem: its (kernel size, padding), stride 1.
    coherence: share f of the upstream energy that is common to all samples; 0 for independent upstreams.
    Example: ``basic_block_law(resnet_layout(20, "B"), (32, 32)).gradient[0]`` is 141.6.
    """
    grid = grid or grid_for(1.0 + len(layout))
    geometry = ConvGeometry.of(image, stem[0], padding=stem[1])
    streams = [Stream.started(grid, conv_batchnorm(Signal.white_noise(image), geometry).signal)]
    sizes = [geometry.outputs]
    blocks: list[BlockSignal] = []
    for block in layout:
        blocks.append(BlockSignal(block, sizes[-1], streams[-1]))
        streams.append(blocks[-1].output)
        sizes.append(blocks[-1].second.outputs)
    gamma = Gamma.constant(grid, np.ones(sizes[-1][0] * sizes[-1][1]))
    gradient_maps, backward = [gamma.energy(streams[-1])], []
    for block in blocks[::-1]:
        gamma, inside, coherence = block.backward(gamma, coherence)
        backward.append(inside)
        gradient_maps.append(gamma.energy(block.input))
    return _report(streams, sizes, blocks, gradient_maps[::-1], backward[::-1])


def _report(
    streams: list[Stream],
    sizes: list[tuple[int, int]],
    blocks: list[BlockSignal],
    gradient_maps: list[Floats],
    backward: list[BlockBackward],
) -> PositionLaw:
    channels = [blocks[0].block.in_channels, *(b.block.out_channels for b in blocks)]
    totals = np.array([c * g.sum() for c, g in zip(channels, gradient_maps, strict=True)])
    signals = [*(block.arriving for block in blocks), streams[-1].signal]
    return PositionLaw(
        shapes=tuple((c, *size) for c, size in zip(channels, sizes, strict=True)),
        q=tuple(s.q.reshape(size) for s, size in zip(signals, sizes, strict=True)),
        variance=np.array([s.variance for s in signals]),
        positive=np.array([stream.positive() for stream in streams]),
        gradient_maps=tuple(g.reshape(size) for g, size in zip(gradient_maps, sizes, strict=True)),
        gradient=totals / totals[-1],
        backward=tuple(backward),
    )


class BlockSignal:
    """One block given the stream at its input: forward at once, `backward` when the gradient arrives.

    output: the stream after the block.  forward: its BatchNorms.  first, second, shortcut: its geometries.
    """

    def __init__(self, block: Block, image: tuple[int, int], stream: Stream) -> None:
        self.block, self.image, self.input = block, image, stream
        k, p = block.kernel_size, block.padding
        self.first = ConvGeometry.of(image, k, block.stride, p)
        self.second = ConvGeometry.of(self.first.outputs, k, 1, p)
        self.shortcut = ConvGeometry.of(image, 1, block.stride)
        signal = stream.signal
        self.arriving = signal
        first = conv_batchnorm(signal, self.first)
        second = conv_batchnorm(relu(first), self.second)
        projection = conv_batchnorm(signal, self.shortcut) if self.restarts else None
        self.forward = BlockForward(first, second, projection)
        self.step = second.signal.scaled(block.branch_gain)
        if self.restarts:
            self.step = self.step + projection.signal
            self.output = Stream.started(stream.grid, self.step)
        else:
            share = block.in_channels / block.out_channels
            self.output = stream.stepped(self.step, image, block.stride, share)

    @property
    def restarts(self) -> bool:
        """A projection replaces the stream by something new."""
        return self.block.shortcut == "B"

    @property
    def kept(self) -> np.ndarray:
        """Positions that the identity or subsampling shortcut reads."""
        return maps.every(self.image, self.block.stride)

    def backward(self, gamma: Gamma, coherence: float) -> tuple[Gamma, BlockBackward, float]:
        """Gradient at the block's input from that at its output, the energies inside, and its coherence."""
        at_sum = gamma.energy(self.output, gated=True)
        left = np.ones(2)
        if coherence:
            left -= coherence * _coherent(self, gamma.common) / at_sum.mean()
        inside, brought = self._energies(at_sum, left)
        grid, q = self.input.grid, self.step.q
        if self.restarts:  # what was common ends here: both BNs remove it
            return Gamma.constant(grid, brought), inside, 0.0
        energy = gamma.field.pulled_back(grid.pull_back, q).scattered(self.kept, brought)
        if not coherence:
            return Gamma(energy, energy), inside, 0.0
        common = gamma.common.pulled_back(grid.pull_back, q).scattered(self.kept, np.zeros(len(brought)))
        return Gamma(energy, common), inside, coherence

    def _energies(self, at_sum: Floats, left: Floats) -> tuple[BlockBackward, Floats]:
        """Gradient energies inside the block, and what its convolutions bring to each entry of its input.

        at_sum: G+ per position.  left: shares of it that the second BN and the projection's let through.
        """
        first, second, projection = self.forward
        ratio = self.block.out_channels / self.block.in_channels
        into_branch, into_projection = self.block.branch_gain * left[0] * at_sum, left[1] * at_sum
        at_hidden = maps.conv_backward(second.inverse_v * into_branch, self.second)
        at_bn1 = at_hidden / 2
        brought = ratio * maps.conv_backward(first.inverse_v * at_bn1, self.first)
        weights = [at_bn1 @ first.signal.q / 2, into_branch @ second.signal.q / 2, 0.0]
        if projection is not None:
            brought += ratio * maps.conv_backward(projection.inverse_v * into_projection, self.shortcut)
            weights[2] = into_projection @ projection.signal.q / 2
        return BlockBackward(at_sum, at_hidden, at_bn1, *map(float, weights)), brought


def _coherent(block: BlockSignal, common: Field) -> Floats:
    """(E Y)^2 + (E Y x^)^2 for the branch's BN and the projection's, (2,): what they take of the common gradient.

    Per population, since BN works channel by channel. The step g is the sum of the branches' outputs, so a
    branch of variance q2 out of q has E Y x^ = E[Y g q2/q].
    """
    grid, q = block.output.grid, block.step.q
    along = common.pulled_back(partial(pull_back_times_step, grid), q)  # E_g[g 1{h + g > 0} Y'(h + g)] of h
    share = block.block.branch_gain * block.forward.second.signal.q / np.where(q > 0, q, 1.0)
    removed = np.zeros(2)
    for number, p in enumerate(block.output.populations):
        mean = common.expect(p.classes, p.walk, gated=True).mean()
        moved = _expect_before(block, number, along)
        removed += [p.weight * (mean**2 + (moved * part).mean() ** 2) for part in (share, 1 - share)]
    return removed


def _expect_before(block: BlockSignal, number: int, function: Field) -> Floats:
    """E f(h, i) over the h of population `number` of the output before its step, at the kept positions."""
    before = block.input.populations
    if block.restarts or number >= len(before):
        return function.values[function.classes.index, 0]
    classes = before[number].classes
    return function.expect(classes._replace(index=classes.index[block.kept]), before[number].walk, gated=False)


class ChainLaw(NamedTuple):
    """Maps after each layer or block: second moment (H, W), batch variance, gradient energy, total gradient."""

    shapes: tuple[tuple[int, int, int], ...]
    q: tuple[Floats, ...]
    variance: Floats
    gradient_maps: tuple[Floats, ...]
    gradient: Floats


class ConvLayer(NamedTuple):
    """A 'same'-like convolution of a plain network."""

    in_channels: int
    out_channels: int
    stride: int = 1
    kernel_size: int = 3
    padding: int = 1


def plain_law(layers: Sequence[ConvLayer], image: tuple[int, int]) -> ChainLaw:
    """Plain conv-BN-ReLU layers on white noise; h_0 is the input, whose batch variance is 1.

    Per layer the gradient is gated (1/2), divided by v (E[1/v]) and goes through boxT.
    """
    signals, geometries, normalized = [Signal.white_noise(image)], [], []
    for layer in layers:
        size = geometries[-1].outputs if geometries else image
        geometries.append(ConvGeometry.of(size, layer.kernel_size, layer.stride, layer.padding))
        normalized.append(conv_batchnorm(signals[-1], geometries[-1]))
        signals.append(relu(normalized[-1]))
    gradients = [np.ones(len(signals[-1].q))]
    for layer, geometry, bn in zip(layers[::-1], geometries[::-1], normalized[::-1], strict=True):
        energy = maps.conv_backward(0.5 * bn.inverse_v * gradients[-1], geometry)
        gradients.append(energy * layer.out_channels / layer.in_channels)
    channels = [layers[0].in_channels, *(layer.out_channels for layer in layers)]
    sizes = [image, *(g.outputs for g in geometries)]
    return _chain(channels, sizes, signals, gradients[::-1])


def preact_law(
    blocks: int,
    image: tuple[int, int],
    *,
    channels: int = 1,
    start: Signal | None = None,
    kernel: tuple[int, int] = (3, 1),
) -> ChainLaw:
    """v2 (PreActBlock) blocks of one stage behind a He convolution of white noise, or behind `start`.

    The stream is a sum, so q and K add. BN1 acts on h itself. Backward
    G_l = G_{l+1} + 1/2 E[1/v1] (2/k^2) boxT(1/2 E[1/v2] (2/k^2) boxT G_{l+1}).
    """
    geometry = ConvGeometry.of(image, kernel[0], padding=kernel[1])
    signals = [maps.conv(Signal.white_noise(image), geometry) if start is None else start]
    inverse = []
    for _ in range(blocks):
        first = batchnorm(signals[-1])
        second = conv_batchnorm(relu(first), geometry)
        signals.append(signals[-1] + maps.conv(relu(second), geometry))
        inverse.append((first.inverse_v, second.inverse_v))
    gradients = [np.ones(len(signals[-1].q))]
    for first, second in inverse[::-1]:
        inner = 0.5 * second * maps.conv_backward(gradients[-1], geometry)
        gradients.append(gradients[-1] + 0.5 * first * maps.conv_backward(inner, geometry))
    count = blocks + 1
    return _chain([channels] * count, [image] * count, signals, gradients[::-1])


def _chain(
    channels: Sequence[int], sizes: Sequence[tuple[int, int]], signals: list[Signal], gradients: list[Floats]
) -> ChainLaw:
    totals = np.array([c * g.sum() for c, g in zip(channels, gradients, strict=True)])
    return ChainLaw(
        tuple((c, *size) for c, size in zip(channels, sizes, strict=True)),
        tuple(s.q.reshape(size) for s, size in zip(signals, sizes, strict=True)),
        np.array([s.variance for s in signals]),
        tuple(g.reshape(size) for g, size in zip(gradients, sizes, strict=True)),
        totals / totals[-1],
    )
