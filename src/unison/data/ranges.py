"""Whether the numbers of a column are of a Discrete or MultiDiscrete space."""

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch


class Outside(NamedTuple):
    """A number that a space does not have."""

    path: str
    row: int
    number: int
    space: gym.Space[Any]


def find_outside(path: str, space: gym.Space[Any], column: Any) -> Outside | None:
    """The first number of a column, as its user gave it, that its space does not have.

    A 0 is of every space here: rows that fill up a sequence hold it, whatever the space. Only what lies on the host is
    looked at: to wait for a device would cost more than the check is worth.

    Args:
        path: what the column is called.
        space: any space; those of numbers without bounds of their own hold everything.
        column: an array or tensor [B, ...], or a tree of them that fits the space.
    """
    parts: Any = space
    if isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
        keys = list(parts.spaces) if isinstance(space, gym.spaces.Dict) else range(len(parts.spaces))
        found = (find_outside(f"{path}/{key}", parts.spaces[key], column[key]) for key in keys)
        return next((each for each in found if each is not None), None)
    is_discrete = isinstance(space, gym.spaces.Discrete)
    is_elsewhere = isinstance(column, torch.Tensor) and column.device.type != "cpu"
    if is_elsewhere or not (is_discrete or isinstance(space, gym.spaces.MultiDiscrete)):
        return None
    start, numbers = np.asarray(parts.start), np.asarray(column)
    end = start + np.asarray(parts.n if is_discrete else parts.nvec)
    inside = (numbers >= start) & (numbers < end)
    if inside.all():
        return None
    outside = np.argwhere(~inside & (numbers != 0))
    return Outside(path, int(outside[0][0]), int(numbers[tuple(outside[0])]), space) if len(outside) else None
