"""Settings and layers that the fast way has no version of: they run their own code, with the same numbers."""

import numpy as np
import pytest

import minires
from minires import nn

MODELS = {
    "groups": lambda: nn.Sequential(nn.Conv2d(4, 8, 3, padding=1, groups=2), nn.BatchNorm2d(8), nn.ReLU()),
    "depthwise, same": lambda: nn.Sequential(nn.Conv2d(4, 4, 3, padding="same", groups=4), nn.BatchNorm2d(4)),
    "even kernel, same": lambda: nn.Sequential(nn.Conv2d(4, 8, 2, padding="same"), nn.BatchNorm2d(8), nn.ReLU()),
    "norms": lambda: nn.Sequential(nn.Conv2d(4, 8, 3), nn.GroupNorm(2, 8), nn.Flatten(), nn.LayerNorm(8 * 49)),
    "pools": lambda: nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), nn.AvgPool2d(2, 1, 1, count_include_pad=False)),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_what_has_no_fast_version_runs_its_own_code(name, threads):
    model = MODELS[name]().astype("float64")
    x = np.random.default_rng(0).standard_normal((5, 4, 9, 9))
    expected = model.forward(x)
    dy = np.random.default_rng(1).standard_normal(expected.shape)
    expected_dx = model.backward(dy)
    gradients = [parameter.grad.copy() for parameter in model.parameters()]
    model.zero_grad()
    fast = minires.compile(model, threads=threads)
    np.testing.assert_allclose(fast.forward(x), expected, atol=1e-12)
    np.testing.assert_allclose(fast.backward(dy), expected_dx, atol=1e-12)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        np.testing.assert_allclose(parameter.grad, gradient, atol=1e-11)
