"""What `minires train` shows and leaves behind: the live line, the summary, and the files of the results."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from minires.commands import console, fitted, is_live, live_display

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

    from minires.nn import ResNet
    from minires.recipes import Settings
    from minires.train import History, Progress


def write_results(folder: Path, settings: Settings, model: ResNet, history: History) -> bool:
    """Weights and curves into the run's folder; what cannot be written there, into a temporary one.

    Says where each of them is. False where something went elsewhere, or nowhere.
    """
    from minires.checkpoint import write_weights
    from minires.files import atomic_write_text
    from minires.plot.curves import draw_history
    from minires.plot.style import save

    def write_curves(path: Path) -> None:
        save(draw_history(history, f"{settings.model} on {Path(settings.data).name}"), path)

    def write_model(path: Path) -> None:
        write_weights(path, model.state_dict(), {"run": asdict(settings)})

    def write_history(path: Path) -> None:
        if not holds_epochs(path, len(history.epochs)):  # fit has written it there, unless it could not
            atomic_write_text(path, json.dumps({"config": {"run": asdict(settings)}, **asdict(history)}, indent=1))

    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    writers = {"weights.npz": write_model, "curves.png": write_curves, "history.json": write_history}
    there = [_write(write, folder / name) for name, write in writers.items()]
    written = [path for path in there if path is not None]
    for i, path in enumerate(written):
        print(f"{'' if i else 'written':8} {path}")
    return all(path is not None and path.parent == folder for path in there)


def _write(write: Callable[[Path], None], path: Path) -> Path | None:
    """Where the file is now: at `path`, in a temporary folder where that cannot be written, or nowhere."""
    try:
        write(path)
        return path
    except OSError as error:
        warnings.warn(f"results not written into {path.parent}: {error}", stacklevel=2)
    try:
        elsewhere = _elsewhere() / path.name
        write(elsewhere)
        return elsewhere
    except OSError as error:
        warnings.warn(f"{path.name} is lost: {error}", stacklevel=2)
    return None


@cache
def _elsewhere() -> Path:
    """A new folder among the temporary ones, the same for all files of a run."""
    return Path(tempfile.mkdtemp(prefix="minires-"))


def holds_epochs(path: Path, count: int) -> bool:
    try:
        return len(json.loads(path.read_text(encoding="utf-8"))["epochs"]) == count
    except (OSError, ValueError, KeyError, TypeError):
        return False


class Display:
    """The live line of a run; where no line can be overwritten, a plain line an epoch instead."""

    def __init__(self, settings: Settings) -> None:
        self.console = console()
        self.live = is_live(self.console)
        self.bar = live_display(*_columns(self.console.width), screen=self.console)
        start = {"epoch": 1, "epochs": settings.epochs, "loss": 0.0, "accuracy": 0.0, "speed": 0.0, "left": "?"}
        self.task = self.bar.add_task("", total=None, test="", **start)

    def __enter__(self) -> Display:
        self.bar.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.bar.stop()

    def show(self, now: Progress) -> None:
        """What `train.fit` reports."""
        self.bar.update(
            self.task,
            completed=now.step,
            total=now.steps,
            epoch=now.epoch,
            loss=now.loss,
            accuracy=now.accuracy,
            speed=now.images_per_second,
            left=_clock(now.seconds_left),
        )
        if now.row is None:
            return
        self.bar.update(self.task, test=f"test {now.row['test_accuracy']:.2%}")
        if not self.live:
            self.console.print(
                f"epoch {now.epoch:>3}/{now.epochs}  loss {now.row['train_loss']:.4f}  "
                f"test loss {now.row['test_loss']:.4f}  test accuracy {now.row['test_accuracy']:.2%}  "
                f"{now.row['images_per_second']:,.0f} images/s  {_clock(now.seconds_left)} left",
                highlight=False,
                soft_wrap=True,
            )


def _columns(width: int) -> list[ProgressColumn]:
    """What the live line shows, by the room there is: the essentials come first."""
    from rich.progress import BarColumn, TextColumn

    texts = ["epoch {task.fields[epoch]:>3}/{task.fields[epochs]}", "loss {task.fields[loss]:7.4f}"]
    texts += ["{task.fields[test]}", "{task.fields[left]} left"]
    if width >= 80:
        texts.insert(2, "accuracy {task.fields[accuracy]:6.2%}")
    if width >= 100:
        texts.insert(-1, "{task.fields[speed]:,.0f} images/s")
    first, *others = (TextColumn(text) for text in texts)
    return [first, BarColumn(bar_width=None), *others]


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes}:{seconds:02}"


def print_summary(settings: Settings, model: ResNet, history: History, ranks: tuple[int, int] | None = None) -> None:
    """The table at the end. ranks: how many there were, and the threads of each."""
    from rich.table import Table
    from rich.text import Text

    last = history.epochs[-1]
    best = max(history.epochs, key=lambda row: row["test_accuracy"])
    seconds = sum(history.column("seconds"))
    speed = sum(history.column("images_per_second")) / len(history.epochs)
    title = f"{settings.model} on {Path(settings.data).name}, seed {settings.seed}"
    table = Table(title=title, title_justify="left", show_header=False)
    for what, value in (
        ("parameters", f"{sum(p.value.size for p in model.parameters()):,}"),
        ("epochs, steps", f"{last['epoch']}, {last['step']:,}"),
        ("training loss, accuracy", f"{last['train_loss']:.4f}, {last['train_accuracy']:.2%}"),
        ("test loss, accuracy", Text.assemble(f"{last['test_loss']:.4f}, ", (f"{last['test_accuracy']:.2%}", "bold"))),
        ("best test accuracy", f"{best['test_accuracy']:.2%} after epoch {best['epoch']}"),
        ("time, images/s", f"{_clock(seconds)}, {speed:,.0f}"),
    ):
        table.add_row(what, value)
    if ranks is not None:
        table.add_row("ranks, threads each", f"{ranks[0]}, {ranks[1]}")
    screen = console()
    screen.print(fitted(table, screen.width))
