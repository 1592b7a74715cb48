"""Initialization of a whole model: by a law, or by procedures that look at the model or at data.

A model is anything with `parameters()` and `named_layers()`; see `nn.layer`.
"""

from typing import Any

from minires.backend import Array, array_namespace
from minires.checks import Rng, check_arrays, check_model, check_number, generator, named, whole
from minires.init import distributions, matrices
from minires.init.distributions import HeNormal, Initializer, Zeros, sample_groups


def by_name(name: Initializer | str) -> Initializer:
    """The initializer of a name such as "he_normal", with its default parameters; an initializer as it is.

    Raises ValueError for an unknown name, TypeError for what is neither.
    """
    known = {
        kind.__name__.lower(): kind
        for kind in (*vars(distributions).values(), *vars(matrices).values())
        if isinstance(kind, type) and issubclass(kind, Initializer)
    }
    return named("initializer", name, known, "sample")


def initialize(model: Any, weight: Initializer | str = HeNormal(), bias: Initializer = Zeros(), rng: Rng = 0) -> None:
    """Draws every parameter of the model anew, in the order of `model.parameters()`, from one generator.

    Weights (two axes or more) follow `weight`, an initializer or the name of one ("he_normal"). BatchNorm's gains
    become 1, everything else follows `bias`, and BatchNorm's running statistics start again.
    """
    rng, weight, bias = generator(rng), by_name(weight), by_name(bias)
    for parameter in check_model(model).parameters():
        value = parameter.value
        if parameter.gain:
            new = Zeros().sample(value.shape, rng, value.dtype) + 1
        elif value.ndim >= 2 and parameter.name.rpartition(".")[2] == "weight":
            new = sample_groups(weight, value.shape, rng, value.dtype, parameter.groups)
        else:
            new = bias.sample(value.shape, rng, value.dtype)
        parameter.value = array_namespace(value).asarray(new)
    for _, layer in model.named_layers():
        layer.reset_buffers()


def zero_gamma(model: Any) -> None:
    """The last BatchNorm of every residual branch starts with a gain of 0: each block is the identity at first.

    Source: Goyal et al. 2017, arXiv:1706.02677, section 5.1. ValueError for a model without such a BatchNorm.
    """
    norms = [block.last_norm() for block in _blocks(model)]
    if not norms or None in norms:
        raise ValueError("model: expected residual blocks with BatchNorm, found none: zero_gamma has nothing to set")
    for norm in norms:
        norm.weight.value = 0 * norm.weight.value


def fixup(model: Any) -> None:
    """Residual networks without BatchNorm: scale the branches down by depth, and end each of them with zeros.

    With L blocks of m convolutions in a branch, all but the last are multiplied by L^(-1/(2m-2)) and the last is
    set to 0, as are the weights of the linear head. Call it after a He initialization.
    Source: Zhang, Dauphin, Ma 2019, arXiv:1901.09321 (its scalar biases and multipliers, 0 and 1 at first, left out).
    """
    blocks = list(_blocks(model))
    if not blocks:
        raise ValueError("model: expected residual blocks, found none: fixup has nothing to scale")
    for block in blocks:
        *first, last = block.branch_convolutions()
        for conv in first:
            conv.weight.value = conv.weight.value * len(blocks) ** (-1 / (2 * len(first)))
        last.weight.value = 0 * last.weight.value
    head = model.parameters()[-2]
    head.value = 0 * head.value


def lsuv(model: Any, x: Array, tolerance: float = 0.02, passes: int = 10) -> dict[str, float]:
    """Layer-sequential unit variance: divides each weight by the standard deviation of what its layer puts out.

    Layer after layer, in the order of the forward pass, until that deviation on the batch x is within `tolerance`
    of 1 (for a layer that is linear in its weight, one division does it). Start from orthogonal weights, as the
    source does. Returns {layer: the deviation found at first}. ValueError for an output that is constant.
    Source: Mishkin, Matas 2015, arXiv:1511.06422.
    """
    xp, tolerance = check_arrays(x=x), check_number("tolerance", tolerance, 0)
    before = {name: array for name, array in check_model(model).state_dict().items() if "running_" in name}
    found: dict[str, float] = {}
    for path in _outputs(model, x):
        for _ in range(whole("passes", passes)):
            layer, output = _outputs(model, x)[path]
            std = float(xp.std(output))
            found.setdefault(path, std)
            if not std > 0:
                raise ValueError(f"layer {path}: its output on x is constant; expected one that varies")
            if abs(std - 1) <= tolerance:
                break
            layer.weight.value = layer.weight.value / std
    model.load_state_dict({**model.state_dict(), **before})
    return found


def _blocks(model: Any) -> list[Any]:
    return [layer for _, layer in check_model(model).named_layers() if hasattr(layer, "branch_convolutions")]


def _outputs(model: Any, x: Array) -> dict[str, tuple[Any, Array]]:
    """{path: (layer, its output on x)} of convolutions and linear layers, in the order of the forward pass."""
    outputs: dict[str, tuple[Any, Array]] = {}

    def note(layer: Any, path: str, direction: str, before: Array, after: Array) -> None:
        if hasattr(layer, "weight") and layer.weight.value.ndim >= 2:
            outputs[path] = layer, after

    with model.observe(note):
        model.forward(x)
    return outputs
