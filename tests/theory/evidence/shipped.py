"""Which initializers that others ship obey the law they document?

    python -m tests.theory.evidence.shipped [--write FILE]

checks every library that is installed (torch, keras, jax, mygrad, numpy_ml, dezero), and prints a Markdown table with
versions, date and seed. Keras, JAX and numpy_ml keep kernels as (kh, kw, in, out) and matrices as (in, out); they are
asked in their own layout and transposed to ours. "Documented" is what the function's own documentation says it draws.
A sampler that gives a wrong shape or fails outright is reported with its error, not skipped.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minires import init
from minires.files import atomic_write_text
from minires.theory.samplers.check import Sampler, Shape, check_initializer

CONV, MATRIX = (64, 32, 3, 3), (96, 160)
SEED = 0


class Entry(NamedTuple):
    """name: as its users call it. documented: in words. law: the same as an initializer of minires."""

    name: str
    documented: str
    law: init.Initializer
    sampler: Sampler
    shape: Shape = CONV


def truncated(scale: float, mode: str) -> init.VarianceScaling:
    """The corrected truncated normal that Keras and JAX mean by 'normal'."""
    return init.VarianceScaling(scale, mode, "truncated_normal")


def channels_last(shape: Shape) -> Shape:
    """(out, in, ...) -> (..., in, out)."""
    return (*shape[2:], shape[1], shape[0])


def to_ours(weight: Any) -> np.ndarray:
    """(..., in, out) -> (out, in, ...)."""
    array = np.asarray(weight)
    return np.moveaxis(array, (-1, -2), (0, 1))


def transposed(draw: Callable[[Shape, int], Any]) -> Sampler:
    """A sampler for a library with the channels last: draw(shape in its layout, seed)."""
    return lambda shape, rng: to_ours(draw(channels_last(shape), int(rng.integers(2**31))))


# ---- the libraries


def torch_entries() -> Iterator[Entry]:
    """torch.nn.init and the layers' defaults."""
    import torch
    from torch.nn import init as theirs

    def fill(function: Callable, **options: Any) -> Sampler:
        def sample(shape: Shape, rng: np.random.Generator) -> np.ndarray:
            torch.manual_seed(int(rng.integers(2**31)))
            return function(torch.empty(shape), **options).numpy()

        return sample

    def layer(make: Callable[[Shape], Any]) -> Sampler:
        def sample(shape: Shape, rng: np.random.Generator) -> np.ndarray:
            torch.manual_seed(int(rng.integers(2**31)))
            return make(shape).weight.detach().numpy()

        return sample

    yield Entry("kaiming_normal_", "N(0, 2/fan_in)", init.HeNormal(), fill(theirs.kaiming_normal_))
    yield Entry("kaiming_uniform_", "U, variance 2/fan_in", init.HeUniform(), fill(theirs.kaiming_uniform_))
    fan_out = fill(theirs.kaiming_normal_, mode="fan_out", nonlinearity="relu")
    yield Entry('kaiming_normal_(mode="fan_out")', "N(0, 2/fan_out)", init.HeNormal(mode="fan_out"), fan_out)
    yield Entry("xavier_normal_", "N(0, 2/(fan_in + fan_out))", init.XavierNormal(), fill(theirs.xavier_normal_))
    yield Entry("xavier_uniform_", "U, 2/(fan_in + fan_out)", init.XavierUniform(), fill(theirs.xavier_uniform_))
    yield Entry(
        "orthogonal_", "(semi-)orthogonal, flattened to (out, rest)", init.Orthogonal(), fill(theirs.orthogonal_)
    )
    yield Entry("dirac_", "identity at the center tap", init.Dirac(), fill(theirs.dirac_), (32, 32, 3, 3))
    cut = fill(theirs.trunc_normal_, std=0.02, a=-0.04, b=0.04)
    yield Entry("trunc_normal_(std=s, a=-2s, b=2s)", "std = 0.02, cut at 2 std", init.TruncatedNormal(0.02), cut)
    default = fill(theirs.trunc_normal_, std=0.02)
    yield Entry(
        "trunc_normal_(std=0.02), cut at ±2 by default", "std = 0.02, truncated", init.TruncatedNormal(0.02), default
    )
    ours = init.HeUniform(slope=5**0.5)
    linear = layer(lambda s: torch.nn.Linear(s[1], s[0]))
    conv = layer(lambda s: torch.nn.Conv2d(s[1], s[0], s[2:]))
    yield Entry("nn.Linear, default", "U(±1/sqrt(in))", ours, linear, MATRIX)
    yield Entry("nn.Conv2d, default", "U(±1/sqrt(fan_in))", ours, conv)


def keras_entries() -> Iterator[Entry]:
    """keras.initializers."""
    from keras import initializers as theirs

    def keras(kind: type, **options: Any) -> Sampler:
        return transposed(lambda shape, seed: kind(seed=seed, **options)(shape))

    yield Entry("HeNormal", "truncated normal, std = sqrt(2/fan_in)", truncated(2.0, "fan_in"), keras(theirs.HeNormal))
    yield Entry("HeUniform", "U(±sqrt(6/fan_in))", init.HeUniform(), keras(theirs.HeUniform))
    glorot = "truncated normal, std = sqrt(2/(fan_in + fan_out))"
    yield Entry("GlorotNormal", glorot, truncated(1.0, "fan_avg"), keras(theirs.GlorotNormal))
    yield Entry("GlorotUniform", "U(±sqrt(6/(fan_in + fan_out)))", init.XavierUniform(), keras(theirs.GlorotUniform))
    yield Entry(
        "LecunNormal", "truncated normal, std = sqrt(1/fan_in)", truncated(1.0, "fan_in"), keras(theirs.LecunNormal)
    )
    yield Entry("LecunUniform", "U(±sqrt(3/fan_in))", init.LeCunUniform(), keras(theirs.LecunUniform))
    yield Entry("RandomNormal", "N(0, 0.05^2)", init.Normal(0.05), keras(theirs.RandomNormal))
    cut = keras(theirs.TruncatedNormal)
    yield Entry("TruncatedNormal", "stddev = 0.05, cut at 2 stddev", init.TruncatedNormal(0.05), cut)
    yield Entry("Orthogonal", "orthogonal matrix", init.Orthogonal(), keras(theirs.Orthogonal), MATRIX)
    mixed = "orthogonal matrix from (kh kw in, out)"
    yield Entry("Orthogonal, kernel", mixed, init.Orthogonal(), keras(theirs.Orthogonal), (32, 64, 3, 3))


def jax_entries() -> Iterator[Entry]:
    """jax.nn.initializers."""
    import jax
    from jax.nn import initializers as theirs

    def key(initializer: Callable) -> Sampler:
        return transposed(lambda shape, seed: initializer(jax.random.key(seed), shape, "float32"))

    yield Entry("he_normal", "truncated normal, variance 2/fan_in", truncated(2.0, "fan_in"), key(theirs.he_normal()))
    yield Entry("he_uniform", "U, variance 2/fan_in", init.HeUniform(), key(theirs.he_uniform()))
    average = truncated(1.0, "fan_avg")
    yield Entry("glorot_normal", "truncated normal, 2/(fan_in + fan_out)", average, key(theirs.glorot_normal()))
    yield Entry("glorot_uniform", "U, 2/(fan_in + fan_out)", init.XavierUniform(), key(theirs.glorot_uniform()))
    yield Entry("lecun_normal", "truncated normal, 1/fan_in", truncated(1.0, "fan_in"), key(theirs.lecun_normal()))
    yield Entry("normal(0.01)", "N(0, 0.01^2)", init.Normal(0.01), key(theirs.normal(0.01)))
    cut = key(theirs.truncated_normal(0.01))
    yield Entry("truncated_normal(0.01)", "stddev = 0.01, cut at 2 stddev", init.TruncatedNormal(0.01), cut)
    yield Entry("orthogonal", "orthogonal matrix", init.Orthogonal(), key(theirs.orthogonal()), MATRIX)
    yield Entry("delta_orthogonal", "orthogonal center tap", init.DeltaOrthogonal(), key(theirs.delta_orthogonal()))


def mygrad_entries() -> Iterator[Entry]:
    """mygrad.nnet.initializers; PyTorch's layout."""
    from mygrad.nnet import initializers as theirs

    def fill(function: Callable) -> Sampler:
        def sample(shape: Shape, rng: np.random.Generator) -> np.ndarray:
            np.random.seed(int(rng.integers(2**31)))  # noqa: NPY002 it draws from NumPy's global state
            return np.asarray(function(*shape).data)

        return sample

    yield Entry("he_normal", "N, std = gain sqrt(2/fan_in)", init.HeNormal(), fill(theirs.he_normal))
    yield Entry("he_uniform", "U, bound = gain sqrt(6/fan_in)", init.HeUniform(), fill(theirs.he_uniform))
    yield Entry("glorot_normal", "std = sqrt(2/(fan_in + fan_out))", init.XavierNormal(), fill(theirs.glorot_normal))
    yield Entry(
        "glorot_uniform", "bound = sqrt(6/(fan_in + fan_out))", init.XavierUniform(), fill(theirs.glorot_uniform)
    )


def numpy_ml_entries() -> Iterator[Entry]:
    """numpy_ml's weight initializers; matrices (in, out), kernels (kh, kw, in, out)."""
    from numpy_ml.neural_nets import utils as theirs

    def drawn(function: Callable, *arguments: float) -> Sampler:
        def draw(shape: Shape, seed: int) -> np.ndarray:
            np.random.seed(seed)  # noqa: NPY002
            return function(*arguments, shape)

        return transposed(draw)

    for shape, where in ((CONV, "kernel"), (MATRIX, "matrix")):
        yield Entry(
            f"he_normal, {where}",
            "truncated normal, 2/fan_in",
            truncated(2.0, "fan_in"),
            drawn(theirs.he_normal),
            shape,
        )
        yield Entry(
            f"he_uniform, {where}", "U, bound sqrt(6/fan_in)", init.HeUniform(), drawn(theirs.he_uniform), shape
        )
        glorot = drawn(theirs.glorot_normal)
        documented = "truncated normal, 2/(fan_in + fan_out)"
        yield Entry(f"glorot_normal, {where}", documented, truncated(1.0, "fan_avg"), glorot, shape)
        uniform = drawn(theirs.glorot_uniform)
        yield Entry(f"glorot_uniform, {where}", "U, 2/(fan_in + fan_out)", init.XavierUniform(), uniform, shape)
    cut = drawn(theirs.truncated_normal, 0.0, 0.05)
    yield Entry("truncated_normal(0, 0.05)", "std = 0.05, cut at 2 std", init.TruncatedNormal(0.05), cut, MATRIX)


def dezero_entries() -> Iterator[Entry]:
    """The layers of dezero, which draw N(0, 1/fan_in)."""
    from dezero import layers as theirs

    def linear(shape: Shape, rng: np.random.Generator) -> np.ndarray:
        np.random.seed(int(rng.integers(2**31)))  # noqa: NPY002
        return theirs.Linear(shape[0], in_size=shape[1]).W.data.T

    def conv(shape: Shape, rng: np.random.Generator) -> np.ndarray:
        np.random.seed(int(rng.integers(2**31)))  # noqa: NPY002
        return theirs.Conv2d(shape[0], shape[2:], in_channels=shape[1]).W.data

    yield Entry("layers.Linear", "N(0, 1/in), as in the book", init.LeCunNormal(), linear, MATRIX)
    yield Entry("layers.Conv2d", "N(0, 1/fan_in), as in the book", init.LeCunNormal(), conv)


LIBRARIES: dict[str, tuple[str, Callable[[], Iterator[Entry]]]] = {
    "torch": ("torch", torch_entries),
    "keras": ("keras", keras_entries),
    "jax": ("jax", jax_entries),
    "mygrad": ("mygrad", mygrad_entries),
    "numpy_ml": ("numpy-ml", numpy_ml_entries),
    "dezero": ("dezero", dezero_entries),
}


def judge(entry: Entry) -> str:
    """The verdict of `check_initializer`, or the error the sampler raised."""
    try:
        return check_initializer(entry.sampler, entry.shape, entry.law, rng=SEED).verdict
    except Exception as error:  # somebody else's code: whatever it raises is the finding
        return f"fails: {type(error).__name__}: {error}"


def rows() -> Iterator[tuple[str, str, str, str]]:
    """(library and version, initializer, documented law, verdict)."""
    os.environ.setdefault("KERAS_BACKEND", "numpy")  # Keras asks for TensorFlow otherwise
    for module, (distribution, entries) in LIBRARIES.items():
        try:
            importlib.import_module(module)
        except Exception as error:  # not installed, or broken by a newer NumPy
            reason = str(error).splitlines()[0].split(" (")[0]
            yield module, "", "", f"not checked, cannot be imported: {type(error).__name__}: {reason}"
            continue
        version = f"{distribution} {metadata.version(distribution)}"
        for entry in entries():
            yield version, entry.name, entry.documented, judge(entry)


def table() -> str:
    """The Markdown table with its circumstances."""
    head = (
        "# Initializers that others ship, and whether they obey their documented law\n\n"
        f"Made by `python -m tests.theory.evidence.shipped` on {datetime.date.today().isoformat()}, seed {SEED}, "
        f"numpy {np.__version__}. False-alarm rate 1e-6 per initializer.\n\n"
        "| library | initializer | documented | verdict |\n|---|---|---|---|\n"
    )
    return head + "".join("| " + " | ".join(cell.replace("|", "/") for cell in row) + " |\n" for row in rows())


def main() -> None:
    """Command line: print the table, and write it where --write says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table here as well")
    arguments = parser.parse_args()
    text = table()
    print(text)
    if arguments.write:
        atomic_write_text(arguments.write, text)


if __name__ == "__main__":
    main()
