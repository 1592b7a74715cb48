"""Every call of the array library in the package, read from its syntax tree: nothing has to run for it to be found."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "minires"
LIBRARY = ("xp", "cupy")
"""The names under which functions of the package hold the array library."""


@dataclass(frozen=True)
class Use:
    """`xp.lib.stride_tricks.as_strided(...)`: name "lib.stride_tricks.as_strided", called or only looked at."""

    name: str
    where: str
    positional: int | None
    """Number of positional arguments; None where it is not called, or called with *arguments."""
    keywords: tuple[str, ...] = ()


def library_uses(source: str, where: str) -> Iterator[Use]:
    """Every `xp.name`, and every `array_namespace(x).name`, of a file."""
    tree = ast.parse(source)
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in inner and (name := _name(node)):
            yield _use(name, f"{where}:{node.lineno}", calls.get(id(node)))


def method_uses(source: str, where: str) -> Iterator[Use]:
    """Every call of a method, of whatever: `x.sum(axis=0)` is Use("sum", ..., keywords=("axis",))."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield _use(node.func.attr, f"{where}:{node.lineno}", node)


def _use(name: str, where: str, call: ast.Call | None) -> Use:
    if call is None:
        return Use(name, where, None)
    starred = any(isinstance(argument, ast.Starred) for argument in call.args)
    keywords = tuple(keyword.arg for keyword in call.keywords if keyword.arg)
    return Use(name, where, None if starred else len(call.args), keywords)


def _name(node: ast.expr) -> str | None:
    """The dotted name behind the library, or None for the attribute of something else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    from_name = isinstance(node, ast.Name) and node.id in LIBRARY
    from_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "array_namespace"
    return ".".join(reversed(parts)) if from_name or from_call else None


def sources(*folders: str) -> Iterator[tuple[str, str]]:
    """(source, path) of the files below these folders of the package, or of all."""
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        if not folders or relative.parts[0].removesuffix(".py") in folders:
            yield path.read_text(), str(relative)
