"""What a comparison says, as a table for the terminal and as a CSV with every number."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from minires.comparison.cells import Cell, headline

if TYPE_CHECKING:
    from rich.table import Table

CAPTION = (
    "forward: rms of the activations at the last layer (the images have 1). back: rms of the gradients at the first "
    "layer, over that at the last. loss: mean over the last epoch (a guess has log 10 = 2.30). accuracy: on held-out "
    "images; from three seeds the middle one, with the range."
)

COLUMNS = {
    "initializer": "left",
    "forward": "right",
    "back": "right",
    "signal foreseen": "left",
    "measured": "left",
    "training foreseen": "left",
    "happened": "left",
    "loss": "right",
    "accuracy": "right",
}
ESSENTIALS = ("initializer", "training foreseen", "happened", "accuracy")
"""What a terminal shows in which not even the longest words of all columns have room beside each other."""


def table(cells: Sequence[Cell], width: int = 140) -> Table:
    """One row a cell: how much of the signal arrives, what was foreseen of it and of training, and what happened.

    width: of the terminal. Where it is too small the text is folded between words, then columns are left out.
    """
    rows = [(cell, _cells(cell)) for cell in cells]
    words = {title: _longest_word([title, *(row[i] for _, row in rows)]) for i, title in enumerate(COLUMNS)}
    fits = sum(words.values()) + len(words) - 1 <= width
    shown = [i for i, title in enumerate(COLUMNS) if fits or title in ESSENTIALS]
    found = _empty_table(headline(cells), tight=width < WIDE)
    least = {title: words[title] for title in (list(COLUMNS)[i] for i in shown)}
    spare = max(0, width - sum(least.values()) - len(least) + 1) // len(least)
    for title, size in least.items():
        room = {"max_width": size + spare} if width < WIDE else {"no_wrap": title not in FOLDED}
        found.add_column(title, justify=COLUMNS[title], **room)
    network = None
    for cell, row in rows:
        if cell.case.network != network:
            network = cell.case.network
            found.add_section()
            found.add_row(network, style="bold")
        style = {"learned": "green", "learns slowly": None, "diverged": "red"}.get(cell.outcome, "yellow")
        found.add_row(*(row[i] for i in shown), style=style)
    return found


WIDE = 110
FOLDED = ("signal foreseen", "measured", "training foreseen", "happened")
"""From so many columns on, text is folded in these alone."""


def _empty_table(title: str, tight: bool) -> Table:
    from rich import box
    from rich.table import Table

    look = {"padding": 0, "pad_edge": False, "show_edge": False} if tight else {}
    styles = {"title_justify": "left", "title_style": "bold", "caption_justify": "left"}
    return Table(title=title, caption=CAPTION, box=box.SIMPLE_HEAD, **styles, **look)


def _longest_word(texts: Sequence[str]) -> int:
    return max(len(word) for text in texts for word in text.split())


def _cells(cell: Cell) -> list[str]:
    run = cell.first
    gradients = list(run.signal.gradients.values())
    return [
        run.case.name,
        _short(list(run.signal.activations.values())[-1]),
        _short(gradients[0] / gradients[-1] if gradients[-1] else math.nan),
        run.foreseen.verdict,
        str(run.signal),
        run.outlook.word,
        cell.outcome,
        _short(cell.middle.losses[-1]),
        accuracy(cell),
    ]


def _short(number: float) -> str:
    """At most five characters: "0.19", "1.87", "6e+31"."""
    usual = number == 0 or 1e-3 <= abs(number) < 1e3 or not math.isfinite(number)
    return f"{number:.{3 if abs(number) >= 1 else 2}g}" if usual else f"{number:.0e}"


def accuracy(cell: Cell) -> str:
    """ "97%", or of several seeds the middle one with the range, "79% (9-91)"; "NaN" where it diverged."""
    percent = ["NaN" if math.isnan(value) else f"{100 * value:.0f}" for value in cell.accuracies]
    middle = percent[len(percent) // 2]
    unit = "" if middle == "NaN" else "%"
    return f"{middle}{unit}" + (f" ({percent[0]}-{percent[-1]})" if len(percent) > 1 else "")


def foreseen_against_happened(cells: Sequence[Cell]) -> str:
    """How often what was foreseen of training happened, over all runs."""
    found = [run.as_foreseen for cell in cells for run in cell.runs]
    decided = [right for right in found if right is not None]
    undecided = f"undecided in {len(found) - len(decided)} of {len(found)} runs"
    if not decided:
        return f"training, foreseen: {undecided}"
    return f"training, foreseen: right in {sum(decided)} of {len(decided)} runs, {undecided}"


HEADER = (
    *("network", "initializer", "foreseen", "measured", "training_foreseen", "training"),
    *("quantity", "place", "layer", "value"),
)


def to_csv(cells: Sequence[Cell]) -> str:
    """Every number of every cell, one a line: what it is, its place (layer or epoch, from 1; 0: before training).

    The numbers are those of the seed that was asked for; accuracy_by_seed has all of them, the seed as its place.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for cell in cells:
        run = cell.first
        words = run.foreseen.verdict, str(run.signal), run.outlook.word, cell.outcome
        about = [run.case.network, run.case.name, *words]
        by_layer = {
            "activation_rms": run.signal.activations.items(),
            "activation_rms_foreseen": run.foreseen.activations,
            "gradient_rms": run.signal.gradients.items(),
            "gradient_rms_foreseen": run.foreseen.gradients,
        }
        for quantity, values in by_layer.items():
            for place, (layer, value) in enumerate(values, 1):
                writer.writerow([*about, quantity, place, layer, repr(value)])
        for epoch, loss in enumerate(run.losses):
            writer.writerow([*about, "loss", epoch, "", repr(loss)])
        writer.writerow([*about, "accuracy", len(run.losses) - 1, "", repr(run.accuracy)])
        for each in cell.runs:
            writer.writerow([*about, "accuracy_by_seed", each.case.seed, "", repr(each.accuracy)])
    return text.getvalue()
