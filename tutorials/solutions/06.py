"""Tutorial 06: the answers to its questions, and its exercises solved. Read it after a try."""

import math

from minires.tutorial import Answer

ANSWERS = {
    "6.1": Answer(
        (-1.0, 1.0),
        within=0.01,
        wrong={
            (3.0, 3.1): "That is x itself; the mean 3.05 is taken off, and the rest divided by its size.",
            (-0.05, 0.05): "The mean is taken off, but the deviations are divided by their own size, 0.05, too.",
            (-0.707, 0.707): "The variance is the biased one: it divides by m = 2, not by m - 1.",
            (0.0, 1.0): "That maps the smallest to 0 and the largest to 1; BatchNorm makes mean 0 and variance 1.",
        },
        why="Two numbers become -1 and 1 whatever they were: a batch of two keeps only which one was larger.",
    ),
    "6.2": Answer(
        6.0,
        within=5 * math.sqrt(2 / 6 / 20_000),  # five standard deviations of the mean of 20,000 chi-squares with 6
        wrong={
            8: "That is the direct path alone; the two others take something away.",
            7: "The path through the mean takes one direction of eight, and the one through the variance another.",
        },
        why="Of m directions two are taken out, the shift and the stretch: m - 2.",
    ),
    "6.3": Answer(
        4 / 3,
        within=1e-6,
        wrong={
            1: "The running variance is the unbiased one, v m/(m - 1), as in PyTorch; forward uses the biased one.",
            0.75: "The other way round: the running variance is the larger one.",
        },
        why="m/(m - 1): at m = 4 it is a third, at m = 128 x 32 x 32 it cannot be seen.",
    ),
    "6.4": Answer(
        (math.pi / (math.pi - 1)) ** (19 / 2),
        within=0.08,  # the law is that of wide layers: squared, 1.2/width + 1.5/batch a layer, nineteen times
        wrong={
            1: "BatchNorm keeps the activations; nothing in it keeps the gradient.",
            1.467**19: "pi/(pi - 1) = 1.467 is the factor of the squared gradient; its rms grows by the root, 1.211.",
            2 ** (-19 / 2): "The ReLU halves the square, but BatchNorm divides by a variance that is smaller than 1/2.",
        },
        why="Squared, each layer gives pi/(pi - 1) = 1.467; in rms 1.211, nineteen times.",
    ),
}


# %% exercise 1
def exercise_1(dy, cache):
    xhat, inv = cache
    through_mean = dy.mean(axis=1, keepdims=True)
    through_var = xhat * (dy * xhat).mean(axis=1, keepdims=True)
    return (dy - through_mean - through_var) * inv


# %% exercise 2
def exercise_2(dy, cache):
    xhat, weight, inv = cache.xhat[:, 0], cache.weight, cache.inv
    return dy * weight * inv, (dy * xhat).sum(axis=0), dy.sum(axis=0)
