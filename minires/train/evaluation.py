"""How good a model is, and where it broke; it is left as it was found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minires.backend import Array, array_namespace, to_device, to_numpy
from minires.checks import check_axes, check_classes, check_model, check_whole
from minires.data.batches import batches
from minires.data.split import Split
from minires.nn import Layer, SoftmaxCrossEntropy
from minires.train.checks import alone_with, check_engine, check_finite, labels_of


def evaluate(
    model: Layer, x: np.ndarray, y: np.ndarray, batch_size: int = 256, device: str = "cpu"
) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of `model` in eval mode on x (N, C, H, W), labels y (N,).

    The model is left in the mode in which it was found. Raises ValueError where the images, the weights or BatchNorm's
    running statistics hold a NaN or an infinity, naming them, and while another thread is at work on the model; an
    overflow of finite weights gives a loss of NaN.
    """
    check_engine(model)
    check_whole("batch_size", batch_size, 1)
    y = labels_of(x, y)
    check_finite(definition(model))
    loss, accuracy = (evaluation_sums(model, x, y, batch_size, device) / len(x)).tolist()
    return loss, accuracy


def check_fits(model: Layer, data: Split, device: str) -> None:
    """Infer one image; errors where the model refuses it, or gives no logit for some label of either part."""
    try:
        with np.errstate(all="ignore"), left_as_it_is(model):
            logits = model.eval().infer(to_device(data.x_train[:1], device))
    except MemoryError:
        return  # the run itself says what to try
    check_axes("logits", logits, "N, K")
    k = logits.shape[1]
    for name, labels in (("y_train", data.y_train), ("y_test", data.y_test)):
        try:
            check_classes(labels, k)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


def evaluation_sums(model: Any, x: Array, y: Array, batch_size: int, device: str) -> np.ndarray:
    """Summed loss and number of right answers on the images x, of which there may be none."""
    if len(x) == 0:
        return np.zeros(2)
    sums = None
    with left_as_it_is(model):
        model.eval()
        for images, labels in batches(x, y, batch_size):
            logits = model.infer(to_device(images, device))
            labels = to_device(labels, device)
            found = batch_sums(logits, labels, SoftmaxCrossEntropy().forward(logits, labels))
            sums = found if sums is None else sums + found
    return to_numpy(sums)


def first_nonfinite(model: Layer, x: Array) -> str | None:
    """The path of the first layer whose output on x has a NaN or an infinity ("" is the model itself); None if none.

    A layer made of layers is looked at after those in it, so the name is that of a single operation. The model is left
    as it was found: its mode, BatchNorm's running statistics, the generators of dropout.
    """
    check_model(model)
    found: list[str] = []

    def look(layer: Layer, path: str, direction: str, x: Array, y: Array) -> None:
        if not found and not bool(array_namespace(y).isfinite(y).all()):
            found.append(f"{path} ({type(layer).__name__})")

    with np.errstate(all="ignore"), left_as_it_is(model), model.observe(look):
        model.forward(x)
    return found[0] if found else None


@contextmanager
def left_as_it_is(model: Any) -> Iterator[None]:
    """After the block the model is in its old modes, its buffers and generators are what they were.

    Nobody else gets at it meanwhile: they would find it in the wrong mode, or leave it in one.
    """
    model = definition(model)
    with alone_with(model, again=True):
        modes = [(layer, layer.training) for _, layer in model.named_layers()]
        buffers = [(layer, name, getattr(layer, name).copy()) for _, layer, name in model.named_buffers()]
        states = [(generator, generator.bit_generator.state) for _, generator in generators(model)]
        try:
            yield
        finally:
            for layer, training in modes:
                layer.training = training
            for layer, name, value in buffers:
                setattr(layer, name, value)
            for generator, state in states:
                generator.bit_generator.state = state


def definition(model: Any) -> Layer:
    """The model itself; of a compiled one, the model whose parameters and buffers it computes with."""
    return model if isinstance(model, Layer) else model.model


def generators(model: Layer) -> Iterator[tuple[str, np.random.Generator]]:
    """Every random generator that a layer owns, by the layer's path and the attribute's name."""
    for path, layer in model.named_layers():
        for name, value in vars(layer).items():
            if isinstance(value, np.random.Generator):
                yield f"{path}.{name}", value


def batch_sums(logits: Array, labels: Array, loss: Array) -> Array:
    """Summed loss and number of right answers of a batch, as two float64 on the logits' device: no waiting."""
    xp = array_namespace(logits)
    right = (logits.argmax(1) == labels).sum()
    return xp.stack([loss.astype(np.float64) * len(labels), right.astype(np.float64)])
