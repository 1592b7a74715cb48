"""Tutorial 07: the answers to its questions, and its exercises solved. Read it after a try."""

import math

import numpy as np

from minires.tutorial import Answer

ANSWERS = {
    "7.1": Answer(
        2,
        wrong={
            6: "Everything before the last BatchNorm is multiplied by its gain, 0, on the way back.",
            0: "The last gain itself is multiplied by xhat and the last offset by 1: those two learn at once.",
            1: "The last offset learns, too: its gradient is the sum of dy.",
        },
        why="The last gain and offset. After one step the gain is no longer 0, and the others wake up.",
    ),
    "7.2": Answer(
        3,
        within=0.06,
        wrong={
            2: "That is a branch of gain 1. Only its first layer has a ReLU to make up for, so its gain is 2: 1 + 2."
        },
        why="1 for the stream and 2 for the branch; on average over networks, at any width.",
    ),
    "7.3": Answer(
        1 - math.comb(18, 9) / 4**9,
        within=0.03,
        wrong={
            0.5: "Each step is symmetric, but it starts from h >= 0, where the last ReLU left it.",
            0.5**9: "Units are not switched off for good: a step upward switches them on again.",
        },
        why="1 - C(2n, n)/4^n with n = 9, for any symmetric step (Sparre Andersen 1953).",
    ),
    "7.4": Answer(
        1 - 2 / math.pi,
        within=0.1,
        wrong={
            1: "The sum's branch adds 1 before the ReLU; the wall takes most of it away, and part of it is a mean.",
            0.5: "That would be the half which a ReLU keeps of a square; the wall is met ever more rarely.",
        },
        why="Of a walk with a wall, |N(0, n)| in the end, the variance grows by 1 - 2/pi = 0.363 a step.",
    ),
}


# %% exercise 1
def exercise_1(dy, cache):
    x, weight, a = cache
    return dy + a * (dy @ weight) * (x > 0), a * dy.T @ np.maximum(x, 0)


# %% exercise 2
def exercise_2(dy, x_shape):
    dx = np.zeros(x_shape)
    dx[:, :, ::2, ::2] = dy[:, 1:-1]
    return dx
