"""Modules that act, kept equal to modules of the same process that train."""

from typing import final

import torch
from torch import Tensor

from unison.errors import ModuleError, StateError
from unison.modules.module_state import Tensors, first_names, tensors_by_name
from unison.modules.multi_agent_rl_module import MultiAgentRLModule
from unison.types import ModuleID


@final
class Mirror:
    """Copies what acting needs from one set of modules to another, tensor to tensor, without a state in between.

    Args:
        source: the modules that train.
        target: the modules that act.

    Raises:
        ModuleError: the two have no module in common.
        StateError: a tensor of a module that acts is missing in the one that trains, or has another shape there.
    """

    def __init__(self, source: MultiAgentRLModule, target: MultiAgentRLModule) -> None:
        self._source, self._target = source, target
        self._members = self._common()
        if not self._members:
            raise ModuleError(f"The weights are for {sorted(source)}, but the modules that act are {sorted(target)}.")
        self._pairs: list[tuple[Tensor, Tensor]] = []
        for module_id in source:
            if module_id in target:
                ours, theirs = target[module_id], tensors_by_name(source[module_id])
                named = first_names(tensors_by_name(ours)).items()
                acting = [(name, tensor) for name, tensor in named if ours.is_inference_parameter(name)]
                _check_same(module_id, dict(acting), theirs)
                self._pairs += [(tensor, theirs[name]) for name, tensor in acting]

    def is_of(self, source: MultiAgentRLModule) -> bool:
        """Whether it mirrors `source`, and none of the modules has been replaced since."""
        return source is self._source and self._members == self._common()

    def update(self) -> None:
        """Copy all weights."""
        with torch.no_grad():
            for target, source in self._pairs:
                target.copy_(source)

    def _common(self) -> list[tuple[int, int]]:
        source, target = self._source, self._target
        return [(id(source[m]), id(target[m])) for m in source if m in target]


def _check_same(module_id: ModuleID, ours: Tensors, theirs: Tensors) -> None:
    """Copying would stretch a tensor of another shape in silence."""
    for name, tensor in ours.items():
        found = theirs.get(name)
        if found is None or found.shape != tensor.shape:
            trained = "is missing" if found is None else f"has shape {tuple(found.shape)}"
            raise StateError(
                f"Module '{module_id}': '{name}' has shape {tuple(tensor.shape)} where it acts, but {trained} where it "
                "trains. Build both with the same class, spaces and model_config."
            )
