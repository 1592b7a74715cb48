"""Pretrained weights: from a dictionary of named arrays into a model, with a report of what matched.

minires names its parameters as PyTorch's ResNets for CIFAR do (`layer1.0.conv1.weight`, `bn1.running_mean`). Other
names in use for the same things are translated: what wrappers put in front of all names (`module.`: data-parallel
training, `_orig_mod.`: torch.compile, `model.`: Lightning), the head `fc` for `linear`, the projection `downsample.0/1`
for `shortcut.0/1`. PyTorch's counter `num_batches_tracked` is
passed over. Everything else has to fit exactly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minires.checks import check_model, check_state, flag, match_state


@dataclass
class LoadReport:
    """What `from_pretrained` did. Names are the model's, except in `unexpected`, where they are the file's."""

    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshaped: list[str] = field(default_factory=list)
    """Sentences: name, the shape found, the shape expected; or the dtype, where that is none of weights."""

    @property
    def ok(self) -> bool:
        return not (self.missing or self.unexpected or self.misshaped)

    def __str__(self) -> str:
        lines = [f"{len(self.matched)} arrays matched"]
        for title in ("missing", "unexpected", "misshaped"):
            names = getattr(self, title)
            if names:
                more = f" and {len(names) - 8} more" if len(names) > 8 else ""
                lines.append(f"{len(names)} {title}: {', '.join(names[:8])}{more}")
        return "; ".join(lines)


def from_pretrained(model: Any, state_dict: Mapping[str, np.ndarray], strict: bool = True) -> LoadReport:
    """Loads `state_dict` into the model and reports what matched, what was missing and what was left over.

    strict: anything missing, unexpected, or of another shape or kind raises ValueError (with the report as its text)
    and the model is left as it was. Otherwise what fits is loaded: to transfer all but the head, say.
    """
    own = check_model(model).state_dict()
    given: dict[str, tuple[str, np.ndarray]] = {}
    for name, array in check_state("state_dict", state_dict).items():
        if translate(name) in given:
            raise ValueError(f"state_dict holds both {given[translate(name)][0]} and {name}; expected one of them")
        if not name.endswith("num_batches_tracked"):
            given[translate(name)] = name, array
    missing, unexpected, misshaped = match_state(own, {name: array for name, (_, array) in given.items()})
    for name in own:
        if name in given and (dtype := given[name][1].dtype).kind not in ("f", own[name].dtype.kind):
            misshaped.append(f"{name} has dtype {dtype}; expected floating-point numbers")
    wrong = {sentence.partition(" ")[0] for sentence in misshaped}
    matched = [name for name in own if name in given and name not in wrong]
    report = LoadReport(matched, missing, [given[name][0] for name in unexpected], misshaped)
    if flag("strict", strict) and not report.ok:
        raise ValueError(f"state_dict does not fit the model: {report}; strict=False loads what fits")
    model.load_state_dict({**own, **{name: given[name][1] for name in matched}})
    return report


def translate(name: str) -> str:
    """A name in use for CIFAR ResNets -> minires' name for the same array."""
    parts = re.sub(r"^((module|_orig_mod|model|net)\.)+", "", name).split(".")
    synonyms = {"fc": "linear", "downsample": "shortcut"}
    return ".".join(synonyms.get(part, part) for part in parts)
