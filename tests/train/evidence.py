"""What takes too long for the suite: `python -m tests.train.evidence NAME` prints the rows that evidence.md keeps.

digits: `minires train` at its defaults, seeds 0 to 4. mnist: its 10,000 test images, 8,500 to train on, 1,500 to test.
finetune: the published resnet20 against He's initialization on 5,085 real CIFAR-10 images.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"


def train(*options):
    """`minires train` in a process of its own: (its history, seconds from the start to the exit of the process)."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [sys.executable, "-m", "minires", "train", "--out", f"{folder}/run", *map(str, options)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        return json.loads(Path(folder, "run", "history.json").read_text())["epochs"], seconds


def digits():
    print("| seed | test accuracy | right of 355 | seconds |\n| --- | --- | --- | --- |")
    for seed in range(5):
        epochs, seconds = train("--seed", seed)
        accuracy = epochs[-1]["test_accuracy"]
        print(f"| {seed} | {accuracy:.2%} | {round(accuracy * 355)} | {seconds:.1f} |", flush=True)


def mnist():
    print("| seed | test accuracy | right of 1,500 | seconds |\n| --- | --- | --- | --- |")
    options = ("--data", "mnist", "--data-dir", SHARED, "--hold-out", 1500)
    for seed in range(1):
        epochs, seconds = train(*options, "--seed", seed)
        accuracy = epochs[-1]["test_accuracy"]
        print(f"| {seed} | {accuracy:.2%} | {round(accuracy * 1500)} | {seconds:.0f} |", flush=True)


def finetune():
    from minires.checkpoint import read_weights
    from minires.data import Augmentation, load
    from minires.transfer import compare_starts

    weights = read_weights(SHARED / "pretrained" / "resnet20-cifar10.safetensors")
    runs = compare_starts(weights, load("cifar10", SHARED), epochs=3, augmentation=Augmentation(4, flip=True))
    print(
        "| start | " + " | ".join(f"test accuracy after epoch {e}" for e in (1, 2, 3)) + " |\n| --- | --- | --- | --- |"
    )
    for name, history in runs.items():
        print(f"| {name} | " + " | ".join(f"{a:.2%}" for a in history.column("test_accuracy")) + " |")


if __name__ == "__main__":
    print(time.strftime("%Y-%m-%d"))
    {"digits": digits, "mnist": mnist, "finetune": finetune}[sys.argv[1]]()
