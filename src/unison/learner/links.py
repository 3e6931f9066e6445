"""What hangs where, noted once, so that asking whether it still does costs little."""

from operator import getitem, is_
from typing import Any


class Links:
    """Places in dicts and lists, each with the object that was found there."""

    def __init__(self) -> None:
        self._containers: list[Any] = []
        self._keys: list[Any] = []
        self._found: list[Any] = []

    def add(self, container: Any, key: Any) -> Any:
        """Note a place; returns what it holds, and raises LookupError if there is nothing."""
        found = container[key]
        self._containers.append(container)
        self._keys.append(key)
        self._found.append(found)
        return found

    def hold(self) -> bool:
        """Whether every place holds the same object as when it was noted."""
        try:
            return all(map(is_, map(getitem, self._containers, self._keys), self._found))
        except LookupError:
            return False
