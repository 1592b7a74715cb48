"""Do a model and its compiled twin agree? Random networks, in float64, over several steps.

    python -m tests.fast.agreement [networks] [seed]          300 networks, seed 0, by default; a table at the end

Compared are outputs, the gradients of the input and of every parameter, running statistics and inference, for 1 to 4
threads, on batches that divide unevenly, and with convolutions that go through them at once or in many parts.
Differences are relative to the largest value (or to 1).
"""

import copy
import sys
from collections import defaultdict
from functools import partial

import numpy as np

import minires
from minires import nn
from minires.fast import conv

TOLERANCE = 1e-10
COLUMN_BYTES = (2**12, conv.COLUMN_BYTES)
"""Of so many bytes are the parts in which a convolution takes its images: one image or two, and all of them."""

ACTIVATIONS = (nn.ReLU, nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid)


class Halve(nn.Layer):
    """A layer that the fast way knows nothing of."""

    def _forward(self, x):
        return x / 2 + x.mean(), None

    def _backward(self, dy, cache):
        return dy / 2 + dy.sum() / dy.size


def random_resnet(rng):
    block = (nn.BasicBlock, nn.Bottleneck, nn.PreActBlock)[rng.integers(3)]
    options = {
        "block": block,
        "blocks": tuple(int(n) for n in rng.integers(1, 3, rng.integers(1, 4))),
        "width": int(rng.integers(2, 7)),
        "shortcut": ("A", "B", None)[rng.integers(3)],
        "batchnorm": bool(rng.integers(4)),
        "activation": ACTIVATIONS[rng.integers(len(ACTIVATIONS))],
        "branch_scale": (1.0, 1.0, 0.5)[rng.integers(3)],
        "in_channels": int(rng.integers(1, 4)),
        "num_classes": int(rng.integers(2, 6)),
        "rng": int(rng.integers(1000)),
    }
    model = nn.resnet(**options)
    kind = f"{'plain ' if options['shortcut'] is None else ''}{block.__name__}, shortcut {options['shortcut']}"
    return kind + ("" if options["batchnorm"] else ", no BatchNorm"), model, options["in_channels"]


def random_chain(rng):
    """A Sequential of layers of every kind, in an order that no network has."""
    start = channels = int(rng.integers(1, 5))
    layers, size = [], 13
    for _ in range(rng.integers(2, 7)):
        choice = rng.integers(8)
        if choice < 3 and size > 3:
            kernel = tuple(int(k) for k in rng.integers(1, 4, 2))
            conv = partial(nn.Conv2d, channels, out := int(rng.integers(1, 6)), kernel, bias=bool(rng.integers(2)))
            padding = tuple(int(p) for p in rng.integers(0, 3, 2))
            stride, dilation = (tuple(int(s) for s in rng.integers(1, 3, 2)) for _ in range(2))
            layers.append(conv(stride=stride, padding=padding, dilation=dilation, rng=int(rng.integers(1000))))
            size = layers[-1].output_shape((1, channels, size, size))[2] if stride == (1, 1) else size // 2
            channels = out
        elif choice == 3:
            layers.append(nn.BatchNorm2d(channels))
        elif choice == 4 and size > 4:
            layers.append((nn.MaxPool2d, nn.AvgPool2d)[rng.integers(2)](2, 1 if rng.integers(2) else 2, 1))
            size //= 2
        elif choice == 5:
            layers.append((Halve, partial(nn.Dropout, 0.3, rng=3))[rng.integers(2)]())
        else:
            layers.append(ACTIVATIONS[rng.integers(len(ACTIVATIONS))]())
    head = [nn.GlobalAvgPool2d()] if rng.integers(2) else [nn.AvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*layers, *head)
    return "chain", model, start


def randomize(model, rng):
    """Gains, biases and statistics that hide nothing."""
    model.astype("float64")
    for parameter in model.parameters():
        parameter.value = parameter.value + 0.3 * rng.standard_normal(parameter.value.shape)
    for _, layer, name in model.named_buffers():
        setattr(layer, name, getattr(layer, name) + rng.random(getattr(layer, name).shape))
    return model


def difference(expected, found):
    assert expected.shape == found.shape
    return float(np.abs(expected - found).max(initial=0) / max(1, np.abs(expected).max(initial=0)))


def compare(model, x, rng, threads, steps=2):
    """The largest difference between the model and its compiled twin."""
    twin = copy.deepcopy(model)
    fast, worst = minires.compile(twin, threads=threads), 0.0
    for step in range(steps):
        if step == steps - 1:
            for (_, layer), (_, other) in zip(model.named_layers(), twin.named_layers(), strict=True):
                layer.training = other.training = bool(rng.integers(2))  # some are frozen
        y, z = model.forward(x), fast.forward(x)
        dy = rng.standard_normal(y.shape)
        model.zero_grad()
        fast.zero_grad()
        pairs = [(y, z), (model.backward(dy), fast.backward(dy))]
        for p, q in zip(model.parameters(), fast.parameters(), strict=True):
            pairs.append((p.grad, q.grad))
            size = 0.01 / max(1, np.abs(p.grad).max())  # a network without BatchNorm would run away
            p.value, q.value = p.value - size * p.grad, q.value - size * q.grad
        worst = max(worst, *(difference(a, b) for a, b in pairs))
    pairs = [(model.train().infer(x), fast.train().infer(x)), (model.eval().infer(x), fast.eval().infer(x))]
    state, other = model.state_dict(), twin.state_dict()
    return max(worst, *(difference(a, b) for a, b in pairs + [(state[name], other[name]) for name in state]))


def random_case(seed):
    """(kind, model, x, rng, threads)"""
    rng = np.random.default_rng(seed)
    while True:
        kind, model, channels = (random_chain if rng.integers(4) == 0 else random_resnet)(rng)
        height, width = (int(n) for n in rng.integers(5, 14, 2))
        x = 3 * rng.standard_normal((int(rng.integers(2, 30)), channels, height, width))
        try:
            randomize(model, rng).output_shape(x.shape)
        except ValueError:  # a window larger than what is left of the image
            continue
        return kind, model, x, rng, int(rng.integers(1, 5))


def main(count=300, seed=0):
    rows = defaultdict(list)
    for i in range(count):
        kind, model, x, rng, threads = random_case((seed, i))
        conv.COLUMN_BYTES = COLUMN_BYTES[i % 2]
        rows[kind].append(compare(model, x, rng, threads))
    for kind, found in sorted(rows.items()):
        print(f"{kind:45s} {len(found):4d} networks   largest difference {max(found):.1e}")
    worst = max(max(found) for found in rows.values())
    print(f"{'all':45s} {count:4d} networks   largest difference {worst:.1e}, expected below {TOLERANCE:.0e}")
    return 0 if worst < TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
