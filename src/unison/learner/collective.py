"""What a Learner needs from the group it is part of: its rank, and sums over all ranks."""

from abc import ABC, abstractmethod

from torch import Tensor


class Collective(ABC):
    """Sums of tensors over the ranks of a group."""

    @property
    @abstractmethod
    def rank(self) -> int:
        """This Learner's place, from 0."""

    @property
    @abstractmethod
    def world_size(self) -> int:
        """The number of Learners."""

    @abstractmethod
    def all_reduce_(self, tensor: Tensor) -> None:
        """Replace a flat tensor [N] by its sum over all ranks, bit-identical on each."""


class Alone(Collective):
    """A group of one: sums are the tensors themselves."""

    @property
    def rank(self) -> int:
        """Always 0."""
        return 0

    @property
    def world_size(self) -> int:
        """Always 1."""
        return 1

    def all_reduce_(self, tensor: Tensor) -> None:
        """Nothing to add."""
