"""What an optimizer moves, and its schedules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minires.checks.operations import check_number
from minires.checks.wording import in_short, takes


def check_parameters(parameters: Any) -> list[Any]:
    """A model, or a sequence of parameters -> the list of them, each once; ValueError unless there are any."""
    sequence = hasattr(parameters, "__iter__") and not hasattr(parameters, "shape")
    if isinstance(parameters, type) or not (hasattr(parameters, "parameters") or sequence):
        raise TypeError(f"parameters is {in_short(parameters)}; expected a model, or its model.parameters()")
    found = list(parameters.parameters() if hasattr(parameters, "parameters") else parameters)
    if not found:
        raise ValueError("parameters is empty; expected model.parameters()")
    for parameter in found:
        if not hasattr(parameter, "grad") or not hasattr(parameter, "add_grad"):
            raise TypeError(f"parameters holds {in_short(parameter)}; expected a model, or its model.parameters()")
    return list({id(parameter): parameter for parameter in found}.values())


def distinct_names(parameters: Sequence[Any]) -> list[str]:
    """The names that the parameters have now, made different where two models share some: "weight", "weight-2"."""
    names: list[str] = []
    for number, parameter in enumerate(parameters):
        name, copies = parameter.name or str(number), 1
        while name in names:
            copies += 1
            name = f"{parameter.name}-{copies}"
        names.append(name)
    return names


def check_schedule(schedule: Any) -> None:
    """The fields of a learning-rate schedule: TypeError or ValueError unless they are rates, numbers of steps, ..."""
    for name, value in vars(schedule).items():
        if name in ("lr", "final", "start", "gamma"):
            object.__setattr__(schedule, name, check_number(name, value, 0))
        elif name == "steps":
            least = 0 if hasattr(schedule, "schedule") else 1
            check_number(name, value, least)
        elif name == "milestones":
            if isinstance(value, str) or not hasattr(value, "__iter__"):
                raise TypeError(f"milestones is {in_short(value)}; expected steps, as in (1000, 2000)")
            object.__setattr__(schedule, name, tuple(value))  # a generator would be used up by the first step
            for step in schedule.milestones:
                check_number("a milestone", step, 0)
        elif not takes(value, 0):
            raise TypeError(
                f"{name} is {in_short(value)}; expected a function of the step, as in Warmup(Cosine(0.1, 100), 10)"
            )
