# %% [markdown]
# # Training: a residual network on real digits, step by step
#
# Training is one step, repeated: forward, loss, backward, update. We take the first steps by hand, hand them over to
# `fit`, and then make four runs ill on purpose, because a sick run is recognized by its curve. Takes about 5 s.
# Notation: $x$ (N, 1, 8, 8) images, $y$ (N,) labels from 0 to 9, $L$ the cross-entropy, $w$ any weight, $\eta$ the
# learning rate (lr). Five times you are asked to **predict first**: put your guess where None stands, and run on.
# %%
from functools import partial

import matplotlib.pyplot as plt
import numpy as np

from minires import gradcheck, init, nn, optim, tutorial
from minires.data import Augmentation, batches, load_digits
from minires.plot.style import caption, new_figure
from minires.train import TrainingDiverged, fit

digits = load_digits()  # 1,442 images to train on, 355 that training never sees
network = partial(nn.resnet, width=8, in_channels=1)
model, loss = network(8, rng=0), nn.SoftmaxCrossEntropy()
x, y = next(batches(digits.x_train, digits.y_train, 64, seed=0))

# %% [markdown]
# ## One step
# **Predict first.** A network that knows nothing gives each of ten classes the same probability. What is its loss?
# %%
tutorial.guess("8.1", None)
# %%
blank = nn.SoftmaxCrossEntropy().forward(np.zeros((len(y), 10), np.float32), y)
tutorial.reveal("8.1", blank)
drawn = loss.forward(model.forward(x), y)
assert drawn > blank  # our network, just drawn by He's law

# %% [markdown]
# "The first loss must be that of knowing nothing, or there is a bug", one reads. Ours is above it without a bug: random
# logits are confident in random answers, and that costs. Only a head of zeros starts at exactly that loss.
# The step: SGD with momentum keeps a velocity for each weight, $v \leftarrow 0.9\, v + \partial L/\partial w$, and then
# $w \leftarrow w - \eta v$. The first step has no past: the loss falls by about $\eta\, |\partial L/\partial w|^2$.
# %%
optimizer = optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
model.zero_grad()
model.backward(loss.backward())
foreseen = 1e-3 * sum(float(np.sum(p.grad**2)) for p in model.parameters())
optimizer.step()
assert 0.9 * foreseen < drawn - loss.forward(model.forward(x), y) < 1.1 * foreseen

# %% [markdown]
# **Predict first.** The gradient stays as it is for 100 steps. How many $\eta\,\partial L/\partial w$ long is the last?
# %%
tutorial.guess("8.2", None)
# %%
weight = nn.Parameter(np.zeros(1), "w")
optimizer = optim.SGD([weight], lr=0.01, momentum=0.9)
for _ in range(100):
    before, weight.grad = weight.value, np.ones(1)
    optimizer.step()
tutorial.reveal("8.2", (before[0] - weight.value[0]) / 0.01)

# %% [markdown]
# ## Many steps
# `fit` does this, batch after batch. Tests use BatchNorm's running statistics: 0.9 of the old, 0.1 of this batch's.
# **Predict first.** The running mean starts at 0. After ten steps on the *same* batch, which part of the batch's mean
# has arrived in it? (So what does it mean if a network tests badly after its first few steps?)
# %%
tutorial.guess("8.3", None)
# %%
norm, z = nn.BatchNorm2d(4), np.random.default_rng(0).normal(5, 1, (64, 4)).astype(np.float32)
for _ in range(10):
    norm.forward(z)
tutorial.reveal("8.3", np.mean(norm.running_mean / z.mean(axis=0)))

cosine, shifts = optim.Cosine(0.1, steps=4 * 23), Augmentation(pad=1)  # 4 epochs of 23 batches
history = fit(network(8, rng=0), digits, epochs=4, batch_size=64, schedule=cosine, augmentation=shifts)
print("test accuracy", [f"{row['test_accuracy']:.1%}" for row in history.epochs])
assert history.epochs[-1]["test_accuracy"] > 0.9
# %% [markdown]
# ## Sick runs
# **Predict first.** All weights are zero (BatchNorm's gains are one). Of the network's 23 arrays, how many get a
# gradient that is not zero? (Follow zeros forward, then $\partial L/\partial$logits backward.)
# **Predict first.** Shuffled labels, and the same 64 images in a hundred steps: is their loss "gone" in the end, below
# 0.1, or "stuck" near that of knowing nothing?
# %%
tutorial.guess("8.4", None)
tutorial.guess("8.5", None)
# %%
dead = network(8, weight_init=init.Zeros())
loss.forward(dead.forward(x), y)
dead.backward(loss.backward())
tutorial.reveal("8.4", len([p.name for p in dead.parameters() if p.grad.any()]))
assert len(dead.parameters()) == 23

shuffled = digits._replace(y_train=np.random.default_rng(1).permutation(digits.y_train))
few = fit(network(8), (shuffled.x_train[:64], shuffled.y_train[:64]), epochs=100, batch_size=64)
tutorial.reveal("8.5", "gone" if few.steps[-1]["loss"] < 0.1 else "stuck")
cases = {
    "lr = 0.0001:\nfalls, far too slowly": (network(8), digits, 1e-4),
    "zeros:\nstays at log(10)": (network(8, weight_init=init.Zeros()), digits, 0.1),
    "shuffled labels:\ngoes to log(10)": (network(8), shuffled, 0.1),
    "no BatchNorm, lr = 1:\nleaves the picture": (network(14, batchnorm=False), digits, 1.0),
}
curves = {"healthy, lr = 0.1:\nfalls": [row["loss"] for row in history.steps[:46]]}
for name, (sick, data, lr) in cases.items():
    try:
        found = fit(sick, data, epochs=2, batch_size=64, schedule=optim.Constant(lr))
    except TrainingDiverged as problem:
        print(problem)
        found = problem.history
    curves[name] = [row["loss"] for row in found.steps]
healthy, slow, zeros, noise, infinite = curves.values()
assert np.mean(healthy[-10:]) < 1 and 2.3 < np.mean(slow[-10:]) < np.mean(slow[:10]) and len(infinite) < 10
assert np.max(np.abs(np.subtract(zeros, np.log(10)))) < 0.05 and abs(np.mean(noise[-10:]) - np.log(10)) < 0.2

title = "A sick run is known by its curve (gray: a healthy one; dotted: log(10))"
fig, axes = new_figure(2, 3, size=(11, 6.4), title=title, sharey=True)
for ax, (name, curve) in zip(axes.flat, curves.items(), strict=False):
    ax.plot(range(1, 47), healthy, color="#BBBBBB", linewidth=4)
    ax.plot(range(1, len(curve) + 1), np.minimum(curve, 6), "k.-", markersize=4)
    ax.axhline(np.log(10), color="black", linestyle=":")
    caption(ax, name, x="step")
axes[0, 0].set_ylabel("loss (nats)"), axes[1, 0].set_ylabel("loss (nats)"), axes[1, 2].set_axis_off()
plt.show()


# %% [markdown]
# ## Exercises
# 1. **Label smoothing.** The target is no longer one-hot $t$ but $0.9\,t + 0.01$: $L = -\sum$ target $\log p / N$.
#    Return $\partial L/\partial$logits; cache is (p, target). (Any target that sums to 1 gives the same formula.)
# 2. **Weight decay.** $R = \frac{d}{2} |w|^2$ is added to the loss: return $\partial R/\partial w$; cache is (w, d).
# %%
def exercise_1(dy, cache):
    raise NotImplementedError("yours to write")


def exercise_2(dy, cache):
    raise NotImplementedError("yours to write")


def smoothed(logits):
    p, target = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), 0.9 * np.eye(10)[[3, 1, 4, 1]] + 0.01
    return -np.sum(target * np.log(p)) / 4, (p, target)


inputs = [np.random.default_rng(2).standard_normal((4, 10))]
tutorial.exercise("8.1", lambda: gradcheck.check_op(smoothed, exercise_1, inputs))
tutorial.exercise("8.2", lambda: gradcheck.check_op(lambda w: (0.05 * np.sum(w**2), (w, 0.1)), exercise_2, inputs))
# %% [markdown]
# After a try: `tutorial.solution("8.1")`. **What to change next:** the rate, or the network, as in
# `fit(network(8, batchnorm=False), digits, epochs=2, schedule=optim.Constant(0.1)).column("test_accuracy")`.
