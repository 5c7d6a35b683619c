"""A run's metrics as TensorBoard's events."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

from quickstudy.runs.history import Row
from quickstudy.saving.files import explained


class Events:
    """A file of events, written at once, so that none is lost when the process is killed.

    TensorBoard's own writer keeps them for up to two minutes, and its thread dies of a full disk.

    Args:
        folder: where TensorBoard looks for them.
        step: what earlier files there say of later steps no longer holds.

    Raises:
        UnwritableError: when nothing can be written there.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import (  # type: ignore[import-untyped]
            Event,
            SessionLog,
        )
        from tensorboard.summary.writer.record_writer import (  # type: ignore[import-untyped]
            RecordWriter,
        )

        moment = f"{time.time_ns() / 1e9:.6f}"
        self.path = folder / f"events.out.tfevents.{moment}.{platform.node()}.{os.getpid()}"
        with explained(self.path):
            self.file = self.path.open("xb", buffering=0)
        self.records = RecordWriter(self.file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        begun = SessionLog(status=SessionLog.START)
        self._write(Event(wall_time=time.time(), step=step + 1, session_log=begun))

    def add(self, row: Row) -> None:
        """Adds the values of a row of metrics."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import (  # type: ignore[import-untyped]
            Summary,
        )

        values = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in row.items()
            if value is not None and name != "step"
        ]
        step = int(row["step"] or 0)
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def close(self) -> None:
        """Closes the file."""
        self.file.close()

    def _write(self, event: Any) -> None:
        with explained(self.path):
            self.records.write(event.SerializeToString())
