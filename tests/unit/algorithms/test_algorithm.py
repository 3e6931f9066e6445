"""The loop around the Learners: results, evaluation, acting, saving, stopping."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from support.hosted import children, wait_until
from unison import ALL_MODULES, PPO, PPOConfig, SingleAgentRLModuleSpec
from unison.errors import CheckpointError, ConfigError, EnvironmentFailure, NotBuiltError, StateError
from unison.modules import RandomModule


def config(env: Any = "CartPole-v1", **model: Any) -> PPOConfig:
    """A quick PPO run."""
    return (
        PPOConfig()
        .environment(env)
        .framework(engine="eager")
        .env_runners(num_envs_per_env_runner=2)
        .training(train_batch_size=64, minibatch_size=32, num_epochs=1)
        .rl_module(model_config={"hidden_sizes": (8,), **model})
        .evaluation(evaluation_duration=3)
        .debugging(seed=0)
    )


def test_an_iteration_says_what_happened() -> None:
    algorithm = config().evaluation(evaluation_interval=2).build()
    first, second = algorithm.train(), algorithm.train()
    assert first["training_iteration"] == 1
    assert second["num_env_steps_sampled_lifetime"] == 128
    assert second["env_runners"]["num_env_steps_sampled"] == 64
    assert second["learners"][ALL_MODULES]["num_env_steps_trained"] == 64
    assert "policy_loss" in second["learners"]["default_policy"]
    assert "evaluation" not in first
    assert second["evaluation"]["num_episodes"] == 3
    assert second["env_steps_per_second"] > 0
    assert {"sample_s", "update_s", "sync_s", "evaluate_s"} <= second["timers"].keys()
    json.dumps(second)
    algorithm.stop()
    algorithm.stop()
    with pytest.raises(NotBuiltError, match="was stopped"):
        algorithm.train()


def test_a_build_that_fails_leaves_nothing_running(tmp_path: Path) -> None:
    """Also while the exception is held, whose traceback holds what was made."""
    before, made = children(), tmp_path / "made"

    def make(settings: dict[str, Any]) -> gym.Env[Any, Any]:
        if made.exists():
            raise RuntimeError("no licence")
        made.touch()  # by who asks for the spaces
        return gym.make("CartPole-v1")

    with pytest.raises(EnvironmentFailure, match="no licence") as held:
        config(make).resources(num_learners=1, backend="processes").build()
    assert wait_until(lambda: children() == before)
    assert held.value.__traceback__ is not None


def test_a_checkpoint_that_does_not_fit_leaves_nothing_running(tmp_path: Path) -> None:
    algorithm = config().build()
    algorithm.save_state(tmp_path / "saved")
    algorithm.stop()
    before = children()
    overrides = {"env": "Acrobot-v1", "num_learners": 1, "num_env_runners": 1, "backend": "processes"}
    with pytest.raises(StateError) as held:
        PPO.from_checkpoint(tmp_path / "saved", overrides=overrides)
    assert wait_until(lambda: children() == before)
    assert held.value.__traceback__ is not None


def play(algorithm: PPO, env_id: str, seed: int) -> tuple[float, list[Any]]:
    """One episode by `compute_actions`, the state handed on."""
    env = gym.make(env_id)
    observation, _ = env.reset(seed=seed)
    total, actions, state, over = 0.0, [], None, False
    stateful = algorithm._get_evaluator().modules["default_policy"].is_stateful()
    while not over:
        answer = algorithm.compute_actions(observation, state=state)
        action, state = answer if stateful else (answer, None)
        assert env.action_space.contains(action)
        observation, reward, terminated, truncated, _ = env.step(action)
        actions.append(action)
        total += float(reward)
        over = terminated or truncated
    env.close()
    return total, actions


@pytest.mark.parametrize("lstm_size", [None, 4])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_actions_are_those_of_evaluation_and_of_a_restored_run(
    env_id: str, lstm_size: int | None, tmp_path: Path
) -> None:
    algorithm = config(env_id, lstm_size=lstm_size).env_runners(normalize_observations=True).build()
    algorithm.train()
    total, actions = play(algorithm, env_id, seed=5)
    algorithm.save_state(tmp_path / "run")
    restored = PPO.from_checkpoint(tmp_path / "run")
    again, same = play(restored, env_id, seed=5)
    assert total == again
    np.testing.assert_array_equal(actions, same)
    evaluator = algorithm._get_evaluator()
    evaluator._seeds.for_environments = lambda number: [5] * number  # type: ignore[method-assign]
    assert algorithm.evaluate(1)["episode_return_mean"] == pytest.approx(total, rel=1e-5)
    algorithm.stop()
    restored.stop()


def test_many_observations_at_once() -> None:
    algorithm = config().build()
    observations = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    together = algorithm.compute_actions(observations)
    assert together.shape == (5,)
    assert [algorithm.compute_actions(o) for o in observations] == together.tolist()
    drawn = {int(algorithm.compute_actions(observations[0], explore=True)) for _ in range(50)}
    assert drawn == {0, 1}
    algorithm.stop()


def test_scripted_modules_act_too() -> None:
    algorithm = (
        config("Pendulum-v1").rl_module(rl_module_spec=SingleAgentRLModuleSpec(module_class=RandomModule)).build()
    )
    actions = [algorithm.compute_actions(np.zeros(3, np.float32))[0] for _ in range(50)]
    assert min(actions) < -1 < 1 < max(actions)
    algorithm.stop()


def vector_cartpole(settings: Any, num_envs: int) -> Any:
    """A user's own vector environment."""
    return gym.make_vec("CartPole-v1", num_envs, vectorization_mode="vector_entry_point")


def test_a_vector_environment_of_ones_own_trains() -> None:
    algorithm = config(vector_cartpole).build()
    assert algorithm.train()["env_runners"]["num_env_steps_sampled"] == 64
    algorithm.stop()


def test_what_is_no_algorithms_checkpoint_is_refused(tmp_path: Path) -> None:
    algorithm = config().build()
    algorithm.learner_group.save_state(tmp_path / "group")
    with pytest.raises(CheckpointError, match="no checkpoint of an Algorithm"):
        algorithm.load_state(tmp_path / "group")
    algorithm.stop()


def test_an_algorithm_needs_an_environment() -> None:
    with pytest.raises(ConfigError, match="environment"):
        PPOConfig().build()
