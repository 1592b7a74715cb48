"""Softmax and cross-entropy: is this backward right?

The mean over the batch of -log softmax(logits)[label]. Its gradient is as simple as a gradient can be, almost.
"""

import numpy as np


def softmax_loss_forward(logits, labels):
    shifted = logits - logits.max(axis=1, keepdims=True)
    p = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    n = np.arange(len(labels))
    return -np.log(p[n, labels]).mean(), (p, labels)


def softmax_loss_backward(dy, cache):
    p, labels = cache
    dlogits = p.copy()
    dlogits[np.arange(len(labels)), labels] -= 1
    return dy * dlogits
