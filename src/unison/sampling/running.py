"""The episodes that are under way, one in each environment, and who records their steps."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import NamedTuple, final

import numpy as np

from unison.sampling.environments import Outcome
from unison.types import AgentID, ModuleID, Tree


class Recorder(ABC):
    """What the sampling loop tells about each step: first the actions, then what they brought."""

    @property
    @abstractmethod
    def is_full(self) -> bool:
        """Whether the loop must stop."""

    @abstractmethod
    def add_actions(self, actions: Tree, outputs: Mapping[str, Tree]) -> None:
        """Take the policy's actions [E, ...] and what it said about them, before the environments step."""

    @abstractmethod
    def add_outcome(self, outcome: Outcome) -> None:
        """Take what the environments answered."""


class Finished(NamedTuple):
    """An episode that came to its end."""

    env_index: int
    id_: str
    episode_return: float
    length: int
    agents: "tuple[AgentReturn, ...]" = ()
    """Where there are many agents: who took part."""


class AgentReturn(NamedTuple):
    """What one of many agents got in an episode."""

    agent_id: AgentID
    module_id: ModuleID
    agent_return: float


@final
class RunningEpisodes:
    """Keeps id, length and return of the episode in each environment, across samples.

    Args:
        num_envs: E.
        episode_id: the id of the episode that is the so-manieth to begin.
    """

    def __init__(self, num_envs: int, episode_id: Callable[[int], str]) -> None:
        self._episode_id = episode_id
        self.num_begun = 0
        self.finished: list[Finished] = []
        """Episodes that have ended since this list was last emptied."""
        self.ids = [""] * num_envs
        self._lengths = [0] * num_envs
        self._returns = [0.0] * num_envs

    def begin(self, index: int) -> None:
        """A new episode begins in environment `index`."""
        self.ids[index] = self._episode_id(self.num_begun)
        self.num_begun += 1
        self._lengths[index] = 0
        self._returns[index] = 0.0

    def advance(self, index: int, steps: int, reward: float) -> int:
        """Add steps and the sum of their rewards; returns how many steps there were before."""
        before = self._lengths[index]
        self._lengths[index] += steps
        self._returns[index] += reward
        return before

    def end(self, index: int, *, failed: bool) -> None:
        """The episode ends; one that ends by a crash does not count as finished."""
        if not failed:
            self.finished.append(Finished(index, self.ids[index], self._returns[index], self._lengths[index]))


@final
class ReturnCounter(Recorder):
    """Records lengths and returns only, whatever the observations weigh."""

    def __init__(self, num_envs: int, running: RunningEpisodes) -> None:
        self._running = running
        self._returns = np.zeros(num_envs)
        self._lengths = np.zeros(num_envs, np.int64)

    @property
    def is_full(self) -> bool:
        """Never: a quota ends the loop."""
        return False

    def add_actions(self, actions: Tree, outputs: Mapping[str, Tree]) -> None:
        """Keep nothing of them."""

    def add_outcome(self, outcome: Outcome) -> None:
        """Add up rewards and steps."""
        self._returns += outcome.rewards
        self._lengths += 1
        for ending in outcome.ended:
            index = ending.env_index
            self._running.advance(index, int(self._lengths[index]), float(self._returns[index]))
            self._running.end(index, failed=ending.failed)
        for index in outcome.begun:
            # A step that only resets is wiped out here as well.
            self._returns[index] = 0.0
            self._lengths[index] = 0
            self._running.begin(index)
