"""Networks and losses as students write them, each right, and wrong in one line: for `test_students`."""

from __future__ import annotations

import numpy as np

from tests.gradcheck.student_compositions import log_of_softmax
from tests.gradcheck.student_ops import sigmoid, softmax, student

LABELS = np.array([2, 0, 3])
TARGET = np.array([[0.3, -1.2, 0.8], [-0.4, 0.9, 1.5], [1.1, -0.7, 0.2], [0.6, 0.1, -1.4]])
BITS = np.array([[1.0, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 0]])
HOT = np.eye(4)[LABELS]


@student(
    (3, 5),
    (5, 6),
    (6,),
    (6, 4),
    (4,),
    gate_forgotten=r"gradient of z = x @ W1 \+ b1 .* has to be 0 where z is negative",
    ten_times_too_small=r"dx and db1 are each 0.1 times what they should be",
    label_not_subtracted=r"error of db2 is 0.333333 times a whole number .*label occurs",
    penalty_halved=r"error of dW1 is -0.3 times W1 itself",
    data_part_only_averaged=r"dW2 is 0.333333 times what it should be plus 0.4 times W2",
)
def classifier(wrong):
    """Two layers, softmax cross-entropy, weight decay."""

    def forward(x, W1, b1, W2, b2):
        z1 = x @ W1 + b1
        h = np.maximum(z1, 0)
        logits = h @ W2 + b2
        loss = -log_of_softmax(logits)[np.arange(3), LABELS].mean() + 0.3 * (np.sum(W1**2) + np.sum(W2**2))
        return loss, (x, W1, W2, z1, h, softmax(logits))

    def backward(dy, cache):
        x, W1, W2, z1, h, p = cache
        d2 = (p if wrong == "label_not_subtracted" else p - HOT) / 3
        d1 = d2 @ W2.T
        if wrong == "ten_times_too_small":
            d1 *= 0.1
        if wrong != "gate_forgotten":
            d1 = d1 * (z1 > 0)
        penalty = 0.3 if wrong == "penalty_halved" else 0.6
        dW2 = h.T @ d2 / (3 if wrong == "data_part_only_averaged" else 1) + 0.6 * W2
        return d1 @ W1.T, x.T @ d1 + penalty * W1, d1.sum(axis=0), dW2, d2.sum(axis=0)

    return forward, backward


@student(
    (3, 4),
    (3, 5),
    (4, 5),
    (5, 5),
    (5,),
    derivative_of_the_output_forgotten=r"right once dy is multiplied by 1 - y\^2",
    not_squared=r"gradient of z = x @ Wx \+ prev @ Wh \+ b .* divided by \(1 \+ tanh\(z\)\)",
    weight_not_transposed=r"multiplies the gradient of prev @ Wh by Wh .*it has to be Wh.T",
    new_state_for_old=r"dWh multiplies y by the gradient of prev @ Wh, where prev belongs",
)
def rnn_step(wrong):
    def forward(x, prev, Wx, Wh, b):
        h = np.tanh(x @ Wx + prev @ Wh + b)
        return h, (x, prev, Wx, Wh, h)

    def backward(dy, cache):
        x, prev, Wx, Wh, h = cache
        slope = 1 - h if wrong == "not_squared" else 1.0 if "output" in wrong else 1 - h**2
        d = dy * slope
        dprev = d @ (Wh if wrong == "weight_not_transposed" else Wh.T)
        return d @ Wx.T, dprev, x.T @ d, (h if wrong == "new_state_for_old" else prev).T @ d, d.sum(axis=0)

    return forward, backward


@student(
    (2, 4, 3),
    (2, 3),
    (3, 3),
    (3, 3),
    not_handed_on=r"right as long as only axis-1 index 0 of dy is not zero",
    overwritten=r"dWx is right as long as only axis-1 index 0 of dy .*\+= is needed",
)
def rnn(wrong):
    """Over four steps."""

    def forward(x, h0, Wx, Wh):
        hs = [h0]
        for t in range(4):
            hs.append(np.tanh(x[:, t] @ Wx + hs[-1] @ Wh))
        return np.stack(hs[1:], axis=1), (x, hs, Wx, Wh)

    def backward(dy, cache):
        x, hs, Wx, Wh = cache
        dx, dWx, dWh, carry = np.zeros_like(x), np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(hs[0])
        for t in reversed(range(4)):
            d = (dy[:, t] + (0 if wrong == "not_handed_on" else carry)) * (1 - hs[t + 1] ** 2)
            dx[:, t] = d @ Wx.T
            dWx = x[:, t].T @ d + (0 if wrong == "overwritten" else dWx)
            dWh += hs[t].T @ d
            carry = d @ Wh.T
        return dx, carry, dWx, dWh

    return forward, backward


@student(
    (3, 4),
    (4, 4),
    (4, 4),
    (4, 4),
    key_path_missing=r"dx lacks what comes through x @ Wk",
    scale_forgotten=r"2 times what they should be|2 times what it should be",
)
def attention(wrong):
    def forward(x, Wq, Wk, Wv):
        q, k, v = x @ Wq, x @ Wk, x @ Wv
        a = softmax(q @ k.T / 2)
        return a @ v, (x, Wq, Wk, Wv, q, k, v, a)

    def backward(dy, cache):
        x, Wq, Wk, Wv, q, k, v, a = cache
        da, dv = dy @ v.T, a.T @ dy
        ds = a * (da - np.sum(a * da, axis=1, keepdims=True)) / (1 if wrong == "scale_forgotten" else 2)
        dq, dk = ds @ k, ds.T @ q
        dx = dq @ Wq.T + dv @ Wv.T + (0 if wrong == "key_path_missing" else dk @ Wk.T)
        return dx, x.T @ dq, x.T @ dk, x.T @ dv

    return forward, backward


@student(
    (2, 3),
    (2, 3),
    (2, 3),
    (3, 12),
    (3, 12),
    (12,),
    gates_exchanged=r"dWx passes the right amounts on to the wrong positions.* dWx\[1, 3\] and belongs to dWx\[1, 0\]",
    cell_forgotten=r"each count only columns 0 to 2 of dy",
)
def lstm_step(wrong):
    """y: hidden state and cell side by side."""

    def forward(x, h, c, Wx, Wh, b):
        a = x @ Wx + h @ Wh + b
        i, f, o = (sigmoid(a[:, k : k + 3]) for k in (0, 3, 6))
        g = np.tanh(a[:, 9:])
        new = f * c + i * g
        return np.concatenate([o * np.tanh(new), new], axis=1), (x, h, c, Wx, Wh, i, f, o, g, new)

    def backward(dy, cache):
        x, h, c, Wx, Wh, i, f, o, g, new = cache
        dh, dc = dy[:, :3], 0 if wrong == "cell_forgotten" else dy[:, 3:]
        t = np.tanh(new)
        dc = dc + dh * o * (1 - t**2)
        di, df = dc * g * i * (1 - i), dc * c * f * (1 - f)
        first = (df, di) if wrong == "gates_exchanged" else (di, df)
        da = np.hstack([*first, dh * t * o * (1 - o), dc * i * (1 - g**2)])
        return da @ Wx.T, da @ Wh.T, dc * f, x.T @ da, h.T @ da, da.sum(axis=0)

    return forward, backward


@student(
    (4, 3),
    sign_lost=r"dp has the wrong sign at 6 of 12 entries",
    delta_forgotten=r"dp is 1.42857 times what it should be where it is largest",
    always_quadratic=r"should not go beyond -0.05833 .. 0.05833",
)
def huber(wrong):
    def forward(p):
        e = p - TARGET
        size = np.abs(e)
        return np.where(size < 0.7, e * e / 2, 0.7 * (size - 0.35)).mean(), e

    def backward(dy, e):
        far = {"sign_lost": 0.7, "delta_forgotten": np.sign(e), "always_quadratic": e}.get(wrong, 0.7 * np.sign(e))
        return dy * np.where(np.abs(e) < 0.7, e, far) / e.size

    return forward, backward


@student(
    (4, 3),
    sigmoid_twice=r"the right one times sigmoid\(x\) \(1 - sigmoid\(x\)\)",
    rounded=r"stays the same when x changes a little",
    targets_alone=r"stays the same when x changes, but it should change with it",
)
def bits(wrong):
    """Binary cross-entropy of logits."""

    def forward(x):
        return np.mean(np.maximum(x, 0) - x * BITS + np.log1p(np.exp(-np.abs(x)))), x

    def backward(dy, x):
        p = sigmoid(x)
        d = {"rounded": np.round(p) - BITS, "targets_alone": -BITS}.get(wrong, p - BITS)
        return dy * d * (p * (1 - p) if wrong == "sigmoid_twice" else 1) / x.size

    return forward, backward


@student(
    (3, 4),
    label_not_subtracted=r"dz holds p alone: the 1 at the label is not subtracted",
    logarithm=r"dz holds log\(p\) - \(1 at the label\)",
    not_smoothed=r"dz is off by .* the target that is subtracted",
)
def cross_entropy(wrong):
    q = 0.9 * HOT + 0.025 if wrong == "not_smoothed" else HOT

    def forward(z):
        return -np.sum(q * log_of_softmax(z)) / 3, softmax(z)

    def backward(dy, p):
        d = {"label_not_subtracted": p, "logarithm": np.log(p) - HOT}.get(wrong, p - HOT)
        return dy * d / 3

    return forward, backward


@student((4, 5), (4, 5), own_length_forgotten=r"error of da is a multiple of a, .*the path through the length of a")
def cosine(wrong):
    def forward(a, b):
        la, lb = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
        y = np.sum(a * b, axis=1) / (la * lb)
        return y, (a, b, la, lb, y)

    def backward(dy, cache):
        a, b, la, lb, y = (v if v.ndim == 2 else v[:, None] for v in cache)
        da = dy[:, None] * (b / (la * lb) - (0 if wrong else a * y / la**2))
        return da, dy[:, None] * (a / (la * lb) - b * y / lb**2)

    return forward, backward


@student(
    (4, 6),
    gate_forgotten=r"dx \(columns 3, 4 and 5\) is the right one divided by sigmoid\(x\)",
    everything_passes=r"divided by sigmoid\(x at columns 3, 4 and 5\)",
)
def gated(wrong):
    """A gated linear unit: one half of x lets the other through."""

    def forward(x):
        a, s = x[:, :3], sigmoid(x[:, 3:])
        return a * s, (a, s)

    def backward(dy, cache):
        a, s = cache
        slope = 1.0 if wrong == "gate_forgotten" else s * (1 - s)
        return np.concatenate([dy * (1 if wrong == "everything_passes" else s), dy * a * slope], axis=1)

    return forward, backward
