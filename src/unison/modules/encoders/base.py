"""What every encoder is."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from unison.types import Tree


class Encoder(nn.Module, ABC):
    """Turns observations into a vector of features.

    Takes a tree of tensors `[..., *shape of the space]` with any number of leading dimensions (`[B]` or `[B, T]`), and
    returns `[..., output_size]`. Nothing in `forward` may depend on the data, so that every engine can trace it.
    """

    output_size: int

    @abstractmethod
    def forward(self, observations: Tree) -> Tensor:
        """Encode observations `[..., *shape]` as features `[..., output_size]`."""
