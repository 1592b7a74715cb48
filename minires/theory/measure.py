"""Measure what `predict` foretells: the same table, from real forward and backward passes of many networks.

One network is one sample: its batch and its positions share the weights, so averaging over them does not average the
weights' chance away. The gradient at the output is white noise of mean square 1.
"""

import copy
import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from minires import init, nn
from minires.backend import Array, array_namespace
from minires.checks import check_batch, check_model, check_whole, whole_shape
from minires.init.distributions import HeNormal, Initializer, Zeros
from minires.theory.predict import has_row
from minires.theory.report import QUANTITIES, Quantity, Row, SignalReport


def measure(
    model: nn.Layer,
    x: Sequence[int] | Array,
    *,
    seeds: int = 16,
    weight: Initializer | None = HeNormal(),
    bias: Initializer = Zeros(),
    rng: int = 0,
) -> SignalReport:
    """Mean squares of every layer's output, gradients and weight gradient, averaged over ``seeds`` networks.

    Args:
        model: its architecture, BatchNorm's gains and biases, dtype and device; it is copied, not changed.
        x: the batch, the same for all networks; or its shape, for white noise that each network draws anew.
        seeds: number of networks.
        weight, bias: drawn anew for each, as for `predict`. weight None: the model's own weights, and seeds must be 1.
        rng: network r uses the generator of the seed sequence (rng, r).

    Raises ValueError for a number of networks that makes no sense.
    """
    check_model(model)
    check_whole("seeds", seeds, 1)
    check_whole("rng", rng, 0)
    weight, bias = None if weight is None else init.by_name(weight), init.by_name(bias)
    shape = tuple(x.shape) if check_batch(x) else whole_shape(x)
    model.output_shape(shape)  # complains, before anything is computed, if x does not fit
    if weight is None and seeds != 1:
        raise ValueError(f"seeds is {seeds}; expected 1 or more, and exactly 1 where the weights are kept")
    network = copy.deepcopy(model).train()
    norms = [layer for _, layer in network.named_layers() if isinstance(layer, nn.BatchNorm2d)]
    kept = [(parameter, parameter.value) for norm in norms for parameter in norm.parameters()]  # in every network
    samples: dict[tuple[str, str], list[float]] = defaultdict(list)
    for r in range(seeds):
        generator = np.random.default_rng((rng, r))
        if weight is not None:
            init.initialize(network, weight, bias, generator)
            for parameter, value in kept:
                parameter.value = value
        layers = _one_network(network, x, generator, samples)
    rows = (Row(*layer, **{name: _quantity(samples.get((layer[0], name))) for name in QUANTITIES}) for layer in layers)
    return SignalReport("measured", tuple(rows), shape, seeds, dict(samples))


def _one_network(
    network: nn.Layer, x: Sequence[int] | Array, generator: np.random.Generator, samples: dict[tuple[str, str], list]
) -> list[tuple[str, str, tuple[int, ...]]]:
    """Run it forward and backward, and add a value to every quantity's samples; (path, kind, output shape) by row."""
    if not hasattr(x, "shape"):
        like = network.parameters()[0].value if network.parameters() else np.zeros(1, np.float32)
        x = _noise(like, tuple(x), generator)
    layers: list[tuple[str, str, tuple[int, ...]]] = []

    def note(layer: nn.Layer, path: str, direction: str, before: Array, after: Array) -> None:
        if not has_row(layer):
            return
        if direction == "forward":
            layers.append((path, type(layer).__name__, tuple(after.shape)))
            samples[path, "forward"].append(mean_square(after))
            samples[path, "batch_variance"].append(batch_variance(after))
        else:
            samples[path, "gradient_out"].append(mean_square(before))
            samples[path, "gradient_in"].append(mean_square(after))

    network.zero_grad()
    with network.observe(note):
        y = network.forward(x)
        network.backward(_noise(y, y.shape, generator))
    for path, layer in network.named_layers():
        parameter = getattr(layer, "weight", None)
        if isinstance(parameter, nn.Parameter) and parameter.value.ndim >= 2:
            samples[path, "weight_gradient"].append(mean_square(parameter.grad))
    return layers


def _noise(like: Array, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """White noise of another array's dtype, on its device."""
    return array_namespace(like).asarray(generator.standard_normal(shape).astype(like.dtype))


def mean_square(x: Array) -> float:
    """Mean of x^2, summed in float64."""
    xp = array_namespace(x)
    return float(xp.mean(xp.square(x), dtype=np.float64))


def batch_variance(x: Array) -> float:
    """Biased variance over (N, H, W) within a channel, or over N within a unit, averaged over channels."""
    xp = array_namespace(x)
    axes = (0, 2, 3) if x.ndim == 4 else (0,)
    return float(xp.mean(xp.var(x, axis=axes, dtype=np.float64)))


def _quantity(values: list[float] | None) -> Quantity:
    if not values:
        return Quantity(math.nan)
    mean = float(np.mean(values))
    spread = float(np.std(values, ddof=1)) / abs(mean) if len(values) > 1 and mean else math.nan
    return Quantity(mean, spread)
