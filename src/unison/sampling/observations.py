"""Arrays that hold the observations of several environments."""

from collections.abc import Callable
from typing import Any, Final, cast

import gymnasium as gym
import numpy as np

from unison.errors import EnvironmentFailure, SpaceError
from unison.modules.spaces import Space, is_box, is_discrete, is_multi_binary, is_multi_discrete, parts_of
from unison.sampling.step_check import shown
from unison.types import Tree, tree_items, tree_map

Array = np.ndarray[Any, Any]
_NUMBERS: Final = "?bhilqBHILQefd"
"""The types, by numpy's letters, whose numbers a real one takes."""


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


def writer_for(arrays: Tree, *, of_all: bool = False) -> Callable[[Any, Tree], None]:
    """A function that writes one environment's observation to its row of `arrays`, if it is one of their space.

    What is plainly an observation is written at once, for this is done at every step; `misfit` looks at the rest.
    The function raises TypeError, which says what is wrong.

    Args:
        arrays: of `empty_observations`.
        of_all: whether the function writes the observations [E, ...] of all environments, with `...` as the row.
    """
    skipped = 0 if of_all else 1
    parts = _parts(arrays)
    if parts is None:
        return _leaf_writer(arrays, skipped)
    writers = [(key, writer_for(part, of_all=of_all)) for key, part in parts]

    def write(row: Any, observation: Tree) -> None:
        try:
            if len(observation) == len(writers):
                for key, write_part in writers:
                    write_part(row, observation[key])
                return
        except (TypeError, LookupError):
            pass
        raise TypeError(misfit(arrays, observation, skipped))

    return write


def _leaf_writer(array: Array, skipped: int) -> Callable[[Any, Any], None]:
    shape = array.shape[skipped:]
    is_real = array.dtype.kind == "f"
    dtypes = frozenset(map(np.dtype, _NUMBERS if is_real else [array.dtype]))
    ndarray = np.ndarray

    def write(row: Any, observation: Any) -> None:
        if type(observation) is ndarray and observation.dtype in dtypes and observation.shape == shape:
            array[row] = observation
        else:
            write_checked(row, observation)

    def write_checked(row: Any, observation: Any) -> None:
        wrong = misfit(array, observation, skipped)
        if wrong:
            raise TypeError(wrong)
        array[row] = as_exact(observation, array.dtype)

    if shape or not (is_real or array.dtype == np.int64):  # A smaller type would not hold every number of Python's.
        return write
    types = frozenset((float, np.float32, np.float64) if is_real else (int, np.int64))

    def write_number(row: Any, observation: Any) -> None:
        if type(observation) in types:
            array[row] = observation
        else:
            write_checked(row, observation)

    return write_number


def as_exact(value: Any, dtype: np.dtype[Any]) -> Array:
    """A copy of these numbers in this type.

    Raises:
        ValueError: they are none, or whole numbers of that type would not be them; so may TypeError and RuntimeError be
            raised, by numpy and torch.
    """
    array = np.asarray(value)
    if array.dtype == dtype:
        return np.array(array)
    with np.errstate(invalid="ignore"):
        exact = array.astype(dtype)
    if array.dtype.kind not in "biuf" or (dtype.kind != "f" and not np.array_equal(exact, array)):
        raise ValueError(f"its values are no {dtype}")
    return exact


def misfit(arrays: Tree, observation: Tree, skipped: int = 1) -> str | None:
    """What is wrong with an observation, in words that follow "returned"; None where it is one of the space.

    Args:
        arrays: of `empty_observations`.
        observation: whatever the environment says it is.
        skipped: how many axes of the arrays it lacks.
    """
    expected = {path: leaf.shape[skipped:] for path, leaf in tree_items(arrays)}
    found = {path: _shape_of(leaf) for path, leaf in tree_items(observation)}
    if expected != found:
        return (
            f"an observation of shape {_show(found)}, but its observation_space says {_show(expected)}. Make the two "
            "agree."
        )
    leaves = dict(tree_items(observation))
    for path, array in tree_items(arrays):
        try:
            as_exact(leaves[path], array.dtype)
        except (TypeError, ValueError, RuntimeError) as error:
            where = f" at '{path}'" if path else ""
            return (
                f"the observation {shown(leaves[path])}{where}, but its observation_space says {array.dtype} "
                f"({error}). Make the two agree."
            )
    return None


def check_observation(arrays: Tree, observation: Tree, which: str) -> None:
    """Require an observation of the space; writing any other would broadcast or round it in silence.

    Raises:
        EnvironmentFailure: keys, shapes or kinds of numbers differ from the observation space's; names them.
    """
    wrong = misfit(arrays, observation)
    if wrong:
        raise EnvironmentFailure(f"{which} returned {wrong}")


def row_of(arrays: Tree, index: int) -> Tree:
    """One environment's observation, in memory of its own."""
    return tree_map(lambda array: np.array(array[index]), arrays)


def _parts(arrays: Tree) -> list[tuple[Any, Tree]] | None:
    """The parts of a tree by key or place; None if it is an array."""
    if isinstance(arrays, dict):
        return list(cast("dict[Any, Tree]", arrays).items())
    return list(enumerate(cast("tuple[Tree, ...]", arrays))) if isinstance(arrays, tuple) else None


def _shape_of(value: Any) -> Any:
    try:
        return np.shape(value)
    except ValueError:  # lists of different lengths
        return f"a {type(value).__name__}"


def _show(shapes: dict[str, Any]) -> str:
    return str(shapes[""] if set(shapes) == {""} else shapes)
