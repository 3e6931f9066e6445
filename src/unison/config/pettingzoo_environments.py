"""PettingZoo's environments: found, made, and asked for their agents' spaces. PettingZoo is imported only if needed."""

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Final, TypeAlias

from unison.config.spaces import Space
from unison.errors import ConfigError, MissingExtraError
from unison.types import AgentID

AgentSpaces: TypeAlias = dict[AgentID, tuple[Space, Space]]
"""`{agent_id: (observation space, action space)}`."""

_FAMILIES: Final = ("atari", "butterfly", "classic", "sisl")
"""The namespaces of PettingZoo's own ids."""
_FACTORIES: Final = ("parallel_env", "env")
"""What a module of an environment offers, the faster kind first."""


def is_environment(value: object) -> bool:
    """Whether the value is a PettingZoo environment (nothing can be one before PettingZoo is imported)."""
    library: Any = sys.modules.get("pettingzoo")
    return library is not None and isinstance(value, library.ParallelEnv | library.AECEnv)


def is_turn_based(env: Any) -> bool:
    """Whether a PettingZoo environment lets one agent act at a time (AEC)."""
    library: Any = sys.modules["pettingzoo"]
    return isinstance(env, library.AECEnv)


def name_factory(value: Any) -> Any:
    """The import path of what a module such as `mpe2.simple_spread_v3` makes environments with; else the value.

    Raises:
        ConfigError: the module has no `parallel_env` and no `env`.
    """
    if not isinstance(value, ModuleType):
        return value
    for name in _FACTORIES:
        if hasattr(value, name):
            return f"{value.__name__}:{name}"
    raise ConfigError(f"The module {value.__name__} makes no environments: it has no parallel_env and no env.")


def make(name: str, settings: Mapping[str, Any]) -> Any:
    """The environment of a PettingZoo id, parallel where there is such a version; None if the id is unknown.

    Raises:
        MissingExtraError: PettingZoo is not installed, and the id is one of its own.
    """
    try:
        import pettingzoo  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        if name.partition("/")[0] in _FAMILIES:
            raise MissingExtraError("pettingzoo", "multiagent", f"environment('{name}')") from error
        return None
    if name in pettingzoo.parallel_registry:
        return pettingzoo.make("parallel", name, **settings)
    return pettingzoo.make("aec", name, **settings) if name in pettingzoo.aec_registry else None


def agent_spaces(env: Any) -> AgentSpaces:
    """The spaces of every agent that may appear in a PettingZoo environment."""
    agents = getattr(env, "possible_agents", None)
    if agents is None:
        env.reset(seed=0)
        agents = list(env.agents)
    return {agent_id: (env.observation_space(agent_id), env.action_space(agent_id)) for agent_id in agents}
