"""What the laws of residual networks need to know of a network: its blocks, without their weights."""

from collections.abc import Sequence
from typing import NamedTuple


class Block(NamedTuple):
    """One two-convolution block: channels, stride of its first convolution, and its kind of shortcut.

    shortcut: "identity"; "A" (subsample, new channels zero); "B" (1x1 convolution with BatchNorm).
    branch_gain: mean square of what multiplies the branch before the sum: the last BN's gain, a scale. 0:
    zero-gamma.
    """

    in_channels: int
    out_channels: int
    stride: int = 1
    shortcut: str = "identity"
    kernel_size: int = 3
    padding: int = 1
    branch_gain: float = 1.0


def stages(widths: Sequence[int], blocks: Sequence[int], shortcut: str = "B") -> list[Block]:
    """Blocks of a network whose stage s has blocks[s] blocks of widths[s] channels, halving the map between
    stages.

    The first stage keeps the stem's width and map. stages((16, 32, 64), (3, 3, 3)) is ResNet-20.
    """
    layout = []
    channels = widths[0]
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        for block in range(count):
            first = stage > 0 and block == 0
            layout.append(Block(channels, width, 2 if first else 1, shortcut if first else "identity"))
            channels = width
    return layout


def resnet_layout(depth: int = 20, shortcut: str = "B", width: int = 16) -> list[Block]:
    """Blocks of the CIFAR ResNet of depth 6n + 2 (He et al. 2016, section 4.2)."""
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"depth must be 6n + 2 (8, 14, 20, ...), got {depth}")
    n = (depth - 2) // 6
    return stages((width, 2 * width, 4 * width), (n, n, n), shortcut)
