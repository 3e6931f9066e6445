"""From a config to environments that are stepped together."""

import inspect
import multiprocessing
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, VectorEnv

from unison.config import AlgorithmConfig, make_environment
from unison.errors import ConfigError, EnvironmentFailure
from unison.sampling.checked_env import CheckedEnv
from unison.sampling.environments import Environments
from unison.sampling.guarded_env import GuardedEnv
from unison.sampling.sync_environments import SyncEnvironments
from unison.sampling.vector_environments import Vector, VectorEnvironments


def make_environments(config: AlgorithmConfig, *, evaluation: bool = False) -> Environments:
    """The environments of one sampler.

    `vectorization` says how they are stepped: "sync" in turn, "async" each in a process of its own,
    "vector_entry_point" by a vector environment: the one that Gymnasium has registered for the id, or what
    `env` makes. An `env` makes a vector environment if it is a subclass of `gymnasium.vector.VectorEnv`, called
    with `num_envs` and the keywords of `env_config`, or a function with a parameter `num_envs`, called with
    `env_config` and `num_envs=`. "auto" takes the vector environment if there is one, else "sync".

    Raises:
        ConfigError: `env` is missing or unknown, or can't be stepped in the way asked for.
        EnvironmentFailure: an environment raised while it was made.
    """
    num_envs = config.evaluation_num_envs if evaluation else config.num_envs_per_env_runner
    settings: dict[str, Any] = {**config.env_config, **(config.evaluation_env_config if evaluation else {})}
    env, mode = config.env, config.vectorization
    if env is None:
        raise ConfigError("Sampling needs an environment; set one: config.environment('CartPole-v1').")
    name = environment_name(env)
    max_restarts = config.max_environment_restarts if config.restart_failed_environments else 0
    has_vector = _has_vector(env, settings)
    if mode == "vector_entry_point" and not has_vector:
        raise ConfigError(f"'{name}' has no vector version of its own. Set env_runners(vectorization='sync').")
    if has_vector and not isinstance(env, str) and mode in ("sync", "async"):
        raise ConfigError(
            f"'{name}' makes vector environments; vectorization='{mode}' is for single ones. Leave it at 'auto'."
        )
    if has_vector and mode in ("auto", "vector_entry_point"):
        return VectorEnvironments(partial(_make_vector, env, settings, num_envs, name), name, max_restarts)
    make = EnvironmentMaker(env, settings)
    if mode == "async":
        return VectorEnvironments(partial(_make_async, make, num_envs), name, max_restarts)
    return SyncEnvironments(partial(_make_single, make), num_envs, name, max_restarts)


def environment_name(env: Any) -> str:
    """What messages call an environment."""
    return env if isinstance(env, str) else getattr(env, "__name__", type(env).__name__)


@dataclass(frozen=True)
class EnvironmentMaker:
    """Makes one environment; travels to other processes."""

    env: Any
    env_config: Mapping[str, Any]

    def __call__(self) -> Any:
        """The environment, of whatever kind."""
        return make_environment(self.env, self.env_config)


def _make_single(make: EnvironmentMaker) -> gym.Env[Any, Any]:
    """A Gymnasium environment, checked."""
    made: object = make()
    if isinstance(made, gym.Env):
        return cast("gym.Env[Any, Any]", made)
    is_vector = isinstance(made, VectorEnv)
    hint = " Give its function a parameter num_envs." if is_vector else ""
    raise ConfigError(f"'{environment_name(make.env)}' made a {type(made).__name__}, which is no gymnasium.Env.{hint}")


def _has_vector(env: Any, settings: Mapping[str, Any]) -> bool:
    if isinstance(env, str):
        spec = gym.registry.get(env)
        # A vector environment takes no wrappers, and Gymnasium draws none of it.
        plain = spec is not None and not spec.additional_wrappers and "render_mode" not in settings
        return plain and cast(Any, spec).vector_entry_point is not None
    if isinstance(env, type):
        return issubclass(env, VectorEnv)
    return "num_envs" in inspect.signature(env).parameters


def _make_vector(env: Any, settings: dict[str, Any], num_envs: int, name: str) -> Vector:
    try:
        if isinstance(env, str):
            made: Any = gym.make_vec(env, num_envs, vectorization_mode="vector_entry_point", **settings)
        elif isinstance(env, type):
            made = env(num_envs=num_envs, **settings)
        else:
            made = env(settings, num_envs=num_envs)
    except Exception as error:
        raise EnvironmentFailure(
            f"The vector environment '{name}' could not be made with env_config={settings}: {error}"
        ) from error
    if not isinstance(made, VectorEnv):
        raise ConfigError(f"'{name}' made a {type(made).__name__}, which is no gymnasium.vector.VectorEnv.")
    vector = cast(Vector, made)
    if vector.num_envs != num_envs:
        vector.close()
        raise ConfigError(f"'{name}' made {vector.num_envs} environments where {num_envs} were asked for (num_envs=).")
    return vector


def _in_worker(make: EnvironmentMaker) -> GuardedEnv:
    """The environment of a worker process, which leaves Ctrl-C to the process that trains: it may want to save."""
    if multiprocessing.parent_process() is not None:  # Gymnasium makes one in the process that trains, too.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return GuardedEnv(partial(_make_checked, make))


def _make_checked(make: EnvironmentMaker) -> gym.Env[Any, Any]:
    return CheckedEnv(_make_single(make), environment_name(make.env))


def _make_async(make: EnvironmentMaker, num_envs: int) -> Vector:
    # Forking a process whose torch has started threads can hang, so workers come from a server that has
    # none, or where the system has no such server, are started afresh.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    if method == "forkserver":
        multiprocessing.get_context(method).set_forkserver_preload([GuardedEnv.__module__])
    return AsyncVectorEnv(
        [partial(_in_worker, make)] * num_envs,
        context=method,
        copy=False,
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
