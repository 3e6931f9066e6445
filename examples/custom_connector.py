"""A learner connector of one's own: shape the rewards of episodes before advantages are computed.

Connectors see a rollout: the steps of all episodes of one module, one after another, as tensors. Those of
the setting `learner_connectors` run before the algorithm's own. Here rewards are shaped by a potential phi,
which leaves the best policy as it is: r + gamma * phi(s') - phi(s). Source: Ng, Harada & Russell 1999,
"Policy Invariance Under Reward Transformations".
"""

from dataclasses import dataclass

import torch

from unison import Columns, PPOConfig


@dataclass(frozen=True)  # a dataclass is stored with the config, by its name and fields
class DrawToTheMiddle:
    """The potential falls with the cart's distance from the middle of the track."""

    weight: float = 1.0

    def __call__(self, rollout, *, learner, module_id):
        potential = -self.weight * rollout.observations[:, 0].abs()  # of all steps, and of the end of each chunk
        rows, columns = rollout.rows, rollout.columns
        following = torch.where(columns[Columns.TERMINATEDS], 0.0, potential[rows + 1])
        gamma = learner.config_for_module(module_id).gamma
        columns[Columns.REWARDS] = columns[Columns.REWARDS] + gamma * following - potential[rows]
        return rollout


def main(iterations: int = 20) -> dict:
    """Train CartPole on shaped rewards; metrics and evaluation still show the real ones."""
    config = (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size=512, minibatch_size=128, lr=1e-3)
        .training(learner_connectors=[DrawToTheMiddle(weight=2.0)])
        .debugging(seed=0)
    )
    algorithm = config.build()
    for _ in range(iterations):
        results = algorithm.train()
    print(f"return in training {results['env_runners']['episode_return_mean']:.1f}")
    evaluation = algorithm.evaluate(10)
    print(f"return in evaluation {evaluation['episode_return_mean']:.1f}")
    algorithm.stop()
    return evaluation


if __name__ == "__main__":
    main()
