"""A page: moves and the numbers they name, written out as JSON into one HTML file that needs nothing else."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np

from minires.stepper.recorder import Record, unwritten
from minires.stepper.story import Arrow, Move, Panel, look_up

LARGEST_ROWS, LARGEST_COLUMNS = 12, 16
"""Rows and columns of an array that a page prints; of a larger one it prints the first."""

TOKEN = re.compile(r"\{\{(\d+)\|(.*?)\|([\d,]*)\|(before|after)\}\}")


PARTS = ("page.html", "page.css", "picture.js", "page.js")


@dataclass(frozen=True)
class Track:
    """A row of moves that are stepped through: of one op, or of a whole network."""

    name: str
    moves: Sequence[Move]


@dataclass(frozen=True)
class Page:
    """What a page is made of. The first track is where it starts; a move's `zoom` names another one."""

    title: str
    about: str
    records: Sequence[Record]
    tracks: Sequence[Track]


def shown(value: Any) -> str:
    """A number as every page prints it: whole numbers whole, others to three significant digits."""
    if isinstance(value, bool | np.bool_):
        return "1" if value else "0"
    value = float(value)
    if np.isnan(value):
        return "NaN"
    if np.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:.0f}" if value.is_integer() and abs(value) < 1e6 else f"{value:.3g}"
    return "0" if text in ("-0", "0") else text.replace("-", "−")


def beyond(known: tuple[str, int] | None, shape: tuple[int, int]) -> np.ndarray:
    """Which cells of a table a `Panel.known` hides."""
    if known is None:
        return np.zeros(shape, bool)
    rows, columns = np.indices(shape)
    kind, limit = known
    return {"row": rows, "column": columns, "cell": rows * shape[1] + columns}[kind] >= limit


def scalar_text(value: Any) -> str:
    """A variable that is no array: a number, a truth, a short text or a tuple of whole numbers."""
    if isinstance(value, tuple):
        return f"({', '.join(map(shown, value))})"
    return repr(value) if isinstance(value, bool | str) else shown(value)


def rich_text(text: str, records: Sequence[Record]) -> str:
    """A move's text as HTML: numbers looked up, `code` set as code."""
    found = TOKEN.sub(lambda match: f"\0{match.group(0)}\0", text).split("\0")
    out = []
    for i, part in enumerate(found):
        if i % 2:
            name = html.escape("|".join(TOKEN.fullmatch(part).groups()))
            out.append(f'<span class="n" data-ref="{name}">{plain_text(part, records)}</span>')
        else:
            out.append(html.escape(part))
    return re.sub(r"`(.+?)`", r"<code>\1</code>", "".join(out)).replace("\n", "<br>")


def plain_text(text: str, records: Sequence[Record]) -> str:
    """A move's text with its numbers, without any markup."""

    def number(match: re.Match) -> str:
        record, name, index, when = match.groups()
        value = np.asarray(look_up(records[int(record)], name, when == "before"))
        return shown(value[tuple(int(i) for i in index.split(",")) if index else ()])

    return TOKEN.sub(number, text).replace("`", "")


def formula_html(formula: str) -> str:
    """`y_{o,k} = W_o x^2` with its indices set low and its exponents high."""
    text = html.escape(formula)
    for sign, tag in (("_", "sub"), (r"\^", "sup")):
        text = re.sub(sign + r"(?:\{(.*?)\}|(\w)(?!\w))", lambda m, tag=tag: f"<{tag}>{m[1] or m[2]}</{tag}>", text)
    return text


@dataclass
class Document:
    """What a page holds, as plain data: each text of a function, plane of numbers and record once."""

    records: Sequence[Record]
    functions: list[dict] = field(default_factory=list)
    planes: list[dict] = field(default_factory=list)
    lines: list[dict] = field(default_factory=list)
    _known: dict[Any, int] = field(default_factory=dict)

    def data(self, page: Page) -> dict:
        """All of the page as JSON can hold it."""
        numbers = {track.name: i for i, track in enumerate(page.tracks)}
        tracks = [
            {
                "name": track.name,
                "steps": [self._step(move) | {"zoom": numbers.get(move.zoom, "")} for move in track.moves],
            }
            for track in page.tracks
        ]
        return {
            "title": page.title,
            "functions": self.functions,
            "planes": self.planes,
            "lines": self.lines,
            "tracks": tracks,
        }

    def _once(self, key: Any, shelf: list[dict], make: Any) -> int:
        if key not in self._known:
            made = make()
            self._known[key] = len(shelf)
            shelf.append(made)
        return self._known[key]

    def _step(self, move: Move) -> dict:
        plain = plain_text(move.text, self.records)
        return {
            "line": self._line(move.record),
            "part": move.part,
            "title": plain_text(move.title, self.records),
            "text": rich_text(move.text, self.records),
            "say": plain,
            "formula": formula_html(move.formula),
            "groups": [[self._panel(panel) for panel in group] for group in move.groups],
            "arrows": [self._arrow(arrow) for arrow in move.arrows],
            "path": [[float(f"{value:.4g}") for value in point] for point in move.path],
            "bowl": list(move.bowl),
        }

    def _arrow(self, arrow: Arrow) -> dict:
        label = rich_text(arrow.label, self.records)
        return {"start": arrow.start, "end": arrow.end, "label": label, "style": arrow.style}

    def _panel(self, panel: Panel) -> dict:
        axes = panel.axes()
        array = panel.array()
        when = "before" if panel.before else "after"
        return {
            "key": panel.key or panel.name,
            "label": panel.label or panel.name,
            "plane": self._plane(panel),
            "shape": size_of(array),
            "ref": f"{panel.record.index}|{panel.name}|{axes}|{when}",
            "read": list(map(list, panel.read)),
            "write": list(map(list, panel.write)),
        }

    def _plane(self, panel: Panel) -> int:
        """The texts of a table, "" where a number is not known yet."""
        whole = panel.table()
        of = whole.shape
        whole = whole[:LARGEST_ROWS, :LARGEST_COLUMNS]
        hidden = unwritten(whole) | beyond(panel.known, of)[:LARGEST_ROWS, :LARGEST_COLUMNS]
        rows = tuple(
            tuple("" if skip else shown(value) for value, skip in zip(*pair, strict=True))
            for pair in zip(whole, hidden, strict=True)
        )
        return self._once(("plane", of, rows), self.planes, lambda: {"rows": rows, "of": of})

    def _line(self, record: Record) -> int:
        """The line that ran, for the page's list of them: its place, and what its function's variables hold."""

        def made() -> dict:
            return {
                "function": self._function(record),
                "first": record.statement.first,
                "last": record.statement.last,
                "visit": record.visit,
                "callers": [[function.name, line] for function, line in record.callers],
                "variables": [
                    self._variable(record, name) for name, value in record.after.items() if value is not None
                ],
            }

        return self._once(("line", record.index), self.lines, made)

    def _function(self, record: Record) -> int:
        function = record.function
        return self._once(("function", function), self.functions, function._asdict)

    def _variable(self, record: Record, name: str) -> dict:
        value = record.after[name]
        entry = {"name": name, "changed": name in record.changed()}
        if not isinstance(value, np.ndarray):
            return entry | {"text": scalar_text(value), "ref": f"{record.index}|{name}||after"}
        panel = Panel(record, name)
        return entry | {
            "plane": self._plane(panel),
            "shape": size_of(value),
            "ref": f"{record.index}|{name}|{panel.axes()}|after",
        }


def size_of(array: np.ndarray) -> str:
    """`(2, 1, 3, 3)` as 2×1×3×3."""
    return "×".join(map(str, array.shape))


def to_html(page: Page) -> str:
    """The page as the text of one HTML file."""
    data = Document(page.records).data(page)
    parts = {name: (files(__package__) / name).read_text(encoding="utf-8") for name in PARTS}
    filled = {
        "<!--title-->": html.escape(page.title),
        "<!--about-->": html.escape(page.about),
        "/*style*/": parts["page.css"],
        "/*script*/": parts["picture.js"] + parts["page.js"],
        "<!--data-->": json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/"),
    }
    pattern = re.compile("|".join(map(re.escape, filled)))
    return pattern.sub(lambda match: filled[match.group(0)], parts["page.html"])
