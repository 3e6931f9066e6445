"""Discrete and MultiDiscrete observations: one-hot, or embedded where there are many values."""

import torch
from torch import Tensor, nn

from unison.modules.encoders.base import Encoder
from unison.modules.spaces import Space, choices_of, is_multi_discrete
from unison.types import Tree

MAX_ONE_HOT = 64
"""A component of more values than this is embedded."""

EMBEDDING_SIZE = 64


class CategoricalEncoder(Encoder):
    """Encodes each component of a Discrete or MultiDiscrete observation.

    Components of up to `MAX_ONE_HOT` values become one-hot, side by side; larger ones a learned embedding of
    `EMBEDDING_SIZE` numbers, after them. Spaces that do not start at 0 are understood.
    """

    one_hot_values: Tensor
    one_hot_components: Tensor

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.rank = len(space.shape) if is_multi_discrete(space) else 0
        choices = choices_of(space) or []
        sizes, self.starts = [size for size, _ in choices], [start for _, start in choices]
        small = [i for i, size in enumerate(sizes) if size <= MAX_ONE_HOT]
        self.embedded = [i for i, size in enumerate(sizes) if size > MAX_ONE_HOT]
        self.one_hot_size = sum(sizes[i] for i in small)
        values = [self.starts[i] + value for i in small for value in range(sizes[i])]
        components = [i for i in small for _ in range(sizes[i])]
        # They follow the device of the module but are no state: the space says them.
        self.register_buffer("one_hot_values", torch.tensor(values, dtype=torch.int64), persistent=False)
        self.register_buffer("one_hot_components", torch.tensor(components, dtype=torch.int64), persistent=False)
        self.embeddings = nn.ModuleList(nn.Embedding(sizes[i], EMBEDDING_SIZE) for i in self.embedded)
        self.output_size = self.one_hot_size + EMBEDDING_SIZE * len(self.embedded)

    def forward(self, observations: Tree) -> Tensor:
        """Encode integers `[..., *shape]` as `[..., output_size]`."""
        values: Tensor = observations.flatten(-self.rank) if self.rank else observations.unsqueeze(-1)
        parts: list[Tensor] = []
        if self.one_hot_size:
            # A comparison instead of F.one_hot, which looks into the data and so cannot be traced.
            one_hot = values.index_select(-1, self.one_hot_components) == self.one_hot_values
            parts.append(one_hot.to(torch.float32))
        for component, embedding in zip(self.embedded, self.embeddings, strict=True):
            parts.append(embedding((values[..., component] - self.starts[component]).long()))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
