"""The residual network of `minires.nn.resnet` (shortcut A) in dezero, to measure beside it."""

from __future__ import annotations

from typing import Any

import dezero
import dezero.functions as functions
import dezero.layers as layers
import numpy as np


class _Subsample(dezero.Function):
    """Every `stride`-th pixel, with channels of zeros before and behind (dezero has no padding of channels)."""

    def __init__(self, out_channels: int, stride: int) -> None:
        self.out_channels, self.stride = out_channels, stride

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.shape = x.shape
        extra = self.out_channels - x.shape[1]
        channels = (extra // 2, extra - extra // 2)
        return np.pad(x[:, :, :: self.stride, :: self.stride], ((0, 0), channels, (0, 0), (0, 0)))

    def backward(self, dy: Any) -> Any:
        first = (self.out_channels - self.shape[1]) // 2
        dx = np.zeros(self.shape, dy.dtype)
        dx[:, :, :: self.stride, :: self.stride] = dy.data[:, first : first + self.shape[1]]
        return dezero.as_variable(dx)


class _Block(dezero.Layer):
    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = layers.Conv2d(out_channels, 3, stride, 1, nobias=True, in_channels=in_channels)
        self.bn1 = layers.BatchNorm()
        self.conv2 = layers.Conv2d(out_channels, 3, 1, 1, nobias=True, in_channels=out_channels)
        self.bn2 = layers.BatchNorm()
        self.out_channels, self.stride = out_channels, stride

    def forward(self, x: Any) -> Any:
        y = functions.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.stride > 1:
            x = _Subsample(self.out_channels, self.stride)(x)
        return functions.relu(y + x)


class ResNet(dezero.Model):
    """(N, 3, 32, 32) -> logits (N, 10); depth is 6n + 2."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.conv1 = layers.Conv2d(16, 3, 1, 1, nobias=True, in_channels=3)
        self.bn1 = layers.BatchNorm()
        self.linear = layers.Linear(10, in_size=64)
        self.blocks, channels = [], 16
        for width in (16, 32, 64):
            for _ in range((depth - 2) // 6):
                block = _Block(channels, width, 1 if width == channels else 2)
                setattr(self, f"block{len(self.blocks)}", block)
                self.blocks.append(block)
                channels = width

    def forward(self, x: Any) -> Any:
        y = functions.relu(self.bn1(self.conv1(x)))
        for block in self.blocks:
            y = block(y)
        pixels = y.shape[2] * y.shape[3]
        return self.linear(functions.sum(functions.reshape(y, (*y.shape[:2], pixels)), axis=2) / pixels)
