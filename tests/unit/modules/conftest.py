"""Random observations of any space, for the tests of modules."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from unison.types import Tree


def _stack(space: gym.Space[Any], rows: list[Any]) -> Tree:
    if isinstance(space, gym.spaces.Dict):
        return {key: _stack(part, [row[key] for row in rows]) for key, part in space.spaces.items()}
    if isinstance(space, gym.spaces.Tuple):
        return tuple(_stack(part, [row[i] for row in rows]) for i, part in enumerate(space.spaces))
    return torch.from_numpy(np.stack([np.asarray(row) for row in rows]))


def _lead(tree: Tree, shape: tuple[int, ...]) -> Tree:
    if isinstance(tree, dict):
        return {key: _lead(value, shape) for key, value in tree.items()}
    if isinstance(tree, tuple):
        return tuple(_lead(value, shape) for value in tree)
    return tree.reshape(*shape, *tree.shape[1:])


@pytest.fixture
def observe() -> Callable[..., Tree]:
    """`observe(space, B)` or `observe(space, B, T)`: observations of a space, with the dtypes that it gives."""

    def make(space: gym.Space[Any], *shape: int) -> Tree:
        space.seed(0)
        return _lead(_stack(space, [space.sample() for _ in range(int(np.prod(shape)))]), shape)

    return make


@pytest.fixture
def finite() -> Callable[[Tensor], bool]:
    """Whether all entries are finite."""
    return lambda tensor: bool(torch.isfinite(tensor).all())


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
