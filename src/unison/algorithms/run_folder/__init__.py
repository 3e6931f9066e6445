"""The folder of a training run, and the run that fills it."""

from unison.algorithms.run_folder.folder import RunFolder, find_checkpoint
from unison.algorithms.run_folder.progress import Progress
from unison.algorithms.run_folder.stopping import Outcome, StopConditions, StopReason
from unison.algorithms.run_folder.training_run import TrainingRun, iterations_for

__all__ = [
    "Outcome",
    "Progress",
    "RunFolder",
    "StopConditions",
    "StopReason",
    "TrainingRun",
    "find_checkpoint",
    "iterations_for",
]
