"""The other engines compute the same network: a time of something else would be no comparison."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from minires import nn
from minires.bench.cases import Case
from minires.bench.engines import ENGINES, Minires, Products, environment

PARAMETERS = 269_722
"""Of resnet20 with shortcut A, as the paper has it (0.27M)."""


def engine(name):
    if find_spec(ENGINES[name].module) is None:
        pytest.skip(f"{ENGINES[name].package} is not installed")
    return ENGINES[name]("cpu", 1)


def test_torch_has_the_same_network():
    torch = pytest.importorskip("torch")
    from minires.bench.torch_resnet import resnet

    theirs, ours = resnet(14).double(), nn.resnet(14).astype("float64")
    assert sum(p.numel() for p in resnet(20).parameters()) == PARAMETERS
    with torch.no_grad():
        for target, source in zip(theirs.parameters(), ours.parameters(), strict=True):
            target.copy_(torch.from_numpy(source.value))
    x = np.random.default_rng(0).standard_normal((4, 3, 32, 32))
    expected = theirs(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours.forward(x), expected, rtol=1e-9, atol=1e-9)


def test_dezero_has_a_network_of_the_same_size():
    step = engine("dezero").prepare(Case("train", 4, depth=20))
    step()
    from minires.bench.dezero_resnet import ResNet

    model = ResNet(20)
    model(np.zeros((2, 3, 32, 32), np.float32))
    sizes = {p.name: p.size for p in model.params() if p.name not in ("avg_mean", "avg_var")}
    total = sum(p.size for p in model.params() if p.name not in ("avg_mean", "avg_var"))
    assert sizes and total == PARAMETERS


@pytest.mark.parametrize("name", [name for name in ENGINES if name != "products"])
def test_a_layer_gives_the_gradient_of_its_input(name):
    case = Case("layers", 3, channels=4, size=6)
    dx = engine(name).prepare(case)()
    assert tuple(dx.shape) == (3, 4, 6, 6)


@pytest.mark.parametrize("name", ["torch", "torch-channels-last"])
def test_torch_runs_networks(name):
    own = engine(name)
    assert own.seconds(own.prepare(Case("train", 4, depth=8)), 1) > 0
    assert tuple(own.prepare(Case("infer", 4, depth=8))().shape) == (4, 10)


def test_minires_trains_and_infers():
    own = Minires("cpu", 1)
    step = own.prepare(Case("train", 8, depth=8))
    losses = [float(step()) for _ in range(8)]
    assert losses[-1] < losses[0]
    assert own.prepare(Case("infer", 4, depth=8))().shape == (4, 10)


def test_products_do_not_outlive_their_case():
    own = Products("cpu", 2)
    assert own.seconds(own.prepare(Case("layers", 2, channels=4, size=8)), 1) > 0


def test_every_engine_reads_the_same_number_of_threads():
    found = environment(3)
    assert [found[f"{name}_NUM_THREADS"] for name in ("OMP", "OPENBLAS", "MKL", "MINIRES")] == ["3"] * 4
