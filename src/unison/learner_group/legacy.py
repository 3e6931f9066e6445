"""The seam of legacies: what a worker leaves, while it lives, to the one that may have to take its place."""

from abc import ABC, abstractmethod
from typing import Any


class Legacy(ABC):
    """Outlives its worker, however that ends. A few values are kept: a failed update may have to be gone back on."""

    @abstractmethod
    def leave(self, value: Any) -> None:
        """Leave a value in place of the oldest one; a worker that ends on the way has left nothing."""

    @abstractmethod
    def find(self) -> list[Any]:
        """What was left by this worker, or by those of its rank before it; the newest first."""
