"""Public calls with one or two arguments replaced by what people try, or by what nobody would.

Plausible: a class for an object and the reverse, names as text, lists for arrays, PyTorch's tensors, wrong shapes and
dtypes, NaN, sizes of 0 and -1. Absurd: objects, functions, modules, endless lists, numbers of thirty digits.

A call may succeed, or be refused: a TypeError or ValueError (or a class of its own) that minires raises on purpose, or
Python's own for arguments that do not bind. Everything else is raw: an error from the depths, of any type.
"""

import ast
import collections
import contextlib
import functools
import inspect
import itertools
import linecache
import math
import os
import signal
import tempfile
import traceback
import types
import warnings
from pathlib import Path

import numpy as np

from .common import PATIENCE, in_child, silenced, table

CHUNK = 400
LONGEST = 120
"""Seconds of processor after which a call never ends: on our machine the longest takes a few."""
PACKAGE = str(Path(__file__).resolve().parents[2] / "minires")


def entries():
    """{name: (function, its good arguments)}; every call gets fresh ones."""
    import minires
    from minires import checkpoint, data, gradcheck, init, nn, ops, optim, pretrained, recipes, theory, train

    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 3, 8, 8)).astype(np.float32)
    rows, labels = x[:, :, 0, 0].copy(), np.array([0, 1, 2, 1])
    gain, offset = np.ones(3, np.float32), np.zeros(3, np.float32)
    weight = rng.standard_normal((5, 3, 3, 3)).astype(np.float32)
    matrix = rng.standard_normal((5, 3)).astype(np.float32)
    pool = {"kernel_size": 2, "stride": None, "padding": 0, "ceil_mode": False}
    found = {
        "ops.conv2d_forward": (
            ops.conv2d_forward,
            {
                "x": x,
                "weight": weight,
                "bias": np.zeros(5, np.float32),
                "stride": 1,
                "padding": 1,
                "dilation": 1,
                "groups": 1,
            },
        ),
        "ops.layernorm_forward": (ops.layernorm_forward, {"x": rows, "weight": gain, "bias": offset, "eps": 1e-5}),
        "ops.groupnorm_forward": (
            ops.groupnorm_forward,
            {"x": x, "weight": gain, "bias": offset, "num_groups": 3, "eps": 1e-5},
        ),
        "ops.softmax_forward": (ops.softmax_forward, {"x": rows}),
        "ops.linear_forward": (ops.linear_forward, {"x": rows, "weight": matrix, "bias": np.zeros(5, np.float32)}),
        "ops.batchnorm_forward": (
            ops.batchnorm_forward,
            {"x": x, "weight": gain, "bias": offset, "eps": 1e-5, "mean": None, "var": None},
        ),
        "ops.leaky_relu_forward": (ops.leaky_relu_forward, {"x": x, "slope": 0.01}),
        "ops.max_pool2d_forward": (ops.max_pool2d_forward, {**pool, "x": x}),
        "ops.avg_pool2d_forward": (ops.avg_pool2d_forward, {**pool, "x": x, "count_include_pad": True}),
        "ops.dropout_forward": (ops.dropout_forward, {"x": x, "p": 0.5, "rng": np.random.default_rng(0)}),
        "ops.softmax_cross_entropy_forward": (ops.softmax_cross_entropy_forward, {"logits": rows, "labels": labels}),
        "ops.mse_forward": (ops.mse_forward, {"prediction": rows, "target": rows}),
        "ops.im2col": (ops.im2col, {"x": x, "kernel_size": 3, "stride": 1, "padding": 0, "dilation": 1}),
        "ops.col2im": (ops.col2im, {"cols": ops.im2col(x, 3), "x_shape": x.shape, "kernel_size": 3}),
    }
    for name in ("relu", "tanh", "sigmoid", "global_avg_pool2d"):
        found[f"ops.{name}_forward"] = (getattr(ops, f"{name}_forward"), {"x": x})
    for name, (forward, arguments) in list(found.items()):
        backward = getattr(ops, name.removeprefix("ops.").replace("_forward", "_backward"), None)
        if name.endswith("_forward") and backward:
            y, cache = forward(**arguments)
            found[name.replace("_forward", "_backward")] = (
                backward,
                {"dy": 1.0 if np.ndim(y) == 0 else y, "cache": cache},
            )
    found |= _layers(nn, x, rows)
    found |= _initializers(init, pretrained, nn, x)
    few = data.Split(*(a[:24] for a in data.load_digits()))
    small = functools.partial(nn.resnet, 8, width=2, in_channels=1, rng=0)
    found |= {
        "optim.SGD": (
            lambda **k: optim.SGD(**k).step(),
            {
                "parameters": nn.Linear(2, 2).parameters(),
                "lr": 0.1,
                "momentum": 0.9,
                "nesterov": False,
                "weight_decay": 0.0,
            },
        ),
        "optim.SGD.load_state_dict": (
            lambda state: optim.SGD(nn.Linear(2, 2, rng=0).parameters()).load_state_dict(state),
            {"state": optim.SGD(nn.Linear(2, 2).parameters()).state_dict()},
        ),
        "optim.clip_grad_norm": (optim.clip_grad_norm, {"parameters": nn.Linear(2, 2).parameters(), "max_norm": 1.0}),
        "optim.Constant": (lambda lr, step: optim.Constant(lr)(step), {"lr": 0.1, "step": 3}),
        "optim.Step": (
            lambda step, **k: optim.Step(**k)(step),
            {"lr": 0.1, "milestones": (3, 5), "gamma": 0.1, "step": 4},
        ),
        "optim.Cosine": (lambda step, **k: optim.Cosine(**k)(step), {"lr": 0.1, "steps": 10, "final": 0.0, "step": 4}),
        "optim.Warmup": (
            lambda step, **k: optim.Warmup(**k)(step),
            {"schedule": optim.Constant(0.1), "steps": 5, "start": 0.1, "step": 4},
        ),
        "data.load": (data.load, {"name": "digits", "data_dir": None, "held_out": None}),
        "data.batches": (
            lambda **k: list(itertools.islice(data.batches(**k), 3)),
            {
                "x": few.x_train,
                "y": few.y_train,
                "batch_size": 8,
                "seed": 0,
                "epoch": 0,
                "start": 0,
                "augmentation": data.Augmentation(1, True),
            },
        ),
        "data.Augmentation": (
            lambda pad, flip: data.Augmentation(pad, flip).apply(few.x_train, np.random.default_rng(0)),
            {"pad": 1, "flip": True},
        ),
        "data.hold_out": (data.hold_out, {"x": few.x_train, "y": few.y_train, "count": 4, "seed": 0}),
        "data.normalize": (
            data.normalize,
            {"images": (few.x_train > 0).astype(np.uint8), "mean": [0.5], "std": [0.2], "top": 255},
        ),
        "checkpoint.write_weights": (
            checkpoint.write_weights,
            {"path": "w.npz", "state": {"a": gain}, "metadata": {"a": 1}},
        ),
        "checkpoint.read_weights": (checkpoint.read_weights, {"path": "good.npz"}),
        "recipes.model_for": (recipes.model_for, {"weights": small().state_dict(), "plain": False}),
        "checkpoint.pytorch_names": (
            checkpoint.pytorch_names,
            {"state": small().state_dict(), "head": "fc", "projection": "downsample"},
        ),
        "minires.compile": (
            lambda model, threads, x, labels: minires.compile(model, threads=threads).step(x, labels),
            {"model": small(), "threads": 1, "x": few.x_test[:4], "labels": few.y_test[:4]},
        ),
        "compiled.backward": (
            lambda x, dy: (lambda fast: (fast.forward(x), fast.backward(dy)))(minires.compile(small(), threads=1)),
            {"x": few.x_test[:4], "dy": np.ones((4, 10), np.float32)},
        ),
        "recipes.depth_of": (recipes.depth_of, {"model": "resnet8"}),
        "train.evaluate": (
            train.evaluate,
            {"model": small(), "x": few.x_test, "y": few.y_test, "batch_size": 8, "device": "cpu"},
        ),
        "train.first_nonfinite": (train.first_nonfinite, {"model": small(), "x": few.x_test}),
        "train.fit": (
            lambda **k: train.fit(**k),
            {
                "model": small,
                "data": few,
                "epochs": 1,
                "batch_size": 12,
                "optimizer": None,
                "schedule": optim.Constant(0.1),
                "seed": 0,
                "augmentation": data.Augmentation(1),
                "frozen": (),
                "device": "cpu",
                "log_every": 1,
                "folder": None,
                "resume": False,
                "config": None,
                "report": None,
            },
        ),
        "theory.predict": (theory.predict, {"model": small(), "x": (4, 1, 8, 8), "weight": init.HeNormal()}),
        "theory.measure": (
            theory.measure,
            {"model": small(), "x": (4, 1, 8, 8), "seeds": 1, "weight": init.HeNormal(), "rng": 0},
        ),
        "theory.check_initializer": (
            theory.check_initializer,
            {
                "sampler": lambda shape, rng: rng.standard_normal(shape) * 0.1,
                "shape": (16, 8, 3, 3),
                "law": init.Normal(0.1),
            },
        ),
        "theory.forecast": (theory.forecast, {"model": small(), "input_shape": (4, 1, 8, 8)}),
        "theory.compare": (
            theory.compare,
            {
                "predicted": theory.predict(small(), (4, 1, 8, 8)),
                "measured": theory.measure(small(), (4, 1, 8, 8), seeds=2, rng=0),
            },
        ),
        "gradcheck.check_op": (
            gradcheck.check_op,
            {
                "forward": ops.relu_forward,
                "backward": lambda dy, cache: (ops.relu_backward(dy, cache),),
                "inputs": [rows.astype(np.float64)],
                "like": "relu",
                "seed": 0,
            },
        ),
        "gradcheck.check_layer": (
            gradcheck.check_layer,
            {"layer": nn.Linear(3, 2), "x": rows.astype(np.float64), "seed": 0},
        ),
        "gradcheck.check_model": (
            gradcheck.check_model,
            {
                "model": nn.Sequential(nn.Flatten(), nn.Linear(12, 3)),
                "x": x[:, :, :2, :2].astype(np.float64),
                "labels": labels,
                "seed": 0,
            },
        ),
    }
    return found


def _layers(nn, x, rows):
    made = {
        "Conv2d": {
            "in_channels": 3,
            "out_channels": 4,
            "kernel_size": 3,
            "stride": 1,
            "padding": 1,
            "dilation": 1,
            "groups": 1,
            "bias": True,
            "weight_init": None,
            "rng": 0,
        },
        "LayerNorm": {"normalized_shape": (3, 8, 8), "eps": 1e-5},
        "GroupNorm": {"num_groups": 3, "num_channels": 3, "eps": 1e-5},
        "Linear": {"in_features": 3, "out_features": 4, "bias": True, "weight_init": None, "rng": 0},
        "BatchNorm2d": {"num_features": 3, "eps": 1e-5, "momentum": 0.1},
        "LeakyReLU": {"slope": 0.1},
        "MaxPool2d": {"kernel_size": 2, "stride": None, "padding": 0, "ceil_mode": False},
        "AvgPool2d": {"kernel_size": 2, "stride": None, "padding": 0, "ceil_mode": False, "count_include_pad": True},
        "Dropout": {"p": 0.5, "rng": 0},
        "BasicBlock": {
            "in_channels": 3,
            "channels": 4,
            "stride": 2,
            "shortcut": "B",
            "batchnorm": True,
            "activation": nn.ReLU,
        },
        "Bottleneck": {
            "in_channels": 3,
            "channels": 2,
            "stride": 2,
            "shortcut": "A",
            "batchnorm": True,
            "activation": nn.ReLU,
        },
        "PreActBlock": {
            "in_channels": 3,
            "channels": 4,
            "stride": 1,
            "shortcut": "B",
            "batchnorm": True,
            "activation": nn.ReLU,
        },
    }
    from minires.init import HeNormal

    found = {}
    for name, arguments in made.items():
        arguments = {key: HeNormal() if key == "weight_init" else value for key, value in arguments.items()}
        kind = getattr(nn, name)
        images = rows if name == "Linear" else x
        found[f"nn.{name}"] = (lambda kind=kind, images=images, **k: kind(**k).forward(images), arguments)
        found[f"nn.{name}().forward"] = (kind(**arguments).forward, {"x": images})
        found[f"nn.{name}().output_shape"] = (kind(**arguments).output_shape, {"shape": images.shape})
        found[f"nn.{name}().load_state_dict"] = (
            kind(**arguments).load_state_dict,
            {"state": kind(**arguments).state_dict()},
        )

        def back(dy, kind=kind, arguments=arguments, images=images):
            layer = kind(**arguments)
            layer.forward(images)
            return layer.backward(dy)

        found[f"nn.{name}().backward"] = (back, {"dy": kind(**arguments).forward(images)})
    network = {
        "depth": 8,
        "width": 2,
        "shortcut": "A",
        "batchnorm": True,
        "activation": nn.ReLU,
        "in_channels": 3,
        "num_classes": 4,
        "weight_init": HeNormal(),
        "rng": 0,
        "block": nn.BasicBlock,
        "blocks": None,
    }
    found["nn.resnet"] = (lambda **k: nn.resnet(**k).forward(x), network)
    found["nn.Sequential"] = (lambda a, b: nn.Sequential(a, b).forward(rows), {"a": nn.Linear(3, 4), "b": nn.ReLU()})
    found["nn.Sequential.add"] = (
        lambda name, layer: nn.Sequential().add(name, layer),
        {"name": "a", "layer": nn.ReLU()},
    )
    found["layer.astype"] = (lambda dtype: nn.Linear(2, 2).astype(dtype), {"dtype": "float64"})
    found["layer.to"] = (lambda device: nn.Linear(2, 2).to(device), {"device": "cpu"})
    found["layer.observe"] = (
        lambda observer: _observed(nn.Linear(3, 4), observer, rows),
        {"observer": lambda layer, path, direction, x, y: None},
    )
    found["layer.children as attributes"] = (_holding, {"value": nn.Linear(3, 4)})
    found["nn.MeanSquaredError"] = (
        lambda prediction, target, dy: (lambda loss: (loss.forward(prediction, target), loss.backward(dy)))(
            nn.MeanSquaredError()
        ),
        {"prediction": rows, "target": rows, "dy": 1.0},
    )
    found["nn.SoftmaxCrossEntropy"] = (
        lambda logits, labels, dy: (lambda loss: (loss.forward(logits, labels), loss.backward(dy)))(
            nn.SoftmaxCrossEntropy()
        ),
        {"logits": rows, "labels": np.array([0, 1, 2, 1]), "dy": 1.0},
    )
    return found


def _observed(layer, observer, x):
    with layer.observe(observer):
        return layer.forward(x)


def _holding(value):
    from minires import nn

    class Net(nn.Layer):
        def __init__(self):
            self.part = value

    net = Net()
    return net.parameters(), net.state_dict(), net.train(), repr(net)


def _initializers(init, pretrained, nn, x):
    arguments = {
        "Constant": {"c": 0.1},
        "Normal": {"std": 0.1},
        "TruncatedNormal": {"std": 0.1},
        "Uniform": {"bound": 0.1},
    }
    arguments |= {name: {"gain": 1.0} for name in ("XavierNormal", "XavierUniform", "Orthogonal", "DeltaOrthogonal")}
    arguments |= {name: {"slope": 0.0, "mode": "fan_in"} for name in ("HeNormal", "HeUniform")}
    arguments |= {
        "VarianceScaling": {"scale": 1.0, "mode": "fan_in", "distribution": "normal"},
        "Dirac": {},
        "LeCunNormal": {},
    }
    found = {}
    for name, own in arguments.items():
        kind = getattr(init, name)

        def sample(kind=kind, own=own, shape=None, rng=None, dtype=None, **changed):
            law = kind(**{**own, **changed})
            return law.sample(shape, rng, dtype), law.variance(shape), law.kurtosis(shape)

        found[f"init.{name}"] = (
            sample,
            {**own, "shape": (8, 4, 3, 3), "rng": np.random.default_rng(0), "dtype": np.float32},
        )
    model = nn.resnet(8, width=2)
    found["init.initialize"] = (
        init.initialize,
        {"model": model, "weight": init.HeNormal(), "bias": init.Zeros(), "rng": 0},
    )
    found["init.zero_gamma"] = (init.zero_gamma, {"model": model})
    found["init.fixup"] = (init.fixup, {"model": model})
    found["init.lsuv"] = (init.lsuv, {"model": nn.resnet(8, width=2), "x": x, "tolerance": 0.02, "passes": 3})
    found["from_pretrained"] = (
        pretrained.from_pretrained,
        {"model": model, "state_dict": model.state_dict(), "strict": True},
    )
    return found


def plausible():
    """What people try."""
    from minires import data, init, nn, optim

    x = np.random.default_rng(1).standard_normal((4, 3, 8, 8)).astype(np.float32)
    values = [None, True, False, 0, 1, -1, 2, 3, 7, 0.5, -0.5, 1.5, 0.0, math.nan, math.inf, 1e-12]
    values += ["", "he_normal", "relu", "same", "cuda", "digits", "cpu", "1", "A", "mean", "resnet20", "float32"]
    values += [(), (1,), (1, 2), (1, 2, 3), (0, 0), (-1, 2), (2.0, 2.0), (4, 3, 8, 8), (4, 1, 8, 8), (8, 8)]
    values += [[], [1], [0, 1, 2, 1], [[1.0, 2.0, 3.0]] * 4, [None], ["conv1"], {"a": 1}, {}, {"weight": [1, 2]}]
    values += [
        x,
        x[:, 0],
        x[0],
        x[:1],
        x[:0],
        x[..., 0],
        x.reshape(4, 8, 8, 3),
        x.astype(np.float64),
        x.astype(np.float16),
    ]
    values += [
        (x > 0),
        x.astype(np.int64),
        (x > 0).astype(np.uint8),
        x * np.nan,
        np.float64(1),
        np.float32(0.5),
        np.int64(3),
    ]
    values += [
        np.zeros(3),
        np.zeros(3, np.float32),
        np.array([0, 1, 2, 9]),
        np.array([0, 1, 2, 1]),
        np.array([0.0, 1, 2, 1]),
    ]
    values += [np.array(1.0), np.eye(4, dtype=np.float32), np.array([[1, 2], [3, 4]]), x.tolist()]
    values += [init.HeNormal, init.HeNormal(), init.Zeros(), nn.ReLU, nn.ReLU(), nn.Linear, nn.Linear(3, 4), nn.resnet]
    values += [
        nn.resnet(8, width=2),
        optim.SGD,
        optim.Constant(0.1),
        optim.Constant,
        np.float32,
        np.random.default_rng(0),
    ]
    values += [
        np.random.RandomState(0),
        data.load_digits,
        lambda step: math.nan,
        lambda step: "fast",
        lambda *a: 0.1,
        Path("w.npz"),
        "no/such/folder/w.npz",
        iter([1, 2]),
    ]
    try:
        import torch
    except ImportError:
        return values
    return [
        *values,
        torch.ones(4, 3, 8, 8),
        torch.ones(3),
        torch.tensor([0, 1, 2, 1]),
        torch.tensor(1.0),
        torch.nn.Linear(3, 4),
    ]


def absurd():
    """What nobody would."""
    endless = []
    endless.append(endless)

    class Strange:
        def __index__(self):
            raise RuntimeError("no index")

        __len__ = __float__ = __index__

    values = [
        object(),
        object,
        {1, 2},
        b"bytes",
        1j,
        10**30,
        -(10**30),
        10**9,
        -math.inf,
        math,
        type,
        Exception,
        range(3),
    ]
    values += [
        endless,
        Strange(),
        np.array("text"),
        np.array(None),
        np.array([1j, 2]),
        np.zeros((1,) * 20),
        slice(1),
        ...,
    ]
    values += [
        (x for x in range(3)),
        "\0",
        "x" * 5000,
        np.dtype("M8[s]"),
        types.SimpleNamespace(shape=(1,), dtype="f4"),
    ]
    values += [np.ma.masked, np.zeros(4, [("a", "f4")]), {"weight": endless}, memoryview(b"abc"), lambda: 1 / 0]
    return values


def attack(count, seed):
    counts, raw = collections.defaultdict(collections.Counter), {}
    wrong = [f"the good arguments of {name}: {text}" for name, text in in_child(refused_good_arguments).items()]
    for start in range(0, count, CHUNK):  # raw: {what was raised and where: [kind, how often, the first such call]}
        numbers = start, min(start + CHUNK, count)
        done = in_child(lambda numbers=numbers: chunk(seed, *numbers), seconds=6 * PATIENCE, extra_memory=3 << 30)
        if "died" in done:
            raw[f"calls {start} to {start + CHUNK}: the process died: {done['died'][-300:]}"] = ["plausible", 1, ""]
            continue
        for kind, outcomes in done["counts"].items():
            counts[kind].update(outcomes)
        for text, (kind, times, example) in done["raw"].items():
            raw.setdefault(text, [kind, 0, example])[1] += times
    absurd_too = counts["absurd"]["raw"] > 0.01 * sum(counts["absurd"].values())
    for text, (kind, times, example) in sorted(raw.items(), key=lambda item: -item[1][1]):
        if kind == "plausible" or absurd_too:
            wrong.append(f"{times}x {text}, as in {example}")
    return table("arguments", counts), wrong


@contextlib.contextmanager
def elsewhere():
    """In a folder with a good file of weights, where nothing is printed."""
    from minires.checkpoint import write_weights

    with tempfile.TemporaryDirectory() as folder, silenced(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.chdir(folder)
        write_weights("good.npz", {"a": np.ones(2)})
        yield


def refused_good_arguments():
    """{name: error} of the calls that fail before anything is strange about them: they would test nothing."""
    found = {}
    with elsewhere():
        for name, (function, good) in entries().items():
            try:
                function(**fresh(good))
            except Exception as error:
                found[name] = repr(error)[:200]
    return found


def fresh(good):
    return {key: value() if isinstance(value, functools.partial) else value for key, value in good.items()}


def chunk(seed, start, stop):
    counts, raw = collections.defaultdict(collections.Counter), {}
    with elsewhere():
        pools = plausible(), absurd()
        signal.signal(signal.SIGPROF, too_slow)  # seconds of this process, however busy the machine
        for number in range(start, stop):
            if number % 50 == 0:  # what a strange call did to a good argument must not last
                calls = entries()
            name, kind, outcome, text, changes = one_call(calls, pools, seed, number)
            counts[kind][outcome] += 1
            if outcome == "raw":
                shown = ", ".join(f"{key}={_short(value)}" for key, value in changes.items())
                raw.setdefault(f"{kind} {name}: {text}", [kind, 0, shown])[1] += 1
    return {"counts": counts, "raw": raw}


class TooSlow(BaseException):
    pass


def too_slow(*_):
    raise TooSlow


def one_call(calls, pools, seed, number):
    """(what was called, kind, outcome, what was raw, the odd arguments)."""
    rng = np.random.default_rng((seed, number))
    name = list(calls)[rng.integers(len(calls))]
    function, good = calls[name]
    arguments = fresh(good)
    kind = "plausible"
    changes = {}
    for key in rng.permutation(list(arguments))[: 1 + (rng.random() < 0.3)]:
        strange = rng.random() < 0.2
        pool = pools[1] if strange else pools[0]
        kind = "absurd" if strange else kind
        changes[str(key)] = pool[rng.integers(len(pool))]
    signal.setitimer(signal.ITIMER_PROF, LONGEST)
    try:
        with np.errstate(all="ignore"):
            function(**{**arguments, **changes})
        return name, kind, "worked", "", changes
    except Exception as error:
        if deliberate(error):
            return name, kind, "refused", "", changes
        last = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__} [{Path(last.filename).name}:{last.lineno}] {str(error)[:60]}"
        return name, kind, "raw", text, changes
    except TooSlow:
        return name, kind, "raw", f"took over {LONGEST} s", changes
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _short(value):
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    try:
        return f"{type(value).__name__}:{value!r}"[:60]
    except Exception:
        return type(value).__name__


def deliberate(error):
    """Whether minires raised the error itself, in a `raise` of its own, or Python could not bind the arguments."""
    if not isinstance(
        error, TypeError | ValueError | ArithmeticError | FileNotFoundError | FileExistsError | RuntimeError | OSError
    ):
        return False
    frames = list(inspect.getinnerframes(error.__traceback__))
    ours = [frame for frame in frames if frame.filename.startswith(PACKAGE)]
    if not ours or frames[-1].filename == __file__:
        return isinstance(error, TypeError)  # unexpected or missing arguments
    if isinstance(error, OSError) and error.errno is not None:
        return True  # a file or folder that the call names
    last = frames[-1]
    return last.filename.startswith(PACKAGE) and last.lineno in raise_lines(last.filename)


@functools.cache
def raise_lines(filename):
    """The lines of a file that belong to a `raise` statement."""
    tree = ast.parse("".join(linecache.getlines(filename)))
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise)
        for line in range(node.lineno, node.end_lineno + 1)
    }
