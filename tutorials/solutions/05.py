"""Tutorial 05: the answers to its questions, and its exercises solved. Read it after a try."""

import math

import numpy as np

from minires.theory.laws.activations import SIGMOID, TANH, activation_moments
from minires.theory.laws.plain_networks import fixed_point
from minires.tutorial import Answer


def unit_variance(layer: int, batch: int) -> float:
    """Variance of a ReLU unit over a batch, relative to E z^2: 1 - c, by the map of correlations c, from c = 0 on."""
    c = 0.0
    for _ in range(layer - 1):
        c = (math.sqrt(1 - c * c) + c * (math.pi - math.acos(c))) / math.pi
    return (1 - c) * (1 - 1 / batch)


def gradient_growth(gain: float, depth: int) -> float:
    """rms of tanh's gradient at layer 1 over that at layer `depth`: the root of the product of chi on the way."""
    q, product = gain, 1.0
    for _ in range(depth - 1):
        q = gain * float(activation_moments(TANH, q).second)
        product *= gain * float(activation_moments(TANH, q).slope2)
    return math.sqrt(product)


ANSWERS = {
    "5.1": Answer(
        2 ** (19 / 2),
        within=0.7,  # one network's log |a|^2 has variance 5 x 19/128: five standard deviations for 16 of them
        wrong={
            2**19: "That is the factor of the mean square; the rms is its root.",
            19: "Each layer divides by sqrt(2), and nineteen divisions are a power, not a sum.",
            20: "Each layer divides by sqrt(2), and nineteen divisions are a power, not a sum.",
            1: "A gain of 1 is right for a layer without activation; the ReLU throws half away, every time.",
        },
        why="sqrt(1/2) in each of the 19 layers between them.",
    ),
    "5.2": Answer(
        unit_variance(10, 32),
        within=0.25,  # `compare` has held it to its law with the law's own threshold
        wrong={
            1: "He preserves the second moment; most of it is a mean that all images share.",
            0.341: "That is the share of the variance behind the first ReLU, (pi - 1)/(2 pi); each layer leaves less.",
            0.682: "That is what one layer leaves, 1 - 1/pi; each further layer brings the images closer.",
            0.5: "He preserves the second moment, and the ReLU halves that; this is about z, and over images.",
        },
        why="Images become alike on their way up: their cosine goes to 1, and 1 minus it is left.",
    ),
    "5.3": Answer(
        math.sqrt(fixed_point(SIGMOID, 1.0).chi),
        within=0.02,
        wrong={
            1: "Steady activations say nothing about the gradient: it meets the slope, at most 1/4.",
            0.25: "That bound is reached at z = 0 only; everywhere else the slope is less.",
            0.5: "That is the activation at 0; the gradient meets the slope, at most 1/4.",
            0.0557: "That is the factor of the mean square; the rms is its root.",
        },
        why="The root of chi = 0.056: after twenty layers 10^-12 is left.",
    ),
    "5.4": Answer(
        gradient_growth(2.0, 20),
        within=0.3,  # as above
        wrong={
            1: "Steady activations do not mean steady gradients: q' = q and chi = 1 are two conditions.",
            2**9.5: "That is He's gain without a tanh; the tanh's slope is below 1 and takes nearly all of it back.",
            0.5: "The tanh saturates, but at gain 2 not enough: chi is above 1.",
        },
        why="chi is 1.11 at the fixed point, 5 % in rms for each layer: this, too, explodes, if slowly.",
    ),
    "5.5": Answer(
        50 * math.erfc(-2.5 * 20 / 32 / math.sqrt(2 * 5 * 20 / 32)),
        within=0.08,  # five standard deviations of a share of 1000
        wrong={
            50: "The mean is not the middle: a few networks are very large and hold it up.",
            100: "Then the mean could not be 1: a few networks are very large.",
        },
        why="The typical network keeps a fifth, exp(-25/16); the mean is held up by the few large ones.",
    ),
}


# %% exercise 1
def exercise_1(slope):
    return 2 / (1 + slope**2)


# %% exercise 2
def exercise_2(gain, z):
    q = 1.0
    for _ in range(200):
        q = gain * np.mean(np.tanh(np.sqrt(q) * z) ** 2)
    return gain * np.mean((1 - np.tanh(np.sqrt(q) * z) ** 2) ** 2)
