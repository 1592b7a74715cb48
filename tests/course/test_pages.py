"""The page of a class: what an instructor sees of faults and copies."""

import re

from minires.course import isolation, load
from minires.course.building import solution_text
from minires.course.classroom import find, grade_class
from minires.course.grading import PartReport, SubmissionReport
from minires.course.pages import class_page

LINEAR = load("linear_softmax")
TRUST = {"trust": True} if isolation.available() == ("none",) else {}


def test_the_class_page_counts_students_not_sentences(tmp_path):
    """The same mistake is one line, however many entries it made wrong for each of them."""
    backward = "def linear_backward(dy, cache):\n    dx, dweight, dbias = right(dy, cache)\n"
    backward = f"\n\nright = linear_backward\n\n\n{backward}    return np.abs(dx), dweight, dbias\n"
    for name in ("ada", "bob"):
        (tmp_path / "class" / name).mkdir(parents=True)
        file = tmp_path / "class" / name / "linear_softmax.py"
        file.write_text(solution_text(LINEAR) + backward)
    for level, said in (("where", "dx is wrong"), ("fault", "dx is the absolute value")):
        grade_class(LINEAR, find([tmp_path / "class"]), tmp_path / "out", level=level, **TRUST)
        page = (tmp_path / "out" / "class.html").read_text()
        faults = page.partition("What went wrong")[2].partition("Nearly identical")[0]
        assert faults.count("<tr>") == 1 and f'<td class="n">2</td><td>linear_backward: {said}' in faults, faults


def test_the_class_page_lists_a_group_of_copies_once():
    pairs = [(1.0, "eve", "dan"), (0.97, "bob", "ada"), (0.968, "ada", "cleo"), (0.88, "bob", "cleo")]
    report = SubmissionReport("a", "A", "ada", "none", [PartReport("part", 1, [])])
    page = class_page([report], pairs).partition("Nearly identical")[2].partition("Everybody")[0]
    assert re.findall(r"<td.*?>(.*?)</td>", page) == ["100%", "dan, eve", "97%", "ada, bob, cleo", "88%", "bob, cleo"]
