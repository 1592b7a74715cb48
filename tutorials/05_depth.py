# %% [markdown]
# # Depth: vanishing and exploding signals
#
# One layer multiplies a signal by some factor. Twenty layers multiply by its twentieth power: 0.9²⁰ = 0.12, 0.5²⁰ is
# one in a million. Whether a deep network can learn at all is decided by a factor that must be 1, in two directions:
# activations on the way up, gradients on the way down. Here we compute it before we run anything.
#
# Notation: z = W a, a' = φ(z); q = E z²; gain = Var W · fan_in (LeCun and, on square matrices, Xavier: 1; He: 2).
# Going on: q' = gain · E φ(√q Z)², Z a standard normal. Going back: the second moment times χ = gain · E φ'(√q Z)².
# Four times you are asked to **predict first**: write your answer down, then run the cell. Takes about 4 s.
# %%
import math

import matplotlib.pyplot as plt
import numpy as np

from minires import init, nn
from minires.plot.signal import Signal, draw_signals
from minires.plot.style import COLORS, caption, new_figure
from minires.theory import compare, measure, predict
from minires.theory.laws.activations import SIGMOID, TANH
from minires.theory.laws.plain_networks import fixed_point, relu_log_law

WIDTH, DEPTH, BATCH = 128, 20, 32
LAWS = {"N(0, 0.01²)": init.Normal(0.01), "Xavier": init.XavierNormal(), "He": init.HeNormal()}


def network(activation: type[nn.Layer]) -> nn.Sequential:
    """DEPTH square linear layers, each with its activation."""
    layers = [(nn.Linear(WIDTH, WIDTH, bias=False), activation()) for _ in range(DEPTH)]
    return nn.Sequential(*(layer for pair in layers for layer in pair)).astype(np.float64)


def signals(activation: type[nn.Layer]) -> dict[str, Signal]:
    """What the theory foretells of each initializer, and what eight networks do."""
    net, shape = network(activation), (BATCH, WIDTH)
    both = {n: (predict(net, shape, weight=w), measure(net, shape, weight=w, seeds=8)) for n, w in LAWS.items()}
    return {name: Signal(*pair) for name, pair in both.items()}


def rms(signal: Signal, layer: int, quantity: str = "forward") -> float:
    """Measured root mean square behind the activation of a layer, counted from 1."""
    return math.sqrt(getattr(signal.measured[str(2 * layer - 1)], quantity).mean)


# %% [markdown]
# ## ReLU: half of it is thrown away
# z is symmetric, so relu keeps half of its second moment: E relu(z)² = q/2, and the gradient passes half of the gates.
# A layer multiplies both by gain/2, exactly, at any width.
#
# **Predict first (1).** With Xavier's gain of 1: which rms is left after 20 layers, if the first layer has 0.7?
# %%
relu = signals(nn.ReLU)
draw_signals(relu, "ReLU: He keeps the signal in both directions, the others lose it in both", ["ReLU"])
assert 0.5e-3 < rms(relu["Xavier"], 20) / rms(relu["Xavier"], 1) < 2 * 2 ** (-19 / 2)  # 2^-9.5 = 0.0014
assert rms(relu["He"], 20) > 0.4
assert rms(relu["N(0, 0.01²)"], 20) < 1e-15  # gain 0.0128: a factor of 12 lost in every layer

# %% [markdown]
# The line was computed without running the network. Is it right? `compare` asks it of every layer, with a threshold
# that comes from the law itself and lets one report in a million fail by chance.
# %%
for name, (predicted, measured) in relu.items():
    print(name, "-", compare(predicted, measured).verdict)
    assert compare(predicted, measured).ok

# %% [markdown]
# ## Sigmoid: no usual initializer saves it
# φ(0) = ½, so activations are fine: they sit near 0.5 whatever comes in. The trouble is on the way down: φ' ≤ ¼.
#
# **Predict first (2).** Activations look perfect. By which factor does the gradient's rms shrink per layer?
# %%
sigmoid = signals(nn.Sigmoid)
draw_signals(sigmoid, "Sigmoid: healthy activations (above), and gradients that are gone (below)", ["Sigmoid"])
xavier = fixed_point(SIGMOID, 1.0)
assert 0.2 < math.sqrt(xavier.chi) < 0.25  # χ = 0.056: close to the bound gain/16
assert 0.4 < rms(sigmoid["Xavier"], 20) < 0.7
assert rms(sigmoid["Xavier"], 1, "gradient_in") < 1e-10
print("gain that would be needed:", next(g for g in range(1, 200) if fixed_point(SIGMOID, g).chi >= 1))

# %% [markdown]
# ## tanh: between order and chaos
# tanh(z) ≈ z for small z, so Xavier's gain of 1 nearly fits: the signal shrinks slowly, as 1/√depth, and the gradient
# as a power of the depth, not exponentially. A gain above 1 has a fixed point q* > 0 at which the signal stays.
#
# **Predict first (3).** With He's gain of 2 the activations are steady. And the gradients: steady, dying or growing?
# %%
tanh = signals(nn.Tanh)
draw_signals(tanh, "tanh: Xavier loses little; He is steady going up, and grows going down", ["Tanh"])
assert fixed_point(TANH, 2.0).chi > 1.1  # +5 % in rms per layer: explodes, if slowly
assert 1.5 < rms(tanh["He"], 1, "gradient_out") < 4 and rms(tanh["Xavier"], 1, "gradient_out") < 0.5
assert rms(tanh["Xavier"], 20) > 0.1
for gain in (1 / 3, 1, 2, 25 / 9):  # 25/9 = (5/3)²: the "gain for tanh" of a well-known library
    print(f"gain {gain:.2f}: q* = {fixed_point(TANH, gain).q:.3f}, χ = {fixed_point(TANH, gain).chi:.3f}")

# %% [markdown]
# ## One network is one sample
# He's law holds on average over networks. Each layer's ratio |a'|²/|a|² has mean 1 and relative variance 5/width, so
# log |a|² is nearly normal with mean -(5/2)·depth/width and variance 5·depth/width: the mean stays 1 because few
# networks are very large. A bigger batch does not help, since all images go through the same weights.
#
# **Predict first (4).** 400 He networks, width 32, 20 layers. What share of them ends below the mean?
# %%
rng, width = np.random.default_rng(5), 32
ratios = []
for _ in range(400):
    a = rng.standard_normal(width)
    start = np.sum(a**2)
    for _ in range(DEPTH):
        a = np.maximum(init.HeNormal().sample((width, width), rng, np.float64) @ a, 0)
    ratios.append(np.sum(a**2) / start)
law = relu_log_law([width] * DEPTH)
assert 0.7 < np.mean(np.array(ratios) < 1) < 0.9
assert abs(math.log(np.median(ratios)) - law.mean) < 0.5  # the typical network keeps a fifth

fig, axes = new_figure(1, 1, size=(7, 3.6), title="Most networks lie far below their mean")
ax, bins = axes[0, 0], np.arange(-8, 5, 0.5)
ax.hist(np.log(ratios), bins, density=True, color=COLORS[1], alpha=0.4)
grid = np.linspace(-8, 5, 300)
bell = np.exp(-0.5 * (grid - law.mean) ** 2 / law.variance) / math.sqrt(2 * math.pi * law.variance)
ax.plot(grid, bell, color=COLORS[0])
ax.axvline(0, color="black", linestyle=":")
caption(ax, "400 networks and the log-normal law; dotted: their mean", x="log of |a_20|²/|a_0|²", y="density")

# %% [markdown]
# ## Exercises: fill in, run the cell, and let the laws be the judge
# 1. Leaky ReLU keeps (1 + slope²)/2 of a second moment. Which gain conserves the signal at slope 0.3?
# 2. χ needs no table: estimate it for tanh at any gain by random numbers. Iterate q' = gain · mean tanh(√q Z)² until it
#    stands still, then return gain · mean (1 - tanh²)².
# %%


def exercise_1(slope: float) -> float:
    raise NotImplementedError("yours to write")


def exercise_2(gain: float, z: np.ndarray) -> float:
    raise NotImplementedError("yours to write: z holds standard normal numbers")


try:
    leaky = nn.Sequential(*(nn.Linear(64, 64, bias=False), nn.LeakyReLU(0.3)) * 10)
    report = predict(leaky, (8, 64), weight=init.VarianceScaling(exercise_1(0.3), "fan_in", "normal"))
    print("exercise 1:", math.isclose(report["0"].forward.mean, report["18"].forward.mean, rel_tol=1e-9))
    mine = exercise_2(2.0, rng.standard_normal(100_000))
    print("exercise 2:", abs(mine - fixed_point(TANH, 2.0).chi) < 0.01)
except NotImplementedError as error:
    print(error)
plt.show()
