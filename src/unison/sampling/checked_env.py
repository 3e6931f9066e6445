"""An environment that is held to its word before what it returns leaves for another process."""

from typing import Any

import gymnasium as gym

from unison.sampling.guarded_env import first_observation
from unison.sampling.observations import empty_observations, writer_for
from unison.sampling.step_check import check_flags, check_reward
from unison.types import Tree


class CheckedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Raises TypeError where an observation, a reward or a flag is none; the way there would make one of it in silence.

    Args:
        env: what is checked.
        name: the environment's, for messages.
    """

    def __init__(self, env: gym.Env[Any, Any], name: str) -> None:
        super().__init__(env)
        self._write = writer_for(empty_observations(env.observation_space, 1, name))

    def step(self, action: Tree) -> tuple[Tree, Any, bool, bool, dict[str, Any]]:
        """Step the environment; infos are left out."""
        observation, reward, terminated, truncated, _ = self.env.step(action)
        check_reward(reward)
        check_flags(terminated, truncated)
        self._write(0, observation)
        return observation, reward, terminated, truncated, {}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tree, dict[str, Any]]:
        """Reset the environment; infos are left out."""
        observation = first_observation(self.env.reset(seed=seed, options=options))
        self._write(0, observation)
        return observation, {}
