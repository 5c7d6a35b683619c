"""How to make the strategies of this family."""

from .case import Case

CASES: dict[str, dict[str, Case]] = {}
