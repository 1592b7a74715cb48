"""The reference: the public names of each package with their signatures and docstrings."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

from minires.site.book.docstrings import markdown

PACKAGES = (
    *("minires.ops", "minires.nn", "minires.init", "minires.optim", "minires.data", "minires.train"),
    *("minires.gradcheck", "minires.theory", "minires.stepper", "minires.checkpoint"),
)
"""In the order of the book; each is a page."""


def reference(package: str) -> str:
    """The page of a package, in Markdown."""
    module = import_module(package)
    parts = [f"# {package}", markdown(inspect.getdoc(module) or "")]
    for name, value in _public(module):
        parts += _entry(name, value)
    return "\n\n".join(parts) + "\n"


def _public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Functions and classes that a user imports from the module: those that it lists, or all that it defines."""
    listed = getattr(module, "__all__", None)
    for name in listed or vars(module):
        value = getattr(module, name)
        own = getattr(value, "__module__", "").startswith(module.__name__)
        if (inspect.isfunction(value) or inspect.isclass(value)) and (listed or own) and not name.startswith("_"):
            yield name, value


def _entry(name: str, value: Any) -> Iterator[str]:
    yield f"## {name}"
    yield f"```python\n{_signature(name, value)}\n```"
    yield _doc(value)
    if inspect.isclass(value):
        for method, function in vars(value).items():
            function = getattr(function, "__func__", function)
            if not method.startswith("_") and inspect.isfunction(function) and inspect.getdoc(function):
                yield f"**{name}.{method}**"
                yield f"```python\n{_signature(method, function)}\n```"
                yield _doc(function)


def _doc(value: Any) -> str:
    """Its own docstring; a dataclass without one would repeat its signature."""
    text = inspect.getdoc(value) or ""
    generated = dataclasses.is_dataclass(value) and text.startswith(f"{value.__name__}(")
    return "" if generated else markdown(text)


def _signature(name: str, value: Any) -> str:
    """The call, on one line or with a line for each parameter."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return f"{name}(...)"
    line = _short(f"{name}{signature}")
    if len(line) <= 100:
        return line
    parameters, keyword_only = [], False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            parameters.append("*")
        keyword_only = keyword_only or parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        parameters.append(str(parameter))
    returns = "" if signature.return_annotation is signature.empty else f" -> {signature.return_annotation}"
    return _short("\n".join([f"{name}(", *(f"    {parameter}," for parameter in parameters), f"){returns}"]))


def _short(signature: str) -> str:
    """Types and functions by their own names, without the modules that they live in."""
    signature = re.sub(r"<(?:class|function) '?([\w.]+)[^>]*>", r"\1", signature)
    return re.sub(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])", "", signature)
