"""Each exercise, solved and done wrong in three usual ways: what its judge says. A tutorial runs once for all."""

from __future__ import annotations

import ast
import functools
import importlib.util
import re

import pytest

from minires import tutorial
from tests.tutorials.running import SLOW, number_of

SWISH = "def exercise_1(dy, x):\n    s = 1 / (1 + np.exp(-x))\n    return "
LENGTH = "def exercise_2(dy, cache):\n    x, length = cache\n    y = x / length\n    return "

FORWARD = {
    "6.1": "def exercise_1(dy, cache):\n    xhat, inv = cache\n    return ",
    "6.2": "def exercise_2(dy, cache):\n    xhat, weight, inv = cache.xhat[:, 0], cache.weight, cache.inv\n    return ",
}
MEAN = "dy.mean(axis=1, keepdims=True)"
VAR = "xhat * (dy * xhat).mean(axis=1, keepdims=True)"
SHORTCUT = "def exercise_2(dy, x_shape):\n    dx = np.zeros(x_shape)\n    "
SMALL = "def exercise_1(dy, cache):\n    x, weight, a = cache\n    return "

WARM = "def exercise_1(dy, cache):\n    p, one_hot, T = cache\n    return "
TWO = "def exercise_2(dy, cache):\n    x, a, w1, w2 = cache\n    dz = (dy @ w2) * (1 - a**2)\n    return "

MIRROR = """def exercise_2(dcols, x_shape):
    dx = np.zeros(x_shape)
    for n, k, place in np.ndindex(dcols.shape):
        dx[n, 0, place // 6 + k // 3, place % 6 + k % 3] += dcols[n, k, place]
    return dx
"""

UNIFORM = "def exercise_1(shape, rng):\n    "
ROTATION = "def exercise_2(shape, rng):\n    z = rng.standard_normal((math.prod(shape[1:]), shape[0]))\n    "

CHANGE = "def exercise_1(kernel, rate, momentum):\n    return "
LIMIT = (
    "def exercise_2(kernel, momentum):\n    c = sum(math.sqrt(T) / norm for _, T, norm in kernel.layers)\n    return "
)

PIXELS = """def exercise_{}(size, kernel, stride, padding, dilation):
    outputs = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    pixels = [i * stride + t * dilation - padding for i in range(outputs) for t in range(kernel)]
    return """

SLOPE = "def exercise_1(dy, x):\n    return "
TOTAL = "def exercise_2(total, loss):\n    return "

FLIP = "def exercise_1(w):\n    return "
DW = """def exercise_2(dy, cols):
    h = dy.shape[1]
    return np.stack([np.einsum("nijbc,nijo->bco", cols[:, a : a + h], dy) for a in range(3)])"""

TOGETHER = """def exercise_1(dy, xhat, inv, group):
    count, *sums = group.sum(np.concatenate([np.ones((len(dy), 1)), dy, dy * xhat], axis=1))
    mean_dy, mean_dy_xhat = np.split(np.array(sums) / count, 2)
    return (dy - mean_dy - xhat * mean_dy_xhat) * inv
"""
RING = """def exercise_2(vector, rank, size, swap):
    parts = np.split(vector, size)
    for k in range(size - 1):
        parts[(rank - k - 1) % size] = parts[(rank - k - 1) % size] + swap(parts[(rank - k) % size])
    for k in range(size - 1):
        parts[(rank - k) % size] = swap(parts[(rank - k + 1) % size])
    return np.concatenate(parts)
"""
CHI = "def exercise_2(gain, z):\n    "
REST = "q = 1.0\n    for _ in range(100):\n        q = gain * np.mean(np.tanh(np.sqrt(q) * z) ** 2)\n    "

SMOOTH = "def exercise_1(dy, cache):\n    p, target = cache\n    return "
DECAY = "def exercise_2(dy, cache):\n    w, d = cache\n    return "

NAMES = "def exercise_1(foreign):\n    return "
SWAPPED = """def exercise_1(foreign):
    names = {"layer1.0.conv1.weight": "layer1.0.conv2.weight", "layer1.0.conv2.weight": "layer1.0.conv1.weight"}
    own = {name.removeprefix("cnn.").replace("classifier", "linear"): array for name, array in foreign.items()}
    return {names.get(name, name): array for name, array in own.items()}
"""
FOLD = "def exercise_2(w, gamma, beta, mean, var, eps):\n    return "

WRONG = {
    "1.1": [
        (SWISH + "dy * s", "dx"),
        (SWISH + "s + x * s * (1 - s)", "dx"),
        (SWISH + "np.sum(dy * (s + x * s * (1 - s)))", "has shape ()"),
    ],
    "1.2": [
        (LENGTH + "dy / length", "dx"),
        (LENGTH + "(dy - y * (dy * y).sum()) / length", "dx"),
        (LENGTH + "(dy - y * (dy * y).sum(axis=1)) / length", "Print the shapes"),
    ],
    "2.1": [
        (WARM + "dy * (p - one_hot) / len(p)", "times what it should be"),
        (WARM + "dy * (p - one_hot) / T", "times what it should be"),
        (WARM + "dy * (one_hot - p) / (len(p) * T)", "sign"),
    ],
    "2.2": [
        (TWO.replace(" * (1 - a**2)", "") + "dz @ w1, dz.T @ x, dy.T @ a", "dx"),
        (TWO + "dz @ w1, dz.T @ x, a.T @ dy", "has shape (5, 2)"),
        (TWO + "dz @ w1.T, dz.T @ x, dy.T @ a", "Print the shapes"),
    ],
    "3.1": [
        ("def exercise_1(dy, cache):\n    return *backward(dy, cache), dy.mean(axis=(0, 2, 3))", "dbias"),
        ("def exercise_1(dy, cache):\n    return *backward(dy, cache), dy.sum(axis=0)", "has shape (2, 6, 6)"),
        ("def exercise_1(dy, cache):\n    return backward(dy, cache)", "2"),
    ],
    "3.2": [
        (MIRROR.replace("+=", "="), "dx"),
        (MIRROR.replace("place % 6 + k % 3", "place % 6"), "dx"),
        (MIRROR.replace("6", "8"), "IndexError: index 8 is out of bounds"),
    ],
    "4.1": [
        (UNIFORM + "return rng.uniform(-1, 1, shape) * math.sqrt(2 / math.prod(shape[1:]))", "wrong"),
        (UNIFORM + "return rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))", "wrong"),
        (UNIFORM + "return rng.uniform(-1, 1, shape[:2])", "asked for shape"),
    ],
    "4.2": [
        (ROTATION + "return np.linalg.qr(z)[0].T.reshape(shape)", "wrong"),
        (ROTATION + "return z", "gave (288, 64)"),
        (ROTATION + "return z.reshape(shape) / 17", "wrong"),
    ],
    "5.1": [
        ("def exercise_1(slope):\n    return (2 / (1 + slope**2)) ** 0.5", "multiplies the mean square by 0.738"),
        ("def exercise_1(slope):\n    return 2 / (1 + slope) ** 2", "multiplies the mean square by 0.645"),
        ("def exercise_1(slope):\n    return slope - 1", "expected"),
    ],
    "5.2": [
        (CHI + "return gain * np.mean((1 - np.tanh(z) ** 2) ** 2)", "is q at rest"),
        (CHI + REST + "return gain * np.mean(1 - np.tanh(np.sqrt(q) * z) ** 2)", "is the slope squared"),
        (CHI + REST + "return np.mean((1 - np.tanh(np.sqrt(q) * z) ** 2) ** 2)", "is the gain in it"),
    ],
    "6.1": [
        (FORWARD["6.1"] + f"(dy - {MEAN}) * inv", "variance (minus xhat times the mean of dy * xhat) is missing"),
        (FORWARD["6.1"] + f"(dy - {VAR}) * inv", "the path through the mean (minus the mean of dy) is missing"),
        (FORWARD["6.1"] + f"(dy - dy.mean(axis=0) - {VAR}) * inv", "dx"),
    ],
    "6.2": [
        (FORWARD["6.2"] + "(dy - dy.mean(axis=0)) * weight * inv, (dy * xhat).sum(axis=0), dy.sum(axis=0)", "dx"),
        (FORWARD["6.2"] + "dy * inv, (dy * xhat).sum(axis=0), dy.sum(axis=0)", "dx"),
        (FORWARD["6.2"] + "dy * weight * inv, dy * xhat, dy", "shape (5, 3) where (3,) is needed"),
    ],
    "7.1": [
        (SMALL + "a * (dy @ weight) * (x > 0), a * dy.T @ np.maximum(x, 0)", "dx"),
        (SMALL + "dy + a * (dy @ weight), a * dy.T @ np.maximum(x, 0)", "dx"),
        (SMALL + "dy + (dy @ weight) * (x > 0), dy.T @ np.maximum(x, 0)", "times"),
    ],
    "7.2": [
        (SHORTCUT + "dx[:, :, ::2, ::2] = dy[:, :-2]\n    return dx", "dx"),
        (SHORTCUT + "dx[:, :, 1::2, 1::2] = dy[:, 1:-1]\n    return dx", "Print the shapes"),
        (SHORTCUT + "return dy", "has shape"),
    ],
    "8.1": [
        (SMOOTH + "dy * (p - target)", "4 times"),
        (SMOOTH + "dy * -target / p / len(p)", "dlogits"),
        (SMOOTH + "dy * (target - p) / len(p)", "sign"),
    ],
    "8.2": [
        (DECAY + "dy * d * w / 2", "0.5 times"),
        (DECAY + "dy * d * np.sum(w)", "has shape ()"),
        (DECAY + "dy * d * w**2", "dw"),
    ],
    "9.1": [
        (CHANGE + "rate * sum(math.sqrt(T) / norm for _, T, norm in kernel.layers)", "yours is 0.2 times that"),
        (CHANGE + "rate / (1 - momentum) * sum(T / norm for _, T, norm in kernel.layers)", "times that"),
        (CHANGE + "rate / (1 - momentum) * sum(math.sqrt(T) / norm for T, norm in kernel.layers)", "too many values"),
    ],
    "9.2": [
        (LIMIT + "3.2 * (1 - momentum) / c", "with probability 0.00"),
        (LIMIT + "10**3.2 / c", "with probability 1.00"),
        (LIMIT + "10**3.2 / (1 - momentum) / c", "with probability 1.00"),
    ],
    "10.1": [
        (NAMES + "foreign", "missing: bn1.bias"),
        (NAMES + "{name.removeprefix('cnn.'): array for name, array in foreign.items()}", "classifier.weight"),
        (SWAPPED, "all names fit, but layer1.0.conv1.weight holds another array"),
    ],
    "10.2": [
        (
            FOLD + "w * (gamma / np.sqrt(var))[:, None, None, None], beta - gamma * mean / np.sqrt(var + eps)",
            "varies 1.",
        ),
        (FOLD + "w * (gamma / np.sqrt(var + eps))[:, None, None, None], beta - mean", "varies 1 times as much"),
        (FOLD + "w * gamma / np.sqrt(var + eps), beta - gamma * mean / np.sqrt(var + eps)", "Print the shapes"),
    ],
    "11.1": [
        (PIXELS.format(1) + "sum(0 < p < size for p in pixels) / len(pixels)", "size 8, kernel 3, stride 1"),
        (PIXELS.format(1).replace(" - padding for", " for") + "sum(p < size for p in pixels) / len(pixels)", "size 8"),
        (PIXELS.format(1) + "1 - 2 * padding / (size * kernel)", "size 7, kernel 5"),
    ],
    "11.2": [
        (PIXELS.format(2) + "[pixels.count(pixel) for pixel in range(outputs)]", "size 9, kernel 3"),
        (PIXELS.format(2) + "[kernel] * size", "[2, 3, 3, 3, 3, 3, 3, 2], yours [3, 3, 3"),
        (PIXELS.format(2) + "[sum(pixels == pixel) for pixel in range(size)]", "not iterable"),
    ],
    "12.1": [
        (SLOPE + "dy / (1 + array_namespace(x).exp(x))", "dx"),
        (SLOPE + "dy / (1 + np.exp(-x))", "over there it was refused"),
        (SLOPE + "1 / (1 + array_namespace(x).exp(-x))", "dx"),
    ],
    "12.2": [
        (TOTAL + "total + float(loss)", "waited 20 times"),
        (TOTAL + "total + loss if loss > 0 else total", "waited 20 times"),
        (TOTAL + "loss", "the losses sum to"),
    ],
    "13.1": [
        (FLIP + "w.transpose(0, 1, 3, 2)", "dx"),
        (FLIP + "w[::-1].transpose(0, 1, 3, 2)", "dx"),
        (FLIP + "w[::-1, ::-1]", "core dimension"),
    ],
    "13.2": [
        (DW.replace("a : a + h", ":h"), "dw"),
        (DW.replace("nijo->bco", "nijo->boc"), "has shape (3, 3, 2, 3)"),
        (DW.replace("in range(3)])", "in range(3)]) / len(dy)"), "0.25 times what it should be"),
    ],
    "14.1": [
        (TOGETHER.replace("group.sum(", "sum("), "rank 0 is off by up to"),
        (TOGETHER.replace(" / count", " / len(dy)"), "rank 0 is off by up to"),
        (TOGETHER.replace("mean_dy - xhat", "dy.mean() - xhat").replace(" * inv", " @ inv"), "returns shape (6,)"),
    ],
    "14.2": [
        (RING.replace("parts[(rank - k - 1) % size] + swap", "swap"), "rank 0 is off by up to"),
        (RING.replace("range(size - 1)", "range(rank)"), "a rank waits for what nobody sends"),
        (
            "def exercise_2(vector, rank, size, swap):\n    return vector + swap(vector)",
            "a part of 8 among 4 ranks has 2",
        ),
    ],
}
QUICK = [name for name in WRONG if number_of(name) not in SLOW]  # the others: slow.py
FILES = {path.stem[:2]: path for path in tutorial.folder().glob("[0-9][0-9]_*.py")}


@functools.cache
def executed(number: str) -> dict:
    """The names of a tutorial that has run."""
    names: dict = {"__name__": "tutorial"}
    exec(compile(FILES[number].read_text(encoding="utf-8"), FILES[number].name, "exec"), names)
    return names


def judged(name: str, body: str, capsys) -> str:
    """What the tutorial's own judge of exercise `name` prints, with `body` in place of what is still open."""
    number = number_of(name)
    names = executed(number)  # the tutorial's own: a judge of the page finds the exercise there
    for each in ("exercise_1", "exercise_2"):
        exec(f"def {each}(*args):\n    raise NotImplementedError", names)
    exec("import numpy as np\n" + body, names)
    tree = ast.parse(FILES[number].read_text(encoding="utf-8"))
    calls = [node for node in tree.body if ast.unparse(node).startswith(f"tutorial.exercise('{name}'")]
    capsys.readouterr()
    exec(compile(ast.Module(calls, []), "judge", "exec"), names)
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def no_windows(monkeypatch):
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)


def check_solved(name: str, capsys) -> None:
    text = (tutorial.folder() / "solutions" / f"{number_of(name)}.py").read_text(encoding="utf-8")
    body = text.partition(f"# %% exercise {name.partition('.')[2]}")[2].partition("# %%")[0]
    assert judged(name, body.partition("\n")[2], capsys) == f"Exercise {name}: right.\n"


def check_wrong(name: str, case: int, capsys) -> None:
    body, said = WRONG[name][case]
    printed = judged(name, body, capsys)
    assert printed.startswith((f"Exercise {name}: wrong: ", f"Exercise {name}: stopped: "))
    assert said in printed, printed


@pytest.mark.parametrize("name", QUICK)
def test_solved(name, capsys):
    check_solved(name, capsys)


@pytest.mark.parametrize(("name", "case"), [(name, case) for name in QUICK for case in range(3)])
def test_done_wrong(name, case, capsys):
    check_wrong(name, case, capsys)


def suggestions(number: str) -> list[str]:
    """The code that a tutorial's last words propose to run next."""
    words = FILES[number].read_text(encoding="utf-8").rpartition("**What to change next:**")[2]
    spans = re.findall(r"`([^`]+)`", words.replace("\n# ", " "))
    return [span for span in spans if "(" in span or " = " in span]


def check_what_to_change_next(number: str) -> None:
    names = dict(executed(number))
    assert suggestions(number), "the last words propose no code"
    for code in suggestions(number):
        exec(compile(code, f"{number}: {code}", "exec"), names)


@pytest.mark.parametrize("number", sorted({number_of(name) for name in QUICK}))
def test_what_to_change_next_runs(number, capsys):
    check_what_to_change_next(number)


@pytest.mark.parametrize("number", sorted({number_of(name) for name in WRONG}))
def test_each_usual_wrong_guess_is_told_why(number, monkeypatch):
    path = tutorial.folder() / "solutions" / f"{number}.py"
    spec = importlib.util.spec_from_file_location("answers", path)
    answers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(answers)
    monkeypatch.setattr(tutorial, "_guesses", {})
    for question, answer in answers.ANSWERS.items():
        assert answer.wrong
        for guess, reason in answer.wrong.items():
            tutorial.guess(question, guess)
            said = tutorial.reveal(question, answer.law)
            assert reason in said and "right." not in said
