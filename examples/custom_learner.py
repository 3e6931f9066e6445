"""An algorithm of one's own in one file: REINFORCE, by giving a loss, in a loop of one's own.

A Learner turns episodes into updates. What an algorithm adds is a loss; here also a connector, which
computes the returns that the loss needs. Source: Williams 1992, "Simple Statistical Gradient-Following
Algorithms for Connectionist Reinforcement Learning".
"""

import torch

from unison import AlgorithmConfig, Columns, TorchLearner
from unison.losses import generalized_advantages, masked_mean, standardize
from unison.sampling import EnvRunner


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
        mask = batch.get(Columns.LOSS_MASK)  # there with an LSTM, whose sequences are padded
        distribution = self.module[module_id].action_distribution(fwd_out[Columns.ACTION_DIST_INPUTS])
        entropy = masked_mean(distribution.entropy(), mask)
        loss = -masked_mean(batch[Columns.ADVANTAGES] * distribution.log_prob(batch[Columns.ACTIONS]), mask)
        self.metrics.log_dict({"policy_loss": loss, "entropy": entropy}, key=module_id)
        return loss


def main(iterations: int = 60) -> float:
    """Train on CartPole and return the mean return of evaluation."""
    config = (
        AlgorithmConfig()
        .environment("CartPole-v1")
        .env_runners(num_envs_per_env_runner=8)
        .training(learner_class=ReinforceLearner, lr=5e-3)
        .debugging(seed=0)
    )
    learner, runner = config.build_learner(), EnvRunner(config)
    for iteration in range(iterations):
        runner.set_weights(learner.get_module_state())
        results = learner.update_from_episodes(runner.sample(num_episodes=8))  # whole episodes: returns need their end
        if iteration % 10 == 9:
            found, entropy = runner.get_metrics(), results["default_policy"]["entropy"]
            print(f"iteration {iteration + 1}: return {found['episode_return_mean']:.1f}, entropy {entropy:.2f}")
    runner.set_weights(learner.get_module_state())
    score = runner.evaluate(10, explore=False)["episode_return_mean"]
    print(f"evaluation: return {score:.1f}")
    runner.stop()
    return score


if __name__ == "__main__":
    main()
