"""PPO: sample, then pass several times over the batch (Schulman et al. 2017, algorithm 1)."""

from typing import Any

from unison.algorithms.algorithm import NUM_ENV_STEPS_SAMPLED_LIFETIME, Algorithm
from unison.registry import register
from unison.types import ModuleID


@register("algorithm", "ppo")
class PPO(Algorithm):
    """Proximal policy optimization, for one agent or many."""

    def training_step(self) -> dict[ModuleID, dict[str, Any]]:
        """One batch: `train_batch_size` steps sampled, `num_epochs` passes over them."""
        with self.timed("sample_s"):
            episodes = self.env_runner.sample(num_timesteps=self.config.train_batch_size)
        self.num_env_steps_sampled_lifetime += sum(len(episode) for episode in episodes)
        with self.timed("update_s"):
            results = self.learner_group.update_from_episodes(
                episodes,
                timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: self.num_env_steps_sampled_lifetime},
                minibatch_size=self.config.minibatch_size,
                num_iters=self.config.num_epochs,
            )
        with self.timed("sync_s"):
            self.sync_weights()
        return results
