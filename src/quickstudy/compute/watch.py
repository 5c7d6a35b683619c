"""Processes that look after each other: when one of them ends, all do."""

from __future__ import annotations

import itertools
import logging
import os
import threading
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from torch import distributed

from quickstudy.compute.ranks import LostContactError, barrier, rank, ranks

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
SILENT_TICKS = 40
"""A rank without a sign of life for this long counts as dead."""

GRACE_SECONDS = 10.0
"""Time for a rank to end by itself after another failed; it often fails in the same way."""

_ADVICE = "All processes end with it; a training run can be resumed from its last checkpoint."
_SILENT = (
    "Another process of this run ended and did not say why: it was killed, perhaps for want of "
    "memory, or its machine cannot be reached."
)
_numbers = itertools.count()


class Watch:
    """While it is entered, a rank that fails or dies takes the others with it, within a minute.

    A rank that fails writes the reason to the store of the process group, which the others read
    every second; a rank that is killed falls silent. Sums over ranks fail at once with gloo when a
    process is gone, but with nccl they wait, and only another thread can end a process there.

    Silence is counted in the listener's own ticks: a run that is paused as a whole, by Ctrl-Z or a
    sleeping laptop, continues. Every rank enters and leaves at the same points of its program. A
    single process watches nobody.

    Raises:
        LostContactError: on leaving, if another rank has ended; contains its error, if any.
    """

    def __init__(self) -> None:
        self.left = threading.Event()
        self.store: Store | None = None
        if ranks() > 1:
            store = distributed.distributed_c10d._get_default_store()
            name = f"quickstudy/{next(_numbers)}"
            self.store = distributed.PrefixStore(name, store)  # type: ignore[attr-defined]

    def __enter__(self) -> None:
        if self.store is not None:
            self.thread = threading.Thread(target=self._watch, args=(self.store,), daemon=True)
            self.thread.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.store is None:
            return
        try:
            if error is None:
                barrier()  # all are ready to leave
                self.left.set()
                barrier()  # nobody looks at the store any more, which ends with rank 0
        except LostContactError as lost:
            error = lost
        self.left.set()
        self.thread.join(5 * TICK_SECONDS)
        if isinstance(error, LostContactError):
            found = _posted(self.store) or _SILENT
            _post(self.store, found)
            raise LostContactError(f"{found} {_ADVICE}") from error
        if error is not None:
            said = f"Rank {rank()} failed: {type(error).__name__}: {error}"
            _post(self.store, said if said.endswith(".") else f"{said}.")

    def _watch(self, store: Store) -> None:
        others = range(1, ranks()) if rank() == 0 else [0]
        beats, silent = dict.fromkeys(others, -1), dict.fromkeys(others, 0)
        found = ""
        while not (found or self.left.wait(TICK_SECONDS)):
            try:
                store.add(f"beat/{rank()}", 1)
                for other in others:
                    beat = store.add(f"beat/{other}", 0)
                    silent[other] = 0 if beat != beats[other] else silent[other] + 1
                    beats[other] = beat
            except RuntimeError:
                found = "Rank 0 has ended, or its machine cannot be reached."
                break
            dead = [other for other in others if silent[other] >= SILENT_TICKS]
            if dead and not self.left.is_set():
                _post(store, f"Rank {dead[0]} gave no sign of life for {SILENT_TICKS} seconds.")
            found = _posted(store)
        if found and not self.left.wait(GRACE_SECONDS):
            Console(stderr=True).show_cursor()
            logger.error("%s %s", found, _ADVICE)
            os._exit(1)  # the main thread can hang in a sum


def _post(store: Store, failure: str) -> None:
    """Posts a failure to the other ranks, unless an earlier one is already posted."""
    if not _posted(store):
        try:
            store.set("failure", failure[:2000])
        except RuntimeError:
            return  # rank 0 has ended, and the store with it: the others see that


def _posted(store: Store) -> str:
    """The failure that a rank has posted; empty if there is none."""
    try:
        return store.get("failure").decode() if store.check(["failure"]) else ""
    except RuntimeError:
        return "Rank 0 has ended, or its machine cannot be reached."
