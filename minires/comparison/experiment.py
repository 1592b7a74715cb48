"""One network, many starts: the experiment behind `minires compare`.

A *case* is a network (plain or residual, with or without BatchNorm) and an initializer. `run_case` initializes it,
measures the signal on one batch (rms of the activations on the way forward, of the loss's gradient on the way back,
layer by layer), trains it, and the `Run` says what became of it. Everything is drawn from the case's seed, so a case
gives the same result wherever and in whatever order it runs.

The cases train on one half of the digits' training images. "Pretrained" weights come from a network of the same
kind that `pretrain` trained on the other half.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from minires import init, nn, optim
from minires.backend import Array, array_namespace, to_device, to_numpy
from minires.data import Split, count_batches, hold_out, load_digits
from minires.theory.forecast import Forecast, departure, forecast
from minires.train import TrainingDiverged, evaluate, fit

NETWORKS: Mapping[str, Mapping[str, object]] = {
    "plain": {"shortcut": None, "batchnorm": False},
    "plain + BatchNorm": {"shortcut": None, "batchnorm": True},
    "residual": {"shortcut": "A", "batchnorm": False},
    "residual + BatchNorm": {"shortcut": "A", "batchnorm": True},
}
"""The networks side by side, and how `nn.resnet` makes them."""

CHANCE = math.log(10)
"""The loss of a network that holds all ten digits for equally likely."""

MEASURED_IMAGES = 128
"""How many images the signal before training is measured on."""


@dataclass(frozen=True)
class Case:
    """What is run. `initializer` None stands for pretrained weights; `name` is what the user calls it."""

    network: str
    name: str
    initializer: init.Initializer | None
    depth: int = 20
    width: int = 16
    epochs: int = 10
    batch_size: int = 32
    lr: float = 0.02
    seed: int = 0
    device: str = "cpu"


@dataclass(frozen=True)
class Signal:
    """rms per layer, in forward order: of the layer's output, and of the loss's gradient with respect to it.

    The layers are the activations and the last linear layer, by their path in the network.
    """

    activations: dict[str, float]
    gradients: dict[str, float]

    def __str__(self) -> str:
        """What a reader should know of it, in the words of a forecast, e.g. "dies by layer 6"."""
        forward, backward = (finite(rms.values()) for rms in (self.activations, self.gradients))
        if found := departure(forward, 1.0):  # the images' own rms is 1
            return f"{found[0]} by layer {found[1] + 1}"
        if found := departure(backward[::-1], backward[-1]):
            return f"gradient {found[0]} by layer {len(backward) - found[1]}"
        return "steady"


def finite(values: Iterable[float]) -> list[float]:
    """NaN is what is left of numbers that were too large."""
    return [math.inf if math.isnan(value) else value for value in values]


@dataclass(frozen=True)
class Run:
    """What happened to a case.

    foreseen: what the theory says of the initializer without running it, on white noise in place of images.
    losses: on one batch before training, then the mean over each epoch, as far as the run came.
    accuracy: the share of held-out images that were told right at the end; NaN for a run that diverged.
    """

    case: Case
    signal: Signal
    foreseen: Forecast
    losses: tuple[float, ...]
    diverged: bool
    accuracy: float

    @property
    def outcome(self) -> str:
        """How training went: "learned", "learns slowly", "never left log(10)" or "diverged"."""
        last = self.losses[-1]
        if self.diverged or last > 10 * CHANCE:
            return "diverged"
        if last < CHANCE / 2:
            return "learned"
        return "learns slowly" if last < 0.9 * CHANCE or self.accuracy > 0.25 else "never left log(10)"


def build(case: Case) -> nn.ResNet:
    """The network of a case, not yet initialized."""
    return nn.resnet(case.depth, width=case.width, in_channels=1, num_classes=10, **NETWORKS[case.network])


def halves() -> tuple[Split, Split]:
    """The digits twice: half of the training images each, no image in both, and the same images held out."""
    data = load_digits()
    first, y_first, second, y_second = hold_out(data.x_train, data.y_train, len(data.y_train) // 2)
    return Split(first, y_first, *data[2:]), Split(second, y_second, *data[2:])


def pretrain(case: Case) -> dict[str, np.ndarray]:
    """Weights of the case's network after training from `case.initializer` on the other half of the images."""
    model = build(case)
    init.initialize(model, case.initializer, rng=case.seed)
    model.to(case.device)
    with np.errstate(all="ignore"):
        train(model, halves()[0], case)
    return {name: to_numpy(array) for name, array in model.state_dict().items()}


def run_case(case: Case, pretrained: Mapping[str, np.ndarray] | None = None) -> Run:
    """Initialize, measure, train, evaluate. `pretrained` are the weights of a case without an initializer."""
    model, data = build(case), halves()[1]
    if case.initializer is None:
        init.from_pretrained(model, pretrained)
        foreseen = Forecast("no law: trained", [], [])
    else:
        init.initialize(model, case.initializer, rng=case.seed)
        foreseen = forecast(model, data.x_train[:MEASURED_IMAGES].shape)
    model.to(case.device)
    x, y = (to_device(array[:MEASURED_IMAGES], case.device) for array in data[:2])
    with np.errstate(all="ignore"):  # overflow is one of the things to be seen here
        signal, loss = measure(model, x, y)
        losses, diverged = train(model, data, case)
        accuracy = math.nan if diverged else evaluate(model, *data[2:], device=case.device)[1]
    return Run(case, signal, foreseen, (loss, *losses), diverged, accuracy)


def measure(model: nn.Layer, x: Array, labels: Array) -> tuple[Signal, float]:
    """One pass forward and back on images x (N, C, H, W): the signal, and the loss. The model is left as it was."""
    before = model.state_dict()
    forward: dict[str, float] = {}
    backward: dict[str, float] = {}

    def look(layer: nn.Layer, path: str, direction: str, array: Array, result: Array) -> None:
        if isinstance(layer, nn.ReLU | nn.Linear):
            if direction == "forward":
                forward[path] = rms(result)
            else:
                backward[path] = rms(array)

    loss = nn.SoftmaxCrossEntropy()
    with model.train().observe(look):
        value = float(loss.forward(model.forward(x), labels))
        model.backward(loss.backward())
    model.zero_grad()
    model.load_state_dict(before)  # BatchNorm's running statistics have moved
    return Signal(forward, {path: backward[path] for path in forward}), value


def rms(array: Array) -> float:
    """Root mean square, in float64: the square of a float32 overflows at 1.8e19."""
    array = array.astype(np.float64)
    return float(array_namespace(array).sqrt((array * array).mean()))


def train(model: nn.Layer, data: Split, case: Case) -> tuple[list[float], bool]:
    """Trains the model; (mean training loss of each epoch, as far as it came; whether it diverged)."""
    losses: dict[int, float] = {}
    data = data._replace(x_test=data.x_test[:1], y_test=data.y_test[:1])  # the rest is looked at once, at the end
    steps = case.epochs * count_batches(len(data.x_train), case.batch_size)
    try:
        fit(
            model,
            data,
            epochs=case.epochs,
            batch_size=case.batch_size,
            schedule=optim.Warmup(optim.Cosine(case.lr, steps), steps // 10),
            seed=case.seed,
            device=case.device,
            report=lambda progress: losses.update({progress.epoch: progress.loss}),
        )
    except TrainingDiverged:
        return list(losses.values()), True
    return list(losses.values()), False
