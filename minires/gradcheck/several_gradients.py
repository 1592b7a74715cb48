"""Many sentences about single gradients, made into few: what is true of several is said once."""

from __future__ import annotations

import re

from minires.gradcheck.hypotheses.comparison import listed


def together(found: dict[str, tuple[str, bool]]) -> list[str]:
    """The sentences about single gradients, the most telling first, and one for all of which the same is true.

    found: name -> (sentence, whether it explains all of the error). "dx and dw are each 5 times what they should be".
    """
    sentences = {name: found[name][0] for name in sorted(found, key=lambda name: _rank(*found[name]))}
    alike: dict[tuple[str, str], list[str]] = {}
    for name, sentence in sentences.items():
        verb, _, rest = sentence.removeprefix(f"{name} ").partition(" ")
        same = sentence.startswith(f"{name} ") and verb in _PLURAL and not re.search(rf"\b{name}\b", rest)
        alike.setdefault((verb, rest) if same else ("", sentence), []).append(name)
    return [
        _of_several(names, verb, rest) if len(names) > 1 else sentences[names[0]]
        for (verb, rest), names in alike.items()
    ]


_PLURAL = {"is": "are", "counts": "count", "leaves": "leave", "has": "have", "holds": "hold", "takes": "take"}
"""Verbs that sentences about one gradient begin with, and their plurals."""


def _of_several(names: list[str], verb: str, rest: str) -> str:
    """A sentence about one gradient, for several: its verb, and its pronouns."""
    pronouns = ("what it should", "what they should"), ("where it is", "where they are"), (", and is", ", and are")
    for one, several in pronouns:
        rest = rest.replace(one, several)
    return f"{listed(names)} {'are each' if verb == 'is' else 'each ' + _PLURAL[verb]} {rest}"


def _rank(sentence: str, explained: bool) -> int:
    """What is explained comes first, then what is wrong in a part only, then what is wrong everywhere."""
    return 0 if explained else 2 if " is wrong everywhere" in sentence else 1
