"""`minires train`: trains a residual network, and leaves weights, history and a picture of the curves behind."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, fields, replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minires.commands import (
    INITIALIZERS,
    CommandError,
    add_device_argument,
    console,
    fitted,
    initializer,
    is_live,
    nearest,
    positive_number,
    read_weights,
    whole_number,
)

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

    from minires.nn import ResNet
    from minires.recipes import Settings
    from minires.train import History, Progress

HELP = "train a residual network: digits by default; MNIST, Fashion-MNIST, CIFAR, or a folder of your own pictures"

DATA = ("digits", "mnist", "fashion", "cifar10", "cifar100")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options without a default here take it from the data set's settings in `minires.recipes`."""
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        type=data_name,
        metavar="NAME|DIR",
        help=f"what to train on: {', '.join(DATA)}, or a folder that holds the files of one of them or your own "
        "pictures, one folder a class (default: digits, which need no download)",
    )
    data.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="where its files are (default: $MINIRES_DATA, then the user's cache)",
    )
    data.add_argument(
        "--hold-out",
        dest="held_out",
        type=whole_number(1),
        metavar="N",
        help="test on N of the training images instead of the test files",
    )
    data.add_argument(
        "--pad",
        type=whole_number(0),
        metavar="N",
        help="random crops: pad by N pixels and cut out a window (default: 1 for digits, 2 for MNIST, 4 for CIFAR)",
    )
    data.add_argument(
        "--flip",
        action=argparse.BooleanOptionalAction,
        help="mirror half of the images (default: for CIFAR and fashion)",
    )

    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        metavar="NAME",
        help="resnetN or plainN (no shortcuts), N = 6n + 2 (default: resnet8; resnet20 for CIFAR-10)",
    )
    model.add_argument(
        "--width", type=whole_number(1, 10_000), metavar="N", help="channels of the first stage (default: 16)"
    )
    model.add_argument(
        "--shortcut", choices=("A", "B"), help="where the shape changes: A subsamples and pads, B projects (default: A)"
    )
    model.add_argument(
        "--batchnorm", action=argparse.BooleanOptionalAction, help="BatchNorm after each convolution (default: yes)"
    )
    model.add_argument(
        "--init",
        type=initializer_name,
        metavar="NAME",
        help=f"what the weights are drawn from (default: he_normal): {', '.join(INITIALIZERS)}; normal:0.01 and the "
        "like give a parameter",
    )
    model.add_argument(
        "--weights",
        metavar="FILE",
        help="start from these weights (.npz, .safetensors, .pth); a head of another shape is drawn anew",
    )
    model.add_argument(
        "--freeze", dest="frozen", action=argparse.BooleanOptionalAction, help="with --weights: train the head alone"
    )

    recipe = parser.add_argument_group("training")
    recipe.add_argument(
        "--recipe",
        choices=("he2015",),
        help="He et al. 2015, section 4.2, for CIFAR-10; options given beside it replace its own",
    )
    recipe.add_argument(
        "--epochs", type=whole_number(1), metavar="N", help="passes over the training images (default: 20 for digits)"
    )
    recipe.add_argument(
        "--batch-size", type=whole_number(1), metavar="N", help="images a step (default: 32 for digits)"
    )
    recipe.add_argument("--lr", type=positive_number, metavar="RATE", help="highest learning rate (default: 0.1)")
    recipe.add_argument(
        "--schedule", choices=("cosine", "step", "constant"), help="how the rate falls (default: cosine)"
    )
    recipe.add_argument(
        "--warmup",
        type=whole_number(0),
        metavar="STEPS",
        help="steps over which the rate rises to its highest (default: 0)",
    )
    recipe.add_argument("--momentum", type=fraction, metavar="M", help="of SGD (default: 0.9)")
    recipe.add_argument("--nesterov", action=argparse.BooleanOptionalAction, help="Nesterov's momentum (default: no)")
    recipe.add_argument("--weight-decay", type=fraction, metavar="D", help="of SGD (default: 1e-4)")
    recipe.add_argument(
        "--seed",
        type=whole_number(0),
        metavar="N",
        help="start of all random numbers; the same seed gives the same run, bit for bit (default: 0)",
    )

    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of the run (default: a new one, runs/DATA-MODEL)"
    )
    parser.add_argument(
        "--resume", type=Path, metavar="DIR", help="go on with the run in this folder, from its newest checkpoint"
    )
    parser.add_argument(
        "--log-every",
        type=whole_number(1),
        metavar="N",
        help="look at the loss every N steps (default: 1; 10 on a GPU, which may then run ahead)",
    )
    parser.add_argument(
        "--no-compile",
        action="store_true",
        help="run the steps by the definition in ops/ and nn/, where a breakpoint is hit, instead of the fast way",
    )
    parser.add_argument(
        "--other-engine",
        action="store_true",
        help="resume a run that was started compiled, by the definition, or on another number of threads, the way it "
        "is run now: its last bits will differ",
    )
    add_device_argument(parser)


def data_name(text: str) -> str:
    """An argparse type: a data set's name, or the absolute path of a folder."""
    if text in DATA:
        return text
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a folder nor one of {', '.join(DATA)}; {nearest(text, DATA, 'check the name')}"
        )
    return str(Path(text).resolve())


def fraction(text: str) -> float:
    """An argparse type: a number from 0 up to, not including, 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number from 0 up to, not including, 1")
    return value


def initializer_name(text: str) -> str:
    """An argparse type: the text, once it is known to name an initializer."""
    initializer(text)
    return text


def run(args: argparse.Namespace) -> int:
    """Trains. 0: done; 1: diverged or not saved; 130, 143: stopped by Ctrl-C, SIGTERM, after saving."""
    from minires import data as datasets

    try:
        settings = _resumed_settings(args) if args.resume else None
        name = settings.data if settings else args.data or "digits"
        held_out = settings.held_out if settings else args.held_out
        if args.data_dir is not None and name not in DATA:
            raise CommandError(f"--data {name} is a folder itself: it goes without --data-dir")
        data = datasets.load(name, args.data_dir, held_out)
        classes = datasets.count_classes(name, args.data_dir)
        settings = settings or _settings(args, len(data.x_train))
        with warnings.catch_warnings():
            warnings.showwarning = _say
            return _train(args, settings, data, classes)
    except (ValueError, FileExistsError, argparse.ArgumentTypeError) as error:  # DataError and the like are ValueErrors
        other = "; --other-engine goes on all the same" if getattr(error, "names", None) == ["engine"] else ""
        raise CommandError(f"{error}{other}") from error


def _say(message: Warning | str, *where: object) -> None:
    """A warning as a sentence; where in minires it was raised is of no interest here."""
    print(f"minires train: {message}", file=sys.stderr)


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


def _train(args: argparse.Namespace, settings: Settings, data: Any, classes: int) -> int:
    from minires.recipes import build_model, fit_arguments
    from minires.train import TrainingDiverged, TrainingInterrupted, fit

    model = build_model(settings, data.x_train.shape[1], initializer(settings.init), classes)
    if settings.weights is not None and not args.resume:
        _load_weights(model, settings.weights)
    folder = args.resume or args.out or _new_folder(settings)
    log_every = args.log_every or (1 if args.device == "cpu" else 10)
    try:
        with _Display(settings) as display:
            history = fit(
                model,
                data,
                **fit_arguments(settings, model, data),
                device=args.device,
                log_every=log_every,
                folder=folder,
                resume=bool(args.resume),
                compile=not args.no_compile,
                other_engine=args.other_engine,
                config={"run": asdict(settings)},
                report=display.show,
            )
    except TrainingInterrupted as stop:
        print(f"{stop}\nGo on with:  {_resume_command(args, folder)}")
        return 128 + stop.signal
    except TrainingDiverged as problem:
        print(f"minires train: {problem}. What came before: {folder / 'history.json'}", file=sys.stderr)
        return 1
    except FileExistsError:
        raise
    except OSError as error:
        print(f"minires train: cannot write into {folder}: {error.strerror or error}", file=sys.stderr)
        return 1
    _print_summary(settings, model, history)
    return 0 if _write_results(folder, settings, model, history) else 1


def _resume_command(args: argparse.Namespace, folder: Path) -> str:
    words = ["python", "-m", "minires", "train", "--resume", str(folder)]
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


def _write_results(folder: Path, settings: Settings, model: ResNet, history: History) -> bool:
    """Weights and curves into the run's folder; what cannot be written there, into a temporary one.

    Says where each of them is. False where something went elsewhere, or nowhere.
    """
    from minires.checkpoint import write_weights
    from minires.files import atomic_write_text
    from minires.plot.curves import draw_history
    from minires.plot.style import save

    def write_curves(path: Path) -> None:
        save(draw_history(history, f"{settings.model} on {Path(settings.data).name}"), path)

    def write_model(path: Path) -> None:
        write_weights(path, model.state_dict(), {"run": asdict(settings)})

    def write_history(path: Path) -> None:
        if not _holds_epochs(path, len(history.epochs)):  # fit has written it there, unless it could not
            atomic_write_text(path, json.dumps({"config": {"run": asdict(settings)}, **asdict(history)}, indent=1))

    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    writers = {"weights.npz": write_model, "curves.png": write_curves, "history.json": write_history}
    there = [_write(write, folder / name) for name, write in writers.items()]
    written = [path for path in there if path is not None]
    for i, path in enumerate(written):
        print(f"{'' if i else 'written':8} {path}")
    return all(path is not None and path.parent == folder for path in there)


def _write(write: Callable[[Path], None], path: Path) -> Path | None:
    """Where the file is now: at `path`, in a temporary folder where that cannot be written, or nowhere."""
    try:
        write(path)
        return path
    except OSError as error:
        warnings.warn(f"results not written into {path.parent}: {error}", stacklevel=2)
    try:
        elsewhere = _elsewhere() / path.name
        write(elsewhere)
        return elsewhere
    except OSError as error:
        warnings.warn(f"{path.name} is lost: {error}", stacklevel=2)
    return None


@cache
def _elsewhere() -> Path:
    """A new folder among the temporary ones, the same for all files of a run."""
    return Path(tempfile.mkdtemp(prefix="minires-"))


def _holds_epochs(path: Path, count: int) -> bool:
    try:
        return len(json.loads(path.read_text(encoding="utf-8"))["epochs"]) == count
    except (OSError, ValueError, KeyError, TypeError):
        return False


class _Display:
    """The live line of a run; where no line can be overwritten, a plain line an epoch instead."""

    def __init__(self, settings: Settings) -> None:
        from rich.progress import Progress as Bar

        self.console = console()
        self.live = is_live(self.console)
        self.bar = Bar(*_columns(self.console.width), console=self.console, transient=True, disable=not self.live)
        start = {"epoch": 1, "epochs": settings.epochs, "loss": 0.0, "accuracy": 0.0, "speed": 0.0, "left": "?"}
        self.task = self.bar.add_task("", total=None, test="", **start)

    def __enter__(self) -> _Display:
        self.bar.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.bar.stop()

    def show(self, now: Progress) -> None:
        """What `train.fit` reports."""
        self.bar.update(
            self.task,
            completed=now.step,
            total=now.steps,
            epoch=now.epoch,
            loss=now.loss,
            accuracy=now.accuracy,
            speed=now.images_per_second,
            left=_clock(now.seconds_left),
        )
        if now.row is None:
            return
        self.bar.update(self.task, test=f"test {now.row['test_accuracy']:.2%}")
        if not self.live:
            self.console.print(
                f"epoch {now.epoch:>3}/{now.epochs}  loss {now.row['train_loss']:.4f}  "
                f"test loss {now.row['test_loss']:.4f}  test accuracy {now.row['test_accuracy']:.2%}  "
                f"{now.row['images_per_second']:,.0f} images/s  {_clock(now.seconds_left)} left",
                highlight=False,
                soft_wrap=True,
            )


def _columns(width: int) -> list[ProgressColumn]:
    """What the live line shows, by the room there is: the essentials come first."""
    from rich.progress import BarColumn, TextColumn

    texts = ["epoch {task.fields[epoch]:>3}/{task.fields[epochs]}", "loss {task.fields[loss]:7.4f}"]
    texts += ["{task.fields[test]}", "{task.fields[left]} left"]
    if width >= 80:
        texts.insert(2, "accuracy {task.fields[accuracy]:6.2%}")
    if width >= 100:
        texts.insert(-1, "{task.fields[speed]:,.0f} images/s")
    first, *others = (TextColumn(text) for text in texts)
    return [first, BarColumn(bar_width=None), *others]


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes}:{seconds:02}"


def _print_summary(settings: Settings, model: ResNet, history: History) -> None:
    from rich.table import Table
    from rich.text import Text

    last = history.epochs[-1]
    best = max(history.epochs, key=lambda row: row["test_accuracy"])
    seconds = sum(history.column("seconds"))
    speed = sum(history.column("images_per_second")) / len(history.epochs)
    title = f"{settings.model} on {Path(settings.data).name}, seed {settings.seed}"
    table = Table(title=title, title_justify="left", show_header=False)
    for what, value in (
        ("parameters", f"{sum(p.value.size for p in model.parameters()):,}"),
        ("epochs, steps", f"{last['epoch']}, {last['step']:,}"),
        ("training loss, accuracy", f"{last['train_loss']:.4f}, {last['train_accuracy']:.2%}"),
        ("test loss, accuracy", Text.assemble(f"{last['test_loss']:.4f}, ", (f"{last['test_accuracy']:.2%}", "bold"))),
        ("best test accuracy", f"{best['test_accuracy']:.2%} after epoch {best['epoch']}"),
        ("time, images/s", f"{_clock(seconds)}, {speed:,.0f}"),
    ):
        table.add_row(what, value)
    screen = console()
    screen.print(fitted(table, screen.width))
