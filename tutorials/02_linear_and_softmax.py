# %% [markdown]
# # Linear and softmax: a whole network by hand
#
# Two matrices, a ReLU between them, a softmax at the end: that reads handwritten digits. We write its forward and its
# backward pass line by line, and hold each intermediate against the engine. Takes about 1 s.
# Notation: $x$ (N, 64) images, $W_1$ (32, 64), $W_2$ (10, 32), logits $z$, $p = \mathrm{softmax}(z)$, $L$ the loss.
# Four times you are asked to **predict first**: put your guess where None stands, and run on.
# %%
import matplotlib.pyplot as plt
import numpy as np

from minires import gradcheck, init, nn, ops, tutorial
from minires.data import load_digits
from minires.plot.style import COLORS, caption, new_figure

digits = load_digits()
x_train, x_test = (images.reshape(-1, 64).astype(np.float64) for images in (digits.x_train, digits.x_test))
x, labels = x_train[:64], digits.y_train[:64]

# %% [markdown]
# ## Softmax and its loss
# $p_k = e^{z_k} / \sum_j e^{z_j}$, and $L = -\log p_{\text{label}}$, averaged over the images.
#
# **Predict first.** Somebody adds 1000 to all logits. By how much does the loss change?
# %%
tutorial.guess("2.1", None)
# %%
z = np.array([[1.0, 2.0, 0.5]])
before, after = (ops.softmax_cross_entropy_forward(logits, np.array([1]))[0] for logits in (z, z + 1000))
tutorial.reveal("2.1", after - before)

# %% [markdown]
# ($e^{1000}$ overflows, so the engine takes the largest logit off all of them first.) Now back. From
# $\log p_k = z_k - \log \sum_j e^{z_j}$ follows $\partial L / \partial z_k = p_k - 1$ for the label, else $p_k$.
#
# **Predict first.** One image, $p = (0.7, 0.2, 0.1)$, and class 0 is right. What is the gradient at the logits?
# %%
tutorial.guess("2.2", None)  # three numbers in brackets
# %%
_, cache = ops.softmax_cross_entropy_forward(np.log([[0.7, 0.2, 0.1]]), np.array([0]))
tutorial.reveal("2.2", tuple(ops.softmax_cross_entropy_backward(1.0, cache)[0]))


# %% [markdown]
# ## Forward
# What these lines compute is kept, for the way back will ask for it.
# %%
def forward(x, labels, w1, b1, w2, b2):
    z1 = x @ w1.T + b1  # (N, 32)
    a1 = np.maximum(z1, 0)
    z2 = a1 @ w2.T + b2  # (N, 10)
    e = np.exp(z2 - z2.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    return -np.log(p[np.arange(len(p)), labels]).mean(), (x, z1, a1, p, w1, w2)


# %% [markdown]
# ## Backward
# The same lines from the last to the first. Each product $y = x W^T$ leaves two: $dx = dy\, W$ and $dW = dy^T x$. No
# need to remember them: only one way of multiplying the three shapes fits.
#
# **Predict first.** dz1 has shape (64, 32), $x$ has (64, 64). Which shape does $dW_1$ have?
# %%
tutorial.guess("2.3", None)  # a shape, as in (2, 3)


# %%
def backward(labels, cache):
    x, z1, a1, p, _, w2 = cache
    dz2 = (p - np.eye(10)[labels]) / len(p)
    dw2, db2, da1 = dz2.T @ a1, dz2.sum(axis=0), dz2 @ w2
    dz1 = da1 * (z1 > 0)
    return {"z2": dz2, "a1": da1, "z1": dz1, "w1": dz1.T @ x, "b1": dz1.sum(axis=0), "w2": dw2, "b2": db2}


model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).astype(np.float64)
init.initialize(model, rng=2)
weights = [parameter.value.copy() for parameter in model.parameters()]  # w1, b1, w2, b2
loss, cache = forward(x, labels, *weights)
mine = backward(labels, cache)
tutorial.reveal("2.3", mine["w1"].shape)

# %% [markdown]
# Is it right? The engine's layers do the same, and an observer is told what goes in and out of each of them.
# %%
head, heard = nn.SoftmaxCrossEntropy(), {}
with model.observe(lambda layer, *told: heard.update({told[:2]: told[2:]})):  # heard[path, direction]: in and out
    assert np.isclose(head.forward(model.forward(x), labels), loss)
    model.backward(head.backward())
assert np.allclose(heard["0", "forward"][1], cache[1]) and np.allclose(heard["1", "forward"][1], cache[2])
assert np.allclose(heard["2", "backward"][0], mine["z2"]) and np.allclose(heard["2", "backward"][1], mine["a1"])
assert np.allclose(heard["1", "backward"][1], mine["z1"])
names = ("w1", "b1", "w2", "b2")
assert all(map(np.allclose, [p.grad for p in model.parameters()], [mine[name] for name in names]))

# %% [markdown]
# **Predict first.** Take each of the 64 images twice, 128 in all. By which factor does $dW_1$ change?
# %%
tutorial.guess("2.4", None)
# %%
twice = backward(np.tile(labels, 2), forward(np.tile(x, (2, 1)), np.tile(labels, 2), *weights)[1])
tutorial.reveal("2.4", np.sum(twice["w1"] * mine["w1"]) / np.sum(mine["w1"] ** 2))

losses = []
for _ in range(200):  # steps of gradient descent on all images at once
    loss, cache = forward(x_train, digits.y_train, *weights)
    losses.append(loss)
    grads = backward(digits.y_train, cache)
    weights = [w - 0.5 * grads[name] for w, name in zip(weights, names, strict=True)]
accuracy = np.mean(forward(x_test, digits.y_test, *weights)[1][3].argmax(axis=1) == digits.y_test)
assert accuracy > 0.9 and losses[-1] < 0.2 * losses[0]
fig, axes = new_figure(1, 1, size=(7, 3.4), title="A few lines forward, a few lines back, and it reads digits")
axes[0, 0].plot(losses, color=COLORS[0])
axes[0, 0].axhline(np.log(10), color="black", linestyle=":")
caption(axes[0, 0], f"{accuracy:.0%} of test images read right; dotted: log(10)", x="step", y="loss (nats)")
plt.show()


# %% [markdown]
# ## Exercises
# 1. **Temperature.** $p = \mathrm{softmax}(z/T)$; return dlogits. cache is (p, one_hot, T).
# 2. **A small network**: $y = \tanh(x W_1^T) W_2^T$. Return dx, dW1, dW2; cache is (x, a, w1, w2), a the tanh.
# %%
def exercise_1(dy, cache):
    raise NotImplementedError("yours to write")


def exercise_2(dy, cache):
    raise NotImplementedError("yours to write")


def warm(logits):
    e, one_hot = np.exp(logits / 2.5), np.eye(3)[[0, 2, 1, 1]]
    p = e / e.sum(axis=1, keepdims=True)
    return -np.sum(one_hot * np.log(p)) / 4, (p, one_hot, 2.5)


def two(x, w1, w2):
    return np.tanh(x @ w1.T) @ w2.T, (x, np.tanh(x @ w1.T), w1, w2)


inputs = list(map(np.random.default_rng(3).standard_normal, ((4, 3), (5, 3), (2, 5))))
tutorial.exercise("2.1", lambda: gradcheck.check_op(warm, exercise_1, inputs[:1]))
tutorial.exercise("2.2", lambda: gradcheck.check_op(two, exercise_2, inputs))
# %% [markdown]
# After a try: `tutorial.solution("2.1")`. **What to change next:** the step 0.5; or leave out the ReLU, forward
# and back. What has it learned? `plt.imshow(weights[0][0].reshape(8, 8))` shows one row of $W_1$ as an image.
