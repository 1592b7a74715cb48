"""Tutorial 12: the answers to its questions, and its exercises solved. Read it after a try."""

from minires.backend import array_namespace
from minires.tutorial import Answer

ANSWERS = {
    "12.1": Answer(
        "nowhere",
        wrong={
            "there": "That would be a silent copy in every step, the slowest bug there is: so nothing moves by itself.",
            "here": "The weights are over there; bringing them back in every step would be the slowest bug there is.",
        },
        why="Arrays of two libraries in one call are an error at the door, and the sentence above says so.",
    ),
    "12.2": Answer(
        "refused",
        wrong={
            "computed": "NumPy cannot read that memory, and the fake GPU hands nothing on: it shows each `np.` left."
        },
        why="What asks its arrays, as `xp.exp`, runs on both sides.",
    ),
    "12.3": Answer(
        (0, 2, 20, 460),
        wrong={
            (
                20,
                22,
                40,
                480,
            ): "A step alone waits for nothing: forward, backward and update are only put into the queue.",
            (0, 2, 20, 20): "Each float() asks for a number of its own: 23 a step.",
            (0, 20, 20, 460): "In the second loop float() is called in two steps only.",
            (0, 2, 20, 23): "23 a step, in 20 steps.",
        },
        why="One wait for each number that the host wants to see, none for what it only asks to be computed.",
    ),
}


# %% exercise 1
def exercise_1(dy, x):
    return dy / (1 + array_namespace(x).exp(-x))


# %% exercise 2
def exercise_2(total, loss):
    return total + loss
