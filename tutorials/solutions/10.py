"""Tutorial 10: the answers to its questions, and its exercises solved. Read it after a try."""

import numpy as np

from minires.tutorial import Answer

ANSWERS = {
    "10.1": Answer(
        10,
        within=0.25,  # one head's accuracy has a standard deviation of about 10 %: five of them for the mean of 400
        wrong={
            0: "It guesses: of ten classes it hits one in ten.",
            90: "The features are as good as they were, but nobody has told the head their names.",
            99: "Nearly all numbers are trained, but nobody has told the head the names of the features.",
        },
        why="Features without names: the head guesses.",
    ),
    "10.2": Answer(
        75,
        within=0.03,  # 216/288 of the convolutions' numbers at one block a stage, 792/1044 at three
        wrong={
            33: "The stages have equally many layers, but each has twice the channels of the one before.",
            57: "1 : 2 : 4 counts the channels once, but a convolution has them twice, coming in and going out.",
            50: "Twice the channels in and out make four times the numbers, not twice.",
        },
        why="Channels double both in and out, so the stages hold about 1 : 4 : 16.",
    ),
    "10.3": Answer(
        650,
        wrong={
            640: "These are the weights; each of the ten classes has a bias, too.",
            64: "Each of the ten classes has 64 weights, and a bias.",
            10: "Those are the biases alone.",
        },
        why="64 x 10 weights and 10 biases.",
    ),
    "10.4": Answer(
        "above",
        wrong={"chance": "Random filters answer differently to different images, and a linear head can use that."},
        why="Random filters keep a good deal of the image; what training adds comes in the later stages.",
    ),
}


# %% exercise 1
def exercise_1(foreign):
    return {name.removeprefix("cnn.").replace("classifier", "linear"): array for name, array in foreign.items()}


# %% exercise 2
def exercise_2(w, gamma, beta, mean, var, eps):
    scale = gamma / np.sqrt(var + eps)
    return w * scale[:, None, None, None], beta - scale * mean
