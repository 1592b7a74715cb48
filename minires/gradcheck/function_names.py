"""Which functions of a file are meant, and how they want their arrays and settings.

Students name functions and arguments in many ways. `find_pair` finds forward and backward by name, `bind` finds out
how forward wants its settings: as arguments (`stride`, `pad`, ...), or in a dict (`conv_param`) as CS231n does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from minires.gradcheck.definitions import DEFINITIONS
from minires.gradcheck.runner import Parameter, Seeded

Functions = Mapping[str, Sequence[Parameter]]

ALSO_CALLED = {
    "conv2d": ("conv", "convolution"),
    "linear": ("affine", "dense", "fc", "fullyconnected"),
    "batchnorm": ("bn", "batchnormalization"),
    "leaky_relu": ("lrelu",),
    "max_pool2d": ("maxpool", "maxpooling", "pool"),
    "avg_pool2d": ("avgpool", "averagepool", "meanpool", "avgpooling", "pool"),
    "global_avg_pool2d": ("globalavgpool", "gap", "globalaveragepool", "globalpool"),
    "softmax_cross_entropy": ("crossentropy", "softmaxloss", "softmax", "loss"),
    "mse": ("mseloss", "meansquarederror", "squaredloss", "loss"),
}
"""Other names of an op, without underscores."""

ARGUMENTS = {
    "stride": ("stride", "strides", "s", "step"),
    "padding": ("padding", "pad", "pads", "p"),
    "dilation": ("dilation", "dil"),
    "kernel_size": ("kernel_size", "kernel", "ksize", "k", "pool_size", "window", "size"),
    "slope": ("slope", "alpha", "negative_slope"),
    "eps": ("eps", "epsilon"),
    "p": ("p", "rate", "p_drop", "drop_prob", "prob"),
    "labels": ("labels", "label", "y", "t", "targets", "target", "y_true"),
    "target": ("target", "targets", "t", "y", "y_true", "labels"),
    "rng": ("rng", "generator"),
}
"""What students call the settings of an op."""

DICTS = {
    "conv_param": {"stride": "stride", "pad": "padding"},
    "pool_param": {"pool_height": "kernel_size", "pool_width": "kernel_size", "stride": "stride"},
    "bn_param": {"eps": "eps", "mode": "mode"},
    "dropout_param": {"p": "kept", "mode": "mode", "seed": "seed"},
}
"""The dicts of CS231n's exercises: key -> setting. The p of its dropout is the share that is kept."""


NO_FUNCTIONS = (
    "the file has no functions; expected a pair such as {op}_forward and {op}_backward. The gradients of a layer that "
    "is a class are checked in Python: gradcheck.check_layer(gradcheck.wrap(YourLayer(...)), x)"
)


OF_OTHERS = (
    "Functions that are none of these are checked in Python, on inputs of your own: "
    "gradcheck.check_op(forward, backward, inputs)"
)


# --- names ---------------------------------------------------------------------------------------------------------


def find_pair(functions: Functions, like: str, forward: str | None, backward: str | None) -> tuple[str, str]:
    """The names of forward and backward: those given, else those that sound like the op, else the only pair."""
    if like not in DEFINITIONS:
        raise ValueError(f"like is {like!r}; expected one of {', '.join(DEFINITIONS)}. {OF_OTHERS}")
    if not functions:
        raise ValueError(NO_FUNCTIONS.format(op=like))
    for given in (forward, backward):
        if given is not None and given not in functions:
            raise ValueError(f"there is no function {given!r} in the file; it has {', '.join(functions)}")
    if forward and backward:
        return forward, backward
    pairs = [p for p in _pairs(functions) if forward in (None, p[0]) and backward in (None, p[1])]
    sounding = [p for p in pairs if _plain(p[0]) in _names_of(like)] or [
        p for p in pairs if any(name in _plain(p[0]) for name in _names_of(like))
    ]
    found = sounding or pairs
    if len(found) == 1:
        return found[0]
    if not found:
        raise ValueError(
            f"no pair such as {like}_forward and {like}_backward in the file, which has {', '.join(functions)}; name "
            f"them with --forward and --backward{_in_one(functions, like)}"
        )
    listed = "; ".join(f"{f} and {b}" for f, b in found)
    raise ValueError(f"several pairs could be meant ({listed}); name one with --forward and --backward")


def _in_one(functions: Functions, like: str) -> str:
    """What to do with a loss that returns its gradient along with it, as CS231n's do."""
    alone = [f for f in functions if any(name in _plain(f) for name in _names_of(like))]
    if like not in ("softmax_cross_entropy", "mse") or not alone:
        return ""
    name = alone[0]
    return (
        f". If {name} returns the loss and its gradient together, add these two functions: "
        f"def {like}_forward(x, y): return {name}(x, y) and def {like}_backward(dy, dx): return dy * dx"
    )


def _pairs(functions: Functions) -> list[tuple[str, str]]:
    """Functions whose names differ in forward / backward only."""
    swaps = (("forward", "backward"), ("fwd", "bwd"), ("Forward", "Backward"), ("forward", "backprop"))
    return [(f, f.replace(a, b)) for a, b in swaps for f in functions if a in f and f.replace(a, b) in functions]


def _names_of(like: str) -> tuple[str, ...]:
    return (like.replace("_", ""), *ALSO_CALLED.get(like, ()))


def _plain(name: str) -> str:
    """ "conv_forward_naive" -> "conv": no underscores, nothing that says which of the pair it is."""
    return re.sub(r"forward|fwd|naive|fast|my|student|_", "", name.lower())


def guess_op(functions: Functions) -> str:
    """The op that the names of the functions say."""
    if not functions:
        raise ValueError(NO_FUNCTIONS.format(op="linear"))
    names = {_plain(f) for f, _ in _pairs(functions)}
    exact = [op for op in DEFINITIONS if op.replace("_", "") in names]
    found = exact or [op for op in DEFINITIONS if names & set(ALSO_CALLED.get(op, ()))]
    if len(found) == 1:
        return found[0]
    what = f"could be {' or '.join(found)}" if found else f"are {', '.join(functions)}"
    raise ValueError(f"the functions of the file {what}; say what to check them as with --like. {OF_OTHERS}")


# --- settings ------------------------------------------------------------------------------------------------------


class Bound(NamedTuple):
    """How one forward function takes its arrays and settings."""

    arrays: int
    """How many arrays it takes: without a bias, one less than the op has inputs."""
    positional: tuple[object, ...]
    """What stands behind the arrays: the name of a setting, or a dict of CS231n's by its keys."""
    keywords: dict[str, str]
    """Keyword -> setting."""
    notes: tuple[str, ...]

    @property
    def free(self) -> tuple[str, ...]:
        """The settings that can be chosen in a call."""
        names = [list(p.values()) if isinstance(p, dict) else [p] for p in self.positional]
        return (*(n for group in names for n in group), *self.keywords.values())

    def settings(self, options: dict) -> tuple[list[object], dict[str, object]]:
        """(arguments behind the arrays, keyword arguments) for a call with these options."""
        values = options | {"rng": Seeded(0), "mode": "train", "seed": 0}
        if "p" in options:
            values["kept"] = 1 - options["p"]
        behind = [
            {k: values[n] for k, n in p.items() if n in values} if isinstance(p, dict) else values.get(p)
            for p in self.positional
        ]
        return behind, {k: values[n] for k, n in self.keywords.items() if n in values}


def bind(parameters: Sequence[Parameter], like: str, name: str) -> Bound:
    """How a function with these parameters wants arrays and settings. ValueError for a parameter nobody can fill."""
    inputs, settings = DEFINITIONS[like].inputs, (*settings_of(like), *(("rng",) if like == "dropout" else ()))
    plain = [p for p in parameters if p.kind in ("POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD")]
    if any(p.kind == "VAR_POSITIONAL" for p in parameters) and len(plain) < len(inputs):
        return Bound(len(inputs), (), {}, (f"{name} takes *args: it gets the arrays and no settings",))
    arrays = _arrays(plain, inputs, settings, like)
    behind, needed = [], list(DEFINITIONS[like].required)
    keywords: dict[str, str] = {}
    for p in plain[arrays:]:
        setting = _setting(p.name, settings) or (needed[0] if not p.optional and len(needed) == 1 else None)
        meant: object = DICTS.get(p.name, setting)
        if meant is None and not p.optional:
            raise ValueError(
                f"{name} wants an argument {p.name!r}, which is no setting of {like} "
                f"({', '.join(settings) or 'it has none'}); give it a default, or rename it"
            )
        if p.optional and isinstance(meant, str):
            keywords[p.name] = meant
        elif meant is not None:
            behind.append(meant)
        needed = [n for n in needed if n != meant]
    for p in parameters:
        if p.kind == "KEYWORD_ONLY" and (setting := _setting(p.name, settings)):
            keywords[p.name] = setting
    return Bound(arrays, tuple(behind), keywords, ())


def _arrays(plain: list[Parameter], inputs: tuple[str, ...], settings: tuple[str, ...], like: str) -> int:
    """How many of the first parameters are arrays. A last one that is called like a setting is not the bias."""
    with_bias = inputs[-1] == "bias" and like != "batchnorm"
    if with_bias and (len(plain) < len(inputs) or _is_setting(plain[len(inputs) - 1].name, settings)):
        return len(inputs) - 1
    if len(plain) < len(inputs):
        raise ValueError(f"forward takes {len(plain)} arguments; {like} has the inputs {', '.join(inputs)}")
    return len(inputs)


def _is_setting(name: str, settings: tuple[str, ...]) -> bool:
    return name in DICTS or _setting(name, settings) is not None


def _setting(name: str, settings: tuple[str, ...]) -> str | None:
    return next((s for s in settings if name.lower() in ARGUMENTS.get(s, ())), None)


def settings_of(like: str) -> tuple[str, ...]:
    """The names of the op's settings."""
    return DEFINITIONS[like].required + DEFINITIONS[like].optional
