"""Shows the library's log on standard error."""

from __future__ import annotations

import logging
import sys


class _OnStandardError(logging.Handler):
    """Prints messages as they are, on the standard error of the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


_HANDLER = _OnStandardError()


def show_log() -> None:
    """Lets a command show what the library logs from INFO on."""
    logger = logging.getLogger("quickstudy")
    logger.setLevel(logging.INFO)
    logger.addHandler(_HANDLER)  # a second time changes nothing
