"""The seam between algorithms and whatever gathers experience for them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from unison.checkpoint import check_like
from unison.data import MultiAgentEpisode, SingleAgentEpisode
from unison.data.multi_agent_episode import PolicyMapping
from unison.modules import SingleAgentRLModuleSpec
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
    def evaluate(self, num_episodes: int | None = None, *, explore: bool | None = None) -> dict[str, Any]:
        """Run whole episodes from fresh resets and return their averages."""

    @abstractmethod
    def set_weights(self, weights: Mapping[ModuleID, Mapping[str, Any]], version: int | None = None) -> None:
        """Take over the modules' weights."""

    @abstractmethod
    def add_module(self, *, module_id: ModuleID, module_spec: SingleAgentRLModuleSpec) -> None:
        """Build one more module; its weights come by `set_weights`.

        Raises:
            ModuleError: the id is taken.
        """

    @abstractmethod
    def remove_module(self, module_id: ModuleID) -> None:
        """Remove a module; running episodes in which it acts are abandoned.

        Raises:
            ModuleError: there is no such module, or nothing can be sampled without it.
        """

    @abstractmethod
    def set_policy_mapping_fn(self, policy_mapping_fn: PolicyMapping | None) -> None:
        """Say anew which module acts for which agent in all episodes that begin from now on; None: as the config says.

        Raises:
            ConfigError: the environment has one agent.
        """

    @abstractmethod
    def get_metrics(self) -> dict[str, Any]:
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
            check_like(_with_all_seeds(runner, own[0]), own[0], "The env runner's state")

    @abstractmethod
    def stop(self) -> None:
        """Close the environments."""


def _with_all_seeds(state: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A runner's state, with what older checkpoints lack of its seeds."""
    seeds = state.get("seeds")
    return state | {"seeds": own["seeds"] | seeds} if isinstance(seeds, dict) else state
