"""Tutorial 08: the answers to its questions, and its exercises solved. Read it after a try."""

import math

from minires.tutorial import Answer

ANSWERS = {
    "8.1": Answer(
        math.log(10),
        wrong={
            0.1: "That is the probability itself; the loss is minus its logarithm.",
            0.9: "That is the share of wrong answers; cross-entropy asks for the logarithm of the probability.",
            1: "That is the decimal logarithm; the loss takes the natural one.",
            3.32: "That is in bits; with the natural logarithm it is 2.3 nats.",
        },
        why="-log(1/10), whatever the labels are.",
    ),
    "8.2": Answer(
        10,
        within=1e-4,  # 0.9^100 of it is still missing
        wrong={
            1: "That is the first step; the velocity keeps 0.9 of what it had and adds to it.",
            1.9: "That is the second step; the sum 1 + 0.9 + 0.81 + ... goes on.",
            0.9: "The velocity keeps 0.9 of what it had, and the gradient is added to that.",
            100: "Old gradients fade: after ten steps a third of one is left.",
        },
        why="1 + 0.9 + 0.81 + ... = 1/(1 - 0.9): with momentum 0.9 the rate is ten times what it says.",
    ),
    "8.3": Answer(
        1 - 0.9**10,
        within=1e-4,
        wrong={
            1: "Each step brings a tenth of what is missing, not of the whole.",
            0.1: "That is after one step.",
            0.349: "That is what is still missing, 0.9 to the tenth.",
            0.9: "That is how much a step keeps.",
        },
        why="1 - 0.9^10: early tests look worse than the network is.",
    ),
    "8.4": Answer(
        1,
        wrong={
            0: "p - t at the logits is not zero, and the last bias gets it undiminished.",
            2: "The head's weights get p - t times its input, and that is zero behind zeros.",
            23: "What comes down through a weight of zero is zero.",
        },
        why="The bias of the head alone: it can learn how frequent each digit is, and nothing else.",
    ),
    "8.5": Answer(
        "gone",
        wrong={"stuck": "64 labels can be learned by heart, right or wrong."},
        why="They are learned by heart (arXiv:1611.03530): a run that cannot do that has a bug, not bad data.",
    ),
}


# %% exercise 1
def exercise_1(dy, cache):
    p, target = cache
    return dy * (p - target) / len(p)


# %% exercise 2
def exercise_2(dy, cache):
    w, d = cache
    return dy * d * w
