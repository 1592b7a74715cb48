# %% [markdown]
# # Gradient checking: trust, but measure
#
# A backward pass written by hand may be wrong, and a network with a wrong gradient often still learns a little. So
# measure the derivative: here you see how well that works, and when it shows nothing. Takes about 1 s.
# Notation: $f(t)$ is the loss after a step $t$ along some direction; $f'(0)$ is what we want. $u = 1.1\cdot 10^{-16}$
# is what a rounding costs in float64, relative to the number.
# Five times you are asked to **predict first**: put your guess where None stands, and run on.
# %%
import matplotlib.pyplot as plt
import numpy as np

from minires import gradcheck, tutorial
from minires.gradcheck.curves import kink_curve, step_curve
from minires.gradcheck.numerical import central_difference, complex_step, forward_difference
from minires.ops import batchnorm_backward, batchnorm_forward, relu_backward, relu_forward
from minires.plot.gradcheck import draw_kinks, draw_steps
from minires.plot.style import new_figure

rng = np.random.default_rng(0)

# %% [markdown]
# ## How small should the step be?
# $(f(h) - f(0))/h$ misses $f'$ by about $f'' h/2$, $(f(h) - f(-h))/2h$ by $f''' h^2/6$. So: as small as possible?
#
# **Predict first.** The derivative of exp between 0 and 1, in float64, by the central difference. Of the steps
# $10^{-1}, 10^{-2}, \ldots, 10^{-14}$, which one gives the smallest error?
# %%
tutorial.guess("1.1", None)  # as in 1e-10
# %%
points = np.linspace(0, 1, 100)  # a hundred of them, because rounding is a matter of luck at each
errors = {}
for h in [10.0**-power for power in range(1, 15)]:
    errors[h] = np.mean(np.abs(central_difference(lambda t: np.exp(points + t), h) - np.exp(points)))
tutorial.reveal("1.1", min(errors, key=errors.get))
print({h: f"{error:.0e}" for h, error in errors.items()})

# %% [markdown]
# Two errors pull in opposite directions: truncation grows with $h$, rounding is $u f / h$. Their sum is a V with its
# tip at $h = (3 u f / f''')^{1/3}$ (Press et al., *Numerical Recipes*, 5.7).
# If $f$ computes with complex numbers, there is another way: $f(ih) = f(0) + i h f'(0) - h^2 f''(0)/2 - \ldots$, so
# $f'(0) \approx \mathrm{Im} f(ih) / h$ (Squire and Trapp 1998).
#
# **Predict first.** Take $h = 10^{-30}$. How large is the error of this derivative of exp at 0?
# %%
tutorial.guess("1.2", None)
# %%
tutorial.reveal("1.2", error := abs(complex_step(np.exp, 1e-30) - 1))
assert error <= 2.3e-16 and forward_difference(np.exp, 1e-30) == 0  # 1 + 1e-30 is 1: the difference sees nothing

fig, axes = new_figure(1, 2, size=(12, 4.5), title="The error of a difference is a V; the complex step's only falls")
for ax, dtype in zip(axes[0], ("float64", "float32"), strict=True):
    draw_steps(ax, step_curve(dtype))  # the star is computed, not fitted
axes[0, 0].legend(frameon=False, loc="lower right")
plt.show()

# %% [markdown]
# ## Kinks
# A ReLU has no derivative at 0. A step that carries its input across 0 mixes two slopes.
#
# **Predict first.** A ReLU's input lies at $0.3 h$, so its slope is 1. What does the central difference give?
# %%
tutorial.guess("1.3", None)
# %%
found = [central_difference(lambda t, h=h: np.maximum(0.3 * h + t, 0), h) for h in (1e-2, 1e-4, 1e-6)]
tutorial.reveal("1.3", found[0])
assert np.allclose(found, found[0])  # a smaller step is wrong by as much

# %% [markdown]
# A smaller step makes this error rarer, not smaller: each ReLU is crossed in $2 h |x| \varphi(0)/\mathrm{sd}(z)$ of
# all cases. So gradcheck compares the switches on both sides of a step and leaves out what crossed. Many checks widen
# their tolerance instead, and then let wrong gradients pass.
# %%
curve = kink_curve()
assert abs(curve.counted[-1] - curve.expected[-1]) < 5 * np.sqrt(curve.expected[-1])  # five sd of a Poisson count
draw_kinks(new_figure(1, 1, size=(7, 4.5), title="A law says how many kinks a step crosses")[1][0, 0], curve)
plt.show()

# %% [markdown]
# **Predict first.** One input of a ReLU is *exactly* 0. Which verdict: "pass", "fail", "kink"?
# %%
tutorial.guess("1.4", None)
# %%
x = rng.standard_normal((4, 5))
assert gradcheck.check_op(relu_forward, relu_backward, x, like="relu").verdict == "pass"
x[1, 2] = 0.0
report = gradcheck.check_op(relu_forward, relu_backward, x, like="relu")
tutorial.reveal("1.4", report.verdict)

# %% [markdown]
# ## A check that could not have failed
# **Predict first.** A wrong backward of batch normalization returns zeros for dx. A popular check takes the sum of $y$
# as the loss (so dy is 1 everywhere) and compares dx with numerical derivatives. Does it notice, "yes" or "no"?
# %%
tutorial.guess("1.5", None)
# %%
x = rng.standard_normal((6, 3))
gain, offset = np.array([1.2, -0.7, 0.4]), np.array([0.1, 0.0, -0.3])


def zero_backward(dy, cache):
    return np.zeros_like(dy), *batchnorm_backward(dy, cache)[1:]


def slope_of_the_sum(entry):
    unit = (np.arange(x.size) == entry).reshape(x.shape)
    return central_difference(lambda t: batchnorm_forward(x + t * unit, gain, offset)[0].sum(), 1e-5)


wrong = np.max(np.abs([slope_of_the_sum(entry) for entry in range(x.size)]))
tutorial.reveal("1.5", "yes" if wrong > 1e-6 else "no")
ones = gradcheck.check_op(batchnorm_forward, zero_backward, (x, gain, offset), dy=np.ones_like(x))
random = gradcheck.check_op(batchnorm_forward, zero_backward, (x, gain, offset))
print(f"dy = 1: {ones.verdict}. {ones.reason}\ndy random: {random.verdict}. {random.diagnosis}")

# %% [markdown]
# To find that a gradient is wrong is half of the work. `like=` compares it with a catalogue of typical mistakes.
# %%
fault = gradcheck.CATALOGUE["batchnorm:dx-variance-path-missing"]
print(report := gradcheck.check_op(fault.forward, fault.backward, (x, gain, offset), like="batchnorm"))
assert report.fault == fault.name and ones.verdict == "vacuous" and random.verdict == "fail"


# %% [markdown]
# ## Exercises
# 1. The backward of $y = x\,\sigma(x)$, called swish, with $\sigma(x) = 1/(1 + e^{-x})$. cache is x.
# 2. The backward of $y = x/|x|$, row by row ($|x|$: the row's length). cache is (x, the lengths as a column).
# %%
def exercise_1(dy, x):
    raise NotImplementedError("yours to write")


def exercise_2(dy, cache):
    raise NotImplementedError("yours to write")


def normalize(x):
    length = np.sqrt((x * x).sum(axis=1, keepdims=True))
    return x / length, (x, length)


tutorial.exercise("1.1", lambda: gradcheck.check_op(lambda x: (x / (1 + np.exp(-x)), x), exercise_1, [x]))
tutorial.exercise("1.2", lambda: gradcheck.check_op(normalize, exercise_2, [x]))
# %% [markdown]
# After a try: `tutorial.solution("1.1")`. **What to change next:** the function. For example $|x|$:
# `print(gradcheck.check_op(lambda x: (np.abs(x), x), lambda dy, x: dy * np.sign(x), [x]))`, and once more with
# `x[0, 0] = 0`. Whole networks work the same way: `help(gradcheck.check_model)`.
