"""Where the rows of a run are written to: a seam, and one filling for each kind of file."""

from unison.algorithms.run_folder.loggers.csv_table import CsvLogger
from unison.algorithms.run_folder.loggers.jsonl import JsonlLogger
from unison.algorithms.run_folder.loggers.logger import MetricsLogger
from unison.algorithms.run_folder.loggers.opening import check_loggers, open_loggers
from unison.algorithms.run_folder.loggers.tensorboard import TensorBoardLogger

__all__ = ["CsvLogger", "JsonlLogger", "MetricsLogger", "TensorBoardLogger", "check_loggers", "open_loggers"]
