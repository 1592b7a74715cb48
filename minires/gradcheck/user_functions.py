"""At the door: anybody's forward and backward, and a sentence for everything that is not as it has to be.

    forward(*inputs) -> (y, cache)          backward(dy, cache) -> gradients, one for each input

What makes a check impossible (whole numbers as inputs, no cache, too few gradients, an exception inside, randomness)
raises TypeError or ValueError. What is merely wrong (a shape, a NaN, dy changed in place) is left for the report.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import numpy as np

from minires.backend import Array, to_numpy
from minires.gradcheck.layouts import OtherShape


def prepare_inputs(inputs: Array | Sequence[Array | None]) -> tuple[list[Array | None], list[str]]:
    """The inputs as float64 copies (None for an absent bias stays None), and notes on what was converted.

    TypeError for whole numbers and other things that have no derivative, ValueError for NaN or an empty array.
    """
    if not isinstance(inputs, tuple | list):
        inputs = (inputs,)
    if not any(a is not None for a in inputs):
        raise ValueError("inputs is empty; expected the arrays that forward takes, as in inputs=(x, weight, bias)")
    prepared: list[Array | None] = []
    notes = []
    for number, given in enumerate(inputs):
        name = f"inputs[{number}]"
        if given is None:
            prepared.append(None)
            continue
        array = to_numpy(given) if hasattr(given, "dtype") else np.asarray(given)
        if array.dtype.kind in "iub":
            raise TypeError(
                f"{name} holds whole numbers ({array.dtype}), which have no small steps: convert it, as in "
                "x.astype(np.float64). If it holds labels, give them to the function itself, as in "
                'forward=lambda x: loss_forward(x, labels), and options={"labels": labels}'
            )
        if array.dtype.kind != "f":
            raise TypeError(f"{name} is {array.dtype}; expected an array of float64")
        if array.size == 0:
            raise ValueError(f"{name} has shape {array.shape}: it is empty; expected at least one number")
        if not np.all(np.isfinite(array)):
            raise ValueError(f"{name} holds NaN or infinite numbers; expected finite ones")
        if array.dtype != np.float64:
            notes.append(f"{name} was converted from {array.dtype} to float64: float32 is too coarse to check in")
        prepared.append(array.astype(np.float64))
    return prepared, notes


def input_names(forward: Callable, count: int, known: Sequence[str] = ()) -> list[str]:
    """What to call the inputs: the op's own names, forward's parameters, or numbers."""
    if len(known) >= count:
        return list(known[:count])
    try:
        parameters = inspect.signature(forward).parameters.values()
    except (TypeError, ValueError):
        parameters = ()
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(named) >= count:
        return named[:count]
    return ["x"] if count == 1 else [f"input{i}" for i in range(count)]


class Subject:
    """Somebody's pair of functions, called with care."""

    def __init__(self, forward: Callable, backward: Callable, slots: list[Array | None]) -> None:
        self._forward, self._backward = forward, backward
        self._present = [a is not None for a in slots]
        """Which arguments are arrays; the others stay None."""

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, object]:
        """(y, cache) for the arrays that are present. y is an array, complex for complex inputs."""
        arrays = iter(inputs)
        arguments = [next(arrays) if present else None for present in self._present]
        result = self._call("forward", self._forward, *arguments)
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise ValueError(f"forward returned {_described(result)}; expected (y, cache): {_advice(result)}")
        y = np.asarray(result[0])
        if y.dtype.kind not in "fc":
            raise TypeError(
                f"forward returned a y of dtype {y.dtype}; expected an array of floats"
                + (": results of astype(int), round or a comparison have no gradient" if y.dtype.kind in "iub" else "")
            )
        if y.size == 0:
            raise ValueError(f"forward returned a y of shape {y.shape}, which is empty; check the sizes of the inputs")
        return y, result[1]

    def backward(self, dy: Array, cache: object) -> tuple[Array | None, ...]:
        """The gradients of the arrays that are present, as they were returned; None where one is missing."""
        upstream = float(dy) if dy.ndim == 0 else dy
        hint = " (the cache that forward returned is None: put there what backward needs)" if cache is None else ""
        result = self._call("backward", self._backward, upstream, cache, hint=hint)
        if result is None:
            raise ValueError(
                "backward returned nothing (None): is there a return at its end, as in return dx, dweight?"
            )
        if isinstance(result, dict):
            raise ValueError(
                f"backward returned a dict with {', '.join(map(str, result))}; expected a tuple of gradients in the "
                "order of forward's inputs"
            )
        gradients = list(result) if isinstance(result, tuple | list) else [result]
        return self._fitted(gradients)

    def _fitted(self, gradients: list[object]) -> tuple[Array | None, ...]:
        slots, present = len(self._present), sum(self._present)
        if len(gradients) > slots and all(g is None for g in gradients[slots:]):
            gradients = gradients[:slots]  # (dx, dweight, None) from an op called without a bias
        if len(gradients) == slots:
            gradients = [g for g, here in zip(gradients, self._present, strict=True) if here]
        if len(gradients) != present:
            which = "too few" if len(gradients) < present else "too many"
            raise ValueError(
                f"backward returned {len(gradients)} gradient{'s' * (len(gradients) != 1)} for {present} inputs, "
                f"{which}; expected one for each, in the order of forward's inputs, as in return dx, dweight, dbias"
            )
        return tuple(_as_gradient(g, i) for i, g in enumerate(gradients))

    def _call(self, name: str, function: Callable, *arguments: object, hint: str = "") -> object:
        try:
            with np.errstate(all="ignore"):
                return function(*arguments)
        except OtherShape:
            raise
        except Exception as error:
            called = f"dy of shape {np.shape(arguments[0])}, cache"
            if name == "forward":
                called = ", ".join("None" if a is None else f"shape {np.shape(a)}" for a in arguments)
            raise ValueError(
                f"{name}({called}) raised {type(error).__name__}: {error}{hint}. The check can start once {name} runs"
            ) from error


def _as_gradient(gradient: object, number: int) -> Array | None:
    if gradient is None:
        return None
    array = np.asarray(gradient)
    if array.dtype.kind not in "fciub":
        raise TypeError(f"gradient {number} that backward returned is {_described(gradient)}; expected an array")
    return array


def _described(value: object) -> str:
    if value is None:
        return "nothing (None)"
    if isinstance(value, tuple | list):
        return f"{len(value)} values"
    return f"one array of shape {np.shape(value)}" if hasattr(value, "shape") else f"a {type(value).__name__}"


def _advice(value: object) -> str:
    if value is None:
        return "is there a return at its end?"
    if isinstance(value, tuple | list):
        return "put all that backward needs into one cache, as in return y, (x, weight)"
    return "return what backward needs as well, as in return y, (x, weight)"


def check_repeatable(subject: Subject, inputs: tuple[Array, ...], y: Array) -> None:
    """ValueError if forward gives another y for the same inputs: no difference of two calls would mean anything."""
    again, _ = subject.forward(tuple(a.copy() for a in inputs))
    if again.shape != y.shape or not np.allclose(again, y, rtol=1e-9, atol=0, equal_nan=True):
        raise ValueError(
            "forward gave two different results for the same inputs: it draws random numbers, or keeps state. Give it "
            "a generator of a fixed seed, as in forward=lambda x: dropout_forward(x, 0.5, rng=np.random.default_rng(0))"
        )
