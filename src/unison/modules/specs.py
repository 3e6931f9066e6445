"""Specs: what modules shall be like, before they are built."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import gymnasium as gym

from unison.config import ModelConfig
from unison.errors import ConfigError, SpaceError
from unison.modules.description import Description, arguments_of, class_of, describe
from unison.modules.model_settings import resolve_model_config
from unison.modules.module_checkpoint import load_module_state
from unison.modules.multi_agent_rl_module import MultiAgentRLModule
from unison.modules.rl_module import RLModule
from unison.registry import lookup
from unison.types import ModuleID


@dataclass
class SingleAgentRLModuleSpec:
    """What one module shall be like.

    Attributes:
        module_class: its class; None means `ActorCritic`.
        observation_space: what it sees; None: as the environment (or `spaces=`) says.
        action_space: what it decides on; None: as the environment says.
        model_config: settings (a dict of some, or a `ModelConfig`); None: those of the config.
        load_state_path: a checkpoint of a module of this kind, whose weights it starts with.

    Raises:
        ConfigError: the class is no RLModule, or a setting is unknown or invalid.
    """

    module_class: type[RLModule] | None = None
    observation_space: gym.Space[Any] | None = None
    action_space: gym.Space[Any] | None = None
    model_config: Mapping[str, Any] | ModelConfig | None = None
    load_state_path: str | Path | None = None

    def __post_init__(self) -> None:
        """Check at once what can be checked."""
        given: Any = self.module_class
        if given is not None and not (isinstance(given, type) and issubclass(given, RLModule)):
            raise ConfigError(f"module_class must be a subclass of RLModule, not {given!r}.")
        for name in ("observation_space", "action_space"):
            space: Any = getattr(self, name)
            if space is not None and not isinstance(space, gym.Space):
                raise ConfigError(f"{name} must be a gymnasium.Space, not {space!r}.")
        if self.model_config is not None:
            settings = resolve_model_config(self.model_config)
            if isinstance(self.model_config, ModelConfig):
                self.model_config = settings.as_dict()

    def build(self) -> RLModule:
        """Build the module.

        Raises:
            SpaceError: a space is missing or not supported.
            StateError: the weights at `load_state_path` do not fit.
        """
        module = self.resolved_class()(
            observation_space=self.observation_space, action_space=self.action_space, model_config=self.model_config
        )
        if self.load_state_path is not None:
            module.set_state(load_module_state(self.load_state_path))
        return module

    def resolved_class(self) -> type[RLModule]:
        """The class that `build` makes."""
        return self.module_class if self.module_class is not None else lookup("module", "actor_critic")

    def to_dict(self) -> Description:
        """The spec as plain data, without `load_state_path`: for checkpoints."""
        return describe(
            self.resolved_class(), self.observation_space, self.action_space, resolve_model_config(self.model_config)
        )

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], module_class: type[RLModule] | None = None
    ) -> "SingleAgentRLModuleSpec":
        """The spec that `to_dict` wrote; a class that is not registered must be given.

        Raises:
            CheckpointError: the class is not known here.
        """
        return cls(class_of(data, module_class), **arguments_of(data))


@dataclass
class MultiAgentRLModuleSpec:
    """What several modules shall be like.

    Attributes:
        marl_module_class: the class that holds them; a subclass may tie them together.
        module_specs: the spec of each module by id.
    """

    marl_module_class: type[MultiAgentRLModule] = MultiAgentRLModule
    module_specs: Mapping[ModuleID, SingleAgentRLModuleSpec] = field(
        default_factory=lambda: cast("dict[ModuleID, SingleAgentRLModuleSpec]", {})
    )

    def __post_init__(self) -> None:
        """Check at once what can be checked."""
        given: Any = self.marl_module_class
        if not (isinstance(given, type) and issubclass(given, MultiAgentRLModule)):
            raise ConfigError(f"marl_module_class must be a subclass of MultiAgentRLModule, not {given!r}.")
        specs: Any = self.module_specs
        if not isinstance(specs, Mapping):
            raise ConfigError(f"module_specs must map module ids to SingleAgentRLModuleSpec, but is {specs!r}.")
        for module_id, spec in cast("Mapping[Any, Any]", specs).items():
            if not isinstance(module_id, str) or not isinstance(spec, SingleAgentRLModuleSpec):
                raise ConfigError(
                    f"module_specs must map module ids (strings) to SingleAgentRLModuleSpec, but holds "
                    f"{module_id!r}: {spec!r}."
                )

    def build(self) -> MultiAgentRLModule:
        """Build the modules, and what holds them.

        Raises:
            SpaceError: a space is missing or not supported; names the module.
        """
        modules: dict[ModuleID, RLModule] = {}
        for module_id, spec in self.module_specs.items():
            try:
                modules[module_id] = spec.build()
            except (SpaceError, ConfigError) as error:
                raise type(error)(f"Module '{module_id}': {error}") from error
        return self.marl_module_class(modules)
