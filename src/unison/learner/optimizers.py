"""The optimizers of a Learner, by module and name."""

from collections.abc import Collection, Iterable

import torch

from unison.config.schedule import Schedule
from unison.errors import OptimizerError
from unison.learner.flat_group import Parameter
from unison.learner.optimizer_slot import OptimizerSlot
from unison.types import ALL_MODULES, ModuleID, ParamRef


class Optimizers:
    """Registered optimizers and the rule that a parameter has at most one."""

    def __init__(self) -> None:
        self.slots: dict[tuple[ModuleID, str], OptimizerSlot] = {}
        self._owners: dict[int, tuple[ModuleID, str]] = {}
        # By the parameter's id: the slots hold the parameters, and torch hashes a tensor slowly.

    def register(
        self,
        module_id: ModuleID,
        name: str,
        optimizer: torch.optim.Optimizer,
        refs: dict[ParamRef, Parameter],
        schedule: Schedule | None,
        *,
        users: Collection[ModuleID],
    ) -> None:
        """Add an optimizer; `users` are the modules that contain all its parameters.

        Raises:
            OptimizerError: the name is taken, or a parameter has an optimizer already.
        """
        if (module_id, name) in self.slots:
            raise OptimizerError(f"Module '{module_id}' has an optimizer '{name}' already; choose another name.")
        for ref, parameter in refs.items():
            owner = self._owners.get(id(parameter))
            if owner is not None:
                raise OptimizerError(
                    f"Parameter '{ref}' belongs to optimizer '{owner[1]}' of module '{owner[0]}' already; "
                    f"leave it out of '{name}' of module '{module_id}'. A parameter has one optimizer."
                )
        self.slots[module_id, name] = OptimizerSlot(module_id, name, optimizer, refs, schedule, users)
        self._owners |= dict.fromkeys(map(id, refs.values()), (module_id, name))

    def get(self, module_id: ModuleID, name: str) -> OptimizerSlot:
        """The optimizer `name` of a module; an unknown one raises `OptimizerError` and lists those known."""
        try:
            return self.slots[module_id, name]
        except KeyError:
            known = [f"{m}: {n}" for m, n in self.slots]
            raise OptimizerError(f"Module '{module_id}' has no optimizer '{name}'. Known: {known}.") from None

    def of_module(self, module_id: ModuleID) -> list[OptimizerSlot]:
        """The optimizers of a module, in the order of registration; ALL_MODULES: of all."""
        return [slot for (m, _), slot in self.slots.items() if module_id in (m, ALL_MODULES)]

    def registered_by(self, module_id: ModuleID) -> list[OptimizerSlot]:
        """The optimizers under exactly this id."""
        return [slot for (m, _), slot in self.slots.items() if m == module_id]

    def slot_of(self, optimizer: torch.optim.Optimizer) -> OptimizerSlot:
        """The slot of a registered optimizer object."""
        for slot in self.slots.values():
            if slot.optimizer is optimizer:
                return slot
        raise OptimizerError(f"This {type(optimizer).__name__} is not registered; call register_optimizer() first.")

    def active(self, module_ids: Iterable[ModuleID]) -> list[OptimizerSlot]:
        """The optimizers that step when these modules have rows."""
        present = set(module_ids)
        return [s for (m, _), s in self.slots.items() if m == ALL_MODULES or not present.isdisjoint(s.users)]

    def check(self) -> None:
        """Raise what `OptimizerSlot.check` does; to be called before settings are read."""
        for slot in self.slots.values():
            slot.check()

    def check_for_step(self) -> None:
        """Raise what `OptimizerSlot.check` and `check_rates` do."""
        for slot in self.slots.values():
            slot.check()
            slot.check_rates()

    def sync(self) -> None:
        """Adopt what changed from outside: something may have replaced a parameter's tensor."""
        for slot in self.slots.values():
            slot.sync()

    def is_owned(self, parameter: Parameter) -> bool:
        """Whether a parameter has an optimizer."""
        return id(parameter) in self._owners

    def unowned(self, parameters: Iterable[Parameter]) -> list[Parameter]:
        """Those of some parameters that have no optimizer."""
        return [parameter for parameter in parameters if id(parameter) not in self._owners]

    def check_removal(self, module_id: ModuleID, *, keep: Iterable[Parameter]) -> None:
        """Raise what `remove_module` would, and change nothing."""
        shared = {id(p) for p in keep}
        orphans = [r for slot in self.registered_by(module_id) for r, p in slot.refs.items() if id(p) in shared]
        if orphans:
            raise OptimizerError(
                f"Module '{module_id}' owns the optimizer of parameters that other modules share: {orphans[:3]}. "
                "Register the shared parameters under ALL_MODULES, or remove the other modules first."
            )

    def remove_module(self, module_id: ModuleID, *, keep: Iterable[Parameter]) -> None:
        """Forget a module's optimizers, all of them or (on an error) none; `keep` are parameters of other modules.

        Raises:
            OptimizerError: a shared parameter would lose its optimizer.
        """
        self.check_removal(module_id, keep=keep)
        for slot in self.registered_by(module_id):
            del self.slots[module_id, slot.name]
            for parameter in slot.refs.values():
                del self._owners[id(parameter)]
