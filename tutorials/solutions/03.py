"""Tutorial 03: the answers to its questions, and its exercises solved. Read it after a try."""

import numpy as np

from minires.tutorial import Answer

ANSWERS = {
    "3.1": Answer(
        3,
        wrong={
            4: "8 / 2 forgets the window's own size: starting at 6, it would stick out.",
            3.5: "(8 - 3) / 2 + 1 is 3.5, and half a window does not fit: the formula rounds down.",
            6: "That is stride 1.",
        },
        why="The window starts at 0, 2 and 4 and meets rows 0 to 6; the last row takes no part.",
    ),
    "3.2": Answer(
        (1, 3, 9),
        wrong={
            (4, 6, 9): "That is with padding 1; without it, a single window covers the corner.",
            (1, 1, 1): "col2im undoes nothing: a pixel that was copied nine times gets nine parts.",
        },
        why="1 window covers the corner, 3 the middle of an edge, 9 a pixel inside.",
    ),
    "3.3": Answer(
        15,
        wrong={
            0: "The last row and column lie in no window, so nothing can come back to them.",
            16: "The row and the column share a corner.",
            48: "Every pixel of the first seven rows and columns lies in a window, for it is wider than the stride.",
        },
        why="The last row and the last column: 8 + 8 - 1.",
    ),
}


# %% exercise 1
def exercise_1(dy, cache):
    return *backward(dy, cache), dy.sum(axis=(0, 2, 3))  # noqa: F821


# %% exercise 2
def exercise_2(dcols, x_shape):
    dx = np.zeros(x_shape)
    for n, k, place in np.ndindex(dcols.shape):
        dx[n, 0, place // 6 + k // 3, place % 6 + k % 3] += dcols[n, k, place]
    return dx
