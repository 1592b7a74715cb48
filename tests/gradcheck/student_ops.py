"""Functions as students write them, each right, and wrong in ways that the catalogue of faults does not hold.

`@student(shapes, fault=words, ...)` registers a function that makes a forward-backward pair; `wrong` is the name of the
fault to plant, or "". `words` is what a diagnosis has to say to name the fault: a regular expression, written down from
what was planted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Student:
    """One function, with its faults."""

    name: str
    make: Callable[[str], tuple[Callable, Callable]]
    shapes: tuple[tuple[int, ...], ...]
    faults: dict[str, str]
    known: dict = field(default_factory=dict)
    """like, options and layout."""

    def inputs(self, scale: float = 1.0) -> list[np.ndarray]:
        rng = np.random.default_rng([*self.name.encode()])
        return [scale * rng.standard_normal(shape) for shape in self.shapes]


STUDENTS: dict[str, Student] = {}


def student(*shapes: tuple[int, ...], known: dict | None = None, **faults: str) -> Callable:
    def register(make: Callable) -> Callable:
        STUDENTS[make.__name__] = Student(make.__name__, make, shapes, faults, known or {})
        return make

    return register


def softmax(z: np.ndarray, axis: int = -1) -> np.ndarray:
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


# --- einsum and products -------------------------------------------------------------------------------------------


@student(
    (5, 4),
    (4, 4),
    (4,),
    weight_not_transposed=r"\bw transposed|w.* axes in the wrong order",
    dw_swapped=r"dw is transposed|transposed",
    db_of_features=r"db has shape \(5,\) where \(4,\) is needed",
)
def dense_einsum(wrong):
    def forward(x, w, b):
        return np.einsum("ni,io->no", x, w) + b, (x, w)

    def backward(dout, cache):
        x, w = cache
        dx = np.einsum("no,oi->ni" if wrong == "weight_not_transposed" else "no,io->ni", dout, w)
        dw = np.einsum("ni,no->oi" if wrong == "dw_swapped" else "ni,no->io", x, dout)
        db = np.einsum("no->n" if wrong == "db_of_features" else "no->o", dout)
        return dx, dw, db

    return forward, backward


@student(
    (4, 3),
    (5, 3, 3),
    (4, 3),
    dw_indices_swapped=r"transposed",
    da_other_index=r"W .*(transposed|axes in the wrong order)",
    dc_forgets_a=r"a = 1|a is forgotten|what dy has to be multiplied by is missing",
)
def bilinear(wrong):
    def forward(a, W, c):
        return np.einsum("ni,oij,nj->no", a, W, c), (a, W, c)

    def backward(dy, cache):
        a, W, c = cache
        da = np.einsum("no,oji,nj->ni" if wrong == "da_other_index" else "no,oij,nj->ni", dy, W, c)
        dW = np.einsum("no,nj,ni->oij" if wrong == "dw_indices_swapped" else "no,ni,nj->oij", dy, a, c)
        dc = np.einsum("no,oij->nj", dy, W) if wrong == "dc_forgets_a" else np.einsum("no,ni,oij->nj", dy, a, W)
        return da, dW, dc

    return forward, backward


@student(
    (3, 4, 4),
    (3, 4, 4),
    second_not_transposed=r"B .*(transposed|axes in the wrong order)",
    first_not_transposed=r"A .*(transposed|axes in the wrong order)",
    swapped_order=r"wrong order|is the gradient dA|is the gradient dB",
)
def batched_product(wrong):
    def forward(A, B):
        return A @ B, (A, B)

    def backward(dy, cache):
        A, B = cache
        dA = dy @ (B if wrong == "second_not_transposed" else B.transpose(0, 2, 1))
        dB = (A if wrong == "first_not_transposed" else A.transpose(0, 2, 1)) @ dy
        return (dB, dA) if wrong == "swapped_order" else (dA, dB)

    return forward, backward


@student(
    (3, 5, 4),
    (4, 2),
    not_summed=r"not summed over axis 0",
    last_sample=r"the last axis-0 index of dy",
    mean=r"0\.3333\d* times",
)
def sequence_dense(wrong):
    def forward(x, w):
        return x @ w, (x, w)

    def backward(dy, cache):
        x, w = cache
        dw = np.einsum("btd,bto->bdo", x, dy)
        if wrong == "last_sample":
            dw = dw[-1]
        elif wrong == "mean":
            dw = dw.mean(axis=0)
        elif wrong != "not_summed":
            dw = dw.sum(axis=0)
        return dy @ w.T, dw

    return forward, backward


@student((2, 4, 3), (2, 5, 3), root_forgotten=r"dq is 1\.732\d* times", queries_backwards=r"flipped along axis-1 index")
def scores(wrong):
    """Scaled products of queries and keys."""

    def forward(q, k):
        return np.einsum("bqd,bkd->bqk", q, k) / np.sqrt(q.shape[-1]), (q, k)

    def backward(dy, cache):
        q, k = cache
        root = np.sqrt(q.shape[-1])
        dq = np.einsum("bqk,bkd->bqd", dy, k) / (1 if wrong == "root_forgotten" else root)
        dk = np.einsum("bqk,bqd->bkd", dy, q if wrong != "queries_backwards" else q[:, ::-1]) / root
        return dq, dk

    return forward, backward


@student(
    (2, 3, 4),
    (2, 4, 5),
    sum_over_queries=r"depends on dy at other indices along axis 1",
    values_forgotten=r"ds is 0 up to rounding|v is forgotten",
)
def attention(wrong):
    """Weights of a softmax times values."""

    def forward(s, v):
        p = softmax(s)
        return p @ v, (p, v)

    def backward(dy, cache):
        p, v = cache
        dp = dy @ v.transpose(0, 2, 1)
        if wrong == "values_forgotten":
            dp = np.repeat(dy.sum(axis=2, keepdims=True), p.shape[2], axis=2)
        ds = p * (dp - (p * dp).sum(axis=1 if wrong == "sum_over_queries" else 2, keepdims=True))
        return ds, p.transpose(0, 2, 1) @ dy

    return forward, backward


@student(
    (4, 3),
    (4, 3),
    summed_over_own_index=r"da is summed over axis 1 where the sum runs over axis 2",
    other_factor_forgotten=r"da is the sum of dy over axis 2|b is forgotten",
)
def outer(wrong):
    def forward(a, b):
        return np.einsum("ni,nj->nij", a, b), (a, b)

    def backward(dy, cache):
        a, b = cache
        da = np.einsum("nij,nj->ni", dy, b)
        if wrong == "summed_over_own_index":
            da = np.einsum("nij,nj->nj", dy, b)
        elif wrong == "other_factor_forgotten":
            da = dy.sum(axis=2)
        return da, np.einsum("nij,ni->nj", dy, a)

    return forward, backward


@student((4, 4), (4, 4), gradient_transposed=r"dA is transposed|B .*transposed")
def frobenius(wrong):
    def forward(A, B):
        return np.einsum("ij,ij->", A, B), (A, B)

    def backward(dy, cache):
        A, B = cache
        return dy * (B.T if wrong == "gradient_transposed" else B), dy * A

    return forward, backward


# --- samples as columns, weights (in, out) -------------------------------------------------------------------------


@student(
    (3, 5),
    (4, 3),
    (4, 1),
    mean_not_in_forward=r"dW is 0\.2 times.*(1 / (the number of columns|the length of axis 1))?",
    bias_over_features=r"db has shape",
    keepdims_forgotten=r"db has shape .*(axis of length 1 is missing|reshape)",
)
def columns(wrong):
    def forward(A, W, b):
        return W @ A + b, (A, W)

    def backward(dZ, cache):
        A, W = cache
        dW = dZ @ A.T / (A.shape[1] if wrong == "mean_not_in_forward" else 1)
        axis = 0 if wrong == "bias_over_features" else 1
        return W.T @ dZ, dW, dZ.sum(axis=axis, keepdims=wrong != "keepdims_forgotten")

    return forward, backward


@student(
    (5, 4),
    (4, 4),
    (4,),
    known={"like": "linear", "layout": "in_out"},
    weight_not_transposed=r"linear:dx-weight-transposed",
    mean_over_batch=r"linear:dweight-batch-mean",
    bias_of_first_sample=r"what sample 0 of dy gives alone",
)
def in_out(wrong):
    def forward(x, w, b):
        return x.dot(w) + b, (x, w)

    def backward(dout, cache):
        x, w = cache
        dw = x.T.dot(dout) / (len(x) if wrong == "mean_over_batch" else 1)
        db = dout[0] if wrong == "bias_of_first_sample" else dout.sum(0)
        return dout.dot(w if wrong == "weight_not_transposed" else w.T), dw, db

    return forward, backward
