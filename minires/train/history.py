"""What a run tells: its history when it is over, its progress while it goes on."""

from __future__ import annotations

from dataclasses import dataclass, field


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
