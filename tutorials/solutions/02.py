"""Tutorial 02: the answers to its questions, and its exercises solved. Read it after a try."""

from minires.tutorial import Answer

ANSWERS = {
    "2.1": Answer(
        0,
        wrong={
            1000: "The factor e^1000 stands above and below the line of the fraction, and cancels.",
            -1000: "The factor e^1000 stands above and below the line of the fraction, and cancels.",
        },
        why="Only differences of logits count.",
    ),
    "2.2": Answer(
        (-0.3, 0.2, 0.1),
        within=1e-9,
        wrong={
            (0.3, -0.2, -0.1): "That is what a step adds to the logits; the gradient points where the loss grows.",
            (-1 / 0.7, 0, 0): "That is the gradient at p, -1/p; the softmax is still to be gone through.",
            (0.7, 0.2, 0.1): "That is p; from the probability of the right class 1 is taken off.",
        },
        why="p minus one-hot. It sums to 0: what the right class gains, the others lose.",
    ),
    "2.3": Answer(
        (32, 64),
        wrong={(64, 32): "That is the transpose: a gradient has the shape of what it belongs to, and W1 is (32, 64)."},
        why="The shape of W1 itself: dW1 = dz1.T @ x.",
    ),
    "2.4": Answer(
        1,
        wrong={
            2: "The sum over images doubles, but the loss is a mean: 1/N halves it again.",
            0.5: "1/N halves, but the sum over images doubles.",
        },
        why="The loss is a mean. A forgotten 1/N is seen only when the batch changes: the learning rate hides it.",
    ),
}


# %% exercise 1
def exercise_1(dy, cache):
    p, one_hot, temperature = cache
    return dy * (p - one_hot) / (len(p) * temperature)


# %% exercise 2
def exercise_2(dy, cache):
    x, a, w1, w2 = cache
    dz = (dy @ w2) * (1 - a**2)
    return dz @ w1, dz.T @ x, dy.T @ a
