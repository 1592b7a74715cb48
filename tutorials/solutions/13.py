"""Tutorial 13: the answers to its questions, and its exercises solved. Read it after a try.

On two cores of an AMD EPYC (NumPy 2.4.6 with OpenBLAS, float32) the seven ways took 16.5, 5.7, 8.7, 7.3, 4.1, 3.8 and
3.9 ms. The second core had other work then, so the threads gained nothing. Other machines differ, above all in steps 2
and 4.
"""

import numpy as np

from minires.tutorial import Answer

ANSWERS = {
    "13.1": Answer(
        3,
        wrong={
            9: "The three pixels of a row are neighbors, too: 96 numbers in one run.",
            96: "That is the order (N, C, H, W): a run for each channel and row of the patch.",
            1: "The next row of the patch begins a whole row of the image later.",
            288: "The 32 numbers of a pixel lie side by side, and so do the pixels of a row.",
        },
        why="One for each row, of 3 x 32 numbers. Memory comes in lines of 64 bytes: a run of 3 wastes most of one.",
    ),
    "13.2": Answer(
        128 * 16 * 16 * 9 * 32 * 4 / 1e6,
        wrong={
            4.2: "That is x; each of its pixels is copied into nine patches.",
            75.5: "float32 has 4 bytes, not 8.",
            12.6: "A patch has nine pixels, not three.",
        },
        why="Nine times x. It leaves every cache, so the one large product can be slower than Python's loop was.",
    ),
    "13.3": Answer(
        128 * 18 * 16 * 3 * 32 * 4 / 1e6,
        wrong={
            12.6: "Three times x, yes, and two padded rows for each image: 18 instead of 16.",
            37.7: "That is im2col; here only the horizontal neighbors are copied.",
            4.2: "That is x; a pixel is copied three times.",
        },
        why="3 x 18/16 times x instead of 9: a third of the copying. (Two rows of each product are thrown away again.)",
    ),
    "13.4": Answer(
        16 * 16 * 96 * 32,
        wrong={
            3 * 16 * 16 * 96 * 32: "That is for all three kernel rows.",
            128 * 16 * 16 * 96 * 32: "That is for all images.",
            96 * 32: "That is one place of the window; the product has 256.",
            256 * 32 * 32: "A row of the columns has 3 x 32 numbers.",
        },
        why="256 places x 96 x 32, below the million. (It is the same in all stages of resnet20. With 16 channels the "
        "way without packing need not win: try it.)",
    ),
    "13.5": Answer(
        9,
        wrong={
            8: "Nearly; 18 x 16 x 96 x 4 bytes are 110,592, and nine of those fit.",
            10: "There are 18 padded rows, not 16.",
            28: "Each pixel is there three times.",
            3: "That is with im2col's ninefold columns.",
            32: "That counts x alone.",
        },
        why="2^20 / 110,592 bytes. `minires/fast/conv.py` allows twice as much (unpadded: 21 images).",
    ),
    "13.6": Answer(
        38,
        wrong={
            19: "On the way back, too: BatchNorm's gradient has two means over the batch.",
            1: "A BatchNorm in training needs the mean and variance of the whole batch.",
            0: "A BatchNorm in training needs the mean and variance of the whole batch.",
            76: "Both sums of a pass, of x and of its square, are exchanged in one meeting.",
        },
        why="Once in each pass of each BatchNorm, with two sums a channel. It is the same with machines for threads.",
    ),
}


# %% exercise 1
def exercise_1(w):
    return w[::-1, ::-1].transpose(0, 1, 3, 2)


# %% exercise 2
def exercise_2(dy, cols):
    h = dy.shape[1]
    return np.stack([np.einsum("nijbc,nijo->bco", cols[:, a : a + h], dy) for a in range(3)])
