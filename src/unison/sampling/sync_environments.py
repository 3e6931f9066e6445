"""Environments stepped in turn, in this process."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import Any, final

import gymnasium as gym

from unison.errors import EnvironmentFailure, SpaceError
from unison.modules.spaces import Space, parts_of
from unison.sampling.environments import Ending, Environments, Outcome
from unison.sampling.guarded_env import GuardedEnv
from unison.sampling.observations import row_of, writer_for
from unison.sampling.step_check import check_flags, check_reward
from unison.types import Tree, tree_leaves, tree_map


@final
class SyncEnvironments(Environments):
    """Steps E environments one after the other, and resets each in the step that ends its episode.

    Gymnasium's SyncVectorEnv does as much and takes a quarter longer with small environments (it gathers
    infos, and copies observations more than once).

    Args:
        make: makes one environment.
        num_envs: E.
        name: the environment's, for messages.
        max_restarts: how many crashes are answered by a new environment instead of an error.

    Raises:
        SpaceError: the copies differ in their spaces.
    """

    def __init__(self, make: Callable[[], gym.Env[Any, Any]], num_envs: int, name: str, max_restarts: int) -> None:
        self._guards = [GuardedEnv(make) for _ in range(num_envs)]
        first = self._guards[0]
        for index, guard in enumerate(self._guards):
            if (guard.observation_space, guard.action_space) != (first.observation_space, first.action_space):
                raise SpaceError(
                    f"Environment {index} of '{name}' has the spaces {guard.observation_space} and "
                    f"{guard.action_space}, but environment 0 has {first.observation_space} and {first.action_space}. "
                    "All copies need the same spaces."
                )
        super().__init__(name, num_envs, first.observation_space, first.action_space, max_restarts)
        # Steps go past the guard, for speed; a crash is brought back to it.
        self._steps = [guard.env.step for guard in self._guards]
        self._write = writer_for(self.observations)
        self._split = _splitter(first.action_space)
        self._rewards: list[Any] = [0.0] * num_envs

    @property
    def resets_take_a_step(self) -> bool:
        """They do not: each environment resets within the step."""
        return False

    def reset(self, seeds: Sequence[int]) -> None:
        """Reset all environments, each with its seed."""
        for index, seed in enumerate(seeds):
            self._begin(index, seed)

    def step(self, actions: Tree) -> Outcome:
        """Take one action [E, ...] in each environment."""
        rewards = self._rewards
        write = self._write
        ended: list[Ending] = []
        lost = 0
        for index, (step, action) in enumerate(zip(self._steps, self._split(actions), strict=True)):
            try:
                observation, reward, terminated, truncated, _ = step(action)
                check_reward(reward)
                rewards[index] = reward
                write(index, observation)
                if terminated is False and truncated is False:  # as in most steps
                    continue
                check_flags(terminated, truncated)
                if not (terminated or truncated):
                    continue
            except Exception as error:
                self._recover(index, error)
                ended.append(Ending(index, False, True, failed=True))
                lost += 1
                continue
            ended.append(Ending(index, bool(terminated), not terminated, row_of(self.observations, index)))
            self._begin(index)
        return Outcome(rewards, ended, [ending.env_index for ending in ended], lost)

    def _recover(self, index: int, error: Exception) -> None:
        self._admit_restart(f"Environment {index}", error)
        self._guards[index].failure = error
        self._begin(index, admitted=True)

    def _begin(self, index: int, seed: int | None = None, *, admitted: bool = False) -> None:
        guard = self._guards[index]
        try:
            observation, _ = guard.reset(seed=seed)
        except Exception as error:
            raise self._second_failure(f"Environment {index}", error) from guard.failure or error
        if guard.crash is not None and not admitted:
            self._admit_restart(f"Environment {index}", guard.crash)
        self._steps[index] = guard.env.step
        try:
            self._write(index, observation)
        except TypeError as error:
            raise EnvironmentFailure(f"Environment {index} of '{self.name}' returned {error}") from None

    def close(self) -> None:
        """Close all environments."""
        for guard in self._guards:
            with suppress(Exception):  # A crashed environment may fail to close.
                guard.close()


def _splitter(space: Space) -> Callable[[Tree], Iterable[Tree]]:
    """A function that gives each environment its own action of [E, ...]."""
    if parts_of(space) is None:
        return iter

    def split(actions: Tree) -> Iterable[Tree]:
        return [tree_map(itemgetter(index), actions) for index in range(len(tree_leaves(actions)[0]))]

    return split
