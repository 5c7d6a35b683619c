"""Whether a run that is resumed is the one that was started."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quickstudy.episodes.defaults import DEFAULT_QUERIES
from quickstudy.errors import InputError
from quickstudy.runs.checkpoint import Checkpoint
from quickstudy.saving.description import differences

MAY_CHANGE_ON_RESUME = {
    "steps", "max_minutes", "patience", "accelerator", "devices", "nodes",
    "tasks_at_once", "show_progress",
}  # fmt: skip


def check_same_run(saved: Checkpoint, now: Checkpoint, path: Path) -> None:
    """Refuses to resume the run in ``path`` with another strategy, other settings or data."""
    other = differences(saved.strategy, now.strategy)
    if other:
        raise InputError(
            f"{path} holds a run of another strategy. There and here differ: {'; '.join(other)}."
        )
    settings = json.loads(json.dumps(now.settings))  # as the file holds them
    changed = differences(
        _fixed_settings(saved.settings),
        _fixed_settings(settings),
    )
    changed += differences(saved.inputs, now.inputs, "inputs")
    if changed:
        raise InputError(
            f"The run in {path} was started with other settings: {'; '.join(changed)}. A resumed "
            f"run may only change {', '.join(sorted(MAY_CHANGE_ON_RESUME))}."
        )
    _check_same_parameters(saved, now, path)
    for part in ("train", "validation"):
        there, here = saved.classes.get(part, []), now.classes.get(part, [])
        if there != here:
            first = f", such as {here[0]!r}" if here else ""
            raise InputError(
                f"The run in {path} was started with other {part} classes: {len(there)} there"
                f"{f', such as {there[0]!r}' if there else ''}, and {len(here)} here{first}. Use "
                "the data and split that it was started with, or another folder."
            )
        _check_same_data(saved.data.get(part), now.data.get(part), part, path)


def _check_same_parameters(saved: Checkpoint, now: Checkpoint, path: Path) -> None:
    """Refuses parameters of other types, and other frozen parameters."""
    there, here = (
        {n: str(each.dtype) for n, each in some.model.items() if n in saved.model}
        for some in (saved, now)
    )
    if changed := differences(there, here):
        raise InputError(
            f"The run in {path} was started with parameters of other types: {changed[0]} "
            f"({len(changed)} such)."
        )
    if saved.frozen is None or now.frozen is None:  # a file of an older version
        return
    if other := set(saved.frozen) ^ set(now.frozen):
        name = min(other)
        was, is_ = ("frozen", "learned") if name in saved.frozen else ("learned", "frozen")
        raise InputError(
            f"The run in {path} was started with other parameters frozen: {name!r} was {was} there "
            f"and is {is_} here ({len(other)} such). Freeze the same layers "
            "(requires_grad_(False)), or train in another folder."
        )


def _check_same_data(
    there: dict[str, Any] | None, here: dict[str, Any] | None, part: str, path: Path
) -> None:
    """Refuses other examples under the same class names, or another source of tasks."""
    if there is None or here is None or not (changed := differences(there, here)):
        return  # files of older versions record nothing about them
    called = {"train": "training"}.get(part, part)
    if "content" not in there or "content" not in here:
        raise InputError(
            f"The run in {path} was started with another source of {called} tasks. There and here "
            f"differ: {'; '.join(changed)}. Use the source that it was started with, or another "
            "folder."
        )
    what = "other examples"
    if there["examples"] != here["examples"]:
        what = f"{there['examples']} examples there and {here['examples']} here"
    elif there["sizes of classes"] != here["sizes of classes"]:
        what = "other numbers of examples per class"
    elif there["shape"] != here["shape"] or there["type"] != here["type"]:
        what = (
            f"examples {there['shape']} of {there['type']}, not {here['shape']} of {here['type']}"
        )
    raise InputError(
        f"The run in {path} was started with other {called} data: the classes have the same names, "
        f"but not the same content ({what}). Use the data that it was started with, or another "
        "folder."
    )


def _fixed_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a resumed run must not change, whichever version wrote them."""
    fixed = {k: v for k, v in settings.items() if k not in MAY_CHANGE_ON_RESUME}
    if fixed.get("validation_queries") is None:  # older versions wrote the number
        fixed["validation_queries"] = DEFAULT_QUERIES
    return {"optimizer_options": {}} | fixed
