"""Reads YAML from untrusted sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from quickstudy.errors import InputError


def read_yaml(text: str, what: str) -> Any:
    """The content of a YAML text; nothing in it is run.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return yaml.safe_load(text)
    # Beside its own errors, the library lets through those of numbers, dates and booleans that
    # are none (ValueError, TypeError, AttributeError, KeyError, IndexError).
    except (
        yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, RecursionError,
    ) as error:  # fmt: skip
        raise InputError(f"{what} is not readable YAML: {error}") from error


def read_yaml_file(path: Path, what: str) -> Any:
    """The same for a file in UTF-8, with or without a byte-order mark."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{what} is not readable YAML: {error}") from error
    return read_yaml(text, what)
