# %% [markdown]
# # The same code on a GPU: what moves, and what waits
#
# minires has no second code for GPUs. An array knows which library it belongs to, NumPy's here or CuPy's there, and
# every function asks it: `xp = array_namespace(x)`. What is left to know is what has to be **moved**, and what makes
# the host **wait**: a GPU works through a queue, and whoever asks for a number has to let that queue run dry
# ([CuPy's guide](https://docs.cupy.dev/en/stable/user_guide/basic.html) calls it synchronization). No GPU here? Then
# all runs on a **fake GPU**, which computes on the host, but refuses and counts what a GPU would refuse or wait for.
# Three times: **predict first**, put your guess where None stands, and run on. Takes about 2 s.
# %%
import matplotlib.pyplot as plt
import numpy as np

from minires import fake_gpu, gradcheck, nn, optim, tutorial
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
# **Predict first.** The model is over there, the images are still here. Where does `model.forward(x)` compute: "there",
# "here", or "nowhere"?
# %%
tutorial.guess("12.1", None)  # a word, in quotes
# %%
model, where = nn.resnet(8, width=4, in_channels=1, rng=0).to(device), ""
try:
    y = model.forward(x)
    where = "here" if isinstance(y, np.ndarray) else "there"
except TypeError as refusal:
    where = "nowhere"
    print(refusal)
tutorial.reveal("12.1", where)
here = nn.resnet(8, width=4, in_channels=1, rng=0).forward(x)
there = to_numpy(model.forward(to_device(x, device)))
assert np.allclose(here, there, atol=1e-4)  # a GPU takes sums in another order: the last bits differ


# %% [markdown]
# ## The same code
# A function that runs on both sides asks its arrays, and uses no `np.` on them: $\log(1 + e^x)$, without overflow.
# %%
def softplus_forward(x):
    xp = array_namespace(x)
    return xp.maximum(x, 0) + xp.log(1 + xp.exp(-xp.abs(x))), x


z = np.linspace(-3, 3, 7)
assert np.allclose(to_numpy(softplus_forward(to_device(z, device))[0]), softplus_forward(z)[0])
# %% [markdown]
# **Predict first.** And `np.exp` of an array that is over there, on the fake GPU: "computed", or "refused"? (CuPy would
# hand the call on to `cupy.exp`, without a word; but not every function of NumPy's, and not for a list of arrays.)
# %%
tutorial.guess("12.2", None)  # a word, in quotes
# %%
answer = "computed"
try:
    np.exp(to_device(z, fake_gpu.device))
except TypeError as refusal:
    answer = "refused"
    print(refusal)
tutorial.reveal("12.2", answer)
# %% [markdown]
# ## What waits
# `float(loss)`, `if loss < best`, `print(loss)`, `loss.item()`: each asks for a number that is yet to be computed, and
# the fake GPU counts them. (What it costs: `python -m minires bench --device cuda`.) **Predict first.** In 20 steps,
# how often does a loop wait that looks at nothing; at the loss in every 10th step; at the loss in every step; at the
# norm of every gradient (of 23 parameter arrays) in every step?


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


tutorial.guess("12.3", None)  # four numbers, as in (1, 1, 1, 1)
# %%
LOOPS = {
    "nothing": lambda i, loss, model: None,
    "float(loss), every 10th step": lambda i, loss, model: float(loss) if i % 10 == 9 else None,
    "float(loss), every step": lambda i, loss, model: float(loss),
    "every gradient's norm": lambda i, loss, model: [float((p.grad**2).sum()) for p in model.parameters()],
}
waited = {name: train(loop, fake_gpu.device) for name, loop in LOOPS.items()}
tutorial.reveal("12.3", tuple(waited.values()))
fig, axes = new_figure(size=(9, 3.2), title="A training step need not wait; looking at it does")
bars = axes[0, 0].barh([*waited][::-1], [*waited.values()][::-1], color=COLORS[0])
axes[0, 0].bar_label(bars, padding=4)
caption(axes[0, 0], "20 steps", x="how often the host waits for the device", y="what is looked at")
plt.show()


# %% [markdown]
# ## Exercises
# 1. The backward pass of softplus, $y = \log(1 + e^x)$, for arrays of **any** device: dx from dy and x.
# 2. Called after each step: returns the sum of the losses so far (total is 0.0 at first) without waiting even once.
# %%
def exercise_1(dy, x):
    raise NotImplementedError("yours to write")


def exercise_2(total, loss):
    raise NotImplementedError("yours to write")


def judge_1(backward):
    report = gradcheck.check_op(softplus_forward, backward, [z])
    try:
        there = backward(*(to_device(array, fake_gpu.device) for array in (z, z)))
    except TypeError as refusal:
        return f"over there it was refused: {refusal}. Which function does the array's own library have?"
    return report if report.verdict != "pass" else bool(np.allclose(to_numpy(there), backward(z, z)))


def judge_2(add):
    totals, losses = [0.0], []
    train(lambda i, loss, model: losses.append(float(loss)), fake_gpu.device)
    waits = train(lambda i, loss, model: totals.append(add(totals[-1], loss)), fake_gpu.device)
    if waits:
        return f"the loop waited {waits} times in its 20 steps."
    total = float(totals[-1])
    return "" if np.isclose(total, sum(losses)) else f"the total is {total:.4g}; the losses sum to {sum(losses):.4g}."


tutorial.exercise("12.1", lambda: judge_1(exercise_1))
tutorial.exercise("12.2", lambda: judge_2(exercise_2))
# %% [markdown]
# After a try: `tutorial.solution("12.1")`. **What to change next:** what is done with the loss, as in
# `train(lambda i, loss, model: print(loss), fake_gpu.device)`.
