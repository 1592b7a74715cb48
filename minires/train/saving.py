"""What a run leaves on the disk, and how it goes on from there."""

from __future__ import annotations

import json
import platform
import warnings
import zlib
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from minires import __version__, checkpoint
from minires.files import atomic_write_text, locked_folder
from minires.optim import SGD
from minires.threads import num_threads
from minires.train.checks import PLACE, check_place, layers_text, learning_rate
from minires.train.errors import SettingsDiffer, TrainingInterrupted
from minires.train.history import History

if TYPE_CHECKING:
    from minires.train.run import Run


def save(run: Run) -> None:
    """A checkpoint and history.json. What cannot be written is a warning: the weights are still in memory."""
    if not run.writes:
        return
    for what, write in (("checkpoint", write_checkpoint), ("history.json", write_history)):
        try:
            write(run)
        except OSError as error:
            warnings.warn(f"{what} not written, training goes on: {error}", stacklevel=2)


def write_checkpoint(run: Run) -> Path:
    """The run as it is now. Raises OSError where it cannot be written."""
    state = {
        **{name: getattr(run, name) for name in PLACE},
        "generators": run.generator_states(),
        "history": asdict(run.history),
        "config": settings(run),
        "versions": versions(run),
    }
    return checkpoint.save_checkpoint(run.folder, run.step, run.arrays(), state)


def write_history(run: Run) -> None:
    """history.json, if this process writes the run's files. Raises OSError."""
    if run.writes:
        content = {"config": settings(run), "versions": versions(run), **asdict(run.history)}
        atomic_write_text(run.folder / "history.json", json.dumps(content, indent=1, allow_nan=False))


def settings(run: Run) -> dict[str, Any]:
    """All that decides the result, as JSON gives it back: equal settings, equal bits."""
    own = {name: getattr(run, name) for name in ("epochs", "batch_size", "seed", "frozen", "log_every")}
    described = {name: _describe(getattr(run, name)) for name in ("schedule", "optimizer", "augmentation")}
    data = {"images": [len(run.data.y_train), len(run.data.y_test)], **run.checksums}
    sizes = {"parameters": run.model.parameters(), "trained_parameters": run.optimizer.parameters}
    weights = {name: sum(parameter.value.size for parameter in parameters) for name, parameters in sizes.items()}
    weights["layers_crc32"] = zlib.crc32(layers_text(run.model).encode())
    shares = {"local_batchnorm": run.group.size} if getattr(run.engine, "local_batchnorm", False) else {}
    return json.loads(json.dumps({**own, **described, **data, **weights, **shares, **run.config}))


def versions(run: Run) -> dict[str, str]:
    """What else a run's last bits may depend on."""
    passes = getattr(run.engine, "engine", run.engine)  # of several ranks, each has an engine of its own
    return {
        "minires": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "engine": "definition" if passes is run.model else "compiled",
        "ranks": str(run.group.size),
        "threads": str(getattr(run.engine, "threads", num_threads())),
        "device": str(run.device),
    }


# Starting, stopping, going on


def locked(run: Run, resume: bool) -> AbstractContextManager:
    """The run's folder for this run alone; made here unless the run is resumed. Raises FolderInUse, OSError."""
    if not run.writes or (resume and not run.folder.is_dir()):
        return nullcontext()
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise FileExistsError(f"{run.folder} is a file; expected a folder, or a new name") from None
    return locked_folder(run.folder)


def open_folder(run: Run, resume: bool) -> None:
    """Go on from the newest checkpoint, or write a first one: a folder that cannot be written shows now."""
    if resume:
        path, arrays, state = checkpoint.load_checkpoint(run.folder) if run.writes else (None, None, None)
        arrays, (path, state) = run.group.broadcast(arrays, (str(path), state))  # others may not see rank 0's disk
        try:
            restore(run, arrays, state)
        except SettingsDiffer:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise checkpoint.CheckpointError(f"{path}: is no checkpoint of a run ({error})") from error
    elif run.writes:
        if checkpoint.checkpoints(run.folder):
            raise FileExistsError(
                f"{run.folder} holds a run already: resume it (--resume, resume=True), or choose another folder"
            )
        write_checkpoint(run)
    write_history(run)  # a run that was killed may have got no further than its checkpoint


def restore(run: Run, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
    """Take over a checkpoint. Raises SettingsDiffer; KeyError and the like where something is missing in it."""
    if state.get("config") != settings(run):
        raise SettingsDiffer(state.get("config", {}), settings(run))
    check_place(state, run.batches_per_epoch)
    for row in state["history"]["steps"]:  # a function says nothing of itself but what it gives
        name, rate = f"learning rate of step {row['step']}", learning_rate(run.schedule, row["step"] - 1)
        if rate != row["lr"]:
            raise SettingsDiffer({name: row["lr"]}, {name: rate})
    saved, own = {"ranks": "1", **state["versions"]}, versions(run)
    before, now = (" on ".join((v.get("engine", "?"), f"{v.get('threads')} threads")) for v in (saved, own))
    if saved["ranks"] != own["ranks"]:  # then threads and last bits will differ anyway
        before, now = saved.get("engine"), own["engine"]
    if before != now and not run.other_engine:
        raise SettingsDiffer({"engine": before}, {"engine": now})  # other_engine=True goes on all the same
    if saved != own:
        warnings.warn(
            f"the run was started with {saved}, goes on with {own}: it may end with other last bits", stacklevel=2
        )
    run.set_arrays(arrays, state["generators"])
    run.history = History(**state["history"])
    for name in PLACE:
        setattr(run, name, state[name])


def stop(run: Run, signum: int) -> NoReturn:
    """Save and raise TrainingInterrupted. Raises OSError where the checkpoint cannot be written."""
    run.agree()
    path = write_checkpoint(run) if run.writes else None
    with suppress(OSError):  # resuming writes it anew
        write_history(run)
    _, path = run.group.broadcast(state=str(path))  # and no rank goes on, perhaps to its end, before it is written
    raise TrainingInterrupted(signum, Path(path), run.step)


def check_settings_of_all(run: Run) -> None:
    """ValueError where this rank has other settings, or other data, than rank 0."""
    own = settings(run)
    _, first = run.group.broadcast(state=own)
    if first != own:
        names = ", ".join(SettingsDiffer(first, own).names)
        raise ValueError(f"rank {run.group.rank} and rank 0 differ in {names}; expected the same call on all ranks")


def _describe(value: Any) -> str | None:
    """A setting as text that is the same in every process: no memory addresses."""
    if isinstance(value, SGD):
        skipped = ("parameters", "lr")  # the schedule says the rate
        plain = {k: v for k, v in vars(value).items() if isinstance(v, bool | int | float) and k not in skipped}
        return f"SGD({', '.join(f'{name}={plain[name]}' for name in sorted(plain))})"
    if is_dataclass(value) and not isinstance(value, type):
        plain = {name: v if isinstance(v, int | float | tuple) else _describe(v) for name, v in vars(value).items()}
        return f"{type(value).__name__}({', '.join(f'{name}={v}' for name, v in plain.items())})"
    return None if value is None else getattr(value, "__qualname__", type(value).__qualname__)
