"""Plain values as they were, to compare later: wherever containers and objects of users hold them."""

import zlib
from collections import deque
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from unison.learner.engines.objects import Step, attributes_of, class_attributes, is_open

PLAIN: Any = (int, float, complex, str, bytes, bool, type(None), np.generic)
"""Types of values that hold nothing else."""
_CONTAINERS: Any = (Mapping, list, tuple, set, frozenset, deque, np.ndarray)
_MAX_VALUES = 50_000
_MAX_DEPTH = 50
_BYTES_PER_VALUE = 1000
"""Of arrays: so many are compared in the time of one value in a container."""


class TooMuch(Exception):
    """There is more below a value than is worth comparing before every update."""


class Same:
    """Equal only to itself."""

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other._value is self._value


class Held(NamedTuple):
    """An object and what it holds."""

    owner: Same
    items: Any
    attributes: dict[str, Any]


def frozen(value: object) -> Any:
    """A value to compare later: plain data by content, tensors not at all, objects by identity and attributes.

    Args:
        value: what is looked into is said by `is_open`; no code of its classes runs, but for mappings of their own.

    Raises:
        TooMuch: it holds too much, or too deep.
    """
    if isinstance(value, PLAIN):  # before all else: most values are, and torch is slow to say what is a tensor
        return value
    return Same(value) if _is_closed(type(value)) else _Freezer().freeze(value, _MAX_DEPTH)


def difference(old: Any, new: Any) -> tuple[Step, ...]:
    """The way to the first plain value that differs between two frozen values, as far as both have it."""
    if isinstance(old, Held) and isinstance(new, Held):
        return _first(old.attributes, new.attributes, "attribute") or difference(old.items, new.items)
    return _first(_by_key(old), _by_key(new), "item")


def _by_key(items: Any) -> Mapping[Any, Any]:
    if isinstance(items, list):
        return dict(enumerate(items))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return items if isinstance(items, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def _first(old: Mapping[Any, Any], new: Mapping[Any, Any], kind: str) -> tuple[Step, ...]:
    for key in old:
        if key in new and old[key] != new[key]:
            return (kind, key), *difference(old[key], new[key])
    return ()


@lru_cache(maxsize=1024)
def _is_closed(kind: type) -> bool:
    """Whether such objects are compared by identity alone: most of a Learner's are."""
    return not issubclass(kind, (*_CONTAINERS, *PLAIN, Tensor)) and not is_open(kind)


class _Freezer:
    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._left = _MAX_VALUES

    def freeze(self, value: object, depth: int) -> Any:
        kind = type(value)
        if isinstance(value, PLAIN):
            return value
        if isinstance(value, Tensor):
            return None
        if _is_closed(kind) or id(value) in self._seen:
            return Same(value)
        self._seen.add(id(value))
        items = self._items(value, depth - 1)
        own = dict(attributes_of(value)) if is_open(kind) else {}
        if items is not None and not own:
            return items
        return Held(Same(value), items, self._named({**class_attributes(value), **own}, depth - 1))

    def _items(self, value: Any, depth: int) -> Any:
        """What a container holds; None if it is none."""
        found: Any = value
        if isinstance(value, dict | Mapping):  # the first check alone is quick
            return self._named(found, depth)
        if isinstance(value, list | tuple):
            return self._listed(found, depth)
        if isinstance(value, set | frozenset | deque):  # nobody follows tensors in these
            return [Same(v) if isinstance(v, Tensor) else self.freeze(v, depth) for v in self._counted(found, depth)]
        if not isinstance(value, np.ndarray):
            return None
        if found.dtype.hasobject:
            return self._listed(found.flat, depth)
        self._spend(found.nbytes // _BYTES_PER_VALUE, depth)
        content: Any = np.ascontiguousarray(found).reshape(-1).view(np.uint8)
        return found.shape, found.dtype.str, zlib.crc32(content)

    def _named(self, values: Any, depth: int) -> dict[Any, Any]:
        return {name: self.freeze(value, depth) for name, value in self._counted(values.items(), depth)}

    def _listed(self, values: Any, depth: int) -> list[Any]:
        return [self.freeze(value, depth) for value in self._counted(values, depth)]

    def _counted(self, values: Any, depth: int) -> list[Any]:
        listed = list(values)
        self._spend(len(listed), depth)
        return listed

    def _spend(self, number: int, depth: int) -> None:
        self._left -= number
        if self._left < 0 or depth < 0:
            raise TooMuch
