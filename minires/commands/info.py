"""`minires info`: what this installation consists of. The first thing to attach to a question or a bug report."""

from __future__ import annotations

import argparse
import os
import platform
from importlib.metadata import PackageNotFoundError, version

HELP = "show versions, BLAS, threads, devices and extras of this installation"
EXTRAS = {
    "safetensors": "pretrained",
    "pooch": "data",
    "pillow": "data",
    "cupy-cuda13x": "cuda13",
    "cupy-cuda12x": "cuda12",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options."""


def run(args: argparse.Namespace) -> int:
    """Prints one line a fact: what, then its value."""
    from rich.table import Table

    from minires.commands import console, fitted

    table = Table(show_header=False, box=None)
    for what, value in facts():
        table.add_row(what, value)
    screen = console()
    screen.print(fitted(table, screen.width))
    return 0


def facts() -> list[tuple[str, str]]:
    """(what, value) for every line of the report."""
    import minires

    rows = [("minires", minires.__version__), ("Python", platform.python_version()), ("system", platform.platform())]
    rows += [(name, _version(name)) for name in ("numpy", "matplotlib", "rich", "threadpoolctl")]
    rows += [("BLAS", _blas()), ("threads", _threads()), ("GPU", _gpu())]
    rows += [(name, _version(name, extra)) for name, extra in EXTRAS.items()]
    return rows


def _version(package: str, extra: str | None = None) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return f'not installed: pip install "minires[{extra}]"' if extra else "not installed"


def _blas() -> str:
    import numpy  # noqa: F401  (loads the BLAS that is to be described)
    from threadpoolctl import threadpool_info

    found = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    names = [f"{pool['internal_api']} {pool['version']} ({pool['architecture']})" for pool in found]
    return ", ".join(names) or "unknown"


def _threads() -> str:
    from minires.threads import num_threads

    source = "MINIRES_NUM_THREADS" if "MINIRES_NUM_THREADS" in os.environ else "the cores of this process"
    try:
        return f"{num_threads()} ({source})"
    except ValueError as error:
        return str(error)


def _gpu() -> str:
    from minires.backend import device_namespace

    try:
        cupy = device_namespace("cuda")
    except RuntimeError as error:
        return f"none ({error})"
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    return f"{properties['name'].decode()}, {properties['totalGlobalMem'] / 2**30:.0f} GiB"
