"""Losses, networks of a few lines, layer objects and odd returns, as students write them; each with faults."""

from __future__ import annotations

import numpy as np

from tests.gradcheck.student_ops import sigmoid, softmax, student

LABELS = np.array([2, 0, 1, 3, 0])


def log_of_softmax(z: np.ndarray) -> np.ndarray:
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


NET = ((5, 4), (4, 6), (6,), (6, 4), (4,))


@student(
    *NET,
    gate_forgotten=r"dW2 and db2 are right, dx, dW1 and db1 are wrong",
    gate_of_gradient=r"sign of a gradient switches something",
    hidden_before_relu=r"^dW2 is wrong everywhere",
    label_not_taken_off=r"error of db2 is 0.2 times a whole number",
    mean_forgotten=r"^dx, dW1, db1, dW2 and db2 are each 5 times what they should be",
    bias1_of_outputs=r"^db1 is wrong everywhere",
)
def two_layers(wrong):
    """A network with one hidden layer under a softmax cross-entropy."""

    def forward(x, W1, b1, W2, b2):
        z = x @ W1 + b1
        h = np.maximum(z, 0)
        logits = h @ W2 + b2
        return -log_of_softmax(logits)[np.arange(5), LABELS].mean(), (x, W1, W2, z, h, softmax(logits))

    def backward(dy, cache):
        x, W1, W2, z, h, p = cache
        d = p.copy()
        d[np.arange(5), LABELS] -= 0 if wrong == "label_not_taken_off" else 1
        d = dy * d / (1 if wrong == "mean_forgotten" else 5)
        dh = d @ W2.T
        dz = dh * {"gate_forgotten": 1, "gate_of_gradient": dh > 0}.get(wrong, z > 0)
        db1 = dh.sum(axis=0) if wrong == "bias1_of_outputs" else dz.sum(axis=0)
        return dz @ W1.T, x.T @ dz, db1, (z if wrong == "hidden_before_relu" else h).T @ d, d.sum(axis=0)

    return forward, backward


@student(
    (5, 4),
    (4, 4),
    shortcut_forgotten=r"lacks dy itself|shortcut",
    shortcut_twice=r"dy once too often|shortcut",
    branch_forgotten=r"dx is dy itself",
)
def residual_tanh(wrong):
    def forward(x, w):
        t = np.tanh(x @ w)
        return x + t, (x, w, t)

    def backward(dy, cache):
        x, w, t = cache
        d = dy * (1 - t**2)
        through = 0 if wrong == "branch_forgotten" else d @ w.T
        return {"shortcut_forgotten": 0, "shortcut_twice": 2}.get(wrong, 1) * dy + through, x.T @ d

    return forward, backward


@student(
    (4, 3),
    (3, 3),
    decay_half=r"error of dw is -0\.2 times w itself",
    decay_forgotten=r"error of dw is -0\.4 times w itself",
    decay_of_x=r"error of dx is 0\.4 times x itself",
)
def penalized(wrong):
    """The square of a product, and a penalty 0.2 |w|^2."""

    def forward(x, w):
        z = x @ w
        return 0.5 * np.sum(z * z) + 0.2 * np.sum(w * w), (x, w, z)

    def backward(dy, cache):
        x, w, z = cache
        factor = {"decay_half": 0.2, "decay_forgotten": 0.0}.get(wrong, 0.4)
        dx = z @ w.T + (0.4 * x if wrong == "decay_of_x" else 0)
        return dy * dx, dy * (x.T @ z + factor * w)

    return forward, backward


@student((5, 4), mean_forgotten=r"5 times", margin_everywhere=r"only in rows 0, 2 and 3", sign=r"wrong sign")
def hinge(wrong):
    def forward(s):
        margins = np.maximum(0, s - s[np.arange(5), LABELS][:, None] + 1)
        margins[np.arange(5), LABELS] = 0
        return margins.sum() / 5, margins

    def backward(dy, margins):
        d = (margins > 0) * 1.0
        if wrong == "margin_everywhere":
            d = np.ones_like(margins)
            d[np.arange(5), LABELS] = 0
        d[np.arange(5), LABELS] = -d.sum(axis=1)
        return dy * d * (-1 if wrong == "sign" else 1) / (1 if wrong == "mean_forgotten" else 5)

    return forward, backward


@student(
    (4, 5),
    sum_forgotten=r"dz is dy itself",
    probability_squared=r"^dz is wrong everywhere",
    axis=r"depends on dy at other rows, where it should depend on it at other columns",
)
def log_softmax(wrong):
    def forward(z):
        return log_of_softmax(z), softmax(z)

    def backward(dy, p):
        total = dy.sum(axis=0 if wrong == "axis" else 1, keepdims=True)
        return dy - {"sum_forgotten": 0, "probability_squared": p * p}.get(wrong, p) * total

    return forward, backward


@student(
    (4, 3),
    projection_forgotten=r"multiple of x, .* the path through the length of x",
    length_forgotten=r"times the length of x over columns",
)
def unit_rows(wrong):
    """Each row divided by its length."""

    def forward(x):
        r = np.sqrt((x * x).sum(axis=1, keepdims=True))
        return x / r, (x / r, r)

    def backward(dy, cache):
        y, r = cache
        d = dy if wrong == "projection_forgotten" else dy - y * (dy * y).sum(axis=1, keepdims=True)
        return d if wrong == "length_forgotten" else d / r

    return forward, backward


@student((6,), (6,), clipped=r"clipped", not_averaged=r"6 times")
def logistic(wrong):
    """Binary cross-entropy of two vectors of logits added up."""
    bits = np.array([1.0, 0, 0, 1, 1, 0])

    def forward(a, b):
        z = a + b
        return (np.logaddexp(0, z) - bits * z).mean(), z

    def backward(dy, z):
        d = dy * (sigmoid(z) - bits) / (1 if wrong == "not_averaged" else 6)
        return np.clip(d, -0.05, 0.05) if wrong == "clipped" else d, d

    return forward, backward


@student(
    (3, 4, 2),
    (2, 3),
    (3, 3),
    last_step_only=r"dWh is all zeros.*dx is right, dWx and dWh are wrong",
    not_carried=r"only what reaches the axis-1 index of y with the same index",
)
def recurrent(wrong):
    def forward(x, Wx, Wh):
        h, kept = np.zeros((len(x), 3)), []
        for t in range(x.shape[1]):
            new = np.tanh(x[:, t] @ Wx + h @ Wh)
            kept.append((h, new))
            h = new
        return np.stack([k[1] for k in kept], axis=1), (x, Wx, Wh, kept)

    def backward(dy, cache):
        x, Wx, Wh, kept = cache
        dx, dWx, dWh, carried = np.zeros_like(x), np.zeros_like(Wx), np.zeros_like(Wh), 0
        for t in reversed(range(x.shape[1])):
            before, now = kept[t]
            dz = (dy[:, t] + carried) * (1 - now**2)
            dx[:, t], carried = dz @ Wx.T, 0 if wrong == "not_carried" else dz @ Wh.T
            if wrong == "last_step_only":
                dWx, dWh = x[:, t].T @ dz, before.T @ dz
            else:
                dWx, dWh = dWx + x[:, t].T @ dz, dWh + before.T @ dz
        return dx, dWx, dWh

    return forward, backward


# --- what is returned, and what is changed -------------------------------------------------------------------------


@student(
    (5, 4),
    (4, 3),
    (3,),
    one_missing=r"db is missing|returned None",
    other_order=r"wrong order",
    changes_dy=r"changes dy in place",
    changes_x=r"changes the inputs of forward in place",
    forward_changes_x=r"forward changes its input in place",
    dy_ignored=r"the same whatever dy is",
    rounded=r"rounded to float32",
    whole=r"dw holds whole numbers",
    summed_to_a_number=r"db has shape",
)
def dense_returns(wrong):
    def forward(x, w, b):
        if wrong == "forward_changes_x":
            x -= x.mean(axis=0)
        return np.tanh(x @ w) + b, (x, w, np.tanh(x @ w))

    def backward(dy, cache):
        x, w, t = cache
        if wrong == "dy_ignored":
            dy = np.ones_like(dy)
        db = dy.sum(axis=0)
        if wrong == "changes_dy":
            dy *= 1 - t**2
            dz = dy
        else:
            dz = dy * (1 - t**2)
        dx, dw = dz @ w.T, x.T @ dz
        if wrong == "changes_x":
            x += 1.0
        db = {"one_missing": None, "summed_to_a_number": db.sum()}.get(wrong, db)
        if wrong == "rounded":
            dw = dw.astype(np.float32)
        elif wrong == "whole":
            dw = dw.astype(int)
        return (dw, dx, db) if wrong == "other_order" else (dx, dw, db)

    return forward, backward


class Gate:
    """y = x * sigmoid(x @ kernel), a layer object whose gradients have names of its own."""

    def __init__(self, wrong=""):
        self.kernel, self.wrong = np.random.default_rng(3).standard_normal((4, 4)), wrong
        self.store = {"for_kernel": np.zeros((4, 4))}

    def forward(self, x):
        self.seen, self.s = x, sigmoid(x @ self.kernel)
        return x * self.s

    def backward(self, up):
        ds = up * self.seen * self.s * (1 - self.s)
        found = self.seen.T @ ds
        if self.wrong == "never_reset":
            self.store["for_kernel"] = self.store["for_kernel"] + found
        else:
            self.store["for_kernel"] = found.T if self.wrong == "kernel_transposed" else found
        if self.wrong == "learns":
            self.kernel -= 0.1 * found
        return up * self.s + (0 if self.wrong == "gate_path_forgotten" else ds @ self.kernel.T)


LAYER_FAULTS = {
    "kernel_transposed": r"dkernel is transposed",
    "gate_path_forgotten": r"dx does not depend on dy at other columns",
    "never_reset": r"adds to a gradient that it never sets back to 0",
    "learns": r"backward changes the inputs of forward in place",
}
