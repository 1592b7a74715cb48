"""What a gradient check found: a verdict for every tensor with its reason, and what is wrong in words.

    pass      the gradient agrees with the numerical one within the estimated numerical error
    fail      it does not (or has the wrong shape, is not finite, or the function broke a rule, see `rules.py`)
    kink      the step crossed the switch of a ReLU or max-pool too often, or the point lies on one
    roundoff  it agrees, but this step could not have seen an error of a thousandth
    vacuous   it agrees, but a wrong gradient would have agreed as well

Only `pass` is evidence of a right gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from io import StringIO
from typing import TYPE_CHECKING

from minires.backend import Array

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.table import Table

SEVERITY = ("pass", "roundoff", "kink", "vacuous", "fail")
"""From good to bad; a report is as good as the worst of its tensors."""

MOST_ROWS = 14
"""A longer table is cut to the rows that matter."""

STYLE = {"pass": "green", "fail": "bold red", "kink": "yellow", "roundoff": "yellow", "vacuous": "yellow"}


@dataclass
class TensorReport:
    """One gradient (or the output y itself) held against its reference."""

    name: str
    shape: tuple[int, ...]
    verdict: str
    reason: str
    coverage: str = ""
    worst: str = ""
    """Index of the worst entry, or "line 1": a random direction through all entries."""
    analytic: float | None = None
    reference: float | None = None
    error: float | None = None
    bound: float | None = None
    left_out: int = 0
    """Entries and directions not used, because the step crossed a kink."""
    switches_crossed: int | None = None
    """How many switches all steps together crossed; None where they cannot be seen."""
    switches_expected: float | None = None
    """What the law of kinks expects."""
    yours: Array | None = field(default=None, repr=False)
    """All entries as they were given, and as they should be (NaN where a kink forbids to say); None if not measured."""
    right: Array | None = field(default=None, repr=False)


@dataclass
class IdentityReport:
    """An equation that has to hold up to rounding, whatever the numbers are."""

    name: str
    left: float
    right: float
    bound: float

    @property
    def holds(self) -> bool:
        return abs(self.left - self.right) <= self.bound


ESSENTIALS = ("tensor", "worst entry", "yours", "reference", "error", "verdict")
"""The columns that a narrow screen shows."""

UNNAMED = "a rule is broken"
"""What is left of broken rules where hints are held back."""


@dataclass
class GradReport:
    """All that one check found. `print(report)` is a table, the diagnosis below it."""

    title: str
    tensors: list[TensorReport]
    identities: list[IdentityReport] = field(default_factory=list)
    offences: list[str] = field(default_factory=list)
    """Rules broken whatever the numbers say (dy changed in place, ...), each a sentence."""
    notes: list[str] = field(default_factory=list)
    diagnosis: str | None = None
    """A sentence that names the fault; None where nothing fails."""
    fault: str | None = None
    """Name of the catalogue's fault that the diagnosis rests on (two joined by " + "), if it is one."""
    alike: list[str] = field(default_factory=list)
    """Other faults of the catalogue that do the same on these inputs; or that would have passed as well."""
    hint: str | None = None
    """Where to look, without the solution."""
    impossible: list[str] = field(default_factory=list)
    """Faults of the catalogue that make no difference under these settings: a pass says nothing of them."""
    switches_crossed: int = 0
    """Different switches that the steps of all tensors crossed, and what the law of kinks expects of them."""
    switches_expected: float = 0.0

    @property
    def verdict(self) -> str:
        """The worst verdict of all tensors; `fail` too if a rule was broken or an identity does not hold."""
        if self.offences or not all(i.holds for i in self.identities):
            return "fail"
        return max((t.verdict for t in self.tensors), key=SEVERITY.index)

    @property
    def reason(self) -> str:
        """Why the verdict is what it is: the reasons of the tensors that brought it about."""
        broken = [f"{i.name} does not hold" for i in self.identities if not i.holds]
        return "; ".join([*self.offences, *broken, *self._reasons(self.verdict)])

    def _reasons(self, *verdicts: str) -> list[str]:
        """What is said about the tensors of these verdicts, each reason once: "dx, dweight: ..."."""
        names: dict[str, list[str]] = {}
        for t in self.tensors:
            if t.verdict in verdicts:
                names.setdefault(t.reason, []).append(t.name)
        return [f"{', '.join(who)}: {reason}" for reason, who in names.items()]

    @property
    def all_notes(self) -> list[str]:
        """The notes, and which typical faults this check could not look for."""
        if not self.impossible:
            return self.notes
        named, more = ", ".join(self.impossible[:3]), len(self.impossible) - 3
        told = f"{named} and {more} more" if more > 0 else named
        faults, make = ("faults", "make") if len(self.impossible) > 1 else ("fault", "makes")
        return [
            *self.notes,
            f"{len(self.impossible)} {faults} of the catalogue {make} no difference under these settings, so other "
            f"settings are worth a check: {told}",
        ]

    def limited(self, hints: int) -> GradReport:
        """The report with as much help as asked for: 2 names the fault, 1 says where to look, 0 gives the verdict."""
        if hints == 2 or self.verdict != "fail":
            return self
        self.fault, self.alike, self.offences = None, [], [UNNAMED] if self.offences else []
        if hints == 0:
            self.diagnosis = self.hint = None
            return self
        wrong = [t.name for t in self.tensors if t.verdict == "fail"]
        where = (
            f"look at {', '.join(wrong)}" if wrong else "the numbers are right; look at what backward changes or keeps"
        )
        self.diagnosis = f"{where}. {self.hint}" if self.hint else where
        self.hint = None
        return self

    def __getitem__(self, name: str) -> TensorReport:
        """The report of one tensor, by its name."""
        for tensor in self.tensors:
            if tensor.name == name:
                return tensor
        raise KeyError(f"no tensor {name!r}; there are {', '.join(t.name for t in self.tensors)}")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[object]:
        from rich.text import Text

        from minires.terminal import fitted

        yield fitted(self._table(), options.max_width, ESSENTIALS)
        if self.identities:
            kept = sum(i.holds for i in self.identities)
            yield Text(f"identities: {kept} of {len(self.identities)} hold up to rounding")
            broken = [i for i in self.identities if not i.holds]
            yield from (Text(f"  broken: {i.name}: {i.left:.9g} is not {i.right:.9g}") for i in broken[:5])
        yield from (Text(reason) for reason in self._reasons("kink", "roundoff", "vacuous"))
        yield from (Text(f"broken rule: {sentence}", "bold red") for sentence in self.offences if sentence != UNNAMED)
        if UNNAMED in self.offences:
            yield Text(UNNAMED, "bold red")
        yield from (Text(f"note: {sentence}") for sentence in self.all_notes)
        yield Text(f"verdict: {self.verdict}", STYLE[self.verdict])
        if self.diagnosis:
            yield Text(f"diagnosis: {self.diagnosis}", "bold")
        if self.hint:
            yield Text(f"hint: {self.hint}")

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(file=StringIO(), width=120, color_system=None, highlight=False)
        console.print(self)
        return console.file.getvalue().rstrip()

    def _repr_html_(self) -> str:
        from minires.gradcheck.html import fragment

        return fragment(self)

    def _table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self.title, title_justify="left", header_style="bold")
        for column in ("tensor", "shape", "checked", "worst entry"):
            table.add_column(column, overflow="fold")
        for column in ("yours", "reference", "error", "bound"):
            table.add_column(column, justify="right", overflow="fold")
        table.add_column("verdict", overflow="fold")
        shown = self._shown()
        for t in shown:
            numbers = (t.analytic, t.reference, t.error, t.bound)
            cells = ["" if n is None else f"{n:.5g}" for n in numbers[:2]]
            cells += ["" if n is None else f"{n:.1e}" for n in numbers[2:]]
            shape = "x".join(map(str, t.shape)) or "one number"
            table.add_row(t.name, shape, t.coverage, t.worst, *cells, Text(t.verdict, STYLE[t.verdict]))
        captions = []
        if len(shown) < len(self.tensors):
            captions.append(f"and {len(self.tensors) - len(shown)} more tensors, closer to their reference; all pass")
        if any("+" in t.coverage for t in self.tensors):
            captions.append("+n: n random lines through all entries")
        table.caption, table.caption_justify = "; ".join(captions) or None, "left"
        return table

    def _shown(self) -> list[TensorReport]:
        """All tensors, or of many those that matter: what does not pass, and what comes nearest to its bound."""
        if len(self.tensors) <= MOST_ROWS:
            return self.tensors
        passed = [t for t in self.tensors if t.verdict == "pass"]
        near = sorted(passed, key=lambda t: (t.error or 0.0) / (t.bound or 1.0), reverse=True)
        kept = {id(t) for t in near[: max(MOST_ROWS - len(self.tensors) + len(passed), 5)]}
        return [t for t in self.tensors if t.verdict != "pass" or id(t) in kept]
