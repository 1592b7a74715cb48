"""Tutorial 11: the answers to its questions, and its exercises solved. Read it after a try."""

import math

from minires.tutorial import Answer

ANSWERS = {
    "11.1": Answer(
        (1 - (22 / 24) ** 2, 1 - (10 / 12) ** 2),
        wrong={
            (1 / 12, 1 / 6): "That is along one axis; in two dimensions the shares that are kept multiply.",
            (28 / 64, 12 / 16): "That is the share of outputs at an edge; most of their taps lie inside.",
            (2 / 24, 2 / 12): "That is along one axis; in two dimensions the shares that are kept multiply.",
            (1 / 6, 1 / 3): "The corners lose 5 taps, not 3 + 3: the shares that are kept multiply.",
        },
        why="Along one axis 22 of 24 taps are inside, or 10 of 12; squared, for two axes. (On 2x2: 56 %.)",
    ),
    "11.2": Answer(
        ((1 + 2 * math.cos(math.pi / 5)) / 3) ** 20,
        within=0.12,  # the first layers start from a flat map and lose a little more, the later ones less
        wrong={
            (10 / 12) ** 20: "That is the first layer's loss, ten times; later layers read a rim that is weak already.",
            ((1 + 2 * math.cos(math.pi / 5)) / 3) ** 10: "That is along one axis; the map has two.",
            0.69: "That is one layer.",
            0.5: "Each layer loses a quarter of what is left; only the first one loses more.",
        },
        why="((1 + 2 cos 36 degrees)/3)^2 = 0.76 a layer, ten times.",
    ),
    "11.3": Answer(
        0.75,
        wrong={
            0.5: "Every second row, and in it every second pixel: a quarter is read.",
            0: "A 1x1 window reads one pixel, and steps over the next.",
            0.25: "That is the share that gets one.",
        },
        why="One pixel of each 2x2 is read; nothing comes back to the other three.",
    ),
    "11.4": Answer(
        4,
        wrong={
            8: "Its rim is two rows wide at each side.",
            16: "The other way round: a wider rim is that of a smaller map.",
            2: "The even and the odd pixels do not meet: along each axis, two maps of half the size.",
        },
        why="With dilation 2 the even and odd rows never meet: four 4x4 maps, interleaved.",
    ),
    "11.5": Answer(
        "less",
        wrong={
            "more": "The gradient loses its own taps on the way back, and more of them on a small map.",
            "same": "BatchNorm divides by what is left of the signal; nothing makes up for what the gradient loses.",
        },
        why="The gradient is divided as the signal is, but the taps that it loses are not made up for.",
    ),
}


# %% exercise 1
def exercise_1(size, kernel, stride, padding, dilation):
    outputs = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    pixels = [i * stride + t * dilation - padding for i in range(outputs) for t in range(kernel)]
    return sum(0 <= pixel < size for pixel in pixels) / len(pixels)


# %% exercise 2
def exercise_2(size, kernel, stride, padding, dilation):
    outputs = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    pixels = [i * stride + t * dilation - padding for i in range(outputs) for t in range(kernel)]
    return [pixels.count(pixel) for pixel in range(size)]
