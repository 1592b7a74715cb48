"""Other layouts, other conventions for ties, anybody's layer objects, as much help as asked for."""

from __future__ import annotations

import numpy as np
import pytest

from minires import ops
from minires.gradcheck import check_layer, check_op, wrap

RNG = np.random.default_rng(0)
ROWS, IN_OUT, BIAS = RNG.standard_normal((6, 5)), RNG.standard_normal((5, 3)), RNG.standard_normal(3)
IMAGES = RNG.standard_normal((3, 5, 6, 2))


def affine(x, w, b):
    return x @ w + b, (x, w)


def affine_backward(dy, cache):
    x, w = cache
    return dy @ w.T, x.T @ dy, dy.sum(axis=0)


def columns(x, w, b):
    return w @ x + b, (x, w)


def columns_backward(dy, cache):
    x, w = cache
    return w.T @ dy, dy @ x.T, dy.sum(axis=1, keepdims=True)


def conv_last(x, w, b):
    """NHWC images, (kh, kw, in, out) weights."""
    y, cache = ops.conv2d_forward(x.transpose(0, 3, 1, 2), w.transpose(3, 2, 0, 1), b.ravel(), padding=1)
    return y.transpose(0, 2, 3, 1), (cache, b.shape)


def conv_last_backward(dy, cache):
    dx, dw, db = ops.conv2d_backward(np.ascontiguousarray(dy.transpose(0, 3, 1, 2)), cache[0])
    return dx.transpose(0, 2, 3, 1), dw.transpose(2, 3, 1, 0), db.reshape(cache[1])


CASES = {
    "in_out": (affine, affine_backward, (ROWS, IN_OUT, BIAS), "linear", {}),
    "columns": (columns, columns_backward, (ROWS.T, IN_OUT.T, BIAS[:, None]), "linear", {}),
    "channels_last": (
        *(conv_last, conv_last_backward),
        (IMAGES, RNG.standard_normal((3, 3, 2, 4)), RNG.standard_normal((1, 1, 1, 4))),
        *("conv2d", {"padding": 1}),
    ),
}


@pytest.mark.parametrize("layout", CASES)
def test_another_layout_is_proposed_and_then_checked(layout):
    forward, backward, inputs, like, options = CASES[layout]
    with pytest.raises(ValueError, match=f'Say layout="{layout}"'):
        check_op(forward, backward, inputs, like=like, options=options)
    report = check_op(forward, backward, inputs, like=like, options=options, layout=layout)
    assert report.verdict == "pass", str(report)


@pytest.mark.parametrize("layout", CASES)
def test_a_fault_is_named_in_another_layout(layout):
    forward, backward, inputs, like, options = CASES[layout]

    def wrong(dy, cache):
        dx, dw, db = backward(dy, cache)
        return dx, dw, 0.5 * db

    report = check_op(forward, wrong, inputs, like=like, options=options, layout=layout)
    assert report.verdict == "fail" and report["dweight"].verdict == "pass"
    assert "dbias is 0.5 times what it should be" in report.diagnosis


IN_MINIRES_LAYOUT = [
    ("in_out", 1, (1, 0)),
    ("columns", 0, (1, 0)),
    ("columns", 2, None),
    ("channels_last", 0, (0, 3, 1, 2)),
    ("channels_last", 1, (3, 2, 0, 1)),
    ("channels_last", 2, None),
]
"""layout, number of a gradient, and how it comes into minires' axes: by an order, or flattened."""


@pytest.mark.parametrize(("layout", "number", "order"), IN_MINIRES_LAYOUT)
def test_a_gradient_has_the_shape_of_its_input_in_every_layout(layout, number, order):
    """The right numbers in minires' axes do not fit the weight that they are to be subtracted from."""
    forward, backward, inputs, like, options = CASES[layout]

    def turned(array):
        return array.ravel() if order is None else array.transpose(order)

    def wrong(dy, cache):
        gradients = list(backward(dy, cache))
        gradients[number] = turned(gradients[number])
        return tuple(gradients)

    report = check_op(forward, wrong, inputs, like=like, options=options, layout=layout)
    name, theirs = ("dx", "dweight", "dbias")[number], inputs[number]
    assert report.verdict == "fail"
    assert report.diagnosis == f"{name} has shape {turned(theirs).shape} where {theirs.shape} is needed"


@pytest.mark.parametrize("returned", ["two", "three"])
def test_without_a_bias_in_another_layout(returned):
    def backward(dy, cache):
        return affine_backward(dy, cache)[:2] if returned == "two" else (*affine_backward(dy, cache)[:2], None)

    def turned(dy, cache):
        dx, dw, *rest = backward(dy, cache)
        return dx, dw.T, *rest

    how = {"inputs": (ROWS, IN_OUT, None), "like": "linear", "layout": "in_out"}
    assert check_op(lambda x, w, b: affine(x, w, 0), backward, **how).verdict == "pass"
    report = check_op(lambda x, w, b: affine(x, w, 0), turned, **how)
    assert report.diagnosis == "dweight has shape (3, 5) where (5, 3) is needed"


def test_too_many_and_too_few_gradients_in_another_layout():
    how = {"inputs": (ROWS, IN_OUT, BIAS), "like": "linear", "layout": "in_out"}
    for wrong, which in ((lambda g: (*g, g[0]), "4 gradients for 3 inputs"), (lambda g: g[:2], "2 gradients for 3")):
        with pytest.raises(ValueError, match=which):
            check_op(affine, lambda dy, cache, wrong=wrong: wrong(affine_backward(dy, cache)), **how)
    with pytest.raises(ValueError, match="returned nothing"):
        check_op(affine, lambda dy, cache: None, **how)


def test_a_padding_of_0_that_cuts_all_away():
    def wrong(dy, cache):
        dx, dw, db = conv_last_backward(dy, cache)
        return dx[:, 0:-0, 0:-0], dw, db

    forward, _, inputs, like, options = CASES["channels_last"]
    report = check_op(forward, wrong, inputs, like=like, options=options, layout="channels_last")
    empty = "is needed: it is empty, as x[p:-p] is where p is 0"
    assert report.diagnosis == f"dx has shape (3, 0, 0, 2) where (3, 5, 6, 2) {empty}"
    plain = IMAGES.transpose(0, 3, 1, 2)
    report = check_op(lambda x: (3 * x, None), lambda dy, _: 3 * dy[:, :, 0:-0], plain)
    assert report.diagnosis == f"dx has shape (3, 2, 0, 6) where (3, 2, 5, 6) {empty}"


def test_a_square_weight_may_be_a_convention():
    inputs = (ROWS, RNG.standard_normal((5, 5)), RNG.standard_normal(5))
    report = check_op(affine, affine_backward, inputs, like="linear")
    assert report.fault == "linear:forward-weight-not-transposed" and 'Say layout="in_out"' in report.diagnosis


def test_layouts_that_do_not_exist():
    with pytest.raises(ValueError, match="layout is 'nhwc'; expected one of"):
        check_op(affine, affine_backward, (ROWS, IN_OUT, BIAS), like="linear", layout="nhwc")
    with pytest.raises(ValueError, match='layout="channels_last" needs like='):
        check_op(affine, affine_backward, (ROWS, IN_OUT, BIAS), like="linear", layout="channels_last")


# --- ties ----------------------------------------------------------------------------------------------------------


def pool(x):
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).max(axis=(3, 5)), x


def pool_backward(who):
    def backward(dy, x):
        n, c, h, w = x.shape
        tiles = x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)
        dx = who(tiles) * dy[..., None]
        return dx.reshape(n, c, h // 2, w // 2, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(x.shape)

    return backward


WHO = {
    "first": lambda t: np.arange(4) == t.argmax(axis=-1)[..., None],
    "last": lambda t: np.arange(4) == 3 - t[..., ::-1].argmax(axis=-1)[..., None],
    "all": lambda t: t == t.max(axis=-1, keepdims=True),
    "shared": lambda t: (t == t.max(axis=-1, keepdims=True)) / (t == t.max(-1, keepdims=True)).sum(-1, keepdims=True),
}


@pytest.mark.parametrize("who", WHO)
def test_ties_by_each_convention(who):
    x = RNG.standard_normal((3, 2, 8, 8))

    def verdict(ties):
        report = check_op(pool, pool_backward(WHO[who]), x, like="max_pool2d", options={"kernel_size": 2}, ties=ties)
        return report.verdict, report

    assert [ties for ties in WHO if verdict(ties)[0] == "pass"] == [who]
    by_default, report = verdict(None)
    assert by_default == ("pass" if who in ("first", "last") else "fail")
    assert any("the last of them gets dy" in note for note in report.notes) == (who == "last")


# --- layer objects -------------------------------------------------------------------------------------------------


class Affine:
    """As in most coursework: what backward needs is kept in self."""

    def __init__(self):
        self.weight, self.bias = IN_OUT.copy(), BIAS.copy()

    def forward(self, x):
        self.x = x
        return x @ self.weight + self.bias

    def backward(self, dy):
        self.dweight, self.dbias = self.x.T @ dy, dy.sum(axis=0)
        return dy @ self.weight.T


class Listed:
    """As in "Deep Learning from Scratch": parameters and gradients in lists."""

    def __init__(self, factor=1.0):
        self.params, self.grads, self.factor = [IN_OUT.copy(), BIAS.copy()], [None, None], factor

    def forward(self, x):
        self.x = x
        return x @ self.params[0] + self.params[1]

    def backward(self, dy):
        self.grads[0], self.grads[1] = self.factor * self.x.T @ dy, dy.sum(axis=0)
        return dy @ self.params[0].T


def test_anybodys_layer_is_checked_through_wrap():
    assert check_layer(wrap(Affine(), weight="dweight", bias="dbias"), ROWS).verdict == "pass"
    assert check_layer(wrap(Affine()), ROWS).verdict == "pass", "the names are guessed"
    assert check_layer(wrap(Listed(), {"params[0]": "grads[0]", "params[1]": "grads[1]"}), ROWS).verdict == "pass"
    report = check_layer(wrap(Listed(2.0)), ROWS)
    assert report.verdict == "fail" and "dparams[0] is 2 times what it should be" in report.diagnosis


def test_a_layer_that_is_not_wrapped_is_told_how():
    with pytest.raises(TypeError, match=r'check_layer\(wrap\(layer, weight="dweight", bias="dbias"\), x\)'):
        check_layer(Affine(), ROWS)
    with pytest.raises(TypeError, match="no forward"):
        wrap(3)


# --- hint levels ---------------------------------------------------------------------------------------------------


def test_hint_levels():
    def wrong(dy, cache):
        dx, dw, _ = ops.linear_backward(dy, cache)
        return dx, dw, dy.mean(axis=0)

    reports = [
        check_op(ops.linear_forward, wrong, (ROWS, IN_OUT.T, BIAS), like="linear", hints=hints) for hints in range(3)
    ]
    assert [r.verdict for r in reports] == ["fail"] * 3
    assert reports[0].diagnosis is None and reports[0].fault is None
    assert reports[1].diagnosis.startswith("look at dbias. ") and "linear:dbias-mean" not in str(reports[1])
    assert reports[2].fault == "linear:dbias-mean"
    with pytest.raises(ValueError, match="hints is 3"):
        check_op(ops.linear_forward, wrong, (ROWS, IN_OUT.T, BIAS), like="linear", hints=3)
