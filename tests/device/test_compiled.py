"""A compiled model on the fake GPU: the host's numbers, from few kernels, and no wait."""

import numpy as np
import pytest

import minires
from minires import nn
from minires.backend import to_device, to_numpy
from minires.fake_gpu import device, waits
from minires.fast import gpu
from minires.fast.program import Program

NETWORKS = {
    "v1": {"depth": 8},
    "projections": {"depth": 8, "shortcut": "B"},
    "v2": {"depth": 8, "block": nn.PreActBlock},
    "bottleneck": {"depth": 11, "block": nn.Bottleneck},
    "tanh": {"depth": 8, "activation": nn.Tanh},
    "no BatchNorm": {"depth": 8, "batchnorm": False},
}


def close(found, expected, what):
    error = np.abs(to_numpy(found) - expected).max() / max(1, np.abs(expected).max())
    assert error <= 1e-11, f"{what}: {error:.1e}"


@pytest.mark.parametrize("columns", [2**29, 2**14], ids=["at once", "in parts"])
@pytest.mark.parametrize("name", NETWORKS)
def test_it_has_the_hosts_numbers_and_does_not_wait(name, columns, monkeypatch):
    monkeypatch.setattr(gpu, "GPU_COLUMN_BYTES", columns)
    here, there = (nn.resnet(width=4, **NETWORKS[name]).astype("float64") for _ in range(2))
    rng = np.random.default_rng(0)
    x, labels, dy = rng.standard_normal((5, 3, 9, 13)), rng.integers(0, 10, 5), rng.standard_normal((5, 10))
    mine, theirs = minires.compile(here), minires.compile(there.to(device))
    x_there, labels_there, dy_there = (to_device(array, device) for array in (x, labels, dy))
    before = waits.count
    for _ in range(2):
        found = theirs.step(x_there, labels_there)
    assert waits.count == before
    for _ in range(2):
        expected = mine.step(x, labels)
    for what, *both in zip(("loss", "logits"), found, expected, strict=True):
        close(*both, what)
    for mode in (True, False):
        close(theirs.train(mode).forward(x_there), mine.train(mode).forward(x), "y")
        close(theirs.backward(dy_there), mine.backward(dy), "dx")
    close(theirs.infer(x_there), mine.infer(x), "inference")
    for there_, here_ in zip(there.parameters(), here.parameters(), strict=True):
        close(there_.grad, here_.grad, here_.name)
    for path, array in here.state_dict().items():
        close(there.state_dict()[path], array, path)


def kinds(program):
    """What is at the end of each joined node, by class, and whether a sum and a relu are in the same kernel."""
    for node in program.nodes:
        if isinstance(node, gpu.Joined):
            yield from kinds(node.branch)
            yield type(node.last).__name__, node.shortcut is not None, node.relu
        else:
            yield type(node).__name__


def test_sum_and_relu_are_joined_to_what_is_before_them():
    model = nn.resnet(8, width=4)
    norm, end = ("GPUNorm", False, True), ("GPUNorm", True, True)
    block = [("GPUConv", False, False), norm, ("GPUConv", False, False), end]
    rest = ["Samplewise"] * 2  # the mean over all pixels, and the linear layer
    program = Program(True, model, fuses=False)
    assert [*kinds(gpu.for_gpu(program))] == [("GPUConv", False, False), norm, *3 * block, *rest]
    inference = [("GPUConv", False, True), *3 * [("GPUConv", False, True), ("GPUConv", True, True)], *rest]
    assert [*kinds(gpu.for_gpu(Program(False, model.eval())))] == inference


@pytest.mark.parametrize("name", [name for name, each in vars(gpu).items() if isinstance(each, gpu.Kernel)])
def test_a_kernel_that_is_wrong_is_noticed(name, monkeypatch):
    """By the comparison with the definition, before the model is used."""
    kernel = getattr(gpu, name)
    plain = kernel.plain
    monkeypatch.setattr(kernel, "plain", lambda xp, *inputs: tuple(1.01 * y for y in plain(xp, *inputs)))
    with pytest.raises(ValueError, match="differs from the definition's"):
        minires.compile(nn.resnet(8, width=4).to(device))
