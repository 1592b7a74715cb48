"""How each layer of minires changes the law of a signal going forward, and of a gradient coming back.

A rule takes a layer, the `State` at its input and the `Setting` (`state`), and gives the `State` at its output and the
way back for a `Gradient`. The derivations are in `minires.theory.laws`; here they are tied to the layers:

    affine       convolutions and linear layers              activation   ReLU, leaky ReLU, tanh, sigmoid
    batchnorm    BatchNorm                                   pooling      pooling, dropout, layers that change the shape
    blocks       the sum of a residual block, and the stream behind it
    functions    what passes for a function of one Gaussian
"""

from collections.abc import Callable
from typing import Any

from minires import nn
from minires.nn.residual import Subsample
from minires.theory.laws import activations
from minires.theory.rules.activation import activation
from minires.theory.rules.affine import conv, linear
from minires.theory.rules.batchnorm import batchnorm
from minires.theory.rules.pooling import avg_pool, dropout, flatten, global_avg_pool, max_pool, subsample
from minires.theory.rules.state import Backward, NoLaw, Setting, State

RULES: dict[type, Callable[[Any, State, Setting], tuple[State, Backward]]] = {
    nn.ReLU: lambda layer, *at: activation(activations.RELU, *at),
    nn.LeakyReLU: lambda layer, *at: activation(activations.leaky_relu(layer.slope), *at),
    nn.Tanh: lambda layer, *at: activation(activations.TANH, *at),
    nn.Sigmoid: lambda layer, *at: activation(activations.SIGMOID, *at),
    nn.Conv2d: conv,
    nn.Linear: linear,
    nn.BatchNorm2d: batchnorm,
    nn.MaxPool2d: max_pool,
    nn.AvgPool2d: avg_pool,
    nn.GlobalAvgPool2d: global_avg_pool,
    nn.Dropout: dropout,
    nn.Flatten: flatten,
    nn.Identity: lambda layer, state, setting: (state, lambda g: g),
    Subsample: subsample,
}
LAWLESS = {"padding": "same", "ceil_mode": True, "count_include_pad": False}
"""Settings of convolutions and pools without a law."""


def apply(layer: Any, state: State, setting: Setting) -> tuple[State, Backward]:
    """The rule of a layer. Raises NoLaw for a layer of another kind, a subclass with its own forward included."""
    for name, value in LAWLESS.items():
        if getattr(layer, name, None) == value:
            raise NoLaw(f"no law for {type(layer).__name__} with {name}={value!r}")
    for known, rule in RULES.items():
        if is_plain(layer, known):
            return rule(layer, state, setting)
    own = isinstance(layer, nn.LayerNorm | nn.GroupNorm)
    reason = ", which divides each sample by its own spread; measure(model, x) shows what it does" if own else ""
    raise NoLaw(f"no law for {type(layer).__name__}{reason}")


def is_plain(layer: Any, known: type) -> bool:
    """A layer of that kind whose forward pass is the kind's own: a subclass may compute anything."""
    return isinstance(layer, known) and all(
        getattr(type(layer), name, None) is getattr(known, name, None) for name in ("forward", "_forward")
    )
