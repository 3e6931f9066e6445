"""A learner connector of one's own: shape the rewards of episodes before advantages are computed.

Connectors see a rollout: the steps of all episodes of one module, one after another, as tensors. Those of
the setting `learner_connectors` run before the algorithm's own.
"""

import torch

from unison import Columns, PPOConfig


def clip_rewards(rollout, *, learner, module_id):
    """Keep only the sign of each reward, as is usual for Atari games (Mnih et al. 2015)."""
    rollout.columns[Columns.REWARDS] = torch.sign(rollout.columns[Columns.REWARDS])
    return rollout


def main(iterations: int = 3) -> dict:
    """Train Pendulum on clipped rewards; the sampling metrics still show the real ones."""
    config = (
        PPOConfig()
        .environment("Pendulum-v1")
        .training(train_batch_size=400, learner_connectors=[clip_rewards])
        .debugging(seed=0)
    )
    algorithm = config.build()
    for _ in range(iterations):
        results = algorithm.train()
    print("real return:", results["env_runners"]["episode_return_mean"])
    print("value loss on clipped rewards:", results["learners"]["default_policy"]["vf_loss"])
    algorithm.stop()
    return results


if __name__ == "__main__":
    main()
