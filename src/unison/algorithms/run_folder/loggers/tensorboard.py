"""Metrics as TensorBoard events (the extra `tensorboard`)."""

import time
from pathlib import Path
from typing import Any, final

from unison.algorithms.run_folder.extras import require
from unison.algorithms.run_folder.loggers.logger import MetricsLogger
from unison.algorithms.run_folder.rows import STEPS, Row, get_number

_PURPOSE = "Writing TensorBoard events"


@final
class TensorBoardLogger(MetricsLogger):
    """All numbers of an iteration as one event, at the number of environment steps so far.

    Args:
        folder: where the event files lie.
        last_step: the environment steps that the run goes on from; TensorBoard forgets later events.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    def __init__(self, folder: Path, last_step: int) -> None:
        writer = require("tensorboard.summary.writer.event_file_writer", "tensorboard", _PURPOSE)
        self._event: Any = require("tensorboard.compat.proto.event_pb2", "tensorboard", _PURPOSE)
        self._summary: Any = require("tensorboard.compat.proto.summary_pb2", "tensorboard", _PURPOSE)
        goes_on = folder.exists()
        self._writer: Any = writer.EventFileWriter(str(folder))
        if goes_on:
            start = self._event.SessionLog(status=self._event.SessionLog.START)
            self._writer.add_event(self._event.Event(wall_time=time.time(), step=last_step + 1, session_log=start))

    def log(self, row: Row) -> None:
        """See MetricsLogger.log."""
        numbers = {name: get_number(row, name) for name in row}
        values = [
            self._summary.Summary.Value(tag=name, simple_value=number)
            for name, number in numbers.items()
            if number is not None
        ]
        summary = self._summary.Summary(value=values)
        step = int(numbers.get(STEPS) or 0)
        self._writer.add_event(self._event.Event(wall_time=time.time(), step=step, summary=summary))

    def close(self) -> None:
        """See MetricsLogger.close."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
