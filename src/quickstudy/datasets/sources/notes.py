"""Notes in the cache folder: what took long to find out about data, kept for the next time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from quickstudy.datasets.decoded.cache_folder import cache_folder, writable_cache_folder
from quickstudy.saving.files import write_text_atomically

FORMAT_VERSION = 2


def remembered(about: Mapping[str, Any], find_out: Callable[[], Any]) -> Any:
    """The result of ``find_out``, from an earlier note if there is a valid one.

    Args:
        about: JSON-ready value that determines the result; a note about another value is ignored.
        find_out: computes the JSON-ready result.
    """
    key = _digest({"format": FORMAT_VERSION, "about": about})
    name = f"note-{key}.json"
    # There may be none, or a damaged one.
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        note = json.loads((cache_folder() / name).read_text(encoding="utf-8"))
        if note["digest"] == _digest([key, note["value"]]):
            return note["value"]
    value = find_out()
    note = {"digest": _digest([key, value]), "value": value}
    write_text_atomically(writable_cache_folder() / name, json.dumps(note))
    return value


def _digest(value: Any) -> str:
    content = json.dumps(value, sort_keys=True).encode()
    return hashlib.blake2b(content, digest_size=10).hexdigest()
