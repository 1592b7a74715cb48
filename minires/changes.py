"""Has anything been replaced? A model and code, as they were when somebody last looked.

What has been found out about a model, or about code, holds as long as they do. Both are looked at as lists of objects,
compared by identity, which takes a tenth of a millisecond for a network of 20 layers: little enough for every pass.
A change inside an object goes unnoticed, but for the code of a function, and the shape and dtype of a parameter.
"""

import copyreg
import sys
from collections.abc import Hashable, Iterable
from itertools import chain
from operator import attrgetter, is_
from types import FunctionType
from typing import Any

from minires.nn import Layer, Parameter


class ModelAsItWas:
    """The layers of a model, their settings and their parameters, but for the numbers in arrays."""

    def __init__(self, model: Layer) -> None:
        self._layers = [layer for _, layer in model.named_layers()]
        self._parameters = [*dict.fromkeys(parameter for _, parameter in model.named_parameters())]
        self._moving = {"_cache", "_shape", "_remembers"}.union(*(layer.buffers for layer in self._layers))
        self._objects, self._arrays = self._look()
        parts = [part for x in self._objects for part in (x if isinstance(x, tuple) else [x])]
        self._open = any(isinstance(x, tuple) or not isinstance(x, Hashable | slice) for x in parts)

    def holds(self) -> bool:
        """Whether all is as it was. False, too, where layers may lie in a list, which may have changed."""
        objects, arrays = self._look()
        return not self._open and _same(objects, self._objects) and arrays == self._arrays

    def _look(self) -> tuple[list[Any], list[Any]]:
        items = (item for layer in self._layers for item in vars(layer).items() if item[0] not in self._moving)
        arrays = [(p.value.shape, p.value.dtype, type(p.value)) for p in self._parameters]
        return [*map(type, self._layers), *chain.from_iterable(items)], arrays

    def parameters(self) -> list[Parameter]:
        """The model's parameters."""
        return self._parameters


class CodeAsItWas:
    """What is in modules, and in their classes: functions with their code, constants, everything."""

    def __init__(self, names: tuple[str, ...], kinds: Iterable[type] = ()) -> None:
        """names: how the names of the modules begin. kinds: further classes, with those that they inherit from."""
        modules = [module for name, module in [*sys.modules.items()] if name.startswith(names)]
        self.kinds = {base for kind in kinds for base in kind.__mro__}
        self.kinds.update(x for module in modules for x in vars(module).values() if isinstance(x, type))
        for kind in self.kinds:
            copyreg._slotnames(kind)  # what copying the first object of a class would leave in it
        self._scopes = [vars(scope) for scope in (*modules, *self.kinds)]
        self._objects = self._look()
        self._functions = [x for x in self._objects if type(x) is FunctionType]
        self._code = [*map(attrgetter("__code__"), self._functions)]

    def holds(self) -> bool:
        """Whether all is as it was."""
        return _same(self._look(), self._objects) and _same([*map(attrgetter("__code__"), self._functions)], self._code)

    def _look(self) -> list[Any]:
        return [*chain.from_iterable(scope.values() for scope in self._scopes)]


def _same(some: list[Any], others: list[Any]) -> bool:
    """Whether these are the very same objects."""
    return len(some) == len(others) and all(map(is_, some, others))
