"""References to objects in the store, taken out of arguments and put back as objects where they arrive.

Ray brings the objects of those references that travel by themselves, beside the arguments.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast


class Lifted(NamedTuple):
    """Stands in an argument for an object that travels beside it."""

    number: int


def lift(value: Any, is_reference: Callable[[Any], bool], lifted: list[Any]) -> Any:
    """An argument without references: itself, or the members of a list, tuple or dict; they are added to `lifted`."""

    def out(item: Any) -> Any:
        if not is_reference(item):
            return item
        lifted.append(item)
        return Lifted(len(lifted) - 1)

    if isinstance(value, list | tuple):
        items = cast("Sequence[Any]", value)
        return [out(item) for item in items] if any(map(is_reference, items)) else items
    if type(value) is dict:
        return {key: out(item) for key, item in cast("dict[Any, Any]", value).items()}
    return out(value)


def fill(value: Any, objects: Sequence[Any]) -> Any:
    """An argument with its objects in their places; a list in a list is spliced in (episodes come in lists)."""
    if type(value) is list:
        whole: list[Any] = []
        for item in cast("list[Any]", value):
            filled = _object(item, objects)
            is_many = isinstance(item, Lifted) and isinstance(filled, list)
            whole += cast("list[Any]", filled) if is_many else [filled]
        return whole
    if type(value) is dict:
        return {key: _object(item, objects) for key, item in cast("dict[Any, Any]", value).items()}
    return _object(value, objects)


def _object(item: Any, objects: Sequence[Any]) -> Any:
    return objects[item.number] if isinstance(item, Lifted) else item
