# %% [markdown]
# # Gradient checking: trust, but measure
#
# A backward pass is written by hand, so it may be wrong, and a network with a wrong gradient often still learns a
# little. The remedy is to measure the derivative. Here you see how well that can be done, when it cannot be done at
# all, and when it seems to work although it shows nothing.
#
# Notation: f(t) is the loss after a step t along some direction; f'(0) is what we want. Four times you are asked to
# **predict first**: write your answer down, then run the cell, which asserts it. Takes about 1 s.
# %%
import matplotlib.pyplot as plt
import numpy as np

from minires import gradcheck
from minires.gradcheck.curves import kink_curve, step_curve
from minires.gradcheck.numerical import central_difference, complex_step, forward_difference
from minires.ops import batchnorm_backward, batchnorm_forward, relu_backward, relu_forward
from minires.plot.gradcheck import draw_kinks, draw_steps
from minires.plot.style import new_figure

rng = np.random.default_rng(0)

# %% [markdown]
# ## How small should the step be?
# (f(h) - f(0)) / h misses f' by about f'' h / 2, (f(h) - f(-h)) / 2h by f''' h^2 / 6. So: as small as possible?
#
# **Predict first (1).** float64 has 16 digits. For the derivative of exp at 0, which step gives the smaller error with
# the central difference: 1e-5 or 1e-12?
# %%
errors = {h: abs(central_difference(np.exp, h) - 1) for h in (1e-5, 1e-12)}
print(errors)
assert errors[1e-5] < 1e-9 < errors[1e-12], "subtracting two numbers that agree in 12 digits leaves 4 of 16"

# %% [markdown]
# Two errors pull in opposite directions: truncation grows with h, rounding (u times the loss, u = 1.1e-16) with 1/h.
# Their sum is a V. Theory puts its tip at h = (3 u f / f''')^(1/3): the circle, which is computed and not fitted.
# %%
fig, axes = new_figure(1, 2, size=(12, 4.5), title="The error of a difference is a V; the complex step has no floor")
for ax, dtype in zip(axes[0], ("float64", "float32"), strict=True):
    draw_steps(ax, step_curve(dtype))
axes[0, 0].legend(frameon=False)
plt.show()

# %% [markdown]
# ## No subtraction, no rounding
# If f computes with complex numbers, f(ih) = f(0) + i h f'(0) - h^2 f''/2 - ..., so f' = Im f(ih) / h. Nothing is
# subtracted.
#
# **Predict first (2).** How large is the error of the complex step with h = 1e-30?
# %%
assert abs(complex_step(np.exp, 1e-30) - 1) <= 2.3e-16, "one rounding; h may be as small as you like"
assert forward_difference(np.exp, 1e-30) == 0, "1 + 1e-30 is 1, so the plain difference sees nothing at all"

# %% [markdown]
# ## Kinks
# A ReLU has no derivative at 0. If the step carries an input across 0, the difference mixes two slopes; a smaller step
# does not make that error smaller, only rarer. How rare is known: 2 h |x| phi(0) / sd for each ReLU.
# %%
fig, axes = new_figure(1, 1, size=(7, 4.5), title="Ten times smaller steps cross ten times fewer kinks")
draw_kinks(axes[0, 0], kink_curve())
plt.show()

# %% [markdown]
# So gradcheck compares all switches on both sides of a step and leaves out what crossed. It never widens a tolerance.
#
# **Predict first (3).** One input of a ReLU is exactly 0. Pass, fail, or something else?
# %%
x = rng.standard_normal((4, 5))
assert gradcheck.check_op(relu_forward, relu_backward, x, like="relu").verdict == "pass"
x[1, 2] = 0.0
report = gradcheck.check_op(relu_forward, relu_backward, x, like="relu")
print(report)
assert report.verdict == "kink" and report["dx"].left_out == 1

# %% [markdown]
# ## A check that could not have failed
# Here is a wrong backward of batch normalization: it returns zeros for dx. The loss is the sum of y, a popular choice.
#
# **Predict first (4).** Does a comparison with numerical derivatives find the mistake?
# %%
x = rng.standard_normal((6, 3))
gain, offset = np.array([1.2, -0.7, 0.4]), np.array([0.1, 0.0, -0.3])


def zero_backward(dy, cache):
    _, dgain, doffset = batchnorm_backward(dy, cache)
    return np.zeros_like(dy), dgain, doffset


def total(x):  # with dy = 1 everywhere, the gradient that reaches batchnorm
    return batchnorm_forward(x, gain, offset)[0].sum()


for index in np.ndindex(x.shape):
    unit = np.zeros_like(x)
    unit[index] = 1
    assert abs(central_difference(lambda t, unit=unit: total(x + t * unit), 1e-5)) < 1e-9, "zero is right, alas"

# %% [markdown]
# y is normalized, so its sum is N * offset whatever x is: dx really is 0 for that loss, and the wrong backward passes.
# A check has to say so instead of passing; and with a random dy it finds the mistake.
# %%
ones = gradcheck.check_op(batchnorm_forward, zero_backward, (x, gain, offset), dy=np.ones_like(x))
random = gradcheck.check_op(batchnorm_forward, zero_backward, (x, gain, offset))
print(ones.reason)
assert (ones.verdict, random.verdict) == ("vacuous", "fail")

# %% [markdown]
# ## A fault, found and named
# Finding that a gradient is wrong is half of the work. `like=` compares it with a catalogue of typical mistakes.
# %%
fault = gradcheck.CATALOGUE["batchnorm:dx-variance-path-missing"]
report = gradcheck.check_op(fault.forward, fault.backward, (x, gain, offset), like="batchnorm")
print(report)
assert report.fault == fault.name

# %% [markdown]
# Whole networks work the same way, and the layer at fault is searched for: see `gradcheck.check_model`.
# ## Exercises: write the two functions below, run the cell, and let the gradient check be the judge
# 1. The backward of y = x * sigmoid(x), called swish. cache is x.
# 2. The backward of y = x / |x|, row by row (|x| is the length of a row). cache is (x, the lengths as a column).


# %%
def exercise_1(dy, x):
    raise NotImplementedError("yours to write")


def exercise_2(dy, cache):
    raise NotImplementedError("yours to write")


def normalize(x):
    length = np.sqrt((x * x).sum(axis=1, keepdims=True))
    return x / length, (x, length)


for number, pair in enumerate([(lambda x: (x / (1 + np.exp(-x)), x), exercise_1), (normalize, exercise_2)], 1):
    try:
        print(f"exercise {number}:", gradcheck.check_op(*pair, x))
    except ValueError as error:
        print(f"exercise {number}: {error}")
