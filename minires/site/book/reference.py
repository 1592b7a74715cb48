"""The reference: the public names of each package with their signatures and docstrings."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from textwrap import dedent
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
    """The call as the source has it, on one line or with a line for each parameter."""
    made = value.__init__ if inspect.isclass(value) else value
    try:
        definition = ast.parse(dedent(inspect.getsource(made))).body[0]
    except (OSError, TypeError):
        definition = None
    if not isinstance(definition, ast.FunctionDef):
        return _generated_signature(name, value)
    parameters = [text for text in _parameters(definition.args) if text != "self"]
    returns = "" if definition.returns is None or inspect.isclass(value) else f" -> {ast.unparse(definition.returns)}"
    return _call(name, parameters, returns)


def _call(name: str, parameters: list[str], returns: str = "") -> str:
    line = f"{name}({', '.join(parameters)}){returns}"
    if len(line) <= 100:
        return line
    return "\n".join([f"{name}(", *(f"    {text}," for text in parameters), f"){returns}"])


def _parameters(arguments: ast.arguments) -> Iterator[str]:
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [*[None] * (len(plain) - len(arguments.defaults)), *arguments.defaults]
    for number, (argument, default) in enumerate(zip(plain, defaults, strict=True), 1):
        yield _parameter(argument, default)
        if number == len(arguments.posonlyargs):
            yield "/"
    if arguments.vararg:
        yield f"*{ast.unparse(arguments.vararg)}"
    elif arguments.kwonlyargs:
        yield "*"
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _parameter(argument, default)
    if arguments.kwarg:
        yield f"**{ast.unparse(arguments.kwarg)}"


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    equals = " = " if argument.annotation else "="
    return ast.unparse(argument) + ("" if default is None else f"{equals}{ast.unparse(default)}")


def _generated_signature(name: str, value: Any) -> str:
    """The call of what has no source of its own, as a dataclass: types and functions without their modules' names."""
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return f"{name}(...)"
    return _call(name, [_without_modules(each) for each in parameters])


def _without_modules(parameter: inspect.Parameter) -> str:
    kind = parameter.annotation
    if kind is not parameter.empty:
        kind = getattr(kind, "__forward_arg__", kind)  # what a NamedTuple makes of a type that is written as text
        kind = kind if isinstance(kind, str) else inspect.formatannotation(kind)
    text = str(parameter.replace(annotation=parameter.empty))
    if kind is not parameter.empty:
        name, equals, default = text.partition("=")
        text = f"{name}: {kind}" + (f" = {default}" if equals else "")
    text = re.sub(r"<class '([\w.]+)'>", r"\1", text)
    text = re.sub(r"<(?:function|factory)[^>]*>", "...", text)
    return re.sub(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])", "", text)
