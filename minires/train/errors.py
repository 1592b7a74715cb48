"""What ends a run before its time."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minires.train.history import History


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
        differences = [f"{name} was {saved.get(name)!r}, is {given.get(name)!r}" for name in self.names]
        what = "images or labels" if all(name.endswith("_crc32") for name in self.names) else "settings"
        super().__init__(f"the run was started with other {what}: " + "; ".join(differences))
