"""Gymnasium spaces as plain data. Gymnasium is imported only when a space is at hand."""

import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

import numpy as np

from unison.errors import ConfigError

Space: TypeAlias = Any
"""A `gymnasium.Space`; the library is not imported for the sake of annotations."""


def is_space(value: Any) -> bool:
    """Whether the value is a Gymnasium space (nothing can be one before Gymnasium is imported)."""
    gymnasium = sys.modules.get("gymnasium")
    return gymnasium is not None and isinstance(value, gymnasium.Space)


def space_to_plain(space: Space) -> dict[str, Any] | None:
    """The space as plain data; None for a kind that cannot be stored.

    Box, Discrete, MultiDiscrete, MultiBinary, Dict and Tuple can, nested at will; bounds may be infinite.
    """
    name = type(space).__name__
    if name not in _WRITERS or not type(space).__module__.startswith("gymnasium.spaces"):
        return None
    plain = _WRITERS[name](space)
    return None if plain is None else {"type": name, **plain}


def space_from_plain(data: Mapping[str, Any]) -> Space:
    """The space that `space_to_plain` was given."""
    settings = dict(data)
    name = settings.pop("type", None)
    if name not in _READERS:
        raise ConfigError(f"A space of type {name!r} cannot be read; known are {', '.join(_READERS)}.")
    return _READERS[name](settings)


def _numbers(array: np.ndarray[Any, Any]) -> Any:
    """The array as nested lists, or as one number where all are equal; infinities as strings, which JSON can hold."""
    if array.size and bool(np.all(array == array.flat[0])):
        array = array.reshape(-1)[0]

    def readable(value: Any) -> Any:
        if isinstance(value, list):
            return [readable(inner) for inner in cast("list[Any]", value)]
        return value if np.isfinite(value) else str(value)

    return readable(array.tolist())


def _array(numbers: Any, shape: Any, dtype: str) -> np.ndarray[Any, Any]:
    values = np.array(numbers, dtype=dtype)  # numpy reads "inf" itself
    return np.array(np.broadcast_to(values, tuple(shape)))


def _write_box(space: Space) -> dict[str, Any]:
    return {
        "low": _numbers(space.low),
        "high": _numbers(space.high),
        "shape": list(space.shape),
        "dtype": str(space.dtype),
    }


def _read_box(data: Mapping[str, Any]) -> Space:
    from gymnasium.spaces import Box

    shape, dtype = data["shape"], data["dtype"]
    return Box(_array(data["low"], shape, dtype), _array(data["high"], shape, dtype), dtype=np.dtype(dtype).type)


def _read_discrete(data: Mapping[str, Any]) -> Space:
    from gymnasium.spaces import Discrete

    return Discrete(data["n"], start=data.get("start", 0))


def _read_multi_discrete(data: Mapping[str, Any]) -> Space:
    from gymnasium.spaces import MultiDiscrete

    nvec, dtype = np.array(data["nvec"]), np.dtype(data.get("dtype", "int64"))
    start = data.get("start")
    return MultiDiscrete(nvec, dtype=dtype.type, start=None if start is None else np.array(start))


def _read_multi_binary(data: Mapping[str, Any]) -> Space:
    from gymnasium.spaces import MultiBinary

    n = data["n"]
    return MultiBinary(n if isinstance(n, int) else tuple(n))


def _write_dict(space: Space) -> dict[str, Any] | None:
    spaces = {key: space_to_plain(inner) for key, inner in space.spaces.items()}
    if None in spaces.values() or not all(isinstance(key, str) for key in spaces):
        return None
    return {"spaces": [[key, inner] for key, inner in spaces.items()]}


def _read_dict(data: Mapping[str, Any]) -> Space:
    from gymnasium.spaces import Dict

    return Dict([(key, space_from_plain(inner)) for key, inner in data["spaces"]])


def _write_tuple(space: Space) -> dict[str, Any] | None:
    spaces = [space_to_plain(inner) for inner in space.spaces]
    return None if None in spaces else {"spaces": spaces}


def _read_tuple(data: Mapping[str, Any]) -> Space:
    from gymnasium.spaces import Tuple

    return Tuple([space_from_plain(inner) for inner in data["spaces"]])


_WRITERS: dict[str, Callable[[Space], dict[str, Any] | None]] = {
    "Box": _write_box,
    "Discrete": lambda space: {"n": int(space.n), "start": int(space.start)},
    "MultiDiscrete": lambda space: {
        "nvec": space.nvec.tolist(),
        "start": space.start.tolist(),
        "dtype": str(space.dtype),
    },
    "MultiBinary": lambda space: {"n": space.n if isinstance(space.n, int) else list(space.shape)},
    "Dict": _write_dict,
    "Tuple": _write_tuple,
}
_READERS: dict[str, Callable[[Mapping[str, Any]], Space]] = {
    "Box": _read_box,
    "Discrete": _read_discrete,
    "MultiDiscrete": _read_multi_discrete,
    "MultiBinary": _read_multi_binary,
    "Dict": _read_dict,
    "Tuple": _read_tuple,
}
