# %% [markdown]
# # BatchNorm: three paths back, and what they cost
#
# Networks with it do not care how large their weights are. We take it apart, then put twenty in a row.
# Notation: a channel has $m$ values $x_i$ in a batch; $\mu$ and $v$ are their mean and (biased) variance,
# $\hat x_i = (x_i - \mu)/\sqrt{v + \varepsilon}$, $y_i = \gamma \hat x_i + \beta$ (Ioffe, Szegedy, arXiv:1502.03167).
# Four times: **predict first**, put your guess where None stands, and run on. Takes about 2 s.
# %%
from functools import partial

import matplotlib.pyplot as plt
import numpy as np

from minires import gradcheck, init, nn, tutorial
from minires.ops import batchnorm_backward, batchnorm_forward
from minires.plot.style import COLORS, caption, new_figure
from minires.theory import measure

rng = np.random.default_rng(6)

# %% [markdown]
# ## Forward
# **Predict first.** A batch of two images, one pixel each: 3.0 and 3.1. What comes out ($\gamma=1$, $\beta=0$)?
# %%
tutorial.guess("6.1", None)  # two numbers, as in (0.5, 0.5)
# %%
y, _ = batchnorm_forward(np.array([[3.0], [3.1]]), np.ones(1), np.zeros(1))
tutorial.reveal("6.1", y[:, 0])
x = rng.normal(5, 3, (8, 1))
y, cache = batchnorm_forward(x, np.ones(1), np.zeros(1))
xhat = cache.xhat.ravel()
assert np.allclose(y, (x - x.mean()) / np.sqrt(x.var() + 1e-5))  # np.var divides by m, and that is meant

# %% [markdown]
# ## Backward: three paths
# $x_i$ reaches the loss directly, through $\mu$, and through $v$. With $g_i$ the gradient that arrives at $\hat x_i$,
# and $\langle g \rangle$ the mean of the $g_j$ over the batch:
#
# $$\frac{\partial L}{\partial x_i}=(g_i - \langle g\rangle - \hat x_i \langle g\hat x\rangle)/\sqrt{v + \varepsilon}$$
#
# The second term comes through $\mu$, the third through $v$. Geometry says the same: $y$ does not notice if all $x_i$
# are shifted, nor if their deviations are stretched. The two paths take out of the gradient what could not matter.
# **Predict first.** $m = 8$, and the $g_i$ are random, of variance 1. So the sum of their squares is 8 on average. What
# is the sum of squares of the bracket, on average?
# %%
tutorial.guess("6.2", None)


# %%
def three_paths(g, xhat):
    return g, -np.full_like(g, g.mean()), -xhat * (g * xhat).mean()


many = [np.sum(np.sum(three_paths(rng.standard_normal(8), xhat), axis=0) ** 2) for _ in range(20_000)]
tutorial.reveal("6.2", np.mean(many))

g = rng.standard_normal(8)
dx, dweight, dbias = batchnorm_backward(g[:, None], cache)
assert np.allclose(dx.ravel(), sum(three_paths(g, xhat)) * cache.inv), "the engine walks the same three paths"
assert np.allclose([dbias[0], dweight[0]], [g.sum(), (g * xhat).sum()])
assert abs(dx.sum()) < 1e-12 and abs((dx.ravel() * xhat).sum()) < 1e-5  # shift and (but for epsilon) stretch: nothing

# %% [markdown]
# ## Training and evaluation
# In evaluation $\mu$ and $v$ are constants: running averages of what training saw. Two of the three paths are gone, and
# an image's output no longer depends on the other images.
# **Predict first.** Batches of $m = 4$: what is running_var, after many steps on one batch, divided by the $v$ that
# forward used?
# %%
tutorial.guess("6.3", None)
# %%
norm, batch = nn.BatchNorm2d(1).astype(np.float64), x[:4]
for _ in range(400):
    norm.forward(batch)
tutorial.reveal("6.3", norm.running_var[0] / batch.var())
norm.eval()
assert np.allclose(norm.infer(batch[:1]), norm.infer(batch)[:1]), "other images do not matter"


# %% [markdown]
# ## Twenty layers, three scales
# $\mathrm{BN}(cz) = \mathrm{BN}(z)$, but for $\varepsilon$: forward does not notice the scale of the weights before a
# BatchNorm. So $L(cW) = L(W)$. Differentiate both sides: $\nabla L(cW) = \nabla L(W)/c$. The step does notice it.
# %%
def signals(scale, batchnorm=True, activation=nn.ReLU, batch=512, depth=20, width=256):
    """rms of activations and gradients behind each layer, and of one dL/dW. Weights: He's times scale."""
    norm = nn.BatchNorm2d if batchnorm else lambda width: nn.Identity()
    blocks = [(nn.Linear(width, width, bias=False), norm(width), activation()) for _ in range(depth)]
    law = init.VarianceScaling(2 * scale**2, "fan_in", "normal")
    rows = measure(nn.Sequential(*sum(blocks, ())), (batch, width), weight=law, seeds=1)
    after = [rows[str(3 * layer + 2)] for layer in range(depth)]
    columns = [r.forward for r in after], [r.gradient_out for r in after], [rows["27"].weight_gradient]
    return [np.sqrt([quantity.mean for quantity in column]) for column in columns]


scales = {"He / 3": 1 / 3, "He": 1.0, "He x 3": 3.0}
plain, normed = ({name: signals(scale, batchnorm) for name, scale in scales.items()} for batchnorm in (False, True))
assert plain["He / 3"][0][-1] < 1e-8 and plain["He x 3"][0][-1] > 1e8
assert all(np.allclose(normed[name][0], np.sqrt(0.5), rtol=0.02) for name in scales)
assert np.isclose(normed["He"][2][0] / normed["He x 3"][2][0], 3, rtol=0.01)

# %% [markdown]
# So the activations are perfect: rms $\sqrt{1/2}$ in every layer, at any scale. It is often said that BatchNorm
# therefore cures vanishing and exploding gradients. Going back, a ReLU halves the squared gradient, He's weights double
# it, and BatchNorm divides it by the variance of its input: twice that of $\mathrm{relu}(z)$, $z$ normal.
# **Predict first.** By which factor is the gradient's rms at layer 1 larger than at layer 20?
# %%
tutorial.guess("6.4", None)
# %%
backward, layers = normed["He"][1], np.arange(1, 21)
tutorial.reveal("6.4", backward[0] / backward[-1])
fig, axes = new_figure(1, 2, size=(11, 4), title="BatchNorm: activations are flat, gradients explode")
for style, (name, (forward, *_)) in zip(("--", "-", ":"), plain.items(), strict=True):
    axes[0, 0].semilogy(layers, forward, style, color=COLORS[1], label=f"{name}, plain")
axes[0, 0].semilogy(layers, normed["He"][0], "o", color="black", markersize=4, label="all three, BatchNorm")
caption(axes[0, 0], "without BatchNorm the scale decides", x="layer", y="rms of activations")
axes[0, 1].semilogy(layers, backward, "o", color="black", markersize=4, label="run, with BatchNorm")
axes[0, 1].semilogy(layers, backward[-1] * (np.pi / (np.pi - 1)) ** ((20 - layers) / 2), color=COLORS[0], label="law")
caption(axes[0, 1], "with BatchNorm the gradient grows on its way down", x="layer", y="rms of the gradient")
axes[0, 0].set(ylim=(1e-11, 1e16), xticks=range(0, 21, 5)), axes[0, 1].set(xticks=range(0, 21, 5))
axes[0, 0].legend(frameon=False), axes[0, 1].legend(frameon=False)
plt.show()


# %% [markdown]
# ## Exercises
# 1. **LayerNorm** normalizes rows of x (N, D) instead of columns. Return its dx; cache is (xhat, inv), inv (N, 1).
# 2. **Evaluation.** $\mu$ and $v$ are given. Return dx, dweight, dbias; use cache.xhat[:, 0], cache.weight, cache.inv.
# %%
def exercise_1(dy, cache):
    raise NotImplementedError("yours to write")


def exercise_2(dy, cache):
    raise NotImplementedError("yours to write")


def layernorm(x):
    y, cache = batchnorm_forward(x.T, np.ones(len(x)), np.zeros(len(x)))
    return y.T, (y.T, cache.inv[:, None])


evaluation = partial(batchnorm_forward, mean=np.array([0.3, -0.2, 0.1]), var=np.array([2.0, 0.5, 1.5]))
inputs = [rng.standard_normal((5, 3)), np.array([1.2, -0.7, 0.4]), np.array([0.1, 0.0, -0.3])]
tutorial.exercise("6.1", lambda: gradcheck.check_op(layernorm, exercise_1, inputs[:1]))
tutorial.exercise("6.2", lambda: gradcheck.check_op(evaluation, exercise_2, inputs))
# %% [markdown]
# After a try: `tutorial.solution("6.1")`. **What to change next:** `signals(1, activation=nn.Tanh)`, or
# `signals(1, batch=8)`. On the exponential: Yang et al., arXiv:1902.08129; what shortcuts do to it: tutorial 07.
