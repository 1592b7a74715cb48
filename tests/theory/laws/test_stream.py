"""Streams that grow without BatchNorm: rescaling changes units and nothing else."""

import numpy as np
import pytest

from minires import init, nn
from minires.theory import compare, measure, predict
from minires.theory.laws.reflected_walk import grid_for
from minires.theory.laws.signal import Signal
from minires.theory.laws.stream import Stream


def stream(grid):
    """Two steps on a 2x2 map with unequal positions."""
    rng = np.random.default_rng(30)
    steps = []
    for _ in range(2):
        root = rng.standard_normal((4, 4)) * 0.3
        kernel = root @ root.T
        steps.append(Signal(np.diag(kernel) + rng.uniform(0.5, 1.5, 4), kernel))
    first = Stream.started(grid, steps[0])
    return first.stepped(steps[1], (2, 2), 1, 1.0)


def test_rescaled_stream_is_the_same_signal_in_other_units():
    before = stream(grid_for(6.0, 0.3))
    after = before.rescaled()
    assert after._q.mean() == pytest.approx(1, rel=2e-3)
    assert after.scale == pytest.approx(np.sqrt(before.signal.q.mean()), rel=1e-12)
    np.testing.assert_allclose(after.signal.q, before.signal.q, rtol=2e-3)
    np.testing.assert_allclose(after.signal.kernel, before.signal.kernel, rtol=2e-3)
    assert after.positive() == pytest.approx(before.positive(), rel=1e-12)


def test_a_function_is_stretched_with_its_argument():
    grid = grid_for(6.0, 0.3)
    f = np.sin(grid.points)[None]
    np.testing.assert_allclose(grid.stretched(f, 1.7)[0], np.sin(grid.points / 1.7), atol=2 * grid.dx**2)


def test_a_step_commutes_with_a_change_of_units():
    grid = grid_for(12.0, 0.2)
    step = Signal(np.array([0.9, 1.2, 1.0, 0.8]), 0.1 * np.eye(4))
    plain = stream(grid).stepped(step, (2, 2), 1, 1.0)
    moved = stream(grid).rescaled().stepped(step, (2, 2), 1, 1.0)
    np.testing.assert_allclose(moved.signal.q, plain.signal.q, rtol=3e-3)
    np.testing.assert_allclose(moved.signal.kernel, plain.signal.kernel, rtol=5e-3)


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_a_deep_network_without_batchnorm_is_foretold_in_full(shortcut):
    """2.4 times per block and more: 10^12 over 54 blocks, in a grid of a few units."""
    report = predict(nn.resnet(110, shortcut=shortcut, batchnorm=False), (16, 3, 8, 8))
    assert not [row.note for row in report if row.note]
    assert report.rows[-1].forward.mean > 1e9
    blocks = [row.forward.mean for row in report if row.path.startswith("layer1.") and row.kind == "BasicBlock"]
    ratios = np.array(blocks[1:]) / blocks[:-1]
    assert np.ptp(ratios[5:]) < 0.02  # geometric, once it has settled


def test_real_networks_without_batchnorm_obey():
    model, shape = nn.resnet(20, shortcut="A", batchnorm=False), (16, 3, 8, 8)
    report = compare(predict(model, shape), measure(model, shape, seeds=24))
    assert report.ok, report.verdict
    small = measure(model, shape, seeds=24, weight=init.LeCunNormal())
    assert not compare(predict(model, shape), small).ok
