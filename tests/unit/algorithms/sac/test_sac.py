"""The loop of SAC: how much is sampled, when it updates, what checkpoints hold."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unison import PPO, SAC, Algorithm, MultiAgentBatch, PPOConfig, SACConfig
from unison.errors import CheckpointError, StateError
from unison.types import ALL_MODULES

M = "default_policy"


def config(**training: Any) -> SACConfig:
    settings = {"train_batch_size": 16, "warm_up_steps": 20, "steps_per_iteration": 30, "replay_capacity": 500}
    return (
        SACConfig()
        .environment("Pendulum-v1")
        .framework(engine="eager", num_threads=1)
        .rl_module(model_config={"hidden_sizes": (8,)})
        .training(**settings | training)
        .debugging(seed=1)
    )


@pytest.mark.parametrize(("ratio", "updates"), [(1.0, 10), (0.5, 5), (3.0, 30)])
def test_updates_follow_the_steps_after_the_warm_up(ratio: float, updates: int) -> None:
    algorithm = config(updates_per_step=ratio).build()
    results = algorithm.train()
    assert algorithm.num_env_steps_sampled_lifetime == 30 == len(algorithm.replay)
    trained = results["learners"][ALL_MODULES]["num_env_steps_trained"]
    stats = algorithm.learner_group.get_stats()
    assert stats["trained"] * trained == updates * 16
    algorithm.stop()


def test_the_warm_up_acts_at_random_within_the_policys_range() -> None:
    algorithm = config(warm_up_steps=200, steps_per_iteration=200).build()
    assert algorithm.train()["learners"] == {}
    actions = algorithm.replay.modules[M].ring.columns["actions"][:200]
    assert float(actions.min()) < -0.9
    assert float(actions.max()) > 0.9
    assert float(actions.abs().max()) <= 1
    algorithm.stop()


def test_many_environments_and_discrete_actions() -> None:
    made = config(n_step=3, replay_prioritized=True).environment("CartPole-v1").env_runners(num_envs_per_env_runner=4)
    algorithm = made.build()
    results = algorithm.train()
    assert algorithm.num_env_steps_sampled_lifetime == 30
    assert np.isfinite(results["learners"][M]["critic_loss"])
    assert "td_errors" not in results["learners"][M]
    priorities = algorithm.replay.modules[M].get_state()["sampler"]["priorities"]
    assert len(set(priorities[:30].tolist())) > 5
    algorithm.stop()


def test_the_sampler_has_the_learners_policy() -> None:
    algorithm = config().build()
    algorithm.train()
    algorithm.sync_weights()
    learned = algorithm.learner_group.get_weights(inference_only=True)[M]
    acting = algorithm.env_runner.modules[M].get_state()
    for name, value in learned.items():
        np.testing.assert_array_equal(acting[name], value)
    algorithm.stop()


def test_without_the_replay_a_resumed_run_is_warned_and_fills_a_new_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    algorithm = config().build()
    algorithm.train()
    with caplog.at_level(logging.WARNING, "unison"):
        algorithm.save_state(tmp_path / "saved")
        algorithm.save_state(tmp_path / "again")
    assert [r for r in caplog.messages if "save_replay=True" in r] == [caplog.messages[0]]
    algorithm.stop()
    caplog.clear()
    resumed = SAC.from_checkpoint(tmp_path / "saved")
    (warning,) = [r for r in caplog.messages if "replay" in r]
    assert "first collects 20 environment steps" in warning
    assert "checkpointing(save_replay=True)" in warning
    assert "--set save_replay=true" in warning
    resumed.save_state(tmp_path / "again")
    assert len([r for r in caplog.messages if "replay" in r]) == 1
    assert len(resumed.replay) == 0
    updates = resumed.learner_group.get_stats()["trained"]
    resumed.train()
    # 20 of the 30 steps fill the replay again.
    assert resumed.learner_group.get_stats()["trained"] - updates == 11
    resumed.stop()


def test_a_checkpoint_of_another_algorithm_is_refused_by_name(tmp_path: Path) -> None:
    algorithm = config().build()
    algorithm.save_state(tmp_path / "saved")
    with pytest.raises(CheckpointError, match=r"is a checkpoint of SAC, and PPO can't go on from it\. SAC\.from_"):
        PPO.from_checkpoint(tmp_path / "saved")
    other = PPOConfig().environment("Pendulum-v1").build()
    with pytest.raises(CheckpointError, match=r"is a checkpoint of SAC, and PPO can't"):
        other.load_state(tmp_path / "saved")
    other.stop()
    again = Algorithm.from_checkpoint(tmp_path / "saved")
    assert type(again) is SAC
    again.stop()
    algorithm.stop()


def test_a_subclass_without_a_name_goes_on_as_itself(tmp_path: Path) -> None:
    class Own(SAC):
        pass

    algorithm = Own(config=config())
    algorithm.save_state(tmp_path / "saved")
    algorithm.stop()
    for cls, kind in ((Own, Own), (SAC, SAC), (Algorithm, SAC)):
        again = cls.from_checkpoint(tmp_path / "saved")
        assert type(again) is kind
        again.stop()


def test_a_replay_of_another_capacity_is_refused(tmp_path: Path) -> None:
    algorithm = config().checkpointing(save_replay=True).build()
    algorithm.train()
    algorithm.save_state(tmp_path / "saved")
    algorithm.stop()
    other = config(replay_capacity=400).checkpointing(save_replay=True).build()
    with pytest.raises(StateError, match="replay_capacity"):
        other.load_state(tmp_path / "saved")
    assert len(other.replay) == 0
    other.stop()


def test_updates_that_others_hand_in_are_passed_over() -> None:
    settings = config(updates_while_sampling=True, replay_prioritized=True, steps_per_iteration=40)
    algorithm = settings.resources(num_learners=1).build()
    algorithm.train()
    algorithm.train()
    batch = MultiAgentBatch(algorithm.replay.sample(16).columns, env_steps=16)
    algorithm.learner_group.update_from_batch(batch, async_update=True)
    trained = algorithm.learner_group.get_stats()["trained"]
    algorithm.train()
    assert algorithm.learner_group.get_stats()["trained"] > trained
    algorithm.stop()


def test_updates_while_sampling() -> None:
    algorithm = config(updates_while_sampling=True, replay_prioritized=True, steps_per_iteration=40)
    algorithm = algorithm.resources(num_learners=1).build()
    results = algorithm.train()
    stats = algorithm.learner_group.get_stats()
    assert stats["trained"] == 20 == stats["submitted"]
    assert np.isfinite(results["learners"][M]["critic_loss"])
    learned = algorithm.learner_group.get_weights(inference_only=True)[M]
    acting = algorithm.env_runner.modules[M].get_state()
    for name, value in learned.items():
        np.testing.assert_array_equal(acting[name], value)
    algorithm.stop()


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_training_by_priority_goes_on_after_a_reward_that_is_not_finite(broken: float) -> None:
    algorithm = config(replay_prioritized=True, steps_per_iteration=100).build()
    algorithm.train()
    algorithm.replay.modules[M].ring.columns["rewards"][90] = broken
    results = [algorithm.train()["learners"][M] for _ in range(2)]
    assert np.isfinite(results[-1]["critic_loss"])
    priorities = algorithm.replay.modules[M].get_state()["sampler"]["priorities"]
    assert np.isfinite(priorities).all()
    assert priorities[90] < priorities[:90].min()
    algorithm.stop()
