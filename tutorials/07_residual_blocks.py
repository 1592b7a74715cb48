# %% [markdown]
# # Residual blocks: a sum, and everything that follows from it
#
# A residual block adds to its input what two convolutions make of it: $h' = h + F(h)$ (arXiv:1512.03385). We go back
# through one by hand, then follow the signal through eight: inside a residual network there is a random walk, and
# its laws can be written down. Takes about 5 s.
#
# Notation: $h$ the stream, $g = F(h)$. v1 (He et al. 2015) has a ReLU behind the sum, v2 has none (arXiv:1603.05027).
# Four times you are asked to **predict first**: put your guess where None stands, and run on.
# %%
import matplotlib.pyplot as plt
import numpy as np

from minires import gradcheck, init, nn, tutorial
from minires.plot.style import COLORS, caption, new_figure

rng = np.random.default_rng(7)

# %% [markdown]
# ## Back through the sum
# A sum copies the gradient to both of its summands; where the two meet again, at $h$, they are added.
# %%
block = nn.BasicBlock(8, 8).astype(np.float64)
init.initialize(block, rng=1)
x, dy = rng.standard_normal((2, 4, 8, 5, 5))
y = block.forward(x)
expected = block.backward(dy)

block.forward(x)
dsum = dy * (y > 0)  # the gate of the last ReLU
dbranch = dsum
for layer in (block.bn2, block.conv2, block.relu1, block.bn1, block.conv1):
    dbranch = layer.backward(dbranch)
assert np.allclose(dbranch + dsum, expected), "what comes through the branch, and what came past it"

# %% [markdown]
# The term dsum has met no weight: a part arrives unharmed.
# ## Zero-gamma
# BatchNorm's gain $\gamma$ at the end of each branch may start at 0 (Goyal et al. 2017): the branch puts out nothing.
# **Predict first.** How many of the branch's six arrays (two weights, two gains, two offsets) get a gradient?
# %%
tutorial.guess("7.1", None)
# %%
init.zero_gamma(block)
block.forward(x)
block.zero_grad()
dx = block.backward(dy)
tutorial.reveal("7.1", len([parameter.name for parameter in block.parameters() if parameter.grad.any()]))
assert np.array_equal(dx, dy * (x > 0)), "to the last bit: the block is the identity, with a gate behind it"

# %% [markdown]
# ## How much does a block add?
# Without BatchNorm, with both weights from He's law: $h' = h + W_2\, \mathrm{relu}(W_1 h)$.
# **Predict first.** By which factor does the mean square grow in one such block?
# %%
tutorial.guess("7.2", None)
# %%
h, he, growth = rng.standard_normal(64), init.HeNormal(), []
for _ in range(2000):
    w1, w2 = he.sample((64, 64), rng, np.float64), he.sample((64, 64), rng, np.float64)
    growth.append(np.mean((h + w2 @ np.maximum(w1 @ h, 0)) ** 2) / np.mean(h**2))
tutorial.reveal("7.2", np.mean(growth))


# %% [markdown]
# So eight blocks make $3^8 = 6561$ of it. BatchNorm tames this: $g$ has variance 1 in every block, so the walk takes
# steps of one size.
# ## The random walk
# v1: $h_{l+1} = \max(0, h_l + g_l)$, $g_l \sim N(0, 1)$, nearly: a walk with a wall at 0 (Lindley 1952). After $n$
# steps $h$ is distributed as the largest of 0 and the first $n$ partial sums of a free walk.
#
# **Predict first.** Behind the stem's ReLU half of the units are on. Which share is on after eight more blocks?
# %%
tutorial.guess("7.3", None)


# %%
def stream(blocks, shortcut="A", width=64, batch=64):
    """(mean square, variance, share of units on) behind the stem and each block of v1; and the squared gradient."""
    stem = nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
    net = nn.Sequential(*stem, *(nn.BasicBlock(width, width, shortcut=shortcut) for _ in range(blocks)))
    init.initialize(net, rng=2)
    outputs, gradients = [], []

    def note(layer, path, direction, before, after):
        if path in map(str, range(2, 3 + blocks)):
            (outputs if direction == "forward" else gradients).append(after if direction == "forward" else before)

    with net.observe(note):
        y = net.forward(rng.standard_normal((batch, 3, 4, 4), np.float32))
        net.backward(rng.standard_normal(y.shape, np.float32))
    found = [(np.mean(h**2), np.mean(h.var(axis=(0, 2, 3))), np.mean(h > 0)) for h in outputs]
    return np.array(found).T, np.array([np.mean(g**2) for g in gradients])[::-1]


(square, variance, on), residual = stream(8)
tutorial.reveal("7.3", on[-1])

# %% [markdown]
# Being on is sticky: a unit far from the wall stays on. So the gates along a shortcut open together, on the way back.
#
# **Predict first.** "Each block adds 1 to the variance." By how much does the variance of a unit over images grow in a
# block of v1, once the walk is under way?
# %%
tutorial.guess("7.4", None)
# %%
tutorial.reveal("7.4", np.polyfit(np.arange(4, 9), variance[4:], 1)[0])
blocks = (8, 16, 32)
growth = {kind: [g[0] / g[-1] for g in (stream(n, kind)[1] for n in blocks)] for kind in ("A", None)}
assert growth["A"][2] < 7 * growth["A"][1] and growth[None][2] > growth[None][1] ** 1.5  # a power; an exponential

fig, axes = new_figure(1, 2, size=(11, 4), title="The stream walks, and its gradient grows as a power of the depth")
axes[0, 0].plot(range(9), square, "o-", color=COLORS[0], label="mean square")
axes[0, 0].plot(range(9), variance, "s--", color=COLORS[1], label="variance over images")
axes[0, 1].loglog(blocks, growth["A"], "o-", color=COLORS[0], label="with shortcuts (v1)")
axes[0, 1].loglog(blocks, growth[None], "s--", color=COLORS[1], label="the same without")
axes[0, 1].set_xticks(blocks, blocks)
axes[0, 1].minorticks_off()
axes[0, 0].legend(frameon=False), axes[0, 1].legend(frameon=False)
caption(axes[0, 0], "behind each block of v1", x="block (0: stem)", y="mean square, variance")
caption(axes[0, 1], "squared gradient: first block over last", x="number of blocks", y="growth on the way down")
plt.show()


# %% [markdown]
# ## Exercises
# 1. A block of v2 in small: $y = x + a\,\mathrm{relu}(x) W^T$. Return dx, dW; cache is (x, weight, a).
# 2. The shortcut that halves a map: $y$ = every second pixel of $x$, with a channel of zeros added at either end.
#    Return dx, of shape x_shape.
# %%
def exercise_1(dy, cache):
    raise NotImplementedError("yours to write")


def exercise_2(dy, x_shape):
    raise NotImplementedError("yours to write")


def small(x, weight):
    return x + 0.5 * np.maximum(x, 0) @ weight.T, (x, weight, 0.5)


shrink = nn.BasicBlock(8, 10, stride=2).shortcut.forward
inputs = [rng.standard_normal((5, 4)), rng.standard_normal((4, 4))]
tutorial.exercise("7.1", lambda: gradcheck.check_op(small, exercise_1, inputs))
tutorial.exercise("7.2", lambda: gradcheck.check_op(lambda x: (shrink(x), x.shape), exercise_2, [x]))
# %% [markdown]
# After a try: `tutorial.solution("7.1")`. **What to change next:** the depth, as in `stream(32)[0]`; and without
# shortcuts, `stream(32, None)[0]`.
