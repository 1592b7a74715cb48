"""Every number on every step of every page is the op's own value at that line, as a second tracer sees it."""

import pytest

from minires.stepper import LESSONS
from minires.stepper.document import to_html
from minires.stepper.lessons import lesson
from minires.stepper.show import lesson_page
from tests.stepper.numbers import Judge, claims, data_of


@pytest.mark.parametrize("name", LESSONS)
def test_every_number_is_the_ops_own(name):
    page = lesson_page(name)
    data = data_of(to_html(page))
    judge = Judge(data, page.records, lesson(name).run)
    steps = [step for track in data["tracks"] for step in track["steps"]]
    checked = {claim: printed for step in steps for claim, printed in claims(data, step)}
    wrong = [(claim, printed) for claim, printed in checked.items() if not judge.is_true(claim, printed)]
    assert not wrong
    assert len(checked) > 80
    for step in steps:  # a step that shows no number at all would pass for nothing
        assert any(True for _ in claims(data, step))


def test_a_wrong_number_is_found():
    page = lesson_page("relu")
    data = data_of(to_html(page))
    judge = Judge(data, page.records, lesson("relu").run)
    claim, printed = next(c for c in claims(data, data["tracks"][0]["steps"][0]) if c[1] == "1.5")
    assert judge.is_true(claim, printed)
    assert not judge.is_true(claim, "1.51")
    assert not judge.is_true(claim, "−1.5")
