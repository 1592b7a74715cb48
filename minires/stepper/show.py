"""From the name of a lesson, or a network and a batch, to its page: as a file's text, or inside a notebook."""

from __future__ import annotations

import html

from minires.backend import Array
from minires.nn import Layer
from minires.stepper.document import Page, Track, to_html
from minires.stepper.generic import inner_tracks, tell_line
from minires.stepper.lessons import lesson
from minires.stepper.network import network_page
from minires.stepper.recorder import Recorder
from minires.stepper.story import Story, StoryError


def page(what: str | Layer, x: Array | None = None, labels: Array | None = None) -> str:
    """The text of an HTML file that steps through a lesson ("conv") or through a network on a small batch.

    x (N, ...), labels (N,) whole numbers: one training step without the update, layer by layer; each layer opens. The
    model stays as it is. Raises ValueError for a lesson that does not exist and for arrays too large to look at.
    """
    return to_html(page_data(what, x, labels))


def page_data(what: str | Layer, x: Array | None = None, labels: Array | None = None) -> Page:
    """The moves of a page, before they are written out; arguments and errors as for `page`."""
    if not isinstance(what, str):
        if x is None or labels is None:
            raise ValueError("x or labels is missing; expected page(model, x, labels)")
        return network_page(what, x, labels)
    try:
        return lesson_page(what)
    except StoryError as error:
        return line_by_line(what, str(error))


def lesson_page(name: str) -> Page:
    """The page of a lesson, told by its own tales. StoryError where the op's code is no longer what they tell."""
    told = lesson(name)
    recorder = Recorder(told.MODULES)
    recorder.run(told.run)
    story = Story(recorder.records, told.TALES)
    moves = story.moves()
    return Page(told.TITLE, told.ABOUT, recorder.records, [Track(told.TITLE, moves), *inner_tracks(story, moves)])


def line_by_line(name: str, why: str) -> Page:
    """The page of a lesson whose op somebody has rewritten: every line that makes an array, in the order they ran."""
    told = lesson(name)
    recorder = Recorder(told.MODULES)
    recorder.run(told.run)
    story = Story(recorder.records, {})
    moves = [move for record in recorder.records for move in tell_line(story, record)]
    about = f"The code is not the one this page was written for ({why}). So it is shown line by line, as it ran."
    return Page(told.TITLE, about, recorder.records, [Track(told.TITLE, moves)])


class Frame:
    """A page inside a notebook; displaying it is all it is for."""

    def __init__(self, text: str, height: int) -> None:
        self.text, self.height = text, height

    def _repr_html_(self) -> str:
        source = html.escape(self.text, quote=True)
        return (
            f'<iframe srcdoc="{source}" title="minires, step by step" allowfullscreen '
            f'style="width:100%;height:{self.height}px;border:0"></iframe>'
        )


def show(what: str | Layer, x: Array | None = None, labels: Array | None = None, *, height: int = 820) -> Frame:
    """The same page inside a notebook, `height` pixels high: the last line of a cell."""
    return Frame(page(what, x, labels), height)
