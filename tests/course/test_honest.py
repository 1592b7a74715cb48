# ruff: noqa: E501
"""Right submissions that look unlike the reference: each gets all points."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minires.course import grade, isolation
from tests.course.class_of_five import __path__ as CLASS

TRUST = {"trust": True} if isolation.available() == ("none",) else {}
ADA = (Path(next(iter(CLASS))) / "ada.py").read_text()

EINSUM = """
# a cache that is a dict, lambdas in place of functions' bodies, a loss that keeps what it needs in a closure
import numpy

shift = lambda z: z - z.max(1, keepdims=True)


def linear_forward(x, weight, bias=None):
    y = numpy.einsum("ni,oi->no", x, weight)
    return (y if bias is None else numpy.add(y, bias[None])), {"x": x, "w": weight, "b": bias is not None}


def linear_backward(dy, cache):
    grads = [numpy.einsum("no,oi->ni", dy, cache["w"]), numpy.einsum("no,ni->oi", dy, cache["x"])]
    grads.append(numpy.einsum("no->o", dy) if cache["b"] else None)
    return grads


def softmax_cross_entropy_forward(logits, labels):
    p = numpy.exp(shift(logits))
    p /= p.sum(1, keepdims=True)
    log_p = shift(logits) - numpy.log(numpy.exp(shift(logits)).sum(1, keepdims=True))
    picked = numpy.take_along_axis(log_p, labels[:, None], 1)

    def back(dy):
        d = p.copy()
        numpy.subtract.at(d, (numpy.arange(len(d)), labels), 1)
        return dy * d / len(d)

    return -picked.mean(), back


softmax_cross_entropy_backward = lambda dy, cache: cache(dy)
"""

CLASSES = """
from __future__ import annotations
from dataclasses import dataclass
from functools import partial, reduce
from typing import NamedTuple, Optional
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class LinearCache(NamedTuple):
    x: Floats
    weight: Floats
    biased: bool


@dataclass(slots=True)
class LossCache:
    logits: Floats
    labels: np.ndarray


class Linear:
    @staticmethod
    def forward(x: Floats, weight: Floats, bias: Optional[Floats] = None) -> tuple[Floats, LinearCache]:
        extended = np.hstack([x, np.ones((len(x), 1))])
        matrix = np.column_stack([weight, np.zeros(len(weight)) if bias is None else bias])
        return np.dot(extended, matrix.T), LinearCache(x, weight, bias is not None)

    @staticmethod
    def backward(dy: Floats, cache: LinearCache):
        outer = (np.outer(d, row) for d, row in zip(dy, cache.x))
        return dy.dot(cache.weight), reduce(np.add, outer), sum(dy) if cache.biased else None


linear_forward, linear_backward = Linear.forward, Linear.backward


def softmax_cross_entropy_forward(logits: Floats, labels) -> tuple[float, LossCache]:
    total = 0.0
    for row, label in zip(logits, labels):
        total += np.logaddexp.reduce(row) - row[label]
    return float(total) / len(logits), LossCache(logits, labels)


def softmax_cross_entropy_backward(dy: float, cache: LossCache) -> Floats:
    softmax = np.stack([np.exp(row - np.logaddexp.reduce(row)) for row in cache.logits])
    return float(dy) * (softmax - np.eye(softmax.shape[1])[cache.labels]) / len(softmax)
"""

GLOBALS = """
import numpy as np
last = {}  # the cache is a number; what it means is kept outside


def linear_forward(x, weight, bias=None):
    key = len(last)
    last[key] = np.asfortranarray(x), weight.copy(), bias
    return np.asarray(x.astype(np.longdouble) @ weight.T.astype(np.longdouble) + (0 if bias is None else bias), ">f8"), key


def linear_backward(dy, cache):
    x, weight, bias = last[cache]
    return np.asfortranarray(dy @ weight), (x.T @ dy).T, None if bias is None else np.ones(len(dy)) @ dy


def softmax_cross_entropy_forward(logits, labels):
    from math import log, fsum, exp
    rows = [[float(v) for v in row] for row in logits]
    losses = [log(fsum(exp(v - max(row)) for v in row)) + max(row) - row[int(k)] for row, k in zip(rows, labels)]
    return np.array(fsum(losses) / len(losses)), [rows, labels.tolist()]


def softmax_cross_entropy_backward(dy, cache):
    import math
    rows, labels = cache
    out = []
    for row, label in zip(rows, labels):
        weights = [math.exp(v - max(row)) for v in row]
        out.append([float(dy) * (w / sum(weights) - (k == label)) / len(rows) for k, w in enumerate(weights)])
    return np.array(out)
"""

BATCHNORM = '''
import numpy as np


def axes_of(x):
    return tuple(i for i in range(x.ndim) if i != 1)


def column(v, x):
    return v.reshape([1, -1] + [1] * (x.ndim - 2))


def batchnorm_forward(x, weight, bias, *, eps=1e-5, mean=None, var=None):
    trained = mean is None
    class cache: pass
    if trained:
        mean = np.average(x, axis=axes_of(x))
        var = np.square(x - column(mean, x)).mean(axis=axes_of(x))
    cache.mean, cache.var, cache.x, cache.weight, cache.eps, cache.trained = mean, var, x, weight, eps, trained
    scale = weight / np.sqrt(var + eps)
    return x * column(scale, x) + column(bias - mean * scale, x), cache


def batchnorm_backward(dy, cache):
    """As a Jacobian of one channel: y = (P x) / s, with P = I - 1/m."""
    x, c = np.moveaxis(cache.x, 1, 0).reshape(cache.x.shape[1], -1), np.moveaxis(dy, 1, 0).reshape(dy.shape[1], -1)
    s = np.sqrt(cache.var + cache.eps)[:, None]
    xhat = (x - cache.mean[:, None]) / s
    dweight, dbias = (c * xhat).sum(1), c.sum(1)
    dx = cache.weight[:, None] * c / s
    if cache.trained:
        m = x.shape[1]
        for k in range(len(x)):
            project = np.eye(m) - 1 / m - np.outer(xhat[k], xhat[k]) / m
            dx[k] = project @ dx[k]
    shape = (cache.x.shape[1], cache.x.shape[0], *cache.x.shape[2:])
    return np.moveaxis(dx.reshape(shape), 0, 1), dweight, dbias
'''

SGD = """
import numpy as np


def decayed(self, p):
    decays = self.decay_all or np.ndim(p.value) > 1
    return p.grad + (self.weight_decay if decays else 0.0) * p.value


def sgd_step(self):
    gradients = [decayed(self, p) for p in self.parameters]
    self.velocities = [self.momentum * v + g for v, g in zip(self.velocities, gradients)]
    for p, g, v in zip(self.parameters, gradients, self.velocities):
        p.value = p.value - self.lr * (g + self.momentum * v if self.nesterov else v)
"""

SAMPLERS = '''
import numpy as np


def fans(shape, groups=1):
    taps = int(np.prod(shape[2:], dtype=int))
    return int(shape[1]) * taps, shape[0] * taps // groups


def normals(shape, rng):  # Box and Muller
    n = int(np.prod(shape))
    u, v = rng.random(n), rng.random(n)
    return (np.sqrt(-2 * np.log1p(-u)) * np.cos(2 * np.pi * v)).reshape(shape)


def he_normal(shape, rng):
    return normals(shape, rng) / np.sqrt(fans(shape)[0] / 2)


def xavier_uniform(shape, rng):
    limit = np.sqrt(6.0) / np.sqrt(sum(fans(shape)))
    return limit * (2 * rng.random(shape) - 1)


def orthogonal(rows, columns, rng):
    """By Gram and Schmidt, which leaves no signs to choose."""
    tall = normals((max(rows, columns), min(rows, columns)), rng)
    for k in range(tall.shape[1]):
        for _ in range(2):
            tall[:, k] -= tall[:, :k] @ (tall[:, :k].T @ tall[:, k])
        tall[:, k] /= np.linalg.norm(tall[:, k])
    return tall if rows >= columns else tall.T
'''

RULES = """
import cmath, math
from fractions import Fraction
forward_difference = lambda f, h: (f(h) - f(0)) / h
def central_difference(f, h): return sum(s * f(s * h) for s in (1, -1)) / (2 * h)
def complex_step(f, h=1e-30): return (f(complex(0, h)) / h).imag
def best_central_step(size, third, u):
    try: return math.pow(3 * u * size / abs(third), 1 / 3)
    except ZeroDivisionError: return math.inf
def central_floor(size, third, u):
    h = best_central_step(size, third, u)
    return 0.0 if h == math.inf else abs(third) * h**2 / 6 + u * size / h
"""


def _notebook(text: str) -> str:
    """Its functions in cells, among words, magic lines, shell commands, plots, and trials that fail or never end."""
    head, *functions = text.split("\n\n\n")
    extra = ["%load_ext autoreload\n%autoreload 2", "!pip install numpy", "%%time\nprint('hello')", "?np.dot"]
    extra += [
        "from google.colab import drive\ndrive.mount('/content')",
        "data = np.load('mine.npz')",
        "after = linear_forward",
    ]
    extra += [
        "steps = sum(1 for _ in iter(int, 1))",
        "files = !ls",
        "for f in files:\n    %timeit len(f)\n    print(f)",
    ]
    extra += ["SCALE = float(1)\nHALF = SCALE / 2", "def scaled(v):\n    return v * (HALF * 2\n    % 3)"]
    functions = [f.replace("np.dot(", "scaled(1.0) * np.dot(") for f in functions]
    cells = [{"cell_type": "markdown", "source": ["# My solution\n", "def is not code"]}]
    for source in [head, *extra, *functions]:
        cells.append({"cell_type": "code", "source": source.splitlines(keepends=True), "outputs": [], "metadata": {}})
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


SUBMISSIONS = {
    "einsum, lambdas, a list of gradients": ("linear_softmax", "linear_softmax.py", EINSUM),
    "classes, dataclasses, type hints": ("linear_softmax", "linear_softmax.py", CLASSES),
    "caches kept outside, other orders of bytes": ("linear_softmax", "linear_softmax.py", GLOBALS),
    "Windows' ends of lines and a byte order mark": (
        "linear_softmax",
        "linear_softmax.py",
        "\ufeff" + CLASSES.replace("\n", "\r\n"),
    ),
    "old Macs' ends of lines": ("linear_softmax", "linear_softmax.py", EINSUM.replace("\n", "\r")),
    "a notebook with magic lines": ("linear_softmax", "linear_softmax.ipynb", _notebook(CLASSES.strip())),
    "another name of the file": ("linear_softmax", "Homework 2 (final) - Zoë.py", EINSUM),
    "prints and plots at import": (
        "linear_softmax",
        "linear_softmax.py",
        EINSUM + "\nprint(linear_forward(numpy.ones((2, 3)), numpy.ones((4, 3)))[0])\n",
    ),
    "a main block": ("linear_softmax", "linear_softmax.py", EINSUM + "\nif __name__ == '__main__':\n    1 / 0\n"),
    "batchnorm as a Jacobian": ("batchnorm", "batchnorm.py", BATCHNORM),
    "all velocities at once": ("sgd", "sgd.py", SGD),
    "Box and Muller, Gram and Schmidt": ("initializers", "initializers.py", SAMPLERS),
    "one line each": ("gradient_check", "gradient_check.py", RULES),
    "the class's best": ("conv", "conv.py", ADA),
}


@pytest.mark.parametrize("name", SUBMISSIONS)
def test_all_points(tmp_path, name):
    assignment, file, text = SUBMISSIONS[name]
    (tmp_path / file).write_bytes(text.encode())
    report = grade(assignment, tmp_path / file, **TRUST)
    lost = [f"{p.name}, {c.title}: {c.told} {c.example}" for p in report.parts for c in p.checks if c.told]
    assert report.earned == report.points, [report.problem, *report.notes, *lost[:6]]
