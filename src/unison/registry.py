"""Names that lower layers use to find classes of upper ones, and checkpoints to find theirs.

A class is registered under a kind and a name, for example `("learner", "ppo")`. Upper layers
register when they are imported; `config.build_learner()` then works without importing upward. Those of
Unison itself are imported by the first look-up that misses.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from unison.errors import ConfigError
from unison.suggest import did_you_mean

ClassT = TypeVar("ClassT", bound=type)
_classes: dict[tuple[str, str], type] = {}


def register(kind: str, name: str) -> Callable[[ClassT], ClassT]:
    """Class decorator: make the class known as `name` among those of `kind`."""

    def decorate(cls: ClassT) -> ClassT:
        known = _classes.setdefault((kind, name), cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ConfigError(
                f"The {kind} name '{name}' belongs to {known.__module__}.{known.__qualname__}; choose another."
            )
        _classes[kind, name] = cls
        return cls

    return decorate


def lookup(kind: str, name: str) -> type[Any]:
    """The class registered as `name`; an unknown name raises and names the nearest."""
    if (kind, name) not in _classes:
        import_module("unison.algorithms")
    if (kind, name) in _classes:
        return _classes[kind, name]
    known = [n for k, n in _classes if k == kind]
    raise ConfigError(f"No {kind} is registered as '{name}'. {did_you_mean(name, known)}")


def registered_name(kind: str, cls: type) -> str | None:
    """The name under which `cls` is registered, or None."""
    return next((name for (k, name), known in _classes.items() if k == kind and known is cls), None)
