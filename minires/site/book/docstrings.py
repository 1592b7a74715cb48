"""Docstrings as Markdown. They are plain text: paragraphs, and indented lines that stand as they are."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from itertools import groupby

from minires.site.book.formulas import typeset

SIGNS = re.compile(r"([\\*_<\[\]$|#])")
"""What Markdown would read as markup."""


def markdown(docstring: str, names: Collection[str] | None = None) -> str:
    """The docstring, as `inspect.cleandoc` gives it, in Markdown.

    names: the identifiers of the code below, for a docstring whose indented lines are formulas, which are then typeset.
    """
    return "\n\n".join(_part(indented, lines, names) for indented, lines in _parts(docstring))


def _parts(docstring: str) -> Iterator[tuple[bool, list[str]]]:
    """(whether indented, lines) of the paragraphs; blank lines inside an indented part belong to it."""
    lines = docstring.strip().split("\n")
    for indented, group in groupby(_blocks(lines), key=lambda block: block[0].startswith("  ")):
        blocks = list(group)
        if indented:
            yield True, "\n\n".join("\n".join(block) for block in blocks).split("\n")
        else:
            yield from ((False, block) for block in blocks)


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    """Runs of lines that are all indented or all not, without the blank ones between them."""
    for _, group in groupby(lines, key=lambda line: (not line.strip(), line.startswith("  "))):
        block = list(group)
        if block[0].strip():
            yield block


def _part(indented: bool, lines: list[str], names: Collection[str] | None) -> str:
    if not indented:
        return "\n".join(_escaped(line) for line in lines)
    if names is not None:
        return f"```{{raw}} html\n{typeset(lines, names)}\n```"
    least = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return "\n".join(["```text", *(line[least:] for line in lines), "```"])


def _escaped(line: str) -> str:
    """`code` stays as it is; all other signs stand for themselves."""
    pieces = re.split(r"(`[^`]+`|\*\*[^*]+\*\*)", line)
    return "".join(piece if i % 2 else SIGNS.sub(r"\\\1", piece) for i, piece in enumerate(pieces))
