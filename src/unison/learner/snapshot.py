"""What an update may change, kept from before it does, so that a failed one leaves no trace."""

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unison.learner.engines.torch_parts import alike, copy_all, pointers
from unison.learner.held import buffer_places, held_parameters
from unison.learner.optimizer_slot import OptimizerSlot
from unison.types import ModuleID

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner


class Snapshot:
    """The parameters, optimizers, coefficients and counters of some modules, as an update found them.

    Copies of tensors are the most of it, and made as late as can be: whoever is about to change tensors calls `take`
    before. They take over the memory of those that the Learner no longer needs.

    Args:
        learner: the Learner about to update.
        module_ids: the modules that the update concerns.
    """

    def __init__(self, learner: "TorchLearner", module_ids: Collection[ModuleID]) -> None:
        self._learner = learner
        self._slots = learner.optimizers.active(module_ids)
        self._flat = [(group, group.buffers(), group.is_uniform) for slot in self._slots for group in slot.groups]
        self._buffers = [(place, dict(place)) for place in buffer_places(learner.module)]
        self._rest = [(tensor, tensor.detach()) for tensor in self._find_rest(module_ids)]
        self._tensors = [*self._moved(), *(memory for _, memory in self._rest), *self._coefficients()]
        self._values: list[Tensor] | None = None
        self.memory: list[Tensor] = []
        """The copies that are its own."""
        self._counters, self._schedule_step = dict(learner.counters), learner.schedule_step
        self._rng = learner.generator.get_state()
        self._results = learner.results
        # Schedules move the rates and coefficients of all modules, also of those without rows.
        self._groups = [(s, list(s.optimizer.param_groups), _settings(s)) for s in learner.optimizers.slots.values()]
        self._own_states = {
            id(s): copy.deepcopy(s.optimizer.state_dict()) for s in self._slots if s.own_step_reason is not None
        }

    def take(self, known: Mapping[int, Tensor] | None = None) -> None:
        """Copy the tensors, unless that was done; `known` are copies that exist, by the address of the original."""
        if self._values is not None:
            return
        found = {n: known[p] for n, p in enumerate(pointers(self._tensors)) if p in known} if known else {}
        found = {n: copied for n, copied in found.items() if alike(copied, self._tensors[n])}
        missing = [tensor for n, tensor in enumerate(self._tensors) if n not in found]
        self.memory, self._learner.snapshot_memory = _copies(missing, self._learner.snapshot_memory), []
        own = iter(self.memory)
        self._values = [found[n] if n in found else next(own) for n in range(len(self._tensors))]

    def restore(self) -> None:
        """Put everything back as it was."""
        if self._values is not None:
            with torch.no_grad():
                copy_all(self._tensors, self._values)
        for place, buffers in self._buffers:
            place.clear()
            place |= buffers
        for tensor, memory in self._rest:
            tensor.data = memory
        self._learner.counters.update(self._counters)
        self._learner.schedule_step = self._schedule_step
        self._learner.generator.set_state(self._rng)
        self._learner.metrics.collect()
        self._learner.exchange.clear()
        self._learner.results = self._results
        for slot, groups, settings in self._groups:
            slot.optimizer.param_groups[:] = groups
            put_settings_back(slot, settings)
            if id(slot) in self._own_states:
                slot.optimizer.load_state_dict(self._own_states[id(slot)])
        for group, buffers, is_uniform in self._flat:
            group.put_back(buffers, is_uniform=is_uniform)

    def _moved(self) -> list[Tensor]:
        """What the optimizers move."""
        return [
            buffer
            for _, buffers, _ in self._flat
            for name, buffer in buffers.items()
            if name not in ("gradients", "last_non_finite")
        ]

    def _find_rest(self, module_ids: Collection[ModuleID]) -> list[Tensor]:
        """Buffers, and parameters without an optimizer: they may move as well, target networks do."""
        learner, rest = self._learner, list[Tensor]()
        for module_id in module_ids:
            rest += learner.optimizers.unowned(held_parameters(learner.module[module_id]))
        return rest + [buffer for _, held in self._buffers for buffer in held.values() if buffer is not None]

    def _coefficients(self) -> list[Tensor]:
        """Those of all modules, and of the precision."""
        coefficients = [c for named in self._learner.coefficients.values() for c in named.values()]
        return [*coefficients, *self._learner.precision.state.values()]


def _copies(tensors: list[Tensor], memory: list[Tensor]) -> list[Tensor]:
    """Copies of tensors, in `memory` if it fits: fresh memory costs as much again as the copying."""
    if len(tensors) != len(memory) or not all(map(alike, tensors, memory)):
        return [tensor.detach().clone() for tensor in tensors]
    with torch.no_grad():
        copy_all(memory, tensors)
    return memory


def settings_of(options: dict[str, Any]) -> dict[str, Any]:
    """A param group without its parameters; tensors are copied."""
    return {
        name: value.clone() if isinstance(value, Tensor) else value
        for name, value in options.items()
        if name != "params"
    }


def _settings(slot: OptimizerSlot) -> list[dict[str, Any]]:
    """The param groups of an optimizer, each with a list of its own of its parameters."""
    return [{**settings_of(options), "params": list(options["params"])} for options in slot.optimizer.param_groups]


def put_settings_back(slot: OptimizerSlot, settings: Sequence[dict[str, Any]]) -> None:
    """Give the param groups of an optimizer what `settings_of` took from them."""
    for options, old in zip(slot.optimizer.param_groups, settings, strict=True):
        for name, value in old.items():
            if isinstance(value, Tensor) and isinstance(options.get(name), Tensor):
                options[name].copy_(value)
            else:
                options[name] = value
