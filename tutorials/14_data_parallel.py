# %% [markdown]
# # Data parallelism: many ranks, one gradient
#
# Several machines train one network, each on its share of every batch. What must they tell each other so that their
# step is the step of one machine? Here two threads play the machines, or *ranks* (a browser has no threads: run it on
# a computer): stop where a `group` comes in, and step through rank 0. Notation: a batch of N images, N_r on rank r.
# Three times you are asked to **predict first**: put your guess where None stands, and run on. Takes about 3 s.
# %%
import copy
import shutil
import subprocess
import sys
from importlib.util import find_spec

import matplotlib.pyplot as plt
import numpy as np

from minires import nn, tutorial
from minires.data import load_digits
from minires.fast.compiled import Compiled
from minires.ops import batchnorm_backward, batchnorm_forward
from minires.parallel.in_one_process import on_ranks, what_is_wrong
from minires.plot.style import COLORS, caption, new_figure

N, shares = 16, (slice(0, 6), slice(6, 16))  # uneven, as they are whenever the ranks do not divide the batch
x, labels = load_digits().x_train[:N].astype(np.float64), load_digits().y_train[:N]

# %% [markdown]
# `group.rank` says who I am, `group.size` how many we are, and `group.sum(rows)` adds up the rows of all.
# %%
assert on_ranks(lambda group: group.sum(np.arange(N)[shares[group.rank], None]).item()) == [120, 120]

# %% [markdown]
# ## The sum of the shares' gradients
# The loss is a mean, $L = \frac{1}{N} \sum_i \ell_i$, and a gradient is linear: $\nabla L = \frac{1}{N} \sum_i \nabla
# \ell_i$. A rank knows its own images alone, and its gradient $g_r$ is that of the mean over these.
# **Predict first.** By which number must $g_0$, of 6 images of 16, be multiplied before the two are added?
# %%
tutorial.guess("14.1", None)
# %%


def gradient(model, share, batch):
    """Of 1/batch times the sum of the losses of the images in `share`: all weights' in one row (K,)."""
    loss = nn.SoftmaxCrossEntropy()
    loss.forward(model.forward(x[share]), labels[share])
    model.zero_grad()
    model.backward(loss.backward() * (len(x[share]) / batch))
    return np.concatenate([p.grad.ravel() for p in model.parameters()])


plain = nn.resnet(8, width=4, in_channels=1, batchnorm=False).astype(np.float64)
whole = gradient(plain, slice(0, N), N)
pair = np.stack([gradient(plain, shares[0], 6), gradient(plain, shares[1], 10)], axis=1)
tutorial.reveal("14.1", np.linalg.lstsq(pair, whole)[0][0])  # the factors with which the two make up the whole
sums = on_ranks(lambda group: group.sum(gradient(copy.deepcopy(plain), shares[group.rank], N)[None]))
assert all(np.allclose(found, whole, rtol=0, atol=1e-12) for found in sums)  # on both ranks

# %% [markdown]
# ## What BatchNorm breaks
# That took one thing for granted: an image's loss depends on no other image. BatchNorm subtracts the batch's mean and
# divides by its standard deviation. Which batch's? A rank that asks nobody takes those of its share.
# **Predict first.** Rank 0 has the values 0 and 2, rank 1 has 10 and 12; each finds a variance of 1. And all four?
# **Predict first.** All values on rank 0 are 0, all on rank 1 are 1. With the statistics of the whole batch, BatchNorm
# makes -1 and +1 of them. What does rank 1 make of its ones if it asks nobody?
# %%
tutorial.guess("14.2", None)
tutorial.guess("14.3", None)
# %%


def variance(group):
    mine = np.array([[[0.0], [2]], [[10], [12]]])[group.rank]
    count, total, squares = group.sum(np.concatenate([np.ones_like(mine), mine, mine**2], axis=1))
    return squares / count - (total / count) ** 2  # variances do not add up; sums of x and of x^2 do


tutorial.reveal("14.2", on_ranks(variance)[1])
tutorial.reveal("14.3", batchnorm_forward(np.ones((4, 1)), np.ones(1), np.zeros(1))[0][0, 0])

# %% [markdown]
# So each BatchNorm asks for three sums forward, and backward for those of dy and dy x. (Gradients of all ranks' images
# meet there: the factor N_r / N belongs to the loss, before backward.) The compiled model does it with any group.
# %%
normed = nn.resnet(8, width=4, in_channels=1).astype(np.float64)
whole = gradient(copy.deepcopy(normed), slice(0, N), N)
alone = sum(on_ranks(lambda group: gradient(copy.deepcopy(normed), shares[group.rank], N)))
together = sum(on_ranks(lambda group: gradient(Compiled(copy.deepcopy(normed), 1, group), shares[group.rank], N)))
assert np.allclose(together, whole, rtol=0, atol=1e-12) and not np.allclose(alone, whole, rtol=0, atol=0.01)
ends = np.cumsum([p.value.size for p in normed.parameters()])[:-1]
fig, axes = new_figure(1, 1, size=(8, 4), title="Together the gradient is exact; alone it is another one")
for name, found, mark, color in (("alone", alone, "s", COLORS[1]), ("together", together, "o", COLORS[0])):
    parts = zip(np.split(found, ends), np.split(whole, ends), strict=True)
    axes[0, 0].semilogy([abs(a - b).max() / abs(b).max() for a, b in parts], mark, color=color, label=name)
axes[0, 0].legend(frameon=False)
caption(axes[0, 0], x="parameter, from the first layer to the last", y="difference / largest gradient")
plt.show()
# %% [markdown]
# ## The same with processes
# A group of MPI's ranks has the same `sum`: `mpiexec -n 4 python -m minires train --parallel mpi` trains with it, on
# one machine or on four, and `python -m minires predict --parallel 4` says beforehand what that will bring.
# %%
program = """import numpy, minires.parallel
with minires.parallel.MPIGroup() as group:
    total = group.sum(numpy.arange(16)[group.share(16), None])
    print(f"rank {group.rank} of {group.size} has the sum {total}\\n", end="")"""
mpiexec = shutil.which("mpiexec") if find_spec("mpi4py") else None
ranks = [mpiexec, "-n", "2", sys.executable, "-c", program]
print(subprocess.run(ranks, capture_output=True, text=True).stdout if mpiexec else 'no MPI: pip install -e ".[mpi]"')

# %% [markdown]
# ## Exercises
# 1. BatchNorm's way back on one rank, gain 1: dy, xhat (N_r, C), inv (C,) -> dx. Its two means are those of all ranks.
# 2. A sum in a ring: vector (n,) of this rank -> the sum over all ranks. n is a multiple of `size`; `swap(part)` sends
#    a part of n / size numbers to the right and gives the one that came from the left. 2 (size - 1) swaps will do.


# %%
def exercise_1(dy, xhat, inv, group):
    raise NotImplementedError("yours to write")


def exercise_2(vector, rank, size, swap):
    raise NotImplementedError("yours to write")


def back(group, solve):
    return solve(dy[shares[group.rank]], xhat[shares[group.rank]], cache.inv, group)


def ring(group, solve):
    def swap(part):
        if np.size(part) > 2:
            raise ValueError(f"{np.size(part)} numbers at once; a part of 8 among 4 ranks has 2")
        return group.collect(np.array(part))[group.rank - 1]

    return solve(vectors[group.rank].copy(), group.rank, group.size, swap)


rng = np.random.default_rng(14)
dy, vectors = rng.standard_normal((N, 3)), rng.standard_normal((4, 8))
cache = batchnorm_forward(rng.standard_normal((N, 3)), np.ones(3), np.zeros(3))[1]
dx, xhat = batchnorm_backward(dy, cache)[0], cache.xhat[:, 0]
dxs, total = [dx[share] for share in shares], [vectors.sum(axis=0)] * 4
tutorial.exercise("14.1", lambda: what_is_wrong(on_ranks(lambda group: back(group, exercise_1)), dxs))
tutorial.exercise("14.2", lambda: what_is_wrong(on_ranks(lambda group: ring(group, exercise_2), 4), total))
# %% [markdown]
# After a try: `tutorial.solution("14.1")`. **What to change next:** three ranks, and every third image to each:
# `sum(on_ranks(lambda group: gradient(copy.deepcopy(normed), slice(group.rank, N, 3), N), 3)) - whole`.
