"""A convolution steps over a handwritten digit: windows become columns, one product makes all outputs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minires.ops import conv2d_backward, conv2d_forward
from minires.stepper.lessons.inputs import digit
from minires.stepper.recorder import Record
from minires.stepper.story import Arrow, Move, Panel, Story, number, term

TITLE = "Convolution"
ABOUT = (
    "Two 3x3 filters on a handwritten digit of 8x8 pixels, with stride 2 and a padding of 1: im2col and one product."
)
MODULES = ("minires.ops",)

STRIDE, PADDING, KERNEL, PLACES = 2, 1, 3, 4
PIXELS = ((4, 2), (4, 3), (5, 3))
"""Pixels of the digit that lie in one window, in two and in four."""
TIMES = {1: "once", 2: "twice", 4: "four times"}
FORWARD, BACKWARD = "conv2d_forward", "conv2d_backward"


def run() -> None:
    """The forward and the backward pass that are recorded."""
    x = digit(2)
    weight = np.array([[[[1, 0, -1], [2, 0, -2], [1, 0, -1]]], [[[-1, -1, -1], [0, 1, 0], [1, 1, 1]]]], np.float64)
    bias = np.array([3.0, -2.0])
    dy = np.random.default_rng(0).integers(-2, 3, (1, 2, PLACES, PLACES)).astype(np.float64)
    _, cache = conv2d_forward(x, weight, bias, stride=STRIDE, padding=PADDING)
    conv2d_backward(dy, cache)


def window(k: int) -> tuple[int, int, int, int]:
    """The cells of the padded image under window number k."""
    return k // PLACES * STRIDE, k % PLACES * STRIDE, KERNEL, KERNEL


def tap_cells(tap: int) -> list[tuple[int, int, int, int]]:
    """The pixels that one tap of the kernel meets, over all windows."""
    a, b = divmod(tap, KERNEL)
    return [(i * STRIDE + a, j * STRIDE + b, 1, 1) for i in range(PLACES) for j in range(PLACES)]


def padding(story: Story, r: Record) -> Iterator[Move]:
    if story.part(r) == "backward":
        return
    yield story.move(
        r,
        "Zeros around the image",
        f"x has 8 rows and 8 columns. With a padding of {number(r, 'window.padding', 0)} `xpad` has 10 and 10, "
        f"so that a window "
        "may reach over the edge.",
        [Panel(r, "x", "x, the digit", read=[(0, 0, 8, 8)])],
        [Panel(r, "xpad", "xpad", write=[(1, 1, 8, 8)])],
        formula="xpad_{n,c,i+p,j+p} = x_{n,c,i,j}, 0 around it",
        arrows=[Arrow("x", "xpad")],
    )


def windows(story: Story, r: Record) -> Iterator[Move]:
    if story.part(r) == "backward":
        return
    for k in range(PLACES**2):
        i, j = divmod(k, PLACES)
        yield story.move(
            r,
            f"Window {k + 1} of 16 is a column",
            f"The window whose corner lies at row {i * STRIDE}, column {j * STRIDE} of xpad, written line by line, is "
            f"column {k} of `patches`. Its middle pixel is {number(r, 'patches', 0, i, j, 1, 1, 0)}. One line "
            f"makes all 16 "
            "windows: it says only how far apart their pixels lie in memory, and copies none.",
            [Panel(r, "xpad", read=[window(k)])],
            [Panel(r, "patches", "patches", "0,c,c,r,r,0", write=[(0, k, 9, 1)], known=("column", k + 1))],
            formula="patches_{(a,b),(i,j)} = xpad_{i·s+a, j·s+b}",
            arrows=[Arrow("xpad", "patches")],
        )


def columns(story: Story, r: Record) -> Iterator[Move]:
    inside = story.last("im2col", "xpad", r)
    for i, j in PIXELS:
        copies = copies_of(i, j)
        yield story.move(
            r,
            f"A pixel in {len(copies)} {'window' if len(copies) == 1 else 'windows'}",
            f"`cols` is the matrix that the product needs, each window a column of it. Windows overlap: pixel "
            f"({i}, {j}) of "
            f"x, {number(r, 'x', 0, 0, i, j)}, stands in it {TIMES[len(copies)]}. "
            "Backward will have to add up what comes back to each of its copies.",
            [Panel(inside, "xpad", read=[(i + PADDING, j + PADDING, 1, 1)])],
            [Panel(r, "cols", write=[(t, k, 1, 1) for t, k in copies])],
            formula="cols_{t,k}: row t is a tap of the kernel, column k a window",
            arrows=[Arrow("xpad", "cols")],
        )


def copies_of(i: int, j: int) -> list[tuple[int, int]]:
    """(row, column) in cols of all copies of pixel (i, j) of x."""
    return [
        (t, k)
        for k in range(PLACES**2)
        for t in range(KERNEL**2)
        if (k // PLACES * STRIDE + t // KERNEL, k % PLACES * STRIDE + t % KERNEL) == (i + PADDING, j + PADDING)
    ]


def product(story: Story, r: Record) -> Iterator[Move]:
    for k in range(PLACES**2):
        sums = [
            " + ".join(f"{term(r, 'weight', o, 0, *divmod(t, KERNEL))}·{term(r, 'cols', 0, t, k)}" for t in range(9))
            + f" = {number(r, 'y', 0, k, o)}"
            for o in range(2)
        ]
        yield story.move(
            r,
            f"Window {k + 1}: both filters",
            f"Each filter is laid on the window: nine products, added up.\nFilter 0: {sums[0]}\nFilter 1: {sums[1]}",
            [Panel(r, "weight", "weight, a filter a row", "r,c,c,c", read=[(0, 0, 2, 9)])],
            [
                Panel(r, "cols", "cols", read=[(0, k, 9, 1)]),
                Panel(r, "y", "y, a filter a row", "0,c,r", write=[(0, k, 2, 1)], known=("column", k + 1)),
            ],
            formula="y_{k,o} = Σ_t cols_{t,k} W_{o,t}",
            arrows=[Arrow("weight", "y"), Arrow("cols", "y")],
        )


def add_bias(story: Story, r: Record) -> Iterator[Move]:
    yield story.move(
        r,
        "The bias",
        "Each filter adds its own number at all places. At the first place: "
        + "; ".join(
            f"{term(r, 'y', 0, 0, o, before=True)} + {term(r, 'bias', o)} = {number(r, 'y', 0, 0, o)}" for o in range(2)
        )
        + ".",
        [Panel(r, "bias", "bias", "r", read=[(0, 0, 2, 1)])],
        [
            Panel(r, "y", "y before", "0,c,r", before=True, key="y before", read=[(0, 0, 2, 16)]),
            Panel(r, "y", "y", "0,c,r", write=[(0, 0, 2, 16)]),
        ],
        formula="y_{k,o} = Σ_t cols_{t,k} W_{o,t} + bias_o",
        arrows=[Arrow("bias", "y"), Arrow("y before", "y")],
    )


def fold(story: Story, r: Record) -> Iterator[Move]:
    yield story.move(
        r,
        "Back to images",
        "The 16 places of each row are the 4 rows and 4 columns of an output image. Filter 0 answers to edges that are "
        "bright on their left, filter 1 to those that are bright below.",
        [Panel(r, "y", "y, flat", "0,c,r", before=True, key="flat", read=[(0, 0, 2, 16)])],
        [
            Panel(r, "y", "y, filter 0", "0,0,r,c", write=[(0, 0, 4, 4)], key="0"),
            Panel(r, "y", "y, filter 1", "0,1,r,c", write=[(0, 0, 4, 4)], key="1"),
        ],
        formula="y_{n,o,i,j}: k = i·W_{out} + j",
        arrows=[Arrow("flat", "0"), Arrow("flat", "1")],
    )


def upstream(story: Story, r: Record) -> Iterator[Move]:
    yield story.move(
        r,
        "The way back begins",
        "dy says how the loss changes with each output. As y was, it is laid flat: a row for each filter.",
        [
            Panel(r, "dy", "dy, filter 0", "0,0,r,c", before=True, key="0", read=[(0, 0, 4, 4)]),
            Panel(r, "dy", "dy, filter 1", "0,1,r,c", before=True, key="1", read=[(0, 0, 4, 4)]),
        ],
        [Panel(r, "dy", "dy, flat", "0,c,r", write=[(0, 0, 2, 16)], key="flat")],
        formula="dy_{o,k} = ∂loss / ∂y_{o,k}",
        arrows=[Arrow("0", "flat", style="back"), Arrow("1", "flat", style="back")],
    )


def columns_again(story: Story, r: Record) -> Iterator[Move]:
    yield story.move(
        r,
        "The columns again",
        f"`cols` has {r.after['cols'].size} numbers, x has {r.after['x'].size} (with stride 1 it would be nine "
        f"times as many). So "
        "the forward pass kept x alone, and the way back makes the columns once more.",
        [Panel(r, "x", "x", read=[(0, 0, 8, 8)])],
        [Panel(r, "cols", "cols", write=[(0, 0, 9, 16)])],
        formula="cols = im2col(x)",
        arrows=[Arrow("x", "cols")],
    )


def weight_gradient(story: Story, r: Record) -> Iterator[Move]:
    for t in range(KERNEL**2):
        a, b = divmod(t, KERNEL)
        sums = []
        for o in range(2):
            factors = r.after["dy"][0, :, o] * r.after["cols"][0, t]
            terms = [f"{term(r, 'dy', 0, k, o)}·{term(r, 'cols', 0, t, k)}" for k in np.flatnonzero(factors)]
            sums.append(f"Filter {o}: {' + '.join(terms) or 'nothing'} = {number(r, 'dweight', o, 0, a, b)}")
        yield story.move(
            r,
            f"dweight, tap ({a}, {b})",
            "A weight is used once in every window, on the pixel in its row of `cols`. Its gradient adds up "
            "dy·pixel over "
            f"all 16 (products with 0 left out).\n{sums[0]}\n{sums[1]}",
            [Panel(r, "cols", "cols", read=[(t, 0, 1, 16)]), Panel(r, "dy", "dy, flat", "0,c,r", read=[(0, 0, 2, 16)])],
            [Panel(r, "dweight", "dweight", "r,c,c,c", write=[(0, t, 2, 1)], known=("column", t + 1))],
            formula="dW_{o,t} = Σ_k dy_{o,k} cols_{t,k}",
            arrows=[Arrow("cols", "dweight", style="back"), Arrow("dy", "dweight", style="back")],
        )


def column_gradient(story: Story, r: Record) -> Iterator[Move]:
    for k in range(PLACES**2):
        yield story.move(
            r,
            f"dcols, window {k + 1}",
            "Each pixel of the window was used by both filters: its gradient is the sum over both of weight·dy. "
            "The first "
            f"one: {term(r, 'weight', 0, 0, 0, 0)}·{term(r, 'dy', 0, k, 0)} + "
            f"{term(r, 'weight', 1, 0, 0, 0)}·{term(r, 'dy', 0, k, 1)} = {number(r, 'dcols', 0, k, 0)}.",
            [Panel(r, "weight", "weight", "r,c,c,c", read=[(0, 0, 2, 9)])],
            [
                Panel(r, "dy", "dy, flat", "0,c,r", read=[(0, k, 2, 1)]),
                Panel(r, "dcols", "dcols, a tap a row", "r,c,0", write=[(0, k, 9, 1)], known=("column", k + 1)),
            ],
            formula="dcols_{t,k} = Σ_o W_{o,t} dy_{o,k}",
            arrows=[Arrow("weight", "dcols", style="back"), Arrow("dy", "dcols", style="back")],
        )


def add_tap(story: Story, r: Record) -> Iterator[Move]:
    row = r.after["tap"]
    a, b = divmod(row, KERNEL)
    pixel = 0, 0, 2 + a, 2 + b
    yield story.move(
        r,
        f"col2im, tap {number(r, 'tap')}",
        "What came back to a copy is added to the pixel it was copied from. Within one slice no pixel occurs "
        "twice, but "
        f"from slice to slice windows overlap, so `+=`. In the second window of the second row: "
        f"{term(r, 'dxpad', *pixel, before=True)} + {term(r, 'cols', 0, 0, row, 1, 1)} = "
        f"{number(r, 'dxpad', *pixel)}.",
        [Panel(r, "cols", "dcols (here called cols)", "0,r,r,c,c", read=[(row, 0, 1, 16)])],
        [Panel(r, "dxpad", "dxpad", write=tap_cells(row))],
        formula="dxpad_{i·s+a, j·s+b} += dcols_{(a,b),(i,j)}",
        arrows=[Arrow("cols", "dxpad", style="sum")],
    )


def pixels(story: Story, r: Record) -> Iterator[Move]:
    for i, j in PIXELS:
        copies = copies_of(i, j)
        terms = " + ".join(term(r, "dcols", t, k, 0) for t, k in copies)
        window_s = "window" if len(copies) == 1 else "windows"
        yield story.move(
            r,
            f"One pixel, {len(copies)} {window_s}",
            f"Pixel ({i}, {j}) lies in {len(copies)} {window_s}. Its gradient is the sum of what came back to "
            f"{'its copy' if len(copies) == 1 else 'its copies'}: {terms} = {number(r, 'dx', 0, 0, i, j)}. "
            "The edge of zeros is cut off: nobody asks for its gradient.",
            [Panel(r, "dcols", "dcols", "r,c,0", read=[(t, k, 1, 1) for t, k in copies])],
            [Panel(r, "dx", "dx", write=[(i, j, 1, 1)])],
            formula="dx = col2im(dcols), the adjoint of im2col",
            arrows=[Arrow("dcols", "dx", style="sum")],
        )


def bias_gradient(story: Story, r: Record) -> Iterator[Move]:
    sums = "; ".join(f"filter {o}: {number(r, 'dbias', o)}" for o in range(2))
    yield story.move(
        r,
        "dbias",
        f"A bias was added at all 16 places, so its gradient is the sum of dy over all of them: {sums}.",
        [Panel(r, "dy", "dy, flat", "0,c,r", read=[(0, 0, 2, 16)])],
        [Panel(r, "dbias", "dbias", "r", write=[(0, 0, 2, 1)])],
        formula="dbias_o = Σ_k dy_{o,k}",
        arrows=[Arrow("dy", "dbias", style="sum")],
    )


TALES = {
    ("im2col", "xpad"): padding,
    ("im2col", "patches"): windows,
    (FORWARD, "cols"): columns,
    (FORWARD, "y", "cols"): product,
    (FORWARD, "y", "bias"): add_bias,
    (FORWARD, "y", "y.reshape"): fold,
    (BACKWARD, "cols"): columns_again,
    (BACKWARD, "dy", "dy"): upstream,
    (BACKWARD, "dweight"): weight_gradient,
    (BACKWARD, "dcols"): column_gradient,
    ("col2im", "dxpad", "cols", "tap"): add_tap,
    (BACKWARD, "dx"): pixels,
    (BACKWARD, "dbias"): bias_gradient,
}
