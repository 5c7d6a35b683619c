"""Ctrl-C and SIGTERM as a request to stop at the next good moment."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_STDERR = 2


class StopRequest:
    """Whether this process was asked to stop."""

    made = False


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turns the first SIGINT or SIGTERM into a request; a second one interrupts at once.

    Outside the main thread, where Python allows no handlers, signals do what they did before.
    """
    request = StopRequest()

    def ask(number: int, frame: FrameType | None) -> None:
        if request.made:
            raise KeyboardInterrupt
        request.made = True
        # Not with print: a signal can arrive while something is being printed.
        with suppress(OSError):
            os.write(_STDERR, b"Stopping after this step; once more stops at once.\n")

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    watched = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, ask) for number in watched]
    try:
        yield request
    finally:
        for number, handler in zip(watched, previous, strict=True):
            signal.signal(number, handler)
