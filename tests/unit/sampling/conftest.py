"""Environments whose every observation says what came before it."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from unison.config import AlgorithmConfig
from unison.data import SingleAgentEpisode
from unison.sampling import EnvRunner


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _counting_env(settings: dict[str, Any]) -> gym.Env:
    """Observes (tag, episode, step, last action); pays 10 * step + action.

    `lengths` are those of the episodes in turn, `ends` whether they terminate (0), are truncated (1) or both (2).
    """
    # The class is local so that it travels to worker processes by value.

    class CountingEnv(gym.Env):
        observation_space = gym.spaces.Box(-np.inf, np.inf, (4,))
        action_space = gym.spaces.Discrete(3)

        def __init__(self) -> None:
            self.episode, self.total, self.resets = -1, 0, 0
            self.state = np.zeros(4, np.float32)

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            super().reset(seed=seed)
            if seed is not None:
                self.tag, self.episode = seed % 1000, -1
            self.resets += 1
            if self.resets == settings.get("crash_at_reset"):
                raise ValueError("no reset")
            self.episode += 1
            self.step_count = 0
            return self.observe(-1), {"note": 0}

        def observe(self, action: float) -> Any:
            # The same array again and again, as careless environments do; Gymnasium's SyncVectorEnv can't take that.
            self.state[:] = (self.tag, self.episode, self.step_count, action)
            return self.state.copy() if "mode" in settings else self.state

        def step(self, action: Any) -> Any:
            assert self.action_space.contains(action)
            self.total += 1
            if self.total == settings.get("crash_at_step"):
                raise ValueError("boom")
            if self.total == settings.get("die_at_step"):
                os._exit(3)
            reward = settings.get("reward", 10.0 * self.step_count + float(action))
            self.step_count += 1
            lengths, ends = settings.get("lengths", (4, 7, 1, 3)), settings.get("ends", (0, 1, 2))
            over = self.step_count >= lengths[(self.tag + self.episode) % len(lengths)]
            end = ends[self.episode % len(ends)]
            return self.observe(float(action)), reward, over and end != 1, over and end != 0, {"note": self.total}

    return CountingEnv()


def _counting_vector(settings: dict[str, Any], num_envs: int) -> gym.vector.VectorEnv:
    return gym.vector.SyncVectorEnv(
        [lambda: _counting_env(settings)] * num_envs, autoreset_mode=gym.vector.AutoresetMode(settings["mode"])
    )


@pytest.fixture
def counting_env() -> Callable[[dict[str, Any]], gym.Env]:
    # Made by value as well: test modules can't be imported by other processes.
    import cloudpickle

    return cloudpickle.loads(cloudpickle.dumps(_by_value(_counting_env)))


def _by_value(function: Callable[..., Any]) -> Callable[..., Any]:
    def counting(settings: dict[str, Any]) -> Any:
        return function(settings)

    return counting


@pytest.fixture
def counting_vector() -> Callable[..., gym.vector.VectorEnv]:
    return _counting_vector


RunnerMaker = Callable[..., EnvRunner]


@pytest.fixture
def make_runner() -> Iterator[RunnerMaker]:
    """Makes runners of a few settings, and stops them in the end."""
    made: list[EnvRunner] = []

    def make(
        env: Any, env_config: dict[str, Any] | None = None, *, envs: int = 3, seed: int = 0, **settings: Any
    ) -> EnvRunner:
        own = {name: settings.pop(name) for name in ("module", "worker_index", "evaluation") if name in settings}
        config = AlgorithmConfig().environment(env, env_config=env_config or {}).debugging(seed=seed)
        config.env_runners(num_envs_per_env_runner=envs).evaluation(evaluation_num_envs=envs)
        for name, value in settings.items():
            setattr(config, name, value)
        made.append(EnvRunner(config, **own))
        return made[-1]

    yield make
    for runner in made:
        runner.stop()


@pytest.fixture
def assert_same() -> Callable[[list[SingleAgentEpisode], list[SingleAgentEpisode]], None]:
    """Asserts that episodes are equal bit for bit."""

    def check(ours: Any, theirs: Any) -> None:
        if isinstance(ours, dict):
            assert list(ours) == list(theirs)
            for key in ours:
                check(ours[key], theirs[key])
        elif isinstance(ours, tuple | list):
            assert len(ours) == len(theirs)
            for one, other in zip(ours, theirs, strict=True):
                check(one, other)
        elif isinstance(ours, SingleAgentEpisode):
            check(ours.get_state(), theirs.get_state())
        else:
            assert np.array_equal(ours, theirs)
            assert getattr(ours, "dtype", None) == getattr(theirs, "dtype", None)

    return check
