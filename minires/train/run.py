"""A training run: the loop around `train_step`."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from minires.backend import Array, to_device, to_numpy
from minires.data.batches import Augmentation, batches, count_batches
from minires.data.split import Split
from minires.nn import Layer, SoftmaxCrossEntropy
from minires.optim import SGD, Schedule
from minires.threads import Alone, Group
from minires.train import saving
from minires.train.checks import checksum, learning_rate
from minires.train.errors import TrainingDiverged
from minires.train.evaluation import batch_sums, evaluation_sums, first_nonfinite, generators
from minires.train.history import History, Progress
from minires.train.signals import CAUGHT, caught_signals
from minires.train.step import train_step


@dataclass
class Run:
    """A training run: its settings, and below them all that changes from step to step."""

    model: Layer
    data: Split
    optimizer: SGD
    schedule: Schedule
    epochs: int
    batch_size: int
    seed: int
    augmentation: Augmentation | None
    frozen: tuple[str, ...]
    device: str
    log_every: int
    folder: Path | None
    config: Mapping[str, Any]
    report: Callable[[Progress], None] | None
    engine: Any
    """The model itself, the compiled model, or one that several ranks share: what runs the steps."""
    group: Group | Alone
    other_engine: bool

    epoch: int = 0  # complete ones
    batch: int = 0  # complete ones of the present epoch
    images: int = 0  # of the present epoch, like the two sums and the seconds
    loss_sum: float = 0.0
    correct: float = 0.0
    seconds: float = 0.0
    history: History = field(default_factory=History)

    def __post_init__(self) -> None:
        self.batches_per_epoch = count_batches(len(self.data.x_train), self.batch_size)
        self.steps = self.epochs * self.batches_per_epoch
        self.loss = SoftmaxCrossEntropy()
        self.sums: Array | None = None  # of the steps since the last look at the loss, on the device
        self.since_look = 0  # images of those steps
        self.before: tuple | None = None  # the weights at the last look, where steps go unseen
        names = ("images_crc32", "labels_crc32", "test_crc32", "test_labels_crc32")
        self.checksums = {name: checksum(array) for name, array in zip(names, self.data, strict=True)}

    @property
    def writes(self) -> bool:
        """Whether this process writes into the run's folder."""
        return self.folder is not None and self.group.rank == 0

    @property
    def step(self) -> int:
        """Updates of the weights so far."""
        return self.epoch * self.batches_per_epoch + self.batch

    # The loop

    def train(self) -> None:
        """Run the epochs that are left. A signal is acted on between two steps, at the next look at the loss."""
        self.started, self.first_step = time.perf_counter(), self.step
        self.remember()
        try:
            with caught_signals(self.folder is not None) as caught, _quiet_overflow():
                while self.epoch < self.epochs:
                    self.run_epoch(caught)
        except TrainingDiverged:
            with suppress(OSError):  # the exception has the history, too
                saving.write_history(self)
            raise
        except MemoryError as error:  # CuPy's is one, too
            raise MemoryError(
                f"out of memory at step {self.step + 1} ({error}); the batch size is {self.batch_size}: try half of "
                "it, or a narrower or shallower network"
            ) from error

    def run_epoch(self, caught: list[int]) -> None:
        """The rest of the present epoch, then its row of the history and a checkpoint."""
        self.set_modes()
        since = time.perf_counter() - self.seconds
        for images, labels in self.batches():
            looked = self.one_step(images, labels)
            self.seconds = time.perf_counter() - since
            if looked:
                self.tell()
                counts = self.group.sum(np.array([[caught.count(number) for number in CAUGHT]]))
                if counts.any():  # on any rank: all of them stop at the same step
                    saving.stop(self, CAUGHT[int(counts.argmax())])
        self.finish_epoch()

    def batches(self) -> Iterator[tuple[Array, Array]]:
        """The batches that the present epoch has left, or this rank's share of them, on the device."""
        x, y = self.data.x_train, self.data.y_train
        place = {"seed": self.seed, "epoch": self.epoch, "start": self.batch, "share": self.group.share}
        for images, labels in batches(x, y, self.batch_size, augmentation=self.augmentation, **place):
            yield to_device(images, self.device), to_device(labels, self.device)

    def set_modes(self) -> None:
        """Training mode, but for the layers that are frozen."""
        self.model.train()
        for path, layer in self.model.named_layers():
            if is_in(path, self.frozen):
                layer.eval()

    def one_step(self, x: Array, labels: Array) -> bool:
        """`train_step`, and its loss added to the others. True where that was fetched, which waits for the device."""
        self.optimizer.lr = lr = learning_rate(self.schedule, self.step)
        weights = [parameter.value for parameter in self.optimizer.parameters]  # no others change
        loss, logits = train_step(self.engine, self.loss, self.optimizer, x, labels)
        sums = batch_sums(logits, labels, loss)
        self.sums = sums if self.sums is None else self.sums + sums
        self.since_look += len(x)
        look = (self.batch + 1) % self.log_every == 0 or self.batch + 1 == self.batches_per_epoch
        if look:
            self.look_at_loss(x, lr, weights)
        self.batch += 1
        if look:
            self.remember()
        return look

    def remember(self) -> None:
        """Keep the weights of a moment when the loss was looked at, where the steps after it go unseen."""
        if self.log_every > 1:
            self.before = self.batch, self.arrays(), self.generator_states()

    def look_at_loss(self, x: Array, lr: float, weights: Sequence[Array]) -> None:
        """Fetch the sums, the one moment that waits for the device; note them, or raise TrainingDiverged.

        weights: the optimizer's before the step, which it gets back if the step was one too many.
        """
        loss_sum, correct, images = self.group.sum(np.array([[*to_numpy(self.sums), self.since_look]])).tolist()
        loss = loss_sum / images
        if not math.isfinite(loss):
            self.diverged(x, loss, weights)
        self.history.steps.append({"step": self.step + 1, "loss": loss, "lr": lr})
        self.loss_sum += loss_sum
        self.correct += correct
        self.images += int(images)
        self.sums, self.since_look = None, 0

    def diverged(self, x: Array, loss: float, weights: Sequence[Array]) -> NoReturn:
        """Raise TrainingDiverged; where steps went unseen, go back to the last look and watch each of them."""
        for parameter, value in zip(self.optimizer.parameters, weights, strict=True):
            parameter.value = value
        if self.before is not None:
            self.batch, arrays, states = self.before
            self.set_arrays(arrays, states)
            self.log_every, self.before, self.sums, self.since_look = 1, None, None, 0
            for images, labels in self.batches():
                self.one_step(images, labels)
        raise TrainingDiverged(self.step + 1, loss, self.where_it_broke(x), self.history)

    def where_it_broke(self, x: Array) -> str:
        """The first layer whose output on x is not finite, on any rank."""
        names = [f"{path} ({type(layer).__name__})" for path, layer in self.model.named_layers()]
        found = first_nonfinite(self.model, x)
        counts = self.group.sum(np.array([[int(name == found) for name in names]]))
        return names[int(counts.argmax())] if counts.any() else "none but the loss"

    def agree(self) -> None:
        """Has all ranks take over what rank 0 has where theirs may differ: see `DataParallel.agree`."""
        if self.group.size > 1:
            self.engine.agree()

    def finish_epoch(self) -> None:
        """Test, note the epoch's row, write checkpoint and history, and start the sums anew."""
        self.agree()
        x, y = self.data.x_test, self.data.y_test
        share = self.group.share(len(x))
        sums = evaluation_sums(self.engine, x[share], y[share], 256, self.device)
        test_loss, test_accuracy = (self.group.sum(sums[None]) / len(x)).tolist()
        self.model.eval()
        if not math.isfinite(test_loss):
            layer = self.where_it_broke(to_device(x[: self.batch_size], self.device))
            raise TrainingDiverged(self.step, test_loss, layer, self.history)
        row = {
            "epoch": self.epoch + 1,
            "step": self.step,
            "lr": learning_rate(self.schedule, self.step - 1),
            "train_loss": self.loss_sum / self.images,
            "train_accuracy": self.correct / self.images,
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
            "seconds": self.seconds,
            "images_per_second": self.images / max(self.seconds, 1e-9),
        }
        self.history.epochs.append(row)
        try:
            self.tell(row)
        finally:  # whatever comes of telling it, the epoch is not lost
            self.epoch, self.batch, self.images = self.epoch + 1, 0, 0
            self.loss_sum = self.correct = self.seconds = 0.0
            saving.save(self)

    def tell(self, row: dict[str, float] | None = None) -> None:
        """Report progress, if anybody listens. A listener that fails is told nothing more."""
        if self.report is None:
            return
        elapsed, done = time.perf_counter() - self.started, self.step - self.first_step
        left = (self.steps - self.step) * elapsed / max(done, 1)
        means = self.loss_sum / self.images, self.correct / self.images
        speed = self.images / max(self.seconds, 1e-9)
        try:
            self.report(Progress(self.epoch + 1, self.epochs, self.step, self.steps, *means, speed, left, row))
        except Exception as error:
            self.report = None
            warnings.warn(f"report failed ({error!r}); training goes on without it", stacklevel=2)

    # What a checkpoint holds

    def arrays(self) -> dict[str, Array]:
        """Copies of weights and momentum, on the device: nothing waits for them."""
        parts = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        return {f"{part}/{name}": array for part in parts for name, array in parts[part].items()}

    def set_arrays(self, arrays: Mapping[str, Array], states: Mapping[str, Any]) -> None:
        """The reverse of `arrays` and `generator_states`, in place."""
        for part, owner in (("model", self.model), ("optimizer", self.optimizer)):
            prefix = f"{part}/"
            found = {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
            owner.load_state_dict({name: to_device(a, self.device) for name, a in found.items()})
        for name, generator in self.generators():
            generator.bit_generator.state = states[name]

    def generators(self) -> Iterator[tuple[str, np.random.Generator]]:
        """The random generators whose states a checkpoint holds, by their names: those that a layer owns."""
        return generators(self.model)

    def generator_states(self) -> dict[str, Any]:
        """How far each of them has come."""
        return {name: generator.bit_generator.state for name, generator in self.generators()}


def is_in(name: str, layers: Sequence[str]) -> bool:
    """Whether a path is that of one of the layers, or lies inside one: "layer1.0.conv1" in "layer1"."""
    return any(name == layer or name.startswith(f"{layer}.") for layer in layers)


@contextmanager
def _quiet_overflow() -> Iterator[None]:
    """A loss that is not finite ends in TrainingDiverged; NumPy's own warnings on the way there say less.

    (np.errstate would do where NumPy hands it on to other threads, which before version 2 it does not.)
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(overflow|invalid value) encountered", RuntimeWarning)
        yield
