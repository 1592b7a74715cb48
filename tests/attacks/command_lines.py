"""Command lines as they are mistyped: odd values, missing files, unknown options, options that do not go together.

Each runs in a process of its own, in a folder with good and bad files. Right is an exit code of 0, 1 or 2 without a
traceback, and an end.
"""

import collections
import io
import os
import sys
import tempfile
import traceback
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import numpy as np

from .common import in_child, table

WORDS = """0 -1 1.5 nan inf 1e400 abc -- - [/] ä x,y 3x3 . .. / nowhere nowhere/x.png /dev/null /dev/full w.npz bad.npz
folder text.txt empty he_norml mnits resnet9 None"""
ODD = [*WORDS.split(), "", " ", "1" * 40, "1" * 5000, "\udcff"]
TRAIN = ["--epochs", "1", "--width", "2", "--batch-size", "256"]
GOOD = {
    "train": [
        TRAIN,
        [*TRAIN, "--weights", "w.npz"],
        ["--resume", "run"],
        [*TRAIN, "--data", "photos"],
        [*TRAIN, "--out", "new"],
    ],
    "compare": [["--init", "he_normal", "--depth", "8", "--epochs", "1"]],
    "gradcheck": [["--list"], ["--fault", "relu:gate-from-dy"], ["student.py", "--like", "relu"]],
    "predict": [
        ["--model", "resnet8", "--input", "1x8x8"],
        ["--model", "plain8", "--input", "1x8x8", "--measure", "1"],
    ],
    "bench": [["--only", "layers", "--repeats", "1", "--threads", "1", "--models", "resnet8", "--batches", "2"]],
    "info": [[]],
    "data": [[], ["mnist", "--url", "http://127.0.0.1:9"]],
    "evaluate": [["--weights", "w.npz", "--data", "digits"]],
    "convert": [["w.npz", "new.safetensors"], ["w.safetensors"]],
}
OPTIONS = {
    "train": "--data --data-dir --hold-out --pad --model --width --shortcut --init --weights --recipe --epochs "
    "--batch-size --lr --schedule --warmup --momentum --weight-decay --seed --out --resume --log-every "
    "--device --freeze --flip",
    "compare": "--init --depth --epochs --lr --out --seed --device",
    "gradcheck": "--like --forward --backward --stride --eps --html --fault --plot --seed --device --json --time-limit",
    "predict": "--model --init --input --shortcut --measure --plot --seed --device --no-batchnorm",
    "bench": "--models --batches --only --threads --repeats --images --json --plot --device --seed --markdown",
    "info": "--help --loud",
    "data": "--data-dir --url",
    "evaluate": "--weights --data --data-dir --batch-size --device --plain",
    "convert": "--head --projection",
}
SLOW = ("compare", "bench")
"""Commands whose good lines take long: theirs get an odd value always."""


def attack(count, seed):
    counts, wrong = collections.defaultdict(collections.Counter), []
    with tempfile.TemporaryDirectory() as base:
        for number in range(count):
            folder = Path(base) / str(number)
            folder.mkdir()
            line = draw(seed, number)
            done = in_child(lambda line=line, folder=folder: run(line, folder))
            outcome = str(done.get("code", "died"))
            counts[line[0]][f"exit {outcome}"] += 1
            if done.get("traceback") or done.get("died") or outcome not in ("0", "1", "2"):
                shown = " ".join(word[:40] for word in line)
                wrong.append(f"`{shown}`: {(done.get('traceback') or done.get('died') or outcome)[-300:]}")
    return table("command", counts), wrong


def draw(seed, number):
    """A command line: a good one with one or two options of odd values, or words in odd places."""
    from minires.cli import COMMANDS

    rng = np.random.default_rng((seed, number))
    weights = np.array([8 if name in ("train", "predict", "evaluate", "convert") else 1 for name in COMMANDS], float)
    name = str(rng.choice(COMMANDS, p=weights / weights.sum()))
    line = list(GOOD.get(name, [[]])[rng.integers(len(GOOD.get(name, [[]])))])
    options = OPTIONS.get(name, "--help --loud").split()
    for _ in range(1 + (rng.random() < 0.4)):
        kind = rng.random()
        odd = ODD[rng.integers(len(ODD))]
        if kind < 0.65:
            line += [options[rng.integers(len(options))], odd]
        elif kind < 0.75:
            line += [options[rng.integers(len(options))]]
        elif kind < 0.85 and line:
            line[rng.integers(len(line))] = odd
        elif name not in SLOW:
            line.insert(rng.integers(len(line) + 1), odd)
    if name in SLOW:
        line += [options[rng.integers(4)], "nan"]
    return [name, *line]


def run(line, folder):
    """{"code": exit code} or {"traceback": text} of the command line in a folder of its own."""
    from minires import cli

    os.chdir(folder)
    prepare()
    os.environ |= {"MINIRES_NUM_THREADS": "1", "MINIRES_DATA": str(folder / "data")}
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = cli.main(line)
        except SystemExit as stop:
            code = stop.code
        except BaseException:
            return {"traceback": traceback.format_exc()}
    told = err.getvalue() + out.getvalue()
    return {"code": code, "traceback": told if "Traceback" in told else ""}


def prepare():
    from minires import nn
    from minires.checkpoint import write_weights
    from minires.data import Split, load_digits
    from minires.train import fit

    weights = nn.resnet(8, width=2, in_channels=1, rng=0).state_dict()
    write_weights("w.npz", weights)
    with suppress(ValueError):
        write_weights("w.safetensors", weights)
    Path("bad.npz").write_bytes(Path("w.npz").read_bytes()[:-40])
    Path("text.txt").write_text("no weights\n")
    Path("empty").write_bytes(b"")
    Path("folder").mkdir()
    Path("student.py").write_text(
        "import numpy as np\ndef relu_forward(x):\n    return np.maximum(x, 0), x\n"
        "def relu_backward(dy, x):\n    return dy * (x > 0)\n"
    )
    digits = load_digits()
    few = Split(*(array[:20] for array in digits))
    sys.stdout.flush()
    fit(nn.resnet(8, width=2, in_channels=1), few, epochs=1, batch_size=20, folder="run")
    with suppress(ImportError):
        from PIL import Image

        for label in "ab":
            os.makedirs(f"photos/{label}")
            for i in range(5):
                Image.fromarray(np.full((8, 8, 3), 40 * i, np.uint8)).save(f"photos/{label}/{i}.png")
