"""Tutorial 01: the answers to its questions, and its exercises solved. Read it after a try."""

import numpy as np

from minires.tutorial import Answer

ANSWERS = {
    "1.1": Answer(
        1e-5,
        wrong={
            1e-14: "f(h) and f(-h) agree in 13 of their 16 digits then, and the subtraction leaves three.",
            1e-8: "The square root of u is the best step of the forward difference, whose truncation is larger.",
            1e-1: "There the formula itself is off by h^2/6, a sixth of a percent.",
        },
        why="Rounding, u/h, and truncation, h^2/6, are alike near the cube root of 3u, which is 7e-6.",
    ),
    "1.2": Answer(
        0,
        wrong={
            1: "That is the plain difference, which subtracts 1 from 1 and finds no slope at all.",
            1e-10: "That is the best a central difference can do; here nothing is subtracted.",
            1e-8: "That is the best a forward difference can do; here nothing is subtracted.",
        },
        why="Nothing but a rounding (1e-16) can be lost, so h may be as small as you like.",
    ),
    "1.3": Answer(
        0.65,
        wrong={
            1: "To the left the step goes beyond 0, where the ReLU is flat.",
            0.5: "That is for an input of exactly 0; this one climbs to 1.3 h.",
            1.3: "Only the rise from 0 to 1.3 h counts, but it is divided by 2h.",
        },
        why="It rises by 1.3 h over a distance of 2h, however small h is.",
    ),
    "1.4": Answer(
        "kink",
        wrong={
            "pass": "The difference gives 1/2 there, and the backward 0: there is no derivative to compare with.",
            "fail": "The backward is right: at 0 there is no derivative that it could have missed.",
        },
        why="The entry is left out, and the report says so.",
    ),
    "1.5": Answer(
        "no",
        wrong={"yes": "y is normalized, so its sum is N times the offset whatever x is: dx really is 0 for that loss."},
        why="The sum of y does not depend on x; a random dy does see the mistake.",
    ),
}


# %% exercise 1
def exercise_1(dy, x):
    s = 1 / (1 + np.exp(-x))
    return dy * (s + x * s * (1 - s))


# %% exercise 2
def exercise_2(dy, cache):
    x, length = cache
    y = x / length
    return (dy - y * (dy * y).sum(axis=1, keepdims=True)) / length
