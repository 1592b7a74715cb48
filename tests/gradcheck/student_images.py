"""Images as students treat them: im2col in many variants, channels last, pooling by loops; each with faults."""

from __future__ import annotations

import numpy as np

from tests.gradcheck.student_ops import student

CONV = ((3, 2, 5, 5), (3, 2, 3, 3), (3,))


def columns_of(x: np.ndarray, k: int, s: int, p: int) -> tuple[np.ndarray, int, int]:
    """(C k k, N H' W'), the pixels of all samples side by side."""
    n, c, h, w = x.shape
    xp = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    ho, wo = (h + 2 * p - k) // s + 1, (w + 2 * p - k) // s + 1
    cols = np.empty((c, k, k, n, ho, wo))
    for i in range(k):
        for j in range(k):
            cols[:, i, j] = xp[:, :, i : i + s * ho : s, j : j + s * wo : s].transpose(1, 0, 2, 3)
    return cols.reshape(c * k * k, -1), ho, wo


def image_of(cols: np.ndarray, shape: tuple, k: int, s: int, p: int, wrong: str = "") -> np.ndarray:
    """The adjoint of `columns_of`."""
    n, c, h, w = shape
    ho, wo = (h + 2 * p - k) // s + 1, (w + 2 * p - k) // s + 1
    cols = cols.reshape(c, k, k, n, ho, wo)
    xp = np.zeros((n, c, h + 2 * p, w + 2 * p))
    for i in range(k):
        for j in range(k):
            part = cols[:, j, i] if wrong == "rows_for_columns" else cols[:, i, j]
            place = (slice(None), slice(None), slice(i, i + s * ho, s), slice(j, j + s * wo, s))
            if wrong == "overwritten":
                xp[place] = part.transpose(1, 0, 2, 3)
            else:
                xp[place] += part.transpose(1, 0, 2, 3)
    if wrong == "padding_left_on":
        return xp
    cut = p + 1 if wrong == "cut_off_by_one" else p
    return xp[:, :, cut : cut + h, cut : cut + w] if cut + h <= h + 2 * p else xp[:, :, cut - 2 :][:, :, :h, :w]


def conv(s: int, p: int):
    """A convolution by one large product."""

    def make(wrong):
        def forward(x, w, b):
            cols, ho, wo = columns_of(x, w.shape[2], s, p)
            y = (w.reshape(len(w), -1) @ cols).reshape(len(w), len(x), ho, wo).transpose(1, 0, 2, 3)
            return y + b.reshape(1, -1, 1, 1), (x, w, cols)

        def backward(dout, cache):
            x, w, cols = cache
            rows = dout.transpose(1, 0, 2, 3).reshape(len(w), -1)
            if wrong == "reshaped_for_transposed":
                rows = dout.reshape(len(w), -1)
            dw = (rows @ cols.T).reshape(w.shape)
            if wrong == "kernel_read_wrongly":
                dw = (rows @ cols.T).reshape(len(w), *w.shape[2:], w.shape[1]).transpose(0, 3, 1, 2)
            if wrong == "last_row_left_out":
                dw = (dout[:, :, :-1].transpose(1, 0, 2, 3).reshape(len(w), -1) @ _without_last(cols, dout).T).reshape(
                    w.shape
                )
            db = dout.sum(axis=(0, 2)) if wrong == "bias_by_column" else dout.sum(axis=(0, 2, 3))
            if wrong == "bias_mean_of_pixels":
                db = dout.mean(axis=(2, 3)).sum(axis=0)
            return image_of(w.reshape(len(w), -1).T @ rows, x.shape, w.shape[2], s, p, wrong), dw, db

        return forward, backward

    return make


def _without_last(cols: np.ndarray, dout: np.ndarray) -> np.ndarray:
    n, _, ho, wo = dout.shape
    return cols.reshape(-1, n, ho, wo)[:, :, :-1].reshape(len(cols), -1)


_FAULTS = {
    "overwritten": r"overwrit|several have to be added|\+=",
    "rows_for_columns": r"wrong positions|transposed|axes in the wrong order|kernel.*transposed|w .*exchanged",
    "reshaped_for_transposed": r"reshape where a transpose is needed|wrong order",
    "kernel_read_wrongly": r"reshape where a transpose is needed|wrong order",
    "last_row_left_out": r"leaves out the last|last row|off by one|0 to \d of dy",
    "bias_by_column": r"db(ias)? has shape",
    "bias_mean_of_pixels": r"db is .* times what it should be: 1 / the product of the lengths|dbias-pixel-mean",
}


def _conv(name: str, s: int, p: int, known: dict | None = None, **more: str) -> None:
    make = conv(s, p)
    make.__name__ = name
    student(*CONV, known=known, **(_FAULTS | more))(make)


_conv("conv_columns", 1, 0)
_conv("conv_columns_padded", 1, 1, padding_left_on=r"still has its padding", cut_off_by_one=r"shifted|offset")
_CATALOGUE = {"like": "conv2d", "options": {"stride": 2, "padding": 1}}
_conv(
    "conv_columns_as_conv2d",
    2,
    1,
    _CATALOGUE,
    padding_left_on=r"padding",
    cut_off_by_one=r"off-by-one.*one pixel too far",
)


# --- channels last -------------------------------------------------------------------------------------------------


@student(
    (3, 5, 4, 2),
    (2, 2, 2, 3),
    (3,),
    known={"like": "conv2d", "layout": "channels_last"},
    kernel_flipped=r"dweight.*flip|weight.*flip|backwards|180",
    kernel_transposed=r"transposed|exchanged",
    bias_of_one_axis=r"dbias has shape",
    first_pixel_only=r"row 0 .*of dy|the first|counts only|alone|dweight",
    not_flipped_dx=r"flip|correlation|180",
)
def conv_channels_last(wrong):
    def forward(x, w, b):
        kh, kw = w.shape[:2]
        ho, wo = x.shape[1] - kh + 1, x.shape[2] - kw + 1
        y = sum(x[:, i : i + ho, j : j + wo] @ w[i, j] for i in range(kh) for j in range(kw))
        return y + b, (x, w)

    def backward(dy, cache):
        x, w = cache
        kh, kw = w.shape[:2]
        ho, wo = dy.shape[1:3]
        dx, dw = np.zeros_like(x), np.zeros_like(w)
        for i in range(kh):
            for j in range(kw):
                k = w[kh - 1 - i, kw - 1 - j] if wrong == "not_flipped_dx" else w[i, j]
                dx[:, i : i + ho, j : j + wo] += dy @ k.T
                dw[i, j] = np.tensordot(x[:, i : i + ho, j : j + wo], dy, axes=((0, 1, 2), (0, 1, 2)))
        if wrong == "first_pixel_only":
            dw = sum(x[n, :kh, :kw, :, None] * dy[n, 0, 0] for n in range(len(x)))
        if wrong == "kernel_flipped":
            dw = dw[::-1, ::-1]
        elif wrong == "kernel_transposed":
            dw = dw.transpose(1, 0, 2, 3)
        return dx, dw, dy.sum(axis=(0, 1) if wrong == "bias_of_one_axis" else (0, 1, 2))

    return forward, backward


@student(
    (4, 3, 5, 2),
    known={"like": "global_avg_pool2d", "layout": "channels_last"},
    rows_only=r"5 times",
    not_divided=r"15 times|divi",
    samples=r"factor|times|divi",
)
def global_average_channels_last(wrong):
    def forward(x):
        return x.mean(axis=(1, 2)), x.shape

    def backward(dy, shape):
        n, h, w, _ = shape
        count = {"rows_only": h, "not_divided": 1, "samples": n * h * w}.get(wrong, h * w)
        return np.broadcast_to(dy[:, None, None, :] / count, shape).copy()

    return forward, backward


@student(
    (3, 4, 6, 2),
    first_pixel_wins=r"wrong positions|first|scattered|wrongly zero|belongs",
    every_pixel=r"where|all of dy|wrong|gate|mask",
)
def max_pool_channels_last(wrong):
    def forward(x):
        n, h, w, c = x.shape
        blocks = x.reshape(n, h // 2, 2, w // 2, 2, c)
        return blocks.max(axis=(2, 4)), (blocks, x.shape)

    def backward(dy, cache):
        blocks, shape = cache
        here = blocks == blocks.max(axis=(2, 4), keepdims=True)
        if wrong == "first_pixel_wins":
            here = np.zeros_like(here)
            here[:, :, 0, :, 0] = True
        elif wrong == "every_pixel":
            here = np.ones_like(here)
        return (here * dy[:, :, None, :, None]).reshape(shape)

    return forward, backward


@student(
    (2, 4, 6, 3),
    area_forgotten=r"4 times",
    side_for_area=r"2 times",
    one_pixel=r"wrongly zero|right where it is not zero|every second",
)
def average_pool_channels_last(wrong):
    def forward(x):
        n, h, w, c = x.shape
        return x.reshape(n, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4)), x.shape

    def backward(dy, shape):
        dx = np.repeat(np.repeat(dy, 2, axis=1), 2, axis=2) / {"area_forgotten": 1, "side_for_area": 2}.get(wrong, 4)
        if wrong == "one_pixel":
            dx[:, 1::2] = 0
        return dx

    return forward, backward


@student((2, 2, 3, 3), first_of_four=r"every second|counts only", mean_of_four=r"0\.25 times")
def upsample(wrong):
    def forward(x):
        return np.repeat(np.repeat(x, 2, axis=2), 2, axis=3), x.shape

    def backward(dy, shape):
        if wrong == "first_of_four":
            return dy[:, :, ::2, ::2].copy()
        n, c, h, w = shape
        blocks = dy.reshape(n, c, h, 2, w, 2)
        return blocks.mean(axis=(3, 5)) if wrong else blocks.sum(axis=(3, 5))

    return forward, backward


@student((2, 2, 4, 5), corner=r"shifted", kept=r"still has its padding")
def zero_padding(wrong):
    def forward(x):
        return np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), x.shape

    def backward(dy, shape):
        if wrong == "kept":
            return dy.copy()
        start = 0 if wrong == "corner" else 1
        return dy[:, :, start : start + shape[2], start : start + shape[3]].copy()

    return forward, backward


@student(
    (4, 2, 3, 2),
    (2,),
    (2,),
    statistics_of_rows=r"has shape|sum runs|depends on|wrong axis|axis|is not the|does not depend",
    variance_path=r"path through the variance|a multiple of x minus its mean",
    root_forgotten=r"standard deviation",
)
def batchnorm_channels_second(wrong):
    def forward(x, g, b):
        mean, var = x.mean(axis=(0, 2, 3), keepdims=True), x.var(axis=(0, 2, 3), keepdims=True)
        xhat = (x - mean) / np.sqrt(var + 1e-5)
        return g.reshape(1, -1, 1, 1) * xhat + b.reshape(1, -1, 1, 1), (xhat, var, g)

    def backward(dy, cache):
        xhat, var, g = cache
        axes = (0, 2) if wrong == "statistics_of_rows" else (0, 2, 3)
        d = dy * g.reshape(1, -1, 1, 1)
        dx = d - d.mean(axis=axes, keepdims=True)
        if wrong != "variance_path":
            dx = dx - xhat * (d * xhat).mean(axis=axes, keepdims=True)
        if wrong != "root_forgotten":
            dx = dx / np.sqrt(var + 1e-5)
        return dx, (dy * xhat).sum(axis=(0, 2, 3)), dy.sum(axis=(0, 2, 3))

    return forward, backward
