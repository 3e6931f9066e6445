"""What a Learner needs from the group it is part of: its rank, and sums over all ranks."""

from typing import Protocol

from torch import Tensor


class Collective(Protocol):
    """One rank's part of a group. Whoever fills it makes every result bit-identical on all ranks."""

    rank: int
    world_size: int

    def all_reduce_(self, tensor: Tensor) -> Tensor:
        """Replace a contiguous tensor by its sum over all ranks; returns it."""
        ...


class Alone:
    """A group of one: sums are the tensors themselves."""

    rank = 0
    world_size = 1

    def all_reduce_(self, tensor: Tensor) -> Tensor:
        """Nothing to add."""
        return tensor
