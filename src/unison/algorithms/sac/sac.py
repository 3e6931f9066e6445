"""SAC: sample a little, update a little, from a replay of all that was sampled (Haarnoja et al. 2018b, algorithm 1)."""

from collections.abc import Mapping
from typing import Any

from unison.algorithms.algorithm import NUM_ENV_STEPS_SAMPLED_LIFETIME, Algorithm
from unison.algorithms.sac.saved_replay import SavedReplay
from unison.algorithms.sac.updates import ReplayUpdates
from unison.config import AlgorithmConfig
from unison.data.replay import Prioritization, ReplayBuffer
from unison.registry import register
from unison.types import ModuleID


@register("algorithm", "sac")
class SAC(Algorithm):
    """Soft actor-critic, for one agent or many."""

    def __init__(self, *, config: AlgorithmConfig) -> None:
        super().__init__(config=config)
        settings = self.config
        weighs = Prioritization(settings.replay_alpha, settings.replay_beta) if settings.replay_prioritized else None
        self.replay = ReplayBuffer(
            settings.replay_capacity,
            prioritization=weighs,
            device=settings.replay_device,
            directory=settings.replay_directory,
            seed=settings.seed,
        )
        self._updates = ReplayUpdates(self.learner_group, self.replay, settings)
        self.parts["replay"] = SavedReplay(self.replay, saved=settings.save_replay, needed=self._needed_steps)
        self._owed = 0.0
        """Gradient steps that the steps sampled so far have earned and that were not taken yet."""

    def training_step(self) -> dict[ModuleID, dict[str, Any]]:
        """Sample `steps_per_iteration` environment steps, each followed by its `updates_per_step` gradient steps."""
        results: dict[ModuleID, dict[str, Any]] = {}
        end = self.num_env_steps_sampled_lifetime + self.config.steps_per_iteration
        while (missing := end - self.num_env_steps_sampled_lifetime) > 0:
            warming_up = self.config.warm_up_steps - self.num_env_steps_sampled_lifetime
            if warming_up > 0:
                self._sample(min(missing, warming_up), random_actions=True)
                continue
            sampled = self._sample(min(missing, self._steps_at_once))
            if len(self.replay) < self._needed_steps:
                continue  # A resumed run may begin with an empty replay.
            self._owed += self.config.updates_per_step * sampled
            steps = int(self._owed)
            if steps:
                self._owed -= steps
                results = self._update(steps) or results
        last = self._updates.drain()
        if last:
            self.sync_weights()
        return last or results

    @property
    def _needed_steps(self) -> int:
        """What the replay holds before updates begin."""
        return min(self.config.warm_up_steps, self.config.replay_capacity)

    @property
    def _steps_at_once(self) -> int:
        """Environment steps between updates, of all environments together."""
        length = self.config.rollout_fragment_length
        environments = self.config.num_envs_per_env_runner * max(1, self.config.num_env_runners)
        return environments * (1 if length == "auto" else length)

    def _sample(self, steps: int, *, random_actions: bool = False) -> int:
        with self.timed("sample_s"):
            episodes = self.env_runner.sample(num_timesteps=steps, random_actions=random_actions)
        with self.timed("replay_s"):
            sampled = self.replay.add(episodes)
        self.num_env_steps_sampled_lifetime += sampled
        return sampled

    def _update(self, steps: int) -> dict[ModuleID, dict[str, Any]]:
        with self.timed("update_s"):
            results = self._updates.run(steps, {NUM_ENV_STEPS_SAMPLED_LIFETIME: self.num_env_steps_sampled_lifetime})
        with self.timed("sync_s"):
            if not self.config.updates_while_sampling:
                self.sync_weights()
            elif self._updates.weights is not None:  # Asking for them would wait for all updates.
                self.env_runner.set_weights(self._updates.weights)
        return results

    def modules_changed(self) -> None:
        """See Algorithm.modules_changed."""
        self._updates.follow_modules()

    def get_progress(self) -> dict[str, Any]:
        """See Algorithm.get_progress."""
        return super().get_progress() | {"owed_updates": self._owed}

    def set_progress(self, progress: Mapping[str, Any]) -> None:
        """See Algorithm.set_progress."""
        super().set_progress(progress)
        self._owed = float(progress["owed_updates"])
