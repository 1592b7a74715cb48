# %% [markdown]
# # The same code on a GPU: what moves, and what waits
#
# minires has no second code for GPUs. An array knows which library it belongs to, NumPy's here or CuPy's there, and
# every function asks it: `xp = array_namespace(x)`. What is left to know is what has to be **moved**, and what makes
# the host **wait**: a GPU works through a queue, and whoever asks for a number has to let that queue run dry.
#
# No GPU here? Then all of this runs on a strict **fake GPU**: it computes on the host, but refuses and counts what a
# GPU would refuse or wait for. Takes about 2 s. Three times: **predict first**, write it down, then run.
# %%
import matplotlib.pyplot as plt
import numpy as np

from minires import fake_gpu, gradcheck, nn, optim
from minires.backend import array_namespace, device_namespace, to_device, to_numpy
from minires.data import load_digits
from minires.plot.style import COLORS, caption, new_figure

try:
    device = device_namespace("cuda")
    print("running on a GPU")
except RuntimeError as reason:
    device = fake_gpu.device
    print(f"running on the fake GPU, since there is no GPU: {reason}")

x, labels = load_digits().x_train[:64], load_digits().y_train[:64]

# %% [markdown]
# ## What moves
# The parameters, the images, the labels. Random numbers are always drawn on the host and then moved, so a seed gives
# the same weights everywhere. Nothing moves by itself.
#
# **Predict first (1).** The model is over there, the images are still here. What does `model.forward(x)` do: compute
# there, compute here, or neither?
# %%
model = nn.resnet(8, width=4, in_channels=1, rng=0).to(device)
refusal = ""
try:
    model.forward(x)
except TypeError as error:
    refusal = str(error)
assert "expected arrays of one library" in refusal  # neither: a silent copy in every step is the slowest bug there is
print(refusal)

here = nn.resnet(8, width=4, in_channels=1, rng=0).forward(x)
there = to_numpy(model.forward(to_device(x, device)))
assert np.allclose(here, there, atol=1e-4)  # a GPU takes sums in another order: the last bits differ
print("largest difference of the logits:", np.abs(here - there).max())

# %% [markdown]
# ## The same code
# A function that runs on both sides asks its arrays, and uses no `np.` on them.


# %%
def softplus_forward(x):
    """log(1 + e^x), written so that it does not overflow."""
    xp = array_namespace(x)
    return xp.maximum(x, 0) + xp.log(1 + xp.exp(-xp.abs(x))), x


z = np.linspace(-3, 3, 7)
assert np.allclose(to_numpy(softplus_forward(to_device(z, device))[0]), softplus_forward(z)[0])

# %% [markdown]
# **Predict first (2).** And `np.exp` of an array that is over there, on the fake GPU? (CuPy would hand the call on to
# `cupy.exp`, without a word; but not every function of NumPy's, and not for a list of arrays.)
# %%
answer = "it computes"
try:
    np.exp(to_device(z, fake_gpu.device))
except TypeError as error:
    answer = f"it is refused: {error}"
assert answer.startswith("it is refused")

# %% [markdown]
# ## What waits
# `float(loss)`, `if loss < best`, `print(loss)`, `loss.item()`: each asks for a number that is yet to be computed. The
# fake GPU counts them; what a wait costs on a real GPU, `python -m minires bench --device cuda` will tell you.
#
# **Predict first (3).** Four loops of 20 steps below. How often does each of them wait?


# %%
def train(each_step, device, steps=20):
    """Steps of SGD; `each_step(i, loss, model)` is what somebody does with the loss. Returns how often that waited."""
    model = nn.resnet(8, width=4, in_channels=1, rng=0).to(device)
    images, classes = to_device(x, device), to_device(labels, device)
    head, optimizer = nn.SoftmaxCrossEntropy(), optim.SGD(model.parameters(), lr=0.1)
    before = fake_gpu.waits.count
    for i in range(steps):
        loss = head.forward(model.forward(images), classes)
        model.zero_grad()
        model.backward(head.backward())
        optimizer.step()
        each_step(i, loss, model)
    return fake_gpu.waits.count - before


LOOPS = {
    "nothing": lambda i, loss, model: None,
    "float(loss), every 10th step": lambda i, loss, model: float(loss) if i % 10 == 9 else None,
    "float(loss), every step": lambda i, loss, model: float(loss),
    "every gradient's norm": lambda i, loss, model: [float((p.grad**2).sum()) for p in model.parameters()],
}
waited = {name: train(loop, fake_gpu.device) for name, loop in LOOPS.items()}
assert list(waited.values()) == [0, 2, 20, 20 * len(model.parameters())]

fig, axes = new_figure(size=(9, 3.4), title="A training step need not wait; looking at it does")
bars = axes[0, 0].barh(list(waited), list(waited.values()), color=COLORS[0])
axes[0, 0].bar_label(bars, padding=4)
axes[0, 0].invert_yaxis()
axes[0, 0].grid(False)
caption(axes[0, 0], "20 steps", x="how often the host waits for the device", y="what is looked at")
plt.show()

# %% [markdown]
# ## Exercises: write the two functions, run the cell; gradient check and counter are the judges
# 1. The backward pass of softplus, y = log(1 + e^x), for arrays of **any** device. (Its slope is the sigmoid of x.)
# 2. `Total.add` is called after each step: sum up the losses in `self.sum` without waiting even once.


# %%
class Softplus(nn.Layer):
    def _forward(self, x):
        return softplus_forward(x)

    def _backward(self, dy, x):
        raise NotImplementedError("yours to write")


class Total:
    sum = 0.0

    def add(self, i, loss, model):
        raise NotImplementedError("yours to write")


try:
    verdicts = [gradcheck.check_layer(Softplus(), to_device(z[:, None], d)).verdict for d in ("cpu", fake_gpu.device)]
    print("exercise 1, here and there:", *verdicts)
    total, losses = Total(), []
    train(lambda i, loss, model: losses.append(float(loss)), fake_gpu.device)
    right = train(total.add, fake_gpu.device) == 0 and np.isclose(float(total.sum), sum(losses))
    print("exercise 2:", "pass" if right else "fail")
except (NotImplementedError, ValueError) as error:
    print("exercise:", error)
