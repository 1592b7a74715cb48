"""PyTorch on one thread: on tensors this small, handing over costs more than it saves."""

import contextlib

with contextlib.suppress(ImportError):
    import torch

    torch.set_num_threads(1)
