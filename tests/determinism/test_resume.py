"""Training 2N iterations equals training N, saving, loading in a new process and training N: bit for bit on a CPU."""

from pathlib import Path

import pytest

from support.learners import TwoOptimizers
from support.resuming import ITERATIONS, assert_identical, check_resumed, train
from unison import PPOConfig


def config(kind: str) -> PPOConfig:
    """PPO with everything on that changes over time."""
    made = (
        PPOConfig()
        .environment("Pendulum-v1" if kind == "continuous" else "CartPole-v1")
        .framework(engine="eager", precision="fp16" if kind == "fp16" else "float32", num_threads=1)
        .env_runners(
            num_envs_per_env_runner=3,
            normalize_observations=True,
            normalize_rewards=True,
            vectorization="async" if kind == "async" else "sync",
        )
        .training(
            lr=[[0, 1e-2], [2000, 0.0]],
            entropy_coeff=[[0, 0.1], [2000, 0.0]],
            use_kl_loss=True,
            train_batch_size=96,
            minibatch_size=16,
            num_epochs=2,
            gradient_accumulation_steps=2,
        )
        .rl_module(model_config={"hidden_sizes": (8,), "lstm_size": 6 if kind == "lstm" else None, "max_seq_len": 5})
        .evaluation(evaluation_interval=2, evaluation_duration=2)
        .debugging(seed=3)
    )
    if kind == "two optimizers":
        made.training(learner_class=TwoOptimizers)
    if kind == "env runners":
        made.resources(num_env_runners=2)
    return made


@pytest.mark.parametrize("kind", ["plain", "lstm", "fp16", "continuous", "async", "two optimizers", "env runners"])
def test_a_resumed_run_is_the_same_run(kind: str, tmp_path: Path) -> None:
    straight = config(kind).build()
    train(straight, ITERATIONS)
    check_resumed(straight, tmp_path)
    straight.stop()


def test_the_test_can_fail(tmp_path: Path) -> None:
    """Another seed is another run."""
    first, second = config("plain").build(), config("plain").debugging(seed=4).build()
    (ours,), (theirs,) = train(first, 1), train(second, 1)
    with pytest.raises(AssertionError):
        assert_identical(ours, theirs)
    first.stop()
    second.stop()
