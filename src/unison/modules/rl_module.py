"""RLModule: one policy, with whatever it needs for acting and learning."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self, cast

import gymnasium as gym
from torch import Tensor, nn

from unison.config import ModelConfig
from unison.data import Columns
from unison.errors import SpaceError
from unison.modules import module_checkpoint, module_state
from unison.modules.distributions import DistributionType, distribution_for
from unison.modules.model_settings import resolve_model_config
from unison.modules.module_state import ModuleState
from unison.modules.normalizer import Moments
from unison.modules.outputs import check_outputs, check_state_tree
from unison.types import Tree


class RLModule(nn.Module, ABC):
    """A policy as a `torch.nn.Module`; subclass it, make the layers in `setup`, and write `forward_inference`.

    A batch maps column names to trees of tensors. A stateless module gets `obs` `[B, ...]`. A stateful one always gets
    `obs` `[B, T, ...]` (T = 1 for acting) and `state_in`, the state `[B, ...]` before the first step of each row, and
    returns `state_out`, the state after the last. Rows are padded at their end and never cross an episode's boundary.

    The outputs are `action_dist_inputs` `[B, K]` or `[B, T, K]`, the parameters of `action_distribution`; or, from a
    scripted policy without one, `actions` `[B, ...]` as the environment takes them. `forward_train` returns whatever
    the loss needs besides, such as `vf_preds` `[B]` or `[B, T]`.

    Args:
        observation_space: what the module sees.
        action_space: what it decides on.
        model_config: settings (`ModelConfig`, or a dict of some of them); a module's own go in `custom_model_config`.
    """

    def __init__(
        self,
        *,
        observation_space: gym.Space[Any] | None = None,
        action_space: gym.Space[Any] | None = None,
        model_config: ModelConfig | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.observation_space = observation_space
        self.action_space = action_space
        self.model_config = resolve_model_config(model_config)
        self._action_distribution: DistributionType | None = None
        self.setup()
        if self.model_config.frozen:
            self.requires_grad_(False)

    def setup(self) -> None:
        """Hook: make the layers. The spaces and `model_config` are set already. Default: none."""

    @abstractmethod
    def forward_inference(self, batch: Mapping[str, Tree]) -> dict[str, Tree]:
        """What acting without exploration needs (evaluation, deployment)."""

    def forward_exploration(self, batch: Mapping[str, Tree]) -> dict[str, Tree]:
        """What acting while collecting data needs. Default: as `forward_inference`."""
        return self.forward_inference(batch)

    def forward_train(self, batch: Mapping[str, Tree]) -> dict[str, Tree]:
        """What the loss needs. Default: as `forward_inference`."""
        return self.forward_inference(batch)

    def forward(self, batch: Mapping[str, Tree]) -> dict[str, Tree]:
        """As `forward_train`, so that `torch.func.functional_call` and compilers see the training step."""
        return self.forward_train(batch)

    def compute_values(self, batch: Mapping[str, Tree]) -> Tensor:
        """The values of the states, `[B]` or `[B, T]`. Default: `vf_preds` of `forward_train`.

        Raises:
            ModuleError: there are none.
        """
        outputs = self.forward_train(batch)
        check_outputs(type(self).__name__, outputs, Columns.VF_PREDS)
        return outputs[Columns.VF_PREDS]

    @property
    def action_distribution(self) -> DistributionType:
        """What makes a distribution over actions from `action_dist_inputs`. Default: that of the action space.

        Raises:
            SpaceError: the module has no action space, or one without a distribution.
        """
        if self._action_distribution is None:
            if self.action_space is None:
                raise SpaceError(f"{type(self).__name__} has no action_space, so it has no action distribution.")
            self._action_distribution = distribution_for(self.action_space)
        return self._action_distribution

    def get_initial_state(self) -> dict[str, Tree]:
        """The state before an episode's first step: a tree of tensors without the dimension B. Default: none."""
        return {}

    def is_stateful(self) -> bool:
        """Whether the module carries state from step to step.

        Raises:
            ModuleError: `get_initial_state` returned something else than a tree of tensors.
        """
        state = self.get_initial_state()
        check_state_tree(type(self).__name__, state)
        return bool(state)

    def batch_statistics(self, batch: Mapping[str, Tree]) -> dict[str, Moments]:
        """Hook: the moments of a training batch that the module keeps running statistics of. Default: none.

        The Learner gathers them from all ranks and gives each to `merge_statistics`, in order of rank. It does so after
        the gradient steps, which must see the observations as the acting policy saw them.
        """
        return {}

    def merge_statistics(self, statistics: Mapping[str, Moments]) -> None:
        """Hook: add what `batch_statistics` returned to the running statistics. Default: nothing."""

    def is_inference_parameter(self, name: str) -> bool:
        """Hook: whether acting needs this parameter or buffer. Default: yes."""
        return True

    def get_state(self, inference_only: bool = False) -> ModuleState:
        """Copies of all parameters and buffers by name; with `inference_only`, of those that acting needs.

        A parameter with several names (a submodule used twice) is listed once, under its first name.
        """
        tensors = module_state.first_names(module_state.tensors_by_name(self))
        return {
            name: module_state.to_numpy(tensor)
            for name, tensor in tensors.items()
            if not inference_only or self.is_inference_parameter(name)
        }

    def set_state(self, state: Mapping[str, Any], inference_only: bool = False) -> None:
        """Take over a state of `get_state`, wholly or (on an error) not at all; the tensors stay the same objects.

        With `inference_only`, or a state that was got with it, what acting does not need stays as it is.

        Raises:
            StateError: names are missing or unexpected, or a shape differs; names the parameter and both shapes.
        """
        module_state.apply(self.check_state(module_state.acting_part(self, state) if inference_only else state))

    def check_state(self, state: Mapping[str, Any]) -> module_state.Pairs:
        """Raise what `set_state` would, and change nothing; return what `set_state` will copy."""
        tensors = module_state.tensors_by_name(self)
        return module_state.check_state(
            type(self).__name__, tensors, state, lambda name: not self.is_inference_parameter(name)
        )

    def save_to_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Write the module to a checkpoint directory: its weights, class name, spaces and settings."""
        module_checkpoint.save_module(path, self)

    @classmethod
    def from_checkpoint(cls, path: str | os.PathLike[str], *, module_class: "type[RLModule] | None" = None) -> Self:
        """Build the module that a checkpoint directory holds.

        Called on a subclass, it makes that class; on `RLModule`, the `module_class` given, or else the registered class
        that the checkpoint names.

        Raises:
            CheckpointError: the checkpoint is damaged or no module's, or its class is unknown here.
        """
        chosen = module_class if module_class is not None else (None if cls is RLModule else cls)
        return cast("Self", module_checkpoint.load_module(path, chosen))
