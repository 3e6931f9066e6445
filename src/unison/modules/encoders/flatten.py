"""Boxes and bits as vectors."""

import math

import torch
from torch import Tensor

from unison.modules.encoders.base import Encoder
from unison.modules.spaces import Box, MultiBinary, is_box
from unison.types import Tree


def byte_scale(space: Box | MultiBinary) -> float | None:
    """What brings a Box of uint8 to [0, 1]: one over its highest value. None for every other space."""
    return 1.0 / max(1.0, float(space.high.max())) if is_box(space) and space.dtype == "uint8" else None


class FlattenEncoder(Encoder):
    """Flattens a Box or MultiBinary of any rank; a Box of bytes (uint8) is scaled to [0, 1]."""

    def __init__(self, space: Box | MultiBinary) -> None:
        super().__init__()
        self.rank = len(space.shape)
        self.scale = byte_scale(space)
        self.output_size = math.prod(space.shape)

    def forward(self, observations: Tree) -> Tensor:
        """Flatten `[..., *shape]` to `[..., output_size]`."""
        features: Tensor = observations.flatten(-self.rank) if self.rank else observations.unsqueeze(-1)
        return features if self.scale is None else features.to(torch.float32) * self.scale
