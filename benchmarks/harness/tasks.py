"""The tasks that learning is shown on, and the training of one of them with one seed."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import environments

from unison.algorithms import PPOConfig, SACConfig
from unison.config import AlgorithmConfig
from unison.config.files import read_file

_OWN = Path(__file__).parents[1] / "settings"
_TUNED = Path(__file__).parents[2] / "src/unison/algorithms/ppo/tuned"
_TUNED_SAC = Path(__file__).parents[2] / "src/unison/algorithms/sac/tuned"


@dataclass(frozen=True)
class Task:
    """An environment, the return that counts as solved, and the steps in which to get there."""

    name: str
    env: str | Callable[..., Any]
    settings: Path
    goal: float
    budget: int
    interval: int = 10_000
    """Steps between evaluations."""
    algorithm: type[AlgorithmConfig] = PPOConfig
    changes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Settings that differ from those of the file."""

    def config(self, seed: int) -> AlgorithmConfig:
        """The settings that it is trained with."""
        config = self.algorithm.from_dict(read_file(self.settings), overrides=self.changes)
        config.environment(self.env).debugging(seed=seed)
        return config.evaluation(evaluation_interval=None, evaluation_duration=20, evaluation_num_envs=20)


TASKS = {
    task.name: task
    for task in (
        Task("CartPole-v1", "CartPole-v1", _TUNED / "CartPole-v1.yaml", 475, 150_000, 5_000),
        Task("Acrobot-v1", "Acrobot-v1", _TUNED / "Acrobot-v1.yaml", -100, 100_000),
        Task("Pendulum-v1", "Pendulum-v1", _TUNED / "Pendulum-v1.yaml", -300, 100_000),
        Task("Catch", environments.catch, _OWN / "Catch.yaml", 0.9, 150_000),
        Task(
            "CartPole-v1 without velocities",
            environments.cartpole_without_velocities,
            _OWN / "CartPoleWithoutVelocities.yaml",
            300,
            120_000,
        ),
        Task("SAC Pendulum-v1", "Pendulum-v1", _TUNED_SAC / "Pendulum-v1.yaml", -150, 10_000, 1_000, SACConfig),
        Task(
            "SAC Pendulum-v1, bf16, 8 and 8",
            "Pendulum-v1",
            _TUNED_SAC / "Pendulum-v1.yaml",
            -150,
            10_000,
            1_000,
            SACConfig,
            {"engine": "xla", "precision": "bf16", "rollout_fragment_length": 8},
        ),
        Task("SAC CartPole-v1", "CartPole-v1", _TUNED_SAC / "CartPole-v1.yaml", 400, 20_000, 1_000, SACConfig),
    )
}


@dataclass
class Curve:
    """Evaluations during one training: 20 episodes each, with the deterministic policy."""

    task: str
    seed: int
    steps: list[int] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)
    reached: int | None = None
    """Steps at the first evaluation that reached the goal; None: none did."""
    seconds: float = 0.0
    """Of training, evaluations left out."""


def train(task: Task, seed: int, *, until_solved: bool = False, progress: Callable[[str], None] | None = None) -> Curve:
    """Train to the end of the budget, or until the goal is reached; evaluate on the way."""
    curve = Curve(task.name, seed)
    algorithm = task.config(seed).build()
    next_evaluation = task.interval
    try:
        while algorithm.num_env_steps_sampled_lifetime < task.budget:
            start = time.perf_counter()
            algorithm.train()
            curve.seconds += time.perf_counter() - start
            steps = algorithm.num_env_steps_sampled_lifetime
            if steps < next_evaluation and steps < task.budget:
                continue
            next_evaluation += task.interval
            value = float(algorithm.evaluate()["episode_return_mean"])
            curve.steps.append(steps)
            curve.returns.append(value)
            if progress is not None:
                progress(f"{task.name} seed {seed}: {steps:,} steps, {value:.1f}, {steps / curve.seconds:,.0f} steps/s")
            if value >= task.goal and curve.reached is None:
                curve.reached = steps
                if until_solved:
                    break
    finally:
        algorithm.stop()
    return curve
