"""Starting the processes of a run."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal

from lightning_fabric import Fabric

from quickstudy.compute.ranks import check_started
from quickstudy.errors import InputError

_PARENT = "QUICKSTUDY_PARENT"


def launch(
    accelerator: str,
    devices: int,
    nodes: int,
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
) -> Fabric:
    """Starts the processes that are asked for, as far as they do not run already.

    The others run the same command, and get here on their own.

    Args:
        accelerator: "cpu", "cuda" or another that Lightning Fabric knows, or "auto".
        devices: processes on this machine.
        nodes: machines.
        precision: of autocast.

    Raises:
        ValueError: when this machine does not have what they name, or another number of processes
            was started already.
    """
    asked = devices * nodes
    check_started(asked)
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy="ddp" if asked > 1 else "auto",
            precision=precision,
        )
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"{devices} devices of accelerator {accelerator!r} cannot be had here: {error}"
        ) from error
    with _ending_with_parent() if asked > 1 else nullcontext():
        fabric.launch()
    return fabric


@contextmanager
def _ending_with_parent() -> Iterator[None]:
    """While processes look for each other: one whose parent died would look for half an hour."""
    parent, found = os.getppid(), threading.Event()
    started_here = os.environ.get(_PARENT) == str(parent)
    os.environ[_PARENT] = str(os.getpid())  # for processes that this one starts

    def watch() -> None:
        while not found.wait(1):
            if os.getppid() != parent:
                os._exit(1)

    if started_here:
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        found.set()
