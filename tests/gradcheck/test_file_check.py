"""`check_file`: anybody's names and arguments are found, every standard case can be asked, and the report says why."""

from __future__ import annotations

import json

import numpy as np
import pytest

from minires.cli import main
from minires.gradcheck import check_file
from minires.gradcheck.definitions import DEFINITIONS
from minires.gradcheck.function_names import bind, find_pair
from minires.gradcheck.runner import Parameter
from minires.gradcheck.standard_cases import _CASES, standard_cases
from tests.slowness import measured

RIGHT_ALREADY = "from minires.ops import {op}_forward, {op}_backward\n"

CONV = """
import numpy as np

def conv_forward_naive(x, w, b, conv_param):
    s, p = conv_param["stride"], conv_param["pad"]
    n, c, h, wid = x.shape
    f, _, kh, kw = w.shape
    xp = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    out = np.zeros((n, f, (h + 2 * p - kh) // s + 1, (wid + 2 * p - kw) // s + 1))
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            window = xp[:, :, i * s : i * s + kh, j * s : j * s + kw]
            out[:, :, i, j] = np.einsum("ncab,fcab->nf", window, w) + b
    return out, (x, w, xp, s, p)

def conv_backward_naive(dout, cache):
    x, w, xp, s, p = cache
    kh, kw = w.shape[2:]
    dxp, dw, db = np.zeros_like(xp), np.zeros_like(w), dout.sum(axis=(0, 2, 3))
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            at = np.s_[:, :, i * s : i * s + kh, j * s : j * s + kw]
            dxp[at] += np.einsum("nf,fcab->ncab", dout[:, :, i, j], w)
            dw += np.einsum("nf,ncab->fcab", dout[:, :, i, j], xp[at])
    return dxp[:, :, p : p + x.shape[2], p : p + x.shape[3]], dw, db
"""


def _file(tmp_path, text, name="student.py"):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("op", _CASES)
def test_every_standard_case_is_lawful_and_small(op):
    free = DEFINITIONS[op].required + DEFINITIONS[op].optional
    for case in standard_cases(op, free, {}):
        work = 1
        if op != "dropout":
            shape = DEFINITIONS[op].shape(case.inputs, case.options)
            work = int(np.prod(shape)) * (case.inputs[1][0].size if op == "conv2d" else 9)
        assert sum(a.size for a in case.inputs) * 4 * work < 600_000, case.name


def test_the_cases_that_people_forget_are_there():
    names = {case.name for case in standard_cases("conv2d", ("stride", "padding", "dilation"), {})}
    assert {"stride 2 that does not divide", "not square", "kernel 1", "batch of 1", "padding 1"} <= names
    assert "ties" in {case.name for case in standard_cases("max_pool2d", ("kernel_size", "stride"), {})}


def test_what_a_function_cannot_be_asked_is_left_out():
    for case in standard_cases("conv2d", (), {}):
        assert (case.options["stride"], case.options["padding"], case.options["dilation"]) == (1, 0, 1)
    fixed = standard_cases("conv2d", (), {"stride": 2})
    assert fixed and all(case.options["stride"] == 2 for case in fixed)
    assert not any(case.name == "padding 1" for case in standard_cases("conv2d", ("stride",), {}))
    with pytest.raises(ValueError, match="too small"):
        standard_cases("max_pool2d", (), {"kernel_size": 9})


def test_cs231n_is_understood(tmp_path, capsys):
    with measured() as spent:
        report = check_file(_file(tmp_path, CONV), "conv2d")
    assert report.verdict == "pass", str(report)
    assert [c.verdict for c in report.cases].count("pass") >= 6
    assert spent.there / len(report.cases) < 5


def test_a_fault_is_named_and_shown_in_every_form(tmp_path, capsys):
    wrong = _file(tmp_path, CONV.replace("dout.sum(axis=(0, 2, 3))", "dout.mean(axis=(0, 2, 3)) * len(dout)"))
    page = tmp_path / "report.html"
    assert main(["gradcheck", str(wrong), "--html", str(page), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] == "fail" and "dbias" in told["diagnosis"]
    assert {t["name"] for t in told["cases"][0]["tensors"]} == {"y", "dx", "dweight", "dbias"}
    text = page.read_text()
    assert "<svg" in text and "data:image/png" in text and "dbias: 2 of 2 entries are wrong" in text


def test_settings_it_was_written_for(tmp_path, capsys):
    fixed = CONV.replace("b, conv_param", "b").replace('conv_param["stride"], conv_param["pad"]', "2, 0")
    path = str(_file(tmp_path, fixed))
    assert main(["gradcheck", path, "--like", "conv2d", "--stride", "2"]) == 0
    capsys.readouterr()
    assert main(["gradcheck", path, "--like", "conv2d"]) == 1  # stride 1 is what conv2d does where nothing is said
    assert "stride" in capsys.readouterr().out


@pytest.mark.parametrize("op", ["linear", "max_pool2d"])
def test_ops_of_minires_pass_as_a_students_file(tmp_path, op):
    report = check_file(_file(tmp_path, RIGHT_ALREADY.format(op=op)), op)
    assert report.verdict == "pass", str(report)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def f(:", "cannot be loaded: SyntaxError"),
        ("x = 1", "no functions"),
        ("class Conv:\n    def forward(self, x): return x\n", "check_layer(gradcheck.wrap("),
        ("def conv2d_forward(x, w): pass\n", "no pair such as conv2d_forward"),
        ("a_forward = b_forward = a_backward = b_backward = lambda *x: x", "several"),
        ("def conv2d_forward(x, w, b, groups): pass\ndef conv2d_backward(d, c): pass", "'groups', which is no setting"),
    ],
)
def test_what_cannot_be_checked_gets_a_sentence(tmp_path, capsys, text, told):
    assert main(["gradcheck", str(_file(tmp_path, text)), "--like", "conv2d"]) == 2
    assert told in capsys.readouterr().err


def test_a_function_that_crashes_or_hangs_fails_with_its_line(tmp_path):
    text = "def relu_forward(x):\n    return x[999], x\ndef relu_backward(dy, x):\n    return dy\n"
    report = check_file(_file(tmp_path, text))
    assert report.verdict == "fail" and "line 2: return x[999], x" in report.diagnosis
    from minires.gradcheck.runner import Limits

    text = "def relu_forward(x):\n    while True: pass\ndef relu_backward(dy, x):\n    return dy\n"
    report = check_file(_file(tmp_path, text), limits=Limits(call=0.3, total=8.0))
    assert report.verdict == "fail" and "more than 0.3 s" in report.diagnosis


def test_options_of_a_file_need_one(capsys):
    assert main(["gradcheck", "--like", "conv2d"]) == 2
    assert "name it" in capsys.readouterr().err


def test_names_are_found():
    two = dict.fromkeys(("conv_fwd", "conv_bwd", "my_relu_forward", "my_relu_backward"), ())
    assert find_pair(two, "conv2d", None, None) == ("conv_fwd", "conv_bwd")
    assert find_pair(two, "relu", None, None) == ("my_relu_forward", "my_relu_backward")
    assert find_pair({"forward": (), "backward": ()}, "tanh", None, None) == ("forward", "backward")
    with pytest.raises(ValueError, match="no function 'f'"):
        find_pair(two, "relu", "f", None)


def test_arguments_are_bound():
    def parameters(*names):
        return [Parameter(n.rstrip("?"), "POSITIONAL_OR_KEYWORD", n.endswith("?")) for n in names]

    assert bind(parameters("x", "w", "stride"), "conv2d", "f")[:2] == (2, ("stride",))
    assert bind(parameters("x", "w", "b?", "s?"), "conv2d", "f")[:3] == (3, (), {"s": "stride"})
    assert bind(parameters("z", "truth"), "softmax_cross_entropy", "f").positional == ("labels",)
    assert bind(parameters("x", "k", "s"), "max_pool2d", "f").free == ("kernel_size", "stride")


AFFINE = """
def affine_forward(x, w, b):
    return x.reshape(len(x), -1) @ w + b, (x, w)

def affine_backward(dout, cache):
    x, w = cache
    return (dout @ w.T).reshape(x.shape), x.reshape(len(x), -1).T @ dout, dout.sum(axis=0)
"""


def test_another_layout_is_found(tmp_path):
    report = check_file(_file(tmp_path, AFFINE))
    assert report.verdict == "pass" and any("in_out" in note for note in report.notes), str(report)
    wrong = _file(tmp_path, AFFINE.replace("dout.sum(axis=0)", "dout.mean(axis=0)"))
    assert "mean of dy" in check_file(wrong).diagnosis
    assert "mean of dy" not in check_file(wrong, hints=1).diagnosis
    columns = "def linear_forward(x, w, b):\n    return w @ x + b, (x, w)\n\n\ndef linear_backward(dy, cache):\n" + (
        "    x, w = cache\n    return w.T @ dy, dy @ x.T, dy.sum(axis=1, keepdims=True)\n"
    )
    assert check_file(_file(tmp_path, columns)).verdict == "pass"
    assert check_file(_file(tmp_path, AFFINE), layout="in_out").verdict == "pass"


ROWS_BATCHNORM = """
import numpy as np

def batchnorm_forward(x, gamma, beta, bn_param):
    var = x.var(axis=0) + bn_param.get("eps", 1e-5)
    xhat = (x - x.mean(axis=0)) / np.sqrt(var)
    return gamma * xhat + beta, (xhat, gamma, var)

def batchnorm_backward(dout, cache):
    xhat, gamma, var = cache
    d = dout * gamma
    dx = (d - d.mean(axis=0) - xhat * (d * xhat).mean(axis=0)) / np.sqrt(var)
    return dx, (dout * xhat).sum(axis=0), dout.sum(axis=0)
"""
IMAGES_BATCHNORM = (
    ROWS_BATCHNORM
    + """
def rows_of(x):
    N, C, H, W = x.shape
    return x.transpose(0, 2, 3, 1).reshape(-1, C)

def images_of(rows, shape):
    N, C, H, W = shape
    return rows.reshape(N, H, W, C).transpose(0, 3, 1, 2)

def spatial_batchnorm_forward(x, gamma, beta, bn_param):
    y, cache = batchnorm_forward(rows_of(x), gamma, beta, bn_param)
    return images_of(y, x.shape), cache

def spatial_batchnorm_backward(dout, cache):
    dx, dgamma, dbeta = batchnorm_backward(rows_of(dout), cache)
    return images_of(dx, dout.shape), dgamma, dbeta
"""
)


@pytest.mark.parametrize(
    ("text", "prefix", "left_out"), [(ROWS_BATCHNORM, "", "images"), (IMAGES_BATCHNORM, "spatial_", "rows")]
)
def test_a_batchnorm_for_rows_or_for_images_alone_is_asked_what_it_takes(tmp_path, text, prefix, left_out):
    names = {way: f"{prefix}batchnorm_{way}" for way in ("forward", "backward")}
    report = check_file(_file(tmp_path, text), "batchnorm", **names)
    assert report.verdict == "pass", str(report)
    assert any(f"takes no {left_out}" in note for note in report.notes)
    wrong = check_file(_file(tmp_path, text.replace(".mean(axis=0)) / np", ".sum(axis=0)) / np")), "batchnorm", **names)
    assert wrong.verdict == "fail" and "variance" in wrong.diagnosis


def test_the_dropout_of_cs231n_is_understood(tmp_path):
    text = """
import numpy as np

def dropout_forward(x, dropout_param):
    p = dropout_param["p"]
    if "seed" in dropout_param:
        np.random.seed(dropout_param["seed"])
    mask = (np.random.rand(*x.shape) < p) / p
    return x * mask, mask

def dropout_backward(dout, mask):
    return dout * mask
"""
    assert check_file(_file(tmp_path, text), "dropout").verdict == "pass"
    assert check_file(_file(tmp_path, text.replace("dout * mask", "dout"))).verdict == "fail"


def test_a_loss_that_returns_its_gradient_is_told_how_to_be_split(tmp_path):
    text = """
import numpy as np

def softmax_loss(x, y):
    z = x - x.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    rows = np.arange(len(x))
    dx = np.exp(log_p)
    dx[rows, y] -= 1
    return -log_p[rows, y].mean(), dx / len(x)
"""
    with pytest.raises(ValueError, match="returns the loss and its gradient together") as told:
        check_file(_file(tmp_path, text), "softmax_cross_entropy")
    two = str(told.value).partition("functions: ")[2].split(" and def ")
    split = text + "\n" + two[0] + "\ndef " + two[1] + "\n"
    assert check_file(_file(tmp_path, split), "softmax_cross_entropy").verdict == "pass"


@pytest.mark.parametrize("width", [60, 80])
def test_a_sentence_is_said_once_and_never_cut_off(tmp_path, width):
    from io import StringIO

    from rich.console import Console

    report = check_file(_file(tmp_path, CONV.replace("dxp[at] +=", "dxp[at] =")), "conv2d")
    console = Console(file=StringIO(), width=width, color_system=None)
    console.print(report)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert 'as in "3 x 3"' in " ".join(text.split())
    assert all(
        line.rstrip().endswith(("┓", "┩", "┛", "┃", "│", "┘")) for line in text.splitlines() if line[0] in "┏┃┡│└"
    )
