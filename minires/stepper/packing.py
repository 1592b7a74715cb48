"""JSON that says nothing twice: what a page holds of many like steps, in half the space.

    pack(data) -> {"kinds": [...], "parts": [...], "data": ...}

`kinds` holds the keys of each kind of object, `parts` what occurs more than once. In `parts` and `data`

    [n]             stands for parts[n]
    [-1, a, b, ...] is the list [a, b, ...]
    [k, a, b, ...]  is the object with the keys kinds[k] and these values

and numbers, texts and the like are themselves. A part refers to earlier parts alone, so that one pass reads all of it
(`unpack` in page.js).
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

SHORTEST = 7
"""Letters of what is worth a place among the parts."""


def pack(data: Any) -> dict[str, list]:
    """`data`, made of dicts, lists, tuples and what JSON knows, without repetitions. No dict may be empty."""
    return _Packer(data).packed()


class _Packer:
    def __init__(self, data: Any) -> None:
        self.data, self.times = data, Counter[str]()
        self.kinds: dict[tuple[str, ...], int] = {}
        self.parts: list[Any] = []
        self.numbers: dict[str, int] = {}
        self._count(data)

    def packed(self) -> dict[str, list]:
        data = self._short(self.data)
        return {"kinds": [*map(list, self.kinds)], "parts": self.parts, "data": data}

    def _count(self, value: Any) -> None:
        """How often each text, list and object occurs, those inside of a repeated one counted once."""
        text = _text(value)
        self.times[text] += 1
        if self.times[text] == 1:
            for inner in _inside(value):
                self._count(inner)

    def _short(self, value: Any) -> Any:
        text = _text(value)
        if self.times[text] == 1 or len(text) < SHORTEST or isinstance(value, int | float):
            return self._spelled(value)
        if text not in self.numbers:
            part = self._spelled(value)
            self.numbers[text] = len(self.parts)
            self.parts.append(part)
        return [self.numbers[text]]

    def _spelled(self, value: Any) -> Any:
        if isinstance(value, dict):
            kind = self.kinds.setdefault(tuple(value), len(self.kinds))
            return [kind, *map(self._short, value.values())]
        return [-1, *map(self._short, value)] if isinstance(value, list | tuple) else value


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.values()]
    return [*value] if isinstance(value, list | tuple) else []


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
