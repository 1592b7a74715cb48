"""What a refusal must say: which argument, what it was, and what was expected."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def refused(error: type[Exception], argument: str, was: str) -> Iterator[None]:
    """The block must raise `error`, naming `argument`, showing what it `was`, and saying what was expected."""
    with pytest.raises(error) as caught:
        yield
    text = str(caught.value)
    assert re.search(rf"\b{re.escape(argument)}\b", text), f"the argument {argument!r} is not named: {text}"
    assert was in text, f"it does not say that {argument} was {was}: {text}"
    assert re.search(r"expected|must|needs?\b", text), f"it does not say what was expected: {text}"
