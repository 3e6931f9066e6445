"""Stable-Baselines3's `PPO.train` on a rollout that is there already."""

from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
from protocol import Contender, Update
from stable_baselines3 import PPO
from work import ADAM_EPS, ENTROPY_WEIGHT, LR, Work, spaces_of


class RandomNumbers(gym.Env[Any, Any]):
    """An environment that only fills the rollout."""

    def __init__(self, work: Work) -> None:
        self.observation_space, self.action_space = spaces_of(work)
        self._rng = np.random.default_rng(0)

    def _observation(self) -> Any:
        return self._rng.normal(size=self.observation_space.shape).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """A random observation."""
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Another one, and a random reward."""
        return self._observation(), float(self._rng.normal()), bool(self._rng.random() < 0.01), False, {}


def build(data: dict[str, Any]) -> Update:
    work = Work.from_dict(data)
    if work.modules > 1 or work.learners:
        raise NotImplementedError("Stable-Baselines3 has one module and one learner")
    torch.set_num_threads(work.threads)
    algorithm = PPO(
        "MlpPolicy",
        RandomNumbers(work),
        learning_rate=LR,
        n_steps=work.batch,
        batch_size=work.minibatch,
        n_epochs=work.passes,
        ent_coef=ENTROPY_WEIGHT,
        device="cpu",
        policy_kwargs={"net_arch": list(work.hidden), "optimizer_kwargs": {"eps": ADAM_EPS}},
    )
    algorithm.learn(work.batch)
    return algorithm.train


if __name__ == "__main__":
    versions = {"torch": torch.__version__, "stable-baselines3": stable_baselines3.__version__}
    Contender(build, lambda: {"versions": versions}).serve()
