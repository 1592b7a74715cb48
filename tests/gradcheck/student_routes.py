"""Functions whose faults lie in the way dy takes: a wrong index, a wrong share, a path with a wrong factor."""

from __future__ import annotations

import numpy as np

from tests.gradcheck.student_ops import sigmoid, softmax, student


@student(
    (2, 3, 6, 6),
    (2, 3, 3, 3),
    (2,),
    known={"like": "conv2d", "options": {"stride": 2, "padding": 1}},
    row_for_column=r"dweight meets the wrong numbers of x: .* and should be by x\[",
    window_starts_late=r"dweight is shifted by 1 pixel left",
    one_column_of_dy=r"dbias adds up the wrong numbers of dy: .*times and should count once",
    bias_in_the_sum=r"y holds the bias 27 times, where it should hold it once",
    edges_repeated=r"image padded with copies of its border pixels",
)
def strided_windows(wrong):
    def windows(shape):
        for i in range(3):
            for j in range(3):
                yield i, j, np.s_[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]

    def forward(x, w, b):
        border = ((0, 0), (0, 0), (1, 1), (1, 1))
        padded = np.pad(x, border, mode="edge") if wrong == "edges_repeated" else np.pad(x, border)
        y = np.zeros((len(x), len(w), 3, 3))
        for i, j, window in windows(x.shape):
            y[:, :, i, j] = np.tensordot(padded[window], w, ([1, 2, 3], [1, 2, 3]))
            y[:, :, i, j] += w[0].size * b if wrong == "bias_in_the_sum" else b
        return y, (padded, w)

    def backward(dy, cache):
        padded, w = cache
        dpadded, dw, db = np.zeros_like(padded), np.zeros_like(w), np.zeros(len(w))
        for i, j, window in windows(dy.shape):
            looked_at = window
            if wrong == "row_for_column":
                looked_at = np.s_[:, :, 2 * i : 2 * i + 3, 2 * i : 2 * i + 3]
            elif wrong == "window_starts_late":
                looked_at = np.s_[:, :, 2 * i : 2 * i + 3, min(2 * j + 1, 5) : min(2 * j + 1, 5) + 3]
            here = dy[:, :, i, i] if wrong == "one_column_of_dy" else dy[:, :, i, j]
            db += here.sum(axis=0)
            dw += np.tensordot(dy[:, :, i, j], padded[looked_at], (0, 0))
            dpadded[window] += np.tensordot(dy[:, :, i, j], w, (1, 0))
        return dpadded[:, :, 1:-1, 1:-1], dw, db

    return forward, backward


@student(
    (2, 4, 4, 3),
    (4, 2, 2, 2),
    known={"like": "conv2d", "options": {"groups": 2}},
    first_group_only=r"dweight meets the wrong numbers of x: .*all are off by \(0, -2, 0, 0\)",
    every_second_channel=r"y is right for x with axis 1 in the order 0, 2, 1 and 3",
)
def two_groups(wrong):
    def parts(x):
        return [x[:, g::2] if wrong == "every_second_channel" else x[:, 2 * g : 2 * g + 2] for g in (0, 1)]

    def forward(x, w):
        y = np.zeros((len(x), 4, 3, 2))
        for g, part in enumerate(parts(x)):
            for i, j in np.ndindex(2, 2):
                pixels = part[:, :, i : i + 3, j : j + 2]
                y[:, 2 * g : 2 * g + 2] += np.einsum("nchw,fc->nfhw", pixels, w[2 * g : 2 * g + 2, :, i, j])
        return y, (x, w)

    def backward(dy, cache):
        x, w = cache
        dx, dw = np.zeros_like(x), np.zeros_like(w)
        for g, (part, dpart) in enumerate(zip(parts(x), parts(dx), strict=True)):
            d, filters = dy[:, 2 * g : 2 * g + 2], np.s_[2 * g : 2 * g + 2]
            seen = x[:, :2] if wrong == "first_group_only" else part
            for i, j in np.ndindex(2, 2):
                window = np.s_[:, :, i : i + 3, j : j + 2]
                dw[filters, :, i, j] = np.einsum("nfhw,nchw->fc", d, seen[window])
                dpart[window] += np.einsum("nfhw,fc->nchw", d, w[filters, :, i, j])
        return dx, dw

    return forward, backward


@student(
    (2, 3, 5, 6),
    known={"like": "avg_pool2d", "options": {"kernel_size": 3, "stride": 2, "padding": 1}},
    pixels_inside_counted=r"dx is right for dy times a factor of its own at each output: .*is 1 away from the border",
    by_the_stride=r"2.25 times what it should be: the window's area / the square of stride",
)
def padded_means(wrong):
    def forward(x):
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        rows, columns = range(3), range(3)
        y = [[padded[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].mean(axis=(2, 3)) for j in columns] for i in rows]
        return np.array(y).transpose(2, 3, 0, 1), x.shape

    def backward(dy, shape):
        dx, inside = np.zeros(shape), np.pad(np.ones(shape[2:]), 1)
        dpadded = np.pad(dx, ((0, 0), (0, 0), (1, 1), (1, 1)))
        for i, j in np.ndindex(3, 3):
            window = np.s_[2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            count = {"pixels_inside_counted": inside[window].sum(), "by_the_stride": 4}.get(wrong, 9)
            dpadded[:, :, *window] += dy[:, :, i, j, None, None] / count
        return dpadded[:, :, 1:-1, 1:-1]

    return forward, backward


@student(
    (3, 2, 4, 4),
    known={"like": "avg_pool2d", "options": {"kernel_size": 2}},
    first_pixel_only=r"gives each number of dy, times 1, to one entry only .*it has to go to 4 entries, 0.25 times",
)
def means_of_blocks(wrong):
    def backward(dy, cache):
        if wrong:
            dx = np.zeros((3, 2, 4, 4))
            dx[:, :, ::2, ::2] = dy
            return dx
        return np.kron(dy, np.ones((2, 2))) / 4

    return lambda x: (x.reshape(3, 2, 2, 2, 2, 2).mean(axis=(3, 5)), None), backward


MEAN, VAR = np.array([0.4, -0.3, 0.1]), np.array([1.3, 0.6, 2.0])


@student(
    (5, 3),
    (3,),
    (3,),
    known={"like": "batchnorm", "options": {"mean": MEAN, "var": VAR}},
    as_in_training=r"dx holds a path through the mean and the variance of x, but forward treats that as constant",
    centered=r"dx holds a path through the mean of x, but forward treats that as constant",
)
def with_running_statistics(wrong):
    std = np.sqrt(VAR + 1e-5)

    def forward(x, gain, bias):
        xhat = (x - MEAN) / std
        return gain * xhat + bias, (xhat, gain)

    def backward(dy, cache):
        xhat, gain = cache
        dxhat = dy * gain
        dx = dxhat / std
        if wrong:
            dx = dx - dxhat.mean(axis=0) / std
        if wrong == "as_in_training":
            dx = dx - xhat * (dxhat * xhat).mean(axis=0) / std
        return dx, (dy * xhat).sum(axis=0), dy.sum(axis=0)

    return forward, backward


@student(
    (4, 6),
    (6,),
    mean_of_dy=r"the path through the mean .* is taken of dy alone: gain is forgotten there",
    half_the_variance=r"the path through the variance .* is 0.5 times what is right",
    statistics_constant=r"are both missing; dy's own part is right",
)
def gained_rows(wrong):
    def forward(x, gain):
        std = np.sqrt(x.var(axis=1, keepdims=True) + 1e-6)
        xhat = (x - x.mean(axis=1, keepdims=True)) / std
        return gain * xhat, (xhat, std, gain)

    def backward(dy, cache):
        xhat, std, gain = cache
        d = dy * gain
        mean = (dy if wrong == "mean_of_dy" else d).mean(axis=1, keepdims=True)
        variance = xhat * (d * xhat).mean(axis=1, keepdims=True) * (0.5 if wrong == "half_the_variance" else 1)
        dx = (d if wrong == "statistics_constant" else d - mean - variance) / std
        return dx, (dy * xhat).sum(axis=0)

    return forward, backward


@student(
    (3, 4),
    (3, 4),
    (3, 2),
    keys_not_transposed=r"dkeys is a matrix A @ queries, and would be right with A.T in place of A",
)
def lookup_by_keys(wrong):
    def forward(queries, keys, values):
        p = softmax(queries @ keys.T)
        return p @ values, (queries, keys, values, p)

    def backward(dy, cache):
        queries, keys, values, p = cache
        dp = dy @ values.T
        dscores = p * (dp - (dp * p).sum(axis=1, keepdims=True))
        turned = dscores if wrong else dscores.T
        return dscores @ keys, turned @ queries, p.T @ dy

    return forward, backward


@student(
    (4, 3, 2, 5),
    pooled_sum=r"by way of other outputs than its own .* is 10 times what it should be",
    gate_only=r"the direct way from an entry of x to the same entry of y",
)
def gated_by_its_mean(wrong):
    def forward(x):
        gate = sigmoid(x.mean(axis=(2, 3), keepdims=True))
        return x * gate, (x, gate)

    def backward(dy, cache):
        x, gate = cache
        through = (dy * x).sum(axis=(2, 3), keepdims=True) * gate * (1 - gate)
        through = through if wrong == "pooled_sum" else through / 10
        return through + (0 * dy if wrong == "gate_only" else dy * gate)

    return forward, backward


@student(
    (6, 4),
    weight_of_the_column=r"the right one times a factor for each row and another for each column",
    not_summed=r"1.3 times what it should be \(13/10\)",
)
def weighted_classes(wrong):
    labels, weights = np.array([1, 0, 3, 2, 2, 1]), np.array([0.5, 2.0, 1.2, 0.9])
    own = weights[labels][:, None]

    def forward(z):
        shifted = z - z.max(axis=1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return np.sum(-own[:, 0] * log_p[np.arange(6), labels]) / own.sum(), softmax(z)

    def backward(dy, p):
        d = dy * (p - np.eye(4)[labels])
        if wrong == "weight_of_the_column":
            return d * weights / own.sum()
        return d * own / (6 if wrong == "not_summed" else own.sum())

    return forward, backward


@student((5, 4), slope_put_in=r"stays the same whatever dy is \(0.2 at each of them")
def gentle_slope(wrong):
    def backward(dy, x):
        dx = dy.copy()
        dx[x < 0] = 0.2 if wrong else 0.2 * dx[x < 0]
        return dx

    return lambda x: (np.where(x < 0, 0.2 * x, x), x), backward


@student(
    (4, 3), (3, 5), (5, 2), before_the_relu=r"dy is multiplied by values from before the ReLU, where those from after"
)
def hidden_layer(wrong):
    def forward(x, w1, w2):
        a = x @ w1
        return np.maximum(a, 0) @ w2, (x, w1, w2, a)

    def backward(dy, cache):
        x, w1, w2, a = cache
        da = dy @ w2.T * (a > 0)
        return da @ w1.T, x.T @ da, (a if wrong else np.maximum(a, 0)).T @ dy

    return forward, backward


@student((2, 5, 3), (4, 3), step_before=r"dw treats each number of dy as if it stood at the .* an index is off by one")
def along_time(wrong):
    def backward(dy, cache):
        x, w = cache
        seen = np.roll(x, 1, axis=1) if wrong else x
        return dy @ w, np.einsum("ntm,ntd->md", dy, seen)

    return lambda x, w: (x @ w.T, (x, w)), backward


@student(
    (4, 3, 2), (3, 2), summed_over_channels=r"dw is the same along rows: it is the sum over rows of what it should be"
)
def one_weight_each(wrong):
    def backward(dy, cache):
        x, w = cache
        dw = (dy * x).sum(axis=0)
        return dy * w, np.broadcast_to(dw.sum(axis=0), w.shape) if wrong else dw

    return lambda x, w: (x * w, (x, w)), backward
