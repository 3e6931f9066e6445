"""SAC, resumed in a new process with its replay, goes on bit for bit: targets, temperature, priorities, optimizers."""

from pathlib import Path

import pytest

from support.resuming import ITERATIONS, check_resumed, train
from unison import SACConfig


def config(kind: str) -> SACConfig:
    """SAC with everything on that changes over time."""
    return (
        SACConfig()
        .environment("CartPole-v1" if kind == "discrete" else "Pendulum-v1")
        .framework(engine="eager", num_threads=1)
        .env_runners(num_envs_per_env_runner=2, normalize_observations=True)
        .rl_module(model_config={"hidden_sizes": (8,)})
        .training(
            actor_lr=[[0, 1e-2], [500, 0.0]],
            train_batch_size=16,
            warm_up_steps=20,
            steps_per_iteration=30,
            updates_per_step=0.75,
            replay_capacity=50,
            replay_prioritized=kind != "uniform",
            n_step=3,
        )
        .checkpointing(save_replay=True)
        .debugging(seed=3)
    )


@pytest.mark.parametrize("kind", ["continuous", "discrete", "uniform"])
def test_a_resumed_run_is_the_same_run(kind: str, tmp_path: Path) -> None:
    straight = config(kind).build()
    train(straight, ITERATIONS)
    check_resumed(straight, tmp_path)
    straight.stop()
