"""Arrays that hold the observations of several environments."""

from collections.abc import Callable
from typing import Any, cast

import gymnasium as gym
import numpy as np

from unison.errors import EnvironmentFailure, SpaceError
from unison.modules.spaces import Space, is_box, is_discrete, is_multi_binary, is_multi_discrete, parts_of
from unison.types import Tree, tree_items


def empty_observations(space: Space, num_envs: int, name: str) -> Tree:
    """A tree of zero arrays [E, ...] for observations of `space`.

    Images stay uint8; float64 becomes float32, which is what modules compute with.

    Raises:
        SpaceError: the space is none that modules handle.
    """
    parts = parts_of(space)
    if parts is not None:
        arrays = {key: empty_observations(part, num_envs, f"{name}/{key}") for key, part in parts}
        return arrays if isinstance(space, gym.spaces.Dict) else tuple(arrays.values())
    if is_discrete(space):
        return np.zeros(num_envs, np.int64)
    if is_box(space) or is_multi_discrete(space) or is_multi_binary(space):
        dtype = np.dtype(cast(Any, space.dtype))
        return np.zeros((num_envs, *space.shape), np.float32 if dtype == np.float64 else dtype)
    raise SpaceError(
        f"Environment '{name}' has observations in {space}. Supported are Box, Discrete, MultiDiscrete, MultiBinary, "
        "and Dict and Tuple of these; convert it with an observation wrapper."
    )


def writer_for(arrays: Tree) -> Callable[[int, Tree], None]:
    """A function that writes one environment's observation to its row of `arrays`."""
    if isinstance(arrays, dict):
        parts = cast("dict[str, Tree]", arrays)
        by_key = [(key, writer_for(part)) for key, part in parts.items()]

        def write_dict(index: int, observation: Tree) -> None:
            for key, write in by_key:
                write(index, observation[key])

        return write_dict
    if isinstance(arrays, tuple):
        items = cast("tuple[Tree, ...]", arrays)
        writers = [writer_for(part) for part in items]

        def write_tuple(index: int, observation: Tree) -> None:
            for write, part in zip(writers, observation, strict=True):
                write(index, part)

        return write_tuple
    return cast("np.ndarray[Any, Any]", arrays).__setitem__


def check_observation(arrays: Tree, observation: Tree, which: str) -> None:
    """Check the shapes of an environment's first observation, which writing would broadcast in silence.

    Raises:
        EnvironmentFailure: keys or shapes differ from the observation space's; names them.
    """
    expected = {path: leaf.shape[1:] for path, leaf in tree_items(arrays)}
    found = {path: np.shape(leaf) for path, leaf in tree_items(observation)}
    if expected != found:
        raise EnvironmentFailure(
            f"{which} returned an observation of shape {_show(found)}, but its observation_space says "
            f"{_show(expected)}. Make the two agree."
        )


def _show(shapes: dict[str, tuple[int, ...]]) -> str:
    return str(shapes[""] if set(shapes) == {""} else shapes)
