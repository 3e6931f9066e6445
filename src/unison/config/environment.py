"""Making the environment that a config names, and asking it for its spaces."""

import inspect
from collections.abc import Mapping
from typing import Any, TypeAlias, cast

from unison.config import pettingzoo_environments as pettingzoo
from unison.config.pettingzoo_environments import AgentSpaces
from unison.config.spaces import Space
from unison.config.values import import_from, thaw
from unison.errors import ConfigError, EnvironmentFailure, MissingExtraError

FoundSpaces: TypeAlias = tuple[Space, Space] | AgentSpaces
"""Observation and action space; for an environment of many agents, a dict of such pairs by agent."""


def checked_environment(value: Any) -> Any:
    """What the setting `env` is given, a module of PettingZoo replaced by the path of what it makes environments with.

    Raises:
        ConfigError: it is an environment that is made already, or a module that makes none.
    """
    if not isinstance(value, type) and hasattr(value, "reset") and hasattr(value, "step"):
        raise ConfigError(
            f"{value!r} is an environment that is made already, but each sampler makes its own. Give its id, its "
            "class, or a function: environment(lambda env_config: ...)."
        )
    return pettingzoo.name_factory(value)


def make_environment(env: Any, env_config: Mapping[str, Any] | None = None) -> Any:
    """One environment.

    Args:
        env: a Gymnasium id, a PettingZoo id such as "classic/connect_four-v3", a module of PettingZoo such as
            "mpe2.simple_spread_v3", "package.module:name", an environment class or a function. Names, classes and
            functions without a parameter of their own get `env_config` as keyword arguments; a function with one gets
            it as its one argument.
        env_config: settings of the environment.

    Raises:
        ConfigError: the id is unknown, there is no `env`, or it returned none.
        EnvironmentFailure: the environment raised while it was made.
        MissingExtraError: it is one of PettingZoo's, which is not installed.
    """
    settings: dict[str, Any] = thaw(env_config or {})
    if env is None:
        raise ConfigError("There is no environment; set one: config.environment('CartPole-v1').")
    try:
        made = _make_by_name(env, settings) if isinstance(env, str) else _call(env, settings)
    except (ConfigError, MissingExtraError):
        raise
    except Exception as error:
        called = f"with env_config={settings}"
        raise EnvironmentFailure(f"The environment {env!r} could not be made {called}: {error}") from error
    if made is None:
        raise ConfigError(f"environment(env={env!r}) returned None; let it return the environment.")
    return made


def _make_by_name(name: str, settings: dict[str, Any]) -> Any:
    import gymnasium

    if ":" in name:
        try:
            return _call(import_from(name), settings)
        except ConfigError:
            pass  # "module:Some-v0" is an id that importing the module registers.
    try:
        return gymnasium.make(name, **settings)
    except gymnasium.error.UnregisteredEnv as error:
        factory = pettingzoo.find(name)
        if factory is None:
            raise ConfigError(f"Gymnasium knows no environment '{name}': {error}") from error
        return factory(**settings)


def _call(env: Any, settings: dict[str, Any]) -> Any:
    return env(settings) if _takes_settings(env) else env(**settings)


def _takes_settings(env: Any) -> bool:
    """Whether `env` is a function that takes the settings as one argument, rather than each by its name."""
    if isinstance(env, type):
        return False
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    places = [p for p in inspect.signature(env).parameters.values() if p.kind in kinds]
    return len(places) == 1 or sum(p.default is p.empty for p in places) == 1


def _makes_vector(env: Any) -> bool:
    """Whether `env` makes vector environments: a VectorEnv class, or a function with a parameter `num_envs`."""
    import gymnasium

    if isinstance(env, type):
        return issubclass(env, gymnasium.vector.VectorEnv)
    return callable(env) and "num_envs" in inspect.signature(env).parameters


def _make_vector(env: Any, env_config: Mapping[str, Any] | None) -> Any:
    settings: dict[str, Any] = thaw(env_config or {})
    return env(num_envs=1, **settings) if isinstance(env, type) else env(settings, num_envs=1)


def spaces_of(env: Any, env_config: Mapping[str, Any] | None = None) -> FoundSpaces:
    """Observation and action space of an environment (an id, class, function, or one already made).

    Returns:
        The two spaces; for a PettingZoo environment, `{agent_id: (observation space, action space)}`.

    Raises:
        EnvironmentFailure: the environment can't be made, or does not say its spaces.
    """
    import gymnasium

    if isinstance(env, gymnasium.Env):
        return env.observation_space, env.action_space  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if pettingzoo.is_environment(env):
        return pettingzoo.agent_spaces(env)
    made = _make_vector(env, env_config) if _makes_vector(env) else make_environment(env, env_config)
    try:
        if pettingzoo.is_environment(made):
            return pettingzoo.agent_spaces(made)
        if isinstance(made, gymnasium.vector.VectorEnv):
            return made.single_observation_space, made.single_action_space  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return made.observation_space, made.action_space
    except AttributeError as error:
        raise EnvironmentFailure(f"The environment {env!r} has no observation_space or action_space.") from error
    finally:
        close = getattr(cast("Any", made), "close", None)
        if close is not None:  # What is no environment may lack it, too.
            close()
