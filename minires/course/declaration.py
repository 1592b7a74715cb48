"""What an assignment is: parts taken from the engine, each with points, a hint and checks.

    from minires.course import Assignment, Part, backward_checks, forward_checks

    ASSIGNMENT = Assignment(
        "pooling", "Average pooling", "Write a pooling layer's two passes.",
        parts=(
            Part("minires.ops:avg_pool2d_forward", 4, forward_checks("avg_pool2d")),
            Part("minires.ops:avg_pool2d_backward", 6, backward_checks("avg_pool2d"), hint="Which pixels share a dy?"),
        ),
    )

A file with such an ASSIGNMENT is all that `minires course build my_assignment.py` needs. The assignments that come with
minires are the files of `assignments/`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Protocol

from minires.course.cutting import Source

LEVELS = ("verdict", "where", "fault")
"""How much feedback says: that something is wrong; where to look; what is wrong. Never the solution."""


class Caller(Protocol):
    """Functions that can be called by name: a submission in its process, or plain functions here."""

    words: dict[str, list]
    """Diagnoses that were made already, by function."""

    def call(self, function: str, *arguments: object, keep: bool = False, **options: object) -> object:
        """The result; with keep, (y, something that stands for the cache)."""

    def absent(self, function: str) -> str:
        """A sentence where there is no such function, else nothing."""


@dataclass
class Outcome:
    """What one check found."""

    fraction: float
    """Of the check's points."""
    told: tuple[str, str, str] = ("", "", "")
    """What to say on each level of feedback."""
    shown: str = ""
    """An example with numbers; only public checks show it."""
    fault: str | None = None
    """The catalogue's name of the fault, if it is known."""
    alike: tuple[str, ...] = ()
    """Other faults that would look the same on these inputs."""

    @property
    def passed(self) -> bool:
        return self.fraction == 1.0


class Check(Protocol):
    """One thing that is asked of a part."""

    name: str
    hidden: bool
    weight: float
    title: str

    def run(self, caller: Caller, seed: int) -> Outcome:
        """Judges the part; exceptions of the caller are turned into an outcome by the grader."""


@dataclass(frozen=True)
class Mistake:
    """A typical fault that no catalogue has, as a change of the reference's text: for the assignment's self-check."""

    name: str
    part: str
    old: str
    new: str
    spoils: Sequence[str] = ()
    """Other parts that may lose points, because the cache they get is wrong."""


@dataclass(frozen=True)
class Part:
    """One function that the student writes."""

    source: str
    """Where the reference is: "minires.ops.conv:conv2d_forward", or "module:Class.method"."""
    points: int
    checks: Sequence[Check]
    name: str = ""
    """What the student's function is called; the reference's own name by default."""
    hint: str = ""
    """Stands in the stub. Not the solution."""

    def __post_init__(self) -> None:
        parsed = Source.parse(self.source)
        object.__setattr__(self, "name", self.name or parsed.path.rpartition(".")[2].lstrip("_"))
        if self.points < 1:
            raise ValueError(f"part {self.name}: points is {self.points}; expected at least 1")
        if not self.checks:
            raise ValueError(f"part {self.name} has no checks; expected at least one")

    @cached_property
    def cut(self) -> Source:
        """The reference as source: where a package only hands the function on, the module that defines it."""
        parsed = Source.parse(self.source)
        if parsed.is_method:
            return parsed
        function = parsed.function
        module = getattr(function, "__module__", parsed.module)
        return Source(module, function.__name__)


@dataclass(frozen=True)
class Assignment:
    """A unit that is handed in as one file, `NAME.py`."""

    name: str
    title: str
    introduction: str
    parts: Sequence[Part]
    mistakes: Sequence[Mistake] = ()
    replaces: bool = True
    """Whether the parts replace the engine's own in later assignments of the journey."""
    needs: Sequence[str] = ()
    """Earlier assignments whose parts are used here, where the student has them."""
    blanks: Sequence[str] = ()
    """More functions of the engine that students must not call: they would be the solution."""
    call_seconds: float = 5.0
    total_seconds: float = 60.0
    secret: str = field(default="minires", repr=False)
    """Goes into the seeds of hidden checks; an instructor may set it."""
    file: str = ""
    """The declaration's file, where it is not one of minires' own."""

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"the assignment's name is {self.name!r}; expected a name that a Python file can have")
        names = [part.name for part in self.parts]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"the parts of {self.name} are {names}; expected at least one, each with its own name")

    @property
    def points(self) -> int:
        return sum(part.points for part in self.parts)

    def part(self, name: str) -> Part:
        """The part of this name; KeyError if there is none."""
        return {part.name: part for part in self.parts}[name]

    def seed(self, submission: str, part: str, check: str) -> int:
        """Where the numbers of one check come from: the same for a submission at all times, another for each."""
        text = "\0".join((self.secret, self.name, submission, part, check))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "little")


ORDER = ("linear_softmax", "gradient_check", "conv", "initializers", "batchnorm", "residual", "sgd", "digits")
"""The assignments that come with minires, in the order of the journey: each is a file of `assignments/`."""


def load(what: str | Path) -> Assignment:
    """An assignment by its name, or by its declaration's file. ValueError with a sentence where there is none."""
    text = str(what)
    if text in ORDER:
        return importlib.import_module(f"minires.course.assignments.{text}").ASSIGNMENT
    path = Path(text)
    if path.suffix != ".py":
        raise ValueError(
            f"there is no assignment {text!r}; there are {', '.join(ORDER)}, or give a file my_assignment.py"
        )
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    module = _module(path.resolve())
    found = getattr(module, "ASSIGNMENT", None)
    if not isinstance(found, Assignment):
        raise ValueError(f"{path} defines no ASSIGNMENT = Assignment(...)")
    return found if found.file else _with_file(found, path.resolve())


def _with_file(assignment: Assignment, path: Path) -> Assignment:
    values = {name: getattr(assignment, name) for name in assignment.__dataclass_fields__}
    return Assignment(**{**values, "file": str(path)})


def _module(path: Path) -> ModuleType:
    """The declaration's file, imported under its own name, so that its functions can be parts themselves."""
    name = path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"{path.name} cannot be loaded: {type(error).__name__}: {error}") from error
    return module


def journey() -> list[Assignment]:
    """All assignments that come with minires, in their order."""
    return [load(name) for name in ORDER]


Judge = Callable[[Caller, int], "Outcome | str | None"]
