"""`fit`: the door of training, where everything is checked before anything runs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minires.backend import Array, to_device
from minires.checks import check_whole, flag
from minires.data.batches import Augmentation
from minires.data.split import Split
from minires.nn import Layer
from minires.optim import SGD, Constant, Schedule
from minires.threads import Alone, num_threads
from minires.train import saving
from minires.train.checks import (
    alone_with,
    as_split,
    check_callables,
    check_finite,
    check_folder,
    check_optimizer,
    check_parallel,
    check_shares,
    check_trainable,
    frozen_names,
    optimizer_for,
)
from minires.train.evaluation import check_fits
from minires.train.history import History, Progress
from minires.train.run import Run, is_in

if TYPE_CHECKING:
    from minires.parallel import DataParallel


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
    parallel: DataParallel | None = None,
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

    parallel: minires.parallel.DataParallel(model, group), if several processes train the model together: each calls
    this with the same settings and takes its share of every batch. Rank 0 writes; losses, accuracies and images per
    second are those of all. A run goes on with any number of ranks, and meets the same batches.

    report: called after each step whose loss is looked at. An error in it is a warning; training goes on without it.

    Raises TrainingDiverged; TrainingInterrupted after a signal (with a folder); SettingsDiffer and CheckpointError
    on resuming; FolderInUse; TypeError and ValueError for settings that make no sense; MemoryError with the batch size
    and what to try; OSError where the folder cannot be written at the start. A checkpoint that cannot be written later
    is a warning, and training goes on: the weights are in memory.
    """
    check_trainable(model)
    epochs, log_every = check_whole("epochs", epochs, 0), check_whole("log_every", log_every, 1)
    batch_size, seed = check_whole("batch_size", batch_size, 1), check_whole("seed", seed, 0)
    resume, compile = flag("resume", resume), flag("compile", compile)
    other_engine = flag("other_engine", other_engine)
    check_callables(schedule, report, augmentation, config)
    check_folder(folder, resume)
    check_parallel(parallel, model, compile)
    data, frozen = as_split(data), frozen_names(model, frozen)
    # before the model moves: a check on the host makes no GPU wait
    check_finite(model, optimizer if isinstance(optimizer, SGD) else None)
    model.to(device)
    if optimizer is None:
        optimizer = optimizer_for(model, lambda name: is_in(name, frozen))
    check_optimizer(model, optimizer, lambda name: is_in(name, frozen))
    optimizer.velocities = [to_device(velocity, device) for velocity in optimizer.velocities]
    run = Run(
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
        engine=parallel or (_compiled(model) if compile else model),
        group=parallel.group if parallel else Alone(),
        other_engine=other_engine,
    )
    check_shares(run.batches_per_epoch, len(data.x_train), run.group.size)
    saving.check_settings_of_all(run)
    with alone_with(model):
        check_fits(model, data, device)  # before a folder is made for a run that cannot be
        with saving.locked(run, resume):
            if run.folder is not None:
                saving.open_folder(run, resume)
            if resume:
                check_finite(model, optimizer)
            run.train()
    return run.history


def _compiled(model: Layer) -> Any:
    """The compiled model; the model itself, with a warning, where the two disagree."""
    from minires import compile

    num_threads()  # raises where the environment asks for what is no number: that is no disagreement
    try:
        return compile(model)
    except ValueError as error:
        warnings.warn(f"{error}; training goes on by the definition", stacklevel=3)
        return model
