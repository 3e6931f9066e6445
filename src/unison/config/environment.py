"""Making the environment that a config names, and asking it for its spaces."""

import inspect
from collections.abc import Mapping
from typing import Any

from unison.config.spaces import Space
from unison.config.values import thaw
from unison.errors import ConfigError, EnvironmentFailure


def make_environment(env: Any, env_config: Mapping[str, Any] | None = None) -> Any:
    """One environment.

    Args:
        env: a Gymnasium id or an environment class, which get `env_config` as keyword arguments, or a function, which
            gets it as its one argument.
        env_config: settings of the environment.

    Raises:
        ConfigError: the id is unknown, or there is no `env`.
        EnvironmentFailure: the environment raised while it was made.
    """
    import gymnasium

    settings: dict[str, Any] = thaw(env_config or {})
    if env is None:
        raise ConfigError("There is no environment; set one: config.environment('CartPole-v1').")
    try:
        if isinstance(env, str):
            return gymnasium.make(env, **settings)
        return env(**settings) if isinstance(env, type) else env(settings)
    except gymnasium.error.UnregisteredEnv as error:
        raise ConfigError(f"Gymnasium knows no environment '{env}': {error}") from error
    except Exception as error:
        called = f"with env_config={settings}"
        raise EnvironmentFailure(f"The environment {env!r} could not be made {called}: {error}") from error


def _makes_vector(env: Any) -> bool:
    """Whether `env` makes vector environments: a VectorEnv class, or a function with a parameter `num_envs`."""
    import gymnasium

    if isinstance(env, type):
        return issubclass(env, gymnasium.vector.VectorEnv)
    return callable(env) and "num_envs" in inspect.signature(env).parameters


def _make_vector(env: Any, env_config: Mapping[str, Any] | None) -> Any:
    settings: dict[str, Any] = thaw(env_config or {})
    return env(num_envs=1, **settings) if isinstance(env, type) else env(settings, num_envs=1)


def spaces_of(env: Any, env_config: Mapping[str, Any] | None = None) -> tuple[Space, Space]:
    """Observation and action space of an environment (an id, class, function, or one already made)."""
    import gymnasium

    if isinstance(env, gymnasium.Env):
        return env.observation_space, env.action_space  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    made = _make_vector(env, env_config) if _makes_vector(env) else make_environment(env, env_config)
    try:
        if isinstance(made, gymnasium.vector.VectorEnv):
            return made.single_observation_space, made.single_action_space  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return made.observation_space, made.action_space
    except AttributeError as error:
        raise EnvironmentFailure(f"The environment {env!r} has no observation_space or action_space.") from error
    finally:
        made.close()
