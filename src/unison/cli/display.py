"""The seam between a training run and the person who watches it."""

from abc import ABC, abstractmethod
from types import TracebackType

from unison.algorithms.run_folder import Progress


class Display(ABC):
    """Shows the progress of a run; used as a context manager around it."""

    def __enter__(self) -> "Display":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def show(self, progress: Progress) -> None:
        """Show where the run stands; called after every iteration, so it must cost next to nothing."""

    @abstractmethod
    def announce_stop(self) -> None:
        """Say that the run was asked to stop and will do so; called from a signal handler."""

    @abstractmethod
    def close(self) -> None:
        """Leave the last state on the screen."""
