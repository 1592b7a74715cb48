"""Tutorial 14: the answers to its questions, and its exercises solved. Read it after a try."""

import numpy as np

from minires.tutorial import Answer

ANSWERS = {
    "14.1": Answer(
        0.375,
        wrong={
            0.5: "The mean of two means is the mean only of equal shares; here rank 1 has more images.",
            1: "Then images of the small share would count more than their 1/N.",
            6: "The sum over its images is 6 times its mean, and the loss still divides by 16.",
            2.67: "That is N / N_r, the other way round.",
        },
        why="N_r / N = 6/16: its mean times 6 is the sum over its images, and the loss divides by 16.",
    ),
    "14.2": Answer(
        26,
        wrong={
            1: "The mean of the variances forgets that the shares' means differ, 1 and 11.",
            2: "Variances add up for sums of independent numbers, not for a set that is put together.",
            25: "That is the variance of the two means alone; within each share 1 comes on top.",
        },
        why="Within the shares 1, between their means, 1 and 11, 25 more.",
    ),
    "14.3": Answer(
        0,
        wrong={
            1: "That needs a mean of 1/2, which rank 1 cannot know: its own mean is 1.",
            -1: "Its own mean is 1, and 1 - 1 is neither positive nor negative.",
        },
        why="x - mean is 0: what tells rank 1's images from rank 0's is gone.",
    ),
}


# %% exercise 1
def exercise_1(dy, xhat, inv, group):
    count, *sums = group.sum(np.concatenate([np.ones((len(dy), 1)), dy, dy * xhat], axis=1))
    mean_dy, mean_dy_xhat = np.split(np.array(sums) / count, 2)
    return (dy - mean_dy - xhat * mean_dy_xhat) * inv


# %% exercise 2
def exercise_2(vector, rank, size, swap):
    parts = np.split(vector, size)
    for k in range(size - 1):  # add: in the end this rank has the whole of part rank + 1
        came = swap(parts[(rank - k) % size])
        parts[(rank - k - 1) % size] = parts[(rank - k - 1) % size] + came
    for k in range(size - 1):  # share: what came in the last round goes on
        parts[(rank - k) % size] = swap(parts[(rank - k + 1) % size])
    return np.concatenate(parts)
