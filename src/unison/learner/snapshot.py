"""What an update may change, kept from its start, so that a failed one leaves no trace."""

import copy
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unison.learner.optimizer_slot import OptimizerSlot
from unison.types import ModuleID

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner


class Snapshot:
    """A copy of the parameters, optimizers, coefficients and counters of some modules.

    It takes over the memory of one that the Learner no longer needs.

    Args:
        learner: the Learner about to update.
        module_ids: the modules that the update concerns.
    """

    def __init__(self, learner: "TorchLearner", module_ids: Collection[ModuleID]) -> None:
        self._learner = learner
        self._slots = learner.optimizers.active(module_ids)
        self._tensors = list(tensors_of(learner, self._slots, module_ids).values())
        self.values = _copies(self._tensors, learner.snapshot_memory)
        learner.snapshot_memory = []
        self._counters, self._schedule_step = dict(learner.counters), learner.schedule_step
        self._rng = learner.generator.get_state()
        self._results = learner.results
        # Schedules move the rates and coefficients of all modules, also of those without rows.
        self._settings = [
            (s, [settings_of(o) for o in s.optimizer.param_groups]) for s in learner.optimizers.slots.values()
        ]
        self._own_states = {
            id(s): copy.deepcopy(s.optimizer.state_dict()) for s in self._slots if s.own_step_reason is not None
        }

    def restore(self) -> None:
        """Put everything back as it was."""
        with torch.no_grad():
            for tensor, value in zip(self._tensors, self.values, strict=True):
                tensor.copy_(value)
        self._learner.counters.update(self._counters)
        self._learner.schedule_step = self._schedule_step
        self._learner.generator.set_state(self._rng)
        self._learner.metrics.collect()
        self._learner.exchange.clear()
        self._learner.results = self._results
        for slot, settings in self._settings:
            put_settings_back(slot, settings)
            if id(slot) in self._own_states:
                slot.optimizer.load_state_dict(self._own_states[id(slot)])


def tensors_of(
    learner: "TorchLearner", slots: Sequence[OptimizerSlot], module_ids: Collection[ModuleID]
) -> dict[str, Tensor]:
    """By name, the tensors that an update of these modules, by these optimizers, may change."""
    tensors: dict[str, Tensor] = {}
    for slot in slots:
        for number, group in enumerate(slot.groups):
            for name, buffer in group.buffers().items():
                if name not in ("gradients", "last_non_finite"):
                    tensors[f"{slot.module_id}/{slot.name}/{number}/{name}"] = buffer
    for module_id in module_ids:
        # Parameters without an optimizer may move as well: target networks do.
        for name, parameter in learner.module[module_id].named_parameters():
            if not learner.optimizers.is_owned(parameter):
                tensors[f"fixed/{module_id}/{name}"] = parameter.detach()
    for name, buffer in learner.module.named_buffers():
        tensors[f"buffers/{name}"] = buffer
    for module_id, named in learner.coefficients.items():
        for name, coefficient in named.items():
            tensors[f"coefficients/{module_id}/{name}"] = coefficient
    return tensors | {f"precision/{name}": value for name, value in learner.precision.state.items()}


def _copies(tensors: list[Tensor], memory: list[Tensor]) -> list[Tensor]:
    """Copies of tensors, in `memory` if it fits: fresh memory costs as much again as the copying."""
    if len(tensors) != len(memory) or any(not _alike(t, m) for t, m in zip(tensors, memory, strict=True)):
        return [tensor.detach().clone() for tensor in tensors]
    with torch.no_grad():
        for tensor, copy_of_it in zip(tensors, memory, strict=True):
            copy_of_it.copy_(tensor)
    return memory


def _alike(tensor: Tensor, other: Tensor) -> bool:
    return tensor.shape == other.shape and tensor.dtype is other.dtype and tensor.device == other.device


def settings_of(options: dict[str, Any]) -> dict[str, Any]:
    """A param group without its parameters; tensors are copied."""
    return {
        name: value.clone() if isinstance(value, Tensor) else value
        for name, value in options.items()
        if name != "params"
    }


def put_settings_back(slot: OptimizerSlot, settings: Sequence[dict[str, Any]]) -> None:
    """Give the param groups of an optimizer what `settings_of` took from them."""
    for options, old in zip(slot.optimizer.param_groups, settings, strict=True):
        for name, value in old.items():
            if isinstance(value, Tensor) and isinstance(options[name], Tensor):
                options[name].copy_(value)
            else:
                options[name] = value
