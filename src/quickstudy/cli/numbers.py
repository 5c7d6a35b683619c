"""Numbers of examples as they are typed, such as 3,5-8."""

from __future__ import annotations

import re

from quickstudy.messages import UsageError

_MOST = 10**7


def numbers(typed: str) -> list[int]:
    """The numbers that are meant by ``3,5-8``: 3, 5, 6, 7 and 8.

    Raises:
        UsageError: when it is anything else.
    """
    found: list[int] = []
    for part in typed.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip(), re.ASCII)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last or last > _MOST:
            raise UsageError(
                f"--examples is {typed!r}; give numbers and ranges as `quickstudy inspect FILE "
                "--examples` lists them, such as 3,5-8."
            )
        found += range(first, last + 1)
    return found
