"""Rewards of many agents on the scale of their returns."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

import numpy as np

from unison.checkpoint import check_like
from unison.config import AlgorithmConfig
from unison.data import SingleAgentEpisode
from unison.sampling.reward_normalizer import RewardNormalizer
from unison.types import ModuleID


@final
class AgentRewards:
    """Normalizes rewards as `RewardNormalizer` does: returns run agent by agent, each module has a scale of its own.

    Args:
        config: has the discount factor of each module; a module that it does not know has the common one.
    """

    def __init__(self, config: AlgorithmConfig) -> None:
        self._config = config
        self._normalizers: dict[ModuleID, RewardNormalizer] = {}
        self._running: dict[str, float] = {}
        """The discounted return so far, by the id of an agent's episode."""

    def normalize(self, module_id: ModuleID, episodes: Sequence[SingleAgentEpisode]) -> None:
        """Take in the chunks of one sample for which a module has acted, and normalize their rewards in place."""
        shape = len(episodes), max(len(episode) for episode in episodes)
        rewards, valid, begins = np.zeros(shape), np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        for index, episode in enumerate(episodes):
            rewards[index, : len(episode)] = episode.get_rewards()
            valid[index, : len(episode)] = True
        running = np.array([self._running.get(episode.id_, 0.0) for episode in episodes])
        normalized = self._normalizer(module_id)(rewards, begins, valid, running)
        for episode, row, discounted in zip(episodes, normalized, running, strict=True):
            episode.get_rewards()[:] = row[: len(episode)]
            self._running[episode.id_] = float(discounted)

    def keep(self, ids: Iterable[str]) -> None:
        """Forget the running returns of all episodes of agents but these."""
        self._running = {id_: self._running[id_] for id_ in ids if id_ in self._running}

    def forget_module(self, module_id: ModuleID) -> None:
        """A module is gone, and its scale with it."""
        self._normalizers.pop(module_id, None)

    def get_state(self) -> list[dict[str, Any]]:
        """The statistics of each module, for `set_state`."""
        return [{"module_id": module_id, **each.get_state()} for module_id, each in self._normalizers.items()]

    def set_state(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Take over statistics; running returns begin anew, as the environments do.

        Raises:
            StateError: `state` is of another form, or lacks a part of a module; then nothing has changed.
        """
        check_like(state, [{"module_id": "", **RewardNormalizer(0.0).get_state()}], "The scales of rewards")
        normalizers: dict[ModuleID, RewardNormalizer] = {}
        for statistics in state:
            made = normalizers[statistics["module_id"]] = self._made(statistics["module_id"])
            made.set_state(statistics)
        self._normalizers, self._running = normalizers, {}

    def _normalizer(self, module_id: ModuleID) -> RewardNormalizer:
        if module_id not in self._normalizers:
            self._normalizers[module_id] = self._made(module_id)
        return self._normalizers[module_id]

    def _made(self, module_id: ModuleID) -> RewardNormalizer:
        return RewardNormalizer(self._config.get_config_for_module(module_id).gamma)
