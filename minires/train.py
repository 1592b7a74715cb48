"""The training loop: batches in, weights out, and nothing lost on the way.

    history = fit(model, load_digits(), epochs=10, schedule=optim.Cosine(0.1, steps=...), folder="runs/digits")

One step is what every textbook says: forward, loss, backward, update. It stands alone, in `train_step`. Everything else
here stands around it. Loss and accuracy are summed on the device and fetched once a logged step. A loss that is no
longer finite stops the run and names the layer. A checkpoint is written after every epoch and when the run is
interrupted, and a resumed run ends with the very bits of one that was never stopped: batches come from (seed, epoch,
batch) alone (`data.batches`), and a checkpoint holds the rest, that is weights, momentum, sums, history and the state
of every generator that a layer owns (dropout).
"""

from __future__ import annotations

import json
import math
import os
import platform
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from . import __version__, checkpoint
from .backend import Array, array_namespace, to_device, to_numpy
from .checks import check_model as check_layer
from .data.batches import Augmentation, batches, count_batches
from .data.split import Split
from .files import atomic_write_text, locked_folder
from .nn import Layer, SoftmaxCrossEntropy
from .optim import SGD, Constant, Schedule
from .threads import num_threads
from .train_checks import (
    alone_with,
    as_split,
    check_callables,
    check_model,
    check_optimizer,
    check_place,
    check_whole,
    checksum,
    frozen_names,
    learning_rate,
    nonfinite_parameters,
)


class TrainingDiverged(ArithmeticError):
    """The loss became NaN or infinite. `layer` is the first layer whose output was not finite, `step` when, and
    `history` what came before."""

    def __init__(self, step: int, loss: float, layer: str, history: History) -> None:
        super().__init__(
            f"the loss is {loss} at step {step}; the first layer whose output is not finite: {layer}. "
            "A smaller learning rate, a warm-up or another initializer may help"
        )
        self.step, self.loss, self.layer, self.history = step, loss, layer, history


class TrainingInterrupted(Exception):
    """A signal stopped the run after a checkpoint was written: `path`; `signal` is the signal's number."""

    def __init__(self, signum: int, path: Path, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name} after step {step}; saved as {path}")
        self.signal, self.path, self.step = signum, path, step


class SettingsDiffer(ValueError):
    """A run cannot be resumed with other settings. `names` are those that differ."""

    def __init__(self, saved: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        self.names = sorted(name for name in saved.keys() | given.keys() if saved.get(name) != given.get(name))
        differences = (f"{name} was {saved.get(name)!r}, is {given.get(name)!r}" for name in self.names)
        super().__init__("the run was started with other settings: " + "; ".join(differences))


@dataclass
class History:
    """What happened: one row a logged step (step, loss, lr) and one row an epoch.

    An epoch's row: epoch (from 1), step, lr, train_loss, train_accuracy (over the epoch, while the weights changed),
    test_loss, test_accuracy (after it), seconds, images_per_second.
    """

    steps: list[dict[str, float]] = field(default_factory=list)
    epochs: list[dict[str, float]] = field(default_factory=list)

    def column(self, name: str) -> list[float]:
        """One value an epoch, e.g. `history.column("test_accuracy")`."""
        return [row[name] for row in self.epochs]


@dataclass(frozen=True)
class Progress:
    """What `report` is told after each logged step: epochs and steps are counted from 1, loss and accuracy are the
    means over the epoch so far. `row` is the epoch's row of the history once it is complete, else None."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    images_per_second: float
    seconds_left: float
    row: dict[str, float] | None = None


def train_step(model: Layer, loss: SoftmaxCrossEntropy, optimizer: SGD, x: Array, labels: Array) -> tuple[Array, Array]:
    """One step of training: x (N, C, H, W), labels (N,) -> the loss and the logits (N, K) before the update."""
    logits = model.forward(x)
    value = loss.forward(logits, labels)
    model.zero_grad()
    model.backward(loss.backward())
    optimizer.step()
    return value, logits


def fit(
    model: Layer,
    data: Split | Sequence[Array],
    *,
    epochs: int,
    batch_size: int = 128,
    optimizer: SGD | None = None,
    schedule: Schedule | None = None,
    seed: int = 0,
    augmentation: Augmentation | None = None,
    frozen: Sequence[str] = (),
    device: str = "cpu",
    log_every: int = 1,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    compile: bool = False,
    other_engine: bool = False,
    config: Mapping[str, Any] | None = None,
    report: Callable[[Progress], None] | None = None,
) -> History:
    """Train `model` on `data` with softmax cross-entropy and return the history; the model is changed in place.

    A model is trained by one thread at a time; a run's folder is locked while it runs.

    data: a Split, or the arrays (x, y), or (x_train, y_train, x_test, y_test). With (x, y) the run is tested on the
    images that it trains on.
    optimizer: SGD(parameters, lr=0.1, momentum=0.9) by default. schedule: step -> learning rate; by default the
    optimizer's. frozen: names of layers ("conv1", "layer1", ...) that stay as they are: their parameters are not
    updated (in the default optimizer) and they run in eval mode.
    log_every: steps between two looks at the loss; 1 looks at each, more of them let a GPU run ahead.
    folder: where checkpoints and history.json go: one after each epoch, one on SIGINT, SIGTERM, SIGHUP. None: nowhere.
    resume: go on from the newest readable checkpoint in `folder`. config: settings kept in the checkpoint beside fit's
    own; all of them must be equal when the run is resumed.
    compile: run the steps by `minires.compile(model)`, which computes the same numbers to rounding, faster. If it
    disagrees with the definition (somebody edited an op), a warning says so and the definition is run. The default is
    the definition, so that a breakpoint in an op is hit. A run that was started compiled, or with another number of
    threads, has other last bits: it is resumed that way only with other_engine=True.

    report: called after each step whose loss is looked at. An error in it is a warning; training goes on without it.

    Raises TrainingDiverged; TrainingInterrupted after a signal (with a folder); SettingsDiffer and CheckpointError
    on resuming; FolderInUse; TypeError and ValueError for settings that make no sense; MemoryError with the batch size
    and what to try; OSError where the folder cannot be written at the start. A checkpoint that cannot be written later
    is a warning, and training goes on: the weights are in memory.
    """
    check_model(model)
    check_whole(epochs=epochs, log_every=log_every, batch_size=batch_size, seed=seed)
    if epochs < 0 or log_every < 1:
        raise ValueError(f"epochs is {epochs} and log_every {log_every}; expected at least 0 and at least 1")
    if batch_size < 1 or seed < 0:
        raise ValueError(f"batch_size is {batch_size} and seed {seed}; expected at least 1 and at least 0")
    check_callables(schedule, report, augmentation, config)
    if not isinstance(folder, str | os.PathLike | None):
        raise TypeError(f"folder is a {type(folder).__name__}; expected None or the name of a folder")
    data, frozen = as_split(data), frozen_names(model, frozen)
    model.to(device)
    if optimizer is None:
        optimizer = SGD([parameter for parameter in model.parameters() if not _is_in(parameter.name, frozen)])
    check_optimizer(model, optimizer, lambda name: _is_in(name, frozen))
    optimizer.velocities = [to_device(velocity, device) for velocity in optimizer.velocities]
    run = _Run(
        model=model,
        data=data,
        optimizer=optimizer,
        schedule=schedule or Constant(optimizer.lr),
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        augmentation=augmentation,
        frozen=frozen,
        device=device,
        log_every=log_every,
        folder=None if folder is None else Path(folder),
        config=config or {},
        report=report,
        engine=_compiled(model) if compile else model,
        other_engine=other_engine,
    )
    with alone_with(model), run.locked(resume):
        if run.folder is not None:
            run.open_folder(resume)
        run.train()
    return run.history


def evaluate(
    model: Layer, x: np.ndarray, y: np.ndarray, batch_size: int = 256, device: str = "cpu"
) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of `model` in eval mode on x (N, C, H, W), labels y (N,).

    The model is left in the mode in which it was found. Raises ValueError where its weights hold a NaN or an infinity,
    naming them; an overflow of finite weights gives a loss of NaN.
    """
    check_model(model)
    check_whole(batch_size=batch_size)
    loss, accuracy = _evaluated(model, *as_split((x, y))[:2], batch_size, device)
    if not math.isfinite(loss) and (names := nonfinite_parameters(model)):
        raise ValueError(f"model: {names[0]} holds NaN or infinity, as do {len(names) - 1} more; its training diverged")
    return loss, accuracy


def _evaluated(model: Any, x: Array, y: Array, batch_size: int, device: str) -> tuple[float, float]:
    sums = None
    with _left_as_it_is(model):
        model.eval()
        for images, labels in batches(x, y, batch_size):
            logits = model.infer(to_device(images, device))
            labels = to_device(labels, device)
            found = _sums(logits, labels, SoftmaxCrossEntropy().forward(logits, labels))
            sums = found if sums is None else sums + found
    loss, correct = to_numpy(sums).tolist()
    return loss / len(x), correct / len(x)


def first_nonfinite(model: Layer, x: Array) -> str | None:
    """The path of the first layer whose output on x has a NaN or an infinity ("" is the model itself); None if none.

    A layer made of layers is looked at after those in it, so the name is that of a single operation. The model is left
    as it was found: its mode, BatchNorm's running statistics, the generators of dropout.
    """
    check_layer(model)
    found: list[str] = []

    def look(layer: Layer, path: str, direction: str, x: Array, y: Array) -> None:
        if not found and not bool(array_namespace(y).isfinite(y).all()):
            found.append(f"{path} ({type(layer).__name__})")

    with np.errstate(all="ignore"), _left_as_it_is(model), model.observe(look):
        model.forward(x)
    return found[0] if found else None


@contextmanager
def _left_as_it_is(model: Any) -> Iterator[None]:
    """After the block the model is in its old modes, its buffers and generators are what they were."""
    if not isinstance(model, Layer):
        model = model.model  # a compiled model computes with this one's buffers, in its mode
    modes = [(layer, layer.training) for _, layer in model.named_layers()]
    buffers = [(layer, name, getattr(layer, name).copy()) for _, layer, name in model.named_buffers()]
    states = [(generator, generator.bit_generator.state) for _, generator in _generators(model)]
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training
        for layer, name, value in buffers:
            setattr(layer, name, value)
        for generator, state in states:
            generator.bit_generator.state = state


def _generators(model: Layer) -> Iterator[tuple[str, np.random.Generator]]:
    """Every random generator that a layer owns, by the layer's path and the attribute's name."""
    for path, layer in model.named_layers():
        for name, value in vars(layer).items():
            if isinstance(value, np.random.Generator):
                yield f"{path}.{name}", value


def _sums(logits: Array, labels: Array, loss: Array) -> Array:
    """Summed loss and number of right answers of a batch, as two float64 on the logits' device: no waiting."""
    xp = array_namespace(logits)
    right = (logits.argmax(1) == labels).sum()
    return xp.stack([loss.astype(np.float64) * len(labels), right.astype(np.float64)])


def _compiled(model: Layer) -> Any:
    """The compiled model; the model itself, with a warning, where the two disagree."""
    from . import compile

    try:
        return compile(model)
    except ValueError as error:
        warnings.warn(f"{error}; training goes on by the definition", stacklevel=3)
        return model


def _is_in(name: str, layers: Sequence[str]) -> bool:
    return any(name == layer or name.startswith(f"{layer}.") for layer in layers)


PLACE = ("epoch", "batch", "images", "loss_sum", "correct", "seconds")
"""Where a run is: attributes of `_Run` that a checkpoint holds as they are."""


@dataclass
class _Run:
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
    """The model itself, or the compiled model: what runs the steps."""
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
        self.sums: Array = None  # of the steps since the last look at the loss, on the device
        self.since_look = 0  # images of those steps
        self.before: tuple | None = None  # the weights at the last look, where steps go unseen
        parts = {"images_crc32": self.data.x_train, "labels_crc32": self.data.y_train, "test_crc32": self.data.x_test}
        self.checksums = {name: checksum(array) for name, array in parts.items()}

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
            with _caught_signals(self.folder is not None) as caught, _quiet_overflow():
                while self.epoch < self.epochs:
                    self.run_epoch(caught)
        except TrainingDiverged:
            with suppress(OSError):  # the exception has the history, too
                self.write_history()
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
                if caught:
                    self.stop(caught[0])
        self.finish_epoch()

    def batches(self) -> Iterator[tuple[Array, Array]]:
        """The batches that the present epoch has left, on the device."""
        x, y = self.data.x_train, self.data.y_train
        place = {"seed": self.seed, "epoch": self.epoch, "start": self.batch}
        for images, labels in batches(x, y, self.batch_size, augmentation=self.augmentation, **place):
            yield to_device(images, self.device), to_device(labels, self.device)

    def set_modes(self) -> None:
        """Training mode, but for the layers that are frozen."""
        self.model.train()
        for path, layer in self.model.named_layers():
            if _is_in(path, self.frozen):
                layer.eval()

    def one_step(self, x: Array, labels: Array) -> bool:
        """`train_step`, and its loss added to the others. True where that was fetched, which waits for the device."""
        self.optimizer.lr = lr = learning_rate(self.schedule, self.step)
        weights = [parameter.value for parameter in self.model.parameters()]
        loss, logits = train_step(self.engine, self.loss, self.optimizer, x, labels)
        sums = _sums(logits, labels, loss)
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

        weights: those before the step, which the model gets back if the step was one too many.
        """
        loss_sum, correct = to_numpy(self.sums).tolist()
        loss = loss_sum / self.since_look
        if not math.isfinite(loss):
            self.diverged(x, loss, weights)
        self.history.steps.append({"step": self.step + 1, "loss": loss, "lr": lr})
        self.loss_sum += loss_sum
        self.correct += correct
        self.images += self.since_look
        self.sums, self.since_look = None, 0

    def diverged(self, x: Array, loss: float, weights: Sequence[Array]) -> NoReturn:
        """Raise TrainingDiverged; where steps went unseen, go back to the last look and watch each of them."""
        for parameter, value in zip(self.model.parameters(), weights, strict=True):
            parameter.value = value
        if self.before is not None:
            self.batch, arrays, generators = self.before
            self.set_arrays(arrays, generators)
            self.log_every, self.before, self.sums, self.since_look = 1, None, None, 0
            for images, labels in self.batches():
                self.one_step(images, labels)
        layer = first_nonfinite(self.model, x) or "none but the loss"
        raise TrainingDiverged(self.step + 1, loss, layer, self.history)

    def finish_epoch(self) -> None:
        """Test, note the epoch's row, write checkpoint and history, and start the sums anew."""
        x, y = self.data.x_test, self.data.y_test
        test_loss, test_accuracy = _evaluated(self.engine, x, y, 256, self.device)
        self.model.eval()
        if not math.isfinite(test_loss):
            layer = first_nonfinite(self.model, to_device(x[: self.batch_size], self.device))
            raise TrainingDiverged(self.step, test_loss, layer or "none but the loss", self.history)
        row = {
            "epoch": self.epoch + 1,
            "step": self.step,
            "lr": self.schedule(self.step - 1),
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
            self.save()

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

    def set_arrays(self, arrays: Mapping[str, Array], generators: Mapping[str, Any]) -> None:
        """The reverse of `arrays` and `generator_states`, in place."""
        for part, owner in (("model", self.model), ("optimizer", self.optimizer)):
            prefix = f"{part}/"
            found = {
                n.removeprefix(prefix): to_device(a, self.device) for n, a in arrays.items() if n.startswith(prefix)
            }
            owner.load_state_dict(found)
        for name, generator in self.generators():
            generator.bit_generator.state = generators[name]

    def generators(self) -> Iterator[tuple[str, np.random.Generator]]:
        return _generators(self.model)

    def generator_states(self) -> dict[str, Any]:
        return {name: generator.bit_generator.state for name, generator in self.generators()}

    def save(self) -> None:
        """A checkpoint and history.json. What cannot be written is a warning: the weights are still in memory."""
        if self.folder is None:
            return
        for what, write in (("checkpoint", self.write_checkpoint), ("history.json", self.write_history)):
            try:
                write()
            except OSError as error:
                warnings.warn(f"{what} not written, training goes on: {error}", stacklevel=2)

    def write_checkpoint(self) -> Path:
        state = {
            **{name: getattr(self, name) for name in PLACE},
            "generators": self.generator_states(),
            "history": asdict(self.history),
            "config": self.settings(),
            "versions": self.versions(),
        }
        return checkpoint.save_checkpoint(self.folder, self.step, self.arrays(), state)

    def write_history(self) -> None:
        if self.folder is not None:
            content = {"config": self.settings(), "versions": self.versions(), **asdict(self.history)}
            atomic_write_text(self.folder / "history.json", json.dumps(content, indent=1, allow_nan=False))

    def settings(self) -> dict[str, Any]:
        """All that decides the result, as JSON gives it back: equal settings, equal bits."""
        own = {name: getattr(self, name) for name in ("epochs", "batch_size", "seed", "frozen", "log_every")}
        described = {name: _describe(getattr(self, name)) for name in ("schedule", "optimizer", "augmentation")}
        data = {"images": [len(self.data.y_train), len(self.data.y_test)], **self.checksums}
        weights = {"parameters": sum(parameter.value.size for parameter in self.model.parameters())}
        return json.loads(json.dumps({**own, **described, **data, **weights, **self.config}))

    def versions(self) -> dict[str, str]:
        """What else a run's last bits may depend on."""
        return {
            "minires": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "machine": platform.machine(),
            "engine": "definition" if self.engine is self.model else "compiled",
            "threads": str(num_threads()),
            "device": str(self.device),
        }

    # Starting, stopping, going on

    def locked(self, resume: bool) -> AbstractContextManager:
        """The run's folder for this run alone; made here unless the run is resumed. Raises FolderInUse, OSError."""
        if self.folder is None or (resume and not self.folder.is_dir()):
            return nullcontext()
        self.folder.mkdir(parents=True, exist_ok=True)
        return locked_folder(self.folder)

    def open_folder(self, resume: bool) -> None:
        """Go on from the newest checkpoint, or write a first one: a folder that cannot be written shows now."""
        if resume:
            path, arrays, state = checkpoint.load_checkpoint(self.folder)
            try:
                self.restore(arrays, state)
            except SettingsDiffer:
                raise
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise checkpoint.CheckpointError(f"{path}: is no checkpoint of a run ({error})") from error
        elif checkpoint.checkpoints(self.folder):
            raise FileExistsError(f"{self.folder} holds a run already: resume it, or choose another folder")
        else:
            self.write_checkpoint()
        self.write_history()  # a run that was killed may have got no further than its checkpoint

    def restore(self, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Take over a checkpoint. Raises SettingsDiffer; KeyError and the like where something is missing in it."""
        if state.get("config") != self.settings():
            raise SettingsDiffer(state.get("config", {}), self.settings())
        check_place(state, self.batches_per_epoch)
        saved, own = state["versions"], self.versions()
        before, now = (" on ".join((v.get("engine", "?"), f"{v.get('threads')} threads")) for v in (saved, own))
        if before != now and not self.other_engine:
            raise SettingsDiffer({"engine": before}, {"engine": now})  # other_engine=True goes on all the same
        if saved != own:
            warnings.warn(
                f"the run was started with {saved}, goes on with {own}: it may end with other last bits", stacklevel=2
            )
        self.set_arrays(arrays, state["generators"])
        self.history = History(**state["history"])
        for name in PLACE:
            setattr(self, name, state[name])

    def stop(self, signum: int) -> NoReturn:
        """Save and raise TrainingInterrupted. Raises OSError where the checkpoint cannot be written."""
        path = self.write_checkpoint()
        with suppress(OSError):  # resuming writes it anew
            self.write_history()
        raise TrainingInterrupted(signum, path, self.step)


def _describe(value: Any) -> str | None:
    """A setting as text that is the same in every process: no memory addresses."""
    if isinstance(value, SGD):
        skipped = ("parameters", "lr")  # the schedule says the rate
        plain = {k: v for k, v in vars(value).items() if isinstance(v, bool | int | float) and k not in skipped}
        return f"SGD({', '.join(f'{name}={plain[name]}' for name in sorted(plain))})"
    if value is None or is_dataclass(value):
        return value and repr(value)
    return getattr(value, "__qualname__", type(value).__qualname__)


@contextmanager
def _quiet_overflow() -> Iterator[None]:
    """A loss that is not finite ends in TrainingDiverged; NumPy's own warnings on the way there say less.

    (np.errstate would do where NumPy hands it on to other threads, which before version 2 it does not.)
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(overflow|invalid value) encountered", RuntimeWarning)
        yield


HANGUP = getattr(signal, "SIGHUP", None)
CAUGHT = tuple(number for number in (signal.SIGINT, signal.SIGTERM, HANGUP) if number is not None)
"""Ctrl-C, a polite end, and a terminal that was closed, which Windows does not have."""


@contextmanager
def _caught_signals(active: bool) -> Iterator[list[int]]:
    """While active, the signals of `CAUGHT` are put into the list that is given; a second one acts as it always does.

    Only the main thread can do this; elsewhere, signals act as they always do.
    """
    caught: list[int] = []
    if not active or threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {number: signal.getsignal(number) for number in CAUGHT}
    if before.get(HANGUP) == signal.SIG_IGN:  # started by nohup: it is to outlive its terminal
        del before[HANGUP]

    def catch(number: int, frame: object) -> None:
        caught.append(number)
        signal.signal(number, before[number])

    try:
        for number in before:
            signal.signal(number, catch)
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
