# %% [markdown]
# # Convolution: the window, the column, the product
#
# A convolution slides a small window over an image. Written as a sum it looks like six nested loops; written as it
# is computed, it is one matrix product. The way from one to the other is called `im2col`, and its mirror image,
# `col2im`, is what the backward pass needs. Here we go both ways on a real digit.
# Notation: x (N, C, H, W) images, weight (O, C, kh, kw) filters, y (N, O, H_out, W_out); stride s, no padding.
# Three times you are asked to **predict first**: put your guess where None stands, and run on. Takes about 1 s.
# %%
import matplotlib.pyplot as plt
import numpy as np

from minires import gradcheck, tutorial
from minires.data import load_digits
from minires.ops import col2im, conv2d_backward, conv2d_forward, im2col
from minires.plot.style import caption, new_figure

x = load_digits().x_train[:4].astype(np.float64)  # four digits, (4, 1, 8, 8)
rng = np.random.default_rng(3)

# %% [markdown]
# ## The window
# One number of the output is a dot product: the filter, and the patch of the image that it lies on.
# A filter that subtracts left from right finds the vertical edges of the digit.
# %%
edge = np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])[None, None]  # (O, C, kh, kw) = (1, 1, 3, 3)


def convolve_with_loops(x: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    """The definition, for one image and one channel: slide, multiply, sum."""
    size = (x.shape[2] - 3) // stride + 1
    y = np.empty((size, size))
    for i, j in np.ndindex(y.shape):
        patch = x[0, 0, i * stride : i * stride + 3, j * stride : j * stride + 3]
        y[i, j] = np.sum(patch * weight[0, 0])
    return y


y, _ = conv2d_forward(x, edge)
assert np.allclose(y[0, 0], convolve_with_loops(x, edge, 1))

# %% [markdown]
# **Predict first.** The image is 8x8, the window 3x3. With stride 2, how many rows does the output have?
# Formula: floor((H - kh) / s) + 1. Does the last row of the image take part?
# %%
tutorial.guess("3.1", None)
# %%
y2, _ = conv2d_forward(x, edge, stride=2)
tutorial.reveal("3.1", y2.shape[2])
assert np.allclose(y2[0, 0], convolve_with_loops(x, edge, 2))  # and rows 0..6 are all that it ever met

# %% [markdown]
# ## The column
# Now take the patches out of the loop: write each of them as one column. Neighboring windows overlap, so most pixels
# are copied several times. That is the price, and it buys a plain matrix.
# %%
cols = im2col(x, 3)  # (N, C*kh*kw, H_out*W_out)
assert cols.shape == (4, 9, 36)
assert np.array_equal(cols[0, :, 7], x[0, 0, 1:4, 1:4].ravel())  # place 7 of 6x6 is row 1, column 1

# %% [markdown]
# ## The product
# All windows at once: one row for each filter, times one column for each patch.
# %%
assert np.allclose(edge.reshape(1, 9) @ cols, y.reshape(4, 1, 36))

# %% [markdown]
# ## The mirror
# Backward, each copy sends its gradient home, and a pixel that was copied nine times gets nine parts. `col2im` adds
# them up; it undoes nothing. The exact statement: <im2col(x), v> = <x, col2im(v)> for every x and v (the adjoint).
# %%
v = rng.standard_normal(cols.shape)
assert np.isclose(np.sum(im2col(x, 3) * v), np.sum(x * col2im(v, x.shape, 3)))

# %% [markdown]
# **Predict first.** Send ones home from every column: which number arrives at a corner of the image, at the middle of
# an edge, and in the middle? (Count the windows that cover the pixel.)
# **Predict first.** With stride 2, how many of the 64 pixels get a gradient of exactly zero, whatever the loss is?
# %%
tutorial.guess("3.2", None)  # three numbers, as in (5, 5, 5)
tutorial.guess("3.3", None)
# %%
copies = col2im(np.ones((1, 9, 36)), (1, 1, 8, 8), 3)[0, 0]
copies2 = col2im(np.ones((1, 9, 9)), (1, 1, 8, 8), 3, stride=2)[0, 0]
tutorial.reveal("3.2", (copies[0, 0], copies[0, 4], copies[4, 4]))
tutorial.reveal("3.3", np.sum(copies2 == 0))

fig, axes = new_figure(1, 4, size=(13, 3.9), title="What im2col copies, col2im adds up")
titles = ["a digit", "its vertical edges (dark: below 0)", "copies, stride 1", "copies, stride 2"]
for ax, picture, title in zip(axes[0], [x[0, 0], y[0, 0], copies, copies2], titles, strict=True):
    ax.imshow(picture, cmap="gray_r" if title == "a digit" else "viridis")
    ax.grid(False)
    caption(ax, title, x="column (pixels)", y="row (pixels)")
    for (i, j), count in np.ndenumerate(picture if "copies" in title else []):
        color = "white" if count < 0.7 * picture.max() else "black"
        ax.text(j, i, int(count), ha="center", va="center", color=color)
plt.show()


# %% [markdown]
# ## Backward by hand
# From y = W @ cols: dW = dy @ cols.T, and dcols = W.T @ dy, which col2im sends home. The engine gets the same numbers
# with a third of the copies (`minires/ops/conv.py` says how), and the gradient check measures both by differences.
# %%
def forward(x, weight):
    cols = im2col(x, weight.shape[2:])
    y = weight.reshape(len(weight), -1) @ cols
    return y.reshape(len(x), len(weight), x.shape[2] - 2, x.shape[3] - 2), (cols, x.shape, weight)


def backward(dy, cache):
    cols, x_shape, weight = cache
    dy = dy.reshape(*dy.shape[:2], -1)  # (N, O, places)
    dweight = np.sum(dy @ cols.transpose(0, 2, 1), axis=0).reshape(weight.shape)
    dx = col2im(weight.reshape(len(weight), -1).T @ dy, x_shape, weight.shape[2:])
    return dx, dweight


weight, dy = rng.standard_normal((2, 1, 3, 3)), rng.standard_normal((4, 2, 6, 6))
expected = conv2d_backward(dy, conv2d_forward(x, weight)[1])[:2]
assert all(map(np.allclose, backward(dy, forward(x, weight)[1]), expected))
print(gradcheck.check_op(forward, backward, [x, weight], like="conv2d"))

# %% [markdown]
# ## Exercises
# 1. Give the convolution a bias, `y[n, o] += bias[o]`: return dx, dweight **and dbias**. (dy has the shape of y.)
# 2. Write the mirror yourself, with loops: every entry of dcols is added to the pixel that it was copied from.


# %%
def exercise_1(dy, cache):
    raise NotImplementedError("yours to write")


def exercise_2(dcols, x_shape):
    raise NotImplementedError("yours to write")


def forward_with_bias(x, weight, bias):
    y, cache = forward(x, weight)
    return y + bias[:, None, None], cache


tutorial.exercise("3.1", lambda: gradcheck.check_op(forward_with_bias, exercise_1, [x, weight, np.array([0.5, -1.0])]))
small = rng.standard_normal((2, 1, 8, 8))
tutorial.exercise("3.2", lambda: gradcheck.check_op(lambda x: (im2col(x, 3), x.shape), exercise_2, [small]))
# %% [markdown]
# After a try: `tutorial.solution("3.1")`. **What to change next:** the filter, and run on from there. This one finds
# horizontal edges: `edge = edge.transpose(0, 1, 3, 2)`, and this one blurs: `edge = np.full((1, 1, 3, 3), 1 / 9)`.
