"""An environment of one's own: a Gymnasium class, given as it is, with its settings in `env_config`.

From the command line, in this folder:

    unison train ppo --env custom_environment:Corridor --set env_config.length=12 --stop-steps 20000
"""

import gymnasium as gym
import numpy as np

from unison import PPOConfig


class Corridor(gym.Env):
    """Walk right to the end of a corridor; each step costs, the end pays."""

    action_space = gym.spaces.Discrete(2)

    def __init__(self, length=8):
        self.length = length
        self.observation_space = gym.spaces.Box(0.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps = 0, 0
        return self.observe(), {}

    def step(self, action):
        self.place = max(0, self.place + (1 if action == 1 else -1))
        self.steps += 1
        arrived = self.place >= self.length
        too_late = self.steps >= 10 * self.length  # without it a bad policy would be evaluated for ever
        return self.observe(), 1.0 if arrived else -0.1, arrived, too_late, {}

    def observe(self):
        return np.array([self.place / self.length], np.float32)


def main(iterations: int = 20) -> float:
    """Train, and return the mean return of evaluation: the best is 1 - 0.1 * 7 = 0.3."""
    config = (
        PPOConfig()
        .environment(Corridor, env_config={"length": 8})
        .env_runners(num_envs_per_env_runner=4)
        .training(train_batch_size=512, minibatch_size=128, lr=3e-3)
        .debugging(seed=0)
    )
    algorithm = config.build()
    for _ in range(iterations):
        algorithm.train()
    evaluation = algorithm.evaluate(5)
    print(f"evaluation: return {evaluation['episode_return_mean']:.2f} in {evaluation['episode_len_mean']:.0f} steps")
    print("action at the start:", algorithm.compute_actions(np.zeros(1, np.float32)))
    algorithm.stop()
    return evaluation["episode_return_mean"]


if __name__ == "__main__":
    main()
