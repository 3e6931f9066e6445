"""PettingZoo's environments: found, made, and asked for their agents' spaces. PettingZoo is imported only if needed."""

import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, Final, TypeAlias

from unison.config.spaces import Space
from unison.config.values import import_from
from unison.errors import ConfigError, MissingExtraError
from unison.types import AgentID

AgentSpaces: TypeAlias = dict[AgentID, tuple[Space, Space]]
"""`{agent_id: (observation space, action space)}`."""

_FAMILIES: Final = ("atari", "butterfly", "classic", "sisl")
"""The namespaces of PettingZoo's own ids."""
_PACKAGES: Final = ("pettingzoo", "mpe2")
"""The packages of the extra `multiagent`."""
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
    raise _no_factory(value.__name__)


def find(name: str) -> Callable[..., Any] | None:
    """What makes the environments of a PettingZoo id or of a module by its dotted name; None if there is none such.

    Of the parallel and the turn-based version of an environment it is the parallel one, where there are both.

    Raises:
        ConfigError: the module makes no environments, or an import in it fails.
        MissingExtraError: the name is one of PettingZoo's, which is not installed.
    """
    if "." in name and all(part.isidentifier() for part in name.split(".")):
        return _find_in_module(name)
    try:
        import pettingzoo  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        if name.partition("/")[0] in _FAMILIES:
            raise MissingExtraError("pettingzoo", "multiagent", f"environment('{name}')") from error
        return None
    if name in pettingzoo.parallel_registry:
        return partial(pettingzoo.make, "parallel", name)
    return partial(pettingzoo.make, "aec", name) if name in pettingzoo.aec_registry else None


def _find_in_module(name: str) -> Callable[..., Any] | None:
    for factory in _FACTORIES:
        try:
            return import_from(f"{name}:{factory}")
        except ConfigError as error:
            cause = error.__cause__
            if isinstance(cause, AttributeError):
                continue
            absent = cause.name if isinstance(cause, ModuleNotFoundError) else None
            if absent in _PACKAGES:
                raise MissingExtraError(absent, "multiagent", f"environment('{name}')") from error
            if absent is not None and f"{name}.".startswith(f"{absent}."):
                return None
            raise
    raise _no_factory(name)


def _no_factory(module: str) -> ConfigError:
    return ConfigError(f"The module {module} makes no environments: it has no parallel_env and no env.")


def agent_spaces(env: Any) -> AgentSpaces:
    """The spaces of every agent that may appear in a PettingZoo environment."""
    agents = getattr(env, "possible_agents", None)
    if agents is None:
        env.reset(seed=0)
        agents = list(env.agents)
    return {agent_id: (env.observation_space(agent_id), env.action_space(agent_id)) for agent_id in agents}
