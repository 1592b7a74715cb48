"""`minires train`: trains a residual network, and leaves weights, history and a picture of the curves behind."""

from __future__ import annotations

import argparse
import shlex
import sys
import warnings
from contextlib import nullcontext, suppress
from dataclasses import asdict, fields, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minires.commands import CommandError, initializer, read_weights, whole_number
from minires.commands.train_options import DATA, add_arguments  # noqa: F401 - the command line asks for them here
from minires.commands.train_output import Display, print_summary, write_results

if TYPE_CHECKING:
    from minires.nn import ResNet
    from minires.parallel import DataParallel, MPIGroup
    from minires.recipes import Settings
    from minires.threads import Alone

HELP = "train a residual network: digits by default; MNIST, Fashion-MNIST, CIFAR, or a folder of your own pictures"


def run(args: argparse.Namespace) -> int:
    """Trains. 0: done; 1: diverged or not saved; 130, 143: stopped by Ctrl-C, SIGTERM, after saving."""
    from minires.parallel import MPIGroup
    from minires.parallel.sweep import ranks_started
    from minires.threads import Alone

    if args.parallel is None:
        if args.local_bn or args.no_overlap:
            raise CommandError("--local-bn and --no-overlap say how ranks work together: they need --parallel mpi")
        if ranks_started() > 1:
            raise CommandError(f"mpiexec has started {ranks_started()} of this run: --parallel mpi makes one of them")
        return _run(args, Alone())
    try:
        group = MPIGroup()
    except RuntimeError as error:
        raise CommandError(str(error)) from error
    with group:
        try:
            return _run(args, group)
        except (CommandError, OSError, MemoryError) as error:
            if group.size == 1:
                raise
            group.abort(f"minires train: {error}", 2 if isinstance(error, CommandError) else 1)


def _run(args: argparse.Namespace, group: MPIGroup | Alone) -> int:
    from minires import data as datasets
    from minires.recipes import Settings

    try:
        saved = asdict(_resumed_settings(args)) if args.resume and group.rank == 0 else None
        _, (saved, args.log_every) = group.broadcast(state=(saved, args.log_every))  # rank 0 has the run's folder
        settings = Settings(**saved) if saved else None
        name = settings.data if settings else args.data or "digits"
        held_out = settings.held_out if settings else args.held_out
        if args.data_dir is not None and name not in DATA:
            raise CommandError(f"--data {name} is a folder itself: it goes without --data-dir")
        if group.rank > 0:
            group.broadcast()  # once rank 0 has them: it may have to download the files
        data = datasets.load(name, args.data_dir, held_out)
        classes = datasets.count_classes(name, args.data_dir)
        if group.rank == 0:
            group.broadcast()
        settings = settings or _settings(args, len(data.x_train))
        with warnings.catch_warnings():
            warnings.showwarning = _say if group.rank == 0 else _say_nothing
            return _train(args, group, settings, data, classes)
    except (ValueError, FileExistsError, argparse.ArgumentTypeError) as error:  # DataError and the like are ValueErrors
        other = "; --other-engine goes on all the same" if getattr(error, "names", None) == ["engine"] else ""
        raise CommandError(f"{error}{other}") from error


def _say(message: Warning | str, *where: object) -> None:
    """A warning as a sentence; where in minires it was raised is of no interest here."""
    print(f"minires train: {message}", file=sys.stderr)


def _say_nothing(message: Warning | str, *where: object) -> None:
    """What all ranks warn of is said by rank 0."""


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that the user named."""
    from minires.recipes import Settings

    named = {field.name: getattr(args, field.name) for field in fields(Settings)}
    return {name: value for name, value in named.items() if value is not None}


def _settings(args: argparse.Namespace, train_images: int) -> Settings:
    """The data set's defaults, or the recipe's, with what the user named in place of them."""
    from minires.recipes import DEFAULTS, PICTURES, depth_of, he2015

    given = _given(args)
    name = given.get("data", "digits")
    base = DEFAULTS.get(name, PICTURES)
    if args.recipe == "he2015":
        if name != "cifar10":
            raise CommandError(f"--recipe he2015 is made for --data cifar10, not for {name}")
        base = he2015(given.get("model", base.model), train_images)
    settings = replace(base, **given)
    depth_of(settings.model)
    if settings.frozen and settings.weights is None:
        raise CommandError("--freeze keeps layers as they are in a file: it needs --weights FILE")
    return settings


def _resumed_settings(args: argparse.Namespace) -> Settings:
    """The settings of the run in args.resume. CommandError where options were given that differ from them."""
    from minires.checkpoint import load_checkpoint
    from minires.recipes import Settings, build_schedule
    from minires.train import SettingsDiffer

    if (args.out is not None and args.out != args.resume) or args.recipe:
        raise CommandError("--resume goes on in the run's folder with its settings: no --out, no --recipe")
    if args.resume.is_file():
        folder = args.resume.parent
        raise CommandError(f"{args.resume} is a file; --resume takes the folder of a run: --resume {folder}")
    path, _, state = load_checkpoint(args.resume)
    config = state.get("config")
    saved = config.get("run") if isinstance(config, dict) else None
    if saved is None:
        raise CommandError(f"{args.resume} was not written by `minires train`")
    try:
        settings = Settings(**saved)
        initializer(settings.init)
        build_schedule(settings, 1)
        args.log_every = args.log_every or whole_number(1)(str(config["log_every"]))
    except (TypeError, ValueError, KeyError, AttributeError, argparse.ArgumentTypeError) as error:
        raise CommandError(f"{path}: its settings cannot be read ({error})") from None
    given = _given(args)
    if any(saved.get(name) != value for name, value in given.items()):
        raise SettingsDiffer({name: saved.get(name) for name in given}, given)
    return settings


def _train(args: argparse.Namespace, group: MPIGroup | Alone, settings: Settings, data: Any, classes: int) -> int:
    from minires.recipes import build_model, fit_arguments
    from minires.train import TrainingDiverged, TrainingInterrupted, fit

    model = build_model(settings, data.x_train.shape[1], initializer(settings.init), classes)
    leads = group.rank == 0
    if settings.weights is not None and not args.resume and leads:
        _load_weights(model, settings.weights)  # the other ranks take them over
    folder = args.resume or args.out or (_new_folder(settings) if leads else None)
    folder = Path(group.broadcast(state=str(folder))[1])
    log_every = args.log_every or (1 if args.device == "cpu" else 10)
    parallel = _shared_by(args, group, model) if args.parallel else None
    try:
        with Display(settings) if leads else nullcontext() as display:
            history = fit(
                model,
                data,
                **fit_arguments(settings, model, data),
                device=_device(args, group),
                log_every=log_every,
                folder=folder,
                resume=bool(args.resume),
                compile=not args.no_compile and parallel is None,
                parallel=parallel,
                other_engine=args.other_engine,
                config={"run": asdict(settings)},
                report=display.show if leads else None,
            )
    except TrainingInterrupted as stop:
        if leads:
            print(f"{stop}\nGo on with:  {_resume_command(args, folder, group.size)}")
        return 128 + stop.signal
    except TrainingDiverged as problem:
        if leads:
            print(f"minires train: {problem}. What came before: {folder / 'history.json'}", file=sys.stderr)
        return 1
    except FileExistsError:
        raise
    except OSError as error:
        raise OSError(f"cannot write into {folder}: {error.strerror or error}") from error
    if not leads:
        return 0
    print_summary(settings, model, history, (group.size, parallel.threads) if parallel else None)
    return 0 if write_results(folder, settings, model, history) else 1


def _shared_by(args: argparse.Namespace, group: MPIGroup, model: ResNet) -> DataParallel:
    """The model as all ranks train it, each its share."""
    from minires.parallel import DataParallel

    options = {"local_batchnorm": args.local_bn, "overlap": not args.no_overlap, "compile": not args.no_compile}
    return DataParallel(model, group, **options)


def _device(args: argparse.Namespace, group: MPIGroup | Alone) -> str:
    """Ranks on one machine take its GPUs in turn."""
    if args.device != "cuda" or group.size == 1:
        return args.device
    import cupy

    return f"cuda:{group.rank_here % cupy.cuda.runtime.getDeviceCount()}"


def _resume_command(args: argparse.Namespace, folder: Path, ranks: int) -> str:
    words = ["mpiexec", "-n", str(ranks)] if args.parallel else []
    words += ["python", "-m", "minires", "train", "--resume", str(folder)]
    if args.parallel:
        words += ["--parallel", args.parallel]
    words += ["--local-bn"] * args.local_bn + ["--no-overlap"] * args.no_overlap
    if args.data_dir is not None:
        words += ["--data-dir", str(args.data_dir)]
    if args.device != "cpu":
        words += ["--device", args.device]
    words += ["--no-compile"] if args.no_compile else []
    return shlex.join(words)


def _load_weights(model: ResNet, file: str) -> None:
    """Start from a file: all of it has to fit, but for a head of another shape, which is left as it was drawn."""
    from minires import init

    weights, _ = read_weights(Path(file))
    report = init.from_pretrained(model, weights, strict=False)
    wrong = [*report.missing, *report.unexpected, *(m for m in report.misshaped if not m.startswith("linear."))]
    if wrong:
        raise CommandError(f"{file} does not fit {len(model.parameters())} parameters of the model: {report}")
    print(f"{file}: {report}")


def _new_folder(settings: Settings) -> Path:
    """runs/DATA-MODEL, with a number behind it where there is such a run already. Made here and now: of two runs that
    start together each gets its own."""
    stem = f"{Path(settings.data).name}-{settings.model}"
    Path("runs").mkdir(exist_ok=True)
    for number in count(1):
        folder = Path("runs") / (stem if number == 1 else f"{stem}-{number}")
        with suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise AssertionError("count() never ends")
