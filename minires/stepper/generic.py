"""A tale for any line: what it read on the left, what it wrote on the right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from minires.stepper.document import Track
from minires.stepper.recorder import Record
from minires.stepper.story import Arrow, Move, Panel, Story

MOST = 4
"""Arrays on each side of a picture."""


def tells(record: Record) -> bool:
    """Whether a line is worth a move: it made or changed an array, and is neither a check nor a layer's frame."""
    function, reads = record.function, record.statement.reads
    makes_room = any(name.endswith((".empty", ".empty_like")) for name in reads)
    around = function.name.startswith("check") or function.file.endswith("nn/layer.py")
    return bool(_written(record)) and not makes_room and not around


def tell_line(story: Story, record: Record) -> Iterator[Move]:
    """One move for a line that made or changed an array, none for any other."""
    if not tells(record):
        return
    written = _written(record)
    read = [
        name for name in record.statement.reads if _is_shown(record.before.get(name)) and record.before[name].size > 1
    ][:MOST]
    line = record.function.lines[record.statement.first - record.function.first].strip()
    style = "back" if story.part(record) == "backward" else "plain"
    inputs = []
    for name in read:
        label, cells = f"{name} before" if name in written else name, [whole(record, name, before=True)]
        inputs.append(Panel(record, name, label, before=True, key=f"{name} before", read=cells))
    outputs = [Panel(record, name, _short(name), write=[whole(record, name)]) for name in written]
    yield story.move(
        record,
        f"{record.function.name}: {_short(line, 60)}",
        _sentence(read, written),
        inputs,
        outputs,
        arrows=[Arrow(panel.key, written[0], style=style) for panel in inputs],
    )


def inner_tracks(story: Story, moves: Sequence[Move]) -> list[Track]:
    """The tracks that moves zoom into: the lines that ran inside of what they show."""
    tracks = []
    for move in moves:
        inside = [inner for record in story.inside(move.record) for inner in tell_line(story, record)]
        if move.zoom and inside:
            tracks.append(Track(move.zoom, inside))
    return tracks


def whole(record: Record, name: str, before: bool = False) -> tuple[int, int, int, int]:
    """All cells of the table that shows an array."""
    rows, columns = Panel(record, name, before=before).table().shape
    return 0, 0, rows, columns


def _written(record: Record) -> list[str]:
    return [name for name in record.changed() if _is_shown(record.after[name])][:MOST]


def _is_shown(value: object) -> bool:
    return isinstance(value, np.ndarray)


def _short(text: str, most: int = 34) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _sentence(read: Sequence[str], written: Sequence[str]) -> str:
    made = _listed([_short(name) for name in written])
    return f"This line reads {_listed(read)} and makes {made}." if read else f"This line makes {made}."


def _listed(names: Sequence[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)
