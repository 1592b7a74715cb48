"""minires: a deep-learning engine small enough to read in one evening.

Hand-written forward and backward passes on plain arrays (`ops`), layers and residual networks made of them (`nn`),
initializers that know their own laws (`init`, `theory`), and gradient checks that say what is wrong (`gradcheck`).
`compile` runs a model the fast way. `import minires` loads NumPy and nothing heavier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minires.fast.compiled import Compiled
    from minires.nn import Layer

__version__ = "0.1.0"


def compile(model: Layer, *, threads: int | None = None) -> Compiled:
    """The fast way to run `model`: an object with the model's passes, several times as fast.

    It has forward(x), backward(dy), infer(x), parameters(), zero_grad(), train() and eval() with the meaning of a
    layer's, and step(x, labels) -> (loss, logits): zero_grad, forward, softmax cross-entropy and backward in one go.
    It computes with the model's own parameters and buffers and fills their gradients; `.model` is the model. Results
    are the model's to rounding, and have the same bits for the same number of threads.

    threads: how many share a batch; by default MINIRES_NUM_THREADS, or else the cores this process may use.

    Before it is used, it is compared with the definition (`minires.ops`, `minires.nn`) on small random batches, one
    for each distinct layer; in one process, once, unless code has been replaced since. Raises ValueError naming the
    layer and the pass where they disagree.
    """
    from minires.fast.compiled import Compiled

    return Compiled(model, threads)
