"""The table that a prediction and a measurement share: one row a layer, so that the two can be laid side by side.

Units. Every second moment is a *mean square per entry* (not a variance, not a norm), over samples, channels and
positions. Gradients are in units of the one at the model's output, whose mean square is 1. ``batch_variance`` is what a
BatchNorm there would see: the biased variance over (N, H, W), or over N of a unit, averaged over channels.

Grades say how far a law may be trusted: "ID" an identity of every draw; "EX" an exact expectation at finite width;
"MF" mean field, with an error of order 1/width + 1/batch; "" where there is none, or for a measurement.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

WORDS = {"ID": "identity", "EX": "exact", "MF": "approximate", "": "none"}  # the grades as a reader meets them
QUANTITIES = ("forward", "batch_variance", "gradient_in", "gradient_out", "weight_gradient")
TITLES = ("forward E y²", "batch variance", "E dx²", "E dy²", "E dW²")


class Quantity(NamedTuple):
    """One number of a row.

    mean: over networks, expected or measured.  spread: their standard deviation, relative to the mean; nan if unknown.
    allowance: relative bias that a mean-field law is allowed; 0 for the exact ones.
    reason: what a law is doubted for that is too doubtful for a grade.
    """

    mean: float
    spread: float = math.nan
    grade: str = ""
    allowance: float = 0.0
    reason: str = ""

    @property
    def rms(self) -> float:
        """Root of a mean square; nan where there is none."""
        return math.sqrt(self.mean) if self.mean >= 0 else math.nan


NOTHING = Quantity(math.nan)


@dataclass(frozen=True)
class Row:
    """What happens at one layer; a quantity that has no law, or was not measured, has the mean nan.

    forward, batch_variance: mean square and batch variance of the output.
    gradient_in, gradient_out: mean squares of dL/d(input), what backward returns, and of dL/d(output).
    weight_gradient: mean square of dL/dweight; nan for a layer without a weight of two or more axes.
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    forward: Quantity = NOTHING
    batch_variance: Quantity = NOTHING
    gradient_in: Quantity = NOTHING
    gradient_out: Quantity = NOTHING
    weight_gradient: Quantity = NOTHING
    note: str = ""


@dataclass(frozen=True)
class SignalReport:
    """Rows in the order of the forward pass.

    origin: "predicted" or "measured".  Of a measurement, networks: how many it averaged;
    samples: {(path, quantity): one value a network}, for the t-test of `compare`.
    """

    origin: str
    rows: tuple[Row, ...]
    input_shape: tuple[int, ...]
    networks: int = 0
    samples: dict[tuple[str, str], list[float]] = field(default_factory=dict, repr=False)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, path: str) -> Row:
        """The row of a layer by its dotted path; KeyError names the paths there are."""
        for row in self.rows:
            if row.path == path:
                return row
        raise KeyError(f"no row {path!r}; the report has {', '.join(row.path for row in self.rows)}")

    def table(self) -> Any:
        """The report as a rich table."""
        title = "predicted" if self.origin == "predicted" else f"measured on {self.networks} networks"
        title = f"signal {title}, input {'x'.join(map(str, self.input_shape))}"
        table = empty_table(("layer", "kind"), TITLES, "law", title)
        for row in self.rows:
            cells = [_cell(getattr(row, name)) for name in QUANTITIES]
            table.add_row(row.path, row.kind, *cells, _grades(row) if self.origin == "predicted" else row.note)
        return table

    def __str__(self) -> str:
        return render(self.table())


def empty_table(words: Sequence[str], numbers: Sequence[str], last: str, title: str | None = None) -> Any:
    """A rich table with these columns: words to the left, numbers to the right, a last column of words."""
    from rich.table import Column, Table

    return Table(*words, *(Column(name, justify="right", no_wrap=True) for name in numbers), last, title=title)


def render(table: Any, width: int = 140) -> str:
    """What rich would print, as plain text."""
    from rich.console import Console

    console = Console(width=width, no_color=True, highlight=False, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip()


def _cell(quantity: Quantity) -> str:
    if math.isnan(quantity.mean):
        return "-"
    spread = "" if math.isnan(quantity.spread) else f" ±{100 * quantity.spread:.0f}%"
    return f"{quantity.mean:.4g}{spread}"


def _grades(row: Row) -> str:
    """The grades of its numbers in words, and what those without one are doubted for."""
    numbers = [number for name in QUANTITIES if not math.isnan((number := getattr(row, name)).mean)]
    words = ", ".join(word for grade, word in WORDS.items() if any(number.grade == grade for number in numbers))
    doubted = sorted({number.reason for number in numbers} - {""})
    return row.note or words + (f" ({', '.join(doubted)})" if doubted else "")
