"""Metrics as JSON lines."""

import json
from pathlib import Path
from typing import final

from unison.algorithms.run_folder.loggers.logger import MetricsLogger
from unison.algorithms.run_folder.rows import Row, read_jsonl, replace_file, up_to


@final
class JsonlLogger(MetricsLogger):
    """One JSON object a line; numbers that are not finite are null.

    Args:
        path: the file; made, or gone on with.
        last_iteration: later rows in the file are dropped: the run goes on from here.
    """

    def __init__(self, path: Path, last_iteration: int) -> None:
        if path.exists():
            replace_file(path, "".join(f"{json.dumps(row)}\n" for row in up_to(read_jsonl(path), last_iteration)))
        self._file = path.open("a", encoding="utf-8")

    def log(self, row: Row) -> None:
        """See MetricsLogger.log."""
        self._file.write(json.dumps(row, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """See MetricsLogger.close."""
        self._file.close()
