"""Gymnasium's spaces, with the types that its own annotations leave open."""

from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces

Space: TypeAlias = gym.Space[Any]

if TYPE_CHECKING:
    Box: TypeAlias = spaces.Box[Any]
    Discrete: TypeAlias = spaces.Discrete[Any]
    MultiDiscrete: TypeAlias = spaces.MultiDiscrete[Any]
else:  # The classes take type arguments only in Gymnasium's newer versions.
    Box, Discrete, MultiDiscrete = spaces.Box, spaces.Discrete, spaces.MultiDiscrete
MultiBinary: TypeAlias = spaces.MultiBinary
_KINDS: tuple[type[Any], ...] = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def parts_of(space: Space) -> list[tuple[str | int, Space]] | None:
    """Keys and parts of a Dict or Tuple, in the space's order; None for any other space."""
    if isinstance(space, spaces.Dict):
        return list(cast("Any", space).spaces.items())
    if isinstance(space, spaces.Tuple):
        return list(enumerate(cast("tuple[Space, ...]", cast("Any", space).spaces)))
    return None


def is_box(space: Space | None) -> TypeGuard[Box]:
    """Whether a space is a Box."""
    return isinstance(space, spaces.Box)


def is_discrete(space: Space | None) -> TypeGuard[Discrete]:
    """Whether a space is Discrete."""
    return isinstance(space, spaces.Discrete)


def is_multi_discrete(space: Space | None) -> TypeGuard[MultiDiscrete]:
    """Whether a space is MultiDiscrete."""
    return isinstance(space, spaces.MultiDiscrete)


def is_multi_binary(space: Space | None) -> TypeGuard[MultiBinary]:
    """Whether a space is MultiBinary."""
    return isinstance(space, spaces.MultiBinary)


def choices_of(space: Space | None) -> list[tuple[int, int]] | None:
    """Number of values and lowest value of each choice of a Discrete or MultiDiscrete space; None for any other."""
    if is_discrete(space):
        return [(int(space.n), int(space.start))]
    if is_multi_discrete(space):
        return list(zip(np.ravel(space.nvec).tolist(), np.ravel(space.start).tolist(), strict=True))
    return None


def layout_of(space: Space) -> Any:
    """What networks are made for: kind, shape and choices, part by part; the bounds and the dtype of a Box are not."""
    parts = parts_of(space)
    if parts is not None:
        return {key: layout_of(part) for key, part in parts}
    own: type[Any] = type(space)
    return next((kind for kind in _KINDS if issubclass(own, kind)), own), space.shape, choices_of(space)
