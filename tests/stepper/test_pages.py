"""Pages: complete, small, without a network; and a story that has lost its line says so."""

import re
from collections import Counter

import numpy as np
import pytest

from minires.stepper import LESSONS, page, page_data, show
from minires.stepper.document import extent_of, formula_html, plain_text, shown, to_html
from minires.stepper.lessons import lesson
from minires.stepper.recorder import Recorder
from minires.stepper.show import lesson_page
from minires.stepper.story import Panel, Story, StoryError, number
from minires.stepper.terminal import to_text
from tests.stepper.numbers import data_of

LARGEST = 1_500_000


@pytest.mark.parametrize("name", LESSONS)
def test_a_page_is_one_small_file_without_a_network(name):
    text = page(name)
    assert len(text.encode()) < LARGEST
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)""", text)
    assert "url(" not in text and "@import" not in text
    outside = {address for address in re.findall(r"https?://[^\s\"'<)]+", text) if "w3.org" not in address}
    assert not outside
    assert "default-src 'none'" in text


@pytest.mark.parametrize("name", LESSONS)
def test_forward_comes_first_then_the_way_back(name):
    data = data_of(to_html(lesson_page(name)))
    parts = [step["part"] for step in data["tracks"][0]["steps"]]
    if name == "sgd":
        assert [part for part, _ in sorted(Counter(parts).items())] == ["step 1", "step 2", "step 3", "step 4"]
    else:
        assert parts == sorted(parts, key=["forward", "backward"].index)
        assert set(parts) == {"forward", "backward"}


@pytest.mark.parametrize("name", LESSONS)
def test_every_step_has_a_picture_marks_and_a_true_line(name):
    data = data_of(to_html(lesson_page(name)))
    for track in data["tracks"]:
        for step in track["steps"]:
            line = data["lines"][step["line"]]
            function = data["functions"][line["function"]]
            assert function["first"] <= line["first"] <= line["last"] < function["first"] + len(function["lines"])
            panels = {panel["key"]: panel for group in step["groups"] for panel in group}
            assert len(panels) == sum(map(len, step["groups"]))  # no two with one key
            for arrow in step["arrows"]:
                assert {arrow["start"], arrow["end"]} <= set(panels)
            for panel in panels.values():
                rows, columns = data["planes"][panel["plane"]]["of"]
                for r, c, h, w in panel["read"] + panel["write"]:
                    assert r >= 0 and r + h <= rows and c >= 0 and c + w <= columns
            assert step["title"] and panels
            assert "{{" not in step["text"] + step["title"] + step["formula"]


@pytest.mark.parametrize("name", LESSONS)
def test_text_walks_through_the_same_moves(name):
    told = lesson_page(name)
    texts = list(to_text(told))
    assert len(texts) == len(told.tracks[0].moves)
    assert texts[0].startswith(f"[1/{len(texts)}]")
    assert all("{{" not in text for text in texts)
    assert any("[" in text and "<" in text for text in texts)


@pytest.mark.parametrize("name", LESSONS)
def test_another_line_is_told_in_other_words(name):
    """Two lines that write the same variable are two moves, and each says what its own line does."""
    told = lesson_page(name)
    for track in told.tracks:
        for before, move in zip(track.moves, track.moves[1:], strict=False):
            same_line = before.record.statement == move.record.statement
            assert same_line or plain_text(before.text, told.records) != plain_text(move.text, told.records), move.title


def test_a_line_that_is_gone_is_an_error():
    told = lesson("relu")
    recorder = Recorder(told.MODULES)
    recorder.run(told.run)
    tales = told.TALES | {("relu_forward", "mask"): told.gate}
    with pytest.raises(StoryError, match="relu_forward one that writes mask"):
        Story(recorder.records, tales).moves()


def test_a_variable_that_is_gone_is_an_error():
    told = lesson("relu")
    recorder = Recorder(told.MODULES)
    recorder.run(told.run)
    record = recorder.records[-1]
    with pytest.raises(StoryError, match="no variable 'gone'"):
        Panel(record, "gone").array()
    with pytest.raises(StoryError, match="no variable 'gone'"):
        number(record, "gone", 0, 0)
    with pytest.raises(StoryError, match="expected indices within the shape"):
        number(record, "dy", 0)


def test_numbers_as_they_are_printed():
    cases = {3.0: "3", -2.0: "−2", -0.0: "0", 0.12345: "0.123", -1e-5: "−1e−05", 12345.0: "12345", 1234.5: "1.23e+03"}
    assert {value: shown(value) for value in cases} == cases
    assert (shown(np.nan), shown(-np.inf), shown(np.bool_(True))) == ("NaN", "−∞", "1")


def test_a_part_of_an_array_says_which_part_it_is():
    told = lesson("relu")
    recorder = Recorder(told.MODULES)
    recorder.run(told.run)
    record = recorder.records[-1]
    cases = {(2, 3): "2×3", (1, 1, 2, 3): "1×1×2×3", (4, 1, 2, 3): "4×1×2×3, here [0, 0, :, :]", (): "", (6, 1): "6×1"}
    for shape, expected in cases.items():
        record.after["array"] = np.zeros(shape)
        assert extent_of(Panel(record, "array")) == expected


def test_formulas_are_set():
    assert formula_html("y_{o,k} = Σ_t x^2 < 1") == "y<sub>o,k</sub> = Σ<sub>t</sub> x<sup>2</sup> &lt; 1"


def test_a_notebook_shows_the_page_in_a_frame():
    frame = show("relu", height=500)._repr_html_()
    assert frame.startswith("<iframe srcdoc=")
    assert "height:500px" in frame
    assert "<script" not in frame  # all of the page is escaped inside the attribute


def test_a_lesson_that_does_not_exist():
    with pytest.raises(ValueError, match="no lesson 'pool'; there are conv"):
        page("pool")


def test_an_op_that_somebody_rewrote_is_shown_line_by_line(monkeypatch):
    told = lesson("relu")
    monkeypatch.setattr(told, "TALES", told.TALES | {("relu_forward", "mask"): told.gate})
    with pytest.raises(StoryError):
        lesson_page("relu")
    plain = page_data("relu")
    assert "line by line" in plain.about and "mask" in plain.about
    titles = [move.title for move in plain.tracks[0].moves]
    assert any("relu_forward: y = " in title for title in titles)
    assert any("relu_backward: return" in title for title in titles)
