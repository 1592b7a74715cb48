"""Large Monte Carlo behind the mean-field laws."""

from __future__ import annotations

import numpy as np

from minires.nn.layer import Layer
from minires.nn.residual import ResidualBlock


def stream_gradients(model: Layer, x: np.ndarray, upstream: np.ndarray) -> list[np.ndarray]:
    """dL/dh at every stream of a network of residual blocks, from the first block's input to the last one's output.

    upstream: dL/d(last block's output); the head takes no part.
    """
    blocks = [layer for _, layer in model.named_layers() if isinstance(layer, ResidualBlock)]
    model.forward(x)
    gradients = [upstream]
    for block in reversed(blocks):
        gradients.append(block.backward(gradients[-1]))
    return gradients[::-1]
