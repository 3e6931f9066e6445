"""Which settings the hooks of a step read from the param groups of optimizers: a trace freezes them."""

from collections.abc import Iterable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple

from unison.learner.engines.frozen import frozen
from unison.learner.engines.recording import Untraceable, current_place

if TYPE_CHECKING:
    from unison.learner.optimizer_slot import OptimizerSlot


class Setting(NamedTuple):
    """One setting of one param group of an optimizer."""

    slot: "OptimizerSlot"
    group: int
    name: str

    def value(self) -> Any:
        """What it is now, to compare later; tensors are followed, and not compared."""
        return frozen(self.slot.optimizer.param_groups[self.group].get(self.name))

    def __str__(self) -> str:
        return f"the setting '{self.name}' of optimizer '{self.slot.name}' of module '{self.slot.module_id}'"


class GroupSpy:
    """Notes which settings of optimizers are read while it is active, and refuses that they change.

    Args:
        slots: the optimizers; others stand in for their param groups for the time being.
    """

    def __init__(self, slots: Iterable["OptimizerSlot"]) -> None:
        self._held = [(slot, slot.optimizer.param_groups) for slot in slots]
        self.is_active = False
        self.read: list[Setting] = []

    def __enter__(self) -> "GroupSpy":
        for slot, groups in self._held:
            watched: Any = tuple(_Watched(self, slot, number, options) for number, options in enumerate(groups))
            slot.optimizer.param_groups = watched
        self.is_active = True
        return self

    def __exit__(self, *_: object) -> None:
        self.is_active = False
        for slot, groups in self._held:
            slot.optimizer.param_groups = groups

    def note_read(self, setting: Setting) -> None:
        """A setting is being read."""
        if self.is_active and setting not in self.read:
            self.read.append(setting)

    def refuse_write(self, setting: Setting) -> None:
        """A setting is about to change; hooks may have kept a group until they may change it."""
        if self.is_active:
            raise Untraceable(f"{current_place()} changes {setting} in every step")


class _Watched(MutableMapping[str, Any]):
    """Stands in for a param group."""

    # No attributes that a walk would find: a hook may keep it on the Learner.
    __slots__ = ("_number", "_options", "_slot", "_spy")

    def __init__(self, spy: GroupSpy, slot: "OptimizerSlot", number: int, options: dict[str, Any]) -> None:
        self._spy, self._slot, self._number, self._options = spy, slot, number, options

    @property
    def __class__(self) -> type:  # pyright: ignore[reportIncompatibleMethodOverride]  # nobody sets it
        """What a hook finds that asks whether it is a dict; a walk, which comes after the hooks, shall find none."""
        return dict if self._spy.is_active else _Watched

    def copy(self) -> dict[str, Any]:
        """As of a dict."""
        return dict(self)

    def __getitem__(self, name: str) -> Any:
        self._spy.note_read(self._setting(name))
        return self._options[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._spy.refuse_write(self._setting(name))
        self._options[name] = value

    def __delitem__(self, name: str) -> None:
        self._spy.refuse_write(self._setting(name))
        del self._options[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._options)

    def __len__(self) -> int:
        return len(self._options)

    def _setting(self, name: str) -> Setting:
        return Setting(self._slot, self._number, name)
