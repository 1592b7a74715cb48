"""`check_file`: is a pair of functions in somebody's file the op that it should be?

print(gradcheck.check_file("student.py", like="conv2d"))

The file runs in a process of its own, on the standard cases of the op.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

import minires
from minires.backend import Array
from minires.gradcheck import layouts
from minires.gradcheck.check import check_op
from minires.gradcheck.definitions import run_forward
from minires.gradcheck.function_names import Bound, Functions, bind, find_pair, guess_op, settings_of
from minires.gradcheck.in_process import InProcess, can_start_processes
from minires.gradcheck.report import SEVERITY, STYLE, GradReport, TensorReport
from minires.gradcheck.runner import CallError, Limits, Stopped, Student
from minires.gradcheck.standard_cases import StandardCase, standard_cases
from minires.terminal import NARROW

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.table import Table

MAX_ENTRIES = 200
"""Larger tensors are sampled: loops in plain Python are slow."""


@dataclass
class CaseReport:
    """One standard case: the report of the check, or why there is none."""

    case: str
    options: dict
    report: GradReport | None
    error: str | None
    seconds: float

    @property
    def verdict(self) -> str:
        """The report's; "fail" if the functions did not even run."""
        return "fail" if self.report is None else self.report.verdict

    @property
    def sentence(self) -> str:
        """What there is to say in one sentence."""
        if self.report is None:
            return self.error or ""
        return "" if self.verdict == "pass" else self.report.diagnosis or self.report.reason


@dataclass
class FileReport:
    """A pair of functions on all standard cases. `print(report)` is a table; below it stands what is wrong."""

    title: str
    cases: list[CaseReport]
    notes: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """ "fail" if any case fails, "pass" if none does and one passes; else the mildest of what there is.

        A batch of one is vacuous by nature, so a case that cannot tell does not spoil those that can.
        """
        found = [c.verdict for c in self.cases]
        return "fail" if "fail" in found else min(found, key=SEVERITY.index)

    @property
    def first_failure(self) -> CaseReport | None:
        """The case whose report says most: the first that fails with a diagnosis, else the first that fails."""
        failed = [c for c in self.cases if c.verdict == "fail"]
        named = [c for c in failed if c.report is not None and c.report.fault]
        return next(iter([*named, *failed]), None)

    @property
    def diagnosis(self) -> str | None:
        """A sentence that says what is wrong; None where nothing fails."""
        return None if self.first_failure is None else self.first_failure.sentence

    def as_dict(self) -> dict:
        """The report as JSON can hold it; NaN and infinity as strings."""
        cases = [
            {
                "case": c.case,
                "options": {k: v.tolist() if hasattr(v, "tolist") else v for k, v in c.options.items()},
                "verdict": c.verdict,
                "sentence": c.sentence or None,
                "fault": c.report and c.report.fault,
                "hint": c.report and c.report.hint,
                "seconds": round(c.seconds, 3),
                "tensors": [] if c.report is None else [_tensor_dict(t) for t in c.report.tensors],
            }
            for c in self.cases
        ]
        told = {"title": self.title, "verdict": self.verdict, "diagnosis": self.diagnosis, "notes": self.notes}
        return told | {"cases": cases}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[object]:
        from rich.text import Text

        yield self._table(options.max_width < NARROW)
        yield from (Text(f"note: {note}") for note in self.notes)
        worst = self.first_failure
        if worst is not None and worst.report is not None:
            yield worst.report
        else:
            yield Text(f"verdict: {self.verdict}", STYLE[self.verdict])

    def _table(self, narrow: bool) -> Table:
        """One row for each case; a sentence that several cases share stands in the first of them."""
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self.title, title_justify="left", header_style="bold")
        table.add_column("case", max_width=16 if narrow else None)
        table.add_column("verdict", no_wrap=True)
        if not narrow:
            table.add_column("s", justify="right", no_wrap=True)
        table.add_column("what is wrong", overflow="fold", min_width=None if narrow else 28)
        first: dict[str, str] = {}
        for c in self.cases:
            sentence = "" if c.verdict == "pass" else c.sentence
            told = first.get(sentence) or sentence
            first.setdefault(sentence, f'as in "{c.case}"' if sentence else "")
            seconds = [] if narrow else [f"{c.seconds:.2f}"]
            table.add_row(c.case, Text(c.verdict, STYLE[c.verdict]), *seconds, Text(told))
        return table

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(file=StringIO(), width=120, color_system=None, highlight=False)
        console.print(self)
        return console.file.getvalue().rstrip()

    def _repr_html_(self) -> str:
        from minires.gradcheck.html import file_fragment

        return file_fragment(self)


def _tensor_dict(tensor: TensorReport) -> dict:
    numbers = {"yours": tensor.analytic, "reference": tensor.reference, "error": tensor.error, "bound": tensor.bound}
    told = {"name": tensor.name, "shape": list(tensor.shape), "verdict": tensor.verdict, "reason": tensor.reason}
    finite = {k: None if n is None else float(n) if math.isfinite(n) else str(n) for k, n in numbers.items()}
    return told | {"worst": tensor.worst} | finite


def check_file(
    file: str | os.PathLike[str],
    like: str | None = None,
    *,
    forward: str | None = None,
    backward: str | None = None,
    options: dict | None = None,
    layout: str | None = None,
    ties: str | None = None,
    hints: int = 2,
    seed: int = 0,
    limits: Limits | None = None,
    progress: Callable[[str], object] = lambda name: None,
) -> FileReport:
    """Runs a pair of functions of `file` in a process of its own and checks it on the standard cases of the op `like`.

    like: by default what the names of the functions say. forward, backward: their names, where they cannot be found.
    options: the settings they were written for, as in {"stride": 2}; settings that forward takes as arguments are
    varied unless they are given here. layout, ties and hints are those of `check_op`; by default the layout is the one
    in which forward is right, if there is one. progress(case) is called before each case.

    Raises FileNotFoundError, and ValueError with a sentence for what cannot be checked at all: a file that does not
    load, names that are not there, settings that do not fit.
    """
    limits = limits or Limits(call=5.0, total=300.0)
    with (
        Student(file, limits, path=[str(Path(minires.__file__).parents[1])])
        if can_start_processes()
        else nullcontext(InProcess(file))
    ) as code:
        how = {"layout": layout, "ties": ties, "hints": hints, "seed": seed}
        return check_loaded(code, like, forward, backward, options, progress=lambda name, *_: progress(name), **how)


class Loaded(Protocol):
    """What a check needs of somebody's code: a `Student`, or where no process can be started, as in a browser, an
    `InProcess`."""

    file: Path

    @property
    def functions(self) -> Functions:
        """The functions by name, with their parameters."""

    def pair(self, forward: str, backward: str, *settings: object, **options: object) -> tuple[Callable, Callable]:
        """The two functions as `check_op` takes them; forward gets settings and options behind its arrays."""


def check_loaded(
    code: Loaded,
    like: str | None = None,
    forward: str | None = None,
    backward: str | None = None,
    options: dict | None = None,
    seed: int = 0,
    progress: Callable[[str, int, int], object] = lambda name, done, of: None,
    *,
    layout: str | None = None,
    ties: str | None = None,
    hints: int = 2,
) -> FileReport:
    """`check_file` for code that is loaded. progress(case, cases done, cases in all) comes before each."""
    try:
        functions = code.functions
    except (CallError, Stopped) as error:
        raise ValueError(f"{code.file.name} cannot be loaded: {type(error).__name__}: {error}") from None
    like = like or guess_op(functions)
    pair = find_pair(functions, like, forward, backward)
    bound = bind(functions[pair[0]], like, pair[0])
    cases = standard_cases(like, bound.free, options or {}, seed)
    report = FileReport(f"{code.file.name}: {pair[0]} and {pair[1]} as {like}", [], list(bound.notes))
    if layout is None and (layout := _layout_of(code, like, pair, bound, cases)):
        report.notes.append(f"checked in the layout {layout!r}: {layouts.SAY[layout]}")
    cases, left_out = _that_it_takes(code, like, pair, bound, cases, layout)
    report.notes += [f"{pair[0]} takes no {left_out}, so the cases with {left_out} are left out"] if left_out else []
    how = {"layout": layout, "ties": ties, "hints": hints, "seed": seed, "max_entries": MAX_ENTRIES}
    for number, case in enumerate(cases):
        progress(case.name, number, len(cases))
        report.cases.append(_check(code, like, pair, bound, case, how))
    return report


def _that_it_takes(
    code: Loaded, like: str, pair: tuple[str, str], bound: Bound, cases: list[StandardCase], layout: str | None
) -> tuple[list[StandardCase], str]:
    """The cases without rows (N, C), or without images, where forward takes the others only; and which are left out.

    Batch normalization is often written for one of them: CS231n's batchnorm_forward and spatial_batchnorm_forward.
    """
    kinds = {"rows": 2, "images": 4}
    if like != "batchnorm" or {c.inputs[0].ndim for c in cases} != set(kinds.values()):
        return cases, ""
    taken = [ndim for ndim in kinds.values() if _takes(code, like, pair, bound, _first(cases, ndim), layout)]
    if len(taken) != 1:
        return cases, ""
    left_out = next(kind for kind, ndim in kinds.items() if ndim not in taken)
    return [c for c in cases if c.inputs[0].ndim in taken], left_out


def _first(cases: list[StandardCase], ndim: int) -> StandardCase | None:
    return next((c for c in cases if c.inputs[0].ndim == ndim), None)


def _takes(
    code: Loaded, like: str, pair: tuple[str, str], bound: Bound, case: StandardCase, layout: str | None
) -> bool:
    """Whether forward takes arrays of this kind and gives back an array of the same shape."""
    positional, keywords = bound.settings(case.options)
    inputs = case.inputs[: bound.arrays]
    try:
        if layout is not None:
            inputs = layouts.given_in(inputs, like, layout)
        result = code.pair(*pair, *positional, **keywords)[0](*inputs)
    except (CallError, Stopped, ValueError, TypeError):
        return False
    return np.shape(result[0] if isinstance(result, tuple) else result) == inputs[0].shape


def _layout_of(code: Loaded, like: str, pair: tuple[str, str], bound: Bound, cases: list[StandardCase]) -> str | None:
    """The layout in which forward is exactly the op, where it is not in minires' own: weights (in, out), say."""
    for layout in layouts.LAYOUTS:
        if (like, layout) not in layouts.TURNS:
            continue
        axes = layouts.axes_of_x(like, layout)
        case = cases[0] if axes is None else _first(cases, axes)
        if case is None:
            continue
        positional, keywords = bound.settings(case.options)
        inputs = case.inputs[: bound.arrays]
        options = {k: v for k, v in case.options.items() if k in settings_of(like)}
        try:
            forward, _ = code.pair(*pair, *positional, **keywords)
            if _is_the_op(forward(*inputs), like, inputs, options):
                return None
        except (CallError, Stopped, ValueError, TypeError):
            pass
        theirs = layouts.given_in(inputs, like, layout)
        if layouts.propose(code.pair(*pair, *positional, **keywords)[0], theirs, like, options) == layout:
            return layout
    return None


def _is_the_op(result: object, like: str, inputs: tuple[Array, ...], options: dict) -> bool:
    y = result[0] if isinstance(result, tuple) else result
    right, _ = run_forward(like, inputs, options)
    return np.shape(y) == np.shape(right) and bool(np.allclose(y, right, rtol=1e-9, atol=1e-12))


def _check(code: Loaded, like: str, pair: tuple[str, str], bound: Bound, case: StandardCase, how: dict) -> CaseReport:
    inputs, begun = case.inputs[: bound.arrays], time.perf_counter()
    positional, keywords = bound.settings(case.options)
    options = {k: v for k, v in case.options.items() if k in settings_of(like)}
    if how["layout"] is not None:
        inputs = layouts.given_in(inputs, like, how["layout"])
    try:
        functions = code.pair(*pair, *positional, **keywords)
        report = check_op(*functions, inputs, like=like, options=options, **how)
        error = None
    except (CallError, Stopped, ValueError, TypeError) as problem:
        report, error = None, str(problem)
    return CaseReport(case.name, case.options, report, error, time.perf_counter() - begun)
