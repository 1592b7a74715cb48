# %% [markdown]
# # One weight matrix: what an initializer promises, and how to hold it to that
#
# An initializer is a law for random numbers. Before we ask what it does to a network of many layers (`05_depth`), we
# look at one matrix: which variance, which distribution, and how close a finite sample must come to them.
# Notation: W (out, in) or (out, in, kh, kw); fan_in = in·kh·kw products in one output, fan_out = out·kh·kw.
# Three times you are asked to **predict first**: put your guess where None stands, and run on. Takes about 2 s.
# %%
import math

import matplotlib.pyplot as plt
import numpy as np

from minires import init, nn, tutorial
from minires.plot.style import COLORS, caption, new_figure
from minires.theory import check_initializer
from minires.theory.samplers import weights
from minires.theory.stats import ks_test

rng = np.random.default_rng(4)
shape = (64, 32, 3, 3)
fan_in, fan_out = init.fans(shape)

# %% [markdown]
# ## Why the variance has a fan in it
# One output is y = w₁x₁ + ... + w_n x_n with n = fan_in. For independent weights with mean 0 the cross terms vanish:
# E y² = n · Var w · E x². If the signal is to keep its size, Var w must be 1/n (LeCun); if a ReLU throws half of it
# away, 2/n (He); Xavier Glorot wanted it for both directions and took the mean of the fans: 2/(fan_in + fan_out).
#
# **Predict first.** He's law on this shape, 64x32x3x3: what is the standard deviation of a weight?
# %%
tutorial.guess("4.1", None)
# %%
he = init.HeNormal()
w = he.sample(shape, rng, np.float64)
tutorial.reveal("4.1", math.sqrt(he.variance(shape)))
assert abs(w.std() * 12 - 1) < 0.02

# %% [markdown]
# ## Xavier is Glorot, Kaiming is He
# Two names, one person each: Xavier Glorot (2010), Kaiming He (2015). "Xavier for tanh, Glorot for ReLU" compares a law
# with itself. What differs is the law behind the names: He knows of the ReLU, Xavier assumes no activation at all.
# %%
assert init.GlorotNormal is init.XavierNormal and init.KaimingNormal is init.HeNormal
assert math.isclose(init.XavierUniform().variance(shape), 2 / (fan_in + fan_out))

# %% [markdown]
# ## How close must a sample come?
# The mean of w² over N weights is itself random. Its relative variance is (κ - 1)/N with κ = E w⁴/(E w²)², 3 for a
# normal and 1.8 for a uniform distribution. So z = (mean w²/Var w - 1) / sqrt((κ - 1)/N) is a standard normal: no
# tolerance to tune.
#
# **Predict first.** Of 1000 uniform matrices, how many have |z| > 2? Does it matter that the uniform law has no tails?
# %%
tutorial.guess("4.2", None)
# %%
laws = {"normal": init.HeNormal(), "uniform": init.HeUniform(), "truncated": init.TruncatedNormal(1 / 12)}
z = {
    name: np.array([weights.second_moment_z(law.sample((50, 40), rng, np.float64), law, (50, 40)) for _ in range(1000)])
    for name, law in laws.items()
}
tutorial.reveal("4.2", np.sum(np.abs(z["uniform"]) > 2))
for scores in z.values():
    assert ks_test(scores) > 1e-6  # and not only the tails: the whole distribution is that of a standard normal
fig, axes = new_figure(1, 2, size=(11, 4), title="One variance, three shapes; and every z-score is the same normal")
grid = np.linspace(-0.3, 0.3, 600)
for color, style, (name, law) in zip(COLORS, ("-", "--", ":"), laws.items(), strict=False):
    family = weights.family(law, shape)
    axes[0, 0].plot(grid, family.density(grid, 1 / 12), style, color=color, label=f"{name}, κ = {family.m4:.2f}")
    axes[0, 0].hist(law.sample(shape, 1).ravel(), 60, density=True, color=color, alpha=0.25)
    axes[0, 1].hist(z[name], np.linspace(-4, 4, 33), density=True, histtype="step", linestyle=style, color=color)
bell = np.linspace(-4, 4, 200)
axes[0, 1].plot(bell, np.exp(-0.5 * bell**2) / math.sqrt(2 * math.pi), color="black")
axes[0, 0].legend(frameon=False)
caption(axes[0, 0], "18,432 weights on the density of their law", x="weight", y="density")
caption(axes[0, 1], "z of the mean square, 1000 matrices (black: the law)", x="z", y="density")

# %% [markdown]
# ## Catching a wrong one
# A truncated normal has lost its tails and with them 23 % of its variance, unless somebody divided by sqrt(0.774). Many
# libraries have shipped that. `check_initializer` takes anybody's sampler, and names the mistake.
#
# **Predict first.** A friend writes std = sqrt(2 / fan_out). On 64x32x3x3: the variance is how many times He's?
# %%
tutorial.guess("4.3", None)
# %%
by_fan_out = init.VarianceScaling(2.0, "fan_out", "normal").sample
tutorial.reveal("4.3", np.mean(by_fan_out(shape, rng) ** 2) / he.variance(shape))
friend = check_initializer(by_fan_out, shape, he)
assert friend.verdict == "fans swapped: 2 times too small"  # fan_out / fan_in = 64 / 32


def tails_cut(s: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    z = rng.standard_normal(s)
    while (outside := np.abs(z) > 2).any():
        z[outside] = rng.standard_normal(outside.sum())
    return z * math.sqrt(2 / init.fans(s)[0])


assert check_initializer(tails_cut, shape, he).verdict == "variance 0.774 of the law: truncation not corrected"

# %% [markdown]
# ## Zero, and every other constant: symmetry
# With equal weights all units of a layer compute the same, so they receive the same gradient and stay equal for
# ever. The layer has one unit, as far as anybody can tell. Randomness is there to break this symmetry.
# %%
net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).astype(np.float64)
init.initialize(net, weight=init.Constant(0.3))
x, labels, loss = rng.standard_normal((20, 6)), rng.integers(0, 3, 20), nn.SoftmaxCrossEntropy()
for _ in range(30):  # thirty steps of gradient descent
    loss.forward(net.forward(x), labels)
    net.zero_grad()
    net.backward(loss.backward())
    for parameter in net.parameters():
        parameter.value = parameter.value - 0.5 * parameter.grad
hidden = net.layers[0].weight.value
assert np.allclose(hidden, hidden[0]) and not np.allclose(hidden[0], 0.3)  # they learned, all the same thing

# %% [markdown]
# ## Orthogonal: no entry is independent
# Q from a QR decomposition keeps every length: an identity of each draw, nothing to average. But LAPACK fixes the
# signs of Q's columns, so Q[0, 0] is never positive; only after `Q *= sign(diag R)` is every rotation equally likely.
# %%
q = init.Orthogonal().sample((40, 40), rng, np.float64)
assert weights.orthogonality(q).ok and abs(weights.mean_square(q) * 40 - 1) < 1e-13
assert max(np.linalg.qr(rng.standard_normal((8, 8)))[0][0, 0] for _ in range(50)) <= 0

# %% [markdown]
# ## Exercises
# 1. He's law with a *uniform* distribution. A uniform distribution on [-b, b] has variance b²/3; which b is it?
# 2. Orthogonal weights: flatten the shape to (out, in·kh·kw), take Q of a QR decomposition, mind the signs and the
#    case out > in·kh·kw.
# %%


def exercise_1(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    raise NotImplementedError("yours to write")


def exercise_2(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    raise NotImplementedError("yours to write")


tutorial.exercise("4.1", lambda: check_initializer(exercise_1, shape, init.HeUniform()))
tutorial.exercise("4.2", lambda: check_initializer(exercise_2, shape, init.Orthogonal()))
plt.show()
# %% [markdown]
# After a try: `tutorial.solution("4.1")`. **What to change next:** bring the judge a sampler of your own, for example
# `print(check_initializer(lambda shape, rng: rng.laplace(0, 0.06, shape), shape, he))`.
