"""Whether a saved tree is built as the one that it is to replace."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from unison.errors import StateError
from unison.types import Tree


def check_like(saved: Tree, own: Tree, where: str) -> None:
    """Raise unless `saved` has the keys, shapes and kinds of values of `own`.

    Lists may be of any length; None may stand for anything, and anything for None.

    Raises:
        StateError: names `where`, the path, and what differs.
    """
    if own is None or saved is None:
        return
    if isinstance(own, Mapping):
        _check_mapping(saved, cast("Mapping[Any, Any]", own), where)
    elif isinstance(own, list | tuple):
        if not isinstance(saved, list | tuple):
            raise StateError(f"{where}: expected a sequence, but the state holds {_kind(saved)}.")
        for item in cast("Sequence[Any]", saved) if own else ():
            check_like(item, cast("Sequence[Any]", own)[0], f"{where}, an item")
    elif _kind(saved) != _kind(own):
        raise StateError(f"{where}: expected {_kind(own)}, but the state holds {_kind(saved)}.")


def _check_mapping(saved: Tree, own: Mapping[Any, Any], where: str) -> None:
    if not isinstance(saved, Mapping):
        raise StateError(f"{where}: expected {sorted(map(str, own))}, but the state holds {_kind(saved)}.")
    found = cast("Mapping[Any, Any]", saved)
    missing = [key for key in own if key not in found]
    unknown = [key for key in found if key not in own]
    if missing or unknown:
        raise StateError(f"{where}: the state lacks {missing} and has unknown {unknown}.")
    for key, value in own.items():
        check_like(found[key], value, f"{where}, '{key}'")


def _kind(value: Any) -> str:
    """What a value is, as far as it matters to who takes it over."""
    if isinstance(value, bool | str):
        return type(value).__name__
    if isinstance(value, int | float | np.generic):
        return "a number"
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is None or dtype is None:
        return f"a {type(value).__name__}"
    return f"an array of {dtype}, shape {tuple(shape)}"
