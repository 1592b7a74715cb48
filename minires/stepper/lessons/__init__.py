"""What `python -m minires step` steps through, one lesson a file: its inputs, and what it says about each line.

A lesson has TITLE, ABOUT (a sentence), MODULES (dotted names of what is recorded), `run()` (the passes) and TALES (who
tells which lines, see `story.Story`).
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

LESSONS = ("conv", "batchnorm", "residual", "relu", "maxpool", "softmax", "linear", "sgd")
"""Names of the lessons; each is a module here."""


def lesson(name: str) -> ModuleType:
    """The lesson of that name. ValueError if there is none."""
    if name not in LESSONS:
        raise ValueError(f"there is no lesson {name!r}; there are {', '.join(LESSONS)}")
    return import_module(f"{__name__}.{name}")
