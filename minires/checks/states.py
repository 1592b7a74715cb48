"""Dictionaries of arrays by name, as `state_dict` gives them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from minires.backend import Array, array_namespace, to_device
from minires.checks.wording import in_short


def check_state(name: str, state: Mapping[str, Array]) -> Mapping[str, Array]:
    """TypeError unless `state` is a dictionary of arrays by name."""
    if isinstance(state, type) or not isinstance(state, Mapping):
        raise TypeError(f"{name} is {in_short(state)}; expected a dictionary of arrays, as from model.state_dict()")
    for key, value in state.items():
        if not isinstance(key, str):
            raise TypeError(f"{name}: a key is {in_short(key)}; expected names")
        if isinstance(value, type) or not hasattr(value, "shape") or not hasattr(getattr(value, "dtype", None), "kind"):
            raise TypeError(f"{name}: {key} is {in_short(value)}; expected an array, as from np.asarray")
        try:
            array_namespace(value)
        except TypeError as error:
            raise TypeError(f"{name}: {key}: {error}") from None
    return state


def match_state(own: Mapping[str, Array], given: Mapping[str, Array]) -> tuple[list[str], list[str], list[str]]:
    """How a state fits: the names missing in `given`, its unexpected names, and a sentence for each wrong shape."""
    check_state("state", given)
    missing, unexpected = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    shapes = {name: (tuple(given[name].shape), tuple(own[name].shape)) for name in own if name in given}
    misshaped = [f"{name} has shape {was}; expected {right}" for name, (was, right) in shapes.items() if was != right]
    return missing, unexpected, misshaped


def no_name_twice(named: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The same pairs; ValueError where one name stands for two things: a dictionary of them would lose one."""
    known: dict[str, Any] = {}
    for name, thing in named:
        if known.setdefault(name, thing) is not thing:
            raise ValueError(
                f"{name} is the name of two parameters; expected a name of its own for each (a list's 0 and a "
                "dictionary's '0' are one name, and a dot stands between the names in a path)"
            )
        yield name, thing


def convert_state(
    own: Mapping[str, Array], given: Mapping[str, Array], parameters: Iterable[tuple[str, Any]] = ()
) -> dict[str, Array]:
    """`given` in the dtype and on the device of `own`; ValueError or TypeError unless it fits exactly.

    parameters: (name, parameter) of a model. One that has two names has the same values under both.
    """
    missing, unexpected, misshaped = match_state(own, given)
    if missing or unexpected:
        raise ValueError(
            f"state: missing {missing or 'nothing'}, unexpected {unexpected or 'nothing'}; expected exactly the names "
            "of state_dict() (init.from_pretrained loads weights that fit in part)"
        )
    if misshaped:
        raise ValueError(f"state: {'; '.join(misshaped)}")
    for name, value in own.items():
        if given[name].dtype.kind not in ("f", value.dtype.kind):
            raise TypeError(f"state: {name} has dtype {given[name].dtype}; expected floating-point numbers")
    new = {name: to_device(given[name], array_namespace(v)).astype(v.dtype) for name, v in own.items()}
    first: dict[int, str] = {}
    for name, parameter in parameters:
        other = first.setdefault(id(parameter), name)
        if other != name and not bool((new[other] == new[name]).all()):
            raise ValueError(f"state: {other} and {name} are one parameter of the model; expected the same values")
    return new
