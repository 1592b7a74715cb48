"""What will become of a network's signal, in one phrase: "steady", "dies by layer 6", "gradient explodes by layer 2".

`predict` gives every layer's law; here its rows are read as a user reads a plot. Stations are the activations and
linear layers, counted from 1 at the input. The forward signal is compared with the input's rms of 1, the gradient with
what arrives at the last station, since its scale is the loss's own.

The weights are the model's, each layer's taken as random with its mean square. Two starts are not random. Weights that
are all alike leave all units of a layer alike for ever, which is the forecast. Dirac's weights, on images of one
channel, leave one channel alive (`one_channel_lives`).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minires import nn
from minires.backend import to_numpy
from minires.checks import check_model
from minires.theory.predict import predict
from minires.theory.report import SignalReport

FADED, FLOODED = 1e-3, 1e3  # a signal has died, or exploded, where its rms is so many times that at its start
STATIONS = ("ReLU", "LeakyReLU", "Tanh", "Sigmoid", "Linear")
ALIKE = "all units stay alike"
ONE_LIVES = "one channel alone lives"


class Forecast(NamedTuple):
    """verdict: a phrase. activations, gradients: (path, rms) in forward order; nan: no law.

    Gradients are dL/d(output) of a mean softmax cross-entropy whose logits are small, with a batch of the forecast's N.
    """

    verdict: str
    activations: list[tuple[str, float]]
    gradients: list[tuple[str, float]]


def forecast(model: nn.Layer, input_shape: Sequence[int]) -> Forecast:
    """The signal of ``model`` on white noise of ``input_shape`` (N, C, H, W) or (N, features), without running it."""
    if units_alike(check_model(model)):
        return Forecast(ALIKE, [], [])
    return read(predict(model, input_shape, weight=None))


def units_alike(model: nn.Layer) -> bool:
    """Whether some layer's weights are all one number that is not 0."""
    weights = [to_numpy(p.value) for p in model.parameters() if p.value.ndim >= 2 and not p.gain]
    return any(len(w) > 1 and w.flat[0] != 0 and np.ptp(w) == 0 for w in weights)


def one_channel_lives(model: nn.Layer) -> bool:
    """Whether a ResNet with ReLU and Dirac's weights, on images of one channel, has one channel for ever.

    Channel c of each layer reads channel c of the layer below alone, so all channels but the first are 0 from the stem
    on. No gradient passes a ReLU at 0, and one stands behind every channel: no weight that leads into them ever moves.
    So all logits are w_k f(x) + b_k, of one number f(x) an image, whatever the learning rate. (Shortcut A moves the
    channels where it doubles their number, and so wakes some: of such a network it is not true.)
    """
    if not isinstance(model, nn.ResNet):
        return False
    layers = [layer for _, layer in model.named_layers()]
    moved = any(isinstance(layer, nn.Subsample) and layer.kept.start > 0 for layer in layers)
    if moved or any(isinstance(layer, nn.LeakyReLU | nn.Tanh | nn.Sigmoid) for layer in layers):
        return False
    *below, head = [layer for layer in layers if isinstance(layer, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]
    raised = [to_numpy(layer.bias.value)[1:].max() > 0 for layer in below if layer.bias is not None]
    weights = [to_numpy(layer.weight.value) for layer in (*below, head) if not isinstance(layer, nn.BatchNorm2d)]
    return weights[0].shape[1] == 1 and not any(raised) and all(map(_copies_channels, weights))


def _copies_channels(weight: np.ndarray) -> bool:
    """Whether each channel reads the one of its own number alone, and the first one does."""
    reads = np.abs(weight).reshape(*weight.shape[:2], -1).sum(axis=2) > 0
    return bool(reads[0, 0]) and not (reads & ~np.eye(*reads.shape, dtype=bool)).any()


def read(predicted: SignalReport) -> Forecast:
    """The forecast that a prediction amounts to."""
    rows = [row for row in predicted if row.kind in STATIONS]
    unit = 1.0
    if rows:  # rms of dL/dlogits at logits of zero: N sum_k dlogits^2 = (1 - 1/K)/N for each of N samples
        samples, classes = rows[-1].shape[0], rows[-1].shape[-1]
        unit = math.sqrt((1 - 1 / classes) / classes) / samples
    forward, backward = [row.forward.rms for row in rows], [unit * row.gradient_out.rms for row in rows]
    verdict = "steady"
    if lawless := [row.note for row in predicted if row.note]:
        verdict = f"no forecast: {lawless[0]}"
    elif found := departure(forward, 1.0):
        verdict = f"{found[0]} by layer {found[1] + 1}"
    elif rows and (found := departure(backward[::-1], backward[-1])):
        verdict = f"gradient {found[0]} by layer {len(rows) - found[1]}"
    paths = [row.path for row in rows]
    return Forecast(verdict, list(zip(paths, forward, strict=True)), list(zip(paths, backward, strict=True)))


def departure(values: Sequence[float], start: float) -> tuple[str, int] | None:
    """("dies" or "explodes", station from 0) of a signal, or None if it arrives nearly as it set out."""
    for station, value in enumerate(values):
        if value <= FADED * start:
            return "dies", station
        if value >= FLOODED * start:
            return "explodes", station
    return None
