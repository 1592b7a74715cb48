"""What a gate knows: laws of gradients, and of shapes, that are off by 15 % to a factor of four without it.

Small networks, so many that 5 % shows (20 % of what is taken for a rectified Gaussian).
"""

import math

import numpy as np
import pytest

from minires import init, nn
from minires.theory import measure, predict
from tests.theory.test_laws_of_any_network import conv, digits, offsets, stack

CASES = {
    "a gate and its input, where a pool makes neighbors agree": (
        stack(conv(3, 8, 1, 1, 0), nn.ReLU(), nn.AvgPool2d(3, 3)),
        (4, 3, 6, 6),
        {},
        ("0", "weight_gradient"),
    ),
    "a gradient of mean zero, below one more convolution": (
        stack(conv(3, 8, 1, 1, 0), nn.Sigmoid(), conv(8, 8), conv(8, 8, 3, 1, 0), nn.BatchNorm2d(8)),
        (8, 3, 6, 6),
        {},
        ("2", "weight_gradient"),
    ),
    "a tanh of one number": (stack(conv(1, 6, 1, 1, 0), nn.Tanh()), (8, 1, 6, 6), {}, ("0", "gradient_in")),
    "what a Dropout left, along a skip path": (
        stack(conv(3, 16), nn.Dropout(0.5, rng=1), nn.BasicBlock(16, 16, batchnorm=False, activation=nn.Tanh)),
        (8, 3, 6, 6),
        {},
        ("2", "forward"),
    ),
    "gates that stay open, after steps too small for a stream": (
        stack(
            conv(1, 8),
            nn.ReLU(),
            nn.BasicBlock(8, 16, 2, batchnorm=False, shortcut="B"),
            *(nn.BasicBlock(16, 16, batchnorm=False, branch_scale=0.5) for _ in range(2)),
        ),
        0.1 * digits(4),
        {"weight": init.LeCunNormal()},
        ("3.relu2", "gradient_in"),
    ),
    "averages of channels with means of their own": (
        stack(
            offsets(stack(conv(3, 16), nn.BatchNorm2d(16)), [0.6, -0.6]),
            nn.ReLU(),
            nn.AvgPool2d(3, 3),
            nn.BatchNorm2d(16),
            nn.ReLU(),
        ),
        (16, 3, 6, 6),
        {},
        ("4", "forward"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_of_many_networks(name):
    model, x, laws, (path, quantity) = CASES[name]
    law, bias = getattr(predict(model, x, **laws)[path], quantity), 0.2 if "averages" in name else 0.05
    values = measure(model, x, seeds=400, **laws).samples[path, quantity]
    error = np.std(values) / (law.mean * math.sqrt(len(values)))
    assert law.grade == "MF"
    assert np.mean(values) / law.mean == pytest.approx(1, abs=bias + 4 * error)
