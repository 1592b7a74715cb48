"""What runs in the playground, here without a browser: what a reader is told of their program."""

import base64
import subprocess
import sys

import matplotlib.pyplot as plt
import pytest

from minires.gradcheck import check_file
from minires.site import playground
from minires.site.build import examples
from minires.site.playground import MOST_PRINTED, Session

AFFINE = """
def affine_forward(x, weight, bias):
    return x @ weight.T + bias, (x, weight)


def affine_backward(dy, cache):
    x, weight = cache
    return dy @ weight, dy.T @ x, dy.{how}(axis=0)
"""


def heard(source, op=None, session=None, **options):
    """The messages of a run, or of a check. It would show figures that other tests of this process left open."""
    plt.close("all")
    messages = []
    session = session or Session(messages.append)
    session.send = messages.append
    if op:
        session.check(source, op)
    else:
        session.run(source, **options)
    assert messages[-1]["event"] == "done" and sum(m["event"] == "done" for m in messages) == 1
    return messages


def only(messages, event):
    found = [m for m in messages if m["event"] == event]
    assert len(found) == 1, messages
    return found[0]


def test_what_is_printed_comes_in_order_and_a_last_expression_is_shown():
    messages = heard("import sys\nprint('one')\nprint('two', file=sys.stderr)\n1 + 1")
    assert [(m["to"], m["text"]) for m in messages[:-1]] == [
        ("stdout", "one\n"),
        ("stderr", "two\n"),
        ("stdout", "2\n"),
    ]


def test_a_loop_that_prints_for_ever_does_not_fill_the_page():
    messages = heard(f"for i in range({MOST_PRINTED}): print('x' * 50)")
    assert sum(len(m["text"]) for m in messages if m["event"] == "text") < MOST_PRINTED + 100
    assert "the rest is not shown" in messages[-2]["text"]


def test_an_error_shows_the_readers_lines_and_no_others():
    source = "import numpy as np\n\n\ndef solve(a):\n    return np.linalg.inv(a)\n\n\nsolve(np.zeros((2, 3)))\n"
    error = only(heard(source), "error")
    assert 'File "your code", line 8' in error["text"] and 'File "your code", line 5, in solve' in error["text"]
    assert "return np.linalg.inv(a)" in error["text"] and "LinAlgError" in error["text"].splitlines()[-1]
    assert error["text"].count("File ") == 2 and error["line"] == 5


@pytest.mark.parametrize("source", ["def f(:\n    pass", "x = 1\n  y = 2", "print('a'\n", "\0"])
def test_what_is_no_python_is_an_error_with_its_line(source):
    error = only(heard(source), "error")
    assert "SyntaxError" in error["text"] or "IndentationError" in error["text"]
    assert "playground.py" not in error["text"]


@pytest.mark.parametrize(
    ("source", "stopped"), [("raise KeyboardInterrupt", True), ("raise SystemExit(3)", False), ("exit()", False)]
)
def test_the_end_of_a_program_is_no_error(source, stopped):
    messages = heard("import sys\nfrom sys import exit\n" + source)
    assert messages[-1]["stopped"] is stopped and not any(m["event"] == "error" for m in messages)


def test_a_page_keeps_its_names_from_cell_to_cell_and_a_program_starts_afresh():
    session = Session(print)
    heard("x = 7", session=session)
    assert heard("x", session=session, fresh=False)[0]["text"] == "7\n"
    assert "NameError" in only(heard("x", session=session), "error")["text"]


def test_a_right_backward_passes_and_a_wrong_one_gets_the_sentence_of_the_command_line(tmp_path):
    assert only(heard(AFFINE.format(how="sum"), "linear"), "verdict")["verdict"] == "pass"
    verdict = only(heard(AFFINE.format(how="mean"), "linear"), "verdict")
    file = tmp_path / "student.py"
    file.write_text(AFFINE.format(how="mean"))
    native = check_file(file, "linear")
    assert (verdict["verdict"], verdict["sentence"]) == ("fail", native.diagnosis)
    assert native.diagnosis.startswith("linear:dbias-mean")


def test_a_check_tells_how_far_it_is():
    told = [m for m in heard(AFFINE.format(how="sum"), "linear") if m["event"] == "progress"]
    assert [m["done"] for m in told] == list(range(told[0]["of"]))


def test_an_exception_in_a_checked_function_names_its_line():
    verdict = only(heard(AFFINE.format(how="wrong"), "linear"), "verdict")
    assert "no attribute 'wrong'" in verdict["sentence"] and verdict["line"] == 8


def test_functions_that_are_not_there_are_asked_for():
    assert "linear_forward" in only(heard("x = 1", "linear"), "error")["text"]


RIGHT = {"tanh", "global_avg_pool2d"}


@pytest.mark.parametrize("example", [e for e in examples() if e["kind"] == "check"], ids=lambda e: e["op"])
def test_every_example_of_a_check_is_judged_and_every_mistake_named(example):
    verdict = only(heard(example["source"], example["op"]), "verdict")
    if example["op"] in RIGHT:
        assert verdict["verdict"] == "pass"
    else:
        assert verdict["verdict"] == "fail" and verdict["sentence"].startswith(f"{example['op']}:")


QUICK = {"run-step", "run-step-network", "run-fault"}


@pytest.mark.parametrize("name", sorted(QUICK))
def test_the_quick_experiments_run(name):
    """The others take longer; `browser.py` runs them."""
    (example,) = (e for e in examples() if e["name"] == name)
    messages = heard(example["source"])
    assert {m["event"] for m in messages} <= {"html", "text", "done"} and len(messages) > 1
    assert not [m for m in messages if m.get("to") == "stderr"]


FIGURES = """
import json, sys
from minires.site.playground import Session
messages = []
Session(messages.append).run(sys.stdin.read())
print(json.dumps(messages))
"""


def figures_of(source):
    """The figures of a program, run in a process of its own: a matplotlib that is loaded keeps its backend."""
    import json
    import os

    environment = {**os.environ, "MPLBACKEND": "module://minires.site.figures", "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", FIGURES]
    done = subprocess.run(command, input=source, env=environment, capture_output=True, text=True, check=True)
    messages = json.loads(done.stdout)
    assert not [m for m in messages if m["event"] == "error"], messages
    return [m for m in messages if m["event"] == "figure"]


def test_figures_are_shown_at_the_end_and_one_that_is_paused_keeps_its_number():
    source = (
        "import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nax.set_title('a curve')\n"
        "ax.plot([1, 2])\nplt.pause(0.1)\nax.plot([2, 1])\nplt.pause(0.1)\nother = plt.figure()\n"
    )
    found = figures_of(source)
    assert [f["number"] for f in found][-2:] == [1, 2] and [f["number"] for f in found].count(1) >= 2
    assert found[0]["text"] == "a curve" and base64.b64decode(found[0]["png"]).startswith(b"\x89PNG")


def test_the_file_of_a_readers_program_is_not_on_the_disk():
    assert "/" not in playground.FILE
