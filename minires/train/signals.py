"""Signals that ask a run to stop: it does so between two steps, once it has written a checkpoint."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

HANGUP = getattr(signal, "SIGHUP", None)
CAUGHT = tuple(number for number in (signal.SIGINT, signal.SIGTERM, HANGUP) if number is not None)
"""Ctrl-C, a polite end, and a terminal that was closed, which Windows does not have."""


@contextmanager
def caught_signals(active: bool) -> Iterator[list[int]]:
    """While active, the signals of `CAUGHT` are put into the list that is given; a second one acts as it always does.

    Only the main thread can do this; elsewhere, signals act as they always do.
    """
    caught: list[int] = []
    if not active or threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {number: signal.getsignal(number) for number in CAUGHT}
    if before.get(HANGUP) == signal.SIG_IGN:  # started by nohup: it is to outlive its terminal
        del before[HANGUP]

    def catch(number: int, frame: object) -> None:
        caught.append(number)
        signal.signal(number, before[number])

    try:
        for number in before:
            signal.signal(number, catch)
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
