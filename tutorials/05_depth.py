# %% [markdown]
# # Depth: vanishing and exploding signals
#
# One layer multiplies a signal by some factor, and twenty layers by its twentieth power: a half becomes a millionth.
# A factor that must be 1, in two directions, decides whether a deep network can learn. Takes about 4 s.
# Notation: $z = W a$, $a' = \varphi(z)$; $q = E z^2$; gain $= \mathrm{Var}\,W \cdot \mathrm{fan_{in}}$ (LeCun and, on
# square matrices, Xavier: 1; He: 2). Up: $q' = \mathrm{gain}\cdot E\,\varphi(\sqrt q Z)^2$, $Z$ a standard normal.
# Down: the second moment of the gradient times $\chi = \mathrm{gain}\cdot E\,\varphi'(\sqrt q Z)^2$
# (Poole et al. 2016; Schoenholz et al., arXiv:1611.01232). Five times: **predict first**, in place of None.
# %%
import matplotlib.pyplot as plt
import numpy as np

from minires import init, nn, tutorial
from minires.plot.signal import Signal, draw_signals
from minires.plot.style import COLORS, caption, new_figure
from minires.theory import compare, measure, predict
from minires.theory.laws.activations import SIGMOID, TANH
from minires.theory.laws.plain_networks import fixed_point, relu_log_law

WIDTH, DEPTH, BATCH, NETWORKS = 128, 20, 32, 16
XAVIER, HE = init.XavierNormal(), init.HeNormal()


def signals(activation: type[nn.Layer], **laws: init.Initializer) -> dict[str, Signal]:  # foretold, and measured
    layers = [(nn.Linear(WIDTH, WIDTH, bias=False), activation()) for _ in range(DEPTH)]
    net, shape = nn.Sequential(*sum(layers, ())).astype(np.float64), (BATCH, WIDTH)
    found = {n: (predict(net, shape, weight=w), measure(net, shape, weight=w, seeds=NETWORKS)) for n, w in laws.items()}
    assert all(compare(*pair).ok for pair in found.values())  # one report in a million may fail by chance
    return {name: Signal(*pair) for name, pair in found.items()}


def rms(signal: Signal, layer: int, quantity: str = "forward") -> float:  # behind a layer's activation, measured
    return np.sqrt(getattr(signal.measured[str(2 * layer - 1)], quantity).mean)


# %% [markdown]
# ## ReLU: half of it is thrown away
# $z$ is symmetric, so $E\,\mathrm{relu}(z)^2 = q/2$, and half of the gates let the gradient pass. A layer multiplies
# both second moments by gain/2, exactly, at any width (He et al., arXiv:1502.01852).
# **Predict first.** With Xavier's gain of 1: by which factor is the *rms* behind layer 20 smaller than behind layer 1?
# %%
tutorial.guess("5.1", None)
# %%
relu = signals(nn.ReLU, **{"N(0, 0.01²)": init.Normal(0.01), "Xavier": XAVIER, "He": HE})
tutorial.reveal("5.1", rms(relu["Xavier"], 1) / rms(relu["Xavier"], 20))
draw_signals(relu, "ReLU: He keeps the signal in both directions, the others lose it in both", ["ReLU"])
assert 0.5 < rms(relu["He"], 20) / rms(relu["He"], 1) < 1.5 and rms(relu["N(0, 0.01²)"], 20) < 1e-15

# %% [markdown]
# The lines were computed without running a network, and `compare` holds every layer to its line.
#
# **Predict first.** "He preserves the variance", one reads. Take a unit $z$ of layer 10: how large is its variance over
# the 32 images, relative to $E z^2$?
# %%
tutorial.guess("5.2", None)
# %%
z10 = relu["He"].measured["18"]
tutorial.reveal("5.2", z10.batch_variance.mean / z10.forward.mean)

# %% [markdown]
# So never take `np.std` of activations for their size: ReLU's outputs have a mean, and it is most of them.
# ## Sigmoid: no usual initializer saves it
# $\sigma(0) = 1/2$, so the activations sit near 0.5 whatever comes in. "Xavier suits sigmoid", one reads; he assumed
# $\varphi'(0) = 1$ (Glorot, Bengio 2010), and here it is 1/4.
# **Predict first.** Xavier. By which factor does each layer multiply the gradient's rms, on its way down?
# %%
tutorial.guess("5.3", None)
# %%
sigmoid = signals(nn.Sigmoid, Xavier=XAVIER, He=HE)
first, last = (rms(sigmoid["Xavier"], layer, "gradient_out") for layer in (1, 20))
tutorial.reveal("5.3", (first / last) ** (1 / 19))
draw_signals(sigmoid, f"Sigmoid: activations stay near 0.5, {first / last:.0e} of the gradient is left", ["Sigmoid"])
assert 0.4 < rms(sigmoid["Xavier"], 20) < 0.7
assert fixed_point(SIGMOID, 16).chi < 1 < fixed_point(SIGMOID, 110).chi  # the gain that would help: 104

# %% [markdown]
# ## tanh: between order and chaos
# $\tanh z \approx z$ for small $z$, so Xavier's gain of 1 nearly fits: signal and gradient shrink as powers of the
# depth, not exponentially. A gain above 1 has a fixed point $q^* > 0$ at which the signal stays.
# **Predict first.** With He's gain of 2 the activations are steady. By which factor is the gradient's rms at layer 1
# larger (or smaller: below 1) than at layer 20?
# %%
tutorial.guess("5.4", None)
# %%
tanh = signals(nn.Tanh, **{"Xavier": XAVIER, "He": HE, "gain (5/3)²": init.VarianceScaling(25 / 9, "fan_in", "normal")})
down = {name: rms(signal, 1, "gradient_out") / rms(signal, 20, "gradient_out") for name, signal in tanh.items()}
tutorial.reveal("5.4", down["He"])
draw_signals(tanh, f"tanh: at He's gain of 2 the gradient changes {down['He']:.1f}-fold on its way down", ["Tanh"])
assert rms(tanh["Xavier"], 20) > 0.1 and 0.2 < down["Xavier"] < 0.5 and down["gain (5/3)²"] > 2 * down["He"]
print({round(gain, 2): round(fixed_point(TANH, gain).chi, 2) for gain in (1 / 3, 1, 2, 25 / 9)})  # 5/3: of PyTorch

# %% [markdown]
# ## One network is one sample
# He's law holds on average over networks. Each layer's ratio $|a'|^2/|a|^2$ has mean 1 and relative variance 5/width,
# so $\log |a|^2$ is nearly normal, with mean $-2.5$ depth/width and variance 5 depth/width (arXiv:1812.05994). More
# images do not help: all go through the same weights.
# **Predict first.** He, width 32, 20 layers. Of a hundred networks, how many end with less than $|a_0|^2$, their mean?
# %%
tutorial.guess("5.5", None)
# %%
rng, width, ratios = np.random.default_rng(5), 32, []
for _ in range(1000):
    a = start = rng.standard_normal(width)
    for _ in range(DEPTH):
        a = np.maximum(HE.sample((width, width), rng, np.float64) @ a, 0)
    ratios.append(np.sum(a**2) / np.sum(start**2))
law = relu_log_law([width] * DEPTH)
tutorial.reveal("5.5", 100 * np.mean(np.array(ratios) < 1))
title, grid = f"{np.mean(np.array(ratios) < 1):.0%} of the networks lie below their mean", np.linspace(-8, 5, 300)
ax = new_figure(size=(7, 3.6), title=title)[1][0, 0]
ax.hist(np.log(ratios), np.arange(-8, 5, 0.5), density=True, color=COLORS[1], alpha=0.4)
ax.plot(grid, np.exp(-((grid - law.mean) ** 2) / (2 * law.variance)) / np.sqrt(2 * np.pi * law.variance), "k-")
ax.axvline(0, color="black", linestyle=":")
caption(ax, "1000 networks and the log-normal law; dotted: their mean", x=r"$\log(|a_{20}|^2/|a_0|^2)$", y="density")
plt.show()


# %% [markdown]
# ## Exercises
# 1. Leaky ReLU: $\varphi(z) = z$ above 0, slope·$z$ below. Which gain conserves the signal?
# 2. $\chi$ of tanh needs no table: z holds random numbers. Repeat $q' = \mathrm{gain}\cdot\mathrm{mean}\,\tanh(\sqrt q
#    z)^2$ until q stands still, then return $\mathrm{gain}\cdot\mathrm{mean}\,\tanh'(\sqrt q z)^2$.
# %%
def exercise_1(slope: float) -> float:
    raise NotImplementedError("yours to write")


def exercise_2(gain: float, z: np.ndarray) -> float:
    raise NotImplementedError("yours to write")


def judge_gain() -> str:
    leaky = nn.Sequential(*(nn.Linear(64, 64, bias=False), nn.LeakyReLU(0.3)) * 2)
    rows = predict(leaky, (8, 64), weight=init.VarianceScaling(exercise_1(0.3), "fan_in", "normal"))
    factor = rows["2"].forward.mean / rows["0"].forward.mean
    return "" if np.isclose(factor, 1) else f"at slope 0.3 each layer multiplies the mean square by {factor:.3g}."


def judge_chi() -> str:
    error = exercise_2(2.0, rng.standard_normal(100_000)) - fixed_point(TANH, 2.0).chi
    return "" if abs(error) < 0.01 else f"off by {error:+.2f}: is q at rest, is the slope squared, is the gain in it?"


tutorial.exercise("5.1", judge_gain)
tutorial.exercise("5.2", judge_chi)
# %% [markdown]
# After a try: `tutorial.solution("5.1")`. **What to change next:** the weights, or `WIDTH = 32`, and then
# `draw_signals(signals(nn.Tanh, orthogonal=init.Orthogonal()), "tanh, orthogonal weights", ["Tanh"])`.
