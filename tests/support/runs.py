"""Small runs that the tests of the run folder and of the command line share."""

import json
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from unison import PPOConfig
from unison.algorithms.run_folder import RunFolder, StopConditions
from unison.algorithms.run_folder.loggers import JsonlLogger

_OF_ALL = "learners/__all_modules__"
NOT_REPRODUCIBLE = ("env_steps_per_second", "time_total_s", "timers/", f"{_OF_ALL}/seconds")
"""Results that are times."""


def tiny_config(**training: Any) -> PPOConfig:
    """PPO on CartPole, an iteration of which takes milliseconds."""
    settings = {"train_batch_size": 64, "minibatch_size": 32, "num_epochs": 1, **training}
    return (
        PPOConfig()
        .environment("CartPole-v1")
        .rl_module(model_config={"hidden_sizes": (8,)})
        .framework(engine="eager", num_threads=1)
        .env_runners(num_envs_per_env_runner=2)
        .evaluation(evaluation_duration=2)
        .training(**settings)
        .debugging(seed=0)
    )


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_times(row: dict[str, Any]) -> dict[str, Any]:
    """A row without the results that differ from run to run."""
    return {name: value for name, value in row.items() if not name.startswith(NOT_REPRODUCIBLE)}


def written_run(path: Path, *, seed: int = 0, lr: float = 1e-3, slope: float = 1.0, stop: float = 475) -> RunFolder:
    """A folder as a run of 20 iterations leaves it, with a return that grows by `slope` an iteration."""
    folder = RunFolder(path)
    config = PPOConfig().environment("CartPole-v1").training(lr=lr).debugging(seed=seed)
    folder.create(config, StopConditions(stop_return=stop))
    logger = JsonlLogger(path / "metrics.jsonl", 0)
    for iteration in range(1, 21):
        row: dict[str, Any] = {"training_iteration": iteration, "num_env_steps_sampled_lifetime": 100 * iteration}
        row["env_runners/episode_return_mean"] = slope * iteration
        if iteration % 5 == 0:
            row["evaluation/episode_return_mean"] = 2 * slope * iteration
        logger.log(row)
    logger.close()
    return folder


class ScriptedReturns(gym.Env[Any, Any]):
    """Episodes of one step. The returns of training are 0; those of evaluation are read from `script`, then 0.

    Args:
        evaluates: whether this copy evaluates.
    """

    script: ClassVar[list[float]] = []
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, evaluates: bool = False) -> None:
        self._evaluates = evaluates

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        reward = self.script.pop(0) if self._evaluates and self.script else 0.0
        return np.zeros(2, np.float32), reward, True, False, {}
