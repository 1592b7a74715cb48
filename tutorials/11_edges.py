# %% [markdown]
# # Edges: padding, stride, dilation and small maps
#
# A convolution "of 9 taps" has 9 only inside the image. At an edge some read the padding, zeros, and the output is
# smaller; a stride reads some pixels twice and others never. On a 4x4 map twelve of sixteen outputs are edges. Here we
# count taps, and see what the counts do to signals and gradients.
#
# Notation: an axis of H pixels, kernel k, stride s, padding p, dilation d. Output i reads pixel i·s + t·d - p by tap t.
# Four times you are asked to **predict first**: write your answer down, then run the cell. Takes about 2 s.
# %%
import math

import matplotlib.pyplot as plt
import numpy as np

from minires import init, nn, ops
from minires.plot.style import COLORS, caption, new_figure
from minires.theory import ConvGeometry, measure, predict

rng = np.random.default_rng(11)
WHITE = init.VarianceScaling(1.0, "fan_in", "normal")  # keeps the mean square, where no tap is lost

# %% [markdown]
# ## Zero padding loses taps
# A 3x3 kernel with padding 1 keeps the size of the map. Along one axis the first and the last output have two taps
# inside, all others three; in two dimensions the counts multiply.
#
# **Predict first (1).** Which share of all taps falls into the padding on an 8x8 map? And on a 4x4 map?
# %%
same = {size: ConvGeometry.of((size, size), 3, padding=1) for size in (2, 4, 8, 16, 32)}
print(same[4].forward_counts)  # taps inside the image, for each output
lost = {size: 1 - geometry.coverage for size, geometry in same.items()}
assert round(lost[8], 2) == 0.16 and round(lost[4], 2) == 0.31
print({size: f"{100 * share:.0f} %" for size, share in lost.items()})

# %% [markdown]
# So much of the mean square is missing behind one layer whose weights keep it. Is it? We ask real convolutions.
# %%
conv = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False))
x = rng.standard_normal((64, 16, 8, 8)).astype(np.float32)
maps = []
for seed in range(40):
    init.initialize(conv, WHITE, rng=seed)
    maps.append(np.square(conv.forward(x)).mean(axis=(0, 1)))
measured = np.mean(maps, axis=0)
assert np.abs(measured - same[8].forward_counts / 9).max() < 0.04
fig, axes = new_figure(1, 2, size=(9, 3.8), title="A corner has 4 of 9 taps, and 4/9 of the mean square")
for ax, values, name in zip(
    axes[0], (same[8].forward_counts / 9, measured), ("taps inside / 9", "measured"), strict=True
):
    picture = ax.imshow(values, vmin=0, vmax=1, cmap="Blues")
    ax.grid(visible=False)
    caption(ax, name, x="column", y="row")
fig.colorbar(picture, ax=axes[0].tolist(), label="mean square of the output")

# %% [markdown]
# ## Depth repeats it
# The next layer reads a map whose rim is already weak, so it loses less than the first one did: the map settles into a
# shape that each layer only scales. Along one axis that shape is half a sine, and the factor is
# (1 + 2 cos(π/(H + 1)))/3: the largest eigenvalue of "sum of three neighbors", over 3.
#
# **Predict first (2).** Ten such layers on a 4x4 map: is 1/2, 1/5 or 1/15 of the mean square left?
# %%
deep = nn.Sequential(*(nn.Conv2d(16, 16, 3, padding=1, bias=False) for _ in range(10)))
left = {size: predict(deep, (8, 16, size, size), weight=WHITE)["9"].forward.mean for size in (2, 4, 8, 16, 32)}
per_layer = ((1 + 2 * math.cos(math.pi / 5)) / 3) ** 2  # both axes
assert 1 / 18 < left[4] < 1 / 12
assert abs(left[4] / per_layer**10 - 1) < 0.12  # the first layers lose a little more and a little less
print({size: f"{share:.3f}" for size, share in left.items()})

# %% [markdown]
# ## Strides: going back, pixels are not alike
# With stride 2 and a 3x3 kernel, every second pixel is read by two outputs along an axis, the others by one. Going back
# it sums two gradients instead of one. A 1x1 kernel with stride 2, which is how a shortcut halves a map, is worse.
#
# **Predict first (3).** Which share of the pixels gets no gradient at all through that shortcut?
# %%
shortcut, wide = ConvGeometry.of((8, 8), 1, 2), ConvGeometry.of((8, 8), 3, 2, 1)
assert np.mean(shortcut.backward_counts == 0) == 0.75
print(wide.height.backward_counts)  # outputs that touch each pixel along one axis: 1 2 1 2 ...
layer = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1, bias=False))
law, found = predict(layer, (8, 16, 8, 8)), measure(layer, (8, 16, 8, 8), seeds=30)
assert abs(found["0"].gradient_in.mean / law["0"].gradient_in.mean - 1) < 0.05
print("gradient: law", round(law["0"].gradient_in.mean, 3), "measured", round(found["0"].gradient_in.mean, 3))

# %% [markdown]
# ## Dilation: a larger rim
# With dilation 2 the taps stand two pixels apart; a padding of 2 keeps the size. Now two rows at each side miss one.
#
# **Predict first (4).** An 8x8 map with dilation 2 loses as many taps as a map of which size without dilation?
# %%
dilated = ConvGeometry.of((8, 8), 3, padding=2, dilation=2)
assert dilated.coverage == same[4].coverage
assert round(1 - dilated.coverage, 2) == 0.31

# %% [markdown]
# ## BatchNorm hides the loss on the way up, not on the way down
# It divides by what is left, so activations look healthy on any map. The gradient is divided as well, but loses its
# own taps on the way back: it grows less on small maps. (Without edges: π/(π-1) = 1.47 a layer, squared.)
# %%
layers = (
    layer for _ in range(8) for layer in (nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
)
net, growth = nn.Sequential(*layers), {}
for size in (2, 4, 8, 16, 32):
    rows = predict(net, (64, 32, size, size))
    growth[size] = rows["2"].gradient_out.mean / rows["23"].gradient_out.mean
    assert abs(rows["2"].forward.mean / rows["23"].forward.mean - 1) < 0.01
assert growth[2] < growth[8] < growth[32] < (math.pi / (math.pi - 1)) ** 7
fig, axes = new_figure(1, 1, size=(6, 3.4), title="The smaller the map, the less the gradient grows")
axes[0, 0].plot(list(growth), list(growth.values()), "o-", color=COLORS[0])
axes[0, 0].set_xscale("log", base=2)
caption(axes[0, 0], "seven conv-BatchNorm-ReLU layers", x="pixels an axis", y="growth of the squared gradient")

# %% [markdown]
# ## Exercises: fill in, run the cell, and let the engine be the judge
# 1. The share of taps inside the image along one axis, for any size, kernel, stride, padding and dilation.
# 2. For each pixel of an axis, the number of outputs that touch it. The judge is a gradient: with weights of one and an
#    upstream gradient of ones, conv2d_backward returns exactly that.
# %%


def coverage(size: int, kernel: int, stride: int, padding: int, dilation: int) -> float:
    raise NotImplementedError("exercise 1: yours to write")


def touching(size: int, kernel: int, stride: int, padding: int, dilation: int) -> list[int]:
    raise NotImplementedError("exercise 2: yours to write")


try:
    options = {"stride": (1, 2), "padding": (0, 2), "dilation": (1, 2)}
    y, cache = ops.conv2d_forward(np.zeros((1, 1, 1, 9)), np.ones((1, 1, 1, 3)), **options)
    judge = ops.conv2d_backward(np.ones_like(y), cache)[0].ravel()
    print("exercise 1:", math.isclose(coverage(9, 3, 2, 2, 2), ConvGeometry.of((1, 9), (1, 3), **options).coverage))
    print("exercise 2:", touching(9, 3, 2, 2, 2) == judge.tolist())
except NotImplementedError as error:
    print(error)
plt.show()
