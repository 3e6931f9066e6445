"""A world of one: nothing to exchange."""

from collections.abc import Sequence

import torch

from unison.learner_group.collectives.collective import Collective


class SingleCollective(Collective):
    """The Collective of a lone Learner."""

    rank = 0
    world_size = 1

    def join(self, epoch: int) -> None:
        """Nobody to join."""

    def abort(self) -> None:
        """Nobody to tell."""

    @property
    def aborted(self) -> bool:
        """Never: nobody else can fail."""
        return False

    def all_reduce_(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over one rank is the tensor itself."""
        return tensor

    def broadcast_(self, tensor: torch.Tensor, source: int = 0) -> torch.Tensor:
        """The tensor itself."""
        if source != 0:
            raise ValueError(f"There is no rank {source} in a world of one.")
        return tensor

    def all_gather(self, values: Sequence[float]) -> torch.Tensor:
        """The values as float64 [1, len(values)]."""
        return torch.tensor([list(values)], dtype=torch.float64)

    def barrier(self) -> None:
        """Everybody is here."""

    def close(self) -> None:
        """Nothing to free."""
