"""What Python objects hold: items of containers, and attributes in their dict, in slots or by their class."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MemberDescriptorType
from typing import Any, TypeAlias

from torch import nn
from torch.optim.lr_scheduler import LRScheduler

Step: TypeAlias = tuple[str, Any]
"""From an object to what hangs directly below it: ("attribute", name) or ("item", key)."""

# Not "abc": classes that are made by a call of `type` say that they come from there.
_FOREIGN = frozenset(
    [
        "_abc",
        "builtins",
        "concurrent",
        "enum",
        "functools",
        "gymnasium",
        "jax",
        "jaxlib",
        "logging",
        "numpy",
        "pathlib",
        "pydantic",
        "pydantic_core",
        "threading",
        "torch",
        "typing",
        "weakref",
    ]
)
_KNOWN = frozenset(["concurrent", "gymnasium", "logging", "threading", "torch", "unison"])
"""Packages of which also those objects stay closed whose classes derive from theirs."""


@lru_cache(maxsize=1024)
def is_open(kind: type) -> bool:
    """Whether a step may read plain values from the attributes of such objects: users wrote them, or they hold rates.

    Closed are optimizers, environments, loggers, threads and our own objects; modules of torch and of users are open.
    """
    home = _home(kind)
    if issubclass(kind, nn.Module | LRScheduler):
        return home != "unison"
    if home in _FOREIGN or issubclass(kind, type):
        return False
    return _KNOWN.isdisjoint(map(_home, kind.__mro__))


def is_of_users(kind: type) -> bool:
    """Whether neither we nor a library that is known here wrote a class."""
    return _home(kind) not in _FOREIGN and _home(kind) != "unison"


def attributes_of(value: object) -> Mapping[str, Any]:
    """The attributes of an object itself, looked up without running code of its class."""
    try:
        own: dict[str, Any] = object.__getattribute__(value, "__dict__")
    except AttributeError:
        own = {}
    kind = type(value)
    slots = _slots(kind)
    return _WithSlots(value, own, slots) if slots else own


def class_attributes(value: Any) -> dict[str, Any]:
    """What users' classes of an object hold as data: no methods, properties and the like."""
    found: dict[str, Any] = {}
    for kind in reversed(type(value).__mro__):
        if _home(kind) not in _FOREIGN:
            found |= {name: data for name, data in vars(kind).items() if name[:2] != "__" and _is_data(data)}
    return found


def _is_data(value: object) -> bool:
    return not hasattr(type(value), "__get__")


def children(value: Any) -> Iterator[tuple[Step, Any]]:
    """What hangs directly below an object: items of containers, attributes of objects of our own and of users."""
    whole: object = value
    if isinstance(value, dict):
        for key, item in value.items():  # pyright: ignore[reportUnknownVariableType]
            yield ("item", key), item
    elif isinstance(value, list | tuple):
        for key, item in enumerate(value):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            yield ("item", key), item
    if is_open(type(whole)) or not _is_foreign(whole):
        for name, item in list(attributes_of(whole).items()):
            yield ("attribute", name), item


def _is_foreign(value: object) -> bool:
    kind = type(value)
    if isinstance(value, nn.Module):
        return False
    # Settings are frozen, and there are thousands of them.
    return (
        _home(kind) in _FOREIGN
        or kind.__module__.startswith("unison.config")
        or isinstance(value, type)
        or callable(value)
    )


def _home(kind: type) -> str:
    return kind.__module__.partition(".")[0]


@lru_cache(maxsize=1024)
def _slots(kind: type) -> tuple[str, ...]:
    if not is_open(kind):
        return ()
    written = [vars(each) for each in kind.__mro__ if _home(each) not in _FOREIGN]
    return tuple(n for where in written for n, v in where.items() if isinstance(v, MemberDescriptorType))


class _WithSlots(Mapping[str, Any]):
    """The attributes of an object some of which are in slots."""

    def __init__(self, value: Any, own: dict[str, Any], slots: tuple[str, ...]) -> None:
        self._value, self._own, self._slots = value, own, slots

    def __getitem__(self, name: str) -> Any:
        if name not in self._slots:
            return self._own[name]
        try:
            return object.__getattribute__(self._value, name)
        except AttributeError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from (name for name in self._slots if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)
