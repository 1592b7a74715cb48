"""Residual networks for small images (He et al. 2015, arXiv:1512.03385, section 4.2), and their plain twins.

    conv1 3x3 - bn1 - relu            the stem, `width` channels
    layer1, layer2, layer3            stages of n blocks; each later one halves the size and doubles the channels
    pool - linear                     global average pooling and the head

With two convolutions in a block, three stages of n blocks, the stem and the head make a depth of 6n + 2: resnet20 has
n = 3 and, with shortcut A, 269,722 parameters. A network of pre-activation blocks has bn1 and relu after its stages.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from minires.checks import Rng, blocks_of, check_blocks, factory, flag, whole
from minires.init import HeNormal, Initializer, initialize
from minires.nn.layer import Layer
from minires.nn.layers import Conv2d, GlobalAvgPool2d, Linear, ReLU
from minires.nn.residual import BasicBlock, Bottleneck, PreActBlock, ResidualBlock, make_norm
from minires.nn.sequential import Sequential


class ResNet(Sequential):
    """A residual network of any blocks. (N, in_channels, H, W) -> logits (N, num_classes)."""

    def __init__(
        self,
        block: type[ResidualBlock],
        blocks: Sequence[int],
        *,
        width: int = 16,
        shortcut: str | None = "A",
        batchnorm: bool = True,
        activation: Callable[[], Layer] = ReLU,
        branch_scale: float = 1.0,
        in_channels: int = 3,
        num_classes: int = 10,
        weight_init: Initializer = HeNormal(),
        rng: Rng = 0,
    ) -> None:
        width, num_classes = whole("width", width), whole("num_classes", num_classes)
        blocks, activation = check_blocks(blocks), factory("activation", activation, "nn.ReLU")
        block = factory("block", block, "nn.BasicBlock")
        make = partial(block, shortcut=shortcut, batchnorm=batchnorm, activation=activation, branch_scale=branch_scale)
        preactivation = block is PreActBlock
        self.add("conv1", Conv2d(in_channels, width, 3, 1, 1, bias=not flag("batchnorm", batchnorm)))
        if not preactivation:
            self.add("bn1", make_norm(width, batchnorm))
            self.add("relu", activation())
        channels = width
        for i, count in enumerate(blocks):
            layers = []
            for j in range(count):
                layers.append(make(channels, width * 2**i, 2 if i > 0 and j == 0 else 1))
                channels = width * 2**i * block.expansion
            self.add(f"layer{i + 1}", Sequential(*layers))
        if preactivation:
            self.add("bn1", make_norm(channels, batchnorm))
            self.add("relu", activation())
        self.add("pool", GlobalAvgPool2d())
        self.add("linear", Linear(channels, num_classes))
        self.name = f"{'plain' if shortcut is None else 'residual'} network of {block.__name__}s, {tuple(blocks)}"
        initialize(self, weight_init, rng=rng)
        self.output_shape((1, in_channels, 32, 32))

    def __repr__(self) -> str:
        return self.name


def resnet(
    depth: int = 20,
    *,
    width: int = 16,
    block: type[ResidualBlock] = BasicBlock,
    blocks: Sequence[int] | None = None,
    **options: Any,
) -> ResNet:
    """A residual network of a given depth, or with `blocks` in each stage, as in blocks=(2, 2, 2, 2).

    depth is 6n + 2 (9n + 2 for Bottleneck, with three convolutions in a block). Further keywords are ResNet's:
    shortcut="A" | "B" | None, batchnorm=True, activation=ReLU, branch_scale=1.0, in_channels=3, num_classes=10,
    weight_init=HeNormal(), rng=0. Raises ValueError for a depth that no whole number of blocks makes.
    """
    if blocks is None:
        blocks = blocks_of(depth, 9 if block is Bottleneck else 6, block)
    return ResNet(block, blocks, width=width, **options)


resnet20, resnet32, resnet44 = partial(resnet, 20), partial(resnet, 32), partial(resnet, 44)
resnet56, resnet110 = partial(resnet, 56), partial(resnet, 110)

plain20, plain32 = partial(resnet, 20, shortcut=None), partial(resnet, 32, shortcut=None)
plain44, plain56 = partial(resnet, 44, shortcut=None), partial(resnet, 56, shortcut=None)
