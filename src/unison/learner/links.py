"""What hangs where, noted once, so that asking whether it still does costs little."""

from collections.abc import Collection
from operator import getitem, is_
from typing import Any


class Links:
    """Places in dicts and lists, each with the object that was found there."""

    def __init__(self) -> None:
        self._containers: list[Any] = []
        self._keys: list[Any] = []
        self._found: list[Any] = []
        self._counted: list[Any] = []
        self._counts: list[int] = []

    def add(self, container: Any, key: Any) -> Any:
        """Note a place; returns what it holds, and raises LookupError if there is nothing."""
        found = container[key]
        self._containers.append(container)
        self._keys.append(key)
        self._found.append(found)
        return found

    def add_count(self, container: Any) -> None:
        """Note how many places a container has."""
        self._counted.append(container)
        self._counts.append(len(container))

    def add_all(self, container: Any, *, but: Collection[Any] = ()) -> None:
        """Note every place of a dict or list and of those in it, and how many there are; those named in `but` not."""
        self.add_count(container)
        for key in container.keys() if hasattr(container, "keys") else range(len(container)):
            if key not in but and isinstance(found := self.add(container, key), dict | list):
                self.add_all(found)

    def hold(self) -> bool:
        """Whether every place holds the same object as when it was noted, and no container has more or fewer."""
        try:
            same = all(map(is_, map(getitem, self._containers, self._keys), self._found))
            return same and list(map(len, self._counted)) == self._counts
        except LookupError:
            return False
