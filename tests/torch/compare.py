"""Running one op in minires and in PyTorch on the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

TOLERANCE = {"float32": 1e-4, "float64": 1e-10}


def assert_equal_to_torch(got: np.ndarray, expected: torch.Tensor, what: str) -> None:
    """Equal to the dtype's tolerance, relative to the largest entry (at least 1: the inputs are of order one)."""
    expected = expected.detach().numpy()
    got = np.asarray(got)
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, PyTorch's {expected.shape}"
    assert got.dtype == expected.dtype, f"{what}: dtype {got.dtype}, PyTorch's {expected.dtype}"
    scale = max(1.0, np.max(np.abs(expected), initial=0.0))
    error = np.max(np.abs(got - expected), initial=0.0) / scale
    assert error <= TOLERANCE[str(got.dtype)], f"{what}: relative error {error:.1e}"


def assert_op_equals_torch(
    forward: Callable,
    backward: Callable,
    torch_function: Callable,
    inputs: Sequence[np.ndarray],
    rng: np.random.Generator,
    constants: Sequence[np.ndarray] = (),
) -> None:
    """Forward and every gradient, with a random upstream gradient. `constants` (labels) follow the inputs."""
    tensors = [torch.tensor(array, requires_grad=True) for array in inputs]
    expected = torch_function(*tensors, *(torch.tensor(array) for array in constants))
    y, cache = forward(*inputs, *constants)
    assert_equal_to_torch(y, expected, "forward")

    dy = np.asarray(rng.standard_normal(y.shape), dtype=y.dtype)
    expected.backward(torch.tensor(dy))
    gradients = backward(dy, cache)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    for index, (gradient, tensor) in enumerate(zip(gradients, tensors, strict=False)):
        assert_equal_to_torch(gradient, tensor.grad, f"gradient of input {index}")
