"""From the setting `loggers` to the loggers."""

from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path

from unison.algorithms.run_folder.extras import require
from unison.algorithms.run_folder.loggers.csv_table import CsvLogger
from unison.algorithms.run_folder.loggers.jsonl import JsonlLogger
from unison.algorithms.run_folder.loggers.logger import MetricsLogger
from unison.algorithms.run_folder.loggers.tensorboard import TensorBoardLogger


def check_loggers(names: Collection[str]) -> None:
    """Raise unless the packages that these loggers need are installed.

    Raises:
        MissingExtraError: one is not; names the extra.
    """
    if "tensorboard" in names:
        require("tensorboard", "tensorboard", "Writing TensorBoard events")


def open_loggers(
    folder: Path, names: Collection[str], *, last_iteration: int = 0, last_step: int = 0
) -> list[MetricsLogger]:
    """The loggers of a run.

    Args:
        folder: the run's.
        names: those of the setting `loggers`: jsonl, csv, tensorboard.
        last_iteration: the iteration that the run goes on from; what the files hold beyond it is dropped.
        last_step: the environment steps at that point.

    Raises:
        MissingExtraError: a package is not installed; then no file is left open.
    """
    with ExitStack() as opened:
        loggers: list[MetricsLogger] = []
        for name in names:
            if name == "jsonl":
                loggers.append(JsonlLogger(folder / "metrics.jsonl", last_iteration))
            elif name == "csv":
                loggers.append(CsvLogger(folder / "metrics.csv", last_iteration))
            else:
                loggers.append(TensorBoardLogger(folder / "tensorboard", last_step))
            opened.callback(loggers[-1].close)
        opened.pop_all()
        return loggers
