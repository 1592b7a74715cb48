"""What the search for a fault starts from (`Case`) and ends with (`Finding`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from minires.backend import Array
from minires.gradcheck.jacobians import Jacobians


@dataclass
class Case:
    """A failing check, with all that is known about it."""

    names: list[str]
    """Of the inputs."""
    inputs: tuple[Array, ...]
    dy: Array
    y: Array
    gradients: list[Array | None]
    """As they were returned; none at all where y has the wrong shape already."""
    numeric: list[Array | None]
    """The whole numerical gradient of each input, where every entry was measured."""
    bounds: list[Array]
    """How exactly each entry is known: an array of the input's shape, or one number."""
    failing: list[bool]
    """Of each gradient."""
    like: str | None = None
    options: dict = field(default_factory=dict)
    y_bound: float = 0.0
    y_failing: bool = False
    broken: list[str] = field(default_factory=list)
    """Names of the rules that were broken, see `rules.py`."""
    rerun: Callable[[tuple[Array, ...]], tuple[Array | None, ...]] | None = None
    """The gradients of the function at other inputs, with the same dy."""

    evidence: Jacobians | None = None
    """What more can be asked of the functions."""

    @property
    def outputs(self) -> list[Array | None]:
        """y and the gradients: what a fault has to reproduce."""
        return [self.y, *self.gradients]

    @property
    def tolerances(self) -> list[Array]:
        return [np.array(self.y_bound), *self.bounds]


@dataclass
class Finding:
    """The diagnosis, and the catalogue's fault behind it, if it is one."""

    sentence: str
    fault: str | None = None
    alike: list[str] = field(default_factory=list)
    hint: str | None = None
    complete: bool = True
    """Whether all that fails is explained."""
