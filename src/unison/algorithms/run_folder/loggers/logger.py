"""The seam between a training run and the files that its metrics go to."""

from abc import ABC, abstractmethod

from unison.algorithms.run_folder.rows import Row


class MetricsLogger(ABC):
    """Writes the row of each iteration, and has it on the disk when `log` returns or soon after."""

    @abstractmethod
    def log(self, row: Row) -> None:
        """Write the row of one iteration."""

    @abstractmethod
    def close(self) -> None:
        """Flush and let go of the file; a second call does nothing."""
