"""Two trainings started at the same time in one folder: each has a run's folder of its own, complete."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from .common import table

ROOT = Path(__file__).resolve().parents[2]
TRAIN = (sys.executable, "-m", "minires", "train", "--epochs", "1", "--width", "2", "--batch-size", "256")


def attack(count, seed):
    counts = {"pairs": {}, "pairs with one --out": {}}
    wrong = []
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MINIRES_NUM_THREADS": "1"}
    for pair in range(count):
        with tempfile.TemporaryDirectory() as folder:
            for kind, arguments in (("pairs", ()), ("pairs with one --out", ("--out", "run"))):
                both = [
                    subprocess.Popen(
                        [*TRAIN, "--seed", str(seed + 2 * pair + i), *arguments],
                        cwd=folder,
                        env=environment,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.PIPE,
                        text=True,
                    )
                    for i in range(2)
                ]
                errors = [process.communicate()[1] for process in both]
                codes = sorted(process.returncode for process in both)
                problem = (own_folders if not arguments else one_folder)(Path(folder), codes, errors)
                counts[kind]["right" if problem is None else "wrong"] = (
                    counts[kind].get("right" if problem is None else "wrong", 0) + 1
                )
                if problem:
                    wrong.append(f"pair {pair}, {kind}: {problem}")
    return table("started together", counts), wrong


def own_folders(folder, codes, errors):
    """None where both ended well, each with its own seed in its own folder."""
    runs = sorted((folder / "runs").iterdir())
    whole = [run for run in runs if (run / "weights.npz").exists() and (run / "curves.png").exists()]
    seeds = {json.loads((run / "history.json").read_text())["config"]["seed"] for run in whole}
    if codes != [0, 0] or len(whole) != 2 or len(seeds) != 2:
        return f"exit codes {codes}, {len(runs)} folders, {len(whole)} whole, seeds {seeds}: {errors}"
    return None


def one_folder(folder, codes, errors):
    """None where one ended well and the other was told that the folder is taken, and by whom where it is in use."""
    told = " ".join(errors)
    if codes != [0, 2] or not ("in use by process" in told or "holds a run already" in told) or "Traceback" in told:
        return f"exit codes {codes}: {told}"
    return None
