"""Environments that crash: an error that names them, or a new one in their place."""

import re
import traceback
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from unison.errors import EnvironmentFailure

LONG = {"lengths": (50,)}


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_crash_names_the_environment_and_keeps_the_traceback(mode: str, make_runner: Any, counting_env: Any) -> None:
    runner = make_runner(counting_env, {**LONG, "crash_at_step": 5}, vectorization=mode, envs=2)
    assert len(runner.sample(num_timesteps=8)) == 2
    with pytest.raises(
        EnvironmentFailure, match=r"Environment 0 of 'counting' failed: .*boom.*restart_failed_environments"
    ) as caught:
        runner.sample(num_timesteps=8)
    cause = caught.value.__cause__
    if mode == "sync":
        assert isinstance(cause, ValueError)
    assert 'raise ValueError("boom")' in "".join(traceback.format_exception(cause))


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_crashed_environment_is_made_anew(
    mode: str, make_runner: Any, counting_env: Any, caplog: pytest.LogCaptureFixture
) -> None:
    runner = make_runner(
        counting_env,
        {**LONG, "crash_at_step": 5},
        vectorization=mode,
        envs=2,
        restart_failed_environments=True,
        max_environment_restarts=5,
    )
    episodes = [*runner.sample(num_timesteps=12), *runner.sample(num_timesteps=8)]
    # Each environment crashes in its 5th step and its successor in its 5th: 4 rows of each are kept.
    assert [len(episode) for episode in episodes] == [4, 4, 2, 2, 2, 2, 2, 2]
    assert [episode.t_started for episode in episodes] == [0, 0, 0, 0, 2, 2, 0, 0]
    # The first two ended with their last good row; the next two were cut by the sample, and then crashed.
    assert [episode.is_truncated for episode in episodes] == [True, True, False, False, True, True, False, False]
    assert not any(episode.is_terminated for episode in episodes)
    assert len({episode.id_ for episode in episodes}) == 6
    # Each environment made anew has a seed of its own.
    assert len({float(episode.get_observations()[0, 0]) for episode in episodes}) == 6
    for episode in episodes:
        steps = episode.get_observations()[:, 2].tolist()
        assert steps == [episode.t_started + step for step in range(len(episode) + 1)]
        assert len(set(episode.get_observations()[:, 0])) == 1
    metrics = runner.get_metrics()
    assert metrics["num_environment_restarts"] == 4
    assert metrics["num_episodes"] == 0
    assert "made anew (restart 4 of 5)" in caplog.text
    with pytest.raises(EnvironmentFailure, match="All 5 restarts are used up"):
        runner.sample(num_timesteps=20)


def test_sync_and_async_restart_alike(make_runner: Any, counting_env: Any, assert_same: Any) -> None:
    samples = []
    for mode in ("sync", "async"):
        settings = {"crash_at_step": 5, "crash_at_reset": 3}
        runner = make_runner(counting_env, settings, vectorization=mode, envs=2, restart_failed_environments=True)
        runner.sample(num_timesteps=20, random_actions=True)
        samples.append(runner.sample(num_timesteps=20, random_actions=True))
    assert_same(*samples)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_crash_in_reset_leaves_the_finished_episode_whole(mode: str, make_runner: Any, counting_env: Any) -> None:
    config = {"lengths": (3,), "ends": (1,), "crash_at_reset": 2}
    runner = make_runner(counting_env, config, vectorization=mode, envs=1, restart_failed_environments=True)
    episodes = runner.sample(num_timesteps=9)
    assert [len(episode) for episode in episodes] == [3, 3, 3]
    assert all(episode.is_truncated for episode in episodes)
    metrics = runner.get_metrics()
    assert metrics["num_episodes"] == 3
    assert metrics["num_environment_restarts"] == 3


def test_a_crash_in_the_first_reset(make_runner: Any, counting_env: Any) -> None:
    with pytest.raises(EnvironmentFailure, match="and so did the one made in its place: ValueError: no reset"):
        make_runner(counting_env, {"crash_at_reset": 1}, restart_failed_environments=True).sample(num_timesteps=4)


def test_a_dead_process_is_named(make_runner: Any, counting_env: Any) -> None:
    runner = make_runner(counting_env, {**LONG, "die_at_step": 4}, vectorization="async", envs=1)
    with pytest.raises(EnvironmentFailure, match=r"Environment 0 of .*exit codes \{0: 3\}"):
        runner.sample(num_timesteps=8)


def test_dead_processes_are_replaced(make_runner: Any, counting_env: Any) -> None:
    config = {**LONG, "die_at_step": 4}
    runner = make_runner(counting_env, config, vectorization="async", envs=2, restart_failed_environments=True)
    episodes = runner.sample(num_timesteps=12)
    assert [len(episode) for episode in episodes] == [3, 3, 3, 3]
    assert [episode.is_truncated for episode in episodes] == [True, True, False, False]
    assert runner.get_metrics()["num_environment_restarts"] == 1


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_a_vector_environment_is_replaced_as_a_whole(mode: str, make_runner: Any, counting_vector: Any) -> None:
    config = {"mode": mode, "lengths": (3,), "crash_at_step": 5}
    with pytest.raises(EnvironmentFailure, match=r"The vector environment \(2 copies\).*boom"):
        make_runner(counting_vector, config, envs=2).sample(num_timesteps=20)
    runner = make_runner(counting_vector, config, envs=2, restart_failed_environments=True)
    episodes = runner.sample(num_timesteps=14)
    assert sorted(len(episode) for episode in episodes) == [1, 1, 3, 3, 3, 3]
    assert [len(episode) for episode in episodes if episode.is_truncated] == [1, 1]
    assert runner.get_metrics()["num_environment_restarts"] == 1


@pytest.mark.parametrize("how", ["make", "reset"])
def test_a_vector_environment_whose_successor_fails(how: str, make_runner: Any, counting_vector: Any) -> None:
    made: list[Any] = []

    class Refusing(gym.vector.VectorWrapper):
        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            if len(made) > 1:
                raise OSError("no licence")
            return self.env.reset(seed=seed, options=options)

    def make(settings: dict[str, Any], num_envs: int) -> Any:
        made.append(None)
        if len(made) > 1 and how == "make":
            raise OSError("no licence")
        return Refusing(counting_vector(settings, num_envs))

    settings = {"mode": "SameStep", **LONG, "crash_at_step": 5}
    runner = make_runner(make, settings, envs=2, restart_failed_environments=True)
    with pytest.raises(
        EnvironmentFailure,
        match=r"The vector environment \(2 copies\) of 'make' failed, and so did the .*no licence",
    ) as caught:
        runner.sample(num_timesteps=20)
    assert "boom" in str(caught.value.__cause__)


def test_crashes_do_not_count_in_evaluation(make_runner: Any, counting_env: Any) -> None:
    runner = make_runner(
        counting_env, {"lengths": (3,), "crash_at_step": 5}, envs=2, evaluation=True, restart_failed_environments=True
    )
    results = runner.evaluate(4)
    assert results["num_episodes"] == 4
    assert results["episode_len_mean"] == 3
    assert runner.get_metrics()["num_environment_restarts"] == 2


def test_after_an_error_sampling_begins_anew(make_runner: Any, counting_env: Any) -> None:
    runner = make_runner(counting_env, {**LONG, "crash_at_step": 5}, envs=1)
    with pytest.raises(EnvironmentFailure):
        runner.sample(num_timesteps=20)
    (episode,) = runner.sample(num_timesteps=8)
    assert (episode.id_, episode.t_started, len(episode)) == ("worker0-1", 0, 8)
    assert episode.get_observations()[:, 2].tolist() == list(range(9))


@pytest.mark.parametrize("returned", [np.zeros(2, np.float32), (np.zeros(2, np.float32),)])
def test_a_reset_of_the_wrong_form_is_told_so(make_runner: Any, returned: Any) -> None:
    class Bare(gym.Env[Any, Any]):
        observation_space, action_space = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            return returned

    kind = type(returned).__name__
    with pytest.raises(
        EnvironmentFailure, match=rf"reset\(\) returned a {kind} instead of 2 values: observation, info"
    ):
        make_runner(lambda _: Bare()).sample(num_timesteps=1)


@pytest.mark.parametrize("reward", [np.zeros(1), "1.0", None])
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("envs", [1, 2])
def test_a_reward_that_is_no_number_is_told_so(
    make_runner: Any, counting_env: Any, mode: str, envs: int, reward: Any
) -> None:
    runner = make_runner(counting_env, {**LONG, "reward": reward}, vectorization=mode, envs=envs)
    found = re.escape(repr(reward))
    for sample in (lambda: runner.sample(num_timesteps=4), lambda: runner.evaluate(1)):
        with pytest.raises(
            EnvironmentFailure,
            match=rf"Environment 0 of 'counting' failed: .*step\(\) returned the reward {found}; return one number",
        ):
            sample()


@pytest.mark.parametrize("reward", [True, 2, np.float16(1.5), np.uint8(3), np.array(0.5)])
def test_one_number_of_any_kind_is_a_reward(make_runner: Any, counting_env: Any, reward: Any) -> None:
    for mode in ("sync", "async"):
        runner = make_runner(counting_env, {**LONG, "reward": reward}, vectorization=mode, envs=1)
        (episode,) = runner.sample(num_timesteps=4)
        assert episode.get_rewards().tolist() == [float(reward)] * 4


def test_a_vector_environment_pays_each_copy_one_number(make_runner: Any, counting_vector: Any) -> None:
    class Column(gym.vector.VectorWrapper):
        def step(self, actions: Any) -> Any:
            observations, rewards, *rest = self.env.step(actions)
            return observations, rewards[:, None], *rest

    def make(settings: dict[str, Any], num_envs: int) -> Any:
        return Column(counting_vector(settings, num_envs))

    runner = make_runner(make, {"mode": "SameStep"}, envs=2, restart_failed_environments=True)
    with pytest.raises(EnvironmentFailure, match=r"vector environment 'make': step\(\) returned .*of shape \(2,\)"):
        runner.sample(num_timesteps=4)
    assert runner.get_metrics()["num_environment_restarts"] == 0
