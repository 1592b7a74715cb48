"""One step of training, as every textbook has it."""

from __future__ import annotations

from minires.backend import Array
from minires.nn import Layer, SoftmaxCrossEntropy
from minires.optim import SGD


def train_step(model: Layer, loss: SoftmaxCrossEntropy, optimizer: SGD, x: Array, labels: Array) -> tuple[Array, Array]:
    """One step of training: x (N, C, H, W), labels (N,) -> the loss and the logits (N, K) before the update."""
    logits = model.forward(x)
    value = loss.forward(logits, labels)
    model.zero_grad()
    model.backward(loss.backward())
    optimizer.step()
    return value, logits
