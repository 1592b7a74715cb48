"""For each structural hypothesis, errors that it is for, made of arrays alone or of small functions."""

from __future__ import annotations

import numpy as np

from minires.gradcheck.hypotheses import Comparison
from minires.gradcheck.jacobians import Jacobians

RNG = np.random.default_rng(0)
IMAGE = RNG.standard_normal((4, 3, 5, 5))
SQUARE = RNG.standard_normal((4, 4))
X = RNG.standard_normal((4, 3, 5, 5))
GAIN = RNG.standard_normal(3)
DY = RNG.standard_normal((4, 3, 5, 5))
SIZES = {"2": 2, "the batch size N": 4, "the number of pixels H*W": 25}


def compare(yours, expected=IMAGE, **more):
    return Comparison("dx", np.array(yours), expected, np.full(expected.shape, 1e-9), SIZES, **more)


def per_channel(values):
    return np.reshape(values, (1, 3, 1, 1))


def zero_where(array, index):
    result = array.copy()
    result[index] = 0
    return result


def shifted(array, down, right):
    result = RNG.standard_normal(array.shape)  # what comes in from outside is anything
    h, w = array.shape[2:]
    result[:, :, down:, right:] = array[:, :, : h - down, : w - right]
    return result


def first_samples_only(array):
    result = array.copy()
    result[3] = RNG.standard_normal(array[3].shape)
    return result


CENTERED = X - X.mean(axis=(0, 2, 3), keepdims=True)


def asked(yours, right, forward, backward, inputs, index=0, names=("x", "w")):
    """A comparison whose functions can be asked: forward, and the wrong backward."""
    y = forward(inputs)
    dy = np.random.default_rng(5).standard_normal(y.shape)
    evidence = Jacobians(forward, lambda dy: tuple(backward(dy, inputs)), inputs, y, dy)
    return compare(
        yours(dy, inputs),
        right(dy, inputs),
        x=inputs[index],
        evidence=evidence,
        index=index,
        names=names[: len(inputs)],
        partners={"dy": dy},
        rerun=lambda inputs: tuple(backward(dy, inputs)),
    )


def of_linear(wrong, index=0, x=SQUARE, w=SQUARE[::-1] + 0.3):
    """A comparison of y = x w^T with one gradient replaced by wrong(dy, x, w)."""

    def right(dy, inputs):
        return (dy @ inputs[1], dy.T @ inputs[0])[index]

    def backward(dy, inputs):
        both = [dy @ inputs[1], dy.T @ inputs[0]]
        both[index] = wrong(dy, *inputs)
        return both

    return asked(lambda dy, i: wrong(dy, *i), right, lambda i: i[0] @ i[1].T, backward, (x, w), index)


def of_one(forward, right, wrong, x=SQUARE):
    """A comparison of a function of one array."""
    return asked(
        lambda dy, i: wrong(dy, i[0]),
        lambda dy, i: right(dy, i[0]),
        lambda i: forward(i[0]),
        lambda dy, i: (wrong(dy, i[0]),),
        (x,),
    )


def softmax(x):
    e = np.exp(x)
    return e / e.sum(axis=1, keepdims=True)


def softmax_backward(dy, x, sign=-1, axis=1):
    p = softmax(x)
    return p * dy + sign * p * (p * dy).sum(axis=axis, keepdims=True)


def means(x):
    """Means of two neighbors along each row of (4, 4)."""
    return (x[:, :-1] + x[:, 1:]) / 2


def means_backward(dy, x, *, overwrite=False, shift=0):
    dx = np.zeros((4, 6))
    for j in range(3):
        for k in (j + shift, j + shift + 1):
            dx[:, k] = (0 if overwrite else dx[:, k]) + dy[:, j] / 2
    return dx[:, :4]


def add_up(x):
    """y_t = x_t + y_{t-1}: every step reaches all later ones."""
    return x.cumsum(axis=1)


TALL = RNG.standard_normal((6, 4))
ONE_OFF_PER_ROW = np.eye(4)[[0, 2, 1, 3]]

SHAPES = [
    (compare(SQUARE[:3].T, SQUARE[:3]), "transposed"),
    (compare(IMAGE, IMAGE.sum(axis=(0, 2, 3))), "not summed over axis 0, 2 and 3"),
    (compare(GAIN.reshape(1, 3, 1, 1), GAIN), "axes of length 1 were kept"),
    (compare(IMAGE[:1, :, :1, :1], np.broadcast_to(IMAGE[:1, :, :1, :1], IMAGE.shape)), "broadcasting"),
    (compare(np.zeros((2, 7))), "has shape (2, 7) where (4, 3, 5, 5) is needed"),
    (compare(SQUARE[:1].squeeze(), SQUARE[:1]), "an axis of length 1 is missing"),
    (compare(IMAGE.reshape(4, -1)), "in another shape"),
    (compare(np.pad(IMAGE, ((0, 0), (0, 0), (1, 1), (2, 2)))), "Cut off 1 on each side along axis 2, 2 on each side"),
]
CASES = {
    "not_finite": [(compare(np.where(IMAGE > 1, np.nan, IMAGE)), "NaN")],
    "all_zero": [(compare(0 * IMAGE), "all zeros"), (compare(1e-17 * np.sign(IMAGE)), "is 0 up to rounding")],
    "mask_missing": [(compare(IMAGE, IMAGE * (IMAGE > 0)), "a mask is missing there")],
    "dy_itself": [(compare(DY, partners={"dy": DY}), "dx is dy itself")],
    "other_direction": [
        (
            of_one(
                lambda x: np.cumsum(x, axis=1),
                lambda dy, x: np.cumsum(dy[:, ::-1], axis=1)[:, ::-1],
                lambda dy, x: np.cumsum(dy, axis=1),
            ),
            "dx runs through the features in the wrong direction",
        )
    ],
    "nearly_right": [(compare(IMAGE * (1 + 1e-6 * RNG.uniform(0.5, 1, IMAGE.shape))), "nearly right")],
    "multiple_of_itself": [
        (compare(IMAGE + 0.05 * X, x=X), "error of dx is 0.05 times x itself"),
        (compare(IMAGE - 0.1 * X, x=X), "penalty on x^2 (weight decay) in y is missing"),
    ],
    "made_of_itself": [(compare(X * per_channel(GAIN), x=X), "dx is x itself times one number for each channel")],
    "rewritten": [(compare(TALL.T.reshape(6, 4), TALL), "in the wrong order (reshape where a transpose is needed")],
    "known_derivative": [
        (of_one(np.tanh, lambda dy, x: dy * (1 - np.tanh(x) ** 2), lambda dy, x: dy * (1 - x**2)), "takes 1 - x^2"),
        (of_one(np.tanh, lambda dy, x: dy * (1 - np.tanh(x) ** 2), lambda dy, x: dy * np.tanh(x)), "takes y for"),
    ],
    "derivative": [
        (
            of_one(lambda x: x**3, lambda dy, x: 3 * x**2 * dy, lambda dy, x: dy * (3 * x**2 + np.where(x < 0, x, 0))),
            "dx is wrong where x is negative: each entry is dy times the derivative dy/dx",
        )
    ],
    "dy_rearranged": [(of_linear(lambda dy, x, w: dy.T @ w), "dx is right for dy transposed")],
    "part_of_dy": [
        (of_linear(lambda dy, x, w: dy[-1:].T @ x[-1:], 1), "dx is what the last sample of dy gives alone"),
        (of_linear(lambda dy, x, w: dy[:-1].T @ x[:-1], 1), "dx leaves out the last sample of dy"),
    ],
    "wrong_sum": [
        (
            asked(
                lambda dy, i: (dy * i[1]).sum(axis=1),
                lambda dy, i: (dy * i[1]).sum(axis=0),
                lambda i: i[0] * i[1],
                lambda dy, i: ((dy * i[1]).sum(axis=1), dy * i[0]),
                (SQUARE[0], SQUARE + 1),
            ),
            "summed over features where the sum runs over samples",
        )
    ],
    "sum_of_another": [
        (
            asked(
                lambda dy, i: (dy * i[0]).sum(axis=0),
                lambda dy, i: dy.sum(axis=0),
                lambda i: i[0] + i[1],
                lambda dy, i: (dy, (dy * i[0]).sum(axis=0)),
                (SQUARE, SQUARE[1]),
                1,
            ),
            "is the sum of dy * x over samples",
        )
    ],
    "dy_alone": [
        (
            of_linear(lambda dy, x, w: np.repeat(dy.sum(axis=0)[:, None], 4, axis=1), 1),
            "dx is the sum of dy over samples, the same along columns",
        )
    ],
    "path_missing": [
        (
            of_one(add_up, lambda dy, x: dy[:, ::-1].cumsum(axis=1)[:, ::-1], lambda dy, x: dy.copy()),
            "the other paths from it to y are missing",
        )
    ],
    "one_of_several": [
        (of_one(means, means_backward, lambda dy, x: means_backward(dy, x, overwrite=True)), "one overwrites the other")
    ],
    "dy_scaled": [
        (
            asked(
                lambda dy, i: softmax_backward(dy, i[0]),
                lambda dy, i: softmax_backward(dy * i[1], i[0]),
                lambda i: softmax(i[0]) * i[1],
                lambda dy, i: (softmax_backward(dy, i[0]), (dy * softmax(i[0])).sum(axis=0)),
                (SQUARE, SQUARE[2] + 3),
            ),
            "dx is right for dy / w: w is forgotten",
        )
    ],
    "statistic": [
        (
            asked(
                lambda dy, i: (dy * i[0]).sum(axis=0),
                lambda dy, i: (dy * i[0] / i[0].std(axis=0)).sum(axis=0),
                lambda i: i[0] / i[0].std(axis=0) * i[1],
                lambda dy, i: (dy, (dy * i[0]).sum(axis=0)),
                (SQUARE, SQUARE[2] + 3),
                1,
            ),
            "times the standard deviation of x over samples",
        )
    ],
    "other_input": [(of_linear(lambda dy, x, w: dy @ w.T), "dx is right for w transposed")],
    "misplaced": [
        (
            of_one(means, means_backward, lambda dy, x: np.roll(means_backward(dy, x), 1, axis=1)),
            "passes the right amounts on to the wrong positions",
        )
    ],
    "coupled": [
        (
            of_one(softmax, softmax_backward, lambda dy, x: softmax_backward(dy, x, axis=0)),
            "a sum runs over the wrong axis",
        )
    ],
    "sign_between": [
        (of_one(softmax, softmax_backward, lambda dy, x: softmax_backward(dy, x, 1)), "the Jacobian off its diagonal")
    ],
    "clipped": [(compare(np.clip(IMAGE, -1, 1)), "the right gradient clipped to -1 .. 1")],
    "affine_in_x": [(compare(2 * X - 0.3, x=X), "dx is 2 x -0.3 in every entry")],
    "one_in_each_row": [
        (compare(SQUARE + 0.3 * ONE_OFF_PER_ROW, SQUARE), "wrong at no more than one entry of each row"),
        (
            compare(SQUARE + 0.2 * (ONE_OFF_PER_ROW - ONE_OFF_PER_ROW[::-1]), SQUARE),
            "0.2 is taken off at the wrong column",
        ),
    ],
    "dy_summed": [
        (
            of_one(
                lambda x: np.tanh(x) @ SQUARE,
                lambda dy, x: (dy @ SQUARE.T) * (1 - np.tanh(x) ** 2),
                lambda dy, x: (dy.mean(axis=0, keepdims=True) @ SQUARE.T) * (1 - np.tanh(x) ** 2),
            ),
            "right for the mean of dy over samples",
        )
    ],
    "whole_numbers": [(compare((10 * IMAGE).astype(int), 10 * IMAGE), "fractions were cut off or rounded")],
    "constant_factor": [
        (compare(IMAGE / 4), "0.25 times what it should be: 1 / the batch size N"),
        (compare(25 * IMAGE), "25 times what it should be: the number of pixels H*W"),
        (compare(2 * IMAGE), "2 times what it should be: 2"),
        (compare(-IMAGE), "wrong sign"),
        (compare(-0.5 * IMAGE), "minus 1 / 2"),
        (compare(1.2345 * IMAGE), "1.2345 times what it should be"),
    ],
    "single_precision": [(compare(IMAGE.astype(np.float32)), "rounded to float32")],
    "transposed": [(compare(SQUARE.T, SQUARE), "row and column are exchanged")],
    "flipped": [
        (compare(IMAGE[:, :, ::-1, ::-1]), "flipped along row and column"),
        (compare(IMAGE[::-1]), "flipped along sample"),
    ],
    "swapped": [(compare(DY, partners={"dweight": DY}), "is the gradient dweight")],
    "shifted": [
        (compare(shifted(IMAGE, 1, 1)), "shifted by 1 pixel down and 1 pixel right"),
        (compare(shifted(IMAGE, 2, 0)), "shifted by 2 pixels down"),
    ],
    "zero_block": [
        (compare(zero_where(IMAGE, np.s_[:, 0])), "zero only in channel 0"),
        (compare(zero_where(IMAGE, np.s_[..., -1])), "zero only in the last column"),
    ],
    "factor_along_axis": [
        (compare(IMAGE * per_channel([2.0, 3.0, -1.0])), "for each channel (2, 3, -1)"),
        (compare(IMAGE / per_channel(GAIN), partners={"weight": GAIN}), "weight was forgotten"),
        (compare(IMAGE * per_channel(GAIN), partners={"weight": GAIN}), "multiplied by weight"),
    ],
    "multiple_of_dy": [
        (compare(IMAGE - DY, partners={"dy": DY}), "shortcut is forgotten"),
        (compare(IMAGE + DY, partners={"dy": DY}), "counted twice"),
        (compare(IMAGE - DY * (X > 0), partners={"dy": DY}), "entries (those that a gate lets through?), as if the"),
    ],
    "missing_constant": [
        (compare(IMAGE + per_channel(GAIN)), "same number along samples, rows and columns"),
        (compare(IMAGE + 0.3), "same number along samples, channels, rows and columns"),
    ],
    "missing_xhat": [
        (compare(IMAGE + CENTERED * per_channel(GAIN), x=X), "multiple of x minus its mean, along"),
        (compare(IMAGE + CENTERED * per_channel(GAIN) + per_channel(GAIN), x=X), "plus a constant"),
    ],
}
