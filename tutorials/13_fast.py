# %% [markdown]
# # Fast: from the definition to the machine, in six steps
# One convolution, computed seven times: always the same multiplications, and several times as fast in the end. What
# changes is the order in which memory is walked through. Each step is held against the engine and timed.
# Images $x$ (N, H, W, C), $w$ (3, 3, C, O), $y_{nijo} = \sum_{abc} x^{pad}_{n,i+a,j+b,c}\, w_{abco}$, all float32.
# Six times: **predict first**, put a number where None stands, and run on. Where `bet` stands, bet on the time: how
# many times as fast is this step as the one before? Takes about 3 s.
# %%
import matplotlib.pyplot as plt
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from minires import nn, ops, tutorial
from minires.fast.compiled import Compiled
from minires.gradcheck import check_op
from minires.plot.style import COLORS, caption, new_figure
from minires.threads import Team

N, H, C, rng = 128, 16, 32, np.random.default_rng(13)  # sizes as in the middle third of resnet20
x, w = rng.standard_normal((N, H, H, C), np.float32), rng.standard_normal((3, 3, C, C), np.float32)
first, filters = np.ascontiguousarray(x.transpose(0, 3, 1, 2)), w.transpose(3, 2, 0, 1)  # the orders of the engine
exact = ops.conv2d_forward(first.astype(float), filters.astype(float), padding=1)[0].transpose(0, 2, 3, 1)
race = tutorial.Race(exact, atol=1e-3)  # sums of 288 products, in float32


def definition(x):  # at every place, the patch under the window times all filters; x lies in memory as (N, C, H, W)
    xpad, y = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), np.empty((N, H, H, C), x.dtype)
    matrix = w.transpose(2, 0, 1, 3).reshape(-1, C)
    for i, j in np.ndindex(H, H):
        y[:, i, j] = xpad[:, :, i : i + 3, j : j + 3].reshape(N, -1) @ matrix
    return y


race.enter("definition", lambda: definition(first))
# %% [markdown]
# ## Step 1: memory order
# A patch has 3 x 3 x 32 = 288 numbers. Above they lie in 96 runs of 3 neighbors in memory. **Predict first:** in how
# many runs do they lie if the channels come last, (N, H, W, C)?
# %%
tutorial.guess("13.1", None)


# %%
def channels_last(x):
    xpad, y = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), np.empty((N, H, H, C), x.dtype)
    for i, j in np.ndindex(H, H):
        y[:, i, j] = xpad[:, i : i + 3, j : j + 3].reshape(N, -1) @ w.reshape(-1, C)
    return y


places = np.arange(18 * 18 * C).reshape(18, 18, C)[5:8, 5:8].ravel()  # where each number of a patch lies
tutorial.reveal("13.1", 1 + np.count_nonzero(np.diff(places) != 1))
race.enter("1 memory order", lambda: channels_last(x), bet=None)
# %% [markdown]
# ## Steps 2 and 3: im2col with one product, and row columns
# im2col (Chellapilla, Puri, Simard 2006): all patches in one matrix, one product, no loop of Python. **Predict first:**
# x takes 4.2 megabytes ($10^6$ bytes); and that matrix? Row columns: copy only the 3 *horizontal* neighbors, in
# all 18 padded rows. The kernel's row $a$ then meets rows $a$ to $a + 15$, a slice. **Predict first:** megabytes?
# %%
tutorial.guess("13.2", None)
tutorial.guess("13.3", None)


# %%
def windows(x, window, axes):
    xpad = np.zeros((len(x), x.shape[1] + 2, x.shape[2] + 2, x.shape[3]), x.dtype)
    xpad[:, 1:-1, 1:-1] = x
    return np.moveaxis(sliding_window_view(xpad, window, axes), 3, -1)  # a view: `reshape` makes the copies


def row_columns(x, w):
    cols = windows(x, 3, 2).reshape(-1, 3 * C)  # (128 * 18 * 16, 96)
    return sum((cols @ w[a].reshape(-1, C)).reshape(N, 18, H, C)[:, a : a + H] for a in range(3))


tutorial.reveal("13.2", windows(x, (3, 3), (1, 2)).reshape(-1, 9 * C).nbytes / 1e6)
race.enter("2 im2col", lambda: windows(x, (3, 3), (1, 2)).reshape(N, H, H, -1) @ w.reshape(-1, C), bet=None)
tutorial.reveal("13.3", windows(x, 3, 2).reshape(-1, 3 * C).nbytes / 1e6)
race.enter("3 row columns", lambda: row_columns(x, w), bet=None)
# %% [markdown]
# ## Steps 4 and 5: small products, and pieces that stay in the cache
# BLAS repacks what it multiplies; for products below about a million multiply-adds OpenBLAS has a way without. So: one
# product for each image and kernel row. **Predict first:** how many multiply-adds is that? And nobody needs the columns
# of all images at once. **Predict first:** of how many do they fit into $2^{20}$ bytes, half of a core's own cache?
# %%
tutorial.guess("13.4", None)
tutorial.guess("13.5", None)


# %%
def pieces(x, w, size):
    (n, h, wide, c), o = x.shape, w.shape[3]
    shapes = (size, h + 2, wide, 3, c), (size, h * wide, o), (n, h * wide, o)
    cols, term, y = (np.zeros(shape, x.dtype) for shape in shapes)  # memory that every piece uses again
    for i in range(0, n, size):
        cols[...] = windows(x[i : i + size], 3, 2)
        for a in range(3):
            rows = cols[:, a : a + h].reshape(size, h * wide, -1)
            y[i : i + size] += np.matmul(rows, w[a].reshape(-1, o), out=term)  # one product an image
    return y.reshape(n, h, wide, o)


tutorial.reveal("13.4", H * H * w[0].size)
race.enter("4 small products", lambda: pieces(x, w, N), bet=None)
tutorial.reveal("13.5", 2**20 // windows(x[:1], 3, 2).reshape(-1, 3 * C).nbytes)
race.enter("5 pieces", lambda: pieces(x, w, 8), bet=None)
# %% [markdown]
# ## Step 6: threads by shares
# While NumPy computes, other threads may run: it pays where a core is free. Each gets a share of the images, and BLAS
# one thread. They meet only where a layer needs all images: in the 19 BatchNorms of resnet20. **Predict first:** how
# often in a training step?
# %%
tutorial.guess("13.6", None)
# %%
team, met = Team(2), []
group = type("Counter", (), {"rank": 0, "size": 1, "sum": lambda self, rows: met.append(1) or rows.sum(axis=0)})()
Compiled(nn.resnet20(width=4), 2, group).step(rng.standard_normal((4, 3, 16, 16), np.float32), np.arange(4))
tutorial.reveal("13.6", len(met))
shares = np.split(x, team.at_most(2))
race.enter("6 threads", lambda: np.vstack(team.run(len(shares), lambda g: pieces(shares[g.rank], w, 8))), bet=None)
best = race.best()
assert best["5 pieces"] < 0.7 * best["definition"]
fig, axes = new_figure(size=(9, 3.4), title="One convolution, seven ways, the best of seven rounds")
bars = axes[0, 0].barh([*best][::-1], [1000 * seconds for seconds in best.values()][::-1], color=COLORS[0])
axes[0, 0].bar_label(bars, fmt="%.1f", padding=4)
caption(axes[0, 0], x="milliseconds (less is better)")
plt.show()


# %% [markdown]
# ## Exercises: the way back, with no `col2im`
# 1. dx is again a convolution by row columns: of dy, with other weights (3, 3, O, C). Which? Return them, from w.
# 2. dw (3, 3, C, O), from dy (N, h, wide, O) and the row columns of x, cols (N, h + 2, wide, 3, C).
# %%
def exercise_1(w):
    raise NotImplementedError("yours to write")


def exercise_2(dy, cols):
    raise NotImplementedError("yours to write")


s, v = rng.standard_normal((4, 5, 6, 3)), rng.standard_normal((3, 3, 3, 2))
tutorial.exercise(
    "13.1", lambda: check_op(lambda x: (pieces(x, v, 4), v), lambda dy, v: pieces(dy, exercise_1(v), 4), [s])
)
tutorial.exercise("13.2", lambda: check_op(lambda w: (pieces(s, w, 4), windows(s, 3, 2)), exercise_2, [v]))
# %% [markdown]
# After a try: `tutorial.solution("13.1")`. **What to change next:** `race.enter("32", lambda: pieces(x, w, 32))`.
