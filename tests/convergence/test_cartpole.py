"""PPO learns CartPole-v1, with the settings that are shipped for it."""

from pathlib import Path

import unison.algorithms.ppo
from unison import PPOConfig
from unison.config.files import read_file

SETTINGS = Path(unison.algorithms.ppo.__file__).parent / "tuned" / "CartPole-v1.yaml"
NEARLY_SOLVED = 450
MOST_STEPS = 60_000


def test_ppo_nearly_solves_cartpole_within_60_000_steps() -> None:
    config = PPOConfig.from_dict(read_file(SETTINGS)).environment("CartPole-v1").debugging(seed=0)
    algorithm = config.evaluation(evaluation_duration=20, evaluation_num_envs=20).build()
    returns: list[float] = []
    try:
        while algorithm.num_env_steps_sampled_lifetime < MOST_STEPS and max(returns, default=0) < NEARLY_SOLVED:
            for _ in range(20):
                algorithm.train()
            returns.append(algorithm.evaluate()["episode_return_mean"])
    finally:
        algorithm.stop()
    assert max(returns) >= NEARLY_SOLVED, returns
