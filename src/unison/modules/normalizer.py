"""Observations brought to zero mean and unit variance, inside the module."""

from collections.abc import Mapping
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from unison.modules.spaces import Space, is_box, parts_of
from unison.types import Tree

CLIP = 10.0
EPSILON = 1e-8

Path = tuple[str | int, ...]


class Moments(NamedTuple):
    """Number, mean and sum of squared deviations of rows, in float64: all that merging statistics needs."""

    num_rows: Tensor
    mean: Tensor
    squares: Tensor


class RunningNormalizer(nn.Module):
    """Normalizes by the mean and variance of all rows seen so far, and clips to +-10.

    The statistics are buffers (`mean`, `var`, `count`, float64), so they are saved, loaded and sent with the weights.
    They are merged exactly (Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm"): after any
    sequence of updates they equal the statistics over all rows at once, however the rows were split over calls or
    ranks. Rows that hold NaN or infinity do not count.
    """

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("var", torch.ones(shape, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def forward(self, values: Tensor) -> Tensor:
        """Normalize `[..., *shape]` to float32 of the same shape."""
        dtype = torch.float32
        scale = torch.rsqrt(self.var + EPSILON).to(dtype)
        return ((values.to(dtype) - self.mean.to(dtype)) * scale).clamp(-CLIP, CLIP)

    @torch.no_grad()
    def update(self, values: Tensor, mask: Tensor | None = None) -> None:
        """Count the rows `[..., *shape]`, or those where `mask` (bool `[...]`) is True."""
        self.merge(self.moments(values, mask))

    @torch.no_grad()
    def moments(self, values: Tensor, mask: Tensor | None = None) -> Moments:
        """The moments of these rows alone; with several ranks, gather them and `merge` each, in order of rank."""
        rows = values.to(torch.float64).reshape(-1, *self.mean.shape)
        valid = torch.isfinite(rows).flatten(1).all(1) if rows.dim() > 1 else torch.isfinite(rows)
        if mask is not None:
            valid = valid & mask.reshape(-1).bool()
        rows = rows[valid]
        count = torch.tensor(float(len(rows)), dtype=torch.float64, device=rows.device)
        mean = rows.sum(0) / count.clamp(min=1.0)
        return Moments(count, mean, (rows - mean).square().sum(0))

    @torch.no_grad()
    def merge(self, moments: Moments) -> None:
        """Count rows by their moments."""
        total = self.count + moments.num_rows
        share = moments.num_rows / total.clamp(min=1.0)
        delta = moments.mean - self.mean
        squares = self.var * self.count + moments.squares + delta.square() * self.count * share
        self.mean.add_(delta * share)
        self.var.copy_(torch.where(total > 0, squares / total.clamp(min=1.0), self.var))
        self.count.copy_(total)


class ObservationNormalizer(nn.Module):
    """A `RunningNormalizer` for every Box of floats in an observation space; all other parts pass through."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.normalizers = nn.ModuleList()
        self._index: dict[Path, int] = {}
        for path, leaf in _leaves(space):
            if is_box(leaf) and np.issubdtype(leaf.dtype, np.floating):
                self._index[path] = len(self.normalizers)
                self.normalizers.append(RunningNormalizer(leaf.shape))

    def forward(self, observations: Tree) -> Tree:
        """Normalize a tree of observations `[..., *shape]`."""
        return self._normalize(observations, ())

    def _normalize(self, observations: Tree, path: Path) -> Tree:
        if isinstance(observations, dict):
            parts = cast("dict[str, Tree]", observations)
            return {key: self._normalize(part, (*path, key)) for key, part in parts.items()}
        if isinstance(observations, tuple):
            items = cast("tuple[Tree, ...]", observations)
            return tuple(self._normalize(part, (*path, index)) for index, part in enumerate(items))
        index = self._index.get(path)
        return observations if index is None else self.normalizers[index](observations)

    def moments(self, observations: Tree, mask: Tensor | None = None) -> dict[str, Moments]:
        """The moments of a batch of observations, or of those rows where `mask` is True, by normalizer."""
        return {str(i): self._normalizer(i).moments(_at(observations, p), mask) for p, i in self._index.items()}

    def merge(self, moments: Mapping[str, Moments]) -> None:
        """Count a batch by its moments."""
        for index in self._index.values():
            self._normalizer(index).merge(moments[str(index)])

    def update(self, observations: Tree, mask: Tensor | None = None) -> None:
        """Count a batch of observations, or those rows where `mask` is True."""
        self.merge(self.moments(observations, mask))

    def _normalizer(self, index: int) -> RunningNormalizer:
        return cast("RunningNormalizer", self.normalizers[index])


def _leaves(space: Space, path: Path = ()) -> list[tuple[Path, Space]]:
    """The parts of a space that are neither Dict nor Tuple, with the keys that lead to them."""
    parts = parts_of(space)
    if parts is None:
        return [(path, space)]
    return [leaf for key, part in parts for leaf in _leaves(part, (*path, key))]


def _at(observations: Tree, path: Path) -> Tree:
    for key in path:
        observations = observations[key]
    return observations
