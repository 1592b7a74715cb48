"""The checks at the door of training: what makes no sense among `train.fit`'s settings gets a sentence at once.

They stand apart from the loop so that a reader of `run.py` meets training alone.
"""

from __future__ import annotations

import json
import math
import numbers
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import numpy as np

from minires.backend import Array, array_namespace, to_numpy
from minires.checks.wording import in_short, takes
from minires.data.batches import Augmentation
from minires.data.split import Split
from minires.nn import Layer
from minires.optim import SGD
from minires.printing import constructor_call


def as_split(data: Split | Sequence[Array]) -> Split:
    """The arrays (x, y) or (x_train, y_train, x_test, y_test) as a Split, with labels as arrays.

    TypeError for what is none; ValueError where images and labels differ in number, or there are none.
    """
    four = "(x_train, y_train, x_test, y_test)"
    if not isinstance(data, tuple | list) or len(data) not in (2, 4):
        was = f"{len(data)} things" if isinstance(data, tuple | list) else f"a {type(data).__name__}"
        raise TypeError(f"data is {was}; expected a Split, the arrays (x, y), or {four}")
    if all(isinstance(part, tuple) and len(part) == 2 for part in data):
        raise TypeError(f"data is {len(data)} pairs; expected their arrays in a row: {four}")
    x, y, x_test, y_test = (*data, *data)[:4]
    if len(getattr(y, "shape", ())) == len(getattr(x, "shape", ())) > 2:
        raise ValueError(f"data has images in the place of labels; expected the order {four}")
    y = labels_of(x, y, "x_train", "y_train")
    if len(data) == 2:
        return Split(x, y, x, y)
    y_test = labels_of(x_test, y_test, "x_test", "y_test")
    if (x.shape[1:], x.dtype) != (x_test.shape[1:], x_test.dtype):
        raise ValueError(
            f"x_train holds images {tuple(x.shape[1:])} of {x.dtype} and x_test {tuple(x_test.shape[1:])} of "
            f"{x_test.dtype}; expected the same of both"
        )
    return Split(x, y, x_test, y_test)


def labels_of(x: Array, labels: Array | Sequence[int], x_name: str = "x", name: str = "y") -> Array:
    """The labels of the images x as an array. Errors, which use the names, where they are none, or x is none."""
    check_plain(x_name, x, "an array of images")
    labels = _labels(name, labels)
    check_images(x_name, x, labels)
    return labels


def check_plain(name: str, array: Any, expected: str) -> None:
    """TypeError unless it is an array of a library that minires computes with."""
    if not hasattr(array, "shape") or not hasattr(array, "dtype"):
        raise TypeError(f"{name} is {in_short(array)}; expected {expected}, as from np.asarray")
    try:
        array_namespace(array)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None


def check_images(name: str, x: Array, labels: Array) -> None:
    """TypeError or ValueError unless x is an array of images (N, ...) with as many labels, at least one."""
    if getattr(x.dtype, "kind", "f") not in "biufc":
        raise TypeError(f"{name} has dtype {x.dtype}; expected numbers, as from x.astype(np.float32)")
    if len(x.shape) < 2 or x.shape[0] != len(labels) or len(labels) == 0:
        raise ValueError(
            f"{name} has shape {tuple(x.shape)} and there are {len(labels)} labels; expected (N, C, H, W) and N of "
            "them, at least one"
        )
    for start in range(0, len(labels), 4096):  # a piece at a time: all of them may be all that fits
        if not bool(array_namespace(x).isfinite(x[start : start + 4096]).all()):
            raise ValueError(f"{name} holds NaN or infinity, in images {start} and on; expected finite numbers")


def _labels(name: str, labels: Any) -> Array:
    if isinstance(labels, list | tuple):
        try:
            labels = np.asarray(labels)
        except ValueError:
            raise TypeError(f"{name} is a list of unequal things; expected whole numbers") from None
    check_plain(name, labels, "whole numbers (N,), one label an image")
    if len(labels.shape) != 1:
        hint = f": {name}.argmax(axis=1), if it is one-hot" if len(labels.shape) == 2 and labels.shape[1] > 1 else ""
        raise ValueError(f"{name} has shape {tuple(labels.shape)}; expected (N,), one label an image{hint}")
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{name} has dtype {labels.dtype}; expected whole numbers (N,), one label an image")
    return labels


def check_engine(model: Any) -> None:
    """TypeError unless `model` is a Layer (an object, not a class) or computes for one, as a compiled model does."""
    if isinstance(model, type) or not all(callable(getattr(model, name, None)) for name in ("infer", "parameters")):
        hint = f"{model.__name__}(...)" if isinstance(model, type) else "a minires.nn.Layer"
        raise TypeError(f"model is {in_short(model)}; expected {hint}")


def check_trainable(model: Any) -> None:
    """`check_engine`, and TypeError for a compiled model: `fit` compiles by itself."""
    check_engine(model)
    if not isinstance(model, Layer):
        raise TypeError(f"model is {in_short(model)}; expected the model itself: fit(model, ..., compile=True)")


def frozen_names(model: Layer, frozen: str | Sequence[str]) -> tuple[str, ...]:
    """The names as a tuple; one name alone counts as one. ValueError for a name that no layer or parameter has."""
    if not isinstance(frozen, str) and (hasattr(frozen, "dtype") or not hasattr(frozen, "__iter__")):
        raise TypeError(f'frozen is {in_short(frozen)}; expected names of layers, as in ("conv1", "layer1")')
    names = (frozen,) if isinstance(frozen, str) else tuple(frozen)
    known = {path for path, _ in model.named_layers() if path} | {name for name, _ in model.named_parameters()}
    for name in names:
        if name not in known:
            close = get_close_matches(str(name), known, 1)
            children = ", ".join(name for name, _ in model.children())
            hint = f"did you mean {close[0]!r}?" if close else f"its layers are {children}"
            raise ValueError(f"frozen holds {name!r}, and the model has no such layer; {hint}")
    return names


def optimizer_for(model: Layer, is_frozen: Callable[[str], bool]) -> SGD:
    """The default optimizer, of all parameters that are not frozen. ValueError where there are none."""
    trained = [parameter for parameter in model.parameters() if not is_frozen(parameter.name)]
    if not trained:
        why = "frozen leaves" if model.parameters() else "model has"
        raise ValueError(f"{why} no parameter to train; expected at least one layer that has any and may move")
    return SGD(trained)


def check_optimizer(model: Layer, optimizer: Any, is_frozen: Callable[[str], bool]) -> None:
    """TypeError unless it is an optimizer; ValueError where it moves parameters of another model, or frozen ones."""
    if not isinstance(optimizer, SGD):
        raise TypeError(f"optimizer is {in_short(optimizer)}; expected optim.SGD(model.parameters(), ...)")
    own = {id(parameter): name for name, parameter in model.named_parameters()}
    strangers = [p for p in optimizer.parameters if id(p) not in own]
    if strangers:
        raise ValueError(
            f"optimizer: {len(strangers)} of its {len(optimizer.parameters)} parameters are not this model's; expected "
            "optim.SGD(model.parameters(), ...) of the model that is trained"
        )
    moved = [own[id(p)] for p in optimizer.parameters if is_frozen(own[id(p)])]
    if moved:
        raise ValueError(f"optimizer moves {moved[0]}, which frozen says should stay; make it of the others")


def check_parallel(parallel: Any, model: Layer, compile: bool) -> None:
    """TypeError or ValueError unless `parallel` is None or computes for this model."""
    if parallel is None:
        return
    if not all(hasattr(parallel, name) for name in ("model", "group", "agree")):
        raise TypeError(f"parallel is {in_short(parallel)}; expected DataParallel(model, MPIGroup())")
    if parallel.model is not model:
        raise ValueError("parallel computes for another model; expected DataParallel(model, ...) of the one to train")
    if compile:
        raise ValueError("compile is True beside parallel; expected DataParallel(model, group, compile=...) alone")


def check_shares(batches: int, images: int, ranks: int) -> None:
    """ValueError where some batch has fewer images than there are ranks."""
    if images // batches < ranks:
        raise ValueError(f"a batch of {images // batches} images has none for some of {ranks} ranks; take larger ones")


def check_folder(folder: Any, resume: bool) -> None:
    """TypeError or ValueError unless `folder` is None or the name of one; None is no folder to resume from."""
    if not isinstance(folder, str | os.PathLike | None):
        raise TypeError(f"folder is a {type(folder).__name__}; expected None or the name of a folder")
    if folder is not None and (not os.fspath(folder) or "\0" in str(folder)):
        raise ValueError(f"folder is {str(folder)!r:.60}; expected None or the name of a folder")
    if folder is None and resume:
        raise ValueError("resume is True and folder is None; expected the folder of the run")


def check_callables(schedule: Any, report: Any, augmentation: Any, config: Any) -> None:
    """TypeError for a schedule or report that cannot be called, an augmentation that is none, no JSON in config."""
    if schedule is not None and not takes(schedule, 0):
        raise TypeError(
            f"schedule is {in_short(schedule)}; expected None or a function of the step, as optim.Cosine(0.1, 100)"
        )
    if report is not None and not takes(report, "what was logged"):
        raise TypeError(f"report is {in_short(report)}; expected None or a function of one argument, such as print")
    if augmentation is not None and not isinstance(augmentation, Augmentation):
        raise TypeError(f"augmentation is {in_short(augmentation)}; expected None or Augmentation(pad=4, flip=True)")
    if config is not None:
        try:
            json.dumps(dict(config) if isinstance(config, Mapping) else None, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(f"config cannot be written as JSON ({error}); expected names and plain values") from None
        if not isinstance(config, Mapping):
            raise TypeError(f"config is {in_short(config)}; expected a dictionary")


def learning_rate(schedule: Callable[[int], float], step: int) -> float:
    """What the schedule gives for the step. TypeError unless it is a number, ValueError unless it is one to go by."""
    rate = schedule(step)
    if isinstance(rate, bool) or not isinstance(rate, numbers.Real):
        raise TypeError(f"schedule gave {rate!r} for step {step}; expected a learning rate")
    if not 0 <= rate < math.inf:
        raise ValueError(f"schedule gave {rate} for step {step}; expected a finite learning rate of at least 0")
    return float(rate)


PLACE = {"epoch": int, "batch": int, "images": int, "loss_sum": float, "correct": float, "seconds": float}
"""Where a run is: attributes of `Run` that a checkpoint holds as they are, and what they are."""

ROWS = {"steps": ("step", "loss", "lr"), "epochs": ("epoch", "step", "test_loss", "test_accuracy", "images_per_second")}
"""What each row of a history must have for a run to go on with it."""


def check_place(state: Mapping[str, Any], batches_per_epoch: int) -> None:
    """ValueError unless a checkpoint's state says where a run is, and its history fits that."""
    for name, kind in PLACE.items():
        value = state.get(name)
        if (
            isinstance(value, bool)
            or not isinstance(value, int if kind is int else int | float)
            or not 0 <= value < math.inf
        ):
            raise ValueError(f"its {name} is {value!r}")
    if state["batch"] > batches_per_epoch:
        raise ValueError(f"its batch is {state['batch']}, of {batches_per_epoch}")
    history = state.get("history")
    for name, keys in ROWS.items():
        rows = history.get(name) if isinstance(history, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) and row.keys() >= {*keys} for row in rows):
            raise ValueError(f"its history has no {name}")
        if any(not isinstance(row[key], int | float) for row in rows for key in keys):
            raise ValueError(f"its {name} hold what is no number")
    if len(history["epochs"]) != state["epoch"]:
        raise ValueError(f"its history has {len(history['epochs'])} epochs, and it is in epoch {state['epoch'] + 1}")


def checksum(array: Array) -> int:
    """CRC-32 of an array's numbers, wherever they are."""
    return zlib.crc32(np.ascontiguousarray(to_numpy(array)).data)


def layers_text(model: Layer) -> str:
    """What a network is made of, the same in every process: each layer's path, class and settings.

    Whether BatchNorm sums over several ranks is no part of it: a run goes on with any number of them.
    """
    calls = (f"{path} {constructor_call(layer)}" for path, layer in model.named_layers())
    return "\n".join(calls).replace("SyncBatchNorm2d(", "BatchNorm2d(")


def check_finite(model: Layer, optimizer: SGD | None = None) -> None:
    """ValueError, with its name, where a weight, a running statistic or a velocity is NaN, or a variance negative."""
    state = {name: parameter.value for name, parameter in model.named_parameters()}
    state |= {f"the velocity of {name}": v for name, v in (optimizer.state_dict() if optimizer else {}).items()}
    state |= {name: getattr(layer, attribute) for name, layer, attribute in model.named_buffers()}
    variances = [name for name in state if name.rpartition(".")[2] == "running_var"]
    fine = [array_namespace(array).isfinite(array).all() for array in state.values()]
    fine += [(state[name].real >= 0).all() for name in variances]
    flags = to_numpy(array_namespace(*fine).stack(fine)).tolist() if fine else []  # a GPU is waited for once
    wrong = [name for name, is_fine in zip(state, flags, strict=False) if not is_fine]
    if wrong:
        more = f", as do {len(wrong) - 1} more of its arrays" if len(wrong) > 1 else ""
        raise ValueError(f"model: {wrong[0]} holds NaN or infinity{more}; expected finite numbers")
    for name, is_fine in zip(variances, flags[len(state) :], strict=True):
        if not is_fine:
            raise ValueError(f"model: {name} holds a negative variance; expected at least 0")


_USERS: dict[int, int] = {}
"""The thread that is at work on a parameter, by the parameter's identity."""

_DOOR = threading.Lock()


@contextmanager
def alone_with(model: Layer, again: bool = False) -> Iterator[None]:
    """Within the block nobody else may train or evaluate any parameter of `model`. ValueError where somebody does.

    again: what this thread does with the model already is no hindrance.
    """
    mine, me = {id(parameter) for parameter in model.parameters()}, threading.get_ident()
    with _DOOR:
        users = {_USERS[parameter] for parameter in mine & _USERS.keys()}
        if users - ({me} if again else set()):
            raise ValueError(
                "model is being trained or evaluated already, perhaps in another thread; expected one at a time"
            )
        taken = mine - _USERS.keys()
        _USERS.update(dict.fromkeys(taken, me))
    try:
        yield
    finally:
        with _DOOR:
            for parameter in taken:
                del _USERS[parameter]
