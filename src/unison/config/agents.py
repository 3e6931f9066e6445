"""Which module acts for which agent, the spaces that follow for each module, and which of them train."""

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from unison.config.pettingzoo_environments import AgentSpaces
from unison.config.sections import MultiAgentSection
from unison.config.spaces import Space
from unison.errors import ConfigError, ModuleError
from unison.types import DEFAULT_MODULE_ID, AgentID, ModuleID

if TYPE_CHECKING:
    from unison.config.algorithm_config import AlgorithmConfig

_PROBES: Final = 100
"""Episodes for which a mapping that may draw lots is asked, to meet all its modules."""
Mapper = Callable[[AgentID, Any], ModuleID]
ShouldUpdate = Callable[[ModuleID, Any], bool] | Collection[ModuleID] | None
"""Which modules train: their ids, a function of id and batch, or None for all."""


def checked_should_update(should_update: ShouldUpdate, module_ids: Collection[ModuleID]) -> ShouldUpdate:
    """What is to take the place of the setting `policies_to_train`, as that would hold it: ids become a tuple.

    Raises:
        ConfigError: it is nothing that the setting takes.
        ModuleError: it names a module that is none of `module_ids`.
    """
    given: dict[str, Any] = {"policies_to_train": should_update}
    rule = cast("ShouldUpdate", MultiAgentSection(**given).policies_to_train)
    unknown = [] if rule is None or callable(rule) else sorted(set(rule) - set(module_ids))
    if unknown:
        raise ModuleError(f"policies_to_train names {unknown}, but the modules are {list(module_ids)}.")
    return rule


def policy_mapping(config: "AlgorithmConfig", module_ids: Collection[ModuleID]) -> Mapper:
    """The setting `policy_mapping_fn`, or by default: the module named like the agent, else the only one."""
    if config.policy_mapping_fn is not None:
        return config.policy_mapping_fn
    known = tuple(module_ids)

    def module_of_same_name(agent_id: AgentID, episode: Any) -> ModuleID:
        if str(agent_id) in known:
            return str(agent_id)
        if len(known) == 1:
            return known[0]
        raise ConfigError(
            f"No module is named like agent '{agent_id}', and there are several: {list(known)}. Say which acts for it: "
            "multi_agent(policy_mapping_fn=lambda agent_id, episode: ...)."
        )

    return module_of_same_name


def spaces_by_module(config: "AlgorithmConfig", agents: AgentSpaces) -> Mapping[ModuleID, tuple[Space, Space]]:
    """The spaces of every module, from those of the agents that are mapped to it.

    Where all agents have the same spaces, so have all modules. Else the mapping is asked, for several
    episodes if need be; a module that it never names is left out.

    Raises:
        ConfigError: agents of different spaces are mapped to one module.
        ModuleError: the mapping raised, or returned no id.
    """
    known = module_ids(config)
    pairs = list(agents.values())
    if all(pair == pairs[0] for pair in pairs):
        return dict.fromkeys(known, pairs[0])
    from unison.data import MultiAgentEpisode  # It needs torch, which a config does not.

    mapping = policy_mapping(config, known)
    found: dict[ModuleID, AgentID] = {}
    for number in range(_PROBES):
        episode = MultiAgentEpisode("probe", policy_mapping_fn=mapping, seed=number)
        for agent_id, pair in agents.items():
            module_id = episode.module_for(agent_id)
            first = found.setdefault(module_id, agent_id)
            if agents[first] != pair:
                raise ConfigError(
                    f"Module '{module_id}' acts for agent '{first}' with the spaces {agents[first]}, and for "
                    f"'{agent_id}' with {pair}. Give agents of different spaces different modules (policy_mapping_fn)."
                )
        if found.keys() >= set(known):
            break
    return {module_id: agents[agent_id] for module_id, agent_id in found.items()}


def specified_ids(config: "AlgorithmConfig") -> list[ModuleID]:
    """The modules that `rl_module_spec` names, if it is one of many."""
    return list(getattr(config.rl_module_spec, "module_specs", ()))


def names_policies(config: "AlgorithmConfig") -> bool:
    """Whether `policies` says anything beside its default."""
    return dict(config.policies) != {DEFAULT_MODULE_ID: None}


def module_ids(config: "AlgorithmConfig") -> list[ModuleID]:
    """The modules of the config: those of `policies`, or if nothing is said there, of `rl_module_spec`."""
    return list(config.policies) if names_policies(config) else specified_ids(config) or list(config.policies)
