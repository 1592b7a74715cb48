"""Reports of gradient checks as HTML: the table, a picture of every wrong tensor's error, and the sentence.

The fragments stand in notebooks (`_repr_html_`) and on the page that `minires gradcheck --html` writes. They need no
script and no other file. All text is escaped: it may come from student code.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from minires.backend import Array

if TYPE_CHECKING:
    from minires.gradcheck.file_check import FileReport
    from minires.gradcheck.report import GradReport, TensorReport

COLORS = {"pass": "#00734d", "fail": "#b3261e", "kink": "#8a5a00", "roundoff": "#8a5a00", "vacuous": "#8a5a00"}

MOST_CELLS = 1500
"""A picture shows at most this many entries: of a larger tensor, the first samples or channels."""

CELL = 16
"""Pixels of one entry."""

STYLE = """
.minires {font: 14px/1.45 system-ui, sans-serif; color: #222; max-width: 72em}
.minires table {border-collapse: collapse; margin: .5em 0}
.minires th, .minires td {padding: .2em .7em; text-align: left; border-bottom: 1px solid #ddd}
.minires td.n {text-align: right; font-variant-numeric: tabular-nums}
.minires .say {border-left: 4px solid #b3261e; padding: .4em .8em; background: #fbefee; margin: .7em 0}
.minires figure {margin: .8em 0; overflow-x: auto} .minires figcaption {color: #555}
.minires .hint {color: #555}
"""


def page(title: str, fragments: Sequence[str]) -> str:
    """A whole page of fragments."""
    body = "\n".join(fragments)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"></head>\n'
        f'<body><div class="minires"><h1>{escape(title)}</h1></div>\n{body}\n</body></html>\n'
    )


def fragment(report: GradReport) -> str:
    """One report."""
    parts = [f"<h3>{escape(report.title)}</h3>", _table(report), _verdict(report.verdict)]
    if report.diagnosis:
        hint = f'<div class="hint">Hint: {escape(report.hint)}</div>' if report.hint else ""
        parts.append(f'<div class="say">{escape(report.diagnosis)}{hint}</div>')
    parts += [f"<p>Broken rule: {escape(sentence)}</p>" for sentence in report.offences]
    if report.verdict != "fail" and report.verdict != "pass":
        parts.append(f"<p>{escape(report.reason)}</p>")
    parts += [f'<p class="hint">Note: {escape(note)}</p>' for note in report.all_notes]
    parts += [error_map(t) for t in report.tensors if t.verdict == "fail" and _drawable(t)]
    return _wrapped(parts)


def file_fragment(report: FileReport) -> str:
    """The cases of a file, and the report of the case that says most."""
    rows = [
        f"<tr><td>{escape(c.case)}</td><td>{_verdict(c.verdict, 'b')}</td>"
        f"<td>{'' if c.verdict == 'pass' else escape(c.sentence)}</td></tr>"
        for c in report.cases
    ]
    head = "<tr><th>case</th><th>verdict</th><th>what is wrong</th></tr>"
    parts = [f"<h2>{escape(report.title)}</h2><table>{head}{''.join(rows)}</table>"]
    parts += [f'<p class="hint">Note: {escape(note)}</p>' for note in report.notes]
    worst = report.first_failure
    shown = fragment(worst.report) if worst is not None and worst.report is not None else ""
    return _wrapped(parts) + shown


def summary(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of many checks; the last cell of each row is its verdict."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = []
    for *cells, verdict in rows:
        numbers = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        lines.append(f"<tr>{numbers}<td>{_verdict(verdict, 'b')}</td></tr>")
    return _wrapped([f"<h2>{escape(title)}</h2><table><tr>{head}</tr>{''.join(lines)}</table>"])


def picture(png: bytes, text: str) -> str:
    """A PNG and what it shows."""
    data = base64.b64encode(png).decode()
    image = f'<img style="max-width: 100%" alt="{escape(text)}" src="data:image/png;base64,{data}">'
    return _wrapped([f"<figure>{image}<figcaption>{escape(text)}</figcaption></figure>"])


def error_map(tensor: TensorReport) -> str:
    """Every entry of a wrong tensor as a cell: white where it is right, the redder the larger the error.

    Samples and channels stand side by side as small images. A cell shows its numbers under the pointer.
    """
    yours, right = np.asarray(tensor.yours, float), np.asarray(tensor.right, float)
    with np.errstate(all="ignore"):
        error = np.abs(yours - right)
    largest = float(np.max(error, initial=0.0, where=np.isfinite(error))) or 1.0
    wrong = ~np.isfinite(yours) | (error > max(tensor.bound or 0.0, 1e-9 * largest))  # NaN in right: nobody knows
    blocks = _blocks(yours.shape)
    shown = _cropped(blocks)
    cells = []
    for n, c, i, j in np.ndindex(*shown):
        index = np.unravel_index(np.ravel_multi_index((n, c, i, j), blocks), yours.shape) if yours.ndim else ()
        x, y = (c * (shown[3] + 1) + j) * CELL, (n * (shown[2] + 1) + i) * CELL
        color = _color(error[index], largest) if wrong[index] else "#fff"
        place = ", ".join(str(k) for k in index)
        told = f"({place}): yours {yours[index]:.6g}, right {right[index]:.6g}"
        square = f'x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="{color}"'
        cells.append(f'<rect {square} stroke="#ccc"><title>{told}</title></rect>')
    size = f'width="{shown[1] * (shown[3] + 1) * CELL}" height="{shown[0] * (shown[2] + 1) * CELL}"'
    text = f"{tensor.name}: {int(wrong.sum())} of {wrong.size} entries are wrong"
    text += "" if shown == blocks else f"; the picture shows the first {len(cells)}"
    return (
        f"<figure><figcaption>{escape(text)}{_axes(yours.shape)}</figcaption>"
        f'<svg {size} role="img" aria-label="{escape(text)}">{"".join(cells)}</svg></figure>'
    )


def _drawable(tensor: TensorReport) -> bool:
    return tensor.yours is not None and tensor.right is not None and tensor.yours.shape == tensor.right.shape


def _blocks(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """(rows of blocks, blocks in a row, rows of a block, columns of a block); axes before the last four are joined."""
    last = (1,) * (4 - len(shape)) + tuple(shape[-4:])
    return (last[0] * math.prod(shape[:-4]), *last[1:])


def _cropped(blocks: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """The part of the blocks that fits into MOST_CELLS cells: first fewer rows of blocks, then smaller ones."""
    shown = list(blocks)
    for axis, least in ((0, 1), (1, 1), (2, 30), (3, 30)):
        rest = math.prod(shown) // shown[axis]
        shown[axis] = max(min(shown[axis], least), min(shown[axis], MOST_CELLS // rest))
    return tuple(shown)


def _axes(shape: tuple[int, ...]) -> str:
    if len(shape) == 4:
        return " (a row of images for each index of axis 0, an image for each of axis 1)"
    return " (rows: axis 0, columns: axis 1)" if len(shape) == 2 else ""


def _color(error: float, largest: float) -> str:
    """A red, from light for a small error to full for the largest; NaN and infinity are as wrong as can be."""
    depth = 1.0 if not np.isfinite(error) else 0.25 + 0.75 * min(error / largest, 1.0) ** 0.5
    return f"rgb(255,{255 - int(200 * depth)},{255 - int(215 * depth)})"


def _table(report: GradReport) -> str:
    head = "".join(f"<th>{h}</th>" for h in ("tensor", "shape", "checked", "worst entry"))
    head += "".join(f"<th>{h}</th>" for h in ("yours", "reference", "error", "bound", "verdict"))
    rows = []
    for t in report.tensors:
        cells = (t.name, "x".join(map(str, t.shape)) or "one number", t.coverage, t.worst)
        numbers = [_number(t.analytic, ".6g"), _number(t.reference, ".6g"), _number(t.error, ".1e")]
        numbers.append(_number(t.bound, ".1e"))
        row = "".join(f"<td>{escape(str(cell))}</td>" for cell in cells)
        row += "".join(f'<td class="n">{number}</td>' for number in numbers)
        rows.append(f"<tr>{row}<td>{_verdict(t.verdict, 'b')}</td></tr>")
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _number(value: float | Array | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _verdict(verdict: str, tag: str = "p") -> str:
    shown = f'<b style="color: {COLORS[verdict]}">{verdict}</b>'
    return shown if tag == "b" else f"<p>verdict: {shown}</p>"


def _wrapped(parts: Sequence[str]) -> str:
    return f'<div class="minires"><style>{STYLE}</style>{"".join(parts)}</div>'
