"""An algorithm of one's own in one file: REINFORCE, by giving a loss.

A Learner turns episodes into updates. What an algorithm adds is a loss; here also a connector, which
computes the returns that the loss needs. Source: Williams 1992, "Simple Statistical Gradient-Following
Algorithms for Connectionist Reinforcement Learning".
"""

import torch

from unison import Columns, PPOConfig, TorchLearner
from unison.losses import generalized_advantages, standardize


class AddReturns:
    """Discounted returns to go, standardized: generalized advantages with lambda 1 and values 0."""

    def __call__(self, rollout, *, learner, module_id):
        rewards = rollout.columns[Columns.REWARDS]
        zeros = torch.zeros_like(rewards)
        gamma = learner.config_for_module(module_id).gamma
        returns = generalized_advantages(rewards, zeros, zeros, rollout.continues, gamma=gamma, lambda_=1.0)
        rollout.columns[Columns.ADVANTAGES] = standardize(returns)
        return rollout


class ReinforceLearner(TorchLearner):
    required_columns = (Columns.OBS, Columns.ACTIONS, Columns.ADVANTAGES)
    connectors = (AddReturns(),)

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        distribution = self.module[module_id].action_distribution(fwd_out[Columns.ACTION_DIST_INPUTS])
        entropy = distribution.entropy().mean()
        loss = -(batch[Columns.ADVANTAGES] * distribution.log_prob(batch[Columns.ACTIONS])).mean()
        self.metrics.log_dict({"policy_loss": loss, "entropy": entropy}, key=module_id)
        return loss


def main(iterations: int = 60) -> float:
    """Train on CartPole and return the mean return of the last episodes."""
    config = (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_envs_per_env_runner=8)
        .training(learner_class=ReinforceLearner, lr=5e-3, train_batch_size=1000, minibatch_size=None, num_epochs=1)
        .debugging(seed=0)
    )
    algorithm = config.build()
    for iteration in range(iterations):
        results = algorithm.train()
        if iteration % 10 == 9:
            print(f"iteration {iteration + 1}: return {results['env_runners']['episode_return_mean']:.1f}")
    algorithm.stop()
    return results["env_runners"]["episode_return_mean"]


if __name__ == "__main__":
    main()
