"""Tutorial 09: the answers to its questions, and its exercises solved. Read it after a try."""

import math

from minires.tutorial import Answer

ANSWERS = {
    "9.1": Answer(
        5,
        wrong={
            6: "The first layer sums 9 products alone: it leaves 0.021 of the images, not 0.06.",
            3: "After three layers it is 0.021 x 0.06 x 0.06 = 0.00008.",
            4: "After four layers it is 0.021 x 0.06^3 = 0.000005: still above a millionth.",
            20: "The factor is 0.06 in every layer: after twenty it is 10^-25.",
        },
        why="sqrt(0.0001 x 9 / 2) = 0.021, then sqrt(0.0001 x 72 / 2) = 0.06 a layer.",
    ),
    "9.2": Answer(
        (1.38 * 1.31 * 1.3) ** (18 / 2),
        within=0.7,  # of 8 channels: single networks lie between a third of the law and one and a half times
        wrong={
            1: "BatchNorm keeps the activations' scale; nothing in it keeps the gradient's.",
            (1.38 * 1.31 * 1.3) ** 18: "That is the factor of the squared gradient; its rms grows by the root.",
            1.467**27: "That is without the edges: zeros around small maps take a part of each gradient.",
            56: "Each layer multiplies: the growth is exponential in depth, not proportional to it.",
        },
        why="(1.38 x 1.31 x 1.3)^18 is the square's. With shortcuts it is a power of the depth instead: about ten.",
    ),
    "9.3": Answer(
        (2.4 * 2.0 * 1.4) ** (6 / 2),
        within=0.5,  # sum over layers, profile of the edges: a law for the order of magnitude
        wrong={
            2.8: "Not with the depth, 56/20: each block multiplies.",
            (2.4 * 2.0 * 1.4) ** 6: "That is the factor of the square; what bounds the rate, c, goes as its root.",
            3**9: "That is without the edges, which take a third and more of what a branch on a small map adds.",
            1: "The higher the blocks lift the signal, the more a step changes the output.",
        },
        why="c sums |df/dW| / |W|, and that grows as the signal's rms: the root of 2.4 x 2 x 1.4 = 6.7, six times.",
    ),
    "9.4": Answer(
        8,
        within=0.35,  # a run or two may go either way: the law leaves two of the sixteen undecided
        wrong={
            16: "N(0, 0.01^2) dies without BatchNorm, and 56 layers are too many for all but one of the networks.",
            4: "BatchNorm alone is enough at 20 layers, from any start.",
            12: "Without BatchNorm the signal of most starts has died, or explodes, even at 20 layers.",
            0: "With BatchNorm, 20 layers learn from any of the three.",
        },
        why="Foreseen to move: 20 layers with BatchNorm (6), residual with Xavier, and 56 layers with both.",
    ),
}


# %% exercise 1
def exercise_1(kernel, rate, momentum):
    return rate / (1 - momentum) * sum(math.sqrt(T) / norm for _, T, norm in kernel.layers)


# %% exercise 2
def exercise_2(kernel, momentum):
    return 10**3.2 * (1 - momentum) / sum(math.sqrt(T) / norm for _, T, norm in kernel.layers)
