"""The seam between algorithms and whatever gathers experience for them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from unison.checkpoint import check_like
from unison.data import MultiAgentEpisode, SingleAgentEpisode
from unison.types import ModuleID


class Runner(ABC):
    """Gathers experience with its own environments and its own copy of the modules."""

    @abstractmethod
    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
    ) -> Sequence[SingleAgentEpisode | MultiAgentEpisode]:
        """Gather environment steps or whole episodes."""

    @abstractmethod
    def evaluate(self, num_episodes: int | None = None, *, explore: bool | None = None) -> dict[str, float]:
        """Run whole episodes from fresh resets and return their averages."""

    @abstractmethod
    def set_weights(self, weights: Mapping[ModuleID, Mapping[str, Any]], version: int | None = None) -> None:
        """Take over the modules' weights."""

    @abstractmethod
    def get_metrics(self) -> dict[str, float]:
        """Averages over the last episodes, and counts since the last call."""

    @abstractmethod
    def reset_environments(self) -> None:
        """Abandon the running episodes, so that sampling goes on as after `set_state`."""

    @abstractmethod
    def get_state(self) -> dict[str, Any]:
        """What sampling needs to go on, without the modules' weights."""

    @abstractmethod
    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `get_state`."""

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Raise what `set_state` would, and change nothing. A group's state fits a single runner, and the reverse.

        Raises:
            StateError: the state lacks a part, or one is of another kind.
        """
        own, saved = (s.get("runners", [s]) for s in (self.get_state(), state))
        for runner in saved:
            check_like(runner, own[0], "The env runner's state")

    @abstractmethod
    def stop(self) -> None:
        """Close the environments."""
