"""A page: moves and the numbers they name, written out as JSON into one HTML file that needs nothing else."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from minires.stepper.packing import pack
from minires.stepper.recorder import Record, unwritten
from minires.stepper.story import Arrow, Box, Move, Panel, look_up

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
    largest: tuple[int, int] = (12, 16)
    """Rows and columns of an array that are printed; of a larger one these are the first."""


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


class Document:
    """What a page holds, as plain data. What many steps share stands on a shelf once, and they give its number."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.shelves: dict[str, list] = {name: [] for name in ("functions", "callers", "planes", "values", "lines")}
        self._numbers: dict[tuple[str, str], int] = {}
        self._tables: dict[tuple, int] = {}

    def data(self) -> dict:
        """All of the page as JSON can hold it."""
        numbers = {track.name: i for i, track in enumerate(self.page.tracks)}
        tracks = [
            {
                "name": track.name,
                "steps": [self._step(move) | {"zoom": numbers.get(move.zoom, "")} for move in track.moves],
            }
            for track in self.page.tracks
        ]
        return {"title": self.page.title, **self.shelves, "tracks": tracks}

    def _once(self, shelf: str, content: Any) -> int:
        """The number of some content on a shelf, put there if it is new."""
        key = shelf, json.dumps(content)
        if key not in self._numbers:
            self._numbers[key] = len(self.shelves[shelf])
            self.shelves[shelf].append(content)
        return self._numbers[key]

    def _step(self, move: Move) -> dict:
        step = {
            "line": self._line(move.record),
            "part": move.part,
            "title": plain_text(move.title, self.page.records),
            "text": rich_text(move.text, self.page.records),
            "formula": formula_html(move.formula),
            "groups": [[self._panel(panel) for panel in group] for group in move.groups],
            "arrows": [self._arrow(arrow) for arrow in move.arrows],
        }
        if move.path:
            step["path"] = [[float(f"{value:.4g}") for value in point] for point in move.path]
            step["bowl"] = list(move.bowl)
        return step

    def _arrow(self, arrow: Arrow) -> dict:
        label = rich_text(arrow.label, self.page.records)
        return {"start": arrow.start, "end": arrow.end, "label": label, "style": arrow.style}

    def _panel(self, panel: Panel) -> dict:
        when = "before" if panel.before else "after"
        return {
            "key": panel.key or panel.name,
            "label": panel.label or panel.name,
            "plane": self._plane(panel),
            "shape": extent_of(panel),
            "ref": f"{panel.record.index}|{panel.name}|{panel.axes()}|{when}",
            "read": self._boxes(panel, panel.read),
            "write": self._boxes(panel, panel.write),
        }

    def _boxes(self, panel: Panel, boxes: Sequence[Box]) -> list[Box]:
        """The boxes, as far as they lie within what is printed of a table."""
        rows, columns = map(min, panel.table().shape, self.page.largest)
        return [(r, c, min(h, rows - r), min(w, columns - c)) for r, c, h, w in boxes if r < rows and c < columns]

    def _plane(self, panel: Panel) -> int:
        """The number of a table, made once for each array of the recording (these live as long as the page)."""
        key = id(look_up(panel.record, panel.name, panel.before)), panel.axes(), panel.known
        if key not in self._tables:
            self._tables[key] = self._once("planes", self._table(panel))
        return self._tables[key]

    def _table(self, panel: Panel) -> dict:
        """The texts of a table, "" where a number is not known yet."""
        whole = panel.table()
        of = whole.shape
        part = tuple(map(slice, self.page.largest))
        whole, hidden = whole[part], unwritten(whole[part]) | beyond(panel.known, of)[part]
        rows = tuple(
            tuple("" if skip else shown(value) for value, skip in zip(*pair, strict=True))
            for pair in zip(whole, hidden, strict=True)
        )
        return {"rows": rows, "of": of}

    def _line(self, record: Record) -> int:
        """The line that ran: its place, who called, and what its function's variables hold."""
        names = [name for name, value in record.after.items() if value is not None]
        return self._once(
            "lines",
            {
                "record": record.index,
                "function": self._once("functions", record.function._asdict()),
                "first": record.statement.first,
                "last": record.statement.last,
                "callers": self._once("callers", [[function.name, line] for function, line in record.callers]),
                "variables": [self._variable(record, name) for name in names],
                "changed": [names.index(name) for name in record.changed() if name in names],
            },
        )

    def _variable(self, record: Record, name: str) -> int:
        value = record.after[name]
        if not isinstance(value, np.ndarray):
            return self._once("values", {"name": name, "text": scalar_text(value)})
        panel = Panel(record, name)
        shown_as = {"plane": self._plane(panel), "shape": extent_of(panel), "view": panel.axes()}
        return self._once("values", {"name": name, **shown_as})


def size_of(array: np.ndarray) -> str:
    """`(2, 1, 3, 3)` as 2×1×3×3."""
    return "×".join(map(str, array.shape))


def extent_of(panel: Panel) -> str:
    """The shape of a panel's array and, where it shows a part of it alone, which: `4×4×8×8, here [0, 0, :, :]`."""
    array, parts = panel.array(), panel.axes().split(",")
    if all(part in "rc" or size == 1 for part, size in zip(parts, array.shape, strict=False)):
        return size_of(array)
    return f"{size_of(array)}, here [{', '.join(':' if part in 'rc' else part for part in parts)}]"


def to_html(page: Page) -> str:
    """The page as the text of one HTML file."""
    data = pack(Document(page).data())
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
