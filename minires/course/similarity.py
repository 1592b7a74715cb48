"""Near-identical submissions, by their normalized syntax trees: other names, comments and layout make no difference.

Each function becomes the sequence of its nodes; a file is the set of all runs of `RUN` nodes in it. Two files are as
alike as the share of runs that they have in common (Jaccard's index). Short files are alike by nature, so files with
fewer than `LEAST` runs are not compared.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from minires.course.submissions import LONGEST

RUN = 14
LEAST = 40
ALIKE = 0.85
"""From here on two files are shown to the instructor. It is a reason to look, no proof."""


def fingerprint(text: str) -> frozenset[int]:
    """The runs of nodes of a file; empty where it does not parse, or is too long to be taken apart."""
    if len(text) > LONGEST:
        return frozenset()
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset()
    nodes: list[str] = []
    try:
        for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)):
            nodes += _sequence(function)
    except RecursionError:
        return frozenset()
    return frozenset(hash(tuple(nodes[i : i + RUN])) for i in range(len(nodes) - RUN + 1))


def _sequence(function: ast.FunctionDef) -> Iterator[str]:
    """The kinds of nodes, with attributes and constants, without names and without the docstring."""
    for statement in function.body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        for node in _in_order(statement):
            if isinstance(node, ast.Attribute):
                yield f".{node.attr}"
            elif isinstance(node, ast.Constant):
                yield "text" if isinstance(node.value, str) else repr(node.value)[:20]
            elif not isinstance(node, ast.expr_context | ast.Name):
                yield type(node).__name__


def _in_order(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _in_order(child)


def alike(one: frozenset[int], two: frozenset[int]) -> float:
    """Jaccard's index, 0 where one of the two is too short."""
    if min(len(one), len(two)) < LEAST:
        return 0.0
    return len(one & two) / len(one | two)


def near_copies(prints: Mapping[str, frozenset[int]]) -> list[tuple[float, str, str]]:
    """Pairs of files that are nearly identical, the most alike first."""
    names = sorted(prints)
    pairs = [(round(alike(prints[a], prints[b]), 3), a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    return sorted((p for p in pairs if p[0] >= ALIKE), key=lambda p: (-p[0], p[1], p[2]))
