"""The assignments in their order build one engine. Here the whole way is walked, also as it may go wrong.

    earlier only   each assignment with nothing but the earlier ones beside it: the reference gets all points
    empty          an empty file, and the bare stub: 0 points everywhere
    wrong conv     one plausible mistake (the bias's gradient is a mean) in conv: its own points go, no others

Then the milestones, on the submission's own code in its own process: their batch normalization trains a network that
did not train, their residual block trains 56 layers, and, where the files are given, their engine reads the weights of
a real ResNet-20 and reaches its published accuracy.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minires.course import isolation
from minires.course.assignments.digits import accuracy, journey_parts
from minires.course.building import solution_text, stub_text
from minires.course.callers import Missing, WatchedCaller
from minires.course.declaration import Assignment, journey, load
from minires.course.grading import grade, running
from minires.course.submissions import read
from minires.gradcheck.runner import CallError, Stopped

if TYPE_CHECKING:
    from rich.console import Console

WRONG = ("dbias = dy.sum(", "dbias = dy.mean(")
"""The plausible mistake: what stands in the reference's convolution, and what some write."""


@dataclass
class Stage:
    """One assignment on the way, under four kinds of submissions; points each."""

    assignment: str
    points: int
    earlier_only: float
    empty: float
    stub: float
    wrong_conv: float

    @property
    def holds(self) -> bool:
        right = self.earlier_only == self.points and self.empty == self.stub == 0
        if self.assignment == "conv":
            return right and 0 < self.wrong_conv < self.points
        return right and self.wrong_conv == self.points


@dataclass
class Milestone:
    """What the student's own engine can do now."""

    name: str
    before: str
    after: str
    reached: bool


def walk(
    console: Console,
    *,
    rung: str | None = None,
    trust: bool = False,
    pretrained: Path | None = None,
    cifar: Path | None = None,
) -> int:
    """Walks the whole way and prints its tables; 0 if everything holds. Raises NoIsolation as `grade` does."""
    from rich.table import Table

    table = Table(
        title="the journey: points of the reference, of nothing, of a wrong convolution", title_justify="left"
    )
    table.add_column("assignment")
    for column in ("of", "earlier only", "empty", "stub", "wrong conv", "holds"):
        table.add_column(column, justify="right")
    found = []
    with console.status("walking") as status, tempfile.TemporaryDirectory() as folder:
        for a in journey():
            status.update(a.name)
            s = stage(a, Path(folder), rung, trust)
            found.append(s)
            numbers = (s.points, s.earlier_only, s.empty, s.stub, s.wrong_conv)
            table.add_row(s.assignment, *(f"{n:g}" for n in numbers), "yes" if s.holds else "no")
        status.update("milestones")
        reached = milestones(Path(folder) / "right", rung=rung, trust=trust, pretrained=pretrained, cifar=cifar)
    console.print(table)
    for m in reached:
        console.print(f"{'reached' if m.reached else 'missed'}: {m.name}: {m.before}; {m.after}", highlight=False)
    return 0 if all(s.holds for s in found) and all(m.reached for m in reached) else 1


def stage(a: Assignment, folder: Path, rung: str | None, trust: bool) -> Stage:
    """Grades one assignment four times; the right and the wrong files stay in `folder` for the next one."""
    text = solution_text(a)
    wrong = text.replace(*WRONG) if a.name == "conv" else text
    if a.name == "conv" and wrong == text:
        raise ValueError(f"the reference of conv has no {WRONG[0]!r} to make a mistake of")
    earned = []
    for name, content in (("right", text), ("empty", ""), ("stub", stub_text(a)), ("wrong", wrong)):
        place = folder / name
        place.mkdir(exist_ok=True)
        (place / f"{a.name}.py").write_text(content, encoding="utf-8")
        earned.append(grade(a, place, rung=rung, trust=trust).earned)
    return Stage(a.name, a.points, *earned)


def milestones(
    folder: Path,
    *,
    rung: str | None = None,
    trust: bool = False,
    pretrained: Path | None = None,
    cifar: Path | None = None,
) -> list[Milestone]:
    """The milestones of the files in `folder`. A part that is missing there is the engine's own."""
    chosen = isolation.choose(rung, trust)
    a = load("digits")
    submission = read(folder, a)
    if submission.problem:
        raise ValueError(submission.problem)
    with running(a, submission, chosen, total_seconds=1800.0, call_seconds=900.0) as student:
        caller = WatchedCaller(student)
        found = [
            _trained(caller, "batch normalization trains a plain network", "plain", "plain_batchnorm"),
            _trained(caller, "the residual block trains 56 layers", "deep_plain", "deep"),
        ]
        if pretrained is not None and cifar is not None:
            found.append(_reads_real_weights(caller, pretrained, cifar))
    return found


def _trained(caller: WatchedCaller, name: str, without: str, with_it: str) -> Milestone:
    """Trains two networks that differ in one part; reached if the second one reads digits and the first does not."""
    numbers = [_accuracy_after(caller, kind) for kind in (without, with_it)]
    told = [n if isinstance(n, str) else f"{n:.0%} of the digits" for n in numbers]
    right = [0.0 if isinstance(n, str) else n for n in numbers]
    return Milestone(name, f"without it {told[0]}", f"with it {told[1]}", right[1] >= GOOD and right[0] <= BAD)


STEPS, RATE = 150, 0.1
GOOD, BAD = 0.7, 0.3
"""A network trains if it reads so many of the held-out digits afterwards; it does not if it reads no more than so many:
guessing reads a tenth."""


def _accuracy_after(caller: WatchedCaller, kind: str) -> float | str:
    from minires.data import load_digits

    data = load_digits()
    try:
        trained = caller.call(
            "driver:train", journey_parts(), "train_step", kind, STEPS, data.x_train, data.y_train, RATE
        )
        return accuracy(trained, kind)
    except (CallError, Stopped, Missing, ValueError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"


def _reads_real_weights(caller: WatchedCaller, pretrained: Path, cifar: Path) -> Milestone:
    """ResNet-20 for CIFAR-10, trained elsewhere in PyTorch: the share of test images that the engine gets right."""
    images, labels = cifar_test(cifar)
    state, right = read_weights(pretrained), 0
    for start in range(0, len(images), 64):
        logits = caller.call("driver:classify", journey_parts(), state, 20, images[start : start + 64])
        right += int(np.sum(np.argmax(logits, axis=1) == labels[start : start + 64]))
    share = right / len(labels)
    published = 1 - 0.0827
    spread = 3 * np.sqrt(published * (1 - published) / len(labels))
    told = f"{right} of {len(labels)} test images are right ({share:.2%})"
    return Milestone(
        "the engine reads a ResNet-20's weights", f"published: {published:.2%}", told, abs(share - published) <= spread
    )


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a .safetensors file. Needs safetensors."""
    from safetensors.numpy import load_file

    return dict(load_file(path))


def cifar_test(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """CIFAR-10's test images in the binary format, normalized as the weights expect, and their labels."""
    raw = np.frombuffer((folder / "test_batch.bin").read_bytes(), np.uint8).reshape(-1, 3073)
    mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    images = (raw[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32) / 255 - mean) / std
    return images, raw[:, 0].astype(np.int64)
