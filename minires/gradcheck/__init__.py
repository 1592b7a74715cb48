"""Gradient checks that rate their own evidence, and say what is wrong.

    from minires import gradcheck

    def affine_forward(x, w, b):
        return x @ w.T + b, (x, w)

    def affine_backward(dout, cache):
        x, w = cache
        return dout @ w, dout.T @ x, dout.mean(axis=0)

    inputs = (rng.standard_normal((5, 4)), rng.standard_normal((3, 4)), rng.standard_normal(3))
    print(gradcheck.check_op(affine_forward, affine_backward, inputs, like="linear"))
    # ... verdict: fail
    # diagnosis: linear:dbias-mean: dbias is the mean of dy over the batch; the bias was added to every sample, ...

`check_op` takes anybody's plain functions, `check_file` finds them in a file and runs them in a process of its own,
`check_layer` and `check_model` take layers of minires. Each returns a
`GradReport`: `.verdict` is "pass", "fail", "kink", "roundoff" or "vacuous", `.diagnosis` says what is wrong.
Start reading at `numerical.py` (derivatives and their error bounds); then follow `tensor_check.py` (one tensor),
`check.py` (one op) and `diagnosis.py` (which mistake explains a failure).
"""

from minires.gradcheck.check import check_op
from minires.gradcheck.faults import CATALOGUE, Fault
from minires.gradcheck.file_check import CaseReport, FileReport, check_file
from minires.gradcheck.layers import check_layer, check_model
from minires.gradcheck.report import GradReport, TensorReport
from minires.gradcheck.wrapping import wrap

__all__ = [
    "CATALOGUE",
    "CaseReport",
    "Fault",
    "FileReport",
    "GradReport",
    "TensorReport",
    "check_file",
    "check_layer",
    "check_model",
    "check_op",
    "wrap",
]
