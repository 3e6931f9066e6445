"""From a config and spaces to the specs of all modules."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import gymnasium as gym

from unison.config import names_policies
from unison.errors import ConfigError
from unison.modules.multi_agent_rl_module import MultiAgentRLModule
from unison.modules.specs import MultiAgentRLModuleSpec, SingleAgentRLModuleSpec
from unison.registry import lookup, register
from unison.types import DEFAULT_MODULE_ID, ModuleID

if TYPE_CHECKING:
    from unison.config import AlgorithmConfig

Spaces = Mapping[ModuleID, tuple[gym.Space[Any] | None, gym.Space[Any] | None]]


@register("module_spec_builder", "default")
class SpecFromConfig:
    """Works out the specs of all modules from a config and the spaces of each.

    What a spec says itself (in `rl_module_spec`, or among `policies`) holds; what it leaves open comes from `spaces`
    and from the `model_config` that applies to the module.

    Args:
        config: an AlgorithmConfig.
        spaces: observation and action space by module id.
    """

    def __init__(self, config: "AlgorithmConfig", spaces: Spaces) -> None:
        self.config = config
        self.spaces = spaces

    def build_spec(self) -> MultiAgentRLModuleSpec:
        """The specs of all modules, nothing left open that is known.

        Raises:
            ConfigError: a module has two specs, or `spaces` are for modules that do not exist.
        """
        given: Any = self.config.rl_module_spec
        specs = self._specs(given)
        spaces = self._spaces_of(specs)
        unknown = [module_id for module_id in spaces if module_id not in specs]
        if unknown:
            raise ConfigError(
                f"Spaces were given for {unknown}, but the modules are {list(specs)}. Name every module in "
                f"multi_agent(policies=) or in rl_module_spec."
            )
        filled = {module_id: self._fill(module_id, spec, spaces) for module_id, spec in specs.items()}
        is_multi = isinstance(given, MultiAgentRLModuleSpec)
        return MultiAgentRLModuleSpec(given.marl_module_class if is_multi else MultiAgentRLModule, filled)

    def _specs(self, given: Any) -> dict[ModuleID, SingleAgentRLModuleSpec]:
        """The spec of each module as the user gave it, or an empty one."""
        policies = _as_dict(self.config.policies)
        named: Mapping[ModuleID, SingleAgentRLModuleSpec] = (
            given.module_specs if isinstance(given, MultiAgentRLModuleSpec) else {}
        )
        template = given if isinstance(given, SingleAgentRLModuleSpec) else SingleAgentRLModuleSpec()
        twice = [module_id for module_id in named if policies.get(module_id) is not None]
        if twice:
            raise ConfigError(f"The modules {twice} have a spec in rl_module_spec and another in policies; keep one.")
        if not names_policies(self.config) and (named or (self.spaces and DEFAULT_MODULE_ID not in self.spaces)):
            # Nothing was said about policies, so the specs or the spaces say which modules there are.
            policies = dict.fromkeys(() if named else self.spaces)
        specs = dict(named)
        for module_id, spec in policies.items():
            specs.setdefault(module_id, template if spec is None else spec)
        return specs

    def _spaces_of(self, specs: Mapping[ModuleID, SingleAgentRLModuleSpec]) -> Spaces:
        """The spaces by module; those of the default module go for all, where it is not one of them."""
        if DEFAULT_MODULE_ID not in specs and list(self.spaces) == [DEFAULT_MODULE_ID]:
            return dict.fromkeys(specs, self.spaces[DEFAULT_MODULE_ID])
        return self.spaces

    def _fill(self, module_id: ModuleID, spec: SingleAgentRLModuleSpec, spaces: Spaces) -> SingleAgentRLModuleSpec:
        observation_space, action_space = spaces.get(module_id, (None, None))
        return replace(
            spec,
            module_class=spec.module_class or lookup("module", self.config.default_module),
            observation_space=observation_space if spec.observation_space is None else spec.observation_space,
            action_space=action_space if spec.action_space is None else spec.action_space,
            model_config=dict(self.config.get_config_for_module(module_id).model_config)
            if spec.model_config is None
            else spec.model_config,
        )


def _as_dict(policies: Mapping[ModuleID, Any] | Iterable[ModuleID]) -> dict[ModuleID, Any]:
    """Policies as specs (or None) by id; a set in sorted order, so that every process has the same."""
    if isinstance(policies, Mapping):
        return dict(cast("Mapping[ModuleID, Any]", policies))
    return dict.fromkeys(sorted(policies) if isinstance(policies, set | frozenset) else policies)
