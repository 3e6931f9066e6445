"""Training 2N iterations equals training N, saving, loading in a new process and training N: bit for bit on a CPU."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.learners import TwoOptimizers
from unison import Algorithm, PPOConfig
from unison.types import tree_items

ITERATIONS = 3
HERE = Path(__file__).parent


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


def train(algorithm: Algorithm, iterations: int) -> list[dict[str, Any]]:
    """The results of some iterations, without what time decides."""
    return [untimed(algorithm.train()) for _ in range(iterations)]


def untimed(results: dict[str, Any]) -> dict[str, Any]:
    """Results without seconds and speeds."""
    return {name: value for name, value in tree_items(results) if not any(word in name for word in ("second", "time"))}


def state_of(algorithm: Algorithm) -> dict[str, Any]:
    """Everything that training goes on from, by path."""
    return dict(tree_items({"group": algorithm.learner_group.get_state(), **algorithm.get_sampling_state()}))


def assert_identical(first: dict[str, Any], second: dict[str, Any]) -> None:
    """The same names, the same bits."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, second[name], err_msg=name)
        elif isinstance(value, list):
            assert_identical(*(dict(tree_items(dict(enumerate(items)))) for items in (value, second[name])))
        else:
            assert value == second[name] or (value != value and second[name] != second[name]), name


@pytest.mark.parametrize("kind", ["plain", "lstm", "fp16", "continuous", "async", "two optimizers", "env runners"])
def test_a_resumed_run_is_the_same_run(kind: str, tmp_path: Path) -> None:
    straight = config(kind).build()
    train(straight, ITERATIONS)
    straight.save_state(tmp_path / "half")
    expected = train(straight, ITERATIONS)
    straight.save_state(tmp_path / "whole")
    script = (
        "import sys; sys.path[:0] = sys.argv[1].split(':')\n"
        "from test_resume import PPOConfig, ITERATIONS, train\n"
        "from unison import PPO\n"
        "algorithm = PPO.from_checkpoint(sys.argv[2])\n"
        "import json; print(json.dumps(train(algorithm, ITERATIONS)))\n"
        "algorithm.save_state(sys.argv[3]); algorithm.stop()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, f"{HERE}:{HERE.parent}", str(tmp_path / "half"), str(tmp_path / "resumed")],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    import json

    resumed = json.loads(done.stdout.splitlines()[-1])
    for ours, theirs in zip(resumed, expected, strict=True):
        assert_identical(theirs, ours)
    straight.load_state(tmp_path / "resumed")
    after = state_of(straight)
    straight.load_state(tmp_path / "whole")
    assert_identical(state_of(straight), after)
    straight.stop()


def test_the_test_can_fail(tmp_path: Path) -> None:
    """Another seed is another run."""
    first, second = config("plain").build(), config("plain").debugging(seed=4).build()
    (ours,), (theirs,) = train(first, 1), train(second, 1)
    with pytest.raises(AssertionError):
        assert_identical(ours, theirs)
    first.stop()
    second.stop()
