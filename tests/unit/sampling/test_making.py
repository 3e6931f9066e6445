"""From a config to environments, and what is said when that can't be."""

import multiprocessing
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from unison.config import AlgorithmConfig
from unison.errors import ConfigError, EnvironmentFailure
from unison.sampling import EnvRunner
from unison.sampling.making import make_environments
from unison.sampling.sync_environments import SyncEnvironments
from unison.sampling.vector_environments import VectorEnvironments


def config_for(env: Any, mode: str = "auto", envs: int = 2, **env_config: Any) -> AlgorithmConfig:
    config = AlgorithmConfig().environment(env, env_config=env_config)
    return config.env_runners(vectorization=mode, num_envs_per_env_runner=envs)


@pytest.mark.parametrize(
    ("env", "mode", "kind"),
    [
        ("CartPole-v1", "auto", VectorEnvironments),
        ("CartPole-v1", "vector_entry_point", VectorEnvironments),
        ("CartPole-v1", "sync", SyncEnvironments),
        ("Acrobot-v1", "auto", SyncEnvironments),
    ],
)
def test_who_steps(env: str, mode: str, kind: type) -> None:
    environments = make_environments(config_for(env, mode))
    assert type(environments) is kind
    assert environments.num_envs == 2
    environments.close()


def test_env_config_reaches_ids_classes_and_functions() -> None:
    class Sized(gym.Env):
        action_space = gym.spaces.Discrete(2)

        def __init__(self, size: int = 1) -> None:
            self.observation_space = gym.spaces.Box(-1, 1, (size,))

    for env in (Sized, lambda settings: Sized(**settings)):
        assert make_environments(config_for(env, size=7)).observation_space.shape == (7,)
    for mode in ("sync", "vector_entry_point"):
        environments = make_environments(config_for("CartPole-v1", mode, max_episode_steps=5))
        environments.reset([1, 2])
        for step in range(5):
            ended = environments.step(np.array([step % 2] * 2)).ended
        assert [(ending.terminated, ending.truncated) for ending in ended] == [(False, True)] * 2


def test_vector_classes_get_num_envs_and_keywords() -> None:
    from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

    environments = make_environments(config_for(CartPoleVectorEnv, envs=3, max_episode_steps=9))
    assert (environments.num_envs, environments.name) == (3, "CartPoleVectorEnv")


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (AlgorithmConfig(), ConfigError, "needs an environment"),
        (config_for("CartPole-v7"), ConfigError, "CartPole-v7"),
        (config_for("NoSuchThing-v0"), ConfigError, "NoSuchThing"),
        (config_for("Acrobot-v1", "vector_entry_point"), ConfigError, "no vector version"),
        (config_for("Acrobot-v1", nonsense=1), EnvironmentFailure, "nonsense"),
        (config_for("CartPole-v1", nonsense=1), EnvironmentFailure, "nonsense"),
        (config_for(lambda settings: 7), ConfigError, "made a int, which is no gymnasium.Env"),
        (
            config_for(lambda settings, num_envs: gym.make_vec("CartPole-v1", 5)),
            ConfigError,
            "made 5 environments where 2 were asked for",
        ),
        (config_for(lambda settings, num_envs: 7), ConfigError, "no gymnasium.vector.VectorEnv"),
        (config_for(lambda settings, num_envs: None, "sync"), ConfigError, "makes vector environments"),
        (config_for(lambda settings: gym.make_vec("CartPole-v1", 2)), ConfigError, "a parameter num_envs"),
    ],
)
def test_mistakes_are_named(config: AlgorithmConfig, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_environments(config)


def test_a_vector_environment_must_say_how_it_resets() -> None:
    def make(settings: dict[str, Any], num_envs: int) -> gym.vector.VectorEnv:
        made = gym.make_vec("Acrobot-v1", num_envs)
        del made.metadata["autoreset_mode"]
        return made

    with pytest.raises(ConfigError, match="'make' does not say how it resets"):
        make_environments(config_for(make))


def test_asking_for_nonsense_raises(make_runner: Any) -> None:
    runner = make_runner("CartPole-v1")
    with pytest.raises(ConfigError, match="not both"):
        runner.sample(num_timesteps=5, num_episodes=5)
    for nothing in ({"num_timesteps": 0}, {"num_episodes": -1}, {"num_timesteps": 1.5}, {"num_episodes": "2"}):
        with pytest.raises(ConfigError, match="at least 1"):
            runner.sample(**nothing)
    for nothing in (0, 1.5):
        with pytest.raises(ConfigError, match=r"evaluate\(\) was asked for .* at least 1"):
            runner.evaluate(nothing)


def test_a_runner_that_is_not_made_leaves_no_process() -> None:
    """Also while the exception is held, whose traceback holds what was made."""
    before = {process.pid for process in multiprocessing.active_children()}
    with pytest.raises(ConfigError, match="One agent needs one module") as held:
        EnvRunner(config_for("CartPole-v1", "async").multi_agent(policies={"p", "q"}))
    assert {process.pid for process in multiprocessing.active_children()} == before
    assert held.value.__traceback__ is not None


def test_which_module_acts(make_runner: Any) -> None:
    assert make_runner("CartPole-v1", policies={"p"}).module_id == "p"
    episode = make_runner("CartPole-v1", policies={"p"}).sample(num_timesteps=3)[0]
    assert episode.module_id == "p"
    assert make_runner("CartPole-v1", policies={"default_policy", "p"}).module_id == "default_policy"
    config = config_for("CartPole-v1").multi_agent(policies={"p", "q"})
    with pytest.raises(ConfigError, match="One agent needs one module"):
        EnvRunner(config)
