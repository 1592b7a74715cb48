# %% [markdown]
# # Training: a residual network on real digits, step by step
#
# Training is one step, repeated: forward, loss, backward, update. Here we take the first steps by hand, hand them
# over to `fit`, and then make four runs ill on purpose, because a sick run is recognized by its curve.
#
# Notation: x (N, 1, 8, 8) images, y (N,) labels from 0 to 9, L the cross-entropy, w any weight, lr the learning rate.
# Three times you are asked to **predict first**: write your answer down, then run the cell. Takes about 10 s.
# %%
import matplotlib.pyplot as plt
import numpy as np

from minires import gradcheck, init, nn, optim
from minires.data import Augmentation, batches, load_digits
from minires.plot.style import caption, new_figure
from minires.train import TrainingDiverged, fit

digits = load_digits()  # 1,442 images to train on, 355 that training never sees


def network(depth=8, **options):
    return nn.resnet(depth, width=8, in_channels=1, **options)


model, loss = network(rng=0), nn.SoftmaxCrossEntropy()
model.output_shape((1, 1, 8, 8))
print(model)

# %% [markdown]
# ## One step
# **Predict first (1).** A network that knows nothing gives each of ten classes the same probability. What is its loss?
# (Cross-entropy is -log of the probability given to the right class.) Will our network, just drawn, do better or worse?
# %%
x, y = next(batches(digits.x_train, digits.y_train, 64, seed=0))
blank = nn.SoftmaxCrossEntropy().forward(np.zeros((len(y), 10), np.float32), y)
drawn = loss.forward(model.forward(x), y)
assert np.isclose(blank, np.log(10)), "-log(1/10) = 2.303, whatever the labels are"
assert drawn > blank, "random logits are confident in random answers, and confidence in a wrong answer costs"
print(f"knowing nothing: {blank:.3f}; as drawn by He's law: {drawn:.3f}")

# %% [markdown]
# The step itself. `backward` adds into each parameter's `.grad`; SGD with momentum keeps a velocity v for each weight:
# v = 0.9 v + dL/dw, then w = w - lr v. The first step has no past, so it goes straight down the gradient:
# the loss should fall by about lr |dL/dw|^2. That is a law one can check.
# %%
optimizer = optim.SGD(model.parameters(), lr=1e-3)
model.zero_grad()
model.backward(loss.backward())
foreseen = 1e-3 * sum(float(np.sum(p.grad**2)) for p in model.parameters())
optimizer.step()
fell = drawn - loss.forward(model.forward(x), y)
print(f"foreseen: -{foreseen:.4f}; it fell by {fell:.4f}")
assert 0.5 * foreseen < fell < 1.5 * foreseen, "a straight line, as far as lr = 1e-3 is a small step"

# %% [markdown]
# ## Many steps
# `fit` does this, batch after batch, and writes down what happened. In evaluation mode BatchNorm uses running
# statistics: after each step, running = 0.9 running + 0.1 (this batch's).
#
# **Predict first (2).** The running mean starts at 0. After ten steps on the *same* batch, which part of the batch's
# mean has arrived in it? And what does that say about testing a network after its first few steps?
# %%
norm, z = nn.BatchNorm2d(4), np.random.default_rng(0).normal(5, 1, (64, 4)).astype(np.float32)
for _ in range(10):
    norm.forward(z)
assert np.allclose(norm.running_mean / z.mean(0), 1 - 0.9**10), "65 %: early tests look worse than the network"

twin = network(rng=0)
cosine, shifts = optim.Cosine(0.1, steps=8 * 23), Augmentation(pad=1)  # 8 epochs of 23 batches
history = fit(twin, digits, epochs=8, batch_size=64, schedule=cosine, augmentation=shifts)
for row in history.epochs:
    print(f"epoch {row['epoch']}: loss {row['train_loss']:.3f}, test accuracy {row['test_accuracy']:.2%}")
assert history.epochs[-1]["test_accuracy"] > 0.95

# %% [markdown]
# ## Sick runs
# Four illnesses: a learning rate far too small; zeros for weights; labels that were shuffled; and a deeper network
# without BatchNorm at a large rate, whose loss becomes infinite, so that `fit` stops and names a layer.
#
# **Predict first (3).** With all weights at zero (and BatchNorm's gains at one), which of the network's arrays get
# a gradient that is not zero? (Follow zeros forward through the network, then dL/dlogits backward.)
# %%
dead = network(weight_init=init.Zeros())
loss.forward(dead.forward(x), y)
dead.backward(loss.backward())
assert [p.name for p in dead.parameters() if p.grad.any()] == ["linear.bias"], "all else is multiplied by a zero"

shuffled = digits._replace(y_train=np.random.default_rng(1).permutation(digits.y_train))
cases = {
    "healthy": (network(), digits, 0.1),
    "lr = 0.0001": (network(), digits, 1e-4),
    "zeros": (network(weight_init=init.Zeros()), digits, 0.1),
    "shuffled labels": (network(), shuffled, 0.1),
    "no BatchNorm, lr = 1": (network(14, batchnorm=False), digits, 1.0),
}
curves = {}
for name, (sick, data, lr) in cases.items():
    try:
        history = fit(sick, data, epochs=4, batch_size=64, schedule=optim.Constant(lr))
    except TrainingDiverged as problem:
        print(f"{name}: {problem}")
        history = problem.history
    curves[name] = [row["loss"] for row in history.steps]

assert abs(curves["zeros"][-1] - np.log(10)) < 0.1, "the bias can learn how frequent each digit is: all alike"
assert curves["shuffled labels"][-1] > 1.5 > 0.5 > curves["healthy"][-1] and len(curves["no BatchNorm, lr = 1"]) < 10

fig, axes = new_figure(1, 1, size=(9, 4.8), title="A sick run is known by its curve")
for name, curve in curves.items():
    axes[0, 0].plot(range(1, len(curve) + 1), curve, label=name, linewidth=1.2)
axes[0, 0].axhline(np.log(10), color="gray", linestyle=":", linewidth=1)
axes[0, 0].set_ylim(0, 8)
axes[0, 0].legend(frameon=False)
caption(axes[0, 0], "dotted: log(10), the loss of knowing nothing", x="step", y="loss of the batch (nats)")
plt.show()

# %% [markdown]
# ## Exercises: write the two functions below, run the cell, and let the gradient check be the judge
# 1. **Label smoothing.** The target is no longer one-hot t but 0.9 t + 0.01: the loss is -sum(target * log p) / N.
#    Return dL/dlogits. (Hint: dL/dlogits is (p - target) / N for *any* target that sums to 1.)
# 2. **Weight decay as a loss.** R = d/2 * |w|^2 is added to the loss: return dR/dw. Then look into `optim.SGD.step`.


# %%
def exercise_1(dy, cache):  # cache: (p, target)
    raise NotImplementedError("yours to write")


def exercise_2(dy, cache):  # cache: (w, d)
    raise NotImplementedError("yours to write")


def smoothed(logits):
    p = np.exp(logits - logits.max(1, keepdims=True))
    p, target = p / p.sum(1, keepdims=True), 0.9 * np.eye(10)[[3, 1, 4, 1]] + 0.01
    return -np.sum(target * np.log(p)) / len(p), (p, target)


def penalty(w):
    return 0.05 * np.sum(w**2), (w, 0.1)


rng = np.random.default_rng(2)
for forward, backward, shape in ((smoothed, exercise_1, (4, 10)), (penalty, exercise_2, (3, 5))):
    try:
        print(f"{backward.__name__}:", gradcheck.check_op(forward, backward, [rng.standard_normal(shape)]))
    except ValueError as error:
        print(f"{backward.__name__}: {error}")
