"""How each engine does the work of a case. Everything here runs in the engine's own process (`worker`).

An engine's `prepare(case)` builds model and data and returns a function without arguments: one training step, one
inference, or one layer forward and backward. Arrays come in the memory order that the engine itself works in.
"""

from __future__ import annotations

import collections
import collections.abc
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np

from minires.bench.cases import Case

Step = Callable[[], Any]


BLAS_SETTINGS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""Variables of the environment that change the speed of NumPy's BLAS, and have to be told beside a time."""


class Engine:
    """What the engines share. `device`: "cpu", "cuda" or "cuda:1"; `threads`: as in the worker's environment."""

    title: str
    """As in the tables."""
    module: str
    """What is imported."""
    package: str
    """What is installed from the registry."""
    devices: tuple[str, ...] = ("cpu",)
    kinds: tuple[str, ...] = ("train", "infer", "layers")
    slow = False
    """Slow engines do single layers, and one network once."""

    def __init__(self, device: str, threads: int) -> None:
        self.device, self.threads = device, threads

    def prepare(self, case: Case) -> Step:
        """One repetition of the case's work, ready to be called again and again."""
        return getattr(self, case.kind)(case)

    def seconds(self, step: Step, calls: int) -> float:
        """How long `calls` of them take together."""
        start = time.perf_counter()
        for _ in range(calls):
            step()
        return time.perf_counter() - start

    def facts(self) -> dict[str, str]:
        """Versions and settings to be printed under the table."""
        return {self.package: version(self.package)}

    def device_bytes(self) -> int | None:
        """Memory taken from the device at most, so far; None on the host."""
        return None


class Minires(Engine):
    """This engine, compiled. On a GPU, times are taken between two events of the device."""

    title = module = package = "minires"
    devices = ("cpu", "cuda")

    def __init__(self, device: str, threads: int) -> None:
        super().__init__(device, threads)
        from minires.backend import device_namespace

        self.xp = device_namespace(device)

    def facts(self) -> dict[str, str]:
        from threadpoolctl import threadpool_info

        from minires import __version__

        found = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
        blas = [f"{pool['internal_api']} {pool['version']}, {pool.get('architecture', '?')} kernels" for pool in found]
        asked = [f"{name}={os.environ[name]}" for name in BLAS_SETTINGS if name in os.environ]
        facts = {"minires": __version__, "NumPy": np.__version__, "BLAS": "; ".join([*blas, *asked])}
        if self.xp is not np:
            facts["CuPy"] = self.xp.__version__
        return facts

    def runner(self, model: Any) -> Any:
        """What runs the passes of a model."""
        from minires import compile

        return compile(model, threads=self.threads)

    def train(self, case: Case) -> Step:
        from minires import nn, optim

        x, labels = (self.xp.asarray(array) for array in case.arrays())
        model = nn.resnet(case.depth).to(self.device)
        fast, optimizer = self.runner(model), optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

        def step() -> Any:
            value, _ = fast.step(x, labels)
            optimizer.step()
            return value

        return step

    def infer(self, case: Case) -> Step:
        from minires import nn

        x, _ = case.arrays()
        x, runner = self.xp.asarray(x), self.runner(nn.resnet(case.depth).to(self.device).eval())
        return lambda: runner.infer(x)

    def layers(self, case: Case) -> Step:
        from minires import nn

        x, dy = (self._channels_last(array) for array in case.arrays())
        layer = nn.Conv2d(case.channels, case.channels, 3, padding=1, bias=False, rng=0).to(self.device)
        runner = self.runner(layer)

        def step() -> Any:
            layer.zero_grad()
            runner.forward(x)
            return runner.backward(dy)

        return step

    def _channels_last(self, array: np.ndarray) -> Any:
        return self.xp.ascontiguousarray(self.xp.asarray(array).transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)

    def seconds(self, step: Step, calls: int) -> float:
        if self.xp is np:
            return super().seconds(step, calls)
        start, stop = self.xp.cuda.Event(), self.xp.cuda.Event()
        start.record()
        for _ in range(calls):
            step()
        stop.record()
        stop.synchronize()
        return self.xp.cuda.get_elapsed_time(start, stop) / 1000

    def device_bytes(self) -> int | None:
        return None if self.xp is np else self.xp.get_default_memory_pool().total_bytes()


class Definition(Minires):
    """This engine as it is read: the model's own passes, with as many threads as BLAS takes."""

    title, slow = "minires, not compiled", True

    def runner(self, model: Any) -> Any:
        return model

    def train(self, case: Case) -> Step:
        from minires import nn, optim

        x, labels = (self.xp.asarray(array) for array in case.arrays())
        model, loss = nn.resnet(case.depth).to(self.device), nn.SoftmaxCrossEntropy()
        optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

        def step() -> Any:
            model.zero_grad()
            value = loss.forward(model.forward(x), labels)
            model.backward(loss.backward())
            optimizer.step()
            return value

        return step


class Products(Minires):
    """The matrix products of the compiled step and nothing else: see `products`."""

    title, devices = "matrix products", ("cpu",)

    def prepare(self, case: Case) -> Step:
        from minires.bench.products import Replay, record

        return Replay(record(super().prepare(case)), self.threads).run  # its first step, which plans the later ones


class Torch(Engine):
    """PyTorch, eager, as it comes: NCHW in memory."""

    title, module, package = "PyTorch", "torch", "torch"
    devices = ("cpu", "cuda")

    def __init__(self, device: str, threads: int) -> None:
        super().__init__(device, threads)
        import torch

        if device != "cpu":
            if not torch.cuda.is_available():
                raise RuntimeError(f"this PyTorch ({torch.__version__}) finds no CUDA device")
            torch.cuda.set_device(device)  # where events are recorded
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.torch, self.order = torch, torch.contiguous_format

    def facts(self) -> dict[str, str]:
        return {"PyTorch": f"{self.torch.__version__}, {self.torch.backends.cpu.get_cpu_capability()}"}

    def _put(self, array: np.ndarray) -> Any:
        tensor = self.torch.from_numpy(array).to(self.device)
        return tensor.contiguous(memory_format=self.order) if tensor.ndim == 4 else tensor

    def _model(self, depth: int) -> Any:
        from minires.bench.torch_resnet import resnet

        return resnet(depth).to(self.device, memory_format=self.order)

    def train(self, case: Case) -> Step:
        x, labels = (self._put(array) for array in case.arrays())
        model, loss = self._model(case.depth), self.torch.nn.CrossEntropyLoss()
        optimizer = self.torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

        def step() -> Any:
            optimizer.zero_grad()
            value = loss(model(x), labels)
            value.backward()
            optimizer.step()
            return value

        return step

    def infer(self, case: Case) -> Step:
        x, model = self._put(case.arrays()[0]), self._model(case.depth).eval()

        def step() -> Any:
            with self.torch.inference_mode():
                return model(x)

        return step

    def layers(self, case: Case) -> Step:
        x, dy = (self._put(array) for array in case.arrays())
        layer = self.torch.nn.Conv2d(case.channels, case.channels, 3, padding=1, bias=False)
        layer = layer.to(self.device, memory_format=self.order)
        x.requires_grad_(True)

        def step() -> Any:
            x.grad = layer.weight.grad = None
            layer(x).backward(dy)
            return x.grad

        return step

    def seconds(self, step: Step, calls: int) -> float:
        if self.device == "cpu":
            return super().seconds(step, calls)
        start, stop = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(calls):
            step()
        stop.record()
        stop.synchronize()
        return start.elapsed_time(stop) / 1000

    def device_bytes(self) -> int | None:
        return None if self.device == "cpu" else self.torch.cuda.max_memory_reserved(self.device)


class TorchChannelsLast(Torch):
    """PyTorch with model and data in its channels_last memory format."""

    title = "PyTorch channels_last"

    def __init__(self, device: str, threads: int) -> None:
        super().__init__(device, threads)
        self.order = self.torch.channels_last


class Dezero(Engine):
    """dezero, which follows the book "Deep Learning from Scratch 3"."""

    title = module = package = "dezero"
    kinds, slow = ("train", "layers"), True

    def __init__(self, device: str, threads: int) -> None:
        super().__init__(device, threads)
        _restore_old_names()
        import dezero

        self.dezero = dezero

    def train(self, case: Case) -> Step:
        from minires.bench.dezero_resnet import ResNet

        x, labels = case.arrays()
        model = ResNet(case.depth)
        optimizer = self.dezero.optimizers.MomentumSGD(0.01, 0.9).setup(model)

        def step() -> Any:
            value = self.dezero.functions.softmax_cross_entropy(model(x), labels)
            model.cleargrads()
            value.backward()
            optimizer.update()
            return value

        return step

    def layers(self, case: Case) -> Step:
        x, dy = (self.dezero.Variable(array) for array in case.arrays())
        layer = self.dezero.layers.Conv2d(case.channels, 3, pad=1, nobias=True, in_channels=case.channels)

        def step() -> Any:
            layer.cleargrads()
            x.cleargrad()
            y = layer(x)
            y.grad = dy
            y.backward()
            return x.grad.data

        return step


class NumpyML(Engine):
    """numpy-ml: images are (N, H, W, C), numbers float64 as soon as they meet its weights."""

    title, module, package = "numpy-ml", "numpy_ml", "numpy-ml"
    kinds, slow = ("layers",), True

    def layers(self, case: Case) -> Step:
        _restore_old_names()
        from numpy_ml.neural_nets.layers import Conv2D

        x, dy = (np.ascontiguousarray(array.transpose(0, 2, 3, 1)) for array in case.arrays())
        layer = Conv2D(case.channels, (3, 3), pad=1)

        def step() -> Any:
            layer.forward(x)
            dx = layer.backward(dy)
            layer.flush_gradients()
            return dx.transpose(0, 3, 1, 2)

        return step


ENGINES: dict[str, type[Engine]] = {
    "minires": Minires,
    "definition": Definition,
    "products": Products,
    "torch": Torch,
    "torch-channels-last": TorchChannelsLast,
    "dezero": Dezero,
    "numpy-ml": NumpyML,
}
"""In the order in which they take turns."""


def environment(threads: int) -> dict[str, str]:
    """This process's environment, with the number of threads as every engine and BLAS reads it."""
    names = ("OMP", "OPENBLAS", "MKL", "MINIRES")
    return os.environ | {f"{name}_NUM_THREADS": str(threads) for name in names}


def _restore_old_names() -> None:
    """Names that Python 3.10 and NumPy 1.24 took away and that older engines still use; in a process of their own."""
    collections.Hashable = collections.abc.Hashable
    for name, value in {"int": int, "float": float, "bool": bool, "object": object}.items():
        if name not in vars(np):
            setattr(np, name, value)
