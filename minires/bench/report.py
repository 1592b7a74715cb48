"""Tables of a run: for the terminal, for a README, and as JSON."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from minires.bench.engines import ENGINES
from minires.bench.measure import Result, Run
from minires.bench.profiling import Row
from minires.parallel.cost import all_reduce

if TYPE_CHECKING:
    from minires.parallel.network import Fit

ABSENT = "–"  # noqa: RUF001  (a dash, as tables have it)


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column is flush left, the others right."""

    title: str
    header: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """For a README."""
        lines = [self.header, ["---", *["---:"] * (len(self.header) - 1)], *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def rich(self) -> Any:
        """For the terminal."""
        from rich import box
        from rich.table import Table as RichTable

        table = RichTable(title=self.title, title_justify="left", box=box.SIMPLE_HEAD)
        for number, name in enumerate(self.header):
            table.add_column(name, justify="right" if number else "left", no_wrap=not number)
        for row in self.rows:
            table.add_row(*row)
        return table


# --- times beside other engines ------------------------------------------------------------------------------------


TITLES = {
    "train": "Training step: forward, loss, backward, SGD",
    "infer": "Inference",
    "layers": "One convolution, forward and backward",
}


def times_tables(run: Run) -> list[Table]:
    """A table for each kind of work, one row a case, and one of peak memory."""
    tables = []
    for kind, title in TITLES.items():
        results = [result for result in run.results if result.case.kind == kind]
        if results:
            tables.append(_table(title, results, _time_columns()))
    weighed = [result for result in run.results if result.bytes]
    if weighed:
        tables.append(_table("Peak memory of a training step", weighed, _memory_columns()))
    return tables


Column = tuple[str, Callable[[Result], str]]


def _table(title: str, results: Sequence[Result], columns: Sequence[Column]) -> Table:
    """Columns without any value are left out."""
    cells = [(name, [cell(result) for result in results]) for name, cell in columns]
    cells = [(name, column) for name, column in cells if any(value != ABSENT for value in column)]
    rows = [list(row) for row in zip(*(column for _, column in cells), strict=True)]
    return Table(title, [name for name, _ in cells], rows)


WHAT: list[Column] = [("", lambda r: r.case.what), ("batch", lambda r: str(r.case.batch))]


def _time_columns() -> list[Column]:
    columns: list[Column] = [
        *WHAT,
        ("minires ms", lambda r: _ms(r.median("minires"))),
        ("ms/image", lambda r: f"{1000 * r.median('minires') / r.case.batch:.3g}"),
        ("PyTorch ms", lambda r: _ms(r.median("torch"))),
    ]
    for name, engine in ENGINES.items():
        if engine.slow:
            columns.append((f"{_short(name)} ÷ minires", lambda r, name=name: _spread(r.ratio(name, "minires"))))
        elif name != "minires":
            columns.append((f"minires ÷ {_short(name)}", lambda r, name=name: _spread(r.ratio("minires", name))))
    return columns


def _memory_columns() -> list[Column]:
    sizes: list[Column] = [
        (f"{_short(name)} MB", lambda r, name=name: _megabytes(r.bytes.get(name))) for name in ENGINES
    ]
    return [*WHAT, *sizes, ("minires ÷ PyTorch", _memory_ratio)]


def _memory_ratio(result: Result) -> str:
    own, other = result.bytes.get("minires"), result.bytes.get("torch")
    return f"{own / other:.2f}" if own and other else ABSENT


def _short(name: str) -> str:
    """An engine's title as it fits over a column."""
    return ENGINES[name].title.removeprefix("PyTorch ").removeprefix("matrix ")


def _ms(seconds: float) -> str:
    return ABSENT if math.isnan(seconds) else f"{1000 * seconds:.3g}" if seconds < 0.1 else f"{1000 * seconds:.0f}"


def _spread(ratio: tuple[float, float, float]) -> str:
    low, middle, high = ratio
    if math.isnan(middle):
        return ABSENT
    digits = 2 if middle < 10 else 1 if middle < 100 else 0
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"  # noqa: RUF001


def _megabytes(size: int | None) -> str:
    return ABSENT if size is None else f"{size / 1e6:.0f}"


def explanation(run: Run, threads: int, device: str) -> list[str]:
    """What the numbers are, where and when they were measured."""
    lines = [
        "Each round goes through all rows, and in each of them every engine, a process of its own, has its turn. "
        "Times are medians over the rounds, ratios medians of round by round, with quartiles. "
        "MB: peak memory of a training step beyond engine, model and data, in a process of its own.",
        "Every engine is timed in a process that keeps the memory it frees (minires.machine); "
        "engines other than minires are weighed as they come.",
        "products: the step's matrix products alone, in the shapes in which minires makes them.",
        f"{machine()}; {threads} thread{'s' if threads > 1 else ''} for every engine; device {device}.",
        ", ".join(f"{name} {value}" for name, value in run.facts.items()) + f"; {today()}.",
    ]
    return lines + [f"Not measured: {note}" for note in run.notes]


def machine() -> str:
    """The processor's name, how many cores this process may use, and the system."""
    return f"{_processor()}, {cores()} cores, {platform.system()}, Python {platform.python_version()}"


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def today() -> str:
    return time.strftime("%Y-%m-%d")


def as_json(run: Run, threads: int, device: str) -> str:
    """All turns of all engines, in seconds and bytes."""
    cases = [
        asdict(result.case)
        | {"name": str(result.case), "seconds": result.seconds, "peak_bytes": result.bytes}
        | {"median_seconds": {name: result.median(name) for name in result.seconds}}
        for result in run.results
    ]
    facts = {"date": today(), "machine": machine(), "threads": threads, "device": device, "versions": run.facts}
    return json.dumps(facts | {"cases": cases, "notes": run.notes}, indent=1) + "\n"


# --- the line between ranks ---------------------------------------------------------------------------------------


def network_tables(fit: Fit, sums: Mapping[int, float], ranks: int) -> list[Table]:
    """What `bench --network` shows: messages measured and fitted, sums measured and foretold."""
    messages = [
        [f"{size:,}", _us(taken), _us(fit.network.message(size)), f"{1e-6 * size / taken:,.0f}" if size else ""]
        for size, taken in fit.seconds.items()
    ]
    foretold = [
        [f"{size:,}", _us(taken), _us(seconds), name]
        for size, taken in sums.items()
        for seconds, name in [all_reduce(ranks, size, fit.network)]
    ]
    return [
        Table("A message", ["bytes", "measured µs", "fitted µs", "MB/s"], messages),
        Table(f"A sum over {ranks} ranks (MPIGroup.sum)", ["bytes", "measured µs", "foretold µs", "by"], foretold),
    ]


def _us(seconds: float) -> str:
    return f"{1e6 * seconds:,.2f}" if seconds < 1e-4 else f"{1e6 * seconds:,.0f}"


# --- profile -------------------------------------------------------------------------------------------------------


def profile_table(title: str, rows: Sequence[Row], names: tuple[str, str]) -> Table:
    """One row a layer or a type of layer. `names`: what path and type are called here."""
    total = sum(row.seconds for row in rows)
    cells = [
        [
            row.path,
            row.type,
            f"{1000 * row.forward:.2f}",
            f"{1000 * row.backward:.2f}",
            f"{row.seconds / total:.1%}",
            f"{row.flops / row.seconds / 1e9:.1f}" if row.flops else ABSENT,
            f"{row.bytes / 1e6:.1f}" if row.bytes else ABSENT,
            f"{row.bytes / row.seconds / 1e9:.1f}" if row.bytes else ABSENT,
        ]
        for row in rows
    ]
    both = f"{1000 * sum(row.forward for row in rows):.2f}", f"{1000 * sum(row.backward for row in rows):.2f}"
    cells.append(["total", "", *both, *[""] * 4])
    header = [*names, "forward ms", "backward ms", "share", "GFLOP/s", "MB moved", "GB/s"]
    return Table(title, header, cells)
