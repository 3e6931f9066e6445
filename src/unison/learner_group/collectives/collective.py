"""The seam of collectives: the sums that the workers of a group make together, without their driver."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch

from unison.errors import LearnerGroupError
from unison.learner.shared_buffers import SharedBuffers


class CollectiveError(LearnerGroupError):
    """A sum failed; the collective is usable again after `join()` with a new epoch."""


class CollectiveAborted(CollectiveError):
    """Another rank failed, so the ranks that waited for it gave up."""


class CollectiveTimeout(CollectiveAborted):
    """A rank did not come within the deadline; names it."""


class Collective(ABC):
    """One rank's part. All ranks ask for the same sums in the same order, or an error says who did not.

    Every sum is bit-identical on all ranks. An epoch is a stretch without failures: after a failure, and
    before the next sum, all ranks (new ones included) join a new and higher epoch.
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
