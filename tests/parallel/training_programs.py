"""What the ranks of `test_data_parallel.py` do: `mpiexec -n 3 python -m tests.parallel.training_programs NAME ...`."""

import sys

import numpy as np

import minires
from minires import fake_gpu, nn, optim
from minires.backend import to_device, to_numpy
from minires.parallel import DataParallel, MPIGroup, gradients
from minires.train import train_step

IMAGES, STEPS = 13, 5
BUCKET_BYTES = 3000
"""Small, so that a small network has several buckets."""

UNEVEN = {1: [13], 2: [2, 11], 3: [7, 1, 5], 4: [1, 6, 2, 4]}
"""Images of each rank."""


def residual():
    """BatchNorm, projections, a head: 5,000 parameters."""
    return nn.resnet(8, width=4, in_channels=1, num_classes=10, shortcut="B", rng=3)


def perceptron():
    """Linear layers before and after BatchNorm, and a convolution in groups: all run their own code, piece by piece.

    (No bias is left out of the loss by BatchNorm: its gradient would be nothing but rounding errors.)
    """
    body = [nn.Conv2d(1, 4, 3, padding=1, rng=5), nn.Conv2d(4, 4, 3, groups=2, rng=6), nn.Tanh(), nn.Flatten()]
    head = [nn.Linear(168, 20, bias=False, rng=7), nn.BatchNorm2d(20), nn.ReLU(), nn.Linear(20, 10, rng=8)]
    return nn.Sequential(*body, *head)


class Scaled(nn.Layer):
    """A layer that no other part knows, with a parameter of its own."""

    def __init__(self):
        self.scale = nn.Parameter(np.array([1.3]))

    def _forward(self, x):
        return x * self.scale.value, x

    def _backward(self, dy, x):
        self.scale.add_grad((dy * x).sum().reshape(1))
        return dy * self.scale.value


def shared():
    """A weight that two layers have, the second of them with BatchNorm before it, and a layer of the user's own."""
    first, second = nn.Conv2d(4, 4, 3, padding=1, bias=False, rng=5), nn.Conv2d(4, 4, 3, padding=1, bias=False, rng=6)
    second.weight = first.weight
    start, norms = nn.Conv2d(1, 4, 3, bias=False, rng=4), [nn.BatchNorm2d(4) for _ in range(2)]
    body = [start, first, norms[0], nn.Tanh(), second, norms[1], Scaled()]
    return nn.Sequential(*body, nn.GlobalAvgPool2d(), nn.Linear(4, 10, rng=7))


class OwnNorm(nn.BatchNorm2d):
    """BatchNorm with a forward pass of its own."""

    def _forward(self, x):
        return super()._forward(x)


def own_norm():
    return nn.Sequential(nn.Conv2d(1, 4, 3, rng=1), OwnNorm(4), nn.GlobalAvgPool2d(), nn.Linear(4, 10, rng=2))


def batches():
    """A mean that is not zero, so that BatchNorm has something to do; images of 9 x 8 pixels."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((STEPS, IMAGES, 1, 9, 8)) * 2 + 1, rng.integers(0, 10, (STEPS, IMAGES))


def train(engine, model, share, device="cpu"):
    """Five steps -> all gradients, and weights and running statistics after each."""
    optimizer, found = optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=1e-3), []
    for x, y in zip(*batches(), strict=True):
        x, y = to_device(x[share], device), to_device(y[share], device)
        train_step(engine, nn.SoftmaxCrossEntropy(), optimizer, x, y)
        arrays = {f"gradient of {p.name}": p.grad.copy() for p in model.parameters()} | model.state_dict()
        found.append({name: to_numpy(array) for name, array in arrays.items()})
    return found


def largest_difference(expected, found):
    """Over all steps and arrays, relative to the largest value of each array."""
    return max(
        np.abs(step[name] - array).max() / np.abs(array).max()
        for step, right in zip(found, expected, strict=True)
        for name, array in right.items()
    )


class WithoutCounts(DataParallel):
    """Gives each rank the same weight, however many images it has."""

    def backward(self, dy):
        self._count = self._count[0], IMAGES / self.group.size
        return super().backward(dy)


def steps(kind, network, shares):
    """Prints the largest difference from a single process, and how many buckets left before backward was over."""
    gradients.BUCKET_BYTES = BUCKET_BYTES
    group = MPIGroup()
    model, alone = (globals()[network]().astype("float64") for _ in range(2))
    if group.rank > 0:  # whatever a rank begins with, it takes over what rank 0 has
        model.load_state_dict({name: array + 1 for name, array in model.state_dict().items()})
    device = fake_gpu.device if kind.startswith("gpu") else "cpu"
    options = {"local_batchnorm": kind == "local", "overlap": kind != "late", "compile": "definition" not in kind}
    model.to(device)
    engine = (WithoutCounts if kind == "without counts" else DataParallel)(model, group, **options)
    early, backward = [], engine.engine.backward

    def counted(dy):
        dx = backward(dy)
        early.append(len(engine._sums._sent))
        return dx

    engine.engine.backward = counted
    ends = np.cumsum([0, *UNEVEN[group.size]])
    share = slice(*ends[group.rank : group.rank + 2]) if shares == "uneven" else group.share(IMAGES)
    found = train(engine, model, share, device)
    expected = train(alone if "definition" in kind else minires.compile(alone), alone, slice(None))
    all_ranks = group.comm.gather((largest_difference(expected, found), min(early)))
    if group.rank == 0:
        print(max(difference for difference, _ in all_ranks), min(sent for _, sent in all_ranks), flush=True)


def observed():
    """Somebody looks at the layers: a compiled model then has each of them run its own code."""
    model = residual().astype("float64")
    engine = DataParallel(model, MPIGroup())
    with engine.group, model.observe(lambda *what: None):
        train(engine, model, slice(None))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
