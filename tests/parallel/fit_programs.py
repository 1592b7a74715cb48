"""What the ranks of `test_fit.py` do: `mpiexec -n 3 python -m tests.parallel.fit_programs NAME FOLDER ...`."""

import json
import os
import signal
import sys
import warnings
from pathlib import Path

import numpy as np

from minires import nn, optim
from minires.data import Augmentation, Split, load_digits
from minires.parallel import DataParallel, MPIGroup
from minires.train import TrainingDiverged, TrainingInterrupted, fit

EPOCHS, IMAGES = 2, 200


def digits(images=IMAGES):
    full = load_digits()
    train, test = full.x_train[:images].astype(np.float64), full.x_test[:41].astype(np.float64)
    return Split(train, full.y_train[:images], test, full.y_test[:41])


def network():
    return nn.resnet(8, width=4, in_channels=1, num_classes=10, rng=1).astype("float64")


def train(model, parallel, **options):
    settings = {"epochs": EPOCHS, "batch_size": 32, "augmentation": Augmentation(pad=1), "parallel": parallel}
    settings["schedule"] = optim.Cosine(0.1, 14)
    return fit(model, digits(), **{**settings, **options})


def curve(group, folder, resume="", engine="compiled", *options):
    """Trains, and prints what rank 0 has: the losses, the last test's loss, images a rank was told of, threads."""
    model, told = network(), []
    options = {"compile": engine == "compiled", "local_batchnorm": "local" in options}
    parallel = DataParallel(model, group, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = train(model, parallel, folder=folder, resume=bool(resume), report=told.append)
    losses = [row["loss"] for row in history.steps]
    total = sum(row.images_per_second * row.row["seconds"] for row in told if row.row)
    mine = [losses, history.column("test_loss"), round(total), [str(each.message) for each in caught]]
    gathered = group.comm.gather(mine)
    if group.rank == 0:
        assert all(other[:2] == mine[:2] for other in gathered), "the ranks tell different histories"
        print(json.dumps(mine))


def interrupted(group, folder):
    """The last rank is asked to stop during step 9; every rank says when it stopped."""

    def ask(now):
        if now.step == 9 and group.rank == group.size - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    model = network()
    try:
        train(model, DataParallel(model, group), folder=folder, report=ask)
    except TrainingInterrupted as stop:
        tell(group, str(stop))


def absurd(model):
    """An absurd learning rate, looked at every third step."""
    return {"schedule": None, "optimizer": optim.SGD(model, 1e200), "log_every": 3}


def diverged(group, folder):
    model = network()
    try:
        train(model, DataParallel(model, group), **absurd(model))
    except TrainingDiverged as problem:
        tell(group, str(problem))


def tell(group, text):
    """Rank 0 prints what every rank has to say."""
    said = group.comm.gather(text)
    if group.rank == 0:
        print(json.dumps(said))


def other_seed(group, folder):
    """Rank 1 was started with another seed."""
    model = network()
    train(model, DataParallel(model, group), seed=group.rank)


def apart(group, folder):
    """Rank 1's weights change on their own."""
    model = network()

    def disturb(now):
        if now.step == 3 and group.rank == 1:
            model.parameters()[0].value[0] += 1e-9

    train(model, DataParallel(model, group), report=disturb)


def small_batches(group, folder):
    model = network()
    train(model, DataParallel(model, group), batch_size=group.size - 1)


def dropout(group, folder):
    DataParallel(nn.Sequential(network(), nn.Dropout(0.5)), group)


if __name__ == "__main__":
    with MPIGroup() as the_group:
        globals()[sys.argv[1]](the_group, Path(sys.argv[2]), *sys.argv[3:])
