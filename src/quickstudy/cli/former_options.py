"""Options under their former names: accepted, with a line on standard error."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from quickstudy.deprecated import FORMER_SETTINGS

FORMER_OPTIONS: Mapping[str, str] = {f"--{a}": f"--{b}" for a, b in FORMER_SETTINGS.items()}


def with_present_options(words: Sequence[str]) -> list[str]:
    """The words of a command, former names of options replaced by the present ones."""
    found = []
    for word in words:
        option, equals, value = word.partition("=")
        if present := FORMER_OPTIONS.get(option):
            print(
                f"quickstudy: {option} is now {present}; the old name works until version 1.0.",
                file=sys.stderr,
            )
        found.append(f"{present or option}{equals}{value}")
    return found
