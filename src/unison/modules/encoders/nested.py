"""Dict and Tuple observations."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unison.modules.encoders.base import Encoder
from unison.types import Tree


class NestedEncoder(Encoder):
    """Encodes each part of a Dict or Tuple on its own, and puts the features side by side in the space's order."""

    def __init__(self, keys: Sequence[str | int], parts: Sequence[Encoder]) -> None:
        super().__init__()
        self.keys = tuple(keys)
        self.parts = nn.ModuleList(parts)
        self.output_size = sum(part.output_size for part in parts)

    def forward(self, observations: Tree) -> Tensor:
        """Encode a dict or tuple of tensors as `[..., output_size]`."""
        features = [part(observations[key]) for key, part in zip(self.keys, self.parts, strict=True)]
        return features[0] if len(features) == 1 else torch.cat(features, dim=-1)
