"""Reports as HTML: whole, escaped, and the picture shows the entries that are wrong."""

from __future__ import annotations

from html import escape
from html.parser import HTMLParser

import numpy as np

from minires.cli import main
from minires.gradcheck import check_op
from minires.gradcheck.html import error_map, fragment, page
from minires.gradcheck.report import TensorReport


class Balanced(HTMLParser):
    """Fails where an end tag does not close the last open one."""

    def __init__(self, text):
        super().__init__()
        self.open = []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag != "rect":
            assert self.open.pop() == tag


def _report(wrong=0.0):
    def forward(x):
        return x**2, x

    def backward(dy, x):
        dx = 2 * x * dy
        dx[1, 2] *= 1 + wrong
        return dx

    return check_op(forward, backward, np.random.default_rng(0).standard_normal((3, 4)))


def test_a_wrong_entry_is_the_only_red_one():
    report = _report(wrong=0.5)
    text = report._repr_html_()
    Balanced(page("report", [text]))
    assert "dx: 1 of 12 entries are wrong" in text and escape(report.diagnosis) in text
    assert text.count('fill="#fff"') == 11 and "(1, 2): yours" in text


def test_a_right_report_has_no_picture():
    text = _report()._repr_html_()
    Balanced(text)
    assert "<svg" not in text and "pass" in text


def test_text_is_escaped():
    report = _report(wrong=0.5)
    report.diagnosis = report.title = "<script>alert(1)</script>"
    assert "<script>" not in fragment(report) and "<script>" not in page("<script>", [fragment(report)])


def test_maps_of_any_shape_stay_small():
    for shape in ((), (7,), (3, 4), (2, 3, 4, 5), (2, 2, 2, 2, 2), (64, 64, 3, 3), (5000,), (200, 300)):
        yours = np.ones(shape)
        if yours.size > 1:
            yours.flat[-1] = np.nan
        text = error_map(TensorReport("dx", shape, "fail", "", yours=yours, right=np.zeros(shape)))
        Balanced(text)
        assert f"{max(yours.size, 1)} of {yours.size} entries are wrong" in text
        assert text.count("<rect") <= 1500


def test_pages_of_a_planted_fault(tmp_path, capsys):
    assert main(["gradcheck", "--fault", "conv2d:dx-kernel-not-flipped", "--html", str(tmp_path / "f.html")]) == 1
    Balanced((tmp_path / "f.html").read_text())
