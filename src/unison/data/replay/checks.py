"""What a replay is told by its users: named where it makes no sense, before anything is drawn or changed."""

from collections.abc import Callable, Collection, Mapping
from operator import index
from typing import Any, Final, TypeVar, cast

from unison.errors import ConfigError, StateError
from unison.types import ModuleID

_Number = TypeVar("_Number", int, float)

_PARTS: Final = {
    "ring": ("columns", "written", "capacity"),
    "links": ("next", "open"),
    "sampler": (),  # What a sampler lacks, it makes anew.
}
"""What the state of a module holds, and what each part of it."""


def at_least_one(name: str, given: Any) -> int:
    """An integer of any type; one below 1, or something else, raises ConfigError."""
    try:
        number = index(given)
    except TypeError:
        number = 0
    if number < 1:
        raise ConfigError(f"{name} is {given!r}; give an integer of at least 1.")
    return number


def fraction(name: str, given: Any) -> float:
    """A number from 0 to 1; anything else raises ConfigError."""
    try:
        fits = bool(0 <= given <= 1)
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ConfigError(f"{name} is {given!r}; give a number from 0 to 1.")
    return float(given)


def by_module(
    name: str, given: Any, module_ids: Collection[ModuleID], check: Callable[[str, Any], _Number]
) -> dict[ModuleID, _Number]:
    """A number for each module, of one for all or of a mapping; one that is wrong or missing raises ConfigError."""
    if not isinstance(given, Mapping):
        return dict.fromkeys(module_ids, check(name, given))
    numbers = cast("Mapping[ModuleID, Any]", given)
    for module_id in module_ids:
        if module_id not in numbers:
            raise ConfigError(
                f"{name} has no number for module '{module_id}', only for {sorted(numbers)}; give it one, or leave the "
                "module out by module_ids."
            )
    return {module_id: check(name, numbers[module_id]) for module_id in module_ids}


def check_state(state: Any, capacity: int) -> None:
    """Require what a replay buffer of this capacity returned as its state; anything else raises StateError."""
    _require(state, ("modules", "generator"), "The state of the replay")
    _require(state["modules"], (), "The state of the replay, 'modules'")
    for module_id, saved in state["modules"].items():
        where = f"The state of the replay, module '{module_id}'"
        _require(saved, _PARTS, where)
        for part, names in _PARTS.items():
            _require(saved[part], names, f"{where}, '{part}'")
        if saved["ring"]["capacity"] != capacity:
            raise StateError(
                f"Module '{module_id}': the state is of a replay buffer for {saved['ring']['capacity']} steps, and "
                f"this one is for {capacity}. Set training(replay_capacity=...) to the same."
            )


def _require(state: Any, names: Collection[str], where: str) -> None:
    if not isinstance(state, Mapping):
        raise StateError(f"{where}: it is a {type(state).__name__}; give what get_state() returned.")
    missing = [name for name in names if name not in state]
    if missing:
        raise StateError(f"{where}: it lacks {missing}; give what get_state() returned.")
