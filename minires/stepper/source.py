"""Source code as a debugger sees it: which statement a line belongs to, what it reads and what it writes."""

from __future__ import annotations

import ast
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parents[1]


class Statement(NamedTuple):
    """One statement; of a compound one (`for`, `if`, `with`) only its header."""

    first: int
    last: int
    reads: tuple[str, ...]
    """Names it uses: `x`, and `p.value` for an attribute."""
    writes: tuple[str, ...]
    """Names it binds or changes in place; `("return",)` for a return."""
    results: tuple[str, ...] = ()
    """The source text of what it returns: of each part, if it returns a tuple."""


class Function(NamedTuple):
    """The text of a function, as it stands in its file."""

    name: str
    file: str
    first: int
    lines: tuple[str, ...]


def shown_path(path: str | Path) -> str:
    """The path of a file as a page shows it: from the package's folder on, with forward slashes."""
    path = Path(path).resolve()
    return path.relative_to(PACKAGE.parent).as_posix() if path.is_relative_to(PACKAGE.parent) else path.name


@lru_cache
def statements(path: str) -> dict[int, Statement]:
    """Line number -> the innermost statement it belongs to, over a whole file."""
    found: dict[int, Statement] = {}
    for node in ast.walk(ast.parse(Path(path).read_text(encoding="utf-8"))):  # parents come before children
        if isinstance(node, ast.stmt):
            statement = _statement(node)
            found.update(dict.fromkeys(range(statement.first, statement.last + 1), statement))
    return found


@lru_cache
def function_at(path: str, line: int) -> Function:
    """The innermost function around a line of a file. ValueError if there is none."""
    text = Path(path).read_text(encoding="utf-8")
    around = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and _begin(node) <= line <= node.end_lineno
    ]
    if not around:
        raise ValueError(f"line {line} of {shown_path(path)} is in no function")
    node = max(around, key=_begin)
    lines = text.splitlines()[_begin(node) - 1 : node.end_lineno]
    return Function(node.name, shown_path(path), _begin(node), tuple(lines))


def _begin(node: ast.FunctionDef) -> int:
    """Its first line, decorators included."""
    return min(part.lineno for part in (node, *node.decorator_list))


def _statement(node: ast.stmt) -> Statement:
    body = getattr(node, "body", None)
    last = max(node.lineno, body[0].lineno - 1) if body else node.end_lineno
    parts = [
        child
        for field, value in ast.iter_fields(node)
        if field not in ("body", "orelse", "finalbody", "handlers", "decorator_list")
        for child in (value if isinstance(value, list) else [value])
        if isinstance(child, ast.AST)
    ]
    reads: dict[str, None] = {}
    writes: dict[str, None] = {}
    named = [child for part in parts for child in ast.walk(part) if isinstance(child, ast.expr)]
    for child in sorted(named, key=lambda child: (child.lineno, child.col_offset)):  # as they stand in the line
        _sort(child, reads, writes)
    if isinstance(node, ast.AugAssign):
        reads.update(writes)
    results: tuple[str, ...] = ()
    if isinstance(node, ast.Return):
        writes = {"return": None}
        values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
        results = tuple(ast.unparse(value) for value in values if value is not None)
    return Statement(node.lineno, last, tuple(reads), tuple(writes), results)


def _sort(node: ast.expr, reads: dict[str, None], writes: dict[str, None]) -> None:
    """Enter the names of one node of an expression among those that are read, or written."""
    name = _dotted(node)
    if name:
        (reads if isinstance(node.ctx, ast.Load) else writes)[name] = None
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
        base = _dotted(node.value)
        if base:
            writes[base] = None


def _dotted(node: ast.AST) -> str:
    """`x` for a name, `p.value` for an attribute of a name, "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return ""
