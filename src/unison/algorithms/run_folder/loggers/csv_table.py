"""Metrics as a table."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import final

from unison.algorithms.run_folder.loggers.logger import MetricsLogger
from unison.algorithms.run_folder.rows import Row, read_csv, replace_file, up_to


@final
class CsvLogger(MetricsLogger):
    """One row an iteration, one column a metric; a metric that first appears late gets its column then.

    Args:
        path: the file; made, or gone on with.
        last_iteration: later rows in the file are dropped: the run goes on from here.
    """

    def __init__(self, path: Path, last_iteration: int) -> None:
        self._path = path
        rows = up_to(read_csv(path), last_iteration) if path.exists() else []
        self._columns = dict.fromkeys(name for row in rows for name in row)
        self._rewrite(rows)

    def log(self, row: Row) -> None:
        """See MetricsLogger.log."""
        if not row.keys() <= self._columns.keys():
            self._file.close()
            self._columns |= dict.fromkeys(row)
            self._rewrite(read_csv(self._path))
        self._file.write(self._lines([row]))
        self._file.flush()

    def close(self) -> None:
        """See MetricsLogger.close."""
        self._file.close()

    def _rewrite(self, rows: list[Row]) -> None:
        header = self._lines([{name: name for name in self._columns}]) if self._columns else ""
        replace_file(self._path, header + self._lines(rows))
        self._file = self._path.open("a", newline="", encoding="utf-8")

    def _lines(self, rows: Iterable[Row]) -> str:
        text = io.StringIO()
        csv.DictWriter(text, list(self._columns), lineterminator="\n").writerows(rows)
        return text.getvalue()
