"""Tutorial 04: the answers to its questions, and its exercises solved. Read it after a try."""

import math

import numpy as np

from minires.tutorial import Answer

ANSWERS = {
    "4.1": Answer(
        1 / 12,
        wrong={
            1 / 144: "That is the variance; its root is asked for.",
            math.sqrt(2 / 576): "That counts the fan_out, 64 x 9; an output sums over the fan_in, 32 x 9 = 288.",
            math.sqrt(1 / 288): "That is LeCun's law; He doubles the variance, for the half that a ReLU throws away.",
            math.sqrt(2 / 32): "The kernel's 3 x 3 places are products, too: fan_in is 32 x 9 = 288.",
        },
        why="The square root of 2/288.",
    ),
    "4.2": Answer(
        1000 * math.erfc(2 / math.sqrt(2)),
        within=0.72,  # five standard deviations of a count of 45.5
        wrong={
            0: "z is a standard normal number, and one of those lies beyond 2 in 4.6 % of all draws.",
            23: "That is one side only.",
        },
        why="A standard normal, for a uniform law as well: its missing tails are in kappa = 1.8.",
    ),
    "4.3": Answer(
        0.5,
        within=0.052,  # five standard deviations of the mean square of 18,432 normal numbers
        wrong={
            2: "The other way round: the fan_out is twice the fan_in here, and it stands below the line.",
            0.707: "That is the factor of the standard deviation; the variance is its square.",
            1 / 18: "The 3 x 3 places count in both fans, so they cancel.",
        },
        why="fan_in / fan_out = 32 / 64.",
    ),
}


# %% exercise 1
def exercise_1(shape, rng):
    bound = math.sqrt(6 / math.prod(shape[1:]))
    return rng.uniform(-bound, bound, shape)


# %% exercise 2
def exercise_2(shape, rng):
    rows, columns = shape[0], math.prod(shape[1:])
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))
    return (q if rows >= columns else q.T).reshape(shape)
