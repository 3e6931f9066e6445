"""The seam of collective operations: what the workers of a group do together, without their driver."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch

from unison.errors import LearnerGroupError
from unison.learner.shared_buffers import SharedBuffers


class CollectiveError(LearnerGroupError):
    """A collective operation failed; the collective is usable again after `join()` with a new epoch."""


class CollectiveAborted(CollectiveError):
    """Another rank failed, so the ranks that waited for it gave up."""


class CollectiveTimeout(CollectiveAborted):
    """A rank did not come within the deadline; names it."""


class Collective(ABC):
    """One rank's part. All ranks call the same operations in the same order, or an error says who did not.

    Every result is bit-identical on all ranks. An epoch is a stretch without failures: after a failure, and
    before the next operation, all ranks (new ones included) join a new and higher epoch.
    """

    rank: int
    world_size: int
    shared_buffers: SharedBuffers | None = None
    """Through which code that is not Python may take part in `all_reduce_`, if the ranks share memory."""

    @abstractmethod
    def join(self, epoch: int) -> None:
        """Take part in `epoch` from now on; does not wait for the others."""

    @abstractmethod
    def abort(self) -> None:
        """Make the other ranks of this epoch give up waiting: they raise `CollectiveAborted`."""

    @property
    @abstractmethod
    def aborted(self) -> bool:
        """Whether some rank, or the driver, has aborted this epoch."""

    @abstractmethod
    def all_reduce_(self, tensor: torch.Tensor) -> torch.Tensor:
        """Replace a contiguous tensor by its sum over all ranks, added in one and the same order; returns it."""

    @abstractmethod
    def broadcast_(self, tensor: torch.Tensor, source: int = 0) -> torch.Tensor:
        """Replace a contiguous tensor by that of rank `source`; returns it."""

    @abstractmethod
    def all_gather(self, values: Sequence[float]) -> torch.Tensor:
        """A few numbers of every rank, as float64 [R, len(values)]."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait until all ranks are here."""

    @abstractmethod
    def close(self) -> None:
        """Free what this rank holds."""


Joiner: TypeAlias = Callable[[int, Sequence[int]], Collective]
"""Makes one rank's Collective from its rank and from the descriptors of its Meeting; can be pickled."""


class Meeting(ABC):
    """The driver's part: where the ranks meet."""

    descriptors: Sequence[int]
    """Files that every rank must be given; they travel beside the joiner, in this order."""

    @abstractmethod
    def joiner(self) -> Joiner:
        """What each worker makes its Collective with."""

    @abstractmethod
    def abort(self, epoch: int) -> None:
        """Make all ranks that wait in `epoch`, or in an earlier one, raise `CollectiveAborted` at once."""

    @abstractmethod
    def close(self) -> None:
        """Free what the driver holds."""
