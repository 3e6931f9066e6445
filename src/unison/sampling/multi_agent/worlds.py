"""Copies of an environment of many agents, each at its own point of an episode."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, final

import numpy as np

from unison.config import AlgorithmConfig
from unison.config.pettingzoo_environments import is_environment
from unison.errors import ConfigError, EnvironmentFailure
from unison.modules.spaces import Space
from unison.sampling.environments import Copies
from unison.sampling.making import EnvironmentMaker, environment_name
from unison.sampling.multi_agent.turns import Turn, TurnTaker, turn_taker
from unison.types import AgentID, Tree


@final
class Worlds(Copies):
    """E environments of many agents; each is stepped by itself, so they need not keep in step.

    Args:
        make: makes one environment.
        num_envs: E.
        name: the environment's, for messages.
        max_restarts: how many crashes are answered by a new environment instead of an error.

    Raises:
        ConfigError: what was made is no PettingZoo environment.
    """

    def __init__(self, make: Callable[[], Any], num_envs: int, name: str, max_restarts: int) -> None:
        super().__init__(name, num_envs, max_restarts)
        self._make = make
        self._seeds = [0] * num_envs
        self._fresh: set[int] = set()
        """The environments whose next reset is seeded."""
        self._takers = [self._make_taker(index) for index in range(num_envs)]

    def _make_taker(self, index: int) -> TurnTaker:
        env = self._make()
        if not is_environment(env):
            raise ConfigError(
                f"'{self.name}' made a {type(env).__name__}, which is neither a pettingzoo.ParallelEnv nor a "
                "pettingzoo.AECEnv."
            )
        return turn_taker(env, f"Environment {index} of '{self.name}'")

    def reseed(self, seeds: Sequence[int]) -> None:
        """Let the next episode of each environment begin from a seed; later ones go on with its random numbers."""
        self._seeds = list(seeds)
        self._fresh = set(range(self.num_envs))

    def spaces(self, index: int, agent_id: AgentID) -> tuple[Space, Space]:
        """Observation and action space of an agent in one environment.

        Raises:
            EnvironmentFailure: the environment does not say them.
        """
        env = self._takers[index].env
        try:
            return env.observation_space(agent_id), env.action_space(agent_id)
        except Exception as error:
            raise EnvironmentFailure(
                f"Environment {index} of '{self.name}' does not say the spaces of agent '{agent_id}': "
                f"{type(error).__name__}: {error}. Let observation_space(agent) and action_space(agent) return them."
            ) from error

    def reset(self, index: int) -> Turn:
        """Begin an episode in one environment.

        Raises:
            EnvironmentFailure: the environment breaks PettingZoo's contract, or failed and may not be made anew, or the
                new one fails at once.
        """
        seed = self._seeds[index] if index in self._fresh else None
        try:
            turn = self._takers[index].reset(seed)
        except EnvironmentFailure:  # A broken contract is no crash: a new environment would break it again.
            raise
        except Exception as error:
            self._admit_restart(f"Environment {index}", error)
            self._replace(index, error)
            turn = self._first_turn(index, error)
        self._fresh.discard(index)
        return turn

    def step(self, index: int, actions: dict[AgentID, Tree]) -> Turn | None:
        """Take the actions of one environment's agents; None if it crashed, and was made anew.

        Raises:
            EnvironmentFailure: as `reset`.
        """
        try:
            return self._takers[index].step(actions)
        except EnvironmentFailure:
            raise
        except Exception as error:
            self._admit_restart(f"Environment {index}", error)
            self._replace(index, error)
            return None

    def _replace(self, index: int, error: Exception) -> None:
        """Make an environment anew, with a seed of its own."""
        with suppress(Exception):
            self._takers[index].close()
        self._seeds[index] = int(np.random.SeedSequence([self._seeds[index], self.num_restarts]).generate_state(1)[0])
        self._fresh.add(index)
        try:
            self._takers[index] = self._make_taker(index)
        except Exception as second:
            raise self._second_failure(f"Environment {index}", second) from error

    def _first_turn(self, index: int, error: Exception) -> Turn:
        try:
            return self._takers[index].reset(self._seeds[index])
        except Exception as second:
            raise self._second_failure(f"Environment {index}", second) from error

    def close(self) -> None:
        """Close all environments."""
        for taker in self._takers:
            with suppress(Exception):  # A crashed environment may fail to close.
                taker.close()


def make_worlds(config: AlgorithmConfig, *, evaluation: bool = False) -> Worlds:
    """The environments of one sampler.

    Raises:
        ConfigError: the config asks for what only environments of one agent have.
        EnvironmentFailure: an environment raised while it was made.
    """
    if config.vectorization not in ("auto", "sync"):
        raise ConfigError(
            f"vectorization='{config.vectorization}' is for environments of one agent; those of many are stepped in "
            "turn. Leave it at 'auto', and take env runners for more processes: resources(num_env_runners=...)."
        )
    num_envs = config.evaluation_num_envs if evaluation else config.num_envs_per_env_runner
    settings: dict[str, Any] = {**config.env_config, **(config.evaluation_env_config if evaluation else {})}
    max_restarts = config.max_environment_restarts if config.restart_failed_environments else 0
    return Worlds(EnvironmentMaker(config.env, settings), num_envs, environment_name(config.env), max_restarts)
