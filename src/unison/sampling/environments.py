"""The seam between the sampling loop and whatever steps several environments together."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from unison.errors import EnvironmentFailure
from unison.modules.spaces import Space
from unison.sampling.observations import empty_observations
from unison.types import Tree

_logger = logging.getLogger(__name__)


class WorkerError(Exception):
    """What an environment raised in another process: the traceback from there, as text."""


class Ending(NamedTuple):
    """The end of an episode in one environment."""

    env_index: int
    terminated: bool
    truncated: bool
    final_observation: Tree | None = None
    """What followed the last action; None if `Environments.observations` holds it."""
    failed: bool = False
    """Whether the environment crashed: this step never happened, the episode ends with the one before."""


class Outcome(NamedTuple):
    """What one step of all environments brought."""

    rewards: Any
    """[E]"""
    ended: Sequence[Ending]
    begun: Sequence[int]
    """The environments whose observation is now the first of an episode."""
    lost: int
    """Environments that took no step: they failed, or used the step to reset."""


class Copies(ABC):
    """E copies of one environment, and how many crashes of them are borne.

    Args:
        name: the environment's, for messages.
        num_envs: E.
        max_restarts: how many crashes are answered by a new environment instead of an error.
    """

    def __init__(self, name: str, num_envs: int, max_restarts: int) -> None:
        self.name = name
        self.num_envs = num_envs
        self.num_restarts = 0
        self._max_restarts = max_restarts

    @abstractmethod
    def close(self) -> None:
        """Release the environments and their processes."""

    def _admit_restart(self, which: str, error: BaseException) -> None:
        """Count a crash.

        Raises:
            EnvironmentFailure: no restart is allowed, or none any more; the crash is its cause.
        """
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, WorkerError):
            reason = str(error).strip().splitlines()[-1]
        what = f"{which} of '{self.name}' failed: {reason}"
        if self._max_restarts == 0:
            raise EnvironmentFailure(
                f"{what}. Mend it, or go on with new environments: fault_tolerance(restart_failed_environments=True)."
            ) from error
        if self.num_restarts >= self._max_restarts:
            raise EnvironmentFailure(
                f"{what}. All {self._max_restarts} restarts are used up (fault_tolerance: max_environment_restarts)."
            ) from error
        self.num_restarts += 1
        _logger.warning("%s. It is made anew (restart %d of %d).", what, self.num_restarts, self._max_restarts)

    def _second_failure(self, which: str, error: BaseException) -> EnvironmentFailure:
        """What to raise where the new environment fails at once."""
        return EnvironmentFailure(
            f"{which} of '{self.name}' failed, and so did the one made in its place: {type(error).__name__}: {error}"
        )


class Environments(Copies):
    """Copies of one environment of one agent, stepped together and reset by themselves when an episode ends.

    Args:
        name: the environment's, for messages.
        num_envs: E.
        observation_space: of one copy.
        action_space: of one copy.
        max_restarts: how many crashes are answered by a new environment instead of an error.
    """

    def __init__(
        self,
        name: str,
        num_envs: int,
        observation_space: Space,
        action_space: Space,
        max_restarts: int,
    ) -> None:
        super().__init__(name, num_envs, max_restarts)
        self.observation_space = observation_space
        self.action_space = action_space
        self.observations: Tree = empty_observations(observation_space, num_envs, name)
        """What the next actions answer to, [E, ...]; every step writes into the same arrays."""

    @property
    @abstractmethod
    def resets_take_a_step(self) -> bool:
        """Whether the step after an episode's end only resets."""

    @abstractmethod
    def reset(self, seeds: Sequence[int]) -> None:
        """Reset all environments, each with its seed, and begin an episode in each."""

    @abstractmethod
    def step(self, actions: Tree) -> Outcome:
        """Take one action [E, ...] in each environment."""
