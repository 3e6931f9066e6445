"""Which settings the hooks of a step read from the param groups of optimizers: a trace freezes them."""

from collections.abc import Collection, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from unison.learner.engines.recording import Untraceable, current_place
from unison.learner.engines.watching import Same, frozen

if TYPE_CHECKING:
    from unison.learner.optimizer_slot import OptimizerSlot


class Setting(NamedTuple):
    """One setting of one param group of an optimizer."""

    slot: "OptimizerSlot"
    index: int
    name: str

    def value(self) -> Any:
        """What it is now, to compare later; a tensor is the same as long as it is the same object."""
        now: Any = self.slot.optimizer.param_groups[self.index].get(self.name)
        return Same(now) if isinstance(now, Tensor) else frozen(now)

    def __str__(self) -> str:
        return f"the setting '{self.name}' of optimizer '{self.slot.name}' of module '{self.slot.module_id}'"


class GroupSpy:
    """Notes which settings of optimizers are read while it is active, and refuses that they change.

    Args:
        slots: the optimizers; others stand in for their param groups for the time being.
    """

    def __init__(self, slots: Collection["OptimizerSlot"]) -> None:
        self._slots = slots
        self._groups = [slot.optimizer.param_groups for slot in slots]
        self.read: list[Setting] = []

    def __enter__(self) -> "GroupSpy":
        for slot, groups in zip(self._slots, self._groups, strict=True):
            watched: Any = tuple(_Watched(self, slot, index, options) for index, options in enumerate(groups))
            slot.optimizer.param_groups = watched
        return self

    def __exit__(self, *_: object) -> None:
        for slot, groups in zip(self._slots, self._groups, strict=True):
            slot.optimizer.param_groups = groups

    def note(self, slot: "OptimizerSlot", index: int, name: str) -> None:
        """A setting is being read."""
        if not any(each.slot is slot and each[1:] == (index, name) for each in self.read):
            self.read.append(Setting(slot, index, name))


class _Watched(MutableMapping[str, Any]):
    """Stands in for a param group."""

    def __init__(self, spy: GroupSpy, slot: "OptimizerSlot", index: int, options: dict[str, Any]) -> None:
        self._spy, self._slot, self._index, self._options = spy, slot, index, options

    def __getitem__(self, name: str) -> Any:
        self._spy.note(self._slot, self._index, name)
        return self._options[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._refuse(name)

    def __delitem__(self, name: str) -> None:
        self._refuse(name)

    def _refuse(self, name: str) -> None:
        raise Untraceable(f"{current_place()} changes {Setting(self._slot, self._index, name)} in every step")

    def __iter__(self) -> Iterator[str]:
        return iter(self._options)

    def __len__(self) -> int:
        return len(self._options)
