"""What is measured: a training step or inference of a residual network, and single convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

KINDS = ("train", "infer", "layers")
LAYERS = ((16, 32), (32, 16), (64, 8))
"""(channels, height and width) of the 3x3 convolutions: the three stages of a residual network for CIFAR."""

HEADLINE = 128
"""The batch at which depths and layers are compared."""


@dataclass(frozen=True)
class Case:
    """One thing to time, once for each engine.

    kind: "train" (forward, loss, backward, SGD with momentum) or "infer" (forward in eval mode) of the residual
    network of `depth` layers, 16 channels wide, on (batch, 3, 32, 32); or "layers": forward and backward of one 3x3
    convolution without bias on (batch, channels, size, size). All of it float32.
    """

    kind: str
    batch: int
    depth: int = 0
    channels: int = 0
    size: int = 0

    @property
    def what(self) -> str:
        """Without the batch, e.g. "resnet20 training step"."""
        if self.kind == "layers":
            return f"3x3 layer {self.channels}x{self.size}x{self.size}"
        return f"resnet{self.depth} {'training step' if self.kind == 'train' else 'inference'}"

    def __str__(self) -> str:
        return f"{self.what}, batch {self.batch}"

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels of a network, input and upstream gradient of a layer; the same for every engine."""
        rng = np.random.default_rng(0)
        if self.kind == "layers":
            shape = (2, self.batch, self.channels, self.size, self.size)
            x, dy = rng.standard_normal(shape, dtype=np.float32)
            return x, dy
        x = rng.standard_normal((self.batch, 3, 32, 32), dtype=np.float32)
        return x, rng.integers(0, 10, self.batch)


def all_cases(depths: Sequence[int], batches: Sequence[int], kinds: Sequence[str]) -> list[Case]:
    """The first depth at every batch; the other depths and the layers at one batch, 128 where it is among them."""
    batch = headline_batch(batches)
    cases = []
    for kind in ("train", "infer"):
        if kind in kinds:
            cases += [Case(kind, b, depths[0]) for b in batches]
            cases += [Case(kind, batch, depth) for depth in depths[1:]]
    if "layers" in kinds:
        cases += [Case("layers", batch, channels=channels, size=size) for channels, size in LAYERS]
    return cases


def headline_batch(batches: Sequence[int]) -> int:
    """The batch of `batches` that is nearest to 128."""
    return min(batches, key=lambda batch: abs(batch - HEADLINE))


def is_headline(case: Case, cases: Sequence[Case]) -> bool:
    """Whether slow engines are asked for this case: single layers, and the first network's training step."""
    trained = [c for c in cases if c.kind == "train" and c.depth == cases[0].depth]
    wanted = headline_batch([c.batch for c in trained]) if trained else None
    return case.kind == "layers" or (case in trained and case.batch == wanted)
