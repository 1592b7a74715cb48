"""One case of the comparison: a network (plain or residual, with or without BatchNorm), an initializer, a seed.

`run_case` initializes the network, foresees what will become of it, measures the signal on one batch (rms of the
activations on the way forward, of the loss's gradient on the way back, layer by layer), trains it, and the `Run` says
what happened. Everything is drawn from the case's seed, so a case gives the same result wherever and in whatever order
it runs.

The cases train on one half of the digits' training images. "Pretrained" weights come from a network of the same
kind that `pretrain` trained on the other half.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from minires import init, nn, optim
from minires.backend import Array, array_namespace, to_device, to_numpy
from minires.data import Split, count_batches, hold_out, load_digits
from minires.theory.forecast import ALIKE, ONE_LIVES, Forecast, departure, one_channel_lives, read, units_alike
from minires.theory.laws.tangent_kernel import tangent_kernel
from minires.theory.outlook import MOVES, UNDECIDED, UNKNOWN, Outlook, outlook
from minires.theory.predict import predict
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

LEARNED, MOVED = 0.5, 0.25
"""A run learned if it tells more than half of the held-out images right, and moved if more than a quarter."""

NO_SIGNAL = 0.9
"""A last loss below this share of a guess's says that a run has moved, too."""


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

    foreseen: what the theory says of the signal without running it, on white noise in place of images.
    losses: on one batch before training, then the mean over each epoch, as far as the run came.
    accuracy: the share of held-out images that were told right at the end; NaN for a run that diverged.
    last_loss: mean over the last tenth of the steps; None stands for the last epoch's.
    outlook: what the theory says of training, at the case's learning rate.
    """

    case: Case
    signal: Signal
    foreseen: Forecast
    losses: tuple[float, ...]
    diverged: bool
    accuracy: float
    last_loss: float | None = None
    outlook: Outlook = UNKNOWN

    @property
    def outcome(self) -> str:
        """How training went: "learned", "learns slowly", "never left log(10)" or "diverged"."""
        last = self.losses[-1] if self.last_loss is None else self.last_loss
        if self.diverged or not last <= 10 * CHANCE:
            return "diverged"
        if self.accuracy > LEARNED:
            return "learned"
        moved = last < NO_SIGNAL * CHANCE or self.accuracy > MOVED
        return "learns slowly" if moved else "never left log(10)"

    @property
    def as_foreseen(self) -> bool | None:
        """Whether it moved where that was foreseen, and only there; None where the theory was undecided."""
        if self.outlook.word == UNDECIDED:
            return None
        return (self.outlook.word == MOVES) == (self.outcome in ("learned", "learns slowly"))


def build(case: Case) -> nn.ResNet:
    """The network of a case, not yet initialized."""
    return nn.resnet(case.depth, width=case.width, in_channels=1, num_classes=10, **NETWORKS[case.network])


def halves() -> tuple[Split, Split]:
    """The digits twice: half of the training images each, no image in both, and the same images held out."""
    data = load_digits()
    first, y_first, second, y_second = hold_out(data.x_train, data.y_train, len(data.y_train) // 2)
    return Split(first, y_first, *data[2:]), Split(second, y_second, *data[2:])


def run_case(case: Case) -> Run:
    """Initialize, foresee, measure, train, evaluate. Without an initializer, pretrain on the other images first."""
    model, data = build(case), halves()[1]
    if case.initializer is None:
        init.from_pretrained(model, pretrain(replace(case, initializer=init.HeNormal())))
    else:
        init.initialize(model, case.initializer, rng=case.seed)
    foreseen, said = foretell(model, case, data)
    model.to(case.device)
    x, y = (to_device(array[:MEASURED_IMAGES], case.device) for array in data[:2])
    with np.errstate(all="ignore"):  # overflow is one of the things to be seen here
        signal, loss = measure(model, x, y)
        losses, last_loss = train(model, data, case)
        diverged = not math.isfinite(last_loss)
        accuracy = math.nan if diverged else evaluate(model, *data[2:], device=case.device)[1]
    return Run(case, signal, foreseen, (loss, *losses), diverged, accuracy, last_loss, said)


def pretrain(case: Case) -> dict[str, np.ndarray]:
    """Weights of the case's network after training from `case.initializer` on the other half of the images."""
    model = build(case)
    init.initialize(model, case.initializer, rng=case.seed)
    model.to(case.device)
    with np.errstate(all="ignore"):
        train(model, halves()[0], case)
    return {name: to_numpy(array) for name, array in model.state_dict().items()}


def foretell(model: nn.Layer, case: Case, data: Split) -> tuple[Forecast, Outlook]:
    """What the theory says of the signal and of training, from the model's weights as they are: nothing is run."""
    if units_alike(model):
        return Forecast(ALIKE, [], []), Outlook(ALIKE)
    schedule, steps = schedule_of(case, len(data.x_train))
    rates = [schedule(step) for step in range(steps)]
    with np.errstate(all="ignore"):
        predicted = predict(model, (MEASURED_IMAGES, *data.x_train.shape[1:]), weight=None)
        if isinstance(case.initializer, init.Dirac):  # nothing in it is random
            return read(predicted), Outlook(ONE_LIVES) if one_channel_lives(model) else UNKNOWN
        return read(predicted), outlook(tangent_kernel(model, predicted), max(rates), sum(rates))


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


def schedule_of(case: Case, images: int) -> tuple[optim.Warmup, int]:
    """A tenth of warm-up, then a cosine down to 0; and how many steps that makes."""
    steps = case.epochs * count_batches(images, case.batch_size)
    return optim.Warmup(optim.Cosine(case.lr, steps), steps // 10), steps


def train(model: nn.Layer, data: Split, case: Case) -> tuple[list[float], float]:
    """Trains the model; (mean training loss of each epoch, as far as it came; mean over the last tenth of the steps).

    The second is infinite for a run that diverged.
    """
    losses: dict[int, float] = {}
    data = data._replace(x_test=data.x_test[:1], y_test=data.y_test[:1])  # the rest is looked at once, at the end
    schedule, steps = schedule_of(case, len(data.x_train))
    try:
        history = fit(
            model,
            data,
            epochs=case.epochs,
            batch_size=case.batch_size,
            schedule=schedule,
            seed=case.seed,
            device=case.device,
            compile=True,
            report=lambda progress: losses.update({progress.epoch: progress.loss}),
        )
    except TrainingDiverged:
        return list(losses.values()), math.inf
    return list(losses.values()), float(np.mean([step["loss"] for step in history.steps[-max(5, steps // 10) :]]))
