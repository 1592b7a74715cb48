# %% [markdown]
# # Edges: padding, stride, dilation and small maps
#
# A convolution "of 9 taps" has 9 only inside the image. At an edge some read the padding, zeros, and the output is
# smaller; a stride reads some pixels twice and others never. On a 4x4 map twelve of sixteen outputs are edges. Here we
# count taps, and see what the counts do to signals and gradients. Takes about 3 s.
# Notation: an axis of $H$ pixels, kernel $k$, stride $s$, padding $p$, dilation $d$. Output $i$ reads pixel
# $i s + t d - p$ by tap $t$ (Dumoulin, Visin, arXiv:1603.07285, draws all cases).
# Five times you are asked to **predict first**: put your guess where None stands, and run on.
# %%
import math

import matplotlib.pyplot as plt
import numpy as np

from minires import init, nn, tutorial
from minires.ops import conv2d_backward, conv2d_forward
from minires.plot.style import COLORS, caption, new_figure
from minires.theory import measure, predict

rng = np.random.default_rng(11)
WHITE = init.VarianceScaling(1.0, "fan_in", "normal")  # keeps the mean square, where no tap is lost


def taps(size, kernel, **options):
    """With an image of ones and a weight of ones, a convolution counts the taps inside. And the way back."""
    y, cache = conv2d_forward(np.ones((1, 1, *size)), np.ones((1, 1, *kernel)), **options)
    return y[0, 0], conv2d_backward(np.ones_like(y), cache)[0][0, 0]


# %% [markdown]
# ## Zero padding loses taps
# A 3x3 kernel with padding 1 keeps the size of the map. Along one axis the first and the last output have two taps
# inside, all others three; in two dimensions the counts multiply.
#
# **Predict first.** Which share of all taps falls into the padding on an 8x8 map? And on a 4x4 map?
# %%
tutorial.guess("11.1", None)  # two numbers, as in (0.5, 0.5)
# %%
lost = {size: 1 - taps((size, size), (3, 3), padding=1)[0].mean() / 9 for size in (2, 4, 8, 16, 32)}
tutorial.reveal("11.1", (lost[8], lost[4]))
print({size: f"{100 * share:.0f} %" for size, share in lost.items()})

# %% [markdown]
# Is so much of the mean square missing behind one layer whose weights keep it? We ask real convolutions.
# %%
conv = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False))
x, measured = rng.standard_normal((64, 16, 8, 8), np.float32), np.zeros((8, 8))
counts = taps((8, 8), (3, 3), padding=1)[0]
for seed in range(40):
    init.initialize(conv, WHITE, rng=seed)
    measured += np.square(conv.forward(x)).mean(axis=(0, 1)) / 40
assert np.abs(measured - counts / 9).max() < 0.04
fig, axes = new_figure(1, 2, size=(9, 4.2), title="A corner has 4 of 9 taps, and 4/9 of the mean square")
for ax, values, name in zip(axes[0], (counts / 9, measured), ("taps inside / 9", "measured, 40 networks"), strict=True):
    ax.imshow(values, vmin=0, vmax=2, cmap="Blues")
    ax.grid(visible=False)
    for (row, column), value in np.ndenumerate(values):
        ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8)
    caption(ax, name, x="column", y="row")

# %% [markdown]
# ## Depth repeats it
# The next layer reads a map whose rim is already weak, so it loses less than the first one did: the map settles into a
# shape that each layer only scales. Along one axis that shape is half a sine, and the factor is
# $(1 + 2 \cos\frac{\pi}{H + 1})/3$: the largest eigenvalue of "sum of three neighbors", over 3.
#
# **Predict first.** Ten such layers on a 4x4 map: which share of the mean square is left?
# %%
tutorial.guess("11.2", None)
# %%
square = np.ones((1, 1, 4, 4))
for _ in range(10):  # the mean square behind a layer, pixel by pixel: the mean over 9 taps of the one before
    square = conv2d_forward(square, np.full((1, 1, 3, 3), 1 / 9), padding=1)[0]
tutorial.reveal("11.2", square.mean())
deep = nn.Sequential(*(nn.Conv2d(16, 16, 3, padding=1, bias=False) for _ in range(10)))
left = {size: predict(deep, (8, 16, size, size), weight=WHITE)["9"].forward.mean for size in (2, 4, 8, 16, 32)}
assert math.isclose(left[4], square.mean(), rel_tol=1e-4)
print({size: f"{share:.3f}" for size, share in left.items()})

# %% [markdown]
# ## Strides: going back, pixels are not alike
# With stride 2 and a 3x3 kernel, every second pixel is read by two outputs along an axis, the others by one. Going back
# it sums two gradients instead of one. A 1x1 kernel with stride 2, which is how a shortcut halves a map, is worse.
# **Predict first.** Which share of the pixels gets no gradient at all through that shortcut?
#
# ## Dilation: a larger rim
# With dilation 2 the taps stand two pixels apart; a padding of 2 keeps the size. Now two rows at each side miss one.
# **Predict first.** An 8x8 map with dilation 2 loses as many taps as a map of which size without dilation?
# %%
tutorial.guess("11.3", None)
tutorial.guess("11.4", None)  # 2 for 2x2, and so on
# %%
tutorial.reveal("11.3", np.mean(taps((8, 8), (1, 1), stride=2)[1] == 0))
assert np.array_equal(taps((1, 8), (1, 3), stride=(1, 2), padding=(0, 1))[1], [[1, 2, 1, 2, 1, 2, 1, 1]])
dilated = 1 - taps((8, 8), (3, 3), padding=2, dilation=2)[0].mean() / 9
tutorial.reveal("11.4", next(size for size, share in lost.items() if math.isclose(share, dilated)))

# %% [markdown]
# ## BatchNorm hides the loss on the way up
# It divides by what is left, so activations look healthy on any map. And on the way down? Without edges each layer
# multiplies the gradient's square by $\pi/(\pi - 1) = 1.47$ (06).
#
# **Predict first.** On small maps, does it grow "more", "less" or the "same"?
# %%
tutorial.guess("11.5", None)  # a word, in quotes
# %%
triples = ((nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()) for _ in range(8))
net, sizes = nn.Sequential(*sum(triples, ())), (2, 4, 8, 16)
tables = [
    [how(net, (64, 32, size, size)) for size in sizes] for how in (predict, lambda *case: measure(*case, seeds=2))
]
law, run = ([rows["2"].gradient_out.mean / rows["23"].gradient_out.mean for rows in table] for table in tables)
tutorial.reveal("11.5", "less" if run[1] < run[2] < run[3] < (math.pi / (math.pi - 1)) ** 7 else "not less")
assert all(abs(rows["2"].forward.mean / rows["23"].forward.mean - 1) < 0.02 for rows in tables[1])
fig, axes = new_figure(1, 1, size=(6, 3.4), title="On small maps the gradient grows less")
axes[0, 0].plot(sizes, law, "--", color=COLORS[0], label="law")
axes[0, 0].plot(sizes, run, "o", color="black", label="two networks")
axes[0, 0].legend(frameon=False)
caption(axes[0, 0], "seven layers", x="pixels an axis", y="growth of the squared gradient")
plt.show()


# %% [markdown]
# ## Exercises
# 1. The share of taps inside the image along one axis, for any size, kernel, stride, padding and dilation.
# 2. For each pixel of an axis, the number of outputs that touch it: a list. The judge is the backward pass.
# %%
def exercise_1(size, kernel, stride, padding, dilation):
    raise NotImplementedError("yours to write")


def exercise_2(size, kernel, stride, padding, dilation):
    raise NotImplementedError("yours to write")


def judge(exercise, way):
    for size, kernel, s, p, d in [(8, 3, 1, 1, 1), (9, 3, 1, 0, 1), (8, 3, 2, 1, 1), (7, 5, 1, 1, 2), (6, 1, 3, 0, 1)]:
        right = way(*taps((1, size), (1, kernel), stride=(1, s), padding=(0, p), dilation=(1, d)), kernel)
        yours = exercise(size, kernel, s, p, d)
        if not np.array_equal(np.round(yours, 6), np.round(right, 6)):
            return f"size {size}, kernel {kernel}, stride {s}, padding {p}, dilation {d}: {right}, yours {yours}."
    return ""


tutorial.exercise("11.1", lambda: judge(exercise_1, lambda inside, touch, kernel: inside.mean() / kernel))
tutorial.exercise("11.2", lambda: judge(exercise_2, lambda inside, touch, kernel: touch[0].astype(int).tolist()))
# %% [markdown]
# After a try: `tutorial.solution("11.1")`. **What to change next:** the kernel: `taps((8, 8), (5, 5), padding=2)`.
