"""Functions of each number, and functions that move numbers about, as students write them; each with faults."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.gradcheck.student_ops import sigmoid, student

# --- functions of each number --------------------------------------------------------------------------------------


def elementwise(f: Callable, slope: Callable, **wrong_slopes: Callable) -> Callable:
    """A maker for y = f(x) with dx = dy * slope(x, y)."""

    def make(wrong):
        used = wrong_slopes.get(wrong, slope)
        return (lambda x: (f(x), x)), lambda dy, x: dy * used(x, f(x))

    return make


def _elementwise(name: str, f: Callable, slope: Callable, **faults: tuple[Callable, str]) -> None:
    make = elementwise(f, slope, **{k: wrong for k, (wrong, _) in faults.items()})
    make.__name__ = name
    student((5, 4), **{k: words for k, (_, words) in faults.items()})(make)


def _gelu_slope(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    c = np.sqrt(2 / np.pi)
    t = np.tanh(c * (x + 0.044715 * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t**2) * c * (1 + 3 * 0.044715 * x**2)


_elementwise(
    "sigmoid_of_x",
    sigmoid,
    lambda x, y: y * (1 - y),
    x_for_y=(lambda x, y: x * (1 - x), r"takes x \(1 - x\) for the derivative"),
    one_minus_y=(lambda x, y: 1 - y, r"takes 1 - y for the derivative"),
)
_elementwise(
    "swish",
    lambda x: x * sigmoid(x),
    lambda x, y: sigmoid(x) + y * (1 - sigmoid(x)),
    product_rule_forgotten=(lambda x, y: sigmoid(x), r"takes sigmoid\(x\) for the derivative"),
)
_elementwise(
    "softplus",
    lambda x: np.logaddexp(0, x),
    lambda x, y: sigmoid(x),
    exp=(lambda x, y: np.exp(x), r"takes exp\(x\) for the derivative"),
    sigmoid_of_y=(lambda x, y: sigmoid(y), r"derivative at y|at x = "),
)
_elementwise(
    "elu",
    lambda x: np.where(x > 0, x, 0.7 * np.expm1(x)),
    lambda x, y: np.where(x > 0, 1, y + 0.7),
    alpha_not_added=(lambda x, y: np.where(x > 0, 1, y), r"where x is negative"),
    gate_closed=(lambda x, y: (x > 0) * 1.0, r"takes \(x > 0\) for the derivative"),
)
_elementwise(
    "gelu",
    lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    _gelu_slope,
    first_term_only=(
        lambda x, y: 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        r"takes y / x \(the first term of the product rule",
    ),
)
_elementwise(
    "square_root_of_1_plus",
    lambda x: np.sqrt(1 + x * x),
    lambda x, y: x / y,
    inverse_forgotten=(lambda x, y: x, r"takes x for the derivative"),
    multiplied=(lambda x, y: x * y, r"right one times y\^2"),
)


@student(
    (6, 4),
    (4,),
    all_entries=r"dalpha is the sum of dy \* x over rows",
    slope_squared=r"where x is negative|square of dy/dx|right for dy \* alpha",
)
def prelu(wrong):
    def forward(x, alpha):
        return np.where(x > 0, x, alpha * x), (x, alpha)

    def backward(dy, cache):
        x, alpha = cache
        dalpha = (dy * (x if wrong == "all_entries" else np.minimum(x, 0))).sum(axis=0)
        return dy * np.where(x > 0, 1, alpha**2 if wrong == "slope_squared" else alpha), dalpha

    return forward, backward


# --- moving numbers ------------------------------------------------------------------------------------------------


@student((4, 5), runs_forward=r"runs through the columns in the wrong direction")
def running_sum(wrong):
    def forward(x):
        return np.cumsum(x, axis=1), None

    def backward(dy, cache):
        return np.cumsum(dy, axis=1) if wrong else np.cumsum(dy[:, ::-1], axis=1)[:, ::-1]

    return forward, backward


@student((6, 3), inverse_forgotten=r"wrong positions|belongs to")
def shuffled(wrong):
    order = np.array([2, 0, 3, 5, 1, 4])

    def forward(x):
        return x[order], x.shape

    def backward(dy, shape):
        if wrong:
            return dy[order]
        dx = np.empty(shape)
        dx[order] = dy
        return dx

    return forward, backward


@student((5, 3), repeats_lost=r"several have to be added|overwrit|\+=")
def embedding(wrong):
    words = np.array([[0, 3, 1], [3, 3, 4]])

    def forward(E):
        return E[words], E.shape

    def backward(dy, shape):
        dE = np.zeros(shape)
        if wrong:
            dE[words] += dy
        else:
            np.add.at(dE, words, dy)
        return dE

    return forward, backward


@student(
    (4, 3),
    (4, 3),
    halves_exchanged=r"returns them in the wrong order",
    first_half_twice=r"db is the gradient da, which is right itself.* returned twice",
)
def concatenated(wrong):
    def forward(a, b):
        return np.tanh(np.concatenate([a, b], axis=1)), (a, b)

    def backward(dy, cache):
        d = dy * (1 - np.tanh(np.concatenate(cache, axis=1)) ** 2)
        if wrong == "halves_exchanged":
            return d[:, 3:], d[:, :3]
        return d[:, :3], d[:, :3] if wrong == "first_half_twice" else d[:, 3:]

    return forward, backward
