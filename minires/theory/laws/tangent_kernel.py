"""The tangent kernel at initialization: how far a step of gradient descent carries a network's outputs.

One output f_k of a network, for one sample, changes by <df_k/dW, dW> when the weights do. The sum of squares

    T = sum over layers of T_l,    T_l = mean over samples and outputs k of |df_k/dW_l|^2

is the mean diagonal of the neural tangent kernel (Jacot et al. 2018, arXiv:1806.07572). `predict` has it: a backward
pass with an upstream gradient of N K independent entries of mean square 1 returns E |dW_l|^2 = N K T_l.

Of ReLU networks without BatchNorm the outputs tell T_l, too, where maps are too large for a law of the weight gradient.
With the gates fixed f is linear in W_l, f = <W_l, J_l>. The weights are independent, of mean 0 and variance s^2, so

    E f^2 = s^2 E |J_l|^2,  hence  T_l = E f^2 / s^2

exactly for fully connected ReLU layers at any width (flipping the sign of one unit's weights exchanges its gate, so a
gate is 1/2 on average whatever the products of weights beside it are). In a residual network only the branch goes
through W_l: its share q_branch / (q_branch + q_skip) of the second moments that meet at the sum is a factor of T_l. In
convolutional networks this is an upper bound: the pixels' gradients agree only in part, while the signals that a ReLU
has made positive agree more. `AGREEMENT` says what is left. Between networks log E f^2, and so log T, is nearly normal
with the variance that `predict` states.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from minires import nn
from minires.backend import to_numpy
from minires.checks import check_model
from minires.init.distributions import Initializer
from minires.nn.residual import ResidualBlock
from minires.theory.report import SignalReport

AGREEMENT = {"branch": 0.4, "trunk": 0.8}
"""T_l of convolutional networks over its upper bound. Measured on the digits, medians over the layers of 76 networks
without BatchNorm: .35 in residual branches (quartiles .28 and .49), .84 in plain networks (.57 and 1.01)."""

UNKNOWN_SPREAD = 0.15
"""Log-variance of E f^2 where `predict` has none: residual networks of small branches."""


class LayerKernel(NamedTuple):
    """A layer with weights: T_l, and |W_l| in expectation."""

    path: str
    kernel: float
    norm: float

    @property
    def relative(self) -> float:
        """sqrt(T_l)/|W_l|: by which share of itself a unit of output gradient changes the weight, per learning rate."""
        return math.sqrt(self.kernel) / self.norm if self.norm > 0 else 0.0


@dataclass(frozen=True)
class TangentKernel:
    """layers: in forward order. outputs: K. normalized: there is a BatchNorm. log_variance: of T between networks."""

    layers: tuple[LayerKernel, ...]
    outputs: int
    normalized: bool
    log_variance: float

    @property
    def head(self) -> float:
        """The last layer's T_l: mean square of its inputs, times how many there are."""
        return self.layers[-1].kernel

    @property
    def change(self) -> float:
        """Sum of sqrt(T_l)/|W_l| over layers: the whole network's relative change, per learning rate."""
        return sum(layer.relative for layer in self.layers)

    @property
    def typical_change(self) -> float:
        """Geometric mean of sqrt(T_l)/|W_l|: a typical layer's relative change, per learning rate."""
        relative = np.array([layer.relative for layer in self.layers])
        return float(np.exp(np.log(relative).mean())) if relative.all() else 0.0


def tangent_kernel(model: nn.Layer, predicted: SignalReport, weight: Initializer | None = None) -> TangentKernel | None:
    """The kernel of ``model`` from its prediction, or None where some layer has no law. weight: the initializer of the
    prediction; None: the model's weights, with their mean squares as they are."""
    if not isinstance(predicted, SignalReport):
        raise TypeError(f"predicted is {predicted!r:.60}; expected a report, as from predict(model, shape)")
    layers = dict(check_model(model).named_layers())
    weighted = [row for row in predicted if isinstance(layers.get(row.path), nn.Conv2d | nn.Linear)]
    if not weighted or any(row.note for row in predicted):
        return None
    last = weighted[-1]
    samples, outputs = predicted.input_shape[0], last.shape[-1]
    normalized = any(isinstance(layer, nn.BatchNorm2d) for layer in layers.values())
    found = []
    for row in weighted:
        value = to_numpy(layers[row.path].weight.value)
        square = float(np.mean(np.square(value, dtype=float))) if weight is None else weight.variance(value.shape)
        energy = row.weight_gradient.mean * value.size / (samples * outputs)
        if math.isnan(energy) and not normalized:
            share = _branch_share(row.path, layers, predicted)
            agreement = AGREEMENT["trunk" if share == 1 else "branch"]
            energy = last.forward.mean / square * share * agreement if square else 0.0
        if math.isnan(energy):
            return None
        found.append(LayerKernel(row.path, energy, math.sqrt(square * value.size)))
    spread = last.forward.spread**2
    log_variance = 0.0 if normalized else UNKNOWN_SPREAD if math.isnan(spread) else spread
    return TangentKernel(tuple(found), outputs, normalized, log_variance)


def _branch_share(path: str, layers: dict[str, nn.Layer], predicted: SignalReport) -> float:
    """q_branch / (q_branch + q_skip) of the residual block that the layer is in; 1 in none, or without a skip path."""
    for name, block in layers.items():
        begin = f"{name}.".lstrip(".")
        if isinstance(block, ResidualBlock) and path.startswith(begin):
            branch = predicted[begin + block.branch[-1]].forward.mean * block.branch_scale**2
            below = [row.forward.mean for row in predicted if row.path.startswith(f"{begin}shortcut")]
            total = branch + (below[-1] if below else 0.0)
            return branch / total if total > 0 else 0.0
    return 1.0
