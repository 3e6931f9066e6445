"""The numbers of columns, and the Discrete and MultiDiscrete spaces that they are of."""

from typing import Any, NamedTuple, cast

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from unison.types import Tree


class Outside(NamedTuple):
    """A number that a space does not have."""

    path: str
    row: int
    number: int
    space: gym.Space[Any]


def find_outside(path: str, space: gym.Space[Any], column: Any, mask: Any = None) -> Outside | None:
    """The first number of a column, as its user gave it, that its space does not have.

    Only what lies on the host is looked at: to wait for a device would cost more than the check is worth.

    Args:
        path: what the column is called.
        space: any space; those of numbers without bounds of their own hold everything.
        column: an array or tensor [B, ...], or a tree of them that fits the space.
        mask: [B] or [B, T], the rows that count; None: all.
    """
    if parts := _parts(space):
        found = (find_outside(f"{path}/{key}", part, column[key], mask) for key, part in parts.items())
        return next((each for each in found if each is not None), None)
    if _start_of(space) is None or any(isinstance(x, Tensor) and x.device.type != "cpu" for x in (column, mask)):
        return None
    discrete: Any = space
    start, numbers = np.asarray(discrete.start), np.asarray(column)
    end = start + np.asarray(discrete.n if isinstance(space, gym.spaces.Discrete) else discrete.nvec)
    outside = (numbers < start) | (numbers >= end)
    if mask is not None and outside.any():
        outside &= _aligned(np.asarray(mask, np.bool_), outside.ndim)
    if not outside.any():
        return None
    place = tuple(np.argwhere(outside)[0])
    return Outside(path, int(place[0]), int(numbers[place]), space)


def filled(space: gym.Space[Any] | None, column: Tree, mask: Tensor) -> Tree:
    """A column with 0, or the first number of a discrete space, in all rows that do not count.

    Whatever stood there might reach gradients (0 times NaN is NaN), or be a place that a table does not have.

    Args:
        space: what the column is of; None: anything.
        column: a tensor [B, ...] or [B, T, ...], or a tree of them that fits the space.
        mask: bool, [B] or [B, T], the rows that count.
    """
    parts = _parts(space)
    if isinstance(column, dict):
        children = cast(dict[Any, Any], column)
        return {key: filled(parts.get(key), child, mask) for key, child in children.items()}
    if isinstance(column, tuple):
        return tuple(filled(parts.get(index), child, mask) for index, child in enumerate(cast(tuple[Any, ...], column)))
    start = _start_of(space)
    filler = torch.as_tensor(0 if start is None else start, dtype=column.dtype, device=column.device)
    return torch.where(_aligned(mask, column.ndim), column, filler)


def _parts(space: gym.Space[Any] | None) -> dict[Any, gym.Space[Any]]:
    """The spaces that a Dict or Tuple space consists of, by key or place."""
    if isinstance(space, gym.spaces.Dict):
        named: dict[str, gym.Space[Any]] = cast(Any, space).spaces  # Its stub leaves the type open.
        return dict(named)
    if isinstance(space, gym.spaces.Tuple):
        parts: tuple[gym.Space[Any], ...] = cast(Any, space).spaces
        return dict(enumerate(parts))
    return {}


def _start_of(space: gym.Space[Any] | None) -> Any:
    """The first number of a discrete space, or of each of its parts; None for other spaces."""
    return cast(Any, space).start if isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete) else None


def _aligned(mask: Any, ndim: int) -> Any:
    """A mask of the rows of a column with so many dimensions."""
    return mask.reshape(mask.shape + (1,) * (ndim - mask.ndim))
